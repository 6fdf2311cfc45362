//! The containers of a run, and what each may and may not have done.

use serde_json::{Value, json};

use crate::chance::Chance;

/// Lines that [`Program::Talker`] writes.
pub(super) const LINES: usize = 300;

/// What a container runs; how it may end follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// Runs until it is told to end, and then ends with 7.
    Sleeper,
    /// Runs on, deaf to all but SIGKILL.
    Deaf,
    /// Ends by itself after some milliseconds, with this code.
    Brief(i64),
    /// Writes numbered lines and ends with 3.
    Talker,
    /// Ends itself with SIGKILL to a process of it that is not the first, then with 9.
    Murderer,
    /// Has a program that is not there.
    Missing,
}

impl Program {
    fn random(chance: &mut Chance) -> Self {
        match chance.below(12) {
            0..=4 => Self::Sleeper,
            5 => Self::Deaf,
            6 => Self::Brief(0),
            7 | 8 => Self::Brief(5),
            9 => Self::Talker,
            10 => Self::Murderer,
            _ => Self::Missing,
        }
    }

    fn command(self) -> Vec<String> {
        let script = match self {
            Self::Sleeper => {
                "trap 'echo told; exit 7' TERM; echo up; while :; do sleep 1000 & wait $!; done"
                    .to_owned()
            }
            Self::Deaf => return ["sleep", "1000"].map(str::to_owned).to_vec(),
            Self::Brief(code) => format!("echo up; sleep 0.0$((RANDOM % 10)); exit {code}"),
            Self::Talker => format!(
                "i=0; while [ $i -lt {LINES} ]; do echo \"line $i of many that are to come through\"; i=$((i+1)); done; exit 3"
            ),
            Self::Murderer => "sleep 1000 & kill -9 $!; wait $!; exit 9".to_owned(),
            Self::Missing => return vec!["/no/such/program".to_owned()],
        };
        vec!["sh".to_owned(), "-c".to_owned(), script]
    }

    /// Whether it runs until somebody ends it.
    pub(super) fn stays(self) -> bool {
        matches!(self, Self::Sleeper | Self::Deaf)
    }

    /// Whether a process of it may have ended with this code; SIGKILL may always come from somewhere.
    pub(super) fn may_end(self, code: i64) -> bool {
        code == 137
            || match self {
                Self::Sleeper => code == 7 || code == 143,
                Self::Deaf => code == 143,
                Self::Brief(own) => code == own || code == 143,
                Self::Talker => code == 3 || code == 143,
                Self::Murderer => code == 9 || code == 143,
                Self::Missing => code == 127,
            }
    }
}

/// A container as the test knows it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) program: Program,
    /// At most this many restarts, where its policy bounds them.
    pub(super) retries: Option<i64>,
    pub(super) always: bool,
    /// Its monitor was killed, with what it had read and not yet written.
    pub(super) monitor_killed: bool,
    /// That was since the engine last was seen to be well.
    pub(super) just_now: bool,
    /// All who watched it were killed together.
    pub(super) may_be_unknown: bool,
    /// A process of it was killed behind the engine's back, which may not know yet.
    pub(super) disturbed: bool,
    /// Whether a removal was answered with success.
    pub(super) removed: bool,
    /// Whether a removal was asked for.
    pub(super) may_vanish: bool,
}

impl Subject {
    /// Chooses a container: its name, and the body of its create.
    pub(super) fn plan(chance: &mut Chance, mark: &str, number: usize) -> (Self, Value) {
        let program = Program::random(chance);
        let auto_remove = chance.once_in(5);
        let (policy, retries) = match chance.below(5) {
            _ if auto_remove => (json!({}), Some(0)),
            0 => (json!({"Name": "always"}), None),
            1 => (
                json!({"Name": "on-failure", "MaximumRetryCount": 2}),
                Some(2),
            ),
            2 => (json!({"Name": "unless-stopped"}), None),
            _ => (json!({"Name": "no"}), Some(0)),
        };
        let name = format!("subject{number}");
        let mut body = json!({
            "Image": "busybox",
            "Cmd": program.command(),
            "Env": [format!("HOIST_RANDOM={mark}"), format!("SUBJECT={name}")],
            "HostConfig": {
                "AutoRemove": auto_remove,
                "RestartPolicy": policy,
                "NetworkMode": chance.pick(&["bridge", "bridge", "none", "host"]),
                "Init": chance.once_in(4),
            },
        });
        if chance.once_in(4) {
            body["Healthcheck"] = json!({"Test": ["CMD-SHELL", "exit $((RANDOM % 2))"],
                "Interval": 100_000_000, "Timeout": 2_000_000_000_i64, "Retries": 3});
        }
        if chance.once_in(6) {
            body["Volumes"] = json!({"/anonymous": {}});
        }
        if chance.once_in(4) {
            body["Tty"] = json!(true);
        }
        let subject = Self {
            id: String::new(),
            name,
            program,
            retries,
            always: policy["Name"] == "always" || policy["Name"] == "unless-stopped",
            monitor_killed: false,
            just_now: false,
            may_be_unknown: false,
            disturbed: false,
            removed: false,
            may_vanish: auto_remove,
        };
        (subject, body)
    }

    /// What no end of it may say.
    pub(super) fn wrong_end(&self, code: i64) -> Option<String> {
        // Without anybody to read its output it may get SIGPIPE.
        let unknown = matches!(code, 255 | 141) && self.may_be_unknown;
        (!unknown && !self.program.may_end(code)).then(|| {
            format!(
                "{} ended with {code}, which {:?} cannot",
                self.name, self.program
            )
        })
    }
}
