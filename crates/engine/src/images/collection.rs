//! Taking away layers and documents that nobody names any more, when nothing is being brought in.
//!
//! ```text
//! pull, load, import, commit, push, save    share the intake: what they find or bring stays until they let go of it
//! collection                                has it alone, for as long as names are taken away
//! ```
//!
//! Who removes an image or a container, and whoever brought something in vain, says that a collection is due. One task makes them
//! all ([`Images::collector`]): nobody waits for files to be deleted. One that finds the intake taken is made when it is free.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hoist_image::{Collected, Named, collect_garbage};
use hoist_model::{Digest, chain};
use hoist_store::Snapshot;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use tokio_util::sync::CancellationToken;

use super::{Images, Inner, blocking};
use crate::records::{ContainerRecord, ImageRecord, TagRecord};

/// Whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Collection {
    /// Held shared while layers come in or are read, alone while unnamed ones are collected.
    intake: Arc<RwLock<()>>,
    /// Whether there may be something to collect.
    due: AtomicBool,
    /// Wakes the collector.
    wake: Notify,
}

impl Collection {
    async fn take(self: Arc<Self>) -> Intake {
        let shared = self.intake.clone().read_owned().await;
        Intake {
            shared: Some(Arc::new(shared)),
            collection: self,
            in_vain: true,
        }
    }

    fn set_due(&self) {
        self.due.store(true, Ordering::SeqCst);
        self.wake.notify_one();
    }
}

/// Something is being brought in, or read: nothing is collected meanwhile.
#[derive(Debug)]
pub struct Intake {
    /// `None` once it was let go of. One for all shares of it.
    shared: Option<Arc<OwnedRwLockReadGuard<()>>>,
    collection: Arc<Collection>,
    in_vain: bool,
}

impl Intake {
    /// All that was brought in has its names now. Without this, what came is collected if nobody names it.
    pub fn finish(mut self) {
        self.in_vain = false;
    }

    /// The same once more, for what is done while this is held: who asks anew waits for who wants it alone, who waits for this.
    #[must_use]
    pub fn share(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            collection: self.collection.clone(),
            in_vain: true,
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        if self.in_vain {
            self.collection.due.store(true, Ordering::SeqCst);
        }
        self.shared = None;
        // After letting go: the collector finds the intake free, or somebody else has it, who comes here later.
        if self.collection.due.load(Ordering::SeqCst) {
            self.collection.wake.notify_one();
        }
    }
}

/// Nothing is being brought in or read.
#[derive(Debug)]
pub(super) struct Alone {
    held: Option<OwnedRwLockWriteGuard<()>>,
    collection: Arc<Collection>,
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.held = None;
        if self.collection.due.load(Ordering::SeqCst) {
            self.collection.wake.notify_one();
        }
    }
}

impl Images {
    /// Waits while names are being taken away, and then keeps them. Who has an intake shares that ([`Intake::share`]) and asks for no other.
    pub async fn intake(&self) -> Intake {
        self.inner.collection.clone().take().await
    }

    /// The intake alone, unless somebody has it.
    pub(super) fn alone(&self) -> Option<Alone> {
        let collection = self.inner.collection.clone();
        let held = collection.intake.clone().try_write_owned().ok()?;
        Some(Alone {
            held: Some(held),
            collection,
        })
    }

    /// As [`Images::alone`], when whoever has it has let go of it. Others that want to share it wait behind.
    pub(super) async fn wait_alone(&self) -> Alone {
        let collection = self.inner.collection.clone();
        let held = collection.intake.clone().write_owned().await;
        Alone {
            held: Some(held),
            collection,
        }
    }

    /// Says that there may be something to collect.
    pub(crate) fn request_collection(&self) {
        self.inner.collection.set_due();
    }

    /// After a container is gone: if it was the last to hold layers of an image that was removed, they follow.
    pub(crate) fn collect_after(&self, container: &ContainerRecord) {
        let images = self.inner.store.snapshot();
        let mounted = container.mounts.iter().flat_map(|point| &point.image);
        let mut held = container
            .spec
            .image_id
            .iter()
            .chain(mounted.map(|image| &image.id));
        if held.any(|id| images.get::<ImageRecord>(id.as_str()).is_none()) {
            self.request_collection();
        }
    }

    /// The task that makes collections, until `stopping`.
    pub(crate) async fn collector(self, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = stopping.cancelled() => return,
                () = self.inner.collection.wake.notified() => {}
            }
            self.collect_if_due().await;
        }
    }

    /// Collects what nobody names; later, if something is being brought in.
    pub(crate) async fn collect(&self) {
        self.inner.collection.due.store(true, Ordering::SeqCst);
        self.collect_if_due().await;
    }

    pub(super) async fn collect_if_due(&self) {
        let due = &self.inner.collection.due;
        while due.swap(false, Ordering::SeqCst) {
            let alone = self.alone().or_else(|| {
                // Said again before the second look: whoever has the intake at that look sees it when letting go.
                due.store(true, Ordering::SeqCst);
                self.alone()
            });
            let Some(alone) = alone else { return };
            due.store(false, Ordering::SeqCst);
            self.collect_alone(alone).await;
        }
    }

    /// Takes the names away, lets go of the intake, and deletes.
    async fn collect_alone(&self, alone: Alone) {
        let inner = self.inner.clone();
        let collected = blocking(move || {
            let collected = collect_now(&inner);
            drop(alone);
            report(collected);
            Ok(())
        });
        if let Err(error) = collected.await {
            tracing::error!(%error, "the collection of what nobody names ended");
        }
    }
}

/// Takes the names away. Blocking; the caller has the intake alone.
pub(super) fn collect_now(inner: &Inner) -> Collected {
    let mut named = named_by(&inner.store.snapshot());
    named.layers.extend(inner.other_layers());
    named.follow(&inner.content);
    collect_garbage(&named, &inner.content, inner.snapshotter.as_ref())
}

/// Deletes what was collected, and logs what was not.
pub(super) fn report(collected: Collected) {
    for error in &collected.failed {
        tracing::warn!(error = chain(error), "what nobody names stays");
    }
    if !collected.layers.is_empty() || !collected.documents.is_empty() {
        tracing::debug!(
            layers = collected.layers.len(),
            documents = collected.documents.len(),
            "collected what nobody names"
        );
    }
    for doomed in collected.doomed {
        if let Err(error) = doomed.delete() {
            tracing::warn!(%error, "removed files of a layer stay until the next start");
        }
    }
}

/// What records name.
pub(super) fn named_by(records: &Snapshot) -> Named {
    let mut layers: HashSet<Digest> = HashSet::new();
    let mut documents: HashSet<Digest> = HashSet::new();
    for image in records.list::<ImageRecord>() {
        layers.extend(image.layers.iter().cloned());
        documents.insert(image.id.clone());
        documents.extend(image.manifest.clone());
    }
    for tag in records.list::<TagRecord>() {
        documents.extend(tag.reference.digest().cloned());
    }
    for container in records.list::<ContainerRecord>() {
        layers.extend(container.layers.iter().cloned());
        let mounted = container.mounts.iter().flat_map(|point| &point.image);
        layers.extend(mounted.flat_map(|image| &image.layers).cloned());
    }
    Named { layers, documents }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_share_is_had_while_somebody_waits_to_be_alone() {
        let collection = Arc::new(Collection::default());
        let held = collection.clone().take().await;
        let mut alone = Box::pin(collection.intake.clone().write_owned());
        assert!((&mut alone).now_or_never().is_none());
        // Who asks anew stands behind.
        assert!(collection.clone().take().now_or_never().is_none());
        let share = held.share();
        held.finish();
        assert!((&mut alone).now_or_never().is_none());
        share.finish();
        drop((&mut alone).now_or_never().expect("nobody has it"));
        assert!(!collection.due.load(Ordering::SeqCst));
        drop(collection.clone().take().await.share());
        assert!(collection.due.load(Ordering::SeqCst));
    }
}
