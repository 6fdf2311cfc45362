//! What can be done to a container, composed of messages to its actor.

use std::time::Duration;

use hoist_model::container::ContainerState;
use hoist_model::{ContainerId, Signal};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::message::{Message, Reply};
use super::short_stop::Heard;
use super::{
    AttachRequest, Attached, Containers, LogEntry, LogRequest, Outcome, RemoveRequest, StopRequest,
    WaitCondition, WaitOutcome,
};
use crate::error::ContainerError;
use crate::logs::{self, LogLost};
use crate::ports::BoxFuture;
use crate::records::ContainerRecord;

/// Seconds a process has after the stop signal, where neither container nor request says (API `ContainerStop`).
pub(super) const DEFAULT_STOP_TIMEOUT: i64 = 10;
/// How long a killed process may take to be gone before we say that it is not.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// Batches (of some 64 KiB) read ahead of a slow reader of logs.
const LOG_BACKLOG: usize = 1;

impl Containers {
    /// Starts it; `Unchanged` when it runs already.
    pub async fn start(&self, id: &ContainerId) -> Result<Outcome, ContainerError> {
        self.ask(id, Message::Start).await
    }

    /// Stops it: its stop signal, then SIGKILL; `Unchanged` when it does not run.
    pub async fn stop(
        &self,
        id: &ContainerId,
        request: StopRequest,
    ) -> Result<Outcome, ContainerError> {
        let record = self.resolve(id.as_str())?;
        let mut ended = self.wait(id, WaitCondition::NotRunning)?;
        let signal = request
            .signal
            .or(record.spec.stop_signal)
            .unwrap_or(Signal::TERM);
        match self.signal(id, signal, true).await {
            Err(ContainerError::NotRunning(_)) => return Ok(Outcome::Unchanged),
            result => result?,
        }
        let timeout = request.timeout.or(record.spec.stop_timeout);
        let paused = record.state.running().is_some_and(|now| now.paused);
        let heard = if timeout.is_none() && !paused {
            self.heard(id, signal, &mut ended).await
        } else {
            Heard::Perhaps
        };
        let timeout = timeout.unwrap_or(DEFAULT_STOP_TIMEOUT);
        let stopped = match u64::try_from(timeout) {
            _ if heard != Heard::Perhaps => heard == Heard::Ended,
            Ok(seconds) => tokio::time::timeout(Duration::from_secs(seconds), &mut ended)
                .await
                .is_ok(),
            Err(_) => {
                (&mut ended).await;
                true
            }
        };
        if !stopped {
            self.kill_and_wait(id, ended).await?;
        }
        self.tell(id, "stop").await;
        if heard == Heard::Never {
            tracing::info!(container = %id, %signal, "stopped at once: nothing in it could have heard the signal");
            return Ok(Outcome::CutShort);
        }
        Ok(Outcome::Changed)
    }

    /// Stops and starts it.
    pub async fn restart(
        &self,
        id: &ContainerId,
        request: StopRequest,
    ) -> Result<(), ContainerError> {
        self.ask(id, Message::RestartAsked).await?;
        self.stop(id, request).await?;
        self.start(id).await?;
        self.tell(id, "restart").await;
        Ok(())
    }

    /// Sends a signal to its first process; SIGKILL waits for its end.
    pub async fn kill(&self, id: &ContainerId, signal: Signal) -> Result<(), ContainerError> {
        let ended = self.wait(id, WaitCondition::NotRunning)?;
        if signal == Signal::KILL {
            return self.kill_and_wait(id, ended).await;
        }
        let asked = self
            .resolve(id.as_str())?
            .spec
            .stop_signal
            .unwrap_or(Signal::TERM)
            == signal;
        self.signal(id, signal, asked).await
    }

    /// Freezes it.
    pub async fn pause(&self, id: &ContainerId) -> Result<(), ContainerError> {
        self.ask(id, Message::Pause).await
    }

    /// Thaws it.
    pub async fn unpause(&self, id: &ContainerId) -> Result<(), ContainerError> {
        self.ask(id, Message::Unpause).await
    }

    /// Gives it another name.
    pub async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), ContainerError> {
        let name = super::create::check_name(name)?;
        if self.resolve(id.as_str())?.name == name {
            return Err(ContainerError::Invalid(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        self.ask(id, |reply| Message::Rename { name, reply }).await
    }

    /// Takes it apart.
    pub async fn remove(
        &self,
        id: &ContainerId,
        request: RemoveRequest,
    ) -> Result<(), ContainerError> {
        let volumes = request.volumes;
        let message = |reply| Message::Remove { volumes, reply };
        if !request.force {
            return self.ask(id, message).await;
        }
        let gone = self.wait(id, WaitCondition::Removed)?;
        let ended = self.wait(id, WaitCondition::NotRunning)?;
        match self.kill_and_wait(id, ended).await {
            Ok(()) | Err(ContainerError::NotRunning(_) | ContainerError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        match self.ask(id, message).await {
            // It removed itself in the meantime, as it was made to.
            Err(ContainerError::NotFound(_)) => {
                gone.await;
                Ok(())
            }
            result => result,
        }
    }

    /// Registers a wait before it returns; the future it returns ends when the condition holds. Dropping it is safe.
    pub fn wait(
        &self,
        id: &ContainerId,
        condition: WaitCondition,
    ) -> Result<BoxFuture<'static, WaitOutcome>, ContainerError> {
        let (reply, answer) = oneshot::channel();
        let sent = self
            .handle(id)?
            .inbox
            .send(Message::Wait { condition, reply });
        sent.map_err(|_| ContainerError::NotFound(id.as_str().to_owned()))?;
        Ok(Box::pin(async move {
            answer.await.unwrap_or_else(|_| WaitOutcome {
                exit_code: 0,
                error: Some("the engine stopped waiting".to_owned()),
            })
        }))
    }

    /// Connects to its streams; on a container that does not run, to those of its next start.
    pub async fn attach(
        &self,
        id: &ContainerId,
        request: AttachRequest,
    ) -> Result<Attached, ContainerError> {
        let record = self.resolve(id.as_str())?;
        let (stream, undelivered) = self
            .ask(id, |reply| Message::Attach { request, reply })
            .await?;
        let failed = |source| ContainerError::Io {
            context: "attach".to_owned(),
            source,
        };
        stream.set_nonblocking(true).map_err(failed)?;
        let stream = UnixStream::from_std(stream).map_err(failed)?;
        Ok(Attached {
            stream,
            terminal: record.spec.process.terminal,
            undelivered: Some(undelivered),
        })
    }

    /// Sets its terminal's size, now or at its next start.
    pub async fn resize(
        &self,
        id: &ContainerId,
        rows: u16,
        columns: u16,
    ) -> Result<(), ContainerError> {
        self.ask(id, |reply| Message::Resize {
            rows,
            columns,
            reply,
        })
        .await
    }

    /// Reads its logs into a channel of bounded size; it ends when the logs do (or, following, the process).
    pub fn logs(
        &self,
        id: &ContainerId,
        request: LogRequest,
    ) -> Result<mpsc::Receiver<Result<Vec<LogEntry>, ContainerError>>, ContainerError> {
        let record = self.resolve(id.as_str())?;
        let Some(place) = self.log_place(&record) else {
            return Err(ContainerError::NotImplemented(
                "configured logging driver does not support reading".to_owned(),
            ));
        };
        let running = self.handle(id)?.running;
        let (out, entries) = mpsc::channel(LOG_BACKLOG);
        // Ends with the reader: every send fails once the receiver is dropped.
        self.inner.tasks.spawn(logs::read(
            place,
            request,
            running,
            self.inner.logs.clone(),
            out,
        ));
        Ok(entries)
    }

    /// How many lines of its output are in no log file. Blocking for one small read.
    pub fn log_lost(&self, record: &ContainerRecord) -> LogLost {
        self.log_place(record)
            .map(|place| LogLost::read(&place))
            .unwrap_or_default()
    }

    /// Bytes in its writable layer.
    pub async fn writable_size(&self, id: &ContainerId) -> Result<u64, ContainerError> {
        let snapshotter = self.inner.parts.images.snapshotter().clone();
        let key = id.clone();
        let usage = tokio::task::spawn_blocking(move || snapshotter.usage(&key)).await;
        match usage {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(ContainerError::Internal(error.to_string())),
            Err(error) => Err(ContainerError::Internal(error.to_string())),
        }
    }

    /// Tells that a client detached from its streams.
    pub async fn detached(&self, id: &ContainerId) {
        self.tell(id, "detach").await;
    }

    pub(super) async fn signal(
        &self,
        id: &ContainerId,
        signal: Signal,
        asked: bool,
    ) -> Result<(), ContainerError> {
        self.ask(id, |reply| Message::Signal {
            signal,
            asked,
            reply,
        })
        .await
    }

    async fn kill_and_wait(
        &self,
        id: &ContainerId,
        ended: BoxFuture<'static, WaitOutcome>,
    ) -> Result<(), ContainerError> {
        self.signal(id, Signal::KILL, true).await?;
        match tokio::time::timeout(KILL_DEADLINE, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ContainerError::Internal(format!(
                "container {} did not end within {} s of SIGKILL",
                id.as_str(),
                KILL_DEADLINE.as_secs()
            ))),
        }
    }

    pub(super) async fn ask<T>(
        &self,
        id: &ContainerId,
        message: impl FnOnce(Reply<T>) -> Message,
    ) -> Result<T, ContainerError> {
        let (reply, answer) = oneshot::channel();
        let gone = || ContainerError::NotFound(id.as_str().to_owned());
        self.handle(id)?
            .inbox
            .send(message(reply))
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Tells of a verb that was composed here.
    pub(super) async fn tell(&self, id: &ContainerId, action: &'static str) {
        let Ok(record) = self.resolve(id.as_str()) else {
            return;
        };
        let event = super::events::container_event(action, &record, &[]);
        let told = self
            .inner
            .parts
            .store
            .transaction(hoist_store::Class::Process, move |tx| {
                // Nothing is told of one that was removed meanwhile.
                let is_there = tx.get::<ContainerRecord>(record.id.as_str());
                if is_there.is_some_and(|is| is.state != ContainerState::Removing) {
                    tx.event(event);
                }
                Ok::<_, ContainerError>(())
            });
        if let Err(error) = told.await {
            tracing::warn!(%error, action, "an event was lost");
        }
    }

    /// Writes an event that goes with no change.
    pub(super) async fn record_event(&self, event: hoist_model::Event, action: &'static str) {
        let told = self
            .inner
            .parts
            .store
            .transaction(hoist_store::Class::Process, move |tx| {
                tx.event(event);
                Ok::<_, ContainerError>(())
            });
        if let Err(error) = told.await {
            tracing::warn!(%error, action, "an event was lost");
        }
    }
}
