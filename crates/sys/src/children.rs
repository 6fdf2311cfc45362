//! Ends of children as a descriptor to wait on, for a process of one thread.

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

/// Blocks SIGCHLD and answers a descriptor that is readable while one is pending (signalfd(2)), non-blocking and
/// close-on-exec. Children stay zombies until they are waited for.
pub fn descriptor_of_ends() -> io::Result<OwnedFd> {
    // SAFETY: an emptied set is valid; the calls read it and keep nothing of it.
    // JUSTIFICATION: no safe crate offers signalfd and the mask of a process.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fresh, and owned by nobody else.
    // JUSTIFICATION: descriptors come out of raw calls as numbers.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Blocks every signal that can wait: all but those that a fault of the process itself brings.
pub fn block_signals() -> io::Result<()> {
    let set = patient();
    // SAFETY: the set is initialised, and is only read.
    // JUSTIFICATION: no safe crate offers the mask of a process.
    if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits for a signal that [`block_signals`] blocked (sigwaitinfo(2)); `None` if something interrupted the wait.
#[must_use]
pub fn next_signal() -> Option<i32> {
    let set = patient();
    // SAFETY: the set is initialised, and is only read; nothing more than the number is asked for.
    // JUSTIFICATION: no safe crate offers sigwaitinfo.
    let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
    (signal > 0).then_some(signal)
}

/// Sends a signal by number to a child that is not reaped yet (kill(2)). One that has ended does not mind.
pub fn signal_child(pid: i32, signal: i32) {
    // SAFETY: takes numbers.
    // JUSTIFICATION: rustix' Signal cannot be made of any number.
    let _ = unsafe { libc::kill(pid, signal) };
}

fn patient() -> libc::sigset_t {
    // SAFETY: all-zero is a place for a set, which sigfillset initialises; the numbers are those of signals.
    // JUSTIFICATION: no safe crate offers sets of signals.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        for fault in [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGABRT,
            libc::SIGTRAP,
            libc::SIGSYS,
        ] {
            libc::sigdelset(&raw mut set, fault);
        }
        set
    }
}

/// Takes pending notes off the descriptor, so that it is not readable before another child ends.
pub fn take_notes(descriptor: impl AsFd) {
    let mut notes = [0; 128 * 8];
    while rustix::io::read(&descriptor, &mut notes).is_ok_and(|length| length == notes.len()) {}
}

/// The next child that has ended, reaped: its id, and its exit code or 128 and the signal. `None` if none has.
#[must_use]
pub fn next_ended() -> Option<(i32, i32)> {
    use rustix::process::{WaitOptions, wait};
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                let code = status.exit_status().or(signal)?;
                return Some((pid.as_raw_nonzero().get(), code));
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// The wait status of a process that has ended and that nobody has reaped yet, whoever its parent is (proc(5), `exit_code`
/// of /proc/pid/stat; for those who may trace it). `None` while it runs.
#[must_use]
pub fn zombie_status(pid: i32) -> Option<i32> {
    zombie_status_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn zombie_status_of(stat: &str) -> Option<i32> {
    // The name may hold anything, the last parenthesis is ours.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    fields.nth(48)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_have_a_status() {
        let tail = "0 ".repeat(48);
        let stat = |state| format!("7 (a) Z b) {state} {tail}256");
        assert_eq!(zombie_status_of(&stat("Z")), Some(256));
        assert_eq!(zombie_status_of(&stat("S")), None);
        let mut child = std::process::Command::new("false").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let status = (0..2000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            zombie_status(pid)
        });
        assert_eq!(status, Some(256));
        child.wait().unwrap();
        assert_eq!(zombie_status(pid), None);
    }
}
