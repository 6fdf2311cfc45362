//! Network namespaces, as files that name them. Which thread is in which is the caller's care.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// The calling thread's network namespace.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// The network namespace of another process.
pub fn of_process(pid: u32) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{pid}/ns/net"))?.into())
}

/// Moves the calling thread into a new, empty network namespace. Needs CAP_SYS_ADMIN.
pub fn enter_new() -> io::Result<()> {
    // SAFETY: only CLONE_FILES makes unshare unsafe (descriptors would stop being shared); NEWNET alone touches
    // nothing that Rust's types rely on.
    // JUSTIFICATION: rustix, the safe crate for this, marks the whole call unsafe.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// Moves the calling thread into a network namespace. Needs CAP_SYS_ADMIN.
pub fn enter(netns: impl AsFd) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// What tells the network namespace of a socket from every other (SO_NETNS_COOKIE, Linux 5.14).
#[expect(
    clippy::cast_possible_truncation,
    reason = "the size of an integer fits"
)]
pub fn cookie_of(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the descriptor is open for the call; value and length are live locals, and the length is the value's.
    // JUSTIFICATION: rustix has no such option.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(cookie)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes a network namespace on a thread of its own, so that the caller stays where it is.
pub fn create() -> io::Result<OwnedFd> {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter_new()?;
                current()
            })
            .join()
            .expect("opening a namespace does not panic")
    })
}
