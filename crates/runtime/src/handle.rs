//! The handle on everything that runs: orders go to the zygote, and what monitors say is heard in one place.

mod hear;
mod places;
mod spares;
mod succession;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_model::{ContainerId, Signal, Timestamp};
use rustix::event::epoll;
use tokio::sync::{mpsc, oneshot};

pub use self::hear::Ears;
use self::places::{listener, log_order, make_directory, open_log_directory, order, record_slot};
use self::spares::Spares;
pub use self::succession::Keeper;

use self::succession::Held;
use crate::exit_record::{self, ExitRecord};
use crate::message::{self, Kind};
use crate::monitor::{Order, Size};
use crate::plan::{self, Plan};
use crate::seal;
use crate::spec::{ExecSpec, LaunchSpec, ProcessId, Streams};

/// What [`Runtime::start`] needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Directory of what lives as long as processes do, best on a tmpfs: `c/<id>/monitor.sock` and `c/<id>/exit`.
    pub exec_root: PathBuf,
    /// A program whose `main` calls [`crate::zygote_main`] when [`crate::is_zygote`] says so.
    pub executable: PathBuf,
    /// Files that zygotes' ids are written to, so that they and monitors are in groups of their own
    /// ([`hoist_cgroup::Cgroups::monitors`]).
    pub groups: Arc<[OwnedFd]>,
    /// Who has what monitors keep for later engines; without, a monitor's successor keeps none of it.
    pub keeper: Option<Keeper>,
}

/// The runtime cannot work here.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct RuntimeError {
    what: String,
    #[source]
    source: io::Error,
}

impl RuntimeError {
    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        hoist_model::ErrorClass::Internal
    }
}

/// A process could not be started. The text names the step and its operand; of the program it is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LaunchError {
    /// The sentence.
    pub message: String,
    /// 127 not found, 126 not executable, 128 anything else.
    pub exit_code: i32,
}

impl LaunchError {
    /// Anything but the program itself.
    #[must_use]
    pub fn system(what: &str, error: &io::Error) -> Self {
        Self {
            message: format!("{what}: {error}"),
            exit_code: 128,
        }
    }

    /// The kind of failure.
    #[must_use]
    pub fn class(&self) -> hoist_model::ErrorClass {
        match self.exit_code {
            126 | 127 => hoist_model::ErrorClass::InvalidArgument,
            _ => hoist_model::ErrorClass::Internal,
        }
    }
}

/// A process that was started: its program was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launched {
    /// Its id in the engine's PID namespace.
    pub pid: i32,
    /// When.
    pub started_at: Timestamp,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitNotice {
    /// Whose.
    pub of: ProcessId,
    /// How; `None` if its monitor died before it.
    pub record: Option<ExitRecord>,
}

/// What became of a container while no engine watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It runs, and its monitor reports to us from now on.
    Running(Launched),
    /// It ended.
    Exited(ExitRecord),
    /// Nobody knows.
    Unknown,
}

/// Everything that runs. Cheap to clone; the zygote ends with the last clone, containers do not.
#[derive(Clone)]
pub struct Runtime {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    /// The soft limit of open files that containers inherit.
    files: u64,
    /// Locked for one send, or to start a zygote anew.
    zygote: Mutex<Zygote>,
    /// Locked for single changes and for a look at the zygote; never while anything is sent.
    spares: Mutex<Spares>,
    /// Locked for single look-ups and changes.
    processes: Mutex<Processes>,
    epoll: OwnedFd,
    exits: mpsc::UnboundedSender<ExitNotice>,
}

struct Zygote {
    socket: OwnedFd,
    process: std::process::Child,
}

/// The processes we hear of.
#[derive(Default)]
struct Processes {
    known: HashMap<ProcessId, Known>,
    /// Whose control socket epoll knows by which number.
    numbers: HashMap<u64, ProcessId>,
}

impl Processes {
    fn insert(&mut self, owner: ProcessId, known: Known) {
        self.numbers.insert(known.number, owner.clone());
        if let Some(old) = self.known.insert(owner, known) {
            self.numbers.remove(&old.number);
        }
    }

    fn remove(&mut self, owner: &ProcessId) -> Option<Known> {
        let known = self.known.remove(owner)?;
        self.numbers.remove(&known.number);
        Some(known)
    }

    /// Whose this number is, and the socket to hear.
    fn by_number(&self, number: u64) -> Option<(ProcessId, Arc<OwnedFd>)> {
        let owner = self.numbers.get(&number)?;
        Some((owner.clone(), self.known.get(owner)?.control.clone()))
    }
}

/// A process we hear of.
struct Known {
    number: u64,
    control: Arc<OwnedFd>,
    pidfd: Option<OwnedFd>,
    pid: i32,
    /// Who waits for the start, with the plan to explain its failure.
    starting: Option<(oneshot::Sender<Result<Launched, LaunchError>>, Plan)>,
    /// The end was told.
    ended: bool,
    /// What a successor of its monitor needs.
    held: Held,
}

impl Runtime {
    /// Starts the zygote. Whoever has the ears has to use them: without, no start is answered and no end is told. The channel
    /// carries exactly one notice for every process that was started here or found running. Blocking, some milliseconds.
    pub fn start(
        settings: Settings,
    ) -> Result<(Self, Ears, mpsc::UnboundedReceiver<ExitNotice>), RuntimeError> {
        let failed = |what: String| move |source| RuntimeError { what, source };
        let directory = settings.exec_root.join("c");
        make_directory(&directory).map_err(failed(format!("mkdir {}", directory.display())))?;
        let files = seal::raise_file_limit();
        let (socket, process) = seal::spawn(&settings, files).map_err(failed(format!(
            "start the zygote from {}",
            settings.executable.display()
        )))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| failed("epoll".to_owned())(error.into()))?;
        let (exits, notices) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            settings,
            files,
            zygote: Mutex::new(Zygote { socket, process }),
            spares: Mutex::default(),
            processes: Mutex::default(),
            epoll,
            exits,
        });
        let heard = shared
            .epoll
            .try_clone()
            .map_err(failed("epoll".to_owned()))?;
        let ears = Ears::new(Arc::downgrade(&shared), heard);
        shared.make_spares();
        Ok((Self { shared }, ears, notices))
    }

    /// Starts a container. The answer comes once its program was executed or could not be. A few system calls in the
    /// caller's thread, never a wait. Of a failed start nothing stays but what [`Runtime::release`] removes.
    pub fn launch(&self, spec: LaunchSpec) -> oneshot::Receiver<Result<Launched, LaunchError>> {
        let (reply, answer) = oneshot::channel();
        let owner = ProcessId::Container(spec.id.clone());
        let result = self.order_launch(spec, owner, reply);
        answer_failure(result);
        answer
    }

    fn order_launch(
        &self,
        mut spec: LaunchSpec,
        owner: ProcessId,
        reply: oneshot::Sender<Result<Launched, LaunchError>>,
    ) -> Result<(), Unordered> {
        let id = spec.id.clone();
        let prepare = || -> Result<(OwnedFd, OwnedFd, Option<OwnedFd>), (String, io::Error)> {
            let directory = self.directory(&id);
            let told = |what: &str| {
                let what = format!("{what} in {}", directory.display());
                move |error: io::Error| (what, error)
            };
            make_directory(&directory).map_err(told("make the container's directory"))?;
            let record = record_slot(&directory).map_err(told("make the exit record"))?;
            let listener = listener(&directory).map_err(told("make the monitor's socket"))?;
            let log = spec.log.as_ref().map(open_log_directory).transpose();
            let log = log.map_err(|error| ("open the log's directory".to_owned(), error))?;
            Ok((listener, record, log))
        };
        let (listener, record, log_directory) = match prepare() {
            Ok(made) => made,
            Err((what, error)) => {
                return Err(Unordered {
                    reply,
                    error: LaunchError::system(&what, &error),
                });
            }
        };
        let attached = std::mem::take(&mut spec.attached);
        let kept = std::mem::take(&mut spec.kept);
        let log = spec.log.as_ref().map(log_order);
        let process = spec.process.clone();
        let (plan, fds) = plan::launch(spec);
        let order = Order {
            kept: kept.len(),
            ..order(plan, &process, log, &attached, true)
        };
        let mut all = vec![listener, record];
        all.extend(log_directory);
        all.extend(
            attached
                .into_iter()
                .map(|(_, stream)| OwnedFd::from(stream)),
        );
        all.extend(kept);
        all.extend(fds.0);
        self.order(owner, order, &all, reply)
    }

    /// Starts a further process in a running container. As [`Runtime::launch`].
    pub fn exec(&self, mut spec: ExecSpec) -> oneshot::Receiver<Result<Launched, LaunchError>> {
        let (reply, answer) = oneshot::channel();
        let owner = ProcessId::Exec(spec.id.clone());
        let attached: Vec<_> = spec.attached.take().into_iter().collect();
        let process = spec.process.clone();
        let (plan, fds) = plan::exec(spec);
        let order = order(plan, &process, None, &attached, false);
        let mut all: Vec<OwnedFd> = attached
            .into_iter()
            .map(|(_, stream)| OwnedFd::from(stream))
            .collect();
        all.extend(fds.0);
        answer_failure(self.order(owner, order, &all, reply));
        answer
    }

    /// Sends an order to a spare monitor, else to the zygote with a control socket of its own in front.
    fn order(
        &self,
        owner: ProcessId,
        order: Order,
        fds: &[OwnedFd],
        reply: oneshot::Sender<Result<Launched, LaunchError>>,
    ) -> Result<(), Unordered> {
        let mut borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let ordered = self
            .shared
            .order_spare(&order, &borrowed)
            .map(|ours| (ours, None));
        let pair = ordered.map_or_else(
            || message::pair().map(|(ours, theirs)| (ours, Some(theirs))),
            Ok,
        );
        let (ours, theirs) = match pair {
            Ok(pair) => pair,
            Err(error) => {
                let error = LaunchError::system("socketpair", &error);
                return Err(Unordered { reply, error });
            }
        };
        let known = Known {
            starting: Some((reply, order.plan.clone())),
            ..Known::new(ours)
        };
        self.shared.know(owner.clone(), known);
        let Some(theirs) = theirs else {
            return Ok(());
        };
        borrowed.insert(0, theirs.as_fd());
        let sent = self.shared.send_order(Kind::Order, &order, &borrowed);
        if let Err(error) = sent {
            let known = self.shared.processes().remove(&owner);
            if let Some((reply, _)) = known.and_then(|known| known.starting) {
                let error = LaunchError::system("reach the zygote", &error);
                return Err(Unordered { reply, error });
            }
        }
        Ok(())
    }

    /// Connects to the streams of a running process: Docker's frames, or raw bytes where it has a terminal.
    pub fn attach(&self, owner: &ProcessId, streams: Streams) -> io::Result<UnixStream> {
        let control = self.control(owner)?;
        let (ours, theirs) = UnixStream::pair()?;
        message::send(control.as_fd(), Kind::Attach, &streams, &[theirs.as_fd()])?;
        Ok(ours)
    }

    /// Sends a signal. A process that is no more is no error.
    pub fn signal(&self, owner: &ProcessId, signal: Signal) -> io::Result<()> {
        let processes = self.shared.processes();
        let Some(pidfd) = processes
            .known
            .get(owner)
            .and_then(|known| known.pidfd.as_ref())
        else {
            return Ok(());
        };
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        hoist_sys::process::signal_pidfd(pidfd.as_fd(), signal.number()).or_else(
            |error| match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(()),
                Some(_) => Err(error),
                None => Err(invalid()),
            },
        )
    }

    /// Sets the size of a terminal.
    pub fn resize(&self, owner: &ProcessId, rows: u16, columns: u16) -> io::Result<()> {
        let control = self.control(owner)?;
        message::send(control.as_fd(), Kind::Resize, &Size { rows, columns }, &[])
    }

    /// A descriptor of a running process.
    pub fn pidfd(&self, owner: &ProcessId) -> io::Result<OwnedFd> {
        let processes = self.shared.processes();
        let pidfd = processes
            .known
            .get(owner)
            .and_then(|known| known.pidfd.as_ref());
        pidfd.ok_or_else(not_running)?.try_clone()
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self, owner: &ProcessId) -> Option<i32> {
        let processes = self.shared.processes();
        processes
            .known
            .get(owner)
            .filter(|known| !known.ended)
            .map(|known| known.pid)
    }

    /// Removes the directory of a container that does not run.
    pub fn release(&self, id: &ContainerId) {
        let directory = self.directory(id);
        if let Err(error) = fs::remove_dir_all(&directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(directory = %directory.display(), %error, "an exit record stays");
        }
    }

    /// Containers that have a directory: what an earlier engine left.
    #[must_use]
    pub fn leftovers(&self) -> Vec<ContainerId> {
        let Ok(entries) = fs::read_dir(self.shared.settings.exec_root.join("c")) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    fn control(&self, owner: &ProcessId) -> io::Result<Arc<OwnedFd>> {
        let processes = self.shared.processes();
        processes
            .known
            .get(owner)
            .map(|known| known.control.clone())
            .ok_or_else(not_running)
    }

    fn directory(&self, id: &ContainerId) -> PathBuf {
        self.shared.directory(id)
    }
}

/// An order that never reached the zygote, and who waits for its outcome.
struct Unordered {
    reply: oneshot::Sender<Result<Launched, LaunchError>>,
    error: LaunchError,
}

fn answer_failure(result: Result<(), Unordered>) {
    if let Err(Unordered { reply, error }) = result {
        let _ = reply.send(Err(error));
    }
}

impl Shared {
    fn processes(&self) -> MutexGuard<'_, Processes> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self, id: &ContainerId) -> PathBuf {
        self.settings.exec_root.join("c").join(id.as_str())
    }

    /// The exit record of a container, if it has ended.
    fn recorded(&self, id: &ContainerId) -> Option<ExitRecord> {
        let slot = fs::File::open(self.directory(id).join("exit")).ok()?;
        exit_record::read(slot).ok()?
    }

    /// Sends to the zygote; starts it anew once if it is gone.
    fn send_order(
        &self,
        kind: Kind,
        order: &impl serde::Serialize,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let mut zygote = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        let Err(error) = message::send(&zygote.socket, kind, order, fds) else {
            return Ok(());
        };
        tracing::warn!(%error, "the zygote is gone and is started anew");
        let (socket, process) = seal::spawn(&self.settings, self.files)?;
        let mut old = std::mem::replace(&mut *zygote, Zygote { socket, process });
        let _ = old.process.wait();
        message::send(&zygote.socket, kind, order, fds)
    }
}

impl Drop for Zygote {
    fn drop(&mut self) {
        // Its socket closes with us; it ends by itself and must not stay a zombie of a process that lives on.
        let _ = self.process.try_wait();
    }
}

fn not_running() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the process is not running")
}
