//! Work on groups off the request path: one thread that removes old ones and keeps a few new ones ready.
//!
//! **Removal.** A group stays busy for as long as a dying process is not quite gone, so it is tried again and again.
//! [`Background::forget`] keeps a restart of the same container apart from an old removal: it takes the group off the
//! queue, or waits for the one removal that is under way, which must not meet the fresh, still empty directories.
//!
//! **Ready groups.** Making a container's v1 directories and closing its devices is half a millisecond of system
//! calls; v1 lets a directory be renamed, so a few are made in advance and renamed at start, for a tenth of that. The
//! v2 tree has no rename, but needs one directory only.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Group;
use super::hierarchies::Hierarchies;
use super::make::Ready;

/// How far this thread stands back.
const BACKGROUND_NICE: i32 = 5;

/// Rounds until a group that stays busy is left to the next start's sweep: about a minute.
const ROUNDS: u32 = 250;
/// Between rounds: short at first, because most groups are free at once.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(250);
/// How long [`Background::settle`] waits.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// How many groups are kept ready: enough for a burst to find some while the thread makes more.
const READY: usize = 8;

#[derive(Debug, Default)]
struct Queue {
    /// Groups to remove and how often that was tried.
    waiting: VecDeque<(Group, u32)>,
    /// The one being removed now, outside of the lock.
    removing: Option<Group>,
    ready: Vec<Ready>,
    /// How many groups to keep ready; 0 once the pool is closed.
    target: usize,
    /// Whether one is being made now, outside of the lock.
    making: bool,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told of every change: both sides wait on it.
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while holding the lock; a poisoned queue is still a queue.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'q>(
        &self,
        queue: MutexGuard<'q, Queue>,
        limit: Duration,
        condition: impl FnMut(&mut Queue) -> bool,
    ) -> MutexGuard<'q, Queue> {
        self.changed
            .wait_timeout_while(queue, limit, condition)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

/// The thread and its queue.
#[derive(Debug)]
pub(super) struct Background {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub(super) fn start(hierarchies: &Arc<Hierarchies>) -> Self {
        let shared = Arc::new(Shared::default());
        shared.lock().target = if hierarchies.has_v1() { READY } else { 0 };
        let (of_thread, hierarchies) = (Arc::clone(&shared), Arc::clone(hierarchies));
        let thread = std::thread::Builder::new()
            .name("cgroups".to_owned())
            .stack_size(256 << 10)
            .spawn(move || run(&of_thread, &hierarchies))
            .inspect_err(|error| tracing::warn!(%error, "control groups will not be removed"))
            .ok();
        Self { shared, thread }
    }

    pub(super) fn remove(&self, group: Group) {
        self.shared.lock().waiting.push_back((group, 0));
        self.shared.changed.notify_all();
    }

    /// Keeps the removal of an earlier run away from a group that is about to be made.
    pub(super) fn forget(&self, group: &Group) {
        let mut queue = self.shared.lock();
        queue
            .waiting
            .retain(|(waiting, _)| waiting.key() != group.key());
        let _queue = self.shared.wait_while(queue, SETTLE_LIMIT, |queue| {
            queue
                .removing
                .as_ref()
                .is_some_and(|removing| removing.key() == group.key())
        });
    }

    /// A group made in advance, if there is one.
    pub(super) fn take_ready(&self) -> Option<Ready> {
        let mut queue = self.shared.lock();
        let ready = queue.ready.pop();
        // While there are enough, others are made with the next removal: making one now would hold the locks of the kernel's
        // hierarchies just when this one is being renamed.
        if queue.ready.len() < queue.target / 2 {
            self.shared.changed.notify_all();
        }
        ready
    }

    /// Makes no more groups in advance and queues those there are for removal.
    pub(super) fn close_pool(&self) {
        let mut queue = self.shared.lock();
        queue.target = 0;
        let mut queue = self
            .shared
            .wait_while(queue, SETTLE_LIMIT, |queue| queue.making);
        queue.drop_ready();
        self.shared.changed.notify_all();
    }

    /// Waits until there is nothing to remove, at most a second.
    pub(super) fn settle(&self) {
        let queue = self.shared.lock();
        let _queue = self.shared.wait_while(queue, SETTLE_LIMIT, |queue| {
            !(queue.waiting.is_empty() && queue.removing.is_none() || queue.stopped)
        });
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.close_pool();
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn drop_ready(&mut self) {
        let groups = self.ready.drain(..).map(|ready| (ready.into_group(), 0));
        self.waiting.extend(groups);
    }

    fn wants_ready(&self) -> bool {
        self.ready.len() < self.target
    }
}

fn run(shared: &Shared, hierarchies: &Arc<Hierarchies>) {
    // Whoever took a ready group goes on starting a container: making the next one must not push it from its processor.
    let _ = rustix::process::nice(BACKGROUND_NICE);
    let mut pause = FIRST_PAUSE;
    let mut number = 0;
    loop {
        // One pass: each waiting group once, the busy ones back to the end; ready groups in between, because a start
        // may be waiting for one and nobody waits for a removal.
        let mut busy = false;
        // Asked before the pass: what was queued before the stop gets one.
        let (stopped, count) = {
            let queue = shared.lock();
            (queue.stopped, queue.waiting.len())
        };
        for _ in 0..count {
            make_ready(shared, hierarchies, &mut number);
            busy |= remove_one(shared);
        }
        make_ready(shared, hierarchies, &mut number);
        if stopped {
            return;
        }
        let queue = shared.lock();
        if busy {
            drop(shared.wait_while(queue, pause, |queue| !queue.wants_ready() && !queue.stopped));
            pause = (pause * 2).min(LAST_PAUSE);
        } else {
            pause = FIRST_PAUSE;
            let idle = |queue: &mut Queue| {
                queue.waiting.is_empty() && !queue.wants_ready() && !queue.stopped
            };
            drop(shared.changed.wait_while(queue, idle));
        }
    }
}

/// Tries to remove the first waiting group; whether it has to wait longer.
fn remove_one(shared: &Shared) -> bool {
    let (group, rounds) = {
        let mut queue = shared.lock();
        let Some((group, rounds)) = queue.waiting.pop_front() else {
            return false;
        };
        queue.removing = Some(group.clone());
        (group, rounds)
    };
    let errors = group.remove_now();
    let mut queue = shared.lock();
    queue.removing = None;
    let again = !errors.is_empty() && rounds < ROUNDS;
    if again {
        queue.waiting.push_back((group, rounds + 1));
    } else {
        for error in errors {
            tracing::warn!(%error, "control group stays until the next start");
        }
    }
    shared.changed.notify_all();
    again
}

/// Fills the pool, one group after the other.
fn make_ready(shared: &Shared, hierarchies: &Arc<Hierarchies>, number: &mut u64) {
    loop {
        {
            let mut queue = shared.lock();
            if !queue.wants_ready() || queue.stopped {
                return;
            }
            queue.making = true;
        }
        *number += 1;
        let made = Ready::make(hierarchies, *number);
        let mut queue = shared.lock();
        queue.making = false;
        match made {
            Ok(ready) => queue.ready.push(ready),
            Err(error) => {
                tracing::warn!(%error, "no control groups are made in advance any more");
                queue.target = 0;
                queue.drop_ready();
            }
        }
        if queue.target == 0 {
            queue.drop_ready();
        }
        shared.changed.notify_all();
    }
}
