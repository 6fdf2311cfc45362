//! Whether what runs in a container works: what its health check found (API `Health`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Healthcheck;
use crate::timestamp::Timestamp;

/// The label that lets the restart policy act when a container becomes unhealthy.
///
/// Docker only says that it is. With the value `true`, and a restart policy other than `no`, the process is stopped with
/// its stop signal and timeout, and the policy treats its end as a failure whatever the exit code. It is a label
/// because every client, Compose and image can set one.
pub const RESTART_UNHEALTHY_LABEL: &str = "hoist.restart-on-unhealthy";

/// Results that are kept.
pub const HEALTH_LOG: usize = 5;

const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: i64 = 3;

/// What is known of a container's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// When the run began that this is about.
    pub run: Timestamp,
    /// The verdict.
    pub status: HealthStatus,
    /// Failures that counted, since the last success.
    pub failing_streak: u32,
    /// The last results, oldest first.
    pub log: Vec<ProbeResult>,
}

/// The verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthStatus {
    /// Not known yet.
    Starting,
    /// It works.
    Healthy,
    /// It does not; also of what does not run or is paused, as in Docker.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// One run of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// 0 is healthy; -1 when it could not be run or took too long.
    pub exit_code: i32,
    /// What it printed, cut; or why it could not be run.
    pub output: String,
}

impl Healthcheck {
    /// The words of the probe's process; `None` where nothing is probed. `shell` is that of shell-form commands, the
    /// default where it is empty.
    #[must_use]
    pub fn command(&self, shell: &[String]) -> Option<Vec<String>> {
        let (kind, words) = self.test.split_first()?;
        match kind.as_str() {
            "CMD" if !words.is_empty() => Some(words.to_vec()),
            "CMD-SHELL" if !words.is_empty() => {
                let mut command = if shell.is_empty() {
                    vec!["/bin/sh".to_owned(), "-c".to_owned()]
                } else {
                    shell.to_vec()
                };
                command.extend(words.iter().cloned());
                Some(command)
            }
            _ => None,
        }
    }

    /// How long a probe may take.
    #[must_use]
    pub fn probe_timeout(&self) -> Duration {
        duration(self.timeout).unwrap_or(DEFAULT_TIMEOUT)
    }

    /// How long to wait before the next probe: in the start period of what is not known to work, the start interval.
    #[must_use]
    pub fn wait(&self, status: HealthStatus, ran: Duration) -> Duration {
        if status == HealthStatus::Starting && ran < self.period() {
            duration(self.start_interval).unwrap_or(DEFAULT_START_INTERVAL)
        } else {
            duration(self.interval).unwrap_or(DEFAULT_INTERVAL)
        }
    }

    fn period(&self) -> Duration {
        duration(self.start_period).unwrap_or_default()
    }
}

fn duration(nanoseconds: i64) -> Option<Duration> {
    match u64::try_from(nanoseconds) {
        Ok(0) | Err(_) => None,
        Ok(nanoseconds) => Some(Duration::from_nanos(nanoseconds)),
    }
}

impl Health {
    /// Of a container that just started; what an earlier run's probes found stays in the log.
    #[must_use]
    pub fn starting(run: Timestamp, before: Option<&Self>) -> Self {
        Self {
            run,
            status: HealthStatus::Starting,
            failing_streak: 0,
            log: before.map(|health| health.log.clone()).unwrap_or_default(),
        }
    }

    /// What is known after one more probe, which began when the container had run for `ran` (moby `daemon/health.go`).
    #[must_use]
    pub fn judged(&self, check: &Healthcheck, ran: Duration, result: ProbeResult) -> Self {
        let mut next = self.clone();
        if result.exit_code == 0 {
            next.failing_streak = 0;
            next.status = HealthStatus::Healthy;
        } else {
            let forgiven = self.status == HealthStatus::Starting && ran < check.period();
            if !forgiven {
                next.failing_streak = self.failing_streak.saturating_add(1);
                let retries = if check.retries > 0 {
                    check.retries
                } else {
                    DEFAULT_RETRIES
                };
                if i64::from(next.failing_streak) >= retries {
                    next.status = HealthStatus::Unhealthy;
                }
            }
        }
        next.log.push(result);
        let surplus = next.log.len().saturating_sub(HEALTH_LOG);
        next.log.drain(..surplus);
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check() -> Healthcheck {
        Healthcheck {
            test: vec!["CMD".to_owned(), "true".to_owned()],
            retries: 2,
            start_period: 10_000_000_000,
            ..Healthcheck::default()
        }
    }

    fn walk(results: &[(i64, i32)]) -> (String, u32, usize) {
        let mut health = Health::starting(Timestamp::from_seconds(100), None);
        for (second, exit_code) in results {
            let at = Timestamp::from_seconds(100 + second);
            let result = ProbeResult {
                started_at: at,
                ended_at: at,
                exit_code: *exit_code,
                output: String::new(),
            };
            let ran = at.since(health.run);
            health = health.judged(&check(), ran, result);
        }
        let status = health.status.as_str().to_owned();
        (status, health.failing_streak, health.log.len())
    }

    #[test]
    fn verdicts() {
        for (results, status, streak, log) in [
            (&[][..], "starting", 0, 0),
            // In the start period failures do not count …
            (&[(1, 1), (2, 1), (9, 1)], "starting", 0, 3),
            // … a success ends it …
            (&[(1, 0), (2, 1), (3, 1)], "unhealthy", 2, 3),
            // … and so does time.
            (&[(11, 1)], "starting", 1, 1),
            (&[(11, 1), (12, 1)], "unhealthy", 2, 2),
            (&[(11, 1), (12, 1), (13, 0)], "healthy", 0, 3),
            (&[(11, 1), (12, 0), (13, -1)], "healthy", 1, 3),
            (&[(1, 0); 9], "healthy", 0, HEALTH_LOG),
        ] {
            assert_eq!(
                walk(results),
                (status.to_owned(), streak, log),
                "{results:?}"
            );
        }
    }

    #[test]
    fn commands() {
        let of = |test: &[&str], shell: &[&str]| {
            let words =
                |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
            let check = Healthcheck {
                test: words(test),
                ..Healthcheck::default()
            };
            check.command(&words(shell)).map(|words| words.join("|"))
        };
        assert_eq!(of(&["CMD", "a", "b"], &[]).as_deref(), Some("a|b"));
        assert_eq!(
            of(&["CMD-SHELL", "a b"], &[]).as_deref(),
            Some("/bin/sh|-c|a b")
        );
        assert_eq!(
            of(&["CMD-SHELL", "a"], &["/bin/x"]).as_deref(),
            Some("/bin/x|a")
        );
        assert_eq!(of(&["NONE"], &[]), None);
        assert_eq!(of(&[], &[]), None);
        assert_eq!(of(&["CMD"], &[]), None);
    }

    #[test]
    fn the_start_interval_holds_in_the_start_period_only() {
        let seconds = |status, ran| check().wait(status, Duration::from_secs(ran)).as_secs();
        assert_eq!(seconds(HealthStatus::Starting, 1), 5);
        assert_eq!(seconds(HealthStatus::Starting, 10), 30);
        assert_eq!(seconds(HealthStatus::Healthy, 1), 30);
    }
}
