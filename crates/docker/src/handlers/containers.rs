//! Containers: everything but their streams.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use hoist_engine::Engine;
use hoist_engine::containers::{
    CreateRequest, Outcome, RemoveRequest, StopRequest, WaitCondition, WaitOutcome,
};
use hoist_engine::error::ContainerError;
use hoist_engine::records::ContainerRecord;
use hoist_model::{ContainerId, Platform, Signal};
use http::{HeaderValue, Response, StatusCode, header};

use crate::call::{Call, empty, json_reply, json_value, ok, with_type};
use crate::clock::now;
use crate::error::{ApiError, Reply};
use crate::wire::container::{self as wire, Around};
use crate::wire::container_list::{self, Bounds};
use crate::wire::create_body::CreateBody;
use crate::wire::filters::Filters;
use crate::wire::resources::{Capacity, check_sets};
use crate::wire::to_spec::{Context, spec_from_wire};
use crate::wire::unserved;
use crate::wire::until::until;

fn found(call: &Call) -> Result<Arc<ContainerRecord>, ApiError> {
    Ok(call.engine().containers.resolve(call.name())?)
}

fn id(call: &Call) -> Result<ContainerId, ApiError> {
    Ok(found(call)?.id.clone())
}

/// Said of a stop that did not wait, in the form of RFC 7234 §5.5; other clients than ours pass it over.
const CUT_SHORT: &str =
    "299 - \"killed without waiting: its first process has no handler for the stop signal\"";

fn done(outcome: Outcome) -> Response<Body> {
    let mut reply = empty(match outcome {
        Outcome::Changed | Outcome::CutShort => StatusCode::NO_CONTENT,
        Outcome::Unchanged => StatusCode::NOT_MODIFIED,
    });
    if outcome == Outcome::CutShort {
        let warning = HeaderValue::from_static(CUT_SHORT);
        reply.headers_mut().insert(header::WARNING, warning);
    }
    reply
}

/// Bytes a line of the list mostly stays below.
const LINE: usize = 1200;

/// `GET /containers/json`.
pub(crate) async fn list(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &container_list::FILTERS)?;
    container_list::check_filters(&filters)?;
    let limit = call.query.number("limit")?.filter(|limit| *limit > 0);
    let all = call.query.boolean("all")
        || limit.is_some()
        || ["status", "exited", "before", "since"]
            .iter()
            .any(|key| filters.has(key));
    let engine = call.engine();
    let bound = |key: &str| {
        filters
            .values(key)
            .first()
            .map(|name| engine.containers.resolve(name))
            .transpose()
    };
    let (before, since) = (bound("before")?, bound("since")?);
    let ancestors: Option<Vec<_>> = filters.has("ancestor").then(|| {
        let images = filters.values("ancestor").iter();
        images
            .filter_map(|name| engine.images.resolve(name).ok())
            .map(|image| image.layers.clone())
            .collect()
    });
    let bounds = Bounds {
        before: before.as_deref(),
        since: since.as_deref(),
        ancestors: ancestors.as_deref(),
    };
    let mut records: Vec<Arc<ContainerRecord>> = engine
        .containers
        .list()
        .into_iter()
        .filter(|record| all || record.state.counts_as_running())
        .filter(|record| container_list::included(record, &filters, &bounds))
        .collect();
    if let Some(limit) = limit {
        records.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    let with_sizes = call.query.boolean("size");
    let network_ids = NetworkIds::of(&call);
    let known = engine.containers.names();
    let mut names: HashMap<&str, Option<hoist_model::ImageId>> = HashMap::new();
    let at = now();
    // Written line by line into one buffer: a thousand lines are a megabyte.
    let mut text = Vec::with_capacity(records.len() * LINE + 2);
    text.push(b'[');
    for record in &records {
        let image = names
            .entry(record.spec.image.as_str())
            .or_insert_with_key(|name| Some(engine.images.resolve(name).ok()?.id.clone()));
        let sizes = if with_sizes {
            Some(sizes(engine, record).await)
        } else {
            None
        };
        let line = container_list::summary(
            record,
            known.of(record),
            at,
            image.is_some() && *image == record.spec.image_id,
            sizes,
            call.version
                .at_least(52)
                .then(|| container_list::health_summary(record)),
            &|name| network_ids.get(name),
        );
        if text.len() > 1 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &line).expect("a struct of plain members is JSON");
    }
    text.extend_from_slice(b"]\n");
    Ok(with_type(
        "application/json",
        StatusCode::OK,
        Body::from(text),
    ))
}

/// Every container as the list shows it, with sizes.
pub(super) async fn with_sizes(
    engine: &Engine,
    network_ids: &NetworkIds,
    version: crate::ApiVersion,
) -> Result<Vec<serde_json::Value>, ApiError> {
    let at = now();
    let known = engine.containers.names();
    let mut lines = Vec::new();
    for record in engine.containers.list() {
        let image = engine.images.resolve(&record.spec.image).ok();
        let named = image.is_some_and(|image| Some(&image.id) == record.spec.image_id.as_ref());
        let sizes = sizes(engine, &record).await;
        let health = version.at_least(52);
        let line = container_list::summary(
            &record,
            known.of(&record),
            at,
            named,
            Some(sizes),
            health.then(|| container_list::health_summary(&record)),
            &|name| network_ids.get(name),
        );
        lines.push(json_value(&line)?);
    }
    Ok(lines)
}

/// Bytes of the writable layer and of everything; what cannot be told is 0.
async fn sizes(engine: &Engine, record: &ContainerRecord) -> (u64, u64) {
    let writable = engine
        .containers
        .writable_size(&record.id)
        .await
        .unwrap_or(0);
    let image = record
        .spec
        .image_id
        .as_ref()
        .and_then(|id| engine.images.resolve(id.as_str()).ok())
        .map_or(0, |image| image.size);
    (writable, writable + image)
}

/// Ids of networks by name, looked up once per reply.
pub(super) struct NetworkIds(HashMap<String, String>);

impl NetworkIds {
    pub(super) fn of(call: &Call) -> Self {
        let networks = call.engine().networks.list();
        let pairs = networks
            .iter()
            .map(|network| (network.name.clone(), network.id.as_str().to_owned()));
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> String {
        self.0.get(name).cloned().unwrap_or_default()
    }
}

/// `POST /containers/create`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let body: CreateBody = call.json().await?;
    if body.image.is_none() && body.host_config.is_none() && body.cmd.is_none() {
        return Err(ApiError::invalid(
            "config cannot be empty in order to create a container",
        ));
    }
    let platform = call
        .query
        .nonempty("platform")
        .map(str::parse::<Platform>)
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let context = Context {
        version: call.version,
        capacity: Capacity::of(&call.facade.node),
        platform: platform.clone(),
        defaults: call.facade.node.defaults.clone(),
        private_cgroups: call.facade.node.private_cgroup_namespace(),
        log: call.facade.node.log.clone(),
    };
    let (spec, mut warnings) = spec_from_wire(body, &context)?;
    unserved::check(&spec, &mut warnings)?;
    check_sets(&spec.resources, &call.facade.node)?;
    let name = call
        .query
        .nonempty("name")
        .map(|name| name.strip_prefix('/').unwrap_or(name).to_owned());
    let created = call
        .engine()
        .containers
        .create(CreateRequest {
            name,
            spec,
            platform,
        })
        .await
        .map_err(refused)?;
    warnings.extend(created.warnings);
    json_reply(
        StatusCode::CREATED,
        &serde_json::json!({ "Id": created.id.as_str(), "Warnings": warnings }),
    )
}

/// Clients take a 404 to mean that the image has to be pulled, so nothing else that is missing may answer one.
fn refused(error: ContainerError) -> ApiError {
    let is_image = matches!(error, ContainerError::Image(_));
    let mut error = ApiError::from(error);
    if error.status == StatusCode::NOT_FOUND && !is_image {
        error.status = StatusCode::BAD_REQUEST;
    }
    error
}

/// `GET /containers/{id}/json`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let mut record = found(&call)?;
    let executing = call.engine().execs.running_in(&record.id);
    if !executing.is_empty() {
        Arc::make_mut(&mut record).exec_ids = executing;
    }
    let containers = &call.engine().containers;
    let has_log = record.spec.log.driver == "json-file";
    let log_path = containers.log_path(&record).filter(|_| has_log);
    let log_path = log_path.map_or_else(String::new, |path| path.to_string_lossy().into_owned());
    let sizes = if call.query.boolean("size") {
        Some(sizes(call.engine(), &record).await)
    } else {
        None
    };
    let network_ids = NetworkIds::of(&call);
    let images = &call.engine().images;
    let image = record
        .spec
        .image_id
        .as_ref()
        .filter(|_| call.version.at_least(48));
    let image = image.and_then(|id| images.resolve(id.as_str()).ok());
    let manifest = image.and_then(|image| images.manifest(&image));
    ok(&wire::inspect(
        &record,
        &Around {
            version: call.version,
            node: &call.facade.node,
            etc: &containers.etc_directory(&record.id),
            log_path: &log_path,
            log_lost: containers.log_lost(&record),
            links: &containers.links(&record),
            sizes,
            network_id: &|name| network_ids.get(name),
            manifest: manifest
                .as_ref()
                .map(|(digest, bytes)| (digest, bytes.as_slice())),
        },
    ))
}

/// `POST /containers/{id}/start`.
pub(crate) async fn start(call: Call) -> Reply {
    // Docker refuses a body here since API 1.24; none of its clients sends one.
    if let Some(keys) = call.query.nonempty("detachKeys") {
        crate::wire::detach_keys::parse(keys)?;
    }
    if call.query.nonempty("checkpoint").is_some() {
        // Docker's refusal, where it has no experimental mode.
        return Err(ApiError::invalid(
            "checkpoint is only supported in experimental mode",
        ));
    }
    let id = id(&call)?;
    Ok(done(call.engine().containers.start(&id).await?))
}

fn stop_request(call: &Call) -> Result<StopRequest, ApiError> {
    Ok(StopRequest {
        signal: call.query.nonempty("signal").map(signal).transpose()?,
        timeout: call.query.number("t")?,
    })
}

fn signal(text: &str) -> Result<Signal, ApiError> {
    text.parse()
        .map_err(|_| ApiError::invalid(format!("invalid signal: {text}")))
}

/// `POST /containers/{id}/stop`.
pub(crate) async fn stop(call: Call) -> Reply {
    let request = stop_request(&call)?;
    let id = id(&call)?;
    Ok(done(call.engine().containers.stop(&id, request).await?))
}

/// `POST /containers/{id}/restart`.
pub(crate) async fn restart(call: Call) -> Reply {
    let request = stop_request(&call)?;
    let id = id(&call)?;
    let restarted = call.engine().containers.restart(&id, request).await;
    restarted.map_err(|error| {
        let mut refused = ApiError::from(error);
        refused.message = format!(
            "Cannot restart container {}: {}",
            call.name(),
            refused.message
        );
        refused
    })?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/kill`.
pub(crate) async fn kill(call: Call) -> Reply {
    let signal = signal(call.query.nonempty("signal").unwrap_or("KILL"))?;
    let container = found(&call)?;
    call.engine()
        .containers
        .kill(&container.id, signal)
        .await
        .map_err(|error| {
            let refused = ApiError::from(error);
            let message = format!(
                "cannot kill container: {}: {}",
                container.name, refused.message
            );
            ApiError { message, ..refused }
        })?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/pause`.
pub(crate) async fn pause(call: Call) -> Reply {
    let id = id(&call)?;
    call.engine().containers.pause(&id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/unpause`.
pub(crate) async fn unpause(call: Call) -> Reply {
    let id = id(&call)?;
    call.engine().containers.unpause(&id).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/rename`.
pub(crate) async fn rename(call: Call) -> Reply {
    let id = id(&call)?;
    let name = call.query.get("name").unwrap_or_default();
    let name = name.strip_prefix('/').unwrap_or(name);
    if name.is_empty() {
        return Err(ApiError::invalid("Neither old nor new names may be empty"));
    }
    call.engine().containers.rename(&id, name).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `DELETE /containers/{id}`.
pub(crate) async fn remove(call: Call) -> Reply {
    if call.query.boolean("link") {
        call.engine().containers.unlink(call.name()).await?;
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let id = id(&call)?;
    let request = RemoveRequest {
        force: call.query.boolean("force"),
        volumes: call.query.boolean("v"),
    };
    call.engine().containers.remove(&id, request).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/prune`.
pub(crate) async fn prune(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &["until", "label", "label!"])?;
    let until = until(&filters, now())?;
    let wanted = |record: &ContainerRecord| {
        until.is_none_or(|until| record.created_at <= until) && filters.labels(&record.spec.labels)
    };
    let (removed, freed) = call.engine().containers.prune(&wanted).await?;
    let removed: Vec<&str> = removed.iter().map(ContainerId::as_str).collect();
    ok(&serde_json::json!({
        "ContainersDeleted": (!removed.is_empty()).then_some(removed),
        "SpaceReclaimed": freed,
    }))
}

/// `POST /containers/{id}/wait`. The head is sent at once: clients start the container when they have seen it.
pub(crate) async fn wait(call: Call) -> Reply {
    let condition = match call.query.nonempty("condition") {
        None | Some("not-running") => WaitCondition::NotRunning,
        Some("next-exit") => WaitCondition::NextExit,
        Some("removed") => WaitCondition::Removed,
        Some(other) => {
            return Err(ApiError::invalid(format!("invalid condition: {other:?}")));
        }
    };
    let id = id(&call)?;
    let ended = call.engine().containers.wait(&id, condition)?;
    let body = futures_util::stream::once(async move {
        Ok::<_, std::convert::Infallible>(waited(&ended.await))
    });
    Ok(with_type(
        "application/json",
        StatusCode::OK,
        Body::from_stream(body),
    ))
}

fn waited(outcome: &WaitOutcome) -> Bytes {
    let mut answer = serde_json::json!({ "StatusCode": outcome.exit_code });
    if let Some(error) = &outcome.error {
        answer["Error"] = serde_json::json!({ "Message": error });
    }
    format!("{answer}\n").into()
}

/// `POST /containers/{id}/resize`.
pub(crate) async fn resize(call: Call) -> Reply {
    let (rows, columns) = terminal_size(&call)?;
    let id = id(&call)?;
    call.engine().containers.resize(&id, rows, columns).await?;
    Ok(empty(StatusCode::OK))
}

/// `h` and `w`: rows and columns.
pub(super) fn terminal_size(call: &Call) -> Result<(u16, u16), ApiError> {
    let side = |name: &str, what: &str| {
        let text = call.query.get(name).unwrap_or_default();
        // In Go's words (moby: daemon/server/httputils/form.go, `Uint32Value`); a terminal has at most 65,535 rows.
        text.parse::<u16>().map_err(|_| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            let why = if is_number {
                "value out of range"
            } else {
                "invalid syntax"
            };
            ApiError::invalid(format!("invalid resize {what} {text:?}: {why}"))
        })
    };
    Ok((side("h", "height")?, side("w", "width")?))
}
