//! Runs health checks: a task per container that is probed, a timer only while there is a check (API `HealthConfig`).
//!
//! ```text
//! actor ── ProbeOrder ──► owner ── spawns, cancels ──► prober of one container
//!   ▲                                                     │ exec: create, start, wait for its end or the timeout
//!   └──────────────── Probed ─────────────────────────────┘
//! ```

mod output;

use std::collections::HashMap;
use std::time::Duration;

use hoist_model::container::{Healthcheck, ProbeResult, ProcessSpec};
use hoist_model::{ContainerId, ExecId, Timestamp};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::output::Output;
use crate::clock::now;
use crate::containers::{Attached, Containers, ProbeOrder, probe_of};
use crate::error::ExecError;
use crate::execs::{ExecRequest, Execs};

/// How long the stream of a probe that has ended may take to end as well: what the probe said is in it.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Probes what there is to probe until the engine ends. Does nothing the second time.
pub fn probe(containers: &Containers, execs: &Execs) {
    let Some(mut orders) = containers.take_probe_orders() else {
        return;
    };
    let prober = Prober {
        containers: containers.clone(),
        execs: execs.clone(),
    };
    containers.keep(async move {
        let mut tasks = JoinSet::new();
        let mut probed: HashMap<ContainerId, CancellationToken> = HashMap::new();
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(ProbeOrder::Begin(id, run)) => {
                        let token = CancellationToken::new();
                        if let Some(earlier) = probed.insert(id.clone(), token.clone()) {
                            earlier.cancel();
                        }
                        tasks.spawn(prober.clone().watch(id, run, token));
                    }
                    Some(ProbeOrder::End(id)) => {
                        if let Some(token) = probed.remove(&id) {
                            token.cancel();
                        }
                    }
                    None => return,
                },
                // Their results went to the actors; here they are only put away.
                Some(_) = tasks.join_next() => {}
            }
        }
    });
}

#[derive(Clone)]
struct Prober {
    containers: Containers,
    execs: Execs,
}

impl Prober {
    /// Probes one run of one container until it is cancelled.
    async fn watch(self, id: ContainerId, run: Timestamp, stop: CancellationToken) {
        // The time of day may be set meanwhile: it only tells how long it ran before this engine watched it.
        let (before, began) = (now().since(run), Instant::now());
        let ran = || before + began.elapsed();
        loop {
            let Ok(record) = self.containers.resolve(id.as_str()) else {
                return;
            };
            let Some((check, command)) = probe_of(&record.spec) else {
                return;
            };
            let status = record
                .health
                .as_ref()
                .filter(|health| health.run == run)
                .map_or(hoist_model::container::HealthStatus::Starting, |health| {
                    health.status
                });
            let wait = check.wait(status, ran());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            let ran = ran();
            let result = tokio::select! {
                result = self.probe(&id, check, command) => result,
                () = stop.cancelled() => return,
            };
            self.containers.probed(&id, run, ran, result).await;
        }
    }

    async fn probe(
        &self,
        id: &ContainerId,
        check: &Healthcheck,
        command: Vec<String>,
    ) -> ProbeResult {
        let started_at = now();
        let (exit_code, output) = match self.run(id, check, command).await {
            Ok(ended) => ended,
            Err(error) => (-1, hoist_model::chain(&error)),
        };
        ProbeResult {
            started_at,
            ended_at: now(),
            exit_code,
            output,
        }
    }

    async fn run(
        &self,
        id: &ContainerId,
        check: &Healthcheck,
        command: Vec<String>,
    ) -> Result<(i32, String), ExecError> {
        let request = ExecRequest {
            process: ProcessSpec {
                command: Some(command),
                ..ProcessSpec::default()
            },
            attach: hoist_model::container::AttachFlags {
                stdin: false,
                stdout: true,
                stderr: true,
            },
            ..ExecRequest::default()
        };
        let exec = Killed {
            id: self.execs.create(id, request).await?,
            execs: self.execs.clone(),
        };
        let attached = self.execs.start(exec.id.as_str(), false, None).await?;
        let mut output = Output::default();
        let timeout = check.probe_timeout();
        let ended = tokio::time::timeout(timeout, async {
            if let Some(Attached { mut stream, .. }) = attached {
                // Its output may outlive it, held by a child; its end is what counts.
                tokio::select! {
                    () = output.read(&mut stream) => self.execs.ended(&exec.id).await,
                    () = self.execs.ended(&exec.id) => {
                        let _ = tokio::time::timeout(LAST_WORDS, output.read(&mut stream)).await;
                    }
                }
            }
        })
        .await;
        let output = output.text();
        if ended.is_err() {
            let said = if output.is_empty() {
                String::new()
            } else {
                format!(": {output}")
            };
            let timeout = go_duration(timeout);
            return Ok((
                -1,
                format!("Health check exceeded timeout ({timeout}){said}"),
            ));
        }
        let exit_code = self.execs.get(exec.id.as_str())?.exit_code.unwrap_or(-1);
        Ok((exit_code, output))
    }
}

/// An exec that ends with whoever waits for it.
struct Killed {
    id: ExecId,
    execs: Execs,
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.execs.kill_and_forget(&self.id);
    }
}

/// As Go prints a duration: `1m30s`, `1.5s`, `500ms`.
fn go_duration(duration: std::time::Duration) -> String {
    let fraction = |number: f64, unit: &str| {
        let text = format!("{number:.9}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        format!("{text}{unit}")
    };
    let seconds = duration.as_secs();
    if seconds == 0 {
        return fraction(duration.as_secs_f64() * 1000.0, "ms");
    }
    let mut text = String::new();
    if seconds >= 3600 {
        text.push_str(&format!("{}h", seconds / 3600));
    }
    if seconds >= 60 {
        text.push_str(&format!("{}m", seconds / 60 % 60));
    }
    let below = (seconds % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9;
    text + &fraction(below, "s")
}

#[cfg(test)]
mod tests {
    use super::go_duration;
    use std::time::Duration;

    #[test]
    fn durations_are_gos() {
        for (milliseconds, expected) in [
            (1, "1ms"),
            (1500, "1.5s"),
            (30_000, "30s"),
            (60_000, "1m0s"),
            (5_425_000, "1h30m25s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(milliseconds)), expected);
        }
    }
}
