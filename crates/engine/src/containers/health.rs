//! What an actor does about its container's health check: says who is to be probed, and judges what probes found.
//!
//! The probes themselves run in [`crate::health`].

use std::sync::PoisonError;
use std::time::Duration;

use hoist_model::container::{
    ContainerSpec, Health, HealthStatus, Healthcheck, ProbeResult, RESTART_UNHEALTHY_LABEL,
    RestartPolicy,
};
use hoist_model::{ContainerId, Signal, Timestamp};
use tokio::sync::mpsc;

use super::actor::Actor;
use super::events::container_event;
use super::message::Message;
use super::short_stop::Heard;
use super::step::Input;
use super::verbs::DEFAULT_STOP_TIMEOUT;
use super::{Containers, WaitCondition};
use crate::error::ContainerError;

/// Whom to probe.
#[derive(Debug)]
pub(crate) enum ProbeOrder {
    /// This container, in the run that began then; in place of an earlier run of it.
    Begin(ContainerId, Timestamp),
    /// No more.
    End(ContainerId),
}

/// The check of a container that has a probe, and the probe's words.
pub(crate) fn probe_of(spec: &ContainerSpec) -> Option<(&Healthcheck, Vec<String>)> {
    let check = spec.healthcheck.as_ref()?;
    Some((check, check.command(&spec.shell)?))
}

/// Whether the restart policy acts when it becomes unhealthy.
fn restarts_unhealthy(spec: &ContainerSpec) -> bool {
    spec.restart_policy != RestartPolicy::No
        && spec
            .labels
            .get(RESTART_UNHEALTHY_LABEL)
            .is_some_and(|value| value == "true")
}

impl Containers {
    /// Orders to probe; for the one who does it. `None` when somebody took them before.
    pub(crate) fn take_probe_orders(&self) -> Option<mpsc::UnboundedReceiver<ProbeOrder>> {
        let mut orders = self
            .inner
            .probe_orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        orders.take()
    }

    /// Hands in what a probe found that began when the container had run for `ran`, and waits until it is known to all.
    pub(crate) async fn probed(
        &self,
        id: &ContainerId,
        run: Timestamp,
        ran: Duration,
        result: ProbeResult,
    ) {
        let judged = self
            .ask(id, |reply| Message::Probed {
                run,
                ran,
                result,
                reply,
            })
            .await;
        if let Err(error) = judged {
            tracing::debug!(container = %id, %error, "a probe's result came to nobody");
        }
    }

    /// Does this as long as the engine runs.
    pub(crate) fn keep(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.inner.stopping.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    /// Ends a process that was found unhealthy, so that the restart policy starts it anew. It is not stopped in the
    /// sense of a person's stop, but as shortly: nobody waits for one that cannot hear the signal.
    async fn end_unhealthy(self, id: ContainerId) -> Result<(), ContainerError> {
        let record = self.resolve(id.as_str())?;
        let mut ended = self.wait(&id, WaitCondition::NextExit)?;
        let signal = record.spec.stop_signal.unwrap_or(Signal::TERM);
        self.signal(&id, signal, false).await?;
        let heard = match record.spec.stop_timeout {
            None => self.heard(&id, signal, &mut ended).await,
            Some(_) => Heard::Perhaps,
        };
        match heard {
            Heard::Ended => return Ok(()),
            Heard::Never => return self.signal(&id, Signal::KILL, false).await,
            Heard::Perhaps => {}
        }
        let timeout = record.spec.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT);
        let Ok(seconds) = u64::try_from(timeout) else {
            ended.await;
            return Ok(());
        };
        let patience = Duration::from_secs(seconds);
        if tokio::time::timeout(patience, &mut ended).await.is_err() {
            self.signal(&id, Signal::KILL, false).await?;
        }
        Ok(())
    }
}

impl Actor {
    fn probing_wanted(&self) -> Option<Timestamp> {
        let running = self
            .life
            .state
            .running()
            .filter(|running| !running.paused)?;
        probe_of(&self.record.spec)?;
        Some(running.started_at)
    }

    /// Goes on with probing a container that ran before this engine did; its health stays as it was found.
    pub(super) fn resume_probes(&mut self) {
        if let Some(run) = self.probing_wanted() {
            if self.record.health.is_none() {
                self.change(|record| record.health = Some(Health::starting(run, None)));
            }
            self.order_probes(Some(run));
        }
    }

    /// Begins and ends probing as the phase says. What is not probed is not known to be healthy: as in Docker it is
    /// shown as unhealthy, without an event.
    pub(super) fn note_probing(&mut self) {
        if self.record.spec.healthcheck.is_none() {
            return;
        }
        let wanted = self.probing_wanted();
        if wanted == self.probed {
            return;
        }
        let fresh = self.life.state.running().is_some_and(|running| {
            let known = self.record.health.as_ref().map(|health| health.run);
            known != Some(running.started_at)
        });
        self.change(|record| match wanted {
            Some(run) if fresh => {
                record.health = Some(Health::starting(run, record.health.as_ref()));
            }
            Some(_) => {}
            None => {
                if let Some(health) = &mut record.health {
                    health.status = HealthStatus::Unhealthy;
                }
            }
        });
        self.order_probes(wanted);
    }

    fn order_probes(&mut self, run: Option<Timestamp>) {
        self.probed = run;
        let id = self.record.id.clone();
        let order = match run {
            Some(run) => ProbeOrder::Begin(id, run),
            None => ProbeOrder::End(id),
        };
        // Nobody listens where nobody probes: in tests without a prober, and when the engine ends.
        let _ = self.containers.inner.probes.send(order);
    }

    /// Takes note of a result, unless it is of a run that is over.
    pub(super) async fn judge(
        &mut self,
        run: Timestamp,
        ran: Duration,
        result: ProbeResult,
    ) -> Result<(), ContainerError> {
        let (Some(health), Some(check)) = (&self.record.health, &self.record.spec.healthcheck)
        else {
            return Ok(());
        };
        if self.probed != Some(run) {
            return Ok(());
        }
        let before = health.status;
        let next = health.judged(check, ran, result);
        let status = next.status;
        self.change(|record| record.health = Some(next));
        self.persist = true;
        if status != before {
            let action = format!("health_status: {}", status.as_str());
            self.tell(container_event(&action, &self.record, &[]));
        }
        let condemned = status == HealthStatus::Unhealthy
            && before != status
            && restarts_unhealthy(&self.record.spec);
        if condemned && self.feed(Input::Condemned).await.is_ok() {
            tracing::info!(container = %self.record.id, "unhealthy: its process is ended for a restart");
            let (containers, id) = (self.containers.clone(), self.record.id.clone());
            self.containers.keep(async move {
                if let Err(error) = containers.end_unhealthy(id.clone()).await {
                    tracing::warn!(container = %id, %error, "an unhealthy container was not ended");
                }
            });
        }
        self.write().await
    }
}
