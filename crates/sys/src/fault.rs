//! Faults that tests order: the process dies in place of a netlink batch.
//!
//! The kernel works a batch off inside one `sendmsg` that no signal interrupts, so that between two batches is everywhere
//! that a process that speaks netlink can be killed.

use std::sync::atomic::{AtomicU64, Ordering};

/// Batches that are still sent.
static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

/// From now on this process sends so many netlink batches, and kills itself in place of the next.
pub fn kill_after_batches(count: u64) {
    LEFT.store(count, Ordering::SeqCst);
}

/// One more batch is about to be sent.
pub(crate) fn before_batch() {
    let left = LEFT.fetch_sub(1, Ordering::SeqCst);
    if left == 0 {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}
