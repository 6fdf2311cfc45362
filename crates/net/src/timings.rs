//! How long starting containers have waited for their networks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times of one kind of action, since the start.
#[derive(Debug, Default)]
pub struct Timing {
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Timing {
    pub(crate) fn add(&self, spent: Duration) {
        let nanoseconds = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// How long all of them took, in nanoseconds.
    #[must_use]
    pub fn nanoseconds(&self) -> u64 {
        self.nanoseconds.load(Ordering::Relaxed)
    }
}

/// Times of what [`Networks::attach`] does; those that fail do not count.
///
/// [`Networks::attach`]: crate::Networks::attach
#[derive(Debug, Default)]
pub struct Timings {
    /// Giving a container its namespace and places, with names and name server.
    pub connect: Timing,
    /// Publishing all its ports, if it has any.
    pub publish: Timing,
}
