//! Networks.

use hoist_engine::records::NetworkRecord;
use http::StatusCode;

use crate::call::{Call, empty, json_reply, ok};
use crate::clock::now;
use crate::error::{ApiError, Reply};
use crate::wire::filters::Filters;
use crate::wire::network::{ConnectBody, NetworkCreateBody, network, request_from_wire};
use crate::wire::to_spec::endpoint_from_wire;
use crate::wire::until::until;

const FILTERS: [&str; 8] = [
    "dangling", "driver", "id", "label", "label!", "name", "scope", "type",
];

/// `POST /networks/create`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let body: NetworkCreateBody = call.json().await?;
    let request = request_from_wire(body);
    let made = call.engine().networks.create(request).await?;
    json_reply(
        StatusCode::CREATED,
        &serde_json::json!({ "Id": made.id.as_str(), "Warning": "" }),
    )
}

/// `DELETE /networks/{id}`.
pub(crate) async fn remove(call: Call) -> Reply {
    call.engine().networks.remove(call.name()).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /networks/prune`. Networks that no container runs on go, as in Docker.
pub(crate) async fn prune(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &["label", "label!", "until"])?;
    let until = until(&filters, now())?;
    let keep = |record: &NetworkRecord| {
        !filters.labels(&record.labels) || until.is_some_and(|until| record.created_at > until)
    };
    let names = call.engine().networks.prune(&keep).await?;
    ok(&serde_json::json!({ "NetworksDeleted": (!names.is_empty()).then_some(names) }))
}

/// `POST /networks/{id}/connect`.
pub(crate) async fn connect(mut call: Call) -> Reply {
    let body: ConnectBody = call.json().await?;
    let engine = call.engine();
    let network = engine.networks.resolve(call.name())?;
    let name = body.container.unwrap_or_default();
    let container = engine.containers.resolve(&name)?;
    let endpoint = endpoint_from_wire(body.endpoint_config.unwrap_or_default())?;
    engine
        .containers
        .connect(&container.id, network, endpoint)
        .await
        .map_err(plainly)?;
    Ok(empty(StatusCode::OK))
}

/// `POST /networks/{id}/disconnect`. With `Force` a container that is gone is no error.
pub(crate) async fn disconnect(mut call: Call) -> Reply {
    let body: ConnectBody = call.json().await?;
    let engine = call.engine();
    let network = engine.networks.resolve(call.name())?;
    let name = body.container.unwrap_or_default();
    let container = match engine.containers.resolve(&name) {
        Err(_) if body.force == Some(true) => return Ok(empty(StatusCode::OK)),
        other => other?,
    };
    engine
        .containers
        .disconnect(&container.id, network)
        .await
        .map_err(plainly)?;
    Ok(empty(StatusCode::OK))
}

/// `GET /hoist/network/{id}/explain`: Hoist's own, of a container or a published port of the host.
pub(crate) async fn explain(call: Call) -> Reply {
    let said = call.engine().containers.explain_network(call.name())?;
    ok(&serde_json::json!({ "Explanation": said }))
}

/// Only a start says that it was setting networking up.
fn plainly(error: hoist_engine::error::ContainerError) -> ApiError {
    match error {
        hoist_engine::error::ContainerError::Network(error) => error.into(),
        error => error.into(),
    }
}

/// `GET /networks`.
pub(crate) async fn list(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &FILTERS)?;
    filters.check("type", &["builtin", "custom"])?;
    let dangling = filters.boolean("dangling")?;
    let networks = &call.engine().networks;
    // Before API 1.28 the list told of containers too.
    let containers = (!call.version.at_least(28)).then(|| call.engine().containers.list());
    let found: Vec<_> = networks
        .list()
        .into_iter()
        .filter(|record| {
            let kind = if record.is_builtin() {
                "builtin"
            } else {
                "custom"
            };
            filters.exact("driver", &record.driver)
                && filters.matches("id", &[record.id.as_str()])
                && filters.labels(&record.labels)
                && filters.matches("name", &[&record.name])
                && filters.exact("scope", "local")
                && filters.exact("type", kind)
                && dangling.is_none_or(|wanted| {
                    let dangles = !record.is_builtin() && networks.endpoints(record).is_empty();
                    dangles == wanted
                })
        })
        .map(|record| network(&record, containers.as_deref(), None, call.version))
        .collect();
    ok(&found)
}

/// `GET /networks/{id}`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let networks = &call.engine().networks;
    let record = networks.resolve(call.name())?;
    let containers = call.engine().containers.list();
    let usage = networks.usage(&record);
    ok(&network(
        &record,
        Some(&containers),
        (!usage.is_empty()).then_some(usage.as_slice()),
        call.version,
    ))
}
