//! The one thread that orders and writes transactions.
//!
//! ```text
//! jobs ─> [take what is queued] ─> run closures on a draft ─> one SQLite transaction ─> publish ─> reply
//!              │ a leading run of class process makes a group that is not synced;
//!              └ from the first of class disk on, everything queued shares one sync
//! idle: within a second of an unsynced commit, sync the log; now and then a checkpoint
//! ```

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hoist_model::{Event, Revision, Timestamp};
use tokio::sync::oneshot;

use crate::database::Database;
use crate::error::StoreError;
use crate::pending::Committed;
use crate::snapshot::Snapshot;
use crate::store::{Class, Shared};
use crate::transaction::Transaction;
use crate::watch::Commit;

/// A commit of class process is synced at the latest this long after it.
const SYNC_WITHIN: Duration = Duration::from_millis(900);
/// Groups after which an idle writer makes a checkpoint, and after which a busy one does.
const CHECKPOINT_IDLE: u64 = 256;
const CHECKPOINT_BUSY: u64 = 1024;
/// A group is at most this many transactions, so that the first of them does not wait for ever.
const GROUP: usize = 256;

/// How a closure ended: whether its changes count, and whom to tell.
pub(crate) struct Outcome {
    pub(crate) keep: bool,
    pub(crate) reply: Box<dyn FnOnce(Result<Revision, StoreError>) + Send>,
}

pub(crate) type Body = Box<dyn FnOnce(&mut Transaction) -> Outcome + Send>;
pub(crate) type EventsReply =
    oneshot::Sender<Result<Committed<Vec<(Revision, Event)>>, StoreError>>;

pub(crate) enum Job {
    Transaction(Class, Body),
    Events {
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        reply: EventsReply,
    },
    Close,
}

pub(crate) struct Writer {
    database: Database,
    head: Snapshot,
    shared: Arc<Shared>,
    /// When the oldest unsynced commit was made.
    unsynced: Option<Instant>,
    groups_since_checkpoint: u64,
}

impl Writer {
    pub(crate) fn new(database: Database, head: Snapshot, shared: Arc<Shared>) -> Self {
        Self {
            database,
            head,
            shared,
            unsynced: None,
            groups_since_checkpoint: 0,
        }
    }

    /// Serves jobs until told to close; then everything queued before is written.
    pub(crate) fn run(mut self, jobs: &Receiver<Job>) {
        let mut next = None;
        loop {
            let job = match next.take() {
                Some(job) => job,
                None => match self.receive(jobs) {
                    Ok(job) => job,
                    Err(RecvTimeoutError::Timeout) => {
                        self.idle();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                },
            };
            match job {
                Job::Transaction(class, body) => {
                    let (class, group, after) = gather(class, body, jobs);
                    next = after;
                    self.commit(class, group);
                }
                Job::Events {
                    since,
                    until,
                    reply,
                } => {
                    let events = self.database.events(since, until).map(|value| Committed {
                        revision: self.head.revision(),
                        value,
                    });
                    // The asker may be gone.
                    let _ = reply.send(events);
                }
                Job::Close => break,
            }
            if self.groups_since_checkpoint >= CHECKPOINT_BUSY {
                self.checkpoint();
            }
        }
        self.checkpoint();
        self.shared.ring.close();
    }

    fn receive(&self, jobs: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        match self.unsynced {
            // Synced commits make the log long, too.
            None if self.groups_since_checkpoint >= CHECKPOINT_IDLE => {
                jobs.recv_timeout(SYNC_WITHIN)
            }
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => jobs.recv_timeout(SYNC_WITHIN.saturating_sub(since.elapsed())),
        }
    }

    fn commit(&mut self, class: Class, group: Vec<Body>) {
        let mut draft = self.head.clone();
        let mut replies = Vec::with_capacity(group.len());
        let mut kept = Vec::with_capacity(group.len());
        for body in group {
            let revision = Revision(draft.revision().0 + 1);
            let mut transaction = Transaction::new(&draft, revision);
            let outcome = body(&mut transaction);
            let changed = !transaction.rows.is_empty() || !transaction.events.is_empty();
            if outcome.keep && changed {
                draft = transaction.draft.clone();
                draft.set_revision(revision);
                kept.push(transaction);
            }
            replies.push((outcome.reply, draft.revision()));
        }
        let written = if kept.is_empty() {
            Ok(())
        } else {
            self.write(class, &kept)
        };
        if written.is_ok() && !kept.is_empty() {
            self.publish(draft, kept);
        }
        for (reply, revision) in replies {
            reply(written.clone().map(|()| revision));
        }
        if self.database.should_prune()
            && let Err(error) = self.database.prune()
        {
            tracing::warn!(%error, "events could not be pruned");
        }
    }

    fn write(&mut self, class: Class, kept: &[Transaction]) -> Result<(), StoreError> {
        let group: Vec<_> = kept.iter().collect();
        let synced = self.database.write(class, &group)?;
        let statistics = &self.shared.statistics;
        statistics
            .transactions
            .fetch_add(kept.len() as u64, Ordering::Relaxed);
        statistics.groups.fetch_add(1, Ordering::Relaxed);
        self.groups_since_checkpoint += 1;
        if synced {
            statistics.syncs.fetch_add(1, Ordering::Relaxed);
            self.unsynced = None;
        } else {
            self.unsynced.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Readers first, then watchers: who hears of a commit finds it in the next snapshot.
    fn publish(&mut self, draft: Snapshot, kept: Vec<Transaction>) {
        self.head = draft.clone();
        *self
            .shared
            .head
            .write()
            .unwrap_or_else(PoisonError::into_inner) = draft;
        self.shared.ring.push(kept.into_iter().map(|transaction| {
            Arc::new(Commit {
                revision: transaction.revision,
                changes: transaction.changes,
                events: transaction.events,
            })
        }));
    }

    fn idle(&mut self) {
        if self.groups_since_checkpoint >= CHECKPOINT_IDLE {
            self.checkpoint();
            return;
        }
        self.unsynced = None;
        self.shared
            .statistics
            .idle_syncs
            .fetch_add(1, Ordering::Relaxed);
        if let Err(error) = self.database.sync() {
            tracing::error!(%error, "committed state could not be synced");
        }
    }

    fn checkpoint(&mut self) {
        self.groups_since_checkpoint = 0;
        self.unsynced = None;
        if let Err(error) = self.database.checkpoint() {
            tracing::warn!(%error, "the store's log could not be folded into its file");
        }
    }
}

/// Takes what is queued and may share the first transaction's group; the first job that may not comes back.
fn gather(class: Class, body: Body, jobs: &Receiver<Job>) -> (Class, Vec<Body>, Option<Job>) {
    let mut group = vec![body];
    while group.len() < GROUP {
        match jobs.try_recv() {
            // What is queued before the first of class disk need not wait for its sync.
            Ok(Job::Transaction(Class::Disk, body)) if class == Class::Process => {
                return (class, group, Some(Job::Transaction(Class::Disk, body)));
            }
            Ok(Job::Transaction(_, body)) => group.push(body),
            Ok(job) => return (class, group, Some(job)),
            Err(_) => break,
        }
    }
    (class, group, None)
}
