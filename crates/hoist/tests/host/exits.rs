//! How containers end, told truly: codes, signals, out of memory, in the order in which it happened, whoever watches.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::world::{World, wait_for};

/// The actions told of a container so far, oldest first; ends with their code. Those of executions are left out.
fn told(world: &World, name: &str) -> Vec<String> {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    let until = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
    let filters = format!("%7B%22container%22%3A%5B%22{name}%22%5D%7D");
    let target = format!("/events?since=1&until={until}&filters={filters}");
    let (status, body) = world.daemon.request("GET", &target, None).unwrap();
    assert_eq!(status, 200, "{body}");
    let actions = body.lines().map(|line| {
        let event: Value = serde_json::from_str(line).unwrap();
        let action = event["Action"].as_str().unwrap_or_default();
        let attributes = &event["Actor"]["Attributes"];
        match attributes["exitCode"].as_str() {
            Some(code) if action == "die" => format!("die={code}"),
            _ => match attributes["signal"].as_str() {
                Some(signal) if action == "kill" => format!("kill={signal}"),
                _ => action.to_owned(),
            },
        }
    });
    actions
        .filter(|action| !action.starts_with("exec"))
        .collect()
}

/// What inspect says of its state.
fn state(world: &World, name: &str) -> Value {
    let target = format!("/containers/{name}/json");
    let (status, body) = world.daemon.request("GET", &target, None).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["State"].clone()
}

fn code_when_ended(world: &World, name: &str) -> i64 {
    wait_for("its end", || {
        let state = state(world, name);
        (state["Status"] == "exited").then(|| state["ExitCode"].as_i64().unwrap())
    })
}

#[test]
fn out_of_memory_is_told_once_and_before_the_end() {
    let Some(mut world) = World::start() else {
        return;
    };
    // The first process itself.
    let eat = "x=a; while :; do x=$x$x; done";
    let eater = [
        "run", "-d", "--memory", "16m", "--name", "eater", "busybox", "sh", "-c", eat,
    ];
    world.docker(&eater).ok();
    assert_eq!(code_when_ended(&world, "eater"), 137);
    assert_eq!(state(&world, "eater")["OOMKilled"], true);
    assert_eq!(told(&world, "eater"), ["create", "start", "oom", "die=137"]);

    // Another of its processes: it goes on, and ends as it likes. A new engine does not tell of it again.
    let script = format!("sh -c '{eat}'; echo child $?; sleep 0.5; read go; exit 4");
    let parent = [
        "run", "-di", "--memory", "16m", "--name", "parent", "busybox", "sh", "-c", &script,
    ];
    world.docker(&parent).ok();
    wait_for("the event", || {
        told(&world, "parent")
            .contains(&"oom".to_owned())
            .then_some(())
    });
    assert_eq!(state(&world, "parent")["Running"], true);
    for _ in 0..2 {
        world.daemon.kill();
        world.daemon.launch();
    }
    let go = format!(
        "echo go | {} attach parent",
        crate::world::binary().display()
    );
    let mut shell = world.daemon.client("sh");
    crate::world::seen(shell.args(["-c", &go]));
    assert_eq!(code_when_ended(&world, "parent"), 4);
    assert_eq!(state(&world, "parent")["OOMKilled"], true);
    assert_eq!(world.docker(&["logs", "parent"]).ok(), "child 137\n");
    let actions = told(&world, "parent");
    assert_eq!(actions, ["create", "start", "oom", "attach", "die=4"]);

    // The next run begins anew.
    world
        .docker(&["update", "--memory", "64m", "--memory-swap", "64m", "eater"])
        .ok();
    world
        .docker(&[
            "create", "--memory", "64m", "--name", "fresh", "busybox", "true",
        ])
        .ok();
    world.docker(&["start", "-a", "fresh"]).ok();
    assert_eq!(state(&world, "fresh")["OOMKilled"], false);
    world.docker(&["rm", "eater", "parent", "fresh"]).ok();
    world.finish();
}

#[test]
fn signals_end_with_their_number_whoever_sends_them() {
    let Some(world) = World::start() else {
        return;
    };
    // From within, to a process that is not the first, and so by every means the shell's code; then as `--init` passes on.
    for (signal, code) in [
        ("HUP", 129),
        ("SEGV", 139),
        ("ABRT", 134),
        ("USR1", 138),
        ("KILL", 137),
        ("TERM", 143),
    ] {
        let script = format!("kill -{signal} $$");
        let seen = world.docker(&["run", "--rm", "--init", "busybox", "sh", "-c", &script]);
        assert_eq!(seen.status, Some(code), "{signal}: {seen:?}");
    }
    // By the API, by number and by name.
    for (signal, code) in [("9", 137), ("SIGQUIT", 131), ("usr2", 140), ("35", 163)] {
        world
            .docker(&[
                "run", "-d", "--init", "--name", "one", "busybox", "sleep", "1000",
            ])
            .ok();
        // The signal has to meet the program, not what becomes it.
        wait_for("the program", || {
            let listed = world.docker(&["top", "one"]).ok();
            listed.contains("sleep 1000").then_some(())
        });
        world.docker(&["kill", "-s", signal, "one"]).ok();
        assert_eq!(code_when_ended(&world, "one"), code, "{signal}");
        world.docker(&["rm", "one"]).ok();
    }
    // By the host, behind the engine's back: to the first process.
    let id = world
        .docker(&[
            "run",
            "-d",
            "--name",
            "one",
            "--restart",
            "on-failure:1",
            "busybox",
            "sleep",
            "1000",
        ])
        .ok();
    let pid = state(&world, "one")["Pid"].as_i64().unwrap();
    let kill = |pid: i64| {
        let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    };
    kill(pid);
    // Which is a failure as any other.
    let second = wait_for("the restart", || {
        let state = state(&world, "one");
        let again = state["Running"] == true && state["Pid"] != pid && state["Pid"] != 0;
        again.then(|| state["Pid"].as_i64().unwrap())
    });
    kill(second);
    assert_eq!(code_when_ended(&world, "one"), 137);
    let seen = state(&world, "one");
    assert_eq!(
        (&seen["OOMKilled"], &seen["Error"]),
        (&false.into(), &"".into())
    );
    let actions = ["create", "start", "die=137", "start", "die=137"];
    assert_eq!(told(&world, id.trim()), actions);
    world.docker(&["rm", "one"]).ok();
    world.finish();
}

#[test]
fn events_come_in_the_order_of_what_they_tell() {
    let Some(world) = World::start() else {
        return;
    };
    let script = "trap 'exit 3' TERM; while :; do sleep 0.01; done";
    let run = |more: &[&str]| {
        let mut all = vec!["run", "-d", "--name", "one"];
        all.extend(more);
        all.extend(["busybox", "sh", "-c", script]);
        let id = world.docker(&all).ok().trim().to_owned();
        world.wait_for_term_handler("one");
        id
    };
    let id = run(&[]);
    world.docker(&["stop", "one"]).ok();
    assert_eq!(
        told(&world, &id),
        ["create", "start", "kill=15", "die=3", "stop"]
    );
    world.docker(&["start", "one"]).ok();
    world.docker(&["pause", "one"]).ok();
    world.docker(&["unpause", "one"]).ok();
    world.docker(&["kill", "one"]).ok();
    world.docker(&["rm", "one"]).ok();
    let rest = ["start", "pause", "unpause", "kill=9", "die=137", "destroy"];
    assert_eq!(told(&world, &id)[5..], rest);

    let id = run(&[]);
    world.docker(&["restart", "one"]).ok();
    world.docker(&["rm", "-f", "one"]).ok();
    let actions = told(&world, &id);
    let rest = [
        "create", "start", "kill=15", "die=3", "stop", "start", "restart", "kill=9", "die=137",
        "destroy",
    ];
    assert_eq!(actions, rest);

    let id = run(&[
        "--rm",
        "--health-cmd",
        "false",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
    ]);
    wait_for("its health", || {
        let unhealthy = "health_status: unhealthy".to_owned();
        told(&world, &id).contains(&unhealthy).then_some(())
    });
    world.docker(&["kill", "one"]).ok();
    wait_for("its removal", || {
        told(&world, &id)
            .contains(&"destroy".to_owned())
            .then_some(())
    });
    let actions = told(&world, &id);
    let rest = [
        "create",
        "start",
        "health_status: unhealthy",
        "kill=9",
        "die=137",
        "destroy",
    ];
    assert_eq!(actions, rest);
    world.finish();
}

/// A wait that the engine has taken up: it answers with the head at once, and with the body when there is something to tell.
struct Wait(UnixStream);

impl Wait {
    fn ask(world: &World, name: &str, condition: &str) -> Self {
        let mut stream = UnixStream::connect(world.daemon.socket()).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        write!(
            stream,
            "POST /containers/{name}/wait?condition={condition} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        )
        .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{head:?}");
        Self(stream)
    }

    /// What it is told, up to the end of the connection.
    fn told(mut self) -> String {
        let mut body = Vec::new();
        // Cut off, perhaps.
        let _ = self.0.read_to_end(&mut body);
        String::from_utf8_lossy(&body).into_owned()
    }
}

#[test]
fn who_waits_over_a_restart_of_the_daemon_is_told_the_truth() {
    let Some(mut world) = World::start() else {
        return;
    };
    let script = "read go; exit 6";
    for (name, more) in [
        ("stays", "--init=false"),
        ("goes", "--rm"),
        ("later", "--init"),
    ] {
        world
            .docker(&[
                "run", "-di", more, "--name", name, "busybox", "sh", "-c", script,
            ])
            .ok();
    }
    let end = |world: &World, name: &str| {
        let go = format!(
            "echo go | {} attach {name}",
            crate::world::binary().display()
        );
        let mut shell = world.daemon.client("sh");
        crate::world::seen(shell.args(["-c", &go]))
    };
    // Cut with the daemon, never answered with an end that was not.
    let cut: Vec<_> = ["not-running", "next-exit", "removed"]
        .iter()
        .map(|condition| Wait::ask(&world, "stays", condition))
        .collect();
    world.daemon.kill();
    for wait in cut {
        let said = wait.told();
        assert!(!said.contains("StatusCode"), "{said}");
    }
    world.daemon.launch();
    // Those that wait at the next are told.
    let waits: Vec<_> = [
        ("stays", "not-running"),
        ("stays", "next-exit"),
        ("goes", "removed"),
        ("later", "next-exit"),
    ]
    .map(|(name, condition)| (name, Wait::ask(&world, name, condition)))
    .into();
    for name in ["stays", "goes", "later"] {
        assert_eq!(end(&world, name).status, Some(6), "{name}");
    }
    for (name, wait) in waits {
        let told = wait.told();
        assert!(told.contains(r#"{"StatusCode":6}"#), "{name}: {told}");
    }
    // An end that no daemon saw is answered at once.
    world.docker(&["start", "stays"]).ok();
    let pid = state(&world, "stays")["Pid"].as_i64().unwrap();
    world.daemon.kill();
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    world.daemon.launch();
    let told = Wait::ask(&world, "stays", "not-running").told();
    assert!(told.contains(r#"{"StatusCode":137}"#), "{told}");
    world.docker(&["rm", "stays", "later"]).ok();
    world.finish();
}
