//! The one writer of one container: takes messages, steps, carries the commands out.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hoist_model::container::ContainerState;
use hoist_model::{Event, Timestamp};
use hoist_store::Class;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::container_event;
use super::message::Message;
use super::outputs::Outputs;
use super::refusal::Failure;
use super::step::{Command, Input, Life, Refusal, step};
use super::{AttachRequest, Containers, Outcome, WaitCondition, WaitOutcome};
use crate::clock::now;
use crate::error::ContainerError;
use crate::ports::ProcessOwner;
use crate::records::ContainerRecord;
use crate::volumes::VolumeUse;
use hoist_model::chain;

/// How long after a failed write the next is tried.
const WRITE_AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

pub(super) struct Actor {
    pub(super) containers: Containers,
    pub(super) record: Arc<ContainerRecord>,
    pub(super) life: Life,
    running: watch::Sender<bool>,
    pub(super) waiters: Vec<(WaitCondition, oneshot::Sender<WaitOutcome>)>,
    /// Output on its way to attached clients.
    pub(super) outputs: Outputs,
    /// Streams attached before the process runs.
    pub(super) attached: Vec<(AttachRequest, UnixStream)>,
    /// Terminal size set before the process runs.
    pub(super) console_size: Option<(u16, u16)>,
    pub(super) restart_at: Option<Instant>,
    /// Volumes that are mounted for it.
    pub(super) volume_uses: Vec<VolumeUse>,
    /// A mount of its own overlay while it runs.
    pub(super) overlay: Option<OwnedFd>,
    /// Events to be written with the next record.
    events: Vec<Event>,
    pub(super) persist: bool,
    /// The runtime still keeps how the last process ended, until it is written here.
    ended: bool,
    pub(super) last_exit: i32,
    /// The run that is being probed, by its beginning.
    pub(super) probed: Option<Timestamp>,
}

/// Lets whoever was answered be told before the actor goes on: both are tasks, and else the one that woke the other keeps
/// the thread.
async fn let_answer_go() {
    tokio::task::yield_now().await;
}

impl Actor {
    pub(super) fn new(
        containers: Containers,
        record: Arc<ContainerRecord>,
        running: watch::Sender<bool>,
    ) -> Self {
        let mut life = Life::new(
            record.state.clone(),
            record.spec.restart_policy,
            record.spec.auto_remove,
            record.manually_stopped,
            record.restart_count,
        );
        life.suspended = record.suspended;
        let console_size = record.spec.console_size;
        let volume_uses = match life.state.running() {
            Some(_) => containers.volumes().note(&record),
            None => Vec::new(),
        };
        let restarting = matches!(life.state, ContainerState::Restarting(_));
        Self {
            containers,
            record,
            life,
            running,
            waiters: Vec::new(),
            attached: Vec::new(),
            outputs: Outputs::new(),
            console_size,
            restart_at: restarting.then(Instant::now),
            volume_uses,
            overlay: None,
            events: Vec::new(),
            persist: false,
            ended: false,
            last_exit: 0,
            probed: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Message>,
        stopping: CancellationToken,
    ) {
        self.resume_probes();
        loop {
            let restart_at = self.restart_at;
            let due = async {
                match restart_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let unwritten = self.has_unwritten();
            tokio::select! {
                biased;
                message = inbox.recv() => match message {
                    Some(message) => self.hear(message).await,
                    None => return,
                },
                () = due => {
                    self.restart_at = None;
                    if let Err(error) = self.feed(Input::Start { by_policy: true }).await {
                        tracing::warn!(container = %self.record.id, %error, "restart by policy failed");
                    }
                }
                // Only after a write that failed: the disk is full, and may have room again.
                () = tokio::time::sleep(WRITE_AGAIN), if unwritten => {
                    if self.write().await.is_ok() {
                        self.forget_end();
                        tracing::info!(container = %self.record.id, "its state is written again");
                    }
                }
                () = stopping.cancelled() => return,
            }
            if self.life.state == ContainerState::Removing {
                return;
            }
        }
    }

    async fn hear(&mut self, message: Message) {
        match message {
            Message::Start(reply) => {
                let result = match self.feed(Input::Start { by_policy: false }).await {
                    Ok(()) => Ok(Outcome::Changed),
                    Err(Failure::Refused(Refusal::AlreadySo)) => Ok(Outcome::Unchanged),
                    Err(failure) => Err(self.explain("start", failure)),
                };
                let _ = reply.send(result);
                let_answer_go().await;
            }
            Message::Signal {
                signal,
                asked,
                reply,
            } => {
                let result = self.signal(signal, asked).await;
                let _ = reply.send(result);
            }
            Message::RestartAsked(reply) => {
                let result = self.feed(Input::RestartAsked).await;
                let _ = reply.send(result.map_err(|failure| self.explain("restart", failure)));
            }
            Message::Suspend(reply) => {
                let result = self.feed(Input::Suspended).await;
                let _ = reply.send(result.map_err(|failure| self.explain("stop", failure)));
            }
            Message::Pause(reply) => {
                let result = self.freeze(true).await;
                let _ = reply.send(result);
            }
            Message::Unpause(reply) => {
                let result = self.freeze(false).await;
                let _ = reply.send(result);
            }
            Message::Rename { name, reply } => {
                let result = self.rename(name).await;
                let _ = reply.send(result);
            }
            Message::Unlink { alias, reply } => {
                let result = self.unlink(&alias).await;
                let _ = reply.send(result);
            }
            Message::Update { request, reply } => {
                let result = self.update(&request).await;
                let _ = reply.send(result);
            }
            Message::Remove { volumes, reply } => {
                let result = self.feed(Input::Remove { volumes }).await;
                let _ = reply.send(result.map_err(|failure| self.explain("remove", failure)));
            }
            Message::Wait { condition, reply } => self.wait(condition, reply),
            Message::Attach { request, reply } => {
                let attached = self.attach(request);
                if attached.is_ok() {
                    self.tell(container_event("attach", &self.record, &[]));
                    if let Err(error) = self.write().await {
                        tracing::warn!(container = %self.record.id, %error, "an event was lost");
                    }
                }
                let undelivered = self.outputs.begin();
                let _ = reply.send(attached.map(|stream| (stream, undelivered)));
            }
            Message::Resize {
                rows,
                columns,
                reply,
            } => {
                self.console_size = Some((rows, columns));
                let result = self.resize(rows, columns).await;
                let _ = reply.send(result);
            }
            Message::Probed {
                run,
                ran,
                result,
                reply,
            } => {
                let _ = reply.send(self.judge(run, ran, result).await);
            }
            Message::Connect {
                network,
                endpoint,
                reply,
            } => {
                let _ = reply.send(self.connect(&network, *endpoint).await);
            }
            Message::Disconnect { network, reply } => {
                let _ = reply.send(self.disconnect(&network).await);
            }
            Message::OomKilled => {
                // Of a process that ended in the meantime it is told with its end.
                if let Err(Failure::Broken(error)) = self.feed(Input::OomKilled).await {
                    tracing::warn!(container = %self.record.id, %error, "an oom event was lost");
                }
            }
            Message::Ended(notice) => {
                let input = Input::Exited {
                    exit_code: notice.exit_code,
                    oom_killed: notice.oom_killed,
                    error: notice.error,
                };
                // An end of a process we do not hold as running was told twice: nothing to do.
                let fed = self.feed_at(input, notice.finished_at).await;
                if let Err(Failure::Broken(error)) = fed {
                    tracing::error!(container = %self.record.id, %error, "after the process ended");
                }
            }
        }
    }

    /// Steps, and carries out what follows from it.
    pub(super) async fn feed(&mut self, input: Input) -> Result<(), Failure> {
        self.feed_at(input, now()).await
    }

    /// As [`Actor::feed`], of something that happened at this instant.
    async fn feed_at(&mut self, input: Input, at: Timestamp) -> Result<(), Failure> {
        let (life, commands) = step(&self.life, input, at).map_err(Failure::Refused)?;
        self.life = life;
        let mut outcome = Ok(());
        for command in commands {
            if let Err(error) = self.carry_out(command).await {
                outcome = Err(error);
            }
        }
        if let Err(error) = self.write().await {
            outcome = Err(Failure::Broken(error));
        }
        if !self.has_unwritten() {
            self.forget_end();
        }
        let is = self.life.state.running().is_some();
        let changed = self
            .running
            .send_if_modified(|running| std::mem::replace(running, is) != is);
        if changed && let Some(place) = self.containers.log_place(&self.record) {
            let logs = &self.containers.inner.logs;
            if is {
                logs.attend(place);
            } else {
                logs.rest(place);
            }
        }
        outcome
    }

    async fn carry_out(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Launch => {
                self.ended = false;
                return self.launch_and_feed().await;
            }
            Command::Release => {
                self.containers.inner.parts.runtime.release(&self.record);
                self.ended = true;
                if let Some(overlay) = self.overlay.take() {
                    self.containers.keep_overlay(&self.record.id, overlay);
                }
                self.release_volumes().await;
                for place in &self.record.attachments {
                    let event = super::events::network_event("disconnect", &self.record, place);
                    self.events.push(event);
                }
                self.containers.inner.parts.network.detach(&self.record.id);
                self.events
                    .extend(super::events::mount_events("unmount", &self.record));
                self.change(|record| record.attachments.clear());
            }
            Command::Persist => self.persist = true,
            Command::Emit { action, attributes } => {
                self.events
                    .push(container_event(action, &self.record, &attributes));
            }
            Command::AnswerExit(exit_code) => {
                // Who waits is answered even where the disk has no room: the process has ended.
                let written = self.write().await.map_err(Failure::Broken);
                self.last_exit = exit_code;
                self.attached.clear();
                self.outputs.delivered().await;
                self.answer(|condition| condition != WaitCondition::Removed, None);
                let_answer_go().await;
                return written;
            }
            Command::RestartAfter(delay) => self.restart_at = Some(Instant::now() + delay),
            Command::CancelRestart => self.restart_at = None,
            Command::Dismantle { volumes } => {
                let result = self.dismantle(volumes).await;
                let error = result.as_ref().err().map(|error| chain(error));
                self.answer(|_| true, error);
                result.map_err(Failure::Broken)?;
            }
        }
        Ok(())
    }

    async fn release_volumes(&mut self) {
        let uses = std::mem::take(&mut self.volume_uses);
        if !uses.is_empty() {
            let volumes = self.containers.volumes().clone();
            // A panic there was told of by its own thread.
            let _ = tokio::task::spawn_blocking(move || volumes.release(uses)).await;
        }
    }

    /// Boxed, because a launch feeds its own outcome back in.
    async fn launch_and_feed(&mut self) -> Result<(), Failure> {
        let (input, failure) = match Box::pin(self.launch()).await {
            Ok(launched) => {
                let started_with = launched.started_with;
                self.change(|record| record.started_with = started_with);
                (Input::Launched { pid: launched.pid }, None)
            }
            Err(error) => {
                let exit_code = match &error {
                    ContainerError::Start { exit_code, .. } => *exit_code,
                    _ => 128,
                };
                (
                    Input::LaunchFailed {
                        exit_code,
                        message: hoist_model::in_words(&error.to_string()),
                    },
                    Some(error),
                )
            }
        };
        let fed = Box::pin(self.feed(input)).await;
        self.containers.inner.views.end_start(&self.record.id);
        fed?;
        failure.map_or(Ok(()), |error| Err(Failure::Broken(error)))
    }

    /// Changes the record in memory; written with the next [`Actor::write`].
    pub(super) fn change(&mut self, change: impl FnOnce(&mut ContainerRecord)) {
        change(Arc::make_mut(&mut self.record));
    }

    /// Notes an event for the next write.
    pub(super) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Whether a write failed.
    fn has_unwritten(&self) -> bool {
        self.persist || !self.events.is_empty()
    }

    /// Writes record and events, if there is anything to write, as one transaction. What could not be written is
    /// written with the next, at the latest after [`WRITE_AGAIN`].
    pub(super) async fn write(&mut self) -> Result<(), ContainerError> {
        if self.persist || !self.events.is_empty() {
            self.write_all(Class::Process).await
        } else {
            self.note_life();
            Ok(())
        }
    }

    /// Writes record and events as one transaction of this durability.
    pub(super) async fn write_all(&mut self, class: Class) -> Result<(), ContainerError> {
        self.note_life();
        self.persist = false;
        let events = std::mem::take(&mut self.events);
        let record = self.record.clone();
        let again = events.clone();
        let store = &self.containers.inner.parts.store;
        let written = store
            .transaction(class, move |tx| {
                if tx.get::<ContainerRecord>(record.id.as_str()).is_some() {
                    tx.put(record);
                }
                for event in events {
                    tx.event(event);
                }
                Ok::<_, ContainerError>(())
            })
            .await;
        if let Err(error) = written {
            self.persist = true;
            self.events = again;
            let record = self.record.clone();
            self.containers
                .unwritten()
                .insert(record.id.clone(), record);
            return Err(error);
        }
        self.containers.unwritten().remove(&self.record.id);
        Ok(())
    }

    /// Lets go of what a later engine would have to go by, once nobody needs it.
    pub(super) fn forget_end(&mut self) {
        if std::mem::take(&mut self.ended) {
            self.containers.inner.parts.runtime.forget(&self.record.id);
        }
    }

    fn note_life(&mut self) {
        let life = &self.life;
        let record = Arc::make_mut(&mut self.record);
        record.state = life.state.clone();
        record.restart_count = life.restart_count;
        record.manually_stopped = life.manually_stopped;
        record.suspended = life.suspended;
        self.note_probing();
    }

    pub(super) fn owner(&self) -> ProcessOwner {
        ProcessOwner::Container(self.record.id.clone())
    }

    pub(super) fn runtime_result(
        &self,
        verb: &str,
        act: impl FnOnce(&Self) -> std::io::Result<()>,
    ) -> Result<(), ContainerError> {
        act(self).map_err(|source| self.failed(verb, source))
    }

    /// A failure of the runtime; where there is no process any more, of whose end we are about to be told, that.
    pub(super) fn failed(&self, verb: &str, source: std::io::Error) -> ContainerError {
        let id = &self.record.id;
        let gone = rustix::io::Errno::SRCH.raw_os_error();
        if source.kind() == std::io::ErrorKind::NotFound || source.raw_os_error() == Some(gone) {
            return ContainerError::NotRunning(id.clone());
        }
        ContainerError::Io {
            context: format!("{verb} container {}", id.as_str()),
            source,
        }
    }
}
