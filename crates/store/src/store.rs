//! The handle.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use hoist_model::{Event, Revision, Timestamp};
use tokio::sync::oneshot;

use crate::builder::Builder;
use crate::database::Database;
use crate::error::StoreError;
use crate::pending::{Committed, Pending};
use crate::snapshot::Snapshot;
use crate::transaction::Transaction;
use crate::watch::{Ring, Watch};
use crate::writer::{Body, Desk, Job, Outcome, Writer, serve};

/// When a transaction counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Written, not synced: survives `kill -9` of the engine; a power cut loses at most the last second.
    Process,
    /// Synced to the disk.
    Disk,
}

/// What the writer has done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Transactions that changed something.
    pub transactions: u64,
    /// Groups they were written in.
    pub groups: u64,
    /// Groups that were synced to the disk while somebody waited.
    pub syncs: u64,
    /// Syncs made later, for commits nobody waited for.
    pub idle_syncs: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) transactions: AtomicU64,
    pub(crate) groups: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) idle_syncs: AtomicU64,
}

/// What the writer shows to everybody.
pub(crate) struct Shared {
    /// Held for the length of a clone of one reference count, or to put a new one in place.
    pub(crate) head: RwLock<Snapshot>,
    pub(crate) ring: Arc<Ring>,
    pub(crate) statistics: Counters,
}

struct Handle {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    jobs: Sender<Job>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    /// A failed send drops the job, and with it the reply's sender, which the waiter reads as `Closed`.
    fn send(&self, job: Job) {
        self.desk.queued.fetch_add(1, Ordering::AcqRel);
        let _ = self.jobs.send(job);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.send(Job::Close);
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer
            && writer.thread().id() != std::thread::current().id()
        {
            // A panic of the writer was reported where it happened.
            let _ = writer.join();
        }
    }
}

/// A handle on the store; clones share it. The last one dropped writes out what is queued and closes the file.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.snapshot().revision())
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Begins to describe a store.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn open(dir: &Path, builder: &Builder) -> Result<Self, StoreError> {
        let (database, head) = Database::open(dir, builder)?;
        let shared = Arc::new(Shared {
            ring: Arc::new(Ring::new(builder.ring, head.revision())),
            head: RwLock::new(head.clone()),
            statistics: Counters::default(),
        });
        // Unbounded: each sender waits for its reply before it sends again.
        let (jobs, queue) = channel();
        let desk = Arc::new(Desk::new(Writer::new(database, head, shared.clone())));
        let served = desk.clone();
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || serve(&served, &queue))
            .map_err(|source| StoreError::Directory {
                path: dir.to_owned(),
                source: Arc::new(source),
            })?;
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                desk,
                jobs,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// Runs `body` in order with all other transactions, and commits what it did if it returns `Ok`; an `Err` or a panic
    /// leaves no trace. A transaction that changes nothing and tells no event makes no revision and touches no file.
    ///
    /// One of class process runs at once on the calling thread where no other is on its way, a fraction of a millisecond
    /// without a sync; any other on the writer's thread.
    pub fn transaction<T, E, F>(&self, class: Class, body: F) -> Pending<T, E>
    where
        F: FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (sender, reply) = oneshot::channel();
        let mut body = erase(body, sender);
        if class == Class::Process {
            match self.handle.desk.at_once(body) {
                Ok(look) => {
                    if look {
                        self.handle.send(Job::Look);
                    }
                    return Pending { reply };
                }
                Err(back) => body = back,
            }
        }
        self.handle.send(Job::Transaction(class, body));
        Pending { reply }
    }

    /// All objects now. O(1); never blocks on the file.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.handle
            .shared
            .head
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Commits after `from`, or from now on. If `from` is older than the ring, the first read says `Lost`.
    #[must_use]
    pub fn watch(&self, from: Option<Revision>) -> Watch {
        let from = from.unwrap_or_else(|| self.snapshot().revision());
        Watch::new(self.handle.shared.ring.clone(), from)
    }

    /// Stored events with `since <= at <= until`, oldest first. `Committed::revision` says up to which
    /// revision the answer is complete: watch from it to go on without gap or repeat.
    pub fn events(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Pending<Vec<(Revision, Event)>, StoreError> {
        let (sender, reply) = oneshot::channel();
        self.handle.send(Job::Events {
            since,
            until,
            reply: sender,
        });
        Pending { reply }
    }

    /// What the writer has done so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let counters = &self.handle.shared.statistics;
        Statistics {
            transactions: counters.transactions.load(Ordering::Relaxed),
            groups: counters.groups.load(Ordering::Relaxed),
            syncs: counters.syncs.load(Ordering::Relaxed),
            idle_syncs: counters.idle_syncs.load(Ordering::Relaxed),
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

/// Hides the types of a transaction. Every reply, a refusal too, waits for its group: it may rest on what
/// an earlier transaction of the same group did.
fn erase<T, E, F>(body: F, sender: oneshot::Sender<Result<Committed<T>, E>>) -> Body
where
    F: FnOnce(&mut Transaction) -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
{
    Box::new(move |transaction| {
        let result = catch_unwind(AssertUnwindSafe(|| body(transaction)))
            .unwrap_or_else(|panic| {
                Err(StoreError::Panicked {
                    detail: message(panic.as_ref()),
                }
                .into())
            })
            .and_then(|value| match transaction.failure.take() {
                Some(failure) => Err(failure.into()),
                None => Ok(value),
            });
        Outcome {
            keep: result.is_ok(),
            reply: Box::new(move |written| {
                let reply = match (result, written) {
                    (Ok(value), Ok(revision)) => Ok(Committed { revision, value }),
                    (_, Err(error)) => Err(error.into()),
                    (Err(refusal), Ok(_)) => Err(refusal),
                };
                // Whoever asked may have stopped waiting.
                let _ = sender.send(reply);
            }),
        }
    })
}
