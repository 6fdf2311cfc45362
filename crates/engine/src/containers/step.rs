//! The life of a container as a pure function: `step(life, input, now) -> transition`.
//!
//! The actor feeds inputs in and carries commands out, in order; nothing here waits, reads a clock or fails.
//! The phases are drawn in `hoist_model::container::ContainerState`.

use std::time::Duration;

use hoist_model::Timestamp;
use hoist_model::container::{
    ContainerState, ExitedState, RestartPolicy, RunningState, StartFailure,
};

/// What of a container decides what happens next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Life {
    pub(crate) state: ContainerState,
    pub(crate) policy: RestartPolicy,
    pub(crate) auto_remove: bool,
    /// The next end is part of a restart, after which even one that removes itself stays.
    pub(crate) kept: bool,
    /// It was found unhealthy and is being ended for that: a failure, whatever the exit code says.
    pub(crate) condemned: bool,
    pub(crate) manually_stopped: bool,
    /// The machine is going down: it is to end, and to be as wanted as before.
    pub(crate) suspended: bool,
    pub(crate) restart_count: u32,
    /// Delay before the next restart by policy.
    pub(crate) backoff: Duration,
    /// The phase a failed start falls back to.
    pub(crate) before_start: Option<ExitedState>,
}

/// What can happen to a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Input {
    /// Somebody, or the restart policy, wants it started.
    Start {
        /// Whether a person asked.
        by_policy: bool,
    },
    /// The runtime reports its process.
    Launched { pid: i32 },
    /// It could not be started.
    LaunchFailed { exit_code: i32, message: String },
    /// A stop or kill was asked for by a person, so that policies leave it alone.
    StopAsked,
    /// The machine is going down: no policy starts it again before the next engine does.
    Suspended,
    /// A person wants it stopped and started again.
    RestartAsked,
    /// The memory limit took one of its processes.
    OomKilled,
    /// It was found unhealthy, and is to be restarted for that.
    Condemned,
    /// Its process ended.
    Exited {
        exit_code: i32,
        oom_killed: bool,
        error: String,
    },
    /// The freezer froze it.
    Paused,
    /// The freezer thawed it.
    Unpaused,
    /// Somebody wants it gone, with its anonymous volumes if `volumes`.
    Remove { volumes: bool },
}

/// What the actor has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// Connect it and hand it to the runtime; answers `Launched` or `LaunchFailed`.
    Launch,
    /// Give back network, mounts and cgroup of a process that is no more.
    Release,
    /// Write the record.
    Persist,
    /// Tell of something, with these attributes beyond the container's own.
    Emit {
        action: &'static str,
        attributes: Vec<(&'static str, String)>,
    },
    /// Answer those who wait for the end with this code.
    AnswerExit(i32),
    /// Feed `Start{by_policy}` in after this long.
    RestartAfter(Duration),
    /// Drop a pending `RestartAfter`.
    CancelRestart,
    /// Take away files, snapshot and record, and anonymous volumes if `volumes`.
    Dismantle { volumes: bool },
}

/// Why an input is refused in this phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is so already.
    AlreadySo,
    /// It has to run.
    NotRunning,
    /// It must not run.
    Running,
    /// It is frozen.
    Paused,
    /// It is not frozen.
    NotPaused,
    /// It is being started.
    Starting,
    /// Its restart policy is about to start it.
    Restarting,
    /// It is being removed.
    Removing,
}

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// A process that ran this long has proved itself: the back-off begins anew.
const PROVEN: Duration = Duration::from_secs(10);

impl Life {
    /// A life at its beginning or read back from the store.
    pub(crate) fn new(
        state: ContainerState,
        policy: RestartPolicy,
        auto_remove: bool,
        manually_stopped: bool,
        restart_count: u32,
    ) -> Self {
        Self {
            state,
            policy,
            auto_remove,
            kept: false,
            condemned: false,
            manually_stopped,
            suspended: false,
            restart_count,
            // As far as the restarts that are known of had brought it.
            backoff: FIRST_BACKOFF
                .saturating_mul(1 << restart_count.min(10))
                .min(LAST_BACKOFF),
            before_start: None,
        }
    }
}

/// Takes one step. A refusal changes nothing.
pub(crate) fn step(
    life: &Life,
    input: Input,
    now: Timestamp,
) -> Result<(Life, Vec<Command>), Refusal> {
    let mut next = life.clone();
    let commands = match (&life.state, input) {
        (ContainerState::Removing, _) => return Err(Refusal::Removing),
        (ContainerState::Running(running), Input::Start { .. }) => {
            return Err(if running.paused {
                Refusal::Paused
            } else {
                Refusal::AlreadySo
            });
        }
        (ContainerState::Starting, Input::Start { .. }) => return Err(Refusal::Starting),
        (ContainerState::Restarting(_), Input::Start { by_policy: false }) => {
            return Err(Refusal::AlreadySo);
        }
        (
            ContainerState::Created { .. }
            | ContainerState::Exited(_)
            | ContainerState::Restarting(_),
            Input::Start { by_policy },
        ) => {
            next.before_start = match &life.state {
                ContainerState::Exited(exited) | ContainerState::Restarting(exited) => {
                    Some(exited.clone())
                }
                _ => None,
            };
            next.state = ContainerState::Starting;
            next.suspended = false;
            if by_policy {
                vec![Command::Launch]
            } else {
                next.restart_count = 0;
                next.manually_stopped = false;
                next.backoff = FIRST_BACKOFF;
                vec![Command::CancelRestart, Command::Launch]
            }
        }
        (ContainerState::Starting, Input::Launched { pid }) => {
            next.before_start = None;
            next.kept = false;
            next.condemned = false;
            next.state = ContainerState::Running(RunningState {
                pid,
                started_at: now,
                paused: false,
                oom_killed: false,
            });
            vec![Command::Persist, emit("start")]
        }
        (ContainerState::Starting, Input::LaunchFailed { exit_code, message }) => {
            let answer = Command::AnswerExit(exit_code);
            next.state = match next.before_start.take() {
                Some(exited) => ContainerState::Exited(ExitedState {
                    exit_code,
                    error: message,
                    ..exited
                }),
                None => ContainerState::Created {
                    failure: Some(StartFailure { exit_code, message }),
                },
            };
            let mut commands = vec![Command::Release, Command::Persist, answer];
            if life.auto_remove {
                commands.extend(begin_removal(&mut next, true));
            }
            commands
        }
        (
            ContainerState::Running(running),
            Input::Exited {
                exit_code,
                oom_killed,
                error,
            },
        ) => exited(life, &mut next, running, exit_code, oom_killed, error, now),
        (ContainerState::Running(_) | ContainerState::Starting, Input::StopAsked) => {
            // The stop that follows a suspension is no person's.
            next.manually_stopped |= !life.suspended;
            vec![Command::Persist]
        }
        (ContainerState::Running(_) | ContainerState::Starting, Input::Suspended) => {
            next.suspended = true;
            vec![Command::Persist]
        }
        (ContainerState::Restarting(exited), Input::Suspended) => {
            next.suspended = true;
            next.state = ContainerState::Exited(exited.clone());
            vec![
                Command::CancelRestart,
                Command::Persist,
                Command::AnswerExit(exited.exit_code),
            ]
        }
        (ContainerState::Restarting(exited), Input::StopAsked) => {
            next.manually_stopped = true;
            next.state = ContainerState::Exited(exited.clone());
            vec![
                Command::CancelRestart,
                Command::Persist,
                Command::AnswerExit(exited.exit_code),
            ]
        }
        (_, Input::StopAsked) => {
            next.manually_stopped = true;
            vec![Command::CancelRestart, Command::Persist]
        }
        (ContainerState::Running(running), Input::OomKilled) => {
            next.state = ContainerState::Running(RunningState {
                oom_killed: true,
                ..running.clone()
            });
            vec![Command::Persist, emit("oom")]
        }
        (ContainerState::Running(_), Input::Condemned) => {
            next.condemned = true;
            Vec::new()
        }
        (_, Input::RestartAsked) => {
            next.kept = true;
            Vec::new()
        }
        (ContainerState::Running(running), Input::Paused) => {
            if running.paused {
                return Err(Refusal::Paused);
            }
            next.state = ContainerState::Running(RunningState {
                paused: true,
                ..running.clone()
            });
            vec![Command::Persist, emit("pause")]
        }
        (ContainerState::Running(running), Input::Unpaused) => {
            if !running.paused {
                return Err(Refusal::NotPaused);
            }
            next.state = ContainerState::Running(RunningState {
                paused: false,
                ..running.clone()
            });
            vec![Command::Persist, emit("unpause")]
        }
        (ContainerState::Running(_), Input::Remove { .. }) => return Err(Refusal::Running),
        (ContainerState::Starting, Input::Remove { .. }) => return Err(Refusal::Starting),
        (ContainerState::Restarting(_), Input::Remove { .. } | Input::Paused | Input::Unpaused) => {
            return Err(Refusal::Restarting);
        }
        (ContainerState::Created { .. } | ContainerState::Exited(_), Input::Remove { volumes }) => {
            let volumes = volumes || life.auto_remove;
            begin_removal(&mut next, volumes)
        }
        (
            _,
            Input::Launched { .. }
            | Input::LaunchFailed { .. }
            | Input::Exited { .. }
            | Input::OomKilled
            | Input::Condemned
            | Input::Suspended
            | Input::Paused
            | Input::Unpaused,
        ) => return Err(Refusal::NotRunning),
    };
    Ok((next, commands))
}

fn exited(
    life: &Life,
    next: &mut Life,
    running: &RunningState,
    exit_code: i32,
    oom_killed: bool,
    error: String,
    now: Timestamp,
) -> Vec<Command> {
    let ran = now.since(running.started_at);
    let ended = ExitedState {
        exit_code,
        oom_killed: oom_killed || running.oom_killed,
        started_at: running.started_at,
        finished_at: now,
        error,
    };
    let again = !life.auto_remove && wants_restart(life, exit_code);
    next.state = if again {
        next.restart_count += 1;
        ContainerState::Restarting(ended)
    } else {
        ContainerState::Exited(ended)
    };
    let mut commands = Vec::new();
    // Told already if it was seen when it happened.
    if oom_killed && !running.oom_killed {
        commands.push(emit("oom"));
    }
    commands.extend([Command::Release, Command::Persist]);
    commands.push(Command::Emit {
        action: "die",
        attributes: vec![
            ("exitCode", exit_code.to_string()),
            ("execDuration", ran.as_secs().to_string()),
        ],
    });
    commands.push(Command::AnswerExit(exit_code));
    if life.auto_remove && !life.kept {
        commands.extend(begin_removal(next, true));
    } else if again {
        if ran >= PROVEN {
            next.backoff = FIRST_BACKOFF;
        }
        commands.push(Command::RestartAfter(next.backoff));
        next.backoff = (next.backoff * 2).min(LAST_BACKOFF);
    }
    commands
}

/// Whether the policy starts it again after this end (API `RestartPolicy`).
fn wants_restart(life: &Life, exit_code: i32) -> bool {
    if life.manually_stopped || life.suspended {
        return false;
    }
    match life.policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { maximum_retries } => {
            (exit_code != 0 || life.condemned)
                && (maximum_retries == 0 || life.restart_count < maximum_retries)
        }
    }
}

fn begin_removal(next: &mut Life, volumes: bool) -> Vec<Command> {
    next.state = ContainerState::Removing;
    vec![Command::CancelRestart, Command::Dismantle { volumes }]
}

fn emit(action: &'static str) -> Command {
    Command::Emit {
        action,
        attributes: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
