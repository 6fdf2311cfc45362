//! What an actor does to its container beside starting and taking it apart.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hoist_model::Signal;
use hoist_model::container::ContainerState;
use hoist_store::Class;
use tokio::sync::oneshot;

use super::actor::Actor;
use super::events::container_event;
use super::refusal::Failure;
use super::step::{Input, step};
use super::{AttachRequest, WaitCondition, WaitOutcome};
use crate::clock::now;
use crate::error::ContainerError;
use crate::records::ContainerRecord;

impl Actor {
    pub(super) async fn signal(
        &mut self,
        signal: Signal,
        asked: bool,
    ) -> Result<(), ContainerError> {
        if matches!(self.life.state, ContainerState::Restarting(_)) {
            // There is no process; whoever wants it gone keeps the policy from starting the next.
            if asked {
                let asked = self.feed(Input::StopAsked).await;
                asked.map_err(|failure| self.explain("stop", failure))?;
            }
            return Ok(());
        }
        if self.life.state.running().is_none() {
            return Err(ContainerError::NotRunning(self.record.id.clone()));
        }
        if asked {
            let asked = self.feed(Input::StopAsked).await;
            asked.map_err(|failure| self.explain("stop", failure))?;
        }
        let frozen = self
            .life
            .state
            .running()
            .is_some_and(|running| running.paused);
        let (name, number) = ("signal", signal.number().to_string());
        self.runtime_result("signal", |actor| {
            actor
                .containers
                .inner
                .parts
                .runtime
                .signal(&actor.owner(), signal)
        })?;
        if frozen && signal == Signal::KILL {
            // A frozen process dies only once it is thawed.
            self.freeze(false).await?;
        }
        self.tell(container_event("kill", &self.record, &[(name, number)]));
        self.write().await
    }

    pub(super) async fn freeze(&mut self, freeze: bool) -> Result<(), ContainerError> {
        let (verb, input) = if freeze {
            ("pause", Input::Paused)
        } else {
            ("unpause", Input::Unpaused)
        };
        // Refused before the freezer is touched; stepped only once it obeyed.
        step(&self.life, input.clone(), now())
            .map_err(|refusal| self.explain(verb, Failure::Refused(refusal)))?;
        self.runtime_result(verb, |actor| {
            let runtime = &actor.containers.inner.parts.runtime;
            if freeze {
                runtime.pause(&actor.record.id)
            } else {
                runtime.unpause(&actor.record.id)
            }
        })?;
        let stepped = Box::pin(self.feed(input)).await;
        stepped.map_err(|failure| self.explain(verb, failure))
    }

    pub(super) async fn rename(&mut self, name: String) -> Result<(), ContainerError> {
        let old = self.record.name.clone();
        let id = self.record.id.clone();
        let renamed = Arc::new(ContainerRecord {
            name: name.clone(),
            ..(*self.record).clone()
        });
        let event = container_event("rename", &renamed, &[("oldName", format!("/{old}"))]);
        self.containers
            .inner
            .parts
            .store
            .transaction(Class::Disk, move |tx| {
                super::create::refuse_taken_name(tx, &renamed.name, &id)?;
                tx.put(renamed);
                tx.event(event);
                Ok::<_, ContainerError>(())
            })
            .await?;
        self.change(|record| record.name = name);
        if !self.record.attachments.is_empty() {
            let places = self.containers.places(&self.record)?;
            let network = &self.containers.inner.parts.network;
            network.renamed(&self.record, places);
        }
        Ok(())
    }

    pub(super) async fn resize(&mut self, rows: u16, columns: u16) -> Result<(), ContainerError> {
        // A size that comes before the process is kept for it, though Docker refuses it.
        if self.life.state.running().is_none() {
            return Err(ContainerError::NotRunning(self.record.id.clone()));
        }
        self.runtime_result("resize", |actor| {
            let runtime = &actor.containers.inner.parts.runtime;
            runtime.resize(&actor.owner(), rows, columns)
        })?;
        let size = [("height", rows.to_string()), ("width", columns.to_string())];
        self.tell(container_event("resize", &self.record, &size));
        self.write().await
    }

    pub(super) fn wait(&mut self, condition: WaitCondition, reply: oneshot::Sender<WaitOutcome>) {
        let rests = !matches!(
            self.life.state,
            ContainerState::Running(_) | ContainerState::Starting | ContainerState::Restarting(_)
        );
        if condition == WaitCondition::NotRunning && rests {
            let outcome = WaitOutcome {
                exit_code: exit_code(&self.life.state),
                error: None,
            };
            let _ = reply.send(outcome);
        } else {
            self.waiters.retain(|(_, waiter)| !waiter.is_closed());
            self.waiters.push((condition, reply));
        }
    }

    pub(super) fn answer(&mut self, whom: impl Fn(WaitCondition) -> bool, error: Option<String>) {
        for (condition, reply) in std::mem::take(&mut self.waiters) {
            if whom(condition) {
                let _ = reply.send(WaitOutcome {
                    exit_code: self.last_exit,
                    error: error.clone(),
                });
            } else {
                self.waiters.push((condition, reply));
            }
        }
    }

    pub(super) fn attach(&mut self, request: AttachRequest) -> Result<UnixStream, ContainerError> {
        if self.life.state.running().is_some() {
            let id = &self.record.id;
            let stream = self.containers.inner.parts.runtime.attach(id, request);
            return stream.map_err(|source| self.failed("attach to", source));
        }
        let failed = |source| ContainerError::Io {
            context: "socketpair".to_owned(),
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        self.attached.push((request, theirs));
        Ok(ours)
    }
}

/// The exit code a wait answers in this phase.
fn exit_code(state: &ContainerState) -> i32 {
    match state {
        ContainerState::Exited(exited) => exited.exit_code,
        ContainerState::Created {
            failure: Some(failure),
        } => failure.exit_code,
        _ => 0,
    }
}
