//! A daemon of a test's own: the built binary on private paths.

mod family;
mod request;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use family::{MARK, family};
pub use request::{exchange, exchange_bytes};

use crate::TemporaryDirectory;

/// How long a daemon may take to listen, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// Started by `hoist daemon` with its own data root, exec root, socket and pid file; on drop its containers
/// are removed, it is stopped, and what is left of its processes is killed.
#[derive(Debug)]
pub struct TemporaryDaemon {
    binary: PathBuf,
    arguments: Vec<OsString>,
    child: Option<Child>,
    mark: String,
    directory: TemporaryDirectory,
}

impl TemporaryDaemon {
    /// Starts `binary` as a daemon.
    ///
    /// # Panics
    /// When it does not answer within a minute; the message carries its log.
    #[must_use]
    pub fn start(binary: &Path) -> Self {
        Self::start_with(binary, &[])
    }

    /// Starts `binary` as a daemon with more arguments.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_with(binary: &Path, arguments: &[&str]) -> Self {
        let directory = TemporaryDirectory::new("daemon");
        let (data, exec) = (directory.join("data"), directory.join("exec"));
        Self::start_in(directory, binary, (&data, &exec), arguments)
    }

    /// Starts `binary` as a daemon whose data root and exec root are elsewhere, such as on a small disk.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn start_on(binary: &Path, data: &Path, exec: &Path, arguments: &[&str]) -> Self {
        let directory = TemporaryDirectory::new("daemon");
        Self::start_in(directory, binary, (data, exec), arguments)
    }

    fn start_in(
        directory: TemporaryDirectory,
        binary: &Path,
        (data, exec): (&Path, &Path),
        arguments: &[&str],
    ) -> Self {
        let mut all: Vec<OsString> = vec![
            "daemon".into(),
            "--data-root".into(),
            data.into(),
            "--exec-root".into(),
            exec.into(),
            "--pidfile".into(),
            directory.join("pid").into(),
            "--host".into(),
            format!("unix://{}", directory.join("sock").display()).into(),
        ];
        all.extend(arguments.iter().map(OsString::from));
        let mark = directory.path().display().to_string();
        let mut own = Self {
            binary: binary.to_owned(),
            arguments: all,
            child: None,
            mark,
            directory,
        };
        own.launch();
        own
    }

    /// Its socket's path.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.join("sock")
    }

    /// Its address as clients take it, `unix://…`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Its private directory, which holds `data`, `exec`, `sock`, `pid`, `log` and a client's `config`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When it is stopped.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// What it has logged so far, over all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// A command for a client program that talks to this daemon and reads no configuration of the caller's.
    #[must_use]
    pub fn client(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .env("DOCKER_HOST", self.host())
            .env("DOCKER_CONFIG", self.directory.join("config"))
            .env("DOCKER_CLI_HINTS", "false")
            .env_remove("DOCKER_CONTEXT")
            .env_remove("DOCKER_TLS_VERIFY")
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null());
        command
    }

    /// One HTTP request over its socket: the status and the body. `body` is sent as JSON.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub fn request(
        &self,
        method: &str,
        target: &str,
        body: Option<&str>,
    ) -> std::io::Result<(u16, String)> {
        exchange(&self.socket(), method, target, body)
    }

    /// Kills the daemon as a power cut would (SIGKILL). Containers keep running.
    ///
    /// # Panics
    /// When it is stopped already.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the daemon with SIGTERM. Containers keep running.
    ///
    /// # Panics
    /// When it does not end within a minute; the message carries its log.
    pub fn stop(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() >= end {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the daemon does not stop on SIGTERM:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Starts it again on the same paths after [`Self::kill`] or [`Self::stop`].
    ///
    /// # Panics
    /// As [`Self::start`].
    pub fn launch(&mut self) {
        let log = self.directory.join("log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let child = Command::new(&self.binary)
            .args(&self.arguments)
            .env(MARK, &self.mark)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", self.binary.display()));
        let child = self.child.insert(child);
        let end = Instant::now() + PATIENCE;
        loop {
            let gone = child.try_wait().unwrap();
            let socket = self.directory.join("sock");
            if gone.is_none()
                && exchange(&socket, "GET", "/_ping", None).is_ok_and(|(status, _)| status == 200)
            {
                return;
            }
            if gone.is_some() || Instant::now() >= end {
                let log = self.log();
                let lines: Vec<&str> = log.lines().collect();
                let log = lines[lines.len().saturating_sub(15)..].join("\n");
                panic!("the daemon does not answer ({gone:?}):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The process ids of the daemon and of everything it has started, containers excluded.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        family(&self.mark)
    }

    /// Removes every container, stops the daemon and says what of it is left: processes that carry its mark,
    /// and mounts below its directory. Empty is right.
    ///
    /// # Panics
    /// When it does not stop.
    #[must_use]
    pub fn finish(mut self) -> Vec<String> {
        self.remove_containers();
        let status = self.stop();
        let mut left = Vec::new();
        if !status.success() {
            left.push(format!("the daemon ended with {status}"));
        }
        let end = Instant::now() + PATIENCE;
        let processes = loop {
            let processes = family(&self.mark);
            if processes.is_empty() || Instant::now() >= end {
                break processes;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        left.extend(
            processes
                .iter()
                .map(|pid| format!("process {pid}: {}", command_line(*pid))),
        );
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(
            mounts
                .lines()
                .filter(|line| line.contains(&self.mark))
                .map(str::to_owned),
        );
        left
    }

    fn remove_containers(&self) {
        let Ok((200, body)) = self.request("GET", "/containers/json?all=1", None) else {
            return;
        };
        let listed: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
        for container in listed.as_array().into_iter().flatten() {
            let id = container["Id"].as_str().unwrap_or_default();
            let _ = self.request("DELETE", &format!("/containers/{id}?force=1&v=1"), None);
        }
    }
}

impl Drop for TemporaryDaemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.remove_containers();
            if let Some(child) = self.child.as_mut() {
                let pid = rustix::process::Pid::from_child(child);
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                let end = Instant::now() + Duration::from_secs(5);
                while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        for pid in family(&self.mark) {
            if let Some(pid) = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
