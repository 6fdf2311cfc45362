//! One transcript's world: a daemon, a shell whose variables live through the transcript, maybe a registry.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use hoist_testkit::{
    Compression, ImageBuilder, LocalRegistry, Login, RegistryOptions, TarBuilder, TemporaryDaemon,
    TemporaryDirectory, Terminal,
};

use crate::normalise::Normaliser;
use crate::transcript::{Client, Transcript, Turn};

/// The longest a command of a transcript may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Session {
    daemon: Option<TemporaryDaemon>,
    shell: Shell,
    registries: Vec<LocalRegistry>,
    /// Our own server, of `%registry own`.
    served: Vec<OwnRegistry>,
    normaliser: Normaliser,
    work: PathBuf,
    docker: PathBuf,
    commands: usize,
    /// What stands in for the host's users.
    _accounts: TemporaryDirectory,
}

impl Session {
    /// Starts the daemon, loads busybox into it, and starts the shell in an empty directory.
    ///
    /// # Errors
    /// A report when busybox cannot be loaded.
    pub(crate) fn start(
        transcript: &Transcript,
        client: Client,
        docker: &OsStr,
    ) -> Result<Self, String> {
        let mut flags = transcript.daemon_flags.clone();
        let mut registries = Vec::new();
        if transcript.hub {
            let (registry, more) = hub().ok_or("docker-registry is not installed")?;
            registries.push(registry);
            flags.extend(more);
        }
        let accounts = TemporaryDirectory::new("accounts");
        write_accounts(accounts.path()).map_err(|error| error.to_string())?;
        for flag in flags.iter_mut().filter(|flag| *flag == "$ACCOUNTS") {
            *flag = accounts.path().display().to_string();
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let built = env!("CARGO_BIN_EXE_hoist").into();
        let binary = std::env::var_os("HOIST_BINARY").unwrap_or(built);
        let daemon = TemporaryDaemon::start_with(Path::new(&binary), &flags);
        let work = daemon.directory().join("work");
        std::fs::create_dir(&work).map_err(|error| error.to_string())?;
        write_fixtures(&work).map_err(|error| error.to_string())?;
        let docker = match client {
            Client::Stock => which(docker),
            Client::Own => {
                let named = daemon.directory().join("client");
                let docker = named.join("docker");
                std::fs::create_dir(&named)
                    .and_then(|()| std::os::unix::fs::symlink(&binary, &docker))
                    .map_err(|error| error.to_string())?;
                docker
            }
        };
        let mut normaliser = Normaliser::default();
        normaliser.name(work.display().to_string(), "$WORK");
        normaliser.name(daemon.directory().display().to_string(), "$DIRECTORY");
        let shell = Shell::start(&daemon, &work, &docker);
        let daemon = Some(daemon);
        let mut own = Self {
            daemon,
            shell,
            registries,
            served: Vec::new(),
            normaliser,
            work,
            docker,
            commands: 0,
            _accounts: accounts,
        };
        let loaded = own.command("docker load -q -i busybox.tar")?;
        if loaded == ["Loaded image: busybox:latest"] {
            own.normaliser = {
                let mut fresh = Normaliser::default();
                std::mem::swap(&mut fresh, &mut own.normaliser);
                fresh
            };
            Ok(own)
        } else {
            Err(format!(
                "docker load busybox.tar: {}\n{}",
                loaded.join("\n"),
                own.log_tail()
            ))
        }
    }

    /// Runs a shell command: its normalised output, stderr merged in, and `[n]` for a status that is not 0.
    ///
    /// # Errors
    /// What was printed so far, when it does not end in time.
    pub(crate) fn command(&mut self, text: &str) -> Result<Vec<String>, String> {
        self.commands += 1;
        let script = self
            .work
            .with_file_name(format!("command-{}", self.commands));
        std::fs::write(&script, format!("{text}\n")).map_err(|error| error.to_string())?;
        let (output, status) = self.shell.run(&script).map_err(|seen| {
            format!(
                "$ {text}\n  does not end in {} s; printed so far:\n{seen}\n{}",
                PATIENCE.as_secs(),
                self.log_tail()
            )
        })?;
        let mut lines = self.normaliser.lines(&output);
        if status != 0 {
            lines.push(format!("[{status}]"));
        }
        Ok(lines)
    }

    /// Does what a `%` line says.
    ///
    /// # Errors
    /// When there is no such directive, or it cannot be done.
    pub(crate) fn directive(&mut self, words: &[String]) -> Result<(), String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let daemon = self.daemon.as_mut().ok_or("no daemon")?;
        match words[..] {
            ["daemon", "kill"] => daemon.kill(),
            ["daemon", "stop"] => {
                let status = daemon.stop();
                if !status.success() {
                    return Err(format!("the daemon ended with {status}"));
                }
            }
            ["daemon", "start"] => daemon.launch(),
            ["registry", "own"] => {
                let served = OwnRegistry::start(&self.work).map_err(|error| error.to_string())?;
                let address = served.address.clone();
                self.served.push(served);
                self.normaliser.name(address.clone(), "$REGISTRY");
                let set = self.command(&format!("REGISTRY={address}"))?;
                if !set.is_empty() {
                    return Err(set.join("\n"));
                }
            }
            ["registry", kind] => {
                let options = registry_options(kind).ok_or("no such kind of registry")?;
                let registry =
                    LocalRegistry::start(&options).ok_or("docker-registry is not installed")?;
                fill(&registry);
                let address = format!("localhost:{}", registry.address().port());
                self.normaliser.name(address.clone(), "$REGISTRY");
                self.registries.push(registry);
                let set = self.command(&format!("REGISTRY={address}"))?;
                if !set.is_empty() {
                    return Err(set.join("\n"));
                }
            }
            _ => return Err("no such directive".to_owned()),
        }
        Ok(())
    }

    /// Plays a dialogue at a terminal.
    ///
    /// # Errors
    /// The turn that did not go as written, and what was on the terminal.
    pub(crate) fn terminal(&self, command: &str, dialogue: &[Turn]) -> Result<(), String> {
        let daemon = self.daemon.as_ref().ok_or("no daemon")?;
        let mut shell = daemon.client("bash");
        shell
            .args(["-c", command])
            .current_dir(&self.work)
            .env("PATH", path(&self.docker));
        let mut terminal = Terminal::spawn(&shell, 24, 80);
        for turn in dialogue {
            let failed =
                |seen: String| format!("$tty {command}: {turn}\n  the terminal shows: {seen:?}");
            let sent =
                |result: std::io::Result<()>| result.map_err(|error| failed(error.to_string()));
            match turn {
                Turn::Expect(text) => terminal.expect(text, PATIENCE).map_err(failed)?,
                Turn::Send(text) => sent(terminal.send(format!("{text}\r").as_bytes()))?,
                Turn::Key(keys) => sent(terminal.send(&key_bytes(keys)))?,
                Turn::Resize(rows, columns) => terminal.resize(*rows, *columns),
                Turn::Ends(code) => {
                    let status = terminal.wait(PATIENCE).map_err(failed)?;
                    let told = status.code().or(status.signal().map(|signal| 128 + signal));
                    if told != Some(*code) {
                        return Err(failed(format!("ended with {status}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// The end of the daemon's log, for a report.
    pub(crate) fn log_tail(&self) -> String {
        let log = self
            .daemon
            .as_ref()
            .map(TemporaryDaemon::log)
            .unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(12)..];
        if tail.is_empty() {
            String::new()
        } else {
            format!("  the daemon's log ends:\n    {}\n", tail.join("\n    "))
        }
    }

    /// Ends everything; what is left behind.
    pub(crate) fn finish(mut self) -> Vec<String> {
        self.daemon
            .take()
            .map(TemporaryDaemon::finish)
            .unwrap_or_default()
    }
}

/// A bash that runs one command after another; its working directory and variables stay.
struct Shell {
    process: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

/// Stands alone on the line that ends a command's output.
const MARK: &str = "\u{1}hoist-transcript";

impl Shell {
    fn start(daemon: &TemporaryDaemon, work: &Path, docker: &Path) -> Self {
        let mut command = daemon.client("bash");
        let mut process = command
            .args(["--norc", "--noprofile"])
            .current_dir(work)
            .env("PATH", path(docker))
            .env("WORK", work)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash starts");
        let input = process.stdin.take().expect("piped");
        let reader = BufReader::new(process.stdout.take().expect("piped"));
        let (sender, output) = channel();
        std::thread::spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                if sender
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    return;
                }
            }
        });
        Self {
            process,
            input,
            output,
        }
    }

    /// Runs a script file: its output and status.
    fn run(&mut self, script: &Path) -> Result<(String, i32), String> {
        let script = script.display();
        let line = format!(". {script} </dev/null 2>&1; printf '\\n{MARK} %d\\n' $?\n");
        self.input
            .write_all(line.as_bytes())
            .map_err(|error| error.to_string())?;
        let end = Instant::now() + PATIENCE;
        let mut lines = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(line) => match line.strip_prefix(MARK) {
                    Some(status) => {
                        // The mark starts a line of its own: the line break before it is ours.
                        if lines.last().is_some_and(String::is_empty) {
                            lines.pop();
                        }
                        return Ok((lines.join("\n"), status.trim().parse().unwrap_or(-1)));
                    }
                    None => lines.push(line),
                },
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(lines.join("\n"));
                }
            }
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn which(program: &OsStr) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| program.into())
}

/// PATH for a transcript: the docker client's directory first, then the system's.
fn path(docker: &Path) -> String {
    let own = docker.parent().unwrap_or(Path::new("/usr/bin")).display();
    format!("{own}:/usr/sbin:/usr/bin:/sbin:/bin")
}

/// `ctrl-p ctrl-q` as the bytes those keys send.
fn key_bytes(keys: &str) -> Vec<u8> {
    keys.split(' ')
        .map(|key| match key.strip_prefix("ctrl-").map(str::as_bytes) {
            Some([letter]) => letter & 0x1f,
            _ => key.bytes().next().unwrap_or(b'\r'),
        })
        .collect()
}

/// Images and archives that transcripts name.
fn write_fixtures(work: &Path) -> std::io::Result<()> {
    let busybox = ImageBuilder::busybox().expect("checked before");
    std::fs::write(work.join("busybox.tar"), busybox.docker_archive())?;
    let oci = busybox
        .clone()
        .named("oci:1")
        .compression(Compression::Gzip)
        .oci_archive();
    std::fs::write(work.join("oci.tar"), oci)?;
    std::fs::write(
        work.join("layers.tar"),
        layered(&busybox).named("layers:1").docker_archive(),
    )?;
    let rootfs = hoist_testkit::busybox_layer().expect("checked before");
    std::fs::write(work.join("rootfs.tar"), rootfs)?;
    let hostile = |name: &str, layer: Vec<u8>| {
        let image = ImageBuilder::new().layer(layer).named(&format!("{name}:1"));
        std::fs::write(work.join(format!("{name}.tar")), image.docker_archive())
    };
    hostile(
        "absolute",
        TarBuilder::new().file("/etc/absolute", 0o644, "x").finish(),
    )?;
    hostile(
        "dotdot",
        TarBuilder::new().file("../../dotdot", 0o644, "x").finish(),
    )?;
    hostile(
        "truncated",
        TarBuilder::new()
            .lying_file("a", 1 << 20, b"short")
            .unfinished(),
    )?;
    let whole = busybox.docker_archive();
    std::fs::write(work.join("cut.tar"), &whole[..whole.len() / 2])
}

/// Three layers over busybox: a file hidden, a directory made opaque, a file replaced.
fn layered(busybox: &ImageBuilder) -> ImageBuilder {
    let one = TarBuilder::new()
        .directory("data")
        .file("data/gone", 0o644, "gone")
        .file("data/kept", 0o644, "first\n")
        .directory("opaque")
        .file("opaque/old", 0o644, "old");
    let two = TarBuilder::new()
        .whiteout("data/gone")
        .file("data/kept", 0o600, "second\n");
    let three =
        TarBuilder::new()
            .directory("opaque")
            .opaque("opaque")
            .file("opaque/new", 0o644, "");
    busybox
        .clone()
        .layer(one.finish())
        .layer(two.finish())
        .layer(three.finish())
}

/// `hoist registry serve` with the login that other registries have; killed when it goes.
struct OwnRegistry {
    process: Child,
    address: String,
}

impl OwnRegistry {
    fn start(work: &Path) -> std::io::Result<Self> {
        let directory = work.with_file_name("registry");
        std::fs::create_dir_all(&directory)?;
        let (users, rights) = (directory.join("users"), directory.join("rights"));
        std::fs::write(&users, hoist_testkit::HTPASSWD)?;
        std::fs::write(&rights, "@anyone pull public/**\n@users all **\n")?;
        let built = env!("CARGO_BIN_EXE_hoist").into();
        let binary = std::env::var_os("HOIST_BINARY").unwrap_or(built);
        let mut process = std::process::Command::new(binary)
            .args([
                "registry",
                "serve",
                "--tokens",
                "--listen=127.0.0.1:0",
                "--root",
            ])
            .arg(directory.join("images"))
            .arg("--users")
            .arg(users)
            .arg("--rights")
            .arg(rights)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = process.stderr.take().expect("asked for");
        let mut lines = BufReader::new(log).lines();
        let address = loop {
            let line = lines.next().transpose()?;
            let line = line.ok_or_else(|| std::io::Error::other("the registry does not listen"))?;
            if let Some((_, port)) = line.split_once("tcp://127.0.0.1:") {
                let digits = port.bytes().take_while(u8::is_ascii_digit).count();
                break format!("localhost:{}", &port[..digits]);
            }
        };
        // Read to its end, or the server would wait for somebody to read it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { process, address })
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn registry_options(kind: &str) -> Option<RegistryOptions> {
    let login = match kind {
        "plain" => Login::None,
        "basic" => Login::Basic,
        "token" => Login::Token,
        "anonymous" => Login::AnonymousToken,
        _ => return None,
    };
    Some(RegistryOptions {
        login,
        ..RegistryOptions::default()
    })
}

/// Docker Hub's stand-in, with what its transcript pulls.
fn hub() -> Option<(LocalRegistry, Vec<String>)> {
    let (registry, flags) = LocalRegistry::hub()?;
    let busybox = ImageBuilder::busybox()
        .expect("checked before")
        .compression(Compression::Gzip);
    registry.put("library/hub", "latest", &busybox);
    registry.put("someone/thing", "1.0", &layered(&busybox));
    Some((registry, flags))
}

/// What every registry of a transcript holds.
fn fill(registry: &LocalRegistry) {
    let busybox = ImageBuilder::busybox().expect("checked before");
    let gzip = busybox.clone().compression(Compression::Gzip);
    registry.put("busybox", "latest", &gzip);
    registry.put("layers", "gzip", &layered(&gzip));
    registry.put(
        "layers",
        "zstd",
        &layered(&busybox).compression(Compression::Zstd),
    );
    // A layer whose bytes are not what its digest says.
    let marked = TarBuilder::new().file("marked", 0o644, "corrupt").finish();
    let corrupt = ImageBuilder::new()
        .layer(marked)
        .compression(Compression::Gzip);
    registry.put("corrupt", "1", &corrupt);
    let layer = registry.blob_path(&corrupt.blobs().layers[0].digest);
    let mut bytes = std::fs::read(&layer).expect("put above");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&layer, bytes).expect("its own directory");
    // A layer that ends early.
    let marked = TarBuilder::new()
        .file("marked", 0o644, vec![b'x'; 100_000])
        .finish();
    let truncated = ImageBuilder::new()
        .layer(marked)
        .compression(Compression::None);
    registry.put("truncated", "1", &truncated);
    let layer = registry.blob_path(&truncated.blobs().layers[0].digest);
    let bytes = std::fs::read(&layer).expect("put above");
    std::fs::write(&layer, &bytes[..bytes.len() / 2]).expect("its own directory");
}

/// A user with subordinate ids, in files as those of /etc (passwd(5), group(5), subuid(5)).
fn write_accounts(directory: &Path) -> std::io::Result<()> {
    std::fs::write(directory.join("passwd"), "ann:x:1000:1000::/:\n")?;
    std::fs::write(directory.join("group"), "ann:x:1000:\n")?;
    std::fs::write(directory.join("subuid"), "ann:345000:65536\n")?;
    std::fs::write(directory.join("subgid"), "ann:345000:65536\n")
}
