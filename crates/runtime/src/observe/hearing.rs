//! Whether a signal can reach what a process runs, as proc(5) tells.

use std::fs;

use hoist_model::Signal;

/// rt_sigtimedwait(2) of this machine, and both of 32-bit programs.
const WAITS: [i64; 3] = [libc::SYS_rt_sigtimedwait, 177, 421];

/// Whether no thread of the first process of a PID namespace could come to know of a signal: none has a handler for it,
/// blocks it to take it from a descriptor, or waits in rt_sigtimedwait(2), as tini(1) does with neither. To such a process
/// the kernel does not deliver the signal (pid_namespaces(7)). Blocking, three reads per thread; a process that cannot
/// be read is not deaf.
///
/// A moment's look: a program may install its handler right after.
#[must_use]
pub fn is_deaf(pid: i32, signal: Signal) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut any = false;
    for thread in threads {
        let deaf = thread.is_ok_and(|thread| {
            let read = |name: &str| fs::read_to_string(thread.path().join(name));
            matches!(
                (read("status"), read("syscall")),
                (Ok(status), Ok(call)) if is_thread_deaf(&status, &call, signal.number())
            )
        });
        if !deaf {
            return false;
        }
        any = true;
    }
    any
}

fn is_thread_deaf(status: &str, call: &str, signal: i32) -> bool {
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let bit = 1 << (signal - 1);
    let (Some(caught), Some(blocked)) = (set("SigCgt:"), set("SigBlk:")) else {
        return false;
    };
    let waits = call
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .is_some_and(|number: i64| WAITS.contains(&number));
    (caught | blocked) & bit == 0 && !waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_could_never_know_is_deaf() {
        let tini = format!("{} 0x7ffc 0x0", libc::SYS_rt_sigtimedwait);
        for (caught, blocked, call, deaf, what) in [
            (
                "0000000000000000",
                "0000000000000000",
                "230 0x1",
                true,
                "sleep",
            ),
            (
                "0000000000000000",
                "0000000000000000",
                "running",
                true,
                "a loop",
            ),
            (
                "0000000000004000",
                "0000000000000000",
                "61 0x1",
                false,
                "a handler",
            ),
            (
                "0000000000010002",
                "0000000000000000",
                "61 0x1",
                true,
                "other handlers",
            ),
            (
                "0000000000000000",
                "fffffffffffbfeff",
                "0 0x3",
                false,
                "signalfd",
            ),
            (
                "0000000000000000",
                "0000000000000000",
                tini.as_str(),
                false,
                "tini",
            ),
        ] {
            let status = format!("Name:\tx\nSigBlk:\t{blocked}\nSigIgn:\t0\nSigCgt:\t{caught}\n");
            assert_eq!(is_thread_deaf(&status, call, 15), deaf, "{what}");
        }
        assert!(!is_thread_deaf("", "0", 15));
        assert!(!is_deaf(i32::MAX, Signal::TERM));
    }
}
