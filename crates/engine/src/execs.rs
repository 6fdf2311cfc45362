//! Execs: further processes in running containers. They live in memory only, and end with their container.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hoist_model::container::{AttachFlags, ContainerState, ProcessSpec};
use hoist_model::{ContainerId, ExecId, Signal};
use hoist_store::{Class, Store};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use crate::clock::random_bytes;
use crate::containers::{Attached, Containers, container_event, restarting};
use crate::error::{ContainerError, ExecError};
use crate::ports::{BoxFuture, ExecLaunch, ExitNotice, LaunchFailure, ProcessOwner, Runtime};
use crate::records::ContainerRecord;

/// Ended execs that inspect still finds, per node: clients ask for the exit code after the stream's end.
const REMEMBERED: usize = 1024;

/// The execs of this node.
#[derive(Clone)]
pub struct Execs {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    containers: Containers,
    runtime: Arc<dyn Runtime>,
    /// Held for single look-ups and changes only.
    table: Mutex<Table>,
    /// Told whenever one of them ended.
    settled: Notify,
}

#[derive(Default)]
struct Table {
    execs: HashMap<ExecId, ExecSnapshot>,
    /// Ended ones, oldest first.
    ended: std::collections::VecDeque<ExecId>,
    /// Ends that were reported before their start was.
    early: HashMap<ExecId, i32>,
}

/// A wish for a process.
#[derive(Clone, Debug, Default)]
pub struct ExecRequest {
    /// What runs; environment and user beyond the container's own. `command` holds all words.
    pub process: ProcessSpec,
    /// Streams asked for.
    pub attach: AttachFlags,
    /// All capabilities.
    pub privileged: bool,
    /// Keys that detach, as the client wrote them.
    pub detach_keys: Option<String>,
    /// Rows and columns of the terminal.
    pub console_size: Option<(u16, u16)>,
}

/// What is known of an exec.
#[derive(Clone, Debug)]
pub struct ExecSnapshot {
    /// Its identity.
    pub id: ExecId,
    /// The container it is in.
    pub container: ContainerId,
    /// What was asked for.
    pub request: ExecRequest,
    /// Whether it was started, whatever became of it.
    pub started: bool,
    /// Whether it runs.
    pub running: bool,
    /// How it ended; `None` until it has.
    pub exit_code: Option<i32>,
    /// Its process id on the host; 0 before and after.
    pub pid: i32,
}

/// An exec whose start is under way, and goes on whatever becomes of this.
pub struct ExecBegun {
    /// Its streams, unless it is detached.
    pub attached: Option<Attached>,
    /// Whether the program could be executed. Then, or before, its streams may end.
    pub outcome: BoxFuture<'static, Result<(), ExecError>>,
}

impl Execs {
    /// Joins the parts.
    #[must_use]
    pub fn new(store: Store, containers: Containers, runtime: Arc<dyn Runtime>) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                containers,
                runtime,
                table: Mutex::default(),
                settled: Notify::new(),
            }),
        }
    }

    /// Registers a process to be started in a running container.
    pub async fn create(
        &self,
        container: &ContainerId,
        request: ExecRequest,
    ) -> Result<ExecId, ExecError> {
        let record = self.running_container(container)?;
        let words = request.process.arguments();
        if words.is_empty() {
            return Err(ExecError::Invalid("No exec command specified".to_owned()));
        }
        let id = ExecId::from_bytes(&random_bytes());
        self.tell(
            &format!("exec_create: {}", words.join(" ")),
            &record,
            &id,
            None,
        )
        .await;
        let snapshot = ExecSnapshot {
            id: id.clone(),
            container: container.clone(),
            request,
            started: false,
            running: false,
            exit_code: None,
            pid: 0,
        };
        self.table().execs.insert(id.clone(), snapshot);
        Ok(id)
    }

    /// Starts it. Attached, it answers the stream to carry (input closes when the write side is shut down);
    /// detached, nothing.
    pub async fn start(
        &self,
        id: &str,
        detach: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<Option<Attached>, ExecError> {
        let begun = self.begin(id, detach, console_size)?;
        begun.outcome.await?;
        Ok(begun.attached)
    }

    /// As [`Execs::start`], and does not wait for the program: what is refused here was not started. To be called in the
    /// engine's runtime.
    pub fn begin(
        &self,
        id: &str,
        detach: bool,
        console_size: Option<(u16, u16)>,
    ) -> Result<ExecBegun, ExecError> {
        let snapshot = self.get(id)?;
        let record = self.running_container(&snapshot.container)?;
        let environment = self.inner.containers.link_environment(&record);
        let environment = environment.map_err(ExecError::Container)?;
        {
            let mut table = self.table();
            let exec = table
                .execs
                .get_mut(&snapshot.id)
                .ok_or_else(|| ExecError::NotFound(id.to_owned()))?;
            if std::mem::replace(&mut exec.started, true) {
                return Err(ExecError::AlreadyStarted(snapshot.id));
            }
            exec.running = true;
        }
        let words = snapshot.request.process.arguments().join(" ");
        // Ordered before the process can do anything, the end of its container among that; its own end is told after its start was
        // noted.
        let told = self.tell(&format!("exec_start: {words}"), &record, &snapshot.id, None);
        let launch = ExecLaunch {
            id: snapshot.id.clone(),
            environment,
            container: record,
            console_size: console_size.or(snapshot.request.console_size),
            request: snapshot.request.clone(),
            detached: detach,
        };
        let (stream, started) = match self.inner.runtime.exec(launch) {
            Ok(under_way) => (under_way.stream, under_way.started),
            Err(failure) => {
                let started: BoxFuture<'_, _> = Box::pin(std::future::ready(Err(failure)));
                (None, started)
            }
        };
        let (execs, id) = (self.clone(), snapshot.id.clone());
        // What becomes of it is noted even where whoever asked for it is gone.
        let noted = tokio::spawn(async move {
            let started = started.await;
            told.await;
            execs.note_start(&id, started).await
        });
        let attached = if detach {
            None
        } else {
            Some(Attached {
                stream: connected(stream)?,
                terminal: snapshot.request.process.terminal,
                undelivered: None,
            })
        };
        let outcome = async move {
            let broken = |error| io_error("exec start", std::io::Error::other(error));
            noted.await.map_err(broken)?
        };
        Ok(ExecBegun {
            attached,
            outcome: Box::pin(outcome),
        })
    }

    async fn note_start(
        &self,
        id: &ExecId,
        started: Result<i32, LaunchFailure>,
    ) -> Result<(), ExecError> {
        let pid = started.map_err(|failure| {
            // Docker's exec knows two codes: 127 not found, 126 anything else.
            let exit_code = if failure.exit_code == 127 { 127 } else { 126 };
            self.settle(id, exit_code);
            let message = failure.message;
            ExecError::Start { message, exit_code }
        })?;
        let early = {
            let mut table = self.table();
            if let Some(exec) = table.execs.get_mut(id) {
                exec.pid = pid;
            }
            table.early.remove(id)
        };
        if let Some(exit_code) = early {
            self.end(id, exit_code).await;
        }
        Ok(())
    }

    /// What is known of it, by full id or unique prefix.
    pub fn get(&self, id: &str) -> Result<ExecSnapshot, ExecError> {
        let table = self.table();
        let full = id
            .parse::<ExecId>()
            .ok()
            .and_then(|id| table.execs.get(&id).cloned());
        full.or_else(|| {
            let mut found = table
                .execs
                .values()
                .filter(|e| !id.is_empty() && e.id.as_str().starts_with(id));
            found.next().filter(|_| found.next().is_none()).cloned()
        })
        .ok_or_else(|| ExecError::NotFound(id.to_owned()))
    }

    /// Ids of the execs that run in a container.
    #[must_use]
    pub fn running_in(&self, container: &ContainerId) -> Vec<ExecId> {
        let table = self.table();
        let inside = table
            .execs
            .values()
            .filter(|e| e.running && e.container == *container);
        inside.map(|exec| exec.id.clone()).collect()
    }

    /// Sets its terminal's size.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), ExecError> {
        let exec = self.get(id)?;
        if !exec.running {
            return Err(ExecError::NotRunning(exec.id));
        }
        let owner = ProcessOwner::Exec(exec.id);
        self.inner
            .runtime
            .resize(&owner, rows, columns)
            .map_err(|source| io_error(&format!("resize exec {id}"), source))
    }

    /// Takes note of the end of a process. Ends of containers are not ours, but take their execs with them.
    pub async fn notice(&self, notice: &ExitNotice) {
        let ProcessOwner::Exec(id) = &notice.of else {
            return;
        };
        // One look at the table decides: a start that is still under way must find the early end, or no early end.
        {
            let mut table = self.table();
            let Some(exec) = table.execs.get(id) else {
                return;
            };
            if exec.pid == 0 && exec.running {
                table.early.insert(id.clone(), notice.exit_code);
                return;
            }
        }
        self.end(id, notice.exit_code).await;
    }

    /// Notes and tells its end.
    async fn end(&self, id: &ExecId, exit_code: i32) {
        let Ok(exec) = self.get(id.as_str()) else {
            return;
        };
        self.settle(id, exit_code);
        if let Ok(record) = self.inner.containers.resolve(exec.container.as_str()) {
            self.tell("exec_die", &record, id, Some(exit_code)).await;
        }
    }

    /// Tells that a client detached from it.
    pub async fn detached(&self, id: &ExecId) {
        let Ok(exec) = self.get(id.as_str()) else {
            return;
        };
        if let Ok(record) = self.inner.containers.resolve(exec.container.as_str()) {
            self.tell("exec_detach", &record, id, None).await;
        }
    }

    /// Ends its process and forgets it; for whoever made it and is the only one to ask after it.
    pub(crate) fn kill_and_forget(&self, id: &ExecId) {
        let known = self.table().execs.get(id).map(|exec| exec.running);
        if known == Some(true) {
            let owner = ProcessOwner::Exec(id.clone());
            if let Err(error) = self.inner.runtime.signal(&owner, Signal::KILL) {
                tracing::debug!(exec = %id, %error, "not killed");
            }
        } else if known.is_some() {
            let mut table = self.table();
            table.execs.remove(id);
            table.ended.retain(|ended| ended != id);
        }
    }

    /// Waits until it does not run any more; one that is not known does not. Cancel-safe.
    pub async fn ended(&self, id: &ExecId) {
        loop {
            let settled = self.inner.settled.notified();
            tokio::pin!(settled);
            // From here on no end is missed.
            settled.as_mut().enable();
            if !self.table().execs.get(id).is_some_and(|exec| exec.running) {
                return;
            }
            settled.await;
        }
    }

    fn settle(&self, id: &ExecId, exit_code: i32) {
        self.record_end(id, exit_code);
        self.inner.settled.notify_waiters();
    }

    fn record_end(&self, id: &ExecId, exit_code: i32) {
        let mut table = self.table();
        if let Some(exec) = table.execs.get_mut(id) {
            exec.running = false;
            exec.pid = 0;
            exec.exit_code = Some(exit_code);
        }
        table.ended.push_back(id.clone());
        if table.ended.len() > REMEMBERED
            && let Some(oldest) = table.ended.pop_front()
        {
            table.execs.remove(&oldest);
        }
    }

    fn running_container(&self, id: &ContainerId) -> Result<Arc<ContainerRecord>, ExecError> {
        let record = self.inner.containers.resolve(id.as_str())?;
        match &record.state {
            ContainerState::Running(running) if running.paused => {
                Err(ExecError::Container(ContainerError::Conflict(format!(
                    "Container {} is paused, unpause the container before exec",
                    record.name
                ))))
            }
            ContainerState::Running(_) => Ok(record),
            ContainerState::Restarting(_) => Err(ExecError::Container(ContainerError::Conflict(
                restarting(record.id.as_str()),
            ))),
            _ => Err(ExecError::Container(ContainerError::Conflict(format!(
                "container {} is not running",
                record.id.as_str()
            )))),
        }
    }

    /// Hands an event to the store, and answers its being written.
    fn tell(
        &self,
        action: &str,
        record: &ContainerRecord,
        id: &ExecId,
        exit_code: Option<i32>,
    ) -> impl Future<Output = ()> + use<> {
        let mut special = vec![("execID", id.as_str().to_owned())];
        special.extend(exit_code.map(|code| ("exitCode", code.to_string())));
        let event = container_event(action, record, &special);
        let told = self.inner.store.transaction(Class::Process, move |tx| {
            tx.event(event);
            Ok::<_, ContainerError>(())
        });
        let (action, id) = (action.to_owned(), id.clone());
        async move {
            if let Err(error) = told.await {
                tracing::warn!(exec = %id, %error, action, "an event was lost");
            }
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.inner
            .table
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream of a process; of one that could not be started, one that has ended.
fn connected(stream: Option<std::os::unix::net::UnixStream>) -> Result<UnixStream, ExecError> {
    let failed = |source| io_error("exec stream", source);
    let stream = match stream {
        Some(stream) => stream,
        None => std::os::unix::net::UnixStream::pair().map_err(failed)?.0,
    };
    stream.set_nonblocking(true).map_err(failed)?;
    UnixStream::from_std(stream).map_err(failed)
}

fn io_error(context: &str, source: std::io::Error) -> ExecError {
    let context = context.to_owned();
    ExecError::Container(ContainerError::Io { context, source })
}
