//! The floor that a container's start is measured against: the kernel's own work and nothing else.
//!
//! One clone3 into new mount, pid, uts, ipc, cgroup and network namespaces, an overlay, a private proc,
//! pivot_root, execve, wait. No plan, no seccomp, no cgroup limits, no stdio, no logs: an engine does more and
//! is judged by how little it costs. Only `cargo xtask bench` calls this.

use std::ffi::CString;
use std::io;

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};

/// What one start took.
#[derive(Clone, Copy, Debug)]
pub struct FloorTimes {
    /// From before the clone until the program's execve had happened.
    pub to_exec: Duration,
    /// From before the clone until the program had ended and was reaped.
    pub to_reaped: Duration,
}

/// Where the root file system comes from and what is run in it: every string resolved before the clone.
#[derive(Debug)]
pub struct FloorStage {
    options: CString,
    root: CString,
    program: CString,
}

const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWNET;

impl FloorStage {
    /// `lower` is a directory with a root file system that has `proc`; `upper`, `work` and `root` are empty
    /// directories of the caller's; `program` is a path in the root file system, of a static executable.
    ///
    /// # Errors
    /// `InvalidInput` for a path with a zero byte.
    pub fn new(
        lower: &Path,
        upper: &Path,
        work: &Path,
        root: &Path,
        program: &Path,
    ) -> io::Result<Self> {
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            upper.display(),
            work.display()
        );
        Ok(Self {
            options: CString::new(options)?,
            root: CString::new(root.as_os_str().as_bytes())?,
            program: CString::new(program.as_os_str().as_bytes())?,
        })
    }

    /// Runs the program once in a container and waits for it.
    ///
    /// # Errors
    /// The kernel's for the clone; `Other` naming the program's status when a step failed in the child (its
    /// number plus 100) or the program itself did not exit 0.
    pub fn start_and_wait(&self) -> io::Result<FloorTimes> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let start = Instant::now();
        let child = self.start()?;
        drop(writer);
        // The child's copy closes with its execve.
        rustix::io::read(&reader, &mut [0_u8; 1])?;
        let to_exec = start.elapsed();
        let status = wait(child)?;
        let to_reaped = start.elapsed();
        if status == 0 {
            Ok(FloorTimes { to_exec, to_reaped })
        } else {
            Err(io::Error::other(format!(
                "the floor's program ended with wait status {status:#x}"
            )))
        }
    }

    fn start(&self) -> io::Result<libc::pid_t> {
        let flags = NAMESPACES.cast_unsigned();
        // SAFETY: an all-zero clone_args is valid; with a null stack and no CLONE_VM the kernel forks, so the
        // child has a copy of everything, and runs only `child`, which does not return or allocate.
        // JUSTIFICATION: rustix leaves clone3 to its caller.
        let child = unsafe {
            let mut arguments: libc::clone_args = std::mem::zeroed();
            arguments.flags = u64::from(flags);
            arguments.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
            let size = size_of::<libc::clone_args>();
            let child = libc::syscall(libc::SYS_clone3, &raw mut arguments, size);
            if child == 0 {
                self.child();
            }
            child
        };
        if child < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::pid_t::try_from(child).map_err(io::Error::other)
    }

    /// The child's life: system calls on strings that are there already.
    fn child(&self) -> ! {
        let (none, data) = (std::ptr::null(), self.options.as_ptr().cast());
        let step = |number: libc::c_int, result: libc::c_int| {
            if result < 0 {
                // SAFETY: _exit ends this process, without unwinding and without handlers.
                // JUSTIFICATION: in a forked child nothing else may run.
                unsafe { libc::_exit(100 + number) }
            }
        };
        // SAFETY: each pointer is a NUL-terminated string owned by `self`, a literal, or null where mount(2)
        // allows it; execve gets NULL-terminated arrays that live until it.
        // JUSTIFICATION: rustix' mount functions may allocate for their arguments; a forked child must not.
        unsafe {
            let private = libc::MS_REC | libc::MS_PRIVATE;
            step(
                1,
                libc::mount(none, c"/".as_ptr(), none, private, std::ptr::null()),
            );
            let root = self.root.as_ptr();
            step(
                2,
                libc::mount(c"overlay".as_ptr(), root, c"overlay".as_ptr(), 0, data),
            );
            step(3, libc::chdir(root));
            let proc = c"proc".as_ptr();
            step(4, libc::mount(proc, proc, proc, 0, std::ptr::null()));
            let here = c".".as_ptr();
            let pivoted = libc::syscall(libc::SYS_pivot_root, here, here);
            step(5, if pivoted < 0 { -1 } else { 0 });
            step(6, libc::umount2(here, libc::MNT_DETACH));
            step(7, libc::chdir(c"/".as_ptr()));
            let arguments = [self.program.as_ptr(), std::ptr::null()];
            let environment = [std::ptr::null()];
            libc::execve(
                self.program.as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
            );
            libc::_exit(108)
        }
    }
}

fn wait(child: libc::pid_t) -> io::Result<libc::c_int> {
    let mut status = 0;
    // SAFETY: `status` is a live integer that the kernel writes to.
    // JUSTIFICATION: the raw wait status is wanted, for the message.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    if waited < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_runs_and_a_missing_one_is_told() {
        if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
            eprintln!("skipped: needs root and busybox-static");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["lower", "lower/proc", "lower/bin", "upper", "work", "root"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", path("lower/bin/true")).unwrap();
        let stage = |program: &str| {
            let (lower, upper) = (path("lower"), path("upper"));
            FloorStage::new(
                &lower,
                &upper,
                &path("work"),
                &path("root"),
                Path::new(program),
            )
        };
        let times = stage("/bin/true").unwrap().start_and_wait().unwrap();
        assert!(times.to_exec <= times.to_reaped);
        let error = stage("/bin/nothing").unwrap().start_and_wait().unwrap_err();
        assert!(error.to_string().ends_with("0x6c00"), "{error}");
    }
}
