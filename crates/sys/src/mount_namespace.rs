//! Mount namespaces of our own, for views of file systems that nobody else sees.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

/// Runs `work` in a private copy of the caller's mount namespace, on a thread of its own, and answers the namespace with
/// what `work` answers: mounts made there live as long as the descriptor. Needs CAP_SYS_ADMIN; blocking.
pub fn with_private<T: Send>(
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<(OwnedFd, T)> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            // SAFETY: only CLONE_FILES makes unshare unsafe; NEWNS also unshares this thread's working directory and
            // umask, and the thread ends with this closure.
            // JUSTIFICATION: rustix, the safe crate for this, marks the whole call unsafe.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
            // What is mounted here must not appear on the host.
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private)?;
            let namespace = File::open("/proc/thread-self/ns/mnt")?.into();
            Ok((namespace, work()?))
        });
        match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
