//! Processes: forking, namespaces, credentials, capabilities, seccomp, and the last step, execve.
//!
//! Everything that changes the caller is meant for a process of one thread: the zygote, a monitor, or the child it made.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Which side of a fork one is on.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child,
    /// The old one, with the id of the new one.
    Parent(i32),
}

/// Which side of a [`clone_into`] one is on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The old one.
    Parent {
        /// Process id in the caller's PID namespace.
        pid: i32,
        /// Descriptor of it, close-on-exec.
        pidfd: OwnedFd,
    },
}

/// Bit 33; the constant of the libc crate is of too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Forks (fork(2)). The caller must have one thread only: others would not exist in the child, whatever lock they hold.
pub fn fork_single_threaded() -> io::Result<Forked> {
    // SAFETY: the caller has one thread (documented precondition), so the child is a whole copy.
    // JUSTIFICATION: no safe crate offers fork.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent(pid)),
    }
}

/// Forks into new namespaces (`CLONE_NEW*` in `namespaces`), and into a cgroup of the unified hierarchy if given
/// (clone3(2), `CLONE_PIDFD`, `CLONE_INTO_CGROUP`). Memory is copied, never shared. One thread only, as above.
pub fn clone_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    clone_with(namespaces, cgroup, libc::SIGCHLD as u64)
}

/// Forks into new namespaces a process that is not the caller's child but its sibling (`CLONE_PARENT`): whoever waits for the
/// caller waits for it. One thread only, as above.
pub fn clone_sibling(namespaces: u64) -> io::Result<Cloned> {
    // The signal is the one the caller's own end sends.
    clone_with(namespaces | libc::CLONE_PARENT as u64, None, 0)
}

fn clone_with(flags: u64, cgroup: Option<BorrowedFd<'_>>, signal: u64) -> io::Result<Cloned> {
    let mut pidfd: c_int = -1;
    // SAFETY: all-zero is a valid clone_args.
    // JUSTIFICATION: no safe crate offers clone3.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = signal;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM, so the child runs on a copy of this stack; the caller has one thread (documented).
    // JUSTIFICATION: no safe crate offers clone3.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut args),
            std::mem::size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel stored a fresh descriptor there, owned by nobody else.
    // JUSTIFICATION: descriptors come out of raw calls as numbers.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent {
        pid: pid as i32,
        pidfd,
    })
}

/// Enters the namespaces (`CLONE_NEW*` bits) of a pidfd, or the one namespace of an nsfs descriptor (setns(2)).
pub fn enter_namespaces(fd: BorrowedFd<'_>, namespaces: i32) -> io::Result<()> {
    // SAFETY: takes a descriptor and a number; touches no memory of ours.
    // JUSTIFICATION: rustix splits this in calls that know fewer flags.
    check(c_long::from(unsafe {
        libc::setns(fd.as_raw_fd(), namespaces)
    }))
    .map(drop)
}

/// Leaves namespaces for new ones (unshare(2)).
pub fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: takes a number; a process of one thread may leave any namespace.
    // JUSTIFICATION: rustix marks its own as unsafe.
    check(c_long::from(unsafe { libc::unshare(namespaces) })).map(drop)
}

fn prctl(option: c_int, argument: u64) -> io::Result<()> {
    // SAFETY: used below only with options that take a number, not an address.
    // JUSTIFICATION: rustix lacks several of these options.
    check(c_long::from(unsafe {
        libc::prctl(option, argument, 0, 0, 0)
    }))
    .map(drop)
}

/// Makes /proc/self unreadable to others and refuses ptrace (PR_SET_DUMPABLE).
pub fn set_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0)
}

/// Makes orphaned descendants ours (PR_SET_CHILD_SUBREAPER).
pub fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Keeps permitted capabilities over the next change of user (PR_SET_KEEPCAPS).
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(keep))
}

/// No execve from here on gains privileges (PR_SET_NO_NEW_PRIVS).
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)
}

/// Takes every capability that is not in `kept` out of the bounding set (PR_CAPBSET_DROP).
pub fn keep_bounding(kept: u64) -> io::Result<()> {
    for capability in 0..64 {
        if kept >> capability & 1 == 1 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            // Past the last one that this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            result => result?,
        }
    }
    Ok(())
}

/// Empties the ambient set (PR_CAP_AMBIENT_CLEAR_ALL).
pub fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64)
}

/// The name in /proc/self/comm; cut at 15 bytes (PR_SET_NAME).
pub fn set_name(name: &CStr) -> io::Result<()> {
    // SAFETY: the kernel reads at most 16 bytes up to the NUL of a valid C string.
    // JUSTIFICATION: as prctl above, with an address.
    check(c_long::from(unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0)
    }))
    .map(drop)
}

/// Sets the three capability sets of the calling thread (capset(2), version 3).
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let mut header = Header {
        version: 0x2008_0522,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two data structs, laid out as capset(2) says.
    // JUSTIFICATION: per-thread semantics are wanted; libc's wrapper does not exist.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Sets supplementary groups, then the group, then the user ids: real, effective and saved. Raw calls, for the calling
/// thread only.
pub fn set_credentials(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the array is valid for its length; the others take numbers.
    // JUSTIFICATION: libc's wrappers signal all threads, which a freshly cloned process must not do.
    unsafe {
        check(libc::syscall(
            libc::SYS_setgroups,
            groups.len(),
            groups.as_ptr(),
        ))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Installs a seccomp filter given as the bytes of `struct sock_filter`s (seccomp(2), `SECCOMP_SET_MODE_FILTER`).
pub fn install_seccomp(program: &[u8], flags: u32) -> io::Result<()> {
    let length =
        u16::try_from(program.len() / 8).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr() as *mut libc::sock_filter,
    };
    // SAFETY: `filter` describes `length` instructions of 8 bytes within `program`; the kernel copies and
    // checks them, and reads them unaligned-safely through copy_from_user.
    // JUSTIFICATION: no safe crate offers seccomp(2) with flags.
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::from_ref(&filter).cast::<c_void>(),
        )
    })
    .map(drop)
}

/// Sets the slice of processor time that the calling thread gets at once, in nanoseconds, and so how soon it runs after it
/// wakes: a thread that wants short slices goes before others, and gets no more in all. 0 is the kernel's own. Its niceness
/// stays. Since Linux 6.12 (sched_setattr(2), `sched_runtime` of `SCHED_OTHER`); before, nothing changes.
pub fn set_slice(nanoseconds: u64) -> io::Result<()> {
    /// `struct sched_attr` as of its first version.
    #[repr(C)]
    struct Attributes {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: libc::SCHED_OTHER as u32,
        flags: 0,
        nice: rustix::process::getpriority_process(None)?,
        priority: 0,
        runtime: nanoseconds,
        deadline: 0,
        period: 0,
    };
    // SAFETY: 0 is the calling thread; `attributes` is a whole struct of the size it names, read during the call.
    // JUSTIFICATION: no safe crate sets scheduling attributes.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            0,
            std::ptr::from_ref(&attributes),
            0,
        )
    })
    .map(drop)
}

/// Sends a signal by number, real-time ones included, to a process (pidfd_send_signal(2)).
pub fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers; no siginfo is given.
    // JUSTIFICATION: rustix' Signal cannot be made of any number.
    let result = unsafe {
        let none = std::ptr::null::<c_void>();
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            none,
            0,
        )
    };
    check(result).map(drop)
}

/// `struct pidfd_info` as of Linux 6.15 (linux/pidfd.h).
#[repr(C)]
#[derive(Default)]
struct PidfdInformation {
    mask: u64,
    cgroup: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// The wait status of a process that has ended and was reaped, whoever its parent was (PIDFD_GET_INFO, Linux 6.15).
///
/// `None` while it runs. Older kernels answer `ENOTTY` or `EINVAL`.
pub fn reaped_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    const GET_INFORMATION: libc::Ioctl = libc::_IOWR::<PidfdInformation>(0xff, 11);
    const EXIT: u64 = 1 << 3;
    let mut information = PidfdInformation {
        mask: EXIT,
        ..PidfdInformation::default()
    };
    // SAFETY: the request carries the struct's size, and the struct lives through the call.
    // JUSTIFICATION: rustix does not know this request.
    check(c_long::from(unsafe {
        libc::ioctl(pidfd.as_raw_fd(), GET_INFORMATION, &raw mut information)
    }))?;
    Ok((information.mask & EXIT != 0).then_some(information.exit_code))
}

/// A process's mount namespace, by its pidfd: `PIDFD_GET_MNT_NAMESPACE` of `linux/pidfd.h`, which kernels have from 6.11.
///
/// # Errors
/// `EINVAL` or `ENOTTY` on older kernels, `ESRCH` once the process has ended.
pub fn mount_namespace(pidfd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `_IO(PIDFS_IOCTL_MAGIC, 3)`.
    const GET_MOUNT_NAMESPACE: libc::Ioctl = 0xFF03;
    // SAFETY: the call takes no argument and answers a new descriptor, close-on-exec, or -1.
    // JUSTIFICATION: rustix does not have it.
    let fd = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_MOUNT_NAMESPACE, 0) };
    check(fd.into())?;
    // SAFETY: the kernel made this descriptor for us just now; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The user namespace that owns a namespace (`NS_GET_USERNS`, ioctl_ns(2)).
///
/// # Errors
/// `EPERM` where that is not the caller's own or one below it.
pub fn owner_of_namespace(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `_IO(NSIO, 1)`.
    const GET_USER_NAMESPACE: libc::Ioctl = 0xb701;
    // SAFETY: the call takes no argument and answers a new descriptor, close-on-exec, or -1.
    // JUSTIFICATION: rustix does not have it.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), GET_USER_NAMESPACE, 0) };
    check(fd.into())?;
    // SAFETY: the kernel made this descriptor for us just now; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Leaves the session keyring for a new one (KEYCTL_JOIN_SESSION_KEYRING): keys of whoever started the engine stay there.
pub fn new_session_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    // JUSTIFICATION: no crate of ours knows keyctl(2).
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<c_char>(),
        )
    };
    check(result).map(drop)
}

/// Sets soft and hard limit of a resource; `u64::MAX` is unlimited (prlimit64(2)).
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = [soft, hard];
    // SAFETY: struct rlimit64 is two u64s; no old limit is asked for.
    // JUSTIFICATION: rustix names resources by an enum; ours come as numbers from a plan.
    let result = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            limit.as_ptr(),
            std::ptr::null::<c_void>(),
        )
    };
    check(result).map(drop)
}

/// Makes every descriptor from this one on close at the next execve (close_range(2)).
pub fn close_on_exec_from(first: u32) {
    // SAFETY: takes numbers; descriptors stay open until execve.
    // JUSTIFICATION: rustix has no close_range. An old kernel's refusal is no harm: all are close-on-exec at birth.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
}

/// Takes over descriptors that were open when the program was executed, and makes them close-on-exec: those of sd_listen_fds(3).
/// Once per descriptor, before anything else that might own them.
///
/// # Errors
/// `EBADF` when one of them is not open.
pub fn take_inherited(first: i32, count: u32) -> io::Result<Vec<OwnedFd>> {
    let numbers = (0..count).map_while(|n| first.checked_add(i32::try_from(n).ok()?));
    let take = |number: i32| {
        // SAFETY: F_SETFD changes a flag of a descriptor by number and fails on one that is not open.
        // JUSTIFICATION: rustix takes descriptors that are owned already.
        check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
        // SAFETY: it is open, as just seen, and by the caller's word nobody else in this process owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    numbers.map(take).collect()
}

/// Closes every descriptor from this one on (close_range(2)). For the first moments of a program, when no value owns one.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: takes numbers; the caller owns no descriptor yet (documented).
    // JUSTIFICATION: rustix has no close_range.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Makes a terminal the controlling one of this session (TIOCSCTTY).
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    // JUSTIFICATION: the same as rustix', which wants its own process feature set.
    check(c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0)
    }))
    .map(drop)
}

/// Gives every signal its default action and unblocks all: whoever started the program may have left others.
pub fn reset_signals() {
    for signal in 1..=64 {
        default_signal(signal);
    }
    unblock_signals();
}

/// Blocks no signal any more.
pub fn unblock_signals() {
    // SAFETY: an emptied set is valid for sigprocmask.
    // JUSTIFICATION: no safe crate offers the mask.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Gives a signal its default action.
pub fn default_signal(signal: i32) {
    // SAFETY: SIG_DFL is valid for every signal; those that cannot change answer an error that is meant to be lost.
    // JUSTIFICATION: no safe crate sets dispositions without a handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Ignores SIGPIPE: writes to who is gone fail and do not kill.
pub fn ignore_pipes() {
    // SAFETY: SIG_IGN is valid for it.
    // JUSTIFICATION: as above.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Where the kernel finds a process' command line for others to see.
#[derive(Clone, Copy, Debug)]
pub struct ArgumentArea {
    start: usize,
    length: usize,
}

impl ArgumentArea {
    /// That of this process (proc(5), `arg_start` and `arg_end`); `None` without a procfs.
    #[must_use]
    pub fn find() -> Option<Self> {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let start: usize = fields.nth(45)?.parse().ok()?;
        let end: usize = fields.next()?.parse().ok()?;
        let length = end.checked_sub(start)?;
        (start != 0 && length != 0).then_some(Self { start, length })
    }

    /// Shows a text in place of the command line, cut to its room. For a process of one thread that reads its arguments no
    /// more, as a fork of the one that found this.
    pub fn rename(&self, text: &str) {
        let kept = text.len().min(self.length - 1);
        // SAFETY: the kernel put the arguments there, on the stack of the program's start, writable, and they stay for the
        // life of the process; nobody else reads or writes them (documented).
        // JUSTIFICATION: PR_SET_MM needs a capability that containers lack.
        let area = unsafe { std::slice::from_raw_parts_mut(self.start as *mut u8, self.length) };
        area.fill(0);
        area[..kept].copy_from_slice(&text.as_bytes()[..kept]);
    }
}

/// Argument or environment strings as execve(2) wants them: made before the fork, so that nothing is allocated after.
#[derive(Debug)]
pub struct StringTable {
    /// Owns what `pointers` point to.
    _strings: Vec<std::ffi::CString>,
    pointers: Vec<*const c_char>,
}

impl StringTable {
    /// Lays strings out; those with a NUL inside are refused.
    pub fn new<S: Into<Vec<u8>>>(strings: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let strings = strings
            .into_iter()
            .map(std::ffi::CString::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Ok(Self {
            _strings: strings,
            pointers,
        })
    }
}

/// Becomes another program (execve(2)). Returns only to say why not.
pub fn execute(path: &CStr, arguments: &StringTable, environment: &StringTable) -> io::Error {
    // SAFETY: both tables end in a null pointer and point to NUL-terminated strings they own.
    // JUSTIFICATION: std's exec allocates and resets signals of its own accord.
    unsafe {
        libc::execve(
            path.as_ptr(),
            arguments.pointers.as_ptr(),
            environment.pointers.as_ptr(),
        );
    }
    io::Error::last_os_error()
}

/// Ends the process at once, running nothing (_exit(2)): the only end a forked child may have.
pub fn end_now(status: i32) -> ! {
    // SAFETY: does not return.
    // JUSTIFICATION: std's exit runs handlers of the parent program.
    unsafe { libc::_exit(status) }
}
