//! The zygote: this same binary, started once, small and of one thread, from which every monitor is forked.
//!
//! It sits in a mount namespace of its own whose root is an empty tmpfs, so that what its children copy is tiny and no
//! path of the host can be reached from it. Its standard input is the packet socket to the daemon; when that closes it
//! ends, and monitors go on. Only while it is the parent of a process whose monitor was killed does it stay, to learn
//! the end.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use hoist_sys::mount_attributes::{self, MountAttributes};
use hoist_sys::process::{self, Forked};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount};

use crate::below_root::file_system;
use crate::child::{self, EMPTY, NULL, ROOT_PLACE};
use crate::message::{self, Kind, Message};
use crate::monitor::{self, Order, Succession};
use crate::reaper::Reaper;
use crate::spare;

/// The word that makes a program of ours a zygote; in place of its name.
pub const MARKER: &str = "hoist-zygote";

/// Whether a program was started to be a zygote. `main` asks first of all, before it starts a thread.
#[must_use]
pub fn is_zygote(first_argument: Option<&OsStr>) -> bool {
    first_argument == Some(OsStr::new(MARKER))
}

/// Lives as a zygote. For `main`, in a process of one thread.
#[must_use]
pub fn zygote_main() -> ExitCode {
    match live() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error is the daemon's.
            let text = format!("hoist zygote: {error}\n");
            let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn live() -> io::Result<()> {
    process::set_undumpable()?;
    process::become_subreaper()?;
    process::reset_signals();
    process::ignore_pipes();
    process::set_name(c"hoist-zygote")?;
    // Containers do not inherit what the engine wants for its threads. A kernel that knows no slices has given none.
    let _ = process::set_slice(0);
    if let Some(soft) = std::env::args().nth(1).and_then(|word| word.parse().ok()) {
        child::limit_files_to(soft);
    }
    rustix::process::setsid()?;
    // Nothing that it or its children make is narrowed by whoever started the engine.
    rustix::process::umask(Mode::empty());
    // Whatever whoever started the engine left open is not for containers, nor to be held open by monitors.
    process::close_from(3)?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    crate::init::prepare();
    enter_private_root().map_err(|error| {
        // pivot_root(2): the present root must be a mount point.
        let hint = match error.raw_os_error() {
            Some(libc::EINVAL) => " (an engine in a chroot needs a mount point as its root)",
            _ => "",
        };
        io::Error::new(
            error.kind(),
            format!("enter a root of its own: {error}{hint}"),
        )
    })?;
    let null = rustix::fs::openat(
        CWD,
        NULL,
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::stdio::dup2_stdin(&null)?;
    // Monitors outlive the engine: they must not hold its standard error open.
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    serve(control)
}

/// Forks monitors as ordered and reaps children, until the daemon is gone and no end is waited for.
fn serve(control: OwnedFd) -> io::Result<()> {
    let mut control = Some(control);
    let mut reaper = Reaper::start()?;
    while control.is_some() || reaper.is_needed() {
        let (ordered, ended, gone) = {
            let mut polled: Vec<PollFd<'_>> = reaper.polled().collect();
            polled.extend(control.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut polled, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
            let ordered = control.is_some() && polled.last().is_some_and(is_ready);
            let lines = polled.len() - usize::from(control.is_some());
            (
                ordered,
                is_ready(&polled[0]),
                polled[1..lines].iter().any(is_ready),
            )
        };
        if ended {
            reaper.reap();
        }
        if gone {
            reaper.forget();
        }
        if let (true, Some(socket)) = (ordered, &control) {
            match message::receive(socket)? {
                None => control = None,
                Some(message) => obey(message, &mut control, &mut reaper)?,
            }
        }
    }
    Ok(())
}

/// Makes the monitor that a message asks for.
fn obey(
    mut message: Message,
    control: &mut Option<OwnedFd>,
    reaper: &mut Reaper,
) -> io::Result<()> {
    let succession = match message.kind {
        Kind::Order | Kind::Spare => None,
        Kind::Succeed => {
            // One that cannot be read is of a later version: whoever sent it sees its socket close.
            let Ok(succession) = message.body::<Succession>() else {
                return Ok(());
            };
            let started = &succession.started;
            let line = reaper.watch(started.pid, started.started_at)?;
            Some((succession, line))
        }
        _ => return Ok(()),
    };
    match process::fork_single_threaded()? {
        Forked::Parent(monitor) => {
            message.wipe();
            reaper.forked(monitor);
        }
        Forked::Child => {
            // What is the zygote's alone must not live on in its children.
            drop(control.take());
            reaper.disown();
            process::unblock_signals();
            let _ = process::set_name(match message.kind {
                Kind::Spare => spare::NAME,
                _ => c"hoist-monitor",
            });
            become_monitor(message, succession);
        }
    }
    Ok(())
}

fn become_monitor(mut message: Message, succession: Option<(Succession, OwnedFd)>) -> ! {
    if message.kind == Kind::Spare {
        spare::wait_for_order(message);
        process::end_now(0)
    }
    let fds = std::mem::take(&mut message.fds);
    if let Some((succession, line)) = succession {
        drop(message);
        monitor::run_successor(succession, fds, line);
        process::end_now(0)
    }
    match message.body::<Order>() {
        Ok(order) => {
            drop(message);
            monitor::run(&order, fds, Vec::new());
        }
        Err(error) => monitor::refuse(&fds, &error),
    }
    process::end_now(0)
}

/// A root of our own: an empty tmpfs with a place for containers' roots and a null device.
fn enter_private_root() -> io::Result<()> {
    process::unshare(libc::CLONE_NEWNS)?;
    let slash = rustix::fs::openat(
        CWD,
        "/",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let private = MountAttributes::new(0, 0, libc::MS_PRIVATE);
    mount_attributes::set_attributes(slash.as_fd(), true, &private)?;
    let options = [
        // Root of a user namespace finds its way in it, too.
        ("mode".to_owned(), "711".to_owned()),
        ("size".to_owned(), "64k".to_owned()),
    ];
    let root = file_system(
        "tmpfs",
        &options,
        mount_attributes::NO_SUID | mount_attributes::NO_EXEC,
    )?;
    rustix::fs::mkdirat(&root, ROOT_PLACE.trim_start_matches('/'), Mode::RWXU)?;
    let empty = EMPTY.trim_start_matches('/');
    rustix::fs::mkdirat(&root, empty, Mode::from_raw_mode(0o555))?;
    let null = NULL.trim_start_matches('/');
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        &root,
        null,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        device,
    )?;
    // Placed over any directory there is: the old root goes right after.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, "/tmp", flags)
        .or_else(|_| move_mount(&root, "", CWD, "/proc", flags))?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}
