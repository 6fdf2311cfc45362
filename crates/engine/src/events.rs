//! Events: what happened, replayed from the store and followed live without a gap.

use hoist_model::{Event, Timestamp};
use hoist_store::{Class, Store, StoreError};
use tokio::sync::mpsc;

use crate::clock::now;

/// Events on their way to one reader. One that lags further behind stays in the store's ring of commits, which all share; an
/// event may carry many KiB of labels.
const BACKLOG: usize = 16;

/// What a prune of these objects gave back, in bytes.
#[must_use]
pub fn pruned(kind: hoist_model::EventKind, reclaimed: u64) -> Event {
    crate::containers::prune_event(kind, reclaimed)
}

/// The event journal of this node.
#[derive(Clone)]
pub struct Events {
    store: Store,
}

impl Events {
    /// Reads the journal of this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Puts an event into the journal that no object's change brings with it.
    ///
    /// # Errors
    /// When the store cannot write.
    pub async fn tell(&self, event: Event) -> Result<(), StoreError> {
        let told = self.store.transaction(Class::Process, move |tx| {
            tx.event(event);
            Ok::<_, StoreError>(())
        });
        told.await.map(drop)
    }

    /// Events since an instant (none replayed when `None`), then live ones until `until`, on a bounded channel.
    /// A reader that lags too far sees the channel end. Live events are followed from before this returns.
    #[must_use]
    pub fn subscribe(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        let store = self.store.clone();
        let mut watch = store.watch(None);
        // Owned by the receiver: it ends when the channel closes or `until` has passed.
        tokio::spawn(async move {
            let mut replayed = hoist_model::Revision::default();
            if since.is_some() || until.is_some() {
                let Ok(committed) = store.events(since, until).await else {
                    return;
                };
                if since.is_some() {
                    for (revision, event) in committed.value {
                        replayed = revision;
                        if sender.send(event).await.is_err() {
                            return;
                        }
                    }
                }
                replayed = replayed.max(committed.revision);
            }
            let end = async {
                match until {
                    Some(until) => tokio::time::sleep(until.since(now())).await,
                    None => std::future::pending().await,
                }
            };
            let live = async {
                while let Ok(Some(commit)) = watch.next().await {
                    if commit.revision <= replayed {
                        continue;
                    }
                    for event in &commit.events {
                        if sender.send(event.clone()).await.is_err() {
                            return;
                        }
                    }
                }
            };
            tokio::select! {
                () = live => {}
                () = end => {}
                () = sender.closed() => {}
            }
        });
        receiver
    }
}
