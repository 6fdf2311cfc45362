//! Removal of groups off the request path: one thread, again and again while the kernel says busy.
//!
//! A group stays busy for as long as a dying process is not quite gone. The queue is shared under a mutex that is also
//! held during the rmdir calls of one group (under a millisecond), so that [`Remover::forget`] by a restart of the same
//! container cannot lose its fresh, still empty directories to an old removal.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Group;

/// Rounds until a group that stays busy is left to the next start's sweep.
const ROUNDS: u32 = 200;
/// Between rounds: short at first, because most groups are free at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(250);
/// How long [`Remover::settle`] waits.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Group, u32)>,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding the lock; a poisoned queue is still a queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread and its queue.
#[derive(Debug)]
pub(super) struct Remover {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Remover {
    pub(super) fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("cgroup-remove".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(&of_thread))
            .inspect_err(|error| tracing::warn!(%error, "control groups will not be removed"))
            .ok();
        Self { shared, thread }
    }

    pub(super) fn remove(&self, group: Group) {
        self.shared.lock().waiting.push_back((group, 0));
        self.shared.changed.notify_all();
    }

    /// Takes a group off the queue, because it is about to be made anew.
    pub(super) fn forget(&self, group: &Group) {
        self.shared
            .lock()
            .waiting
            .retain(|(waiting, _)| waiting.key() != group.key());
    }

    /// Waits until the queue is empty, at most a second.
    pub(super) fn settle(&self) {
        let queue = self.shared.lock();
        let _ = self
            .shared
            .changed
            .wait_timeout_while(queue, SETTLE_LIMIT, |queue| {
                !queue.waiting.is_empty() && !queue.stopped
            });
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    let mut queue = shared.lock();
    loop {
        // One pass: each group once, the busy ones back to the end.
        let mut busy = false;
        for _ in 0..queue.waiting.len() {
            let Some((group, rounds)) = queue.waiting.pop_front() else {
                break;
            };
            let errors = group.remove_now();
            if !errors.is_empty() {
                if rounds >= ROUNDS {
                    for error in errors {
                        tracing::warn!(%error, "control group stays until the next start");
                    }
                } else {
                    busy = true;
                    queue.waiting.push_back((group, rounds + 1));
                }
            }
            // Let a create waiting for the lock in.
            drop(queue);
            queue = shared.lock();
        }
        if queue.waiting.is_empty() {
            shared.changed.notify_all();
        }
        if queue.stopped {
            return;
        }
        if busy {
            queue = shared
                .changed
                .wait_timeout(queue, pause)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            pause = (pause * 2).min(LAST_PAUSE);
        } else {
            pause = FIRST_PAUSE;
            queue = shared
                .changed
                .wait_while(queue, |queue| queue.waiting.is_empty() && !queue.stopped)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}
