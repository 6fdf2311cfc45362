//! The zygote: this same binary, started once, small and of one thread, from which every monitor is forked.
//!
//! It sits in a mount namespace of its own whose root is an empty tmpfs, so that what its children copy is tiny and no
//! path of the host can be reached from it. Its standard input is the packet socket to the daemon; when that closes it
//! ends, and monitors go on.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use hoist_sys::mount_attributes::{self, MountAttributes};
use hoist_sys::process::{self, Forked};
use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount};

use crate::child::{EMPTY, NULL, ROOT_PLACE, file_system};
use crate::message::{self, Kind};
use crate::monitor::{self, Order};

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
    process::ignore_children_and_pipes();
    process::set_name(c"hoist-zygote")?;
    rustix::process::setsid()?;
    // Nothing that it or its children make is narrowed by whoever started the engine.
    rustix::process::umask(Mode::empty());
    // Whatever whoever started the engine left open is not for containers, nor to be held open by monitors.
    process::close_from(3)?;
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    enter_private_root()?;
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
    while let Some(message) = message::receive(&control)? {
        if message.kind != Kind::Order {
            continue;
        }
        match process::fork_single_threaded()? {
            Forked::Parent(_) => {}
            Forked::Child => {
                drop(control);
                become_monitor(message);
            }
        }
    }
    Ok(())
}

fn become_monitor(mut message: message::Message) -> ! {
    process::wait_for_children();
    let _ = process::set_name(c"hoist-monitor");
    let fds = std::mem::take(&mut message.fds);
    match message.body::<Order>() {
        Ok(order) => {
            drop(message);
            monitor::run(&order, fds);
        }
        Err(error) => {
            let failure = crate::plan::ChildFailure::Clone {
                what: format!("read the order: {error}"),
                errno: libc::EBADMSG,
            };
            if let Some(control) = fds.first() {
                let _ = message::send(control, Kind::Failed, &failure, &[]);
            }
        }
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
        ("mode".to_owned(), "700".to_owned()),
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
