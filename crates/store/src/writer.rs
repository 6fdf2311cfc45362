//! What orders and writes transactions, one at a time, and the thread that does it where somebody would wait for a disk.
//!
//! ```text
//! jobs ─> [take what is queued] ─> run closures on a draft ─> one SQLite transaction ─> publish ─> reply
//!              │ a leading run of class process makes a group that is not synced;
//!              └ from the first of class disk on, everything queued shares one sync
//! class process, nothing queued, writer free ─> the same, on the thread that asks
//! idle: within a second of an unsynced commit, sync the log; now and then a checkpoint
//! ```
//!
//! A transaction that is not synced takes less than the two changes of thread that its way through the queue costs, so it
//! is carried out where it comes from while the writer is free. Syncs, pruning and checkpoints are the thread's alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Look whether there is something to be done later.
    Look,
    Close,
}

/// The writer, as its thread and those who ask share it.
pub(crate) struct Desk {
    /// Held for one group, or for the upkeep between them. Who asks never waits for it.
    writer: Mutex<Writer>,
    /// Jobs handed to the thread that are not done: whoever comes after them waits in the queue, too.
    pub(crate) queued: AtomicUsize,
}

impl Desk {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            writer: Mutex::new(writer),
            queued: AtomicUsize::new(0),
        }
    }

    /// Carries out a transaction of class process on the calling thread, if it would have nothing to wait for; else it comes
    /// back. Answers whether the thread has to be told to look.
    pub(crate) fn at_once(&self, body: Body) -> Result<bool, Body> {
        if self.queued.load(Ordering::Acquire) != 0 {
            return Err(body);
        }
        let Ok(mut writer) = self.writer.try_lock() else {
            return Err(body);
        };
        writer.commit(Class::Process, vec![body]);
        Ok(writer.wants_a_look())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer
            .lock()
            .expect("a commit that panicked may have left half of itself")
    }
}

pub(crate) struct Writer {
    database: Database,
    head: Snapshot,
    shared: Arc<Shared>,
    /// When the oldest unsynced commit was made.
    unsynced: Option<Instant>,
    groups_since_checkpoint: u64,
    /// The thread sleeps until a job comes, whatever is to be done later.
    sleeps: bool,
}

impl Writer {
    pub(crate) fn new(database: Database, head: Snapshot, shared: Arc<Shared>) -> Self {
        Self {
            database,
            head,
            shared,
            unsynced: None,
            groups_since_checkpoint: 0,
            sleeps: false,
        }
    }

    /// Whether the thread has something to do, or to be awake for, that it does not know of.
    fn wants_a_look(&mut self) -> bool {
        let upkeep =
            self.groups_since_checkpoint >= CHECKPOINT_BUSY || self.database.should_prune();
        let later = self.unsynced.is_some() || self.groups_since_checkpoint >= CHECKPOINT_IDLE;
        upkeep || (later && std::mem::take(&mut self.sleeps))
    }

    /// How long the thread sleeps at most; a while longer than needed after a job, since seldom one comes alone.
    fn patience(&mut self, after_a_job: bool) -> Option<Duration> {
        let patience = match self.unsynced {
            Some(since) => Some(SYNC_WITHIN.saturating_sub(since.elapsed())),
            // Synced commits make the log long, too.
            None if after_a_job || self.groups_since_checkpoint >= CHECKPOINT_IDLE => {
                Some(SYNC_WITHIN)
            }
            None => None,
        };
        self.sleeps = patience.is_none();
        patience
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
    }

    /// What has to be done between groups.
    fn keep_up(&mut self) {
        if self.database.should_prune()
            && let Err(error) = self.database.prune()
        {
            tracing::warn!(%error, "events could not be pruned");
        }
        if self.groups_since_checkpoint >= CHECKPOINT_BUSY {
            self.checkpoint();
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
        // Made while the thread slept, or while it waited for nothing.
        if self
            .unsynced
            .is_none_or(|since| since.elapsed() < SYNC_WITHIN)
        {
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

/// Serves jobs until told to close; then everything queued before is written.
pub(crate) fn serve(desk: &Desk, jobs: &Receiver<Job>) {
    let mut next = None;
    let mut after_a_job = true;
    loop {
        let job = match next.take() {
            Some(job) => job,
            None => match receive(desk, jobs, after_a_job) {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    after_a_job = false;
                    desk.writer().idle();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            },
        };
        after_a_job = true;
        let mut writer = desk.writer();
        let mut done = 1;
        match job {
            Job::Transaction(class, body) => {
                let (class, group, after) = gather(class, body, jobs);
                next = after;
                done = group.len();
                writer.commit(class, group);
            }
            Job::Events {
                since,
                until,
                reply,
            } => {
                let events = writer.database.events(since, until).map(|value| Committed {
                    revision: writer.head.revision(),
                    value,
                });
                // The asker may be gone.
                let _ = reply.send(events);
            }
            Job::Look => {}
            Job::Close => break,
        }
        desk.queued.fetch_sub(done, Ordering::Release);
        writer.keep_up();
    }
    let mut writer = desk.writer();
    writer.checkpoint();
    writer.shared.ring.close();
}

fn receive(desk: &Desk, jobs: &Receiver<Job>, after_a_job: bool) -> Result<Job, RecvTimeoutError> {
    let patience = desk.writer().patience(after_a_job);
    match patience {
        Some(patience) => jobs.recv_timeout(patience),
        None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
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
