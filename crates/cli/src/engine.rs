//! Starting the engine when none listens.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::output;

/// How long an engine may take until it listens.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long to look on after our engine ended: another client may have started one at the same moment.
const GRACE: Duration = Duration::from_secs(1);

/// Makes sure that an engine listens on `socket`.
pub(crate) fn ensure(socket: &Path) -> Result<(), Failure> {
    let error = match UnixStream::connect(socket) {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {}
        io::ErrorKind::PermissionDenied => return Err(denied(socket)),
        _ => {
            let place = socket.display();
            return Err(Failure::with_code(
                125,
                format!("cannot connect to {place}: {error}"),
            ));
        }
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::with_code(
            125,
            format!(
                "no engine listens on {} and only root can start one\n\
                 Start it once with:  sudo hoist info\n\
                 and join its group:  sudo usermod -aG docker $USER   (then log in again)",
                socket.display()
            ),
        ));
    }
    start(socket)
}

fn denied(socket: &Path) -> Failure {
    Failure::with_code(
        125,
        format!(
            "permission denied on {}\n\
             Use sudo, or join the group that may use it:  sudo usermod -aG docker $USER   (then log in again)",
            socket.display()
        ),
    )
}

/// Where the engine's output goes.
fn log_file() -> (PathBuf, io::Result<File>) {
    let open = |path: &Path| File::options().append(true).create(true).open(path);
    let usual = PathBuf::from("/var/log/hoist.log");
    match open(&usual) {
        Ok(file) => (usual, Ok(file)),
        Err(_) => {
            let other = PathBuf::from("/run/hoist.log");
            let file = open(&other);
            (other, file)
        }
    }
}

fn start(socket: &Path) -> Result<(), Failure> {
    let (log, file) = log_file();
    let failed = |what: &str, error: io::Error| {
        Failure::with_code(125, format!("cannot start the engine: {what}: {error}"))
    };
    let mut file = file.map_err(|e| failed(&log.display().to_string(), e))?;
    let begin = file.seek(SeekFrom::End(0)).unwrap_or(0);
    let program = std::env::current_exe().map_err(|e| failed("its own program", e))?;
    let share = |file: &File| file.try_clone().map_err(|e| failed("its log", e));
    let mut engine = Command::new(&program)
        .arg0("hoist")
        .arg("daemon")
        .env(DETACH, "1")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(share(&file)?)
        .stderr(share(&file)?)
        .spawn()
        .map_err(|e| failed(&program.display().to_string(), e))?;
    await_socket(socket, &mut engine).map_err(|reason| {
        let said = tail(&log, begin);
        Failure::with_code(
            125,
            format!(
                "the engine did not start: {reason} (log: {})\n{said}",
                log.display()
            ),
        )
    })?;
    output::warn(format!("hoist: engine started, log in {}", log.display()));
    Ok(())
}

/// Tells the engine that it was started by a client and belongs to no terminal.
const DETACH: &str = "HOIST_DETACH";

/// Called by the engine before anything else: leaves the session of the client that started it, so that closing
/// the terminal or pressing Ctrl-C there does not reach the engine.
pub fn detach_if_asked() {
    if std::env::var_os(DETACH).is_some() {
        // Refused only to a process that leads a session already.
        let _ = rustix::process::setsid();
    }
}

fn await_socket(socket: &Path, engine: &mut Child) -> Result<(), String> {
    let begun = Instant::now();
    let mut ended: Option<(Instant, String)> = None;
    loop {
        if UnixStream::connect(socket).is_ok() {
            return Ok(());
        }
        if ended.is_none()
            && let Ok(Some(status)) = engine.try_wait()
        {
            ended = Some((Instant::now(), status.to_string()));
        }
        if let Some((at, status)) = &ended
            && at.elapsed() > GRACE
        {
            return Err(status.clone());
        }
        if begun.elapsed() > PATIENCE {
            let place = socket.display();
            return Err(format!(
                "nothing listens on {place} after {} s",
                PATIENCE.as_secs()
            ));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last lines the engine wrote since it was started.
fn tail(log: &Path, begin: u64) -> String {
    let mut text = String::new();
    let read = File::open(log).and_then(|mut file| {
        file.seek(SeekFrom::Start(begin))?;
        file.take(64 << 10).read_to_string(&mut text)
    });
    if read.is_err() {
        return String::new();
    }
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
