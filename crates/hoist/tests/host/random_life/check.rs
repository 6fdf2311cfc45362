//! What must hold once the engine has come to rest.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::kernel::Held;
use super::subject::{LINES, Program};
use super::{Asked, Run};

/// How long the engine may take to see what happened, and to give back what it took.
const REST: Duration = Duration::from_secs(60);
/// The longest a call may take, whatever happens meanwhile.
const ANSWER: Duration = Duration::from_secs(60);

impl Run<'_> {
    /// Lets everything come to its end that does so by itself, and looks at all there is.
    pub(super) fn settle(&mut self) {
        if !self.alive {
            self.revive();
        }
        self.note("settle");
        for place in self.present().collect::<Vec<_>>() {
            let target = format!("/containers/{}/unpause", self.subjects[place].id);
            self.call("POST", &target, None);
        }
        self.close_all(&[Asked::Deed, Asked::Removal]);
        self.until("the engine tells the truth", Self::lies);
        for place in self.present().collect::<Vec<_>>() {
            self.check_log(place);
        }
        for subject in &mut self.subjects {
            subject.just_now = false;
            subject.disturbed = false;
        }
    }

    /// Removes everything, and looks for what is left.
    pub(super) fn clear(&mut self) {
        self.note("clear");
        for place in 0..self.subjects.len() {
            self.subjects[place].may_vanish = true;
            let target = format!("/containers/{}?force=1&v=1", self.subjects[place].id);
            let (status, answer) = self.call("DELETE", &target, None);
            let fine = matches!(status, 204 | 404) || answer.contains("already in progress");
            assert!(fine, "remove {}: {answer}", self.subjects[place].name);
        }
        self.close_all(&[Asked::Wait, Asked::Stream]);
        self.until("everything is gone", Self::leaks);
        for place in 0..self.subjects.len() {
            let wrong = self.wrong_events(place, None);
            assert_eq!(wrong, None, "{}", self.events(place).join(" "));
            let all = self.all_events(place);
            assert_eq!(wrong_order(&all), None, "{all:?}");
        }
    }

    #[track_caller]
    fn until(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Vec<String>) {
        let end = Instant::now() + REST;
        loop {
            let wrong = look(self);
            if wrong.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "never: {what}\n{}", wrong.join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn close_all(&mut self, kinds: &[Asked]) {
        let (closing, rest) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|open| kinds.contains(&open.asked));
        self.open = rest;
        let closing: Vec<super::Open> = closing;
        let end = Instant::now() + ANSWER;
        for open in closing {
            while !open.answer.is_finished() {
                assert!(Instant::now() < end, "never answered: {}", open.what);
                std::thread::sleep(Duration::from_millis(5));
            }
            let what = open.what.clone();
            let status = self.close(open);
            self.note(format!("closed: {what}: {status:?}"));
        }
    }

    /// States that are not so, processes that are nobody's, ends that were not told.
    fn lies(&mut self) -> Vec<String> {
        let mut wrong = Vec::new();
        for place in self.present().collect::<Vec<_>>() {
            let subject = self.subjects[place].clone();
            let Some(seen) = self.inspect(place) else {
                if subject.may_vanish {
                    self.subjects[place].removed = true;
                } else {
                    wrong.push(format!("{} vanished", subject.name));
                }
                continue;
            };
            let state = &seen["State"];
            let (status, pid) = (&state["Status"], state["Pid"].as_u64().unwrap_or_default());
            let running = runs(state);
            let inside: Vec<u32> = inside(&self.mark())
                .into_iter()
                .filter_map(|(pid, name)| (name == subject.name).then_some(pid))
                .collect();
            let lives = fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| !stat.contains(") Z "));
            if running != (pid != 0) || running && !lives {
                wrong.push(format!("{}: {status} with the process {pid}", subject.name));
            }
            if !running && !inside.is_empty() {
                wrong.push(format!("{}: {status}, yet {inside:?} run", subject.name));
            }
            if running && inside.is_empty() && subject.program.stays() {
                wrong.push(format!("{}: {status}, and nothing runs", subject.name));
            }
            let ended_by_itself = !subject.program.stays() && !subject.always;
            if ended_by_itself && (running || *status == "restarting") {
                wrong.push(format!("{}: still {status}", subject.name));
            }
            // A start that a fault broke is told in the place of an end.
            if *status == "exited" && !failed_to_start(state) {
                wrong.extend(subject.wrong_end(state["ExitCode"].as_i64().unwrap_or(-1)));
                let unknown = state["ExitCode"] == 255;
                if unknown == state["Error"].as_str().is_none_or(str::is_empty) {
                    wrong.push(format!("{}: {state}", subject.name));
                }
            }
            let restarts = seen["RestartCount"].as_i64().unwrap_or(-1);
            if subject.retries.is_some_and(|retries| restarts > retries) {
                wrong.push(format!("{}: {restarts} restarts", subject.name));
            }
            // One that is started over and over moves on between two looks.
            let again = self.inspect(place);
            let moved = again.is_none_or(|again| {
                again["RestartCount"] != seen["RestartCount"]
                    || again["State"]["Status"] != seen["State"]["Status"]
            });
            let told = self.wrong_events(place, Some(state));
            if let (Some(told), false) = (told, moved && subject.always) {
                wrong.push(format!(
                    "{}: {told}: {}",
                    subject.name,
                    self.events(place).join(" ")
                ));
            }
        }
        wrong
    }

    /// The actions told of a container, oldest first, ends with their code; those of execs and health checks apart.
    fn events(&self, place: usize) -> Vec<String> {
        let told = self.all_events(place).into_iter().map(|(action, _)| action);
        told.filter(|action| !action.starts_with("exec_") && !action.starts_with("health"))
            .collect()
    }

    /// All of them, with the exec that one is about.
    fn all_events(&self, place: usize) -> Vec<(String, String)> {
        let filter = format!(
            r#"{{"type":["container"],"container":["{}"]}}"#,
            self.subjects[place].id
        );
        let filter: String = filter.bytes().map(|byte| format!("%{byte:02x}")).collect();

        let target = format!("/events?since=1&until={}&filters={filter}", now());
        let (status, body) = self.call("GET", &target, None);
        assert_eq!(status, 200, "{body}");
        let told = body.lines().map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let action = event["Action"].as_str().unwrap_or_default();
            let attributes = &event["Actor"]["Attributes"];
            let exec = attributes["execID"].as_str().unwrap_or_default().to_owned();
            match attributes["exitCode"].as_str() {
                Some(code) if action == "die" => (format!("die={code}"), exec),
                _ => (action.to_owned(), exec),
            }
        });
        told.collect()
    }

    /// What is wrong with the events of a container: of one that is there, by its state; else of one that is gone.
    fn wrong_events(&self, place: usize, state: Option<&Value>) -> Option<String> {
        let subject = &self.subjects[place];
        let (mut running, mut gone, mut last) = (false, false, None);
        for (number, action) in self.events(place).iter().enumerate() {
            if gone {
                return Some(format!("{action} after destroy"));
            }
            match action.as_str() {
                "create" if number == 0 => {}
                _ if number == 0 => return Some(format!("{action} before create")),
                "start" if running => return Some("start while it runs".to_owned()),
                "start" => running = true,
                "stop" | "destroy" if running => return Some(format!("{action} before die")),
                "destroy" => gone = true,
                die if die.starts_with("die=") => {
                    if !running {
                        return Some("die of what does not run".to_owned());
                    }
                    running = false;
                    let code = die[4..].parse().unwrap_or(-1);
                    last = Some(code);
                    if let Some(wrong) = subject.wrong_end(code) {
                        return Some(wrong);
                    }
                }
                "oom" | "pause" | "unpause" if !running => {
                    return Some(format!("{action} of what does not run"));
                }
                _ => {}
            }
        }
        let Some(state) = state else {
            return (!gone).then(|| "no destroy".to_owned());
        };
        if gone || running != runs(state) {
            return Some(format!("yet it is {}", state["Status"]));
        }
        let code = state["ExitCode"].as_i64();
        let ended = state["Status"] == "exited" && !failed_to_start(state);
        (ended && last != code).then(|| format!("yet it ended with {code:?}"))
    }

    /// Of every run that ended by itself all lines are there, and of the others the first ones, in order.
    fn check_log(&self, place: usize) {
        let subject = &self.subjects[place];
        if subject.program != Program::Talker || subject.monitor_killed {
            return;
        }
        // Counted before the log is read: a policy may have it run again meanwhile, and what an end tells of is in the log by then.
        let by_itself = self
            .events(place)
            .iter()
            .filter(|action| *action == "die=3")
            .count();
        let target = format!("/containers/{}/logs?stdout=1", subject.id);
        let (status, body) = self.call("GET", &target, None);
        if status != 200 {
            return;
        }
        let numbers: Vec<usize> = body
            .split("line ")
            .skip(1)
            .map(|rest| {
                rest.split(' ')
                    .next()
                    .and_then(|number| number.parse().ok())
                    .unwrap_or(LINES)
            })
            .collect();
        let mut complete = 0;
        for (place, number) in numbers.iter().enumerate() {
            let follows = place == 0 || *number == 0 || *number == numbers[place - 1] + 1;
            assert!(
                follows,
                "{}: line {number} out of order in {numbers:?}",
                subject.name
            );
            complete += usize::from(*number == LINES - 1);
        }
        assert!(
            complete >= by_itself,
            "{}: {complete} whole outputs of {by_itself} runs",
            subject.name
        );
    }

    /// What is left of containers that are gone.
    fn leaks(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        let (_, listed) = self.call("GET", "/containers/json?all=1", None);
        if listed.trim() != "[]" {
            left.push(format!("listed: {listed}"));
        }
        for (pid, name) in inside(&self.mark()) {
            left.push(format!("process {pid} of {name}"));
        }
        let (_, volumes) = self.call("GET", "/volumes", None);
        if volumes.contains("\"Name\"") {
            left.push(format!("volumes: {volumes}"));
        }
        let directory = self.world.daemon.directory().to_owned();
        let ids: Vec<&str> = self.subjects.iter().map(|subject| &*subject.id).collect();
        named_for(&directory, 5, &ids, &mut left);
        named_for(Path::new("/sys/fs/cgroup"), 5, &ids, &mut left);
        for pid in self.world.daemon.processes() {
            let name = name_of(pid).unwrap_or_default();
            if name == "hoist-monitor" {
                left.push(format!("monitor {pid}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mark = directory.display().to_string();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&mark))
                .map(str::to_owned),
        );
        left.extend(Held::now(&self.world.daemon).beyond(self.rest));
        let open = descriptors(self.world.daemon.pid());
        if open > self.descriptors + 16 {
            left.push(format!("{open} descriptors, {} before", self.descriptors));
        }
        left
    }
}

/// What is out of order among the events of execs and health checks: an exec is made, starts and ends, each once and only while
/// the container runs; a verdict on health is told of what runs.
fn wrong_order(told: &[(String, String)]) -> Option<String> {
    let mut running = false;
    let mut stages: HashMap<&str, u8> = HashMap::new();
    let mut health = None;
    for (action, exec) in told {
        let kind = action.split([':', '=']).next().unwrap_or_default();
        match kind {
            "start" => {
                running = true;
                health = None;
            }
            "die" => running = false,
            // What is not probed is no more known to be healthy, of which nothing is told: the next verdict is news, as in Docker.
            "pause" => health = None,
            "exec_create" | "exec_start" | "exec_die" => {
                let stage = match kind {
                    "exec_create" => 1,
                    "exec_start" => 2,
                    _ => 3,
                };
                let before = stages.insert(exec, stage).unwrap_or_default();
                // The end of one that was started may be told after the container's.
                let late = stage == 3;
                if exec.is_empty() || before + 1 != stage || !running && !late {
                    return Some(format!("{action} of {exec} after stage {before}"));
                }
            }
            "health_status" => {
                if !running || health == Some(action) {
                    return Some(format!("{action} after {health:?}, running: {running}"));
                }
                health = Some(action);
            }
            _ => {}
        }
    }
    None
}

/// Whether there is a process; Docker says `Running` of one between two runs, too.
fn runs(state: &Value) -> bool {
    state["Running"] == true && state["Restarting"] != true
}

fn failed_to_start(state: &Value) -> bool {
    let said = state["Error"].as_str().unwrap_or_default();
    said.starts_with("failed to create task for container")
}

/// Entries below a directory whose name holds one of these.
fn named_for(directory: &Path, depth: usize, ids: &[&str], found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if ids.iter().any(|id| name.contains(id)) {
            found.push(entry.path().display().to_string());
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            named_for(&entry.path(), depth - 1, ids, found);
        }
    }
}

/// Processes in containers of a run, by their environment, and whose they are.
pub(super) fn inside(mark: &str) -> Vec<(u32, String)> {
    let needle = format!("HOIST_RANDOM={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let words: Vec<&[u8]> = environment.split(|byte| *byte == 0).collect();
        if !words.contains(&needle.as_bytes()) {
            continue;
        }
        let name = words.iter().find_map(|word| word.strip_prefix(b"SUBJECT="));
        let name = String::from_utf8_lossy(name.unwrap_or_default()).into_owned();
        found.push((pid, name));
    }
    found
}

/// A process' name; `None` of one that is gone.
pub(super) fn name_of(pid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim().to_owned())
}

/// Open descriptors of a process.
pub(super) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Whether the kernel tells the end of a process to all who hold its descriptor (6.15).
pub(super) fn kernel_tells_ends() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|word| word.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(15))
}

/// Seconds and nanoseconds since 1970, as the API takes them.
fn now() -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
}
