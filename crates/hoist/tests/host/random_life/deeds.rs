//! The calls: some waited for and judged at once, others left open while the next thing happens.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::{Asked, Open, Run};

/// What can be asked of a container: method, path below it, body, how the answer comes.
type Deed = (&'static str, &'static str, Option<&'static str>, Asked);

const DEEDS: &[Deed] = &[
    ("POST", "/start", None, Asked::Deed),
    ("POST", "/start", None, Asked::Deed),
    ("POST", "/start", None, Asked::Deed),
    ("POST", "/start", None, Asked::Deed),
    ("POST", "/stop?t=1", None, Asked::Deed),
    ("POST", "/stop", None, Asked::Deed),
    ("POST", "/kill", None, Asked::Deed),
    ("POST", "/kill?signal=TERM", None, Asked::Deed),
    ("POST", "/pause", None, Asked::Deed),
    ("POST", "/unpause", None, Asked::Deed),
    ("POST", "/restart?t=1", None, Asked::Deed),
    ("POST", "/rename?name=NEW", None, Asked::Deed),
    (
        "POST",
        "/update",
        Some(r#"{"Memory":67108864,"MemorySwap":67108864}"#),
        Asked::Deed,
    ),
    ("GET", "/json", None, Asked::Deed),
    ("GET", "/top", None, Asked::Deed),
    ("GET", "/stats?stream=0&one-shot=1", None, Asked::Deed),
    ("GET", "/logs?stdout=1&stderr=1", None, Asked::Deed),
    ("EXEC", "", None, Asked::Deed),
    ("EXEC", "", None, Asked::Deed),
    ("DELETE", "?v=1", None, Asked::Removal),
    ("DELETE", "?v=1&force=1", None, Asked::Removal),
    ("POST", "/wait", None, Asked::Wait),
    ("POST", "/wait?condition=next-exit", None, Asked::Wait),
    ("POST", "/wait?condition=removed", None, Asked::Wait),
    (
        "POST",
        "/attach?stream=1&stdout=1&stderr=1",
        None,
        Asked::Stream,
    ),
    ("GET", "/logs?stdout=1&follow=1", None, Asked::Stream),
];

impl Run<'_> {
    /// Asks something of some container.
    pub(super) fn deed(&mut self) {
        let present: Vec<usize> = self.present().collect();
        let of = self.chance.pick(&present);
        let (method, path, body, asked) = self.chance.pick(DEEDS);
        let path = path.replace("NEW", &format!("renamed{}-{}", of, self.trace.len()));
        let what = format!("{method} {} {path}", self.subjects[of].name);
        let left_open = matches!(asked, Asked::Wait | Asked::Stream) || self.chance.once_in(2);
        let (socket, id) = (self.socket(), self.subjects[of].id.clone());
        let ask = move || match method {
            "EXEC" => exec(&socket, &id),
            _ => {
                let target = format!("/containers/{id}{path}");
                hoist_testkit::exchange(&socket, method, &target, body).ok()
            }
        };
        self.subjects[of].may_vanish |= asked == Asked::Removal;
        let alone = !self.open.iter().any(|open| open.of == of);
        let answer = std::thread::spawn(ask);
        let open = Open {
            what,
            of,
            answer,
            asked,
        };
        if left_open {
            self.note(format!("open: {}", open.what));
            self.open.push(open);
            let wait = self.chance.below(20) as u64;
            std::thread::sleep(Duration::from_millis(wait));
        } else {
            let what = open.what.clone();
            let status = self.close(open);
            self.note(format!("{what}: {status:?}"));
            if let (Some(status), true) = (status, alone) {
                self.judge(of, &what, status);
            }
        }
    }

    /// Takes the answer; it must not be one of ours that something broke.
    pub(super) fn close(&mut self, open: Open) -> Option<u16> {
        let answer = open.answer.join().expect("asking does not fail");
        let Some((status, body)) = answer else {
            // Whether it was carried out shows later.
            self.subjects[open.of].disturbed = true;
            return None;
        };
        let broken = status >= 500 && self.is_unexpected(&body);
        assert!(!broken, "{}: {status} {body}", open.what);
        match open.asked {
            Asked::Removal if status == 204 => self.subjects[open.of].removed = true,
            Asked::Wait if status == 200 => {
                if let Ok(outcome) = serde_json::from_str::<Value>(&body)
                    && outcome["Error"].is_null()
                    && let Some(code) = outcome["StatusCode"].as_i64()
                {
                    // Of a start that failed it is told, too.
                    let fine = code == 0
                        || code == 128
                        || self.subjects[open.of].wrong_end(code).is_none();
                    assert!(fine, "{}: {body}", open.what);
                }
            }
            _ => {}
        }
        Some(status)
    }

    /// A fault of ours explains some failures: the processes a call needed were killed under it.
    fn is_unexpected(&self, body: &str) -> bool {
        let explained = [
            "no such program",
            "no such file or directory",
            "the monitor ended before",
            "the runtime ended before",
            "no such process",
            "broken pipe",
            "connection reset",
        ];
        let said = body.to_lowercase();
        !explained.iter().any(|words| said.contains(words))
    }

    /// What an answered call that nothing else disturbed must have brought about.
    fn judge(&mut self, of: usize, what: &str, status: u16) {
        let subject = self.subjects[of].clone();
        if status != 204 || subject.disturbed {
            return;
        }
        let seen = self.inspect(of);
        let deed = what.split(' ').nth(2).unwrap_or_default();
        let state = |key: &str| seen.as_ref().map(|seen| seen["State"][key].clone());
        let running = state("Running").is_some_and(|value| value == true);
        let paused = state("Paused").is_some_and(|value| value == true);
        let fine = match deed {
            "/start" | "/restart?t=1" if subject.program.stays() => running,
            "/stop?t=1" | "/stop" | "/kill" => !running,
            "/pause" if subject.program.stays() => paused && running,
            "/unpause" if subject.program.stays() => !paused && running,
            "?v=1" | "?v=1&force=1" => seen.is_none(),
            _ if deed.starts_with("/rename") => {
                let name = deed.rsplit_once('=').map(|(_, name)| format!("/{name}"));
                seen.as_ref()
                    .is_none_or(|seen| seen["Name"].as_str() == name.as_deref())
            }
            _ => true,
        };
        assert!(fine, "after {what}: {}", seen.unwrap_or_default()["State"]);
    }
}

/// Runs something in a container and waits for its end: the status of the start and what it wrote.
fn exec(socket: &Path, id: &str) -> Option<(u16, String)> {
    let body = r#"{"AttachStdout":true,"Cmd":["sh","-c","echo inside; exit 5"]}"#;
    let target = format!("/containers/{id}/exec");
    let (status, answer) = hoist_testkit::exchange(socket, "POST", &target, Some(body)).ok()?;
    if status != 201 {
        return Some((status, answer));
    }
    let answer: Value = serde_json::from_str(&answer).ok()?;
    let exec = answer["Id"].as_str()?;
    let mut stream = UnixStream::connect(socket).ok()?;
    // One in a container that is frozen has to wait.
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let body = r#"{"Detach":false,"Tty":false}"#;
    write!(
        stream,
        "POST /exec/{exec}/start HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .ok()?;
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let status = reply.split(' ').nth(1)?.parse().ok()?;
    Some((status, reply))
}
