//! The child between clone and execve: a loop over the plan's steps.
//!
//! It runs on a copy of a monitor's memory, in a process of one thread, so nothing another thread held can be locked here.
//! No step looks anything up by a path of the host: targets are opened below the root with `openat2`
//! (`RESOLVE_IN_ROOT`, no magic links) and mounts move from descriptor to descriptor, so that no link or race of a hostile
//! image leads out. There is no way back: success is execve, failure is a report and the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use hoist_sys::mount_attributes::{self, MountAttributes};
use hoist_sys::process::{self, Cloned, StringTable};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Uid, fstat, openat, openat2};
use rustix::mount::UnmountFlags;

use crate::below_root::{
    attach, clone_mount, copy_of, directory, directory_flags, file_system, in_root, link, make,
    make_real_directory, node, path_flags,
};
use crate::message::{self, Kind};
use crate::plan::{ChildFailure, FdIndex, Plan, Step};
use crate::spare::Furniture;

/// Where the zygote keeps, in its private root, a directory to place a container's root on.
pub(crate) const ROOT_PLACE: &str = "/root";
/// The zygote's own null device: what files are masked with. Never the container's.
pub(crate) const NULL: &str = "/null";

/// The zygote's own empty directory: what directories are masked with.
pub(crate) const EMPTY: &str = "/empty";

/// The soft limit of open files that programs get. Zygote and monitors have what the engine raised its own to, for a monitor
/// keeps sockets of ports, as many as its container publishes.
static FILES: OnceLock<u64> = OnceLock::new();

/// Says what the soft limit of open files of programs is, before the first is started.
pub(crate) fn limit_files_to(soft: u64) {
    // There is one zygote in a process, and it says so once.
    let _ = FILES.set(soft);
}

/// Goes back to the soft limit of open files that the engine was started with, and has raised for itself.
fn lower_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    if let Some(soft) = FILES.get().copied() {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = (soft != u64::MAX).then_some(soft);
        let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
    }
}

/// What a child works with.
pub(crate) struct Child<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) fds: &'a [OwnedFd],
    /// File systems that were made ahead.
    pub(crate) furniture: &'a [Furniture],
    /// To become 0, 1 and 2 where no terminal is made.
    pub(crate) streams: Option<&'a [OwnedFd; 3]>,
    /// To the monitor; closes on execve.
    pub(crate) report: &'a OwnedFd,
    pub(crate) arguments: &'a StringTable,
    pub(crate) environment: &'a StringTable,
}

/// What is opened on the way.
#[derive(Default)]
struct Opened {
    root: Option<OwnedFd>,
    procfs: Option<OwnedFd>,
}

impl Opened {
    fn root(&self) -> io::Result<BorrowedFd<'_>> {
        self.root
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }
}

impl Child<'_> {
    /// Carries the plan out. Does not return.
    pub(crate) fn run(&self) -> ! {
        let failure = self.become_program();
        // The monitor may be gone; then nobody wants to know.
        let _ = message::send(self.report, Kind::Failed, &failure, &[]);
        process::end_now(127)
    }

    fn become_program(&self) -> ChildFailure {
        // Before the steps, of which one may say another limit, and one may forbid to say any.
        lower_file_limit();
        let mut opened = Opened::default();
        // A kernel without keyrings has none to leave; one that refuses gives the container none either.
        let _ = process::new_session_keyring();
        let mut index = 0;
        while let Some(step) = self.plan.steps.get(index) {
            let done = match self.made_ahead(index) {
                Some(made) => self.install(step, made, &opened).map(|()| made.steps.len()),
                None => self.step(step, &mut opened).map(|()| 1),
            };
            match done {
                Ok(steps) => index += steps,
                Err(error) => {
                    let errno = errno(&error);
                    return ChildFailure::Step { index, errno };
                }
            }
        }
        drop(opened);
        // What the zygote and the monitor did not leave at its default.
        process::default_signal(libc::SIGPIPE);
        rustix::process::umask(Mode::from_raw_mode(0o022));
        process::close_on_exec_from(3);
        if self.plan.init
            && let Err(error) = crate::init::stay_behind()
        {
            return ChildFailure::Clone {
                what: "fork from the init".to_owned(),
                errno: errno(&error),
            };
        }
        self.execute()
    }

    /// What was made ahead of the steps from here on.
    fn made_ahead(&self, index: usize) -> Option<&Furniture> {
        let rest = self.plan.steps.get(index..)?;
        let is_meant = |made: &&Furniture| rest.starts_with(&made.steps);
        self.furniture
            .iter()
            .find(is_meant)
            .filter(|_| !self.plan.has_own_users())
    }

    fn install(&self, step: &Step, made: &Furniture, opened: &Opened) -> io::Result<()> {
        let Step::Mount { target, .. } = step else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let place = make(opened.root()?, target, true)?;
        attach(made.mount.as_fd(), place.as_fd())
    }

    /// Tries every candidate. As with Go's `exec.LookPath`, a file that may not be executed is not what a look-up looks
    /// for.
    fn execute(&self) -> ChildFailure {
        for candidate in &self.plan.candidates {
            // Asking is ten times cheaper than an execve that fails.
            if self.plan.looks_up() && rustix::fs::stat(candidate.as_str()).is_err() {
                continue;
            }
            let errno = match std::ffi::CString::new(candidate.as_str()) {
                Ok(path) => errno(&process::execute(&path, self.arguments, self.environment)),
                Err(_) => libc::EINVAL,
            };
            let kind = rustix::fs::stat(candidate.as_str())
                .ok()
                .map(|stat| FileType::from_raw_mode(stat.st_mode));
            let refused = ChildFailure::Refused {
                errno,
                path: candidate.clone(),
            };
            match errno {
                // What is there while exec says that something is not: its interpreter is meant.
                libc::ENOENT if kind.is_some() => return refused,
                libc::ENOENT | libc::ENOTDIR | libc::EACCES if self.plan.looks_up() => {}
                libc::EACCES if kind == Some(FileType::Directory) => {
                    return ChildFailure::Execute {
                        errno: libc::EISDIR,
                    };
                }
                libc::ENOENT | libc::ENOTDIR | libc::EACCES => {
                    return ChildFailure::Execute { errno };
                }
                _ => return refused,
            }
        }
        ChildFailure::Execute {
            errno: libc::ENOENT,
        }
    }

    fn fd(&self, index: FdIndex) -> io::Result<BorrowedFd<'_>> {
        self.fds
            .get(index)
            .map(AsFd::as_fd)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))
    }

    fn step(&self, step: &Step, opened: &mut Opened) -> io::Result<()> {
        match step {
            Step::JoinCgroup(fd) => rustix::io::write(self.fd(*fd)?, b"0").map(drop)?,
            Step::Enter {
                namespace, kinds, ..
            } => {
                process::enter_namespaces(self.fd(*namespace)?, *kinds)?;
            }
            Step::Unshare { kinds, .. } => process::unshare(*kinds)?,
            Step::Descend {
                user,
                pid,
                namespaces,
            } => self.descend(*user, *pid, *namespaces)?,
            // No privilege is lost: who was root outside is nobody in here.
            Step::BecomeRoot => process::set_credentials(0, 0, &[])?,
            Step::PlaceRoot { mount } => {
                let place = openat(
                    CWD,
                    ROOT_PLACE,
                    OFlags::PATH | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                attach(self.fd(*mount)?, place.as_fd())?;
                opened.root = Some(openat(CWD, ROOT_PLACE, directory_flags(), Mode::empty())?);
            }
            Step::KeepRoot => {
                opened.root = Some(openat(CWD, "/", directory_flags(), Mode::empty())?)
            }
            Step::Place {
                mount,
                target,
                directory,
                attributes,
                recursive,
                propagation,
            } => {
                let mount = self.fd(*mount)?;
                let target = make(opened.root()?, target, *directory)?;
                mount_attributes::set_attributes(
                    mount,
                    *recursive,
                    &MountAttributes::new(*attributes, 0, *propagation),
                )?;
                attach(mount, target.as_fd())?;
            }
            Step::Share { process, target } => {
                let procfs = file_system("proc", &[], 0)?;
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let own = openat(&procfs, "self/ns/mnt", flags, Mode::empty())?;
                let kind = libc::CLONE_NEWNS;
                process::enter_namespaces(self.fd(*process)?, kind)?;
                let copied = copy_of(target);
                process::enter_namespaces(own.as_fd(), kind)?;
                let place = make(opened.root()?, target, true)?;
                attach(copied?.as_fd(), place.as_fd())?;
            }
            Step::Mount {
                kind,
                options,
                target,
                attributes,
            } => {
                let mount = file_system(kind, options, *attributes)?;
                let target = if matches!(kind.as_str(), "proc" | "sysfs") {
                    make_real_directory(opened.root()?, target)?
                } else {
                    make(opened.root()?, target, true)?
                };
                attach(mount.as_fd(), target.as_fd())?;
            }
            Step::Node {
                path,
                mode,
                major,
                minor,
                uid,
                gid,
            } => {
                node(opened.root()?, path, *mode, (*major, *minor), (*uid, *gid))?;
            }
            Step::Link { path, to } => {
                link(opened.root()?, path, to)?;
            }
            Step::Terminal {
                rows,
                columns,
                console,
                uid,
            } => {
                let owner = Uid::from_raw(*uid);
                self.terminal(opened.root()?, (*rows, *columns), *console, owner)?;
            }
            Step::Streams { uid } => self.place_streams(*uid)?,
            Step::Sysctl { path, value } => {
                write_proc(&mut opened.procfs, &format!("sys/{path}"), value)?;
            }
            Step::OomScore(score) => {
                write_proc(&mut opened.procfs, "self/oom_score_adj", &score.to_string())?;
            }
            Step::Hostname(name) => rustix::system::sethostname(name.as_bytes())?,
            Step::Domainname(name) => rustix::system::setdomainname(name.as_bytes())?,
            Step::Mask(path) => mask(opened, path)?,
            Step::Protect(path) => protect(opened.root()?, path)?,
            Step::ProtectRoot => mount_attributes::set_attributes(
                opened.root()?,
                false,
                &MountAttributes::new(mount_attributes::READ_ONLY, 0, 0),
            )?,
            Step::Pivot => {
                rustix::process::fchdir(opened.root()?)?;
                rustix::process::pivot_root(".", ".")?;
                rustix::mount::unmount(".", UnmountFlags::DETACH)?;
                rustix::process::chdir("/")?;
            }
            Step::MakeDirectory(path) => directory(opened.root()?, path)?,
            Step::MakeFile(path) => make(opened.root()?, path, false).map(drop)?,
            Step::WorkingDirectory(path) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let place = openat2(
                    CWD,
                    path.as_str(),
                    flags,
                    Mode::empty(),
                    ResolveFlags::NO_MAGICLINKS,
                )?;
                rustix::process::fchdir(&place)?;
                // A directory outside the root shows as "(unreachable)…" (CVE-2024-21626).
                let inside = rustix::process::getcwd(Vec::new())?;
                if !inside.as_bytes().starts_with(b"/") {
                    return Err(io::Error::from_raw_os_error(libc::EPERM));
                }
            }
            Step::Limit {
                resource,
                soft,
                hard,
            } => process::set_limit(*resource, *soft, *hard)?,
            Step::NoNewPrivileges => process::set_no_new_privileges()?,
            Step::Credentials {
                uid,
                gid,
                groups,
                bounding,
                effective,
                permitted,
                inheritable,
            } => {
                process::keep_bounding(*bounding)?;
                process::keep_capabilities(true)?;
                process::set_credentials(*uid, *gid, groups)?;
                process::keep_capabilities(false)?;
                process::clear_ambient()?;
                process::set_capabilities(*effective, *permitted, *inheritable)?;
            }
            Step::Confine(profile) => {
                // At once and not at the next execve: the tiny init never executes anything.
                let order = format!("changeprofile {profile}");
                write_proc(&mut opened.procfs, "self/attr/apparmor/current", &order)?;
            }
            Step::Seccomp { program, flags } => process::install_seccomp(program, *flags)?,
        }
        Ok(())
    }

    /// Returns as the new process, a child of the monitor's as this one is; this one tells the monitor of it and ends.
    fn descend(&self, user: FdIndex, pid: Option<FdIndex>, namespaces: u64) -> io::Result<()> {
        if let Some(pid) = pid {
            process::enter_namespaces(self.fd(pid)?, libc::CLONE_NEWPID)?;
        }
        process::enter_namespaces(self.fd(user)?, libc::CLONE_NEWUSER)?;
        process::set_credentials(0, 0, &[])?;
        match process::clone_sibling(namespaces)? {
            Cloned::Child => Ok(()),
            Cloned::Parent { pid, pidfd } => {
                // Without a monitor nobody waits for either.
                let _ = message::send(self.report, Kind::Descended, &pid, &[pidfd.as_fd()]);
                process::end_now(0)
            }
        }
    }

    fn place_streams(&self, uid: u32) -> io::Result<()> {
        let streams = self
            .streams
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        rustix::process::setsid()?;
        for stream in streams {
            // So that the program may open /dev/stdout anew; a null device is not ours to give away.
            if FileType::from_raw_mode(fstat(stream)?.st_mode) == FileType::Fifo {
                rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None)?;
            }
        }
        rustix::stdio::dup2_stdin(&streams[0])?;
        rustix::stdio::dup2_stdout(&streams[1])?;
        rustix::stdio::dup2_stderr(&streams[2])?;
        Ok(())
    }

    fn terminal(
        &self,
        root: BorrowedFd<'_>,
        (rows, columns): (u16, u16),
        console: bool,
        owner: Uid,
    ) -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = openat2(root, "dev/pts/ptmx", flags, Mode::empty(), in_root())?;
        let stat = fstat(&master)?;
        let ptmx = rustix::fs::makedev(5, 2);
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
            || stat.st_rdev != ptmx
        {
            return Err(io::Error::from_raw_os_error(libc::ENOTTY));
        }
        rustix::pty::unlockpt(&master)?;
        let open = rustix::pty::OpenptFlags::RDWR
            | rustix::pty::OpenptFlags::NOCTTY
            | rustix::pty::OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, open)?;
        let size = rustix::termios::Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size)?;
        // The group stays the one that devpts gives.
        rustix::fs::fchown(&slave, Some(owner), None)?;
        message::send(self.report, Kind::Attach, &(), &[master.as_fd()])?;
        if console {
            let name = rustix::pty::ptsname(&master, Vec::new())?;
            let name = name.to_string_lossy().into_owned();
            let node = openat2(root, name.as_str(), path_flags(), Mode::empty(), in_root())?;
            let clone = clone_mount(node.as_fd(), false)?;
            let place = make(root, "/dev/console", false)?;
            attach(clone.as_fd(), place.as_fd())?;
        }
        rustix::process::setsid()?;
        process::set_controlling_terminal(slave.as_fd())?;
        rustix::stdio::dup2_stdin(&slave)?;
        rustix::stdio::dup2_stdout(&slave)?;
        rustix::stdio::dup2_stderr(&slave)?;
        Ok(())
    }
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Writes through a procfs of our own that nobody else can have tampered with.
fn write_proc(procfs: &mut Option<OwnedFd>, path: &str, value: &str) -> io::Result<()> {
    let mount = match procfs {
        Some(mount) => mount,
        None => procfs.insert(file_system("proc", &[], 0)?),
    };
    let file = openat(mount, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

/// Covers a path, if it is there, with the zygote's null device or empty directory: inodes that no container can change.
fn mask(opened: &Opened, path: &str) -> io::Result<()> {
    let target = match openat2(opened.root()?, path, path_flags(), Mode::empty(), in_root()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        result => result?,
    };
    let is_directory = FileType::from_raw_mode(fstat(&target)?.st_mode) == FileType::Directory;
    let cover = openat(
        CWD,
        if is_directory { EMPTY } else { NULL },
        path_flags(),
        Mode::empty(),
    )?;
    let cover = clone_mount(cover.as_fd(), false)?;
    let attributes = MountAttributes::new(mount_attributes::READ_ONLY, 0, 0);
    mount_attributes::set_attributes(cover.as_fd(), false, &attributes)?;
    attach(cover.as_fd(), target.as_fd())
}

/// Makes a path, if it is there, read-only.
fn protect(root: BorrowedFd<'_>, path: &str) -> io::Result<()> {
    let target = match openat2(root, path, path_flags(), Mode::empty(), in_root()) {
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        result => result?,
    };
    let own = clone_mount(target.as_fd(), true)?;
    let attributes = MountAttributes::new(mount_attributes::READ_ONLY, 0, 0);
    mount_attributes::set_attributes(own.as_fd(), true, &attributes)?;
    attach(own.as_fd(), target.as_fd())
}
