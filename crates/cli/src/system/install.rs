//! `system install` and `system uninstall`: the engine as a service of systemd's.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Args;

use super::units::{self, Facts, SERVICE, SHUTDOWN, SOCKET};
use crate::{Context, Failure, Run, output};

/// Where an administrator's units are (systemd.unit(5)).
const UNITS: &str = "etc/systemd/system";
/// There where systemd runs as the machine's first process (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// How long an engine may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// `system install`.
#[derive(Args, Debug)]
pub(super) struct Install {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Directory of another system's root to install into; nothing is started there
    #[arg(long, value_name = "path")]
    root: Option<PathBuf>,
}

/// `system uninstall`.
#[derive(Args, Debug)]
pub(super) struct Uninstall {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Directory of another system's root to uninstall from
    #[arg(long, value_name = "path")]
    root: Option<PathBuf>,
}

/// What install and uninstall work on.
struct Place {
    /// Does and starts nothing.
    dry: bool,
    root: Option<PathBuf>,
}

impl Place {
    fn new(dry: bool, root: Option<PathBuf>) -> Result<Self, Failure> {
        if root.is_none() && !Path::new(BOOTED).is_dir() {
            let refusal = format!(
                "systemd does not run here ({BOOTED} is not there): start the engine by your own \
                 service manager with \"hoist daemon\", or give --root for another system"
            );
            return Err(Failure::new(refusal));
        }
        if !dry && !rustix::process::geteuid().is_root() {
            return Err(Failure::new(
                "only root may change the system's units; use sudo",
            ));
        }
        Ok(Self { dry, root })
    }

    fn path(&self, name: &str) -> PathBuf {
        let root = self.root.as_deref().unwrap_or(Path::new("/"));
        root.join(UNITS).join(name)
    }

    /// Whether units are to be started and stopped.
    fn is_live(&self) -> bool {
        self.root.is_none()
    }

    /// Runs systemctl and says so.
    fn systemctl(&self, words: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new("systemctl");
        let mut shown = "systemctl".to_owned();
        if let Some(root) = &self.root {
            command.arg("--root").arg(root);
            shown += &format!(" --root {}", root.display());
        }
        command.args(words);
        shown += &format!(" {}", words.join(" "));
        output::line(&shown)?;
        if self.dry {
            return Ok(());
        }
        let failed = |why: String| Failure::new(format!("{shown}: {why}"));
        let done = command
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if done.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        Err(failed(if said.is_empty() {
            done.status.to_string()
        } else {
            said
        }))
    }

    /// Writes a unit where it is not there as it should be; whether anything changed.
    fn write(&self, name: &str, text: &str) -> Result<bool, Failure> {
        let path = self.path(name);
        let there = fs::read_to_string(&path).ok();
        if there.as_deref() == Some(text) {
            output::line(format!("unchanged {}", path.display()))?;
            return Ok(false);
        }
        let verb = if there.is_some() { "rewrite" } else { "write" };
        output::line(format!("{verb} {}", path.display()))?;
        if self.dry {
            for line in text.lines() {
                output::line(format!("    {line}").trim_end())?;
            }
            return Ok(true);
        }
        let failed = |error: io::Error| Failure::new(format!("{}: {error}", path.display()));
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        // Whole or not at all: systemd may read it at any moment.
        let new = path.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(failed)?;
        Ok(true)
    }

    fn remove(&self, name: &str) -> Result<bool, Failure> {
        let path = self.path(name);
        if !path.exists() {
            output::line(format!("not there {}", path.display()))?;
            return Ok(false);
        }
        output::line(format!("remove {}", path.display()))?;
        if !self.dry {
            fs::remove_file(&path)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        }
        Ok(true)
    }
}

impl Run for Install {
    async fn run(self, _context: &Context) -> Result<u8, Failure> {
        let place = Place::new(self.dry_run, self.root)?;
        let program = std::env::current_exe()?;
        let docker_socket = is_docker_socket_free(&place)?;
        let root = place.root.clone().unwrap_or_else(|| "/".into());
        let facts = Facts {
            program: &program,
            docker_socket,
            docker_group: has_group(&root, "docker"),
        };
        let mut changed = false;
        for (name, text) in units::files(&facts) {
            changed |= place.write(name, &text)?;
        }
        if place.is_live() && changed {
            place.systemctl(&["daemon-reload"])?;
        }
        place.systemctl(&["enable", SOCKET, SERVICE, SHUTDOWN])?;
        if place.is_live() {
            if !is_active(SERVICE) {
                end_loose_engine(&place)?;
            }
            place.systemctl(&["start", SOCKET, SERVICE, SHUTDOWN])?;
            if changed {
                output::line(
                    "an engine that ran as this service before keeps its old unit until: systemctl restart hoist (containers go on)",
                )?;
            }
        }
        Ok(0)
    }
}

impl Run for Uninstall {
    async fn run(self, _context: &Context) -> Result<u8, Failure> {
        let place = Place::new(self.dry_run, self.root)?;
        let there = [SERVICE, SOCKET, SHUTDOWN].map(|name| place.path(name).exists());
        if !there.contains(&true) {
            output::line("nothing is installed")?;
            return Ok(0);
        }
        place.systemctl(&["disable", SOCKET, SERVICE, SHUTDOWN])?;
        // Not stopped: stopping it is what stops containers. Without its file it ends with nothing done.
        place.remove(SHUTDOWN)?;
        if place.is_live() {
            place.systemctl(&["daemon-reload"])?;
            place.systemctl(&["stop", SHUTDOWN, SOCKET, SERVICE])?;
        }
        place.remove(SERVICE)?;
        place.remove(SOCKET)?;
        if place.is_live() {
            place.systemctl(&["daemon-reload"])?;
            output::line("containers go on; \"hoist daemon\" takes them over again")?;
        }
        Ok(0)
    }
}

/// Whether docker.sock may be ours: not where Docker's own units are, which would open it too.
fn is_docker_socket_free(place: &Place) -> Result<bool, Failure> {
    let root = place.root.clone().unwrap_or_else(|| "/".into());
    let places = [UNITS, "usr/lib/systemd/system", "lib/systemd/system"];
    let found = places
        .iter()
        .map(|directory| root.join(directory).join("docker.socket"))
        .find(|path| path.exists());
    if let Some(path) = &found {
        output::line(format!(
            "docker.sock stays Docker's: {} is there. To use this engine: docker context create hoist --docker host=unix:///run/hoist.sock",
            path.display()
        ))?;
    }
    Ok(found.is_none())
}

fn has_group(root: &Path, name: &str) -> bool {
    let text = fs::read_to_string(root.join("etc/group")).unwrap_or_default();
    text.lines()
        .any(|line| line.split(':').next() == Some(name))
}

fn is_active(unit: &str) -> bool {
    let asked = Command::new("systemctl")
        .args(["is-active", "--quiet", unit])
        .status();
    asked.is_ok_and(|status| status.success())
}

/// Ends the default engine where it was started by hand: two cannot have one data root. Its containers go on, and the
/// service takes them over.
fn end_loose_engine(place: &Place) -> Result<(), Failure> {
    let socket = crate::context::DEFAULT_SOCKET;
    let Ok(stream) = UnixStream::connect(socket) else {
        return Ok(());
    };
    let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else {
        return Ok(());
    };
    let pid = peer.pid;
    // systemd listens for a service that does not run.
    if pid == rustix::process::Pid::INIT {
        return Ok(());
    }
    drop(stream);
    output::line(format!(
        "end the engine that was started by hand (process {}); its containers go on",
        pid.as_raw_nonzero()
    ))?;
    if place.dry {
        return Ok(());
    }
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)
        .map_err(|error| Failure::new(format!("end process {}: {error}", pid.as_raw_nonzero())))?;
    let begun = Instant::now();
    while rustix::process::test_kill_process(pid).is_ok() {
        if begun.elapsed() > PATIENCE {
            return Err(Failure::new(format!(
                "process {} does not end within {} s",
                pid.as_raw_nonzero(),
                PATIENCE.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
