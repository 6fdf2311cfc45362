//! Scopes of systemd's: groups of processes that it makes, leaves alone ("delegates") and removes when they are empty.
//!
//! One call, `StartTransientUnit` (org.freedesktop.systemd1(5)), over the socket that systemd itself keeps for root,
//! `/run/systemd/private`: no bus daemon has to run, and no helper program. A D-Bus library would bring an executor and some
//! sixty crates (zbus) or a C library that a static binary cannot have (dbus); what one call needs of the protocol is
//! [`wire`].
//!
//! Blocking, with a deadline for each step; some milliseconds a call.

mod wire;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use self::wire::{Message, Method, Reader, Writer};

/// Where systemd listens for root.
const SOCKET: &str = "/run/systemd/private";
/// There where systemd is the machine's first process (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// How long systemd may take; it is busy at boot.
const PATIENCE: Duration = Duration::from_secs(20);
/// The unit that stops containers before the machine goes down; scopes stay until it has.
const BEFORE: &str = "hoist-shutdown.service";

const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

/// Why there is no scope.
#[derive(Debug, thiserror::Error)]
pub enum ScopeError {
    /// One of that name is there, or is about to go.
    #[error("scope {0} exists already")]
    Exists(String),
    /// systemd refused.
    #[error("systemd refuses scope {name}: {message}")]
    Refused {
        /// The scope.
        name: String,
        /// In systemd's words.
        message: String,
    },
    /// systemd does not answer, or in another tongue.
    #[error("ask systemd for scope {name}")]
    Io {
        /// The scope.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ScopeError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self {
            Self::Exists(_) => hoist_model::ErrorClass::Conflict,
            Self::Refused { .. } => hoist_model::ErrorClass::InvalidArgument,
            Self::Io { .. } => hoist_model::ErrorClass::Unavailable,
        }
    }
}

/// A scope to be.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// `something.scope`.
    pub name: &'a str,
    /// The slice it lies in, `system.slice`.
    pub slice: &'a str,
    /// One line for people.
    pub description: &'a str,
    /// The process that is put in; an empty scope would be gone at once.
    pub process: u32,
}

/// Whether systemd runs this machine, and can be asked.
#[must_use]
pub fn is_running() -> bool {
    Path::new(BOOTED).is_dir() && Path::new(SOCKET).exists()
}

/// The path of a slice's control group from a hierarchy's root: each dash is a step down (systemd.slice(5)).
/// `None` for what names no slice.
#[must_use]
pub fn slice_path(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || ":_.\\@".contains(c);
    let mut path = String::new();
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() || !part.chars().all(plain) || part.contains("..") {
            return None;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name += part;
        path += &format!("/{name}.slice");
    }
    Some(path)
}

/// Makes a scope and waits until it is there. systemd removes it when its last process is gone.
///
/// # Errors
/// See [`ScopeError`].
pub fn start_scope(scope: &Scope<'_>) -> Result<(), ScopeError> {
    let failed = |source| ScopeError::Io {
        name: scope.name.to_owned(),
        source,
    };
    let mut bus = Bus::connect(Path::new(SOCKET)).map_err(failed)?;
    let method = Method {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: MANAGER,
        member: "StartTransientUnit",
    };
    let reply = bus
        .call(method, "ssa(sv)a(sa(sv))", body(scope))
        .map_err(failed)?;
    if reply.kind == wire::ERROR {
        if reply.error == UNIT_EXISTS {
            return Err(ScopeError::Exists(scope.name.to_owned()));
        }
        let message = Reader::new(&reply.body).string().unwrap_or(reply.error);
        return Err(ScopeError::Refused {
            name: scope.name.to_owned(),
            message,
        });
    }
    let job = Reader::new(&reply.body).string().map_err(failed)?;
    match bus.job_result(&job).map_err(failed)?.as_str() {
        "done" => Ok(()),
        result => Err(ScopeError::Refused {
            name: scope.name.to_owned(),
            message: format!("its job ended as {result}"),
        }),
    }
}

/// `StartTransientUnit(name, mode, properties, auxiliary units)`.
fn body(scope: &Scope<'_>) -> Vec<u8> {
    fn property(all: &mut Writer, name: &str, kind: &str, value: impl FnOnce(&mut Writer)) {
        all.align(8);
        all.string(name);
        all.signature(kind);
        value(all);
    }
    let mut body = Writer::default();
    body.string(scope.name);
    body.string("fail");
    body.array(8, |all| {
        property(all, "Description", "s", |v| v.string(scope.description));
        property(all, "Slice", "s", |v| v.string(scope.slice));
        property(all, "Delegate", "b", |v| v.boolean(true));
        property(all, "Before", "as", |v| v.array(4, |v| v.string(BEFORE)));
        property(all, "PIDs", "au", |v| v.array(4, |v| v.u32(scope.process)));
        // Unloaded even after a failure, or its name would stay taken.
        property(all, "CollectMode", "s", |v| v.string("inactive-or-failed"));
    });
    body.array(8, |_| ());
    body.into_bytes()
}

/// A connection to one peer, without a bus between.
struct Bus {
    stream: UnixStream,
    serial: u32,
    /// Signals that came while an answer was awaited.
    signals: Vec<Message>,
    until: Instant,
}

impl Bus {
    /// Connects and proves who we are: the kernel says it (D-Bus specification, "EXTERNAL").
    fn connect(socket: &Path) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let user: String = rustix::process::geteuid()
            .as_raw()
            .to_string()
            .bytes()
            .map(|digit| format!("{digit:02x}"))
            .collect();
        stream.write_all(format!("\0AUTH EXTERNAL {user}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            line.push(byte[0]);
            if line.len() > 1024 {
                return Err(io::Error::other("systemd's greeting does not end"));
            }
        }
        if !line.starts_with(b"OK ") {
            let said = String::from_utf8_lossy(&line).trim().to_owned();
            return Err(io::Error::other(format!("systemd says {said:?}")));
        }
        stream.write_all(b"BEGIN\r\n")?;
        Ok(Self {
            stream,
            serial: 0,
            signals: Vec::new(),
            until: Instant::now() + PATIENCE,
        })
    }

    fn call(&mut self, method: Method<'_>, signature: &str, body: Vec<u8>) -> io::Result<Message> {
        self.serial += 1;
        let message = wire::call(self.serial, method, signature, body);
        self.stream.write_all(&message)?;
        loop {
            let message = self.receive()?;
            let answers = message.reply_to == Some(self.serial);
            match message.kind {
                wire::METHOD_RETURN | wire::ERROR if answers => return Ok(message),
                wire::SIGNAL => self.signals.push(message),
                _ => {}
            }
        }
    }

    fn receive(&mut self) -> io::Result<Message> {
        if Instant::now() > self.until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut fixed = [0; wire::FIXED];
        self.stream.read_exact(&mut fixed)?;
        let mut rest = vec![0; wire::rest_of(&fixed)?];
        self.stream.read_exact(&mut rest)?;
        wire::parse(&fixed, &rest)
    }

    /// Waits for `JobRemoved(id, job, unit, result)` of this job. On a connection of our own every signal arrives.
    fn job_result(&mut self, job: &str) -> io::Result<String> {
        let mut early = std::mem::take(&mut self.signals).into_iter();
        loop {
            let message = match early.next() {
                Some(message) => message,
                None => self.receive()?,
            };
            if message.kind != wire::SIGNAL || message.member != "JobRemoved" {
                continue;
            }
            let mut reader = Reader::new(&message.body);
            reader.u32()?;
            let of = reader.string()?;
            reader.string()?;
            let result = reader.string()?;
            if of == job {
                return Ok(result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn dashes_of_a_slice_are_steps() {
        assert_eq!(slice_path("system.slice").unwrap(), "/system.slice");
        assert_eq!(
            slice_path("a-b-c.slice").unwrap(),
            "/a.slice/a-b.slice/a-b-c.slice"
        );
        assert_eq!(slice_path("-.slice").unwrap(), "");
        for bad in [
            "system",
            "a--b.slice",
            ".slice",
            "a/b.slice",
            "/a.slice",
            "a-.slice",
            "...slice",
        ] {
            assert_eq!(slice_path(bad), None, "{bad}");
        }
    }

    /// A peer that plays systemd's part: greets, then sends these bytes after the first call.
    fn peer(directory: &Path, answers: Vec<Vec<u8>>) -> std::thread::JoinHandle<Vec<u8>> {
        let listener = UnixListener::bind(directory.join("private")).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 1024];
            let count = stream.read(&mut bytes).unwrap();
            bytes.truncate(count);
            stream.write_all(b"OK 1234\r\n").unwrap();
            let mut call = vec![0; 4096];
            // BEGIN and the call may come together or one by one.
            let mut got = 0;
            while got < 8 {
                got += stream.read(&mut call[got..]).unwrap();
            }
            for answer in answers {
                stream.write_all(&answer).unwrap();
            }
            bytes
        })
    }

    fn message(kind: u8, member: &str, reply: Option<u32>, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![b'l', kind, 0, 1];
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend(9_u32.to_le_bytes());
        let mut fields = vec![3, 1, b's', 0];
        fields.extend(u32::try_from(member.len()).unwrap().to_le_bytes());
        fields.extend(member.as_bytes());
        fields.push(0);
        if let Some(serial) = reply {
            fields.resize(fields.len().next_multiple_of(8), 0);
            fields.extend([5, 1, b'u', 0]);
            fields.extend(serial.to_le_bytes());
        }
        bytes.extend(u32::try_from(fields.len()).unwrap().to_le_bytes());
        bytes.extend(&fields);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(body);
        bytes
    }

    fn removed(job: &str, result: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.u32(1);
        body.string(job);
        body.string("x.scope");
        body.string(result);
        message(wire::SIGNAL, "JobRemoved", None, &body.into_bytes())
    }

    #[test]
    fn the_job_is_waited_for_among_the_signals_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let mut path = Writer::default();
        path.string("/job/2");
        let answers = vec![
            // The end of the job may come before the answer that names it.
            removed("/job/1", "failed"),
            removed("/job/2", "done"),
            message(wire::METHOD_RETURN, "", Some(1), &path.into_bytes()),
        ];
        let served = peer(directory.path(), answers);
        let mut bus = Bus::connect(&directory.path().join("private")).unwrap();
        let method = Method {
            destination: "d",
            path: "/p",
            interface: "i",
            member: "m",
        };
        let reply = bus.call(method, "", Vec::new()).unwrap();
        let job = Reader::new(&reply.body).string().unwrap();
        assert_eq!(bus.job_result(&job).unwrap(), "done");
        let greeting = served.join().unwrap();
        assert!(greeting.starts_with(b"\0AUTH EXTERNAL "));
    }
}
