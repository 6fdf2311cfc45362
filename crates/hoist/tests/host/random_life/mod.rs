//! Random calls to a few containers, mixed with SIGKILL to the daemon, the zygote, monitors and containers' processes at
//! any step; then what must hold whatever happened: no lost exit, no orphan, no leak, no state that lies, events in
//! order, logs complete.
//!
//! A run follows from its seed, which is printed when it fails; the machine's timing is not part of it.
//! `HOIST_RANDOM_SECONDS` is how long to go on (20), `HOIST_RANDOM_SEED` where to begin; with `HOIST_RANDOM_SECONDS=0`
//! that seed alone is run.

mod check;
mod deeds;
mod faults;
mod kernel;
mod subject;

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kernel::Held;
use serde_json::Value;
use subject::Subject;

use crate::chance::Chance;
use crate::world::World;

/// Calls and faults of one seed.
const STEPS: usize = 30;
/// Containers there are at most at a time.
const SUBJECTS: usize = 3;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_nothing_is_lost_and_nothing_lies() {
    let Some(mut world) = World::start() else {
        return;
    };
    let seconds = setting("HOIST_RANDOM_SECONDS").unwrap_or(20);
    let first = setting("HOIST_RANDOM_SEED").unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    // A first container, so that what is made once is there.
    world.docker(&["run", "--rm", "busybox", "true"]).ok();
    let rest = Held::at_rest(&world.daemon);
    let mut seed = first;
    loop {
        let mut run = Run::new(&mut world, seed, rest);
        run.go();
        seed += 1;
        if Instant::now() >= end {
            break;
        }
    }
    world.finish();
}

/// A call that has not been answered yet: what it was, and the answer, `None` if there was none.
struct Open {
    what: String,
    /// The container, by its place among the subjects.
    of: usize,
    answer: JoinHandle<Option<(u16, String)>>,
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Answers soon.
    Deed,
    Removal,
    /// Answers at the container's end.
    Wait,
    /// Ends with the container's process or the daemon.
    Stream,
}

struct Run<'a> {
    world: &'a mut World,
    seed: u64,
    chance: Chance,
    /// What was done, to be shown when it fails.
    trace: Vec<String>,
    subjects: Vec<Subject>,
    open: Vec<Open>,
    alive: bool,
    began: Instant,
    descriptors: usize,
    /// What the kernel held for the engine before the first seed.
    rest: Held,
    /// Length of the daemon's log when it began.
    logged: usize,
}

#[expect(clippy::print_stderr, reason = "says how to have a failed run again")]
impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.world.daemon.log();
            let log = log.get(self.logged..).unwrap_or_default();
            let (seed, trace) = (self.seed, self.trace.join("\n"));
            eprintln!("HOIST_RANDOM_SEED={seed}\n{trace}\n{log}");
        }
    }
}

impl<'a> Run<'a> {
    fn new(world: &'a mut World, seed: u64, rest: Held) -> Self {
        let descriptors = check::descriptors(world.daemon.pid());
        let logged = world.daemon.log().len();
        Self {
            logged,
            world,
            seed,
            chance: Chance::new(seed),
            trace: Vec::new(),
            subjects: Vec::new(),
            open: Vec::new(),
            alive: true,
            began: Instant::now(),
            descriptors,
            rest,
        }
    }

    fn go(&mut self) {
        for step in 0..STEPS {
            if self.alive && self.present().count() < SUBJECTS {
                self.create();
            } else if self.chance.once_in(5) {
                self.fault();
            } else if self.alive {
                self.deed();
            } else {
                self.revive();
            }
            if step == STEPS / 2 {
                self.settle();
            }
        }
        self.settle();
        self.clear();
    }

    fn note(&mut self, text: impl Into<String>) {
        let at = self.began.elapsed().as_millis();
        self.trace.push(format!("{at:>6} ms  {}", text.into()));
    }

    /// The mark in the environment of all processes of this run.
    fn mark(&self) -> String {
        format!("{}-{}", self.world.daemon.directory().display(), self.seed)
    }

    fn socket(&self) -> PathBuf {
        self.world.daemon.socket()
    }

    /// Places of those that were not removed.
    fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.subjects.len()).filter(|place| !self.subjects[*place].removed)
    }

    /// A call that has to be answered.
    #[track_caller]
    fn call(&self, method: &str, target: &str, body: Option<&str>) -> (u16, String) {
        let answer = self.world.daemon.request(method, target, body);
        answer.unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// What inspect says; `None` for one that is not there.
    #[track_caller]
    fn inspect(&self, place: usize) -> Option<Value> {
        let target = format!("/containers/{}/json", self.subjects[place].id);
        match self.call("GET", &target, None) {
            (200, body) => Some(serde_json::from_str(&body).unwrap()),
            (404, _) => None,
            other => panic!("inspect {}: {other:?}", self.subjects[place].name),
        }
    }

    fn create(&mut self) {
        let number = self.subjects.len();
        let mark = self.mark();
        let (mut subject, body) = Subject::plan(&mut self.chance, &mark, number);
        let target = format!("/containers/create?name={}", subject.name);
        let body_text = body.to_string();
        let made = if self.chance.once_in(8) {
            self.create_under_fire(&target, &body_text, &subject.name)
        } else {
            let (status, answer) = self.call("POST", &target, Some(&body_text));
            assert_eq!(status, 201, "{body}: {answer}");
            Some(id_of(&answer))
        };
        let Some(id) = made else {
            return;
        };
        subject.id = id;
        self.note(format!(
            "create {} {} {:?} {}",
            subject.name,
            &subject.id[..12],
            subject.program,
            body["HostConfig"]
        ));
        self.subjects.push(subject);
    }

    /// Creates while the daemon is killed: what was answered is there, and what was not is there whole or not at all.
    fn create_under_fire(&mut self, target: &str, body: &str, name: &str) -> Option<String> {
        let (socket, target, body) = (self.socket(), target.to_owned(), body.to_owned());
        let creating = std::thread::spawn(move || {
            hoist_testkit::exchange(&socket, "POST", &target, Some(&body)).ok()
        });
        let wait = self.chance.below(6000) as u64;
        std::thread::sleep(Duration::from_micros(wait));
        self.note(format!("create {name}, and {wait} us later:"));
        self.kill_daemon();
        let answer = creating.join().expect("asking does not fail");
        self.revive();
        let (status, seen) = self.call("GET", &format!("/containers/{name}/json"), None);
        let there = (status == 200).then(|| id_of(&seen));
        if let Some((status, answer)) = answer {
            assert_eq!(status, 201, "{answer}");
            assert_eq!(there, Some(id_of(&answer)), "what was answered is lost");
        }
        self.note(format!(
            "{name} is {}",
            there.as_deref().unwrap_or("not there")
        ));
        there
    }
}

fn id_of(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["Id"].as_str().unwrap().to_owned()
}
