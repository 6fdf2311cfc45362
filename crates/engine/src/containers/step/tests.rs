//! Steps, alone and in rows; whatever happens, nothing leaks.

use proptest::prelude::*;

use super::*;

fn life(policy: RestartPolicy, auto_remove: bool) -> Life {
    Life::new(
        ContainerState::Created { failure: None },
        policy,
        auto_remove,
        false,
        0,
    )
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn walk(mut life: Life, inputs: Vec<(Input, i64)>) -> (Life, Vec<Command>) {
    let mut last = Vec::new();
    for (input, second) in inputs {
        (life, last) = step(&life, input, at(second)).expect("a legal step");
    }
    (life, last)
}

fn end(exit_code: i32) -> Input {
    Input::Exited {
        exit_code,
        oom_killed: false,
        error: String::new(),
    }
}

const START: Input = Input::Start { by_policy: false };

#[test]
fn what_ends_with_the_machine_stays_wanted() {
    let running = vec![(START, 1), (Input::Launched { pid: 7 }, 1)];
    let suspended = [(Input::Suspended, 2), (Input::StopAsked, 2), (end(143), 3)];
    let (always, _) = walk(
        life(RestartPolicy::UnlessStopped, false),
        running.iter().cloned().chain(suspended).collect(),
    );
    assert_eq!(always.state.status(), "exited");
    assert!(always.suspended && !always.manually_stopped);
    let (again, _) = walk(always, vec![(START, 9)]);
    assert!(!again.suspended, "the next end is an ordinary one");

    let backing_off = vec![(end(1), 2), (Input::Suspended, 3)];
    let (ended, commands) = walk(
        life(RestartPolicy::Always, false),
        running.into_iter().chain(backing_off).collect(),
    );
    assert_eq!(ended.state.status(), "exited");
    assert_eq!(
        commands,
        [
            Command::CancelRestart,
            Command::Persist,
            Command::AnswerExit(1)
        ]
    );
    assert_eq!(
        step(&ended, Input::Suspended, at(4)),
        Err(Refusal::NotRunning)
    );
}

#[test]
fn an_ordinary_life() {
    let (life, commands) = walk(
        life(RestartPolicy::No, false),
        vec![(START, 1), (Input::Launched { pid: 7 }, 1), (end(3), 5)],
    );
    assert_eq!(life.state.status(), "exited");
    assert_eq!(
        commands,
        vec![
            Command::Release,
            Command::Persist,
            Command::Emit {
                action: "die",
                attributes: vec![("exitCode", "3".into()), ("execDuration", "4".into())],
            },
            Command::AnswerExit(3),
        ]
    );
}

#[test]
fn auto_remove_answers_waits_before_it_dismantles() {
    let (_, commands) = walk(
        life(RestartPolicy::No, true),
        vec![(START, 1), (Input::Launched { pid: 7 }, 1), (end(0), 1)],
    );
    let answered = commands
        .iter()
        .position(|c| *c == Command::AnswerExit(0))
        .unwrap();
    let gone = commands
        .iter()
        .position(|c| *c == Command::Dismantle { volumes: true })
        .unwrap();
    assert!(answered < gone);
}

#[test]
fn a_failed_start_stays_created_and_tells_why() {
    let failed = Input::LaunchFailed {
        exit_code: 127,
        message: "no such file".into(),
    };
    let (life, _) = walk(
        life(RestartPolicy::Always, false),
        vec![(START, 1), (failed, 1)],
    );
    assert_eq!(
        life.state,
        ContainerState::Created {
            failure: Some(StartFailure {
                exit_code: 127,
                message: "no such file".into()
            })
        }
    );
}

#[test]
fn the_back_off_doubles_and_a_proven_run_resets_it() {
    let mut life = life(RestartPolicy::Always, false);
    let mut delays = Vec::new();
    for (round, ran) in [(0, 0), (1, 0), (2, 0), (3, 11)] {
        let input = Input::Start {
            by_policy: round > 0,
        };
        let commands;
        (life, _) = step(&life, input, at(100 * round)).unwrap();
        (life, _) = step(&life, Input::Launched { pid: 1 }, at(100 * round)).unwrap();
        (life, commands) = step(&life, end(1), at(100 * round + ran)).unwrap();
        for command in commands {
            if let Command::RestartAfter(delay) = command {
                delays.push(delay.as_millis());
            }
        }
    }
    assert_eq!(delays, [100, 200, 400, 100]);
    assert_eq!(life.restart_count, 4);
    assert_eq!(life.state.status(), "restarting");
}

#[test]
fn a_stopped_container_is_not_restarted() {
    let (life, commands) = walk(
        life(RestartPolicy::Always, false),
        vec![
            (START, 1),
            (Input::Launched { pid: 7 }, 1),
            (Input::StopAsked, 2),
            (end(137), 2),
        ],
    );
    assert!(life.manually_stopped);
    assert!(
        !commands
            .iter()
            .any(|c| matches!(c, Command::RestartAfter(_)))
    );
}

#[test]
fn a_stop_between_two_runs_ends_the_restarting() {
    let (between, _) = walk(
        life(RestartPolicy::Always, false),
        vec![(START, 1), (Input::Launched { pid: 7 }, 1), (end(3), 2)],
    );
    for (input, refusal) in [
        (START, Refusal::AlreadySo),
        (Input::Remove { volumes: true }, Refusal::Restarting),
        (Input::Paused, Refusal::Restarting),
    ] {
        assert_eq!(step(&between, input, at(2)).unwrap_err(), refusal);
    }
    let (life, commands) = step(&between, Input::StopAsked, at(2)).unwrap();
    assert_eq!(life.state.status(), "exited");
    assert_eq!(
        commands,
        [
            Command::CancelRestart,
            Command::Persist,
            Command::AnswerExit(3)
        ]
    );
}

#[test]
fn an_end_for_being_unhealthy_is_a_failure_whatever_the_code() {
    let policy = RestartPolicy::OnFailure { maximum_retries: 1 };
    let run = |inputs| walk(life(policy, false), inputs).0.state.status();
    let up = || vec![(START, 1), (Input::Launched { pid: 7 }, 1)];
    let with = |more: Vec<(Input, i64)>| up().into_iter().chain(more).collect();
    assert_eq!(run(with(vec![(end(0), 2)])), "exited");
    assert_eq!(
        run(with(vec![(Input::Condemned, 2), (end(0), 2)])),
        "restarting"
    );
    // A person's word outweighs it.
    let stopped = vec![(Input::Condemned, 2), (Input::StopAsked, 2), (end(0), 2)];
    assert_eq!(run(with(stopped)), "exited");
}

#[test]
fn an_oom_kill_is_told_once() {
    let told = |early: bool| {
        let mut inputs = vec![(START, 1), (Input::Launched { pid: 7 }, 1)];
        inputs.extend(early.then_some((Input::OomKilled, 2)));
        let (life, _) = walk(life(RestartPolicy::No, false), inputs);
        let killed = Input::Exited {
            exit_code: 137,
            oom_killed: true,
            error: String::new(),
        };
        let (life, commands) = step(&life, killed, at(3)).unwrap();
        let ContainerState::Exited(exited) = life.state else {
            panic!("it ended");
        };
        assert!(exited.oom_killed);
        commands.first() == Some(&emit("oom"))
    };
    assert!(told(false));
    assert!(!told(true));
}

#[test]
fn a_restart_keeps_what_removes_itself() {
    let (life, commands) = walk(
        life(RestartPolicy::No, true),
        vec![
            (START, 1),
            (Input::Launched { pid: 7 }, 1),
            (Input::RestartAsked, 2),
            (Input::StopAsked, 2),
            (end(0), 2),
        ],
    );
    assert_eq!(life.state.status(), "exited");
    assert!(!commands.contains(&Command::Dismantle { volumes: true }));
    let (life, commands) = walk(
        life,
        vec![(START, 3), (Input::Launched { pid: 8 }, 3), (end(0), 4)],
    );
    assert_eq!(life.state, ContainerState::Removing);
    assert!(commands.contains(&Command::Dismantle { volumes: true }));
}

#[test]
fn a_removal_that_was_refused_leaves_no_wish_behind() {
    let starts = vec![(START, 1), (Input::Launched { pid: 7 }, 1)];
    let (life, _) = walk(life(RestartPolicy::No, false), starts);
    let refused = step(&life, Input::Remove { volumes: true }, at(2));
    assert_eq!(refused.unwrap_err(), Refusal::Running);
    // It ends and stays, and one that is removed then says anew what goes with it.
    let (life, commands) = walk(life, vec![(end(0), 3)]);
    assert_eq!(life.state.status(), "exited");
    assert!(!commands.contains(&Command::Dismantle { volumes: true }));
    let (_, commands) = walk(life, vec![(Input::Remove { volumes: false }, 4)]);
    assert!(commands.contains(&Command::Dismantle { volumes: false }));
}

#[test]
fn the_back_off_goes_on_where_an_earlier_engine_was() {
    let backoff = |count| {
        let state = ContainerState::Created { failure: None };
        Life::new(state, RestartPolicy::Always, false, false, count).backoff
    };
    assert_eq!(backoff(0).as_millis(), 100);
    assert_eq!(backoff(3).as_millis(), 800);
    assert_eq!(backoff(900).as_secs(), 60);
}

#[test]
fn on_failure_counts() {
    let mut life = life(RestartPolicy::OnFailure { maximum_retries: 1 }, false);
    let mut restarts = 0;
    for round in 0..3 {
        let Ok((next, _)) = step(
            &life,
            Input::Start {
                by_policy: round > 0,
            },
            at(1),
        ) else {
            break;
        };
        let (next, _) = step(&next, Input::Launched { pid: 1 }, at(1)).unwrap();
        let (next, commands) = step(&next, end(1), at(1)).unwrap();
        life = next;
        if !commands
            .iter()
            .any(|c| matches!(c, Command::RestartAfter(_)))
        {
            break;
        }
        restarts += 1;
    }
    assert_eq!(restarts, 1);
}

fn inputs() -> impl Strategy<Value = Input> {
    prop_oneof![
        any::<bool>().prop_map(|by_policy| Input::Start { by_policy }),
        Just(Input::Launched { pid: 9 }),
        Just(Input::LaunchFailed {
            exit_code: 126,
            message: "x".into()
        }),
        Just(Input::StopAsked),
        Just(Input::RestartAsked),
        Just(Input::Condemned),
        Just(Input::OomKilled),
        (0..256).prop_map(end),
        Just(Input::Paused),
        Just(Input::Unpaused),
        any::<bool>().prop_map(|volumes| Input::Remove { volumes }),
    ]
}

fn phase(state: &ContainerState) -> &'static str {
    match state {
        ContainerState::Created { .. } => "created",
        ContainerState::Starting => "starting",
        ContainerState::Running(_) => "running",
        ContainerState::Restarting(_) => "restarting",
        ContainerState::Exited(_) => "exited",
        ContainerState::Removing => "removing",
    }
}

/// The arrows of ARCHITECTURE.md's drawing of a container's life.
const ARROWS: [(&str, &str); 13] = [
    ("created", "starting"),
    ("created", "removing"),
    ("starting", "created"),
    ("starting", "running"),
    ("starting", "exited"),
    ("starting", "removing"),
    ("running", "exited"),
    ("running", "restarting"),
    ("running", "removing"),
    ("restarting", "starting"),
    ("restarting", "exited"),
    ("exited", "starting"),
    ("exited", "removing"),
];

proptest! {
    /// Whatever happens, whatever the clock says: a life goes along the arrows, a launch is released exactly once, nothing
    /// follows a dismantling, a pid is shown only while a process runs, every end is told once, and restarts wait for
    /// their turn.
    #[test]
    fn no_command_leaks(
        inputs in proptest::collection::vec((inputs(), any::<i32>()), 0..60),
        auto_remove: bool,
        policy in 0..4,
    ) {
        let policy = match policy {
            0 => RestartPolicy::No,
            1 => RestartPolicy::Always,
            2 => RestartPolicy::UnlessStopped,
            _ => RestartPolicy::OnFailure { maximum_retries: 2 },
        };
        let mut life = life(policy, auto_remove);
        let (mut held, mut gone) = (0, false);
        for (input, second) in inputs {
            let ended = matches!(input, Input::Exited { .. });
            let Ok((next, commands)) = step(&life, input, at(second.into())) else { continue };
            let arrow = (phase(&life.state), phase(&next.state));
            prop_assert!(arrow.0 == arrow.1 || ARROWS.contains(&arrow), "{:?}", arrow);
            let dies = commands.iter().filter(|c| matches!(c, Command::Emit { action: "die", .. }));
            prop_assert_eq!(dies.count(), usize::from(ended));
            prop_assert!(!gone, "a step after the end");
            for command in &commands {
                match command {
                    Command::Launch => held += 1,
                    Command::Release => held -= 1,
                    Command::Dismantle { .. } => gone = true,
                    Command::RestartAfter(delay) => {
                        prop_assert_eq!(phase(&next.state), "restarting");
                        prop_assert!((FIRST_BACKOFF..=LAST_BACKOFF).contains(delay));
                    }
                    _ => {}
                }
                prop_assert!((0..=1).contains(&held));
            }
            let holds = matches!(next.state, ContainerState::Starting | ContainerState::Running(_));
            prop_assert_eq!(held == 1, holds);
            prop_assert_eq!(gone, next.state == ContainerState::Removing);
            life = next;
        }
    }
}
