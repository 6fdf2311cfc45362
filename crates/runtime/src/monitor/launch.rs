//! Making the container's process, and finding out how it ended.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hoist_model::Timestamp;
use hoist_sys::process::{self, Cloned, StringTable};
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::attached::Attached;
use super::log::Log;
use super::output::Output;
use super::{Monitor, Order, Size, Started};
use crate::child::{Child, NULL};
use crate::message::{self, Kind};
use crate::plan::ChildFailure;
use crate::spare::Furniture;

/// A monitor's slice of processor time, in nanoseconds: it never runs long.
const SLICE: u64 = 200_000;

fn failed(what: &'static str) -> impl Fn(io::Error) -> ChildFailure {
    move |error| ChildFailure::Clone {
        what: what.to_owned(),
        errno: error.raw_os_error().unwrap_or(libc::EIO),
    }
}

/// The container's ends of its pipes, and ours.
struct Pipes {
    theirs: [OwnedFd; 3],
    stdin: Option<OwnedFd>,
    outputs: Vec<Output>,
}

fn pipes(open_stdin: bool, owner: Option<(u32, u32)>) -> io::Result<Pipes> {
    let (stdin, ours) = if open_stdin {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        (read, Some(write))
    } else {
        (
            openat(CWD, NULL, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            None,
        )
    };
    let (stdout_read, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr_read, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    if let Some(ours) = &ours {
        rustix::io::ioctl_fionbio(ours, true)?;
    }
    if let Some((uid, gid)) = owner {
        let pipes = [&stdout, &stderr].into_iter();
        for pipe in pipes.chain(ours.is_some().then_some(&stdin)) {
            rustix::fs::fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
    }
    Ok(Pipes {
        theirs: [stdin, stdout, stderr],
        stdin: ours,
        outputs: vec![Output::new(stdout_read, 1)?, Output::new(stderr_read, 2)?],
    })
}

/// Makes the descriptors of a start, and lets them go (see [`crate::spare`]).
pub(crate) fn rehearse() -> bool {
    pipes(false, None).is_ok() && message::pair().is_ok()
}

impl Monitor {
    /// Clones the child, lets it carry the plan out, and answers once the program was executed.
    pub(super) fn start(
        order: &Order,
        mut fds: impl Iterator<Item = OwnedFd>,
        furniture: Vec<Furniture>,
    ) -> Result<Self, ChildFailure> {
        let missing = || ChildFailure::Clone {
            what: "order".to_owned(),
            errno: libc::EBADF,
        };
        let listener = order.has_listener.then(|| fds.next()).flatten();
        let record = order.has_record.then(|| fds.next()).flatten();
        let log = match &order.log {
            Some(log) => Some((fds.next().ok_or_else(missing)?, log.clone())),
            None => None,
        };
        let mut attached = Vec::with_capacity(order.attached.len());
        for streams in &order.attached {
            attached.push(Attached::new(
                fds.next().ok_or_else(missing)?,
                *streams,
                order.terminal,
            ));
        }
        let kept: Vec<OwnedFd> = fds.by_ref().take(order.kept).collect();
        let plan_fds: Vec<OwnedFd> = fds.collect();
        let pipes = if order.terminal {
            None
        } else {
            Some(pipes(order.open_stdin, order.plan.streams).map_err(failed("pipe"))?)
        };
        let (report, theirs) = message::pair().map_err(failed("socketpair"))?;
        let arguments =
            StringTable::new(order.plan.arguments.iter().cloned()).map_err(failed("arguments"))?;
        let environment = StringTable::new(order.plan.environment.iter().cloned())
            .map_err(failed("environment"))?;
        if let Some((fd, kinds)) = order.plan.pid_namespace {
            let namespace = plan_fds.get(fd).ok_or_else(missing)?;
            process::enter_namespaces(namespace.as_fd(), kinds)
                .map_err(failed("enter pid namespace"))?;
        }
        let cgroup = order
            .plan
            .cgroup
            .and_then(|fd| plan_fds.get(fd))
            .map(AsFd::as_fd);
        let cloned = process::clone_into(order.plan.namespaces, cgroup).map_err(failed("clone"))?;
        let mut born = match cloned {
            Cloned::Child => {
                // They are none of its, and with them it might have no number left to open anything.
                drop(kept);
                Child {
                    plan: &order.plan,
                    fds: &plan_fds,
                    furniture: &furniture,
                    streams: pipes.as_ref().map(|pipes| &pipes.theirs),
                    report: &theirs,
                    arguments: &arguments,
                    environment: &environment,
                }
                .run()
            }
            Cloned::Parent { pid, pidfd } => Born { pid, pidfd },
        };
        // Its start is answered by us, who wake just when the program begins to use this processor.
        let _ = process::set_slice(SLICE);
        // While we hold its mount namespace, taking the mounts down is our work after its end is told, not its own before
        // that: grace periods, and a sync of the file system its changes are on. A kernel that cannot say is no loss.
        let mut mounts = process::mount_namespace(born.pidfd.as_fd()).ok();
        drop((theirs, plan_fds, furniture));
        if order.plan.pid_namespace.is_some() {
            // Back in our own: whose children are born elsewhere can make no thread, which the log may want.
            let own = rustix::process::pidfd_open(
                rustix::process::getpid(),
                rustix::process::PidfdFlags::empty(),
            );
            let _ = own.map(|own| process::enter_namespaces(own.as_fd(), libc::CLONE_NEWPID));
        }
        // Now that the child is cloned there may be threads. While it is busy with its plan, nobody waits for this.
        let log = log
            .map(|(directory, order)| Log::open(directory, order))
            .transpose();
        let terminal = await_program(&report, &mut born, order.plan.descends())?;
        if order.plan.descends() {
            mounts = process::mount_namespace(born.pidfd.as_fd()).ok();
        }
        let Born { pid, pidfd } = born;
        let log = log.map_err(failed("log"))?;
        let mut monitor = Self {
            control: None,
            listener,
            record,
            started: Started {
                pid,
                started_at: now(),
                carried: super::Carried::default(),
            },
            pidfd,
            _mounts: mounts,
            is_successor: false,
            line: None,
            ended: None,
            noted: false,
            outputs: Vec::new(),
            stdin: None,
            input: Vec::new(),
            input_ends: false,
            terminal: None,
            stdin_once: order.stdin_once,
            attached,
            spilled: std::rc::Rc::default(),
            log,
            kept,
        };
        if let Some(pipes) = pipes {
            monitor.stdin = pipes.stdin;
            monitor.outputs = pipes.outputs;
        }
        if let Some(terminal) = terminal {
            let copies = terminal
                .try_clone()
                .and_then(|a| Ok((a, terminal.try_clone()?)));
            let (read, write) = copies.map_err(failed("dup"))?;
            monitor.outputs = vec![Output::new(read, 1).map_err(failed("terminal"))?];
            monitor.stdin = order.open_stdin.then_some(write);
            monitor.terminal = Some(terminal);
        }
        Ok(monitor)
    }
}

/// The process that becomes the program.
struct Born {
    pid: i32,
    pidfd: OwnedFd,
}

/// Hears from the child until it became the program (the socket closes) or could not; answers its terminal, if one was made.
/// One that descends is replaced by the process that goes on; they may be heard in any order.
fn await_program(
    report: &OwnedFd,
    born: &mut Born,
    descends: bool,
) -> Result<Option<OwnedFd>, ChildFailure> {
    let heard = failed("hear from the child");
    let (mut terminal, mut failure, mut descended) = (None, None, false);
    while let Some(message) = message::receive(report).map_err(&heard)? {
        match message.kind {
            Kind::Attach => terminal = message.fds.into_iter().next(),
            Kind::Descended => {
                let pid = message.body().map_err(&heard)?;
                if let Some(pidfd) = message.fds.into_iter().next() {
                    let _ = reap_blocking(&born.pidfd);
                    *born = Born { pid, pidfd };
                    descended = true;
                }
            }
            _ => {
                failure = Some(message.body().map_err(&heard)?);
                if descended || !descends {
                    break;
                }
            }
        }
    }
    match failure {
        Some(failure) => {
            let _ = reap_blocking(&born.pidfd);
            Err(failure)
        }
        None if descends && !descended => Err(heard(io::Error::from_raw_os_error(libc::ECHILD))),
        None => Ok(terminal),
    }
}

/// How the process ended: 0 to 255, or 128 and the signal; `None` if it has not.
pub(super) fn reap(pidfd: &OwnedFd) -> Option<i32> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    exit_code(
        waitid(WaitId::PidFd(pidfd.as_fd()), options)
            .ok()
            .flatten()?,
    )
}

fn reap_blocking(pidfd: &OwnedFd) -> Option<i32> {
    exit_code(
        waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
            .ok()
            .flatten()?,
    )
}

fn exit_code(status: rustix::process::WaitIdStatus) -> Option<i32> {
    status
        .exit_status()
        .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
}

/// Sets a terminal's size; one that is closing does not mind.
pub(super) fn resize(terminal: &OwnedFd, size: &Size) {
    let size = rustix::termios::Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let _ = rustix::termios::tcsetwinsize(terminal, size);
}

/// Now. The monitor is an edge: it is where a process is seen to end.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_nanos(since.map_or(0, |d| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX)))
}
