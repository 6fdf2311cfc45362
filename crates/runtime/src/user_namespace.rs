//! A user namespace that lasts, in which root is a user of the host without privileges (user_namespaces(7)).
//!
//! Containers that are remapped are made in it, network namespaces too: a network namespace belongs to the user namespace of
//! whoever makes it, for good. A process of many threads can neither make a user namespace nor enter one, so a small process
//! of this same binary, the keeper, is in it and makes what is asked for:
//!
//! ```text
//! daemon ── Namespace ──────────────► keeper    makes the user namespace, or enters the one beside the message
//!        ◄─ Namespace, user namespace ──
//!        (writes uid_map and gid_map)
//!        ── Namespace ──────────────►           becomes root inside
//!        ── Namespace ──────────────►           makes a network namespace
//!        ◄─ Namespace, network namespace ──     … and so on, until the daemon's end closes
//! ```

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};

use hoist_model::UserMapping;
use hoist_sys::process;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::below_root::file_system;
use crate::message::{self, Kind};

/// The word that makes a program of ours a keeper; in place of its name.
const MARKER: &str = "hoist-userns";

/// Whether a program was started to be a keeper. `main` asks before it starts a thread.
#[must_use]
pub fn is_keeper(first_argument: Option<&OsStr>) -> bool {
    first_argument == Some(OsStr::new(MARKER))
}

/// Lives as a keeper. For `main`, in a process of one thread.
#[must_use]
pub fn keeper_main() -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the daemon's.
            let text = format!("hoist user namespace: {error}\n");
            let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn keep() -> io::Result<()> {
    process::reset_signals();
    process::ignore_pipes();
    process::set_name(c"hoist-userns")?;
    rustix::process::setsid()?;
    process::close_from(3)?;
    let socket = rustix::stdio::stdin();
    let Some(first) = message::receive(socket)? else {
        return Ok(());
    };
    match first.fds.first() {
        Some(there) => process::enter_namespaces(there.as_fd(), libc::CLONE_NEWUSER)?,
        None => process::unshare(libc::CLONE_NEWUSER)?,
    }
    let own = open("/proc/self/ns/user")?;
    message::send(socket, Kind::Namespace, &(), &[own.as_fd()])?;
    drop(own);
    if message::receive(socket)?.is_none() {
        return Ok(());
    }
    // Root of the host has no business in here; of what is mapped nothing is the host's.
    process::set_credentials(0, 0, &[])?;
    while message::receive(socket)?.is_some() {
        process::unshare(libc::CLONE_NEWNET)?;
        let made = open("/proc/self/ns/net")?;
        message::send(socket, Kind::Namespace, &(), &[made.as_fd()])?;
    }
    Ok(())
}

fn open(path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

/// A user namespace with a mapping, and the means to make network namespaces in it. They last with their descriptors.
#[derive(Debug)]
pub struct UserNamespace {
    namespace: OwnedFd,
    executable: PathBuf,
    /// Held for one question and its answer.
    keeper: Mutex<Keeper>,
}

#[derive(Debug)]
struct Keeper {
    socket: OwnedFd,
    process: Child,
}

impl UserNamespace {
    /// Makes one, with a keeper of a program whose `main` asks [`is_keeper`]. Needs root; blocking, some milliseconds.
    ///
    /// # Errors
    /// `EPERM` or `ENOSPC` where the kernel allows no user namespaces (`/proc/sys/user/max_user_namespaces`), `EINVAL` for
    /// ranges that it does not take.
    pub fn start(executable: &Path, mapping: &UserMapping) -> io::Result<Self> {
        let (keeper, namespace) = Keeper::start(executable, None)?;
        let of = |name: &str| format!("/proc/{}/{name}", keeper.process.id());
        fs::write(of("uid_map"), mapping.users.text())?;
        fs::write(of("gid_map"), mapping.groups.text())?;
        message::send(&keeper.socket, Kind::Namespace, &(), &[])?;
        Ok(Self {
            namespace,
            executable: executable.to_owned(),
            keeper: Mutex::new(keeper),
        })
    }

    /// Enters one that is there, such as a container's of an earlier engine, with a keeper as above.
    ///
    /// # Errors
    /// `EINVAL` or `EPERM` where it is none that the caller may enter.
    pub fn enter(executable: &Path, namespace: OwnedFd) -> io::Result<Self> {
        let (keeper, _) = Keeper::start(executable, Some(namespace.as_fd()))?;
        message::send(&keeper.socket, Kind::Namespace, &(), &[])?;
        Ok(Self {
            namespace,
            executable: executable.to_owned(),
            keeper: Mutex::new(keeper),
        })
    }

    /// The namespace alone, for mounts that show ids as it maps them; nothing is made in it.
    pub fn into_mapping(self) -> OwnedFd {
        self.namespace
    }

    /// A whole procfs and a whole sysfs, for [`crate::spec::Remapped::visible`].
    pub fn visible() -> io::Result<Vec<OwnedFd>> {
        let kinds = ["proc", "sysfs"].into_iter();
        kinds.map(|kind| file_system(kind, &[], 0)).collect()
    }

    /// A network namespace that belongs to it, empty. Blocking, a round trip; a keeper that was killed is replaced.
    pub fn network_namespace(&self) -> io::Result<OwnedFd> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        match keeper.ask() {
            Err(error) => {
                tracing::warn!(%error, "the keeper of the user namespace is replaced");
                let namespace = self.namespace.as_fd();
                (*keeper, _) = Keeper::start(&self.executable, Some(namespace))?;
                message::send(&keeper.socket, Kind::Namespace, &(), &[])?;
                keeper.ask()
            }
            made => made,
        }
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

impl Keeper {
    /// Starts one that enters a namespace, or makes one; answers which.
    fn start(executable: &Path, enter: Option<BorrowedFd<'_>>) -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = message::pair()?;
        let process = Command::new(executable)
            .arg0(MARKER)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        let keeper = Self { socket, process };
        let fds: Vec<BorrowedFd<'_>> = enter.into_iter().collect();
        message::send(&keeper.socket, Kind::Namespace, &(), &fds)?;
        let namespace = keeper.answer()?;
        Ok((keeper, namespace))
    }

    fn ask(&self) -> io::Result<OwnedFd> {
        message::send(&self.socket, Kind::Namespace, &(), &[])?;
        self.answer()
    }

    fn answer(&self) -> io::Result<OwnedFd> {
        let answer = message::receive(&self.socket)?;
        let fd = answer.and_then(|message| message.fds.into_iter().next());
        fd.ok_or_else(|| io::Error::other("the keeper of the user namespace has ended"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
