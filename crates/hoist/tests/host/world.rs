//! A daemon with busybox in it, and our own client.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use hoist_testkit::{ImageBuilder, TemporaryDaemon, TemporaryDirectory};
use sha2::Digest as _;

/// The longest that one command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) status: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Seen {
    /// The output of a command that has to succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.status, Some(0), "{self:?}");
        self.out
    }

    /// The complaint of a command that has to fail with this status.
    #[track_caller]
    pub(crate) fn refused(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert!(!self.err.is_empty(), "fails without a word: {self:?}");
        self.err
    }
}

pub(crate) struct World {
    pub(crate) daemon: TemporaryDaemon,
    pub(crate) files: TemporaryDirectory,
}

impl World {
    /// A daemon that holds busybox; `None`, and a skip, where the machine cannot have one.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// The same with more flags.
    pub(crate) fn start_with(flags: &[&str]) -> Option<Self> {
        let world = Self::empty(flags)?;
        world.load(&image());
        Some(world)
    }

    /// A daemon without images.
    pub(crate) fn empty(flags: &[&str]) -> Option<Self> {
        able().then(|| Self {
            daemon: TemporaryDaemon::start_with(binary(), flags),
            files: TemporaryDirectory::new("host"),
        })
    }

    /// Runs our client.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Seen {
        seen(self.daemon.client(binary()).args(arguments))
    }

    /// Loads an image.
    #[track_caller]
    pub(crate) fn load(&self, image: &ImageBuilder) {
        let seen = self.try_load(image);
        assert_eq!(seen.status, Some(0), "{seen:?}\n{}", self.daemon.log());
    }

    pub(crate) fn try_load(&self, image: &ImageBuilder) -> Seen {
        let archive = self.files.join("image.tar");
        std::fs::write(&archive, image.docker_archive()).unwrap();
        self.docker(&["load", "-q", "-i", archive.to_str().unwrap()])
    }

    /// A path in the private directory, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// A new directory there.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.files.join(name);
        std::fs::create_dir(&path).unwrap();
        path
    }

    /// Has the engine read its configuration again, and waits until it has done so.
    pub(crate) fn reload(&self) {
        let reloads = || self.daemon.log().matches("reload: done").count();
        let before = reloads();
        let pid = rustix::process::Pid::from_raw(self.daemon.pid().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
        wait_for("the reload is done", || (reloads() > before).then_some(()));
    }

    /// The last reload that was refused was so in these words.
    #[track_caller]
    pub(crate) fn refused(&self, words: &[&str]) {
        let log = self.daemon.log();
        let refused = log
            .lines()
            .rfind(|line| line.contains("nothing was changed"));
        let said = |line: &str| words.iter().all(|word| line.contains(word));
        assert!(refused.is_some_and(said), "{words:?}: {log}");
    }

    /// Waits until the first process of a container has a handler for SIGTERM (proc_pid_status(5)): what starts is running
    /// before its shell has set one.
    pub(crate) fn wait_for_term_handler(&self, name: &str) {
        let pid = self.docker(&["inspect", "-f", "{{.State.Pid}}", name]).ok();
        let status = format!("/proc/{}/status", pid.trim());
        wait_for("a handler for SIGTERM", || {
            let status = std::fs::read_to_string(&status).ok()?;
            let caught = status
                .lines()
                .find_map(|line| line.strip_prefix("SigCgt:"))?;
            let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
            (caught & (1 << 14) != 0).then_some(())
        });
    }

    /// The engine still works, and no container is left; then everything ends, without leaving anything.
    #[track_caller]
    pub(crate) fn finish(self) {
        let alive = self.docker(&["run", "--rm", "busybox", "echo", "alive"]);
        assert_eq!(alive.ok(), "alive\n");
        let left = self.daemon.finish();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

/// What the names of an engine have in them: the beginning of a digest of its data root (ARCHITECTURE §8).
pub(crate) fn tag(daemon: &TemporaryDaemon) -> String {
    let root = daemon.directory().join("data").canonicalize().unwrap();
    let digest = sha2::Sha256::digest(root.as_os_str().as_encoded_bytes());
    format!("{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2])
}

/// How many links an engine has: its bridge, and the veths of the namespaces that are ready.
pub(crate) fn links(daemon: &TemporaryDaemon) -> usize {
    let tag = tag(daemon);
    let links = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    links
        .flatten()
        .filter(|link| link.file_name().to_string_lossy().contains(&tag))
        .count()
}

/// Links of an engine without containers, once it has made ready what it keeps ready: a bridge and the pool
/// (`hoist_net::Settings`, `pool_size`).
const LINKS_AT_REST: usize = 1 + 8;
/// How long nothing may change until it is called rest.
const STILL: Duration = Duration::from_millis(600);

/// Counts something of an engine's until it has made ready what it keeps ready, on a busy machine perhaps much later than it
/// answers, and the count no longer changes.
pub(crate) fn at_rest<T: PartialEq>(daemon: &TemporaryDaemon, count: impl Fn() -> T) -> T {
    wait_for("the pool is full", || {
        (links(daemon) >= LINKS_AT_REST).then_some(())
    });
    let (mut last, mut since) = (count(), Instant::now());
    wait_for("rest", || {
        let now = count();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() >= STILL).then_some(())
    });
    last
}

/// An address of loopback that nobody else here uses: it is this process' own, and so its ports are free.
pub(crate) fn own_loopback() -> std::net::Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    std::net::Ipv4Addr::new(127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The image that every world holds.
pub(crate) fn image() -> ImageBuilder {
    ImageBuilder::busybox().expect("asked before")
}

/// The binary under test: the one built with these tests, or the one that `HOIST_BINARY` names.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let built = || env!("CARGO_BIN_EXE_hoist").into();
        std::env::var_os("HOIST_BINARY").map_or_else(built, PathBuf::from)
    })
}

/// Whether containers can be run here; says why not.
pub(crate) fn able() -> bool {
    if !hoist_testkit::is_root() {
        hoist_testkit::skip("needs root");
        return false;
    }
    if hoist_testkit::busybox_binary().is_none() {
        hoist_testkit::skip("busybox-static is not installed");
        return false;
    }
    true
}

/// Runs a command to its end, which has to come in time.
pub(crate) fn seen(command: &mut Command) -> Seen {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    let (told, end) = std::sync::mpsc::channel::<()>();
    let said = format!("{command:?}");
    let watch = std::thread::spawn(move || {
        if end.recv_timeout(PATIENCE).is_err() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    });
    let Output {
        status,
        stdout,
        stderr,
    } = child.wait_with_output().unwrap();
    let _ = told.send(());
    watch.join().unwrap();
    assert!(status.code().is_some(), "killed, or did not end: {said}");
    Seen {
        status: status.code(),
        out: String::from_utf8_lossy(&stdout).into_owned(),
        err: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Polls until there is something, at most two minutes.
pub(crate) fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
