//! How many namespaces to keep ready: follows the rate of attachments. Pure.

use std::time::{Duration, Instant};

/// Time after which an attachment counts for 1/e.
const MEMORY: f64 = 2.0;
/// The pool covers what is asked in this many seconds.
const AHEAD: f64 = 0.25;
/// More would cost the kernel more memory than a burst is worth.
const MOST: usize = 64;
/// After an attachment a container is being started: leave the processors to it.
const QUIET: Duration = Duration::from_millis(10);

/// The recent rate of attachments.
#[derive(Debug, Default)]
pub(crate) struct Demand {
    rate: f64,
    last: Option<Instant>,
}

impl Demand {
    /// One more attachment.
    pub(crate) fn count(&mut self, now: Instant) {
        self.rate = self.rate_at(now) + 1.0 / MEMORY;
        self.last = Some(now);
    }

    /// Whether there was one within this span.
    pub(crate) fn was_within(&self, now: Instant, span: Duration) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) < span)
    }

    fn rate_at(&self, now: Instant) -> f64 {
        let age = self.last.map_or(0.0, |last| {
            now.saturating_duration_since(last).as_secs_f64()
        });
        self.rate * (-age / MEMORY).exp()
    }

    /// How many to keep ready; at least `least`.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive and the result is bounded at once"
    )]
    pub(crate) fn target(&self, now: Instant, least: usize) -> usize {
        let wanted = (self.rate_at(now) * AHEAD).ceil() as usize;
        wanted.min(MOST).max(least)
    }

    /// How long to wait before building the next one when `ready` are there; `None` if there are enough.
    pub(crate) fn wait(&self, now: Instant, ready: usize, least: usize) -> Option<Duration> {
        let target = self.target(now, least);
        if ready >= target {
            None
        } else if ready * 2 <= target {
            Some(Duration::ZERO)
        } else {
            let since = self
                .last
                .map_or(QUIET, |last| now.saturating_duration_since(last));
            Some(QUIET.saturating_sub(since))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_raises_the_target_and_quiet_lowers_it() {
        let start = Instant::now();
        let mut demand = Demand::default();
        assert_eq!(demand.target(start, 8), 8);
        for step in 0..2_000 {
            demand.count(start + Duration::from_millis(step * 5));
        }
        let end = start + Duration::from_secs(10);
        let busy = demand.target(end, 8);
        assert!((45..=60).contains(&busy), "{busy}");
        assert_eq!(demand.target(end + Duration::from_secs(60), 8), 8);
    }

    #[test]
    fn refilling_waits_for_quiet_unless_half_is_gone() {
        let now = Instant::now();
        let mut demand = Demand::default();
        demand.count(now);
        assert_eq!(demand.wait(now, 8, 8), None);
        assert_eq!(demand.wait(now, 7, 8), Some(QUIET));
        assert_eq!(demand.wait(now + QUIET, 7, 8), Some(Duration::ZERO));
        assert_eq!(demand.wait(now, 4, 8), Some(Duration::ZERO));
    }
}
