//! `Up 3 seconds`, `Exited (0) 2 minutes ago`: durations as people say them (go-units `HumanDuration`) and the list's
//! `Status` (moby `daemon/container/state.go`).

use std::time::Duration;

use hoist_engine::records::ContainerRecord;
use hoist_model::Timestamp;
use hoist_model::container::{ContainerState, HealthStatus};

/// How long something took, roughly.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Rounded, unlike all else.
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// The list's `Status`.
pub(crate) fn status(record: &ContainerRecord, now: Timestamp) -> String {
    match &record.state {
        ContainerState::Created { .. } | ContainerState::Starting => "Created".to_owned(),
        ContainerState::Running(running) => {
            let up = human(now.since(running.started_at));
            let beside = match record.health.as_ref().map(|health| health.status) {
                _ if running.paused => " (Paused)".to_owned(),
                None => String::new(),
                Some(HealthStatus::Starting) => " (health: starting)".to_owned(),
                Some(known) => format!(" ({})", known.as_str()),
            };
            format!("Up {up}{beside}")
        }
        ContainerState::Restarting(exited) => format!(
            "Restarting ({}) {} ago",
            exited.exit_code,
            human(now.since(exited.finished_at))
        ),
        ContainerState::Exited(exited) => format!(
            "Exited ({}) {} ago",
            exited.exit_code,
            human(now.since(exited.finished_at))
        ),
        ContainerState::Removing => "Removal In Progress".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_model::container::{ExitedState, Health, RunningState};

    #[test]
    fn durations_are_said_as_docker_says_them() {
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (172_800, "2 days"),
            (1_209_600, "2 weeks"),
            (5_184_000, "2 months"),
            (63_072_000, "2 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn status_names_the_phase() {
        let at = Timestamp::from_seconds;
        let running = |paused| {
            ContainerState::Running(RunningState {
                pid: 1,
                started_at: at(10),
                paused,
                oom_killed: false,
            })
        };
        let status = |state, at, health: Option<HealthStatus>| {
            let record = ContainerRecord {
                state,
                health: health.map(|status| Health {
                    status,
                    ..Health::starting(Timestamp::default(), None)
                }),
                ..crate::wire::testing::record("{}")
            };
            super::status(&record, at)
        };
        assert_eq!(status(running(false), at(13), None), "Up 3 seconds");
        assert_eq!(status(running(true), at(13), None), "Up 3 seconds (Paused)");
        for (health, expected) in [
            (HealthStatus::Starting, "Up 3 seconds (health: starting)"),
            (HealthStatus::Healthy, "Up 3 seconds (healthy)"),
            (HealthStatus::Unhealthy, "Up 3 seconds (unhealthy)"),
        ] {
            assert_eq!(status(running(false), at(13), Some(health)), expected);
        }
        let exited = ContainerState::Exited(ExitedState {
            exit_code: 7,
            oom_killed: false,
            started_at: at(1),
            finished_at: at(10),
            error: String::new(),
        });
        let ContainerState::Exited(ended) = exited.clone() else {
            unreachable!("made above");
        };
        assert_eq!(status(exited, at(130), None), "Exited (7) 2 minutes ago");
        assert_eq!(
            status(ContainerState::Restarting(ended), at(130), None),
            "Restarting (7) 2 minutes ago"
        );
        let created = ContainerState::Created { failure: None };
        assert_eq!(status(created, at(130), None), "Created");
    }
}
