//! A tiny init (`docker run --init`): PID 1 that passes signals on, reaps what is orphaned, and ends as its child does.
//!
//! It is no program: the child that carried out the plan forks before it executes, and its parent stays as it is, with the
//! container's user, capabilities and filter. What it can be asked is what a signal says; nobody in the container may look
//! into it, for it is as undumpable as the zygote. The program has a process group of its own, in the foreground of its
//! terminal if there is one, as under tini(1).

use std::io;
use std::sync::OnceLock;

use hoist_sys::children;
use hoist_sys::process::{self, ArgumentArea, Forked};
use rustix::process::{getpgrp, setpgid};

/// What the list of processes shows; Docker's name for it.
const NAME: &str = "/sbin/docker-init";

/// Where the zygote's command line is: children have it at the same place.
static ARGUMENTS: OnceLock<ArgumentArea> = OnceLock::new();

/// For the zygote, while it has a procfs.
pub(crate) fn prepare() {
    if let Some(area) = ArgumentArea::find() {
        let _ = ARGUMENTS.set(area);
    }
}

/// Splits in two: returns as the program to be, in a process of its own, and lives as its init in this one.
pub(crate) fn stay_behind() -> io::Result<()> {
    children::block_signals()?;
    match process::fork_single_threaded()? {
        Forked::Parent(program) => live(program),
        Forked::Child => {
            let _ = setpgid(None, None);
            // Refused where there is no terminal. The mask still holds SIGTTOU back, which this would bring.
            let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), getpgrp());
            process::unblock_signals();
            Ok(())
        }
    }
}

fn live(program: i32) -> ! {
    // The report to the monitor among them, which waits for it to close.
    let _ = process::close_from(3);
    let _ = process::become_subreaper();
    let _ = process::set_name(c"docker-init");
    if let Some(area) = ARGUMENTS.get() {
        area.rename(NAME);
    }
    loop {
        match children::next_signal() {
            Some(libc::SIGCHLD) => {
                while let Some((pid, code)) = children::next_ended() {
                    if pid == program {
                        process::end_now(code);
                    }
                }
            }
            // A stop is the terminal's business with its foreground, and the program's.
            Some(libc::SIGTTIN | libc::SIGTTOU) | None => {}
            Some(signal) => children::signal_child(program, signal),
        }
    }
}
