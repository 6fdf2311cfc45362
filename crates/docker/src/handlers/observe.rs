//! What goes on in a container: its processes, and what it uses.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hoist_engine::containers::Containers;
use hoist_engine::records::ContainerRecord;
use hoist_model::ContainerId;
use hoist_model::container::ContainerStats;
use http::StatusCode;

use crate::call::{Call, ok, with_type};
use crate::clock::now;
use crate::error::Reply;
use crate::wire::stats::{Around, stats};
use crate::wire::top;

/// Between two readings (moby `daemon/stats/collector.go`).
const INTERVAL: Duration = Duration::from_secs(1);

/// `GET /containers/{id}/top`.
pub(crate) async fn processes(call: Call) -> Reply {
    let container = call.engine().containers.resolve(call.name())?;
    let arguments = call.query.nonempty("ps_args").unwrap_or("-ef");
    // Refused before the container is looked into.
    let memory = call.facade.node.memory;
    let asked = top::parse(arguments)?;
    let containers = &call.engine().containers;
    let processes = containers.processes(&container.id, asked.threads).await?;
    ok(&top::top(&asked, &processes, now(), memory))
}

/// `GET /containers/{id}/stats`: one object a second, or a single one. A client that is gone ends the readings.
pub(crate) async fn usage(call: Call) -> Reply {
    let record = call.engine().containers.resolve(call.name())?;
    let mut readings = Readings {
        containers: call.engine().containers.clone(),
        id: record.id.clone(),
        around: Around {
            version: call.version,
            no_limit: if call.facade.node.cgroup_version == "2" {
                u64::MAX
            } else {
                0
            },
        },
        before: None,
        first: true,
    };
    if call.query.boolean_or("stream", true) {
        let body = futures_util::stream::unfold(readings, |mut readings| async move {
            let line = readings.next().await?;
            Some((Ok::<_, Infallible>(line), readings))
        });
        return Ok(with_type(
            "application/json",
            StatusCode::OK,
            Body::from_stream(body),
        ));
    }
    let one_shot = call.query.boolean("one-shot");
    if !one_shot && record.state.running().is_some() {
        // CPU per cent needs something to compare with.
        readings.next().await;
    }
    let line = readings.next().await.unwrap_or_default();
    Ok(with_type(
        "application/json",
        StatusCode::OK,
        Body::from(line),
    ))
}

struct Readings {
    containers: Containers,
    id: ContainerId,
    around: Around,
    before: Option<ContainerStats>,
    first: bool,
}

impl Readings {
    /// The next line, a second after the last; none once the container is gone.
    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::take(&mut self.first) {
            tokio::time::sleep(INTERVAL).await;
        }
        let record: Arc<ContainerRecord> = self.containers.resolve(self.id.as_str()).ok()?;
        let reading = match self.containers.stats(&self.id).await {
            Ok(reading) => reading,
            Err(error) => {
                tracing::warn!(container = %self.id, %error, "its use could not be read");
                None
            }
        };
        let shown = stats(&record, self.around, reading.as_ref(), self.before.as_ref());
        let mut line = serde_json::to_vec(&shown).expect("a struct of plain members is JSON");
        line.push(b'\n');
        self.before = reading;
        Some(line.into())
    }
}
