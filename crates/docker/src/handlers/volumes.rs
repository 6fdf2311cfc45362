//! Volumes.

use hoist_engine::records::VolumeRecord;
use hoist_engine::volumes::{VolumeRequest, Volumes};
use hoist_model::ErrorClass;
use http::StatusCode;

use crate::call::{Call, empty, json_reply, json_value, ok};
use crate::error::{ApiError, NO_SWARM, Reply};
use crate::wire::filters::Filters;
use crate::wire::volume::{self as wire, VolumeCreateBody, VolumeList, VolumesPruned};

fn shown(call: &Call, record: &VolumeRecord) -> wire::Volume {
    let mountpoint = call.engine().volumes.mountpoint(&record.name);
    wire::volume(record, mountpoint.to_string_lossy().into_owned())
}

/// `GET /volumes`.
pub(crate) async fn list(call: Call) -> Reply {
    let known = ["dangling", "driver", "label", "label!", "name"];
    let filters = Filters::from_query(&call.query, &known)?;
    let dangling = filters.boolean("dangling")?;
    let volumes = &call.engine().volumes;
    let listed = volumes
        .list()
        .iter()
        .filter(|record| {
            filters.matches("name", &[&record.name])
                && filters.exact("driver", "local")
                && filters.labels(&record.labels)
                && dangling.is_none_or(|wanted| volumes.users(&record.name).is_empty() == wanted)
        })
        .map(|record| shown(&call, record))
        .collect();
    ok(&VolumeList {
        volumes: listed,
        warnings: None,
    })
}

/// Every volume, with what it occupies.
pub(super) async fn with_usage(volumes: &Volumes) -> Result<Vec<serde_json::Value>, ApiError> {
    let mut lines = Vec::new();
    for record in volumes.list() {
        let mountpoint = volumes.mountpoint(&record.name);
        let mut line = wire::volume(&record, mountpoint.to_string_lossy().into_owned());
        line.used(
            volumes.users(&record.name).len(),
            volumes.usage(&record.name).await,
        );
        lines.push(json_value(&line)?);
    }
    Ok(lines)
}

/// `POST /volumes/create`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let body: VolumeCreateBody = call.json().await?;
    // Older versions do not know the member (moby `postVolumesCreate`).
    if body.cluster_volume_spec.is_some() && call.version.at_least(42) {
        return Err(ApiError::new(ErrorClass::Unavailable, NO_SWARM));
    }
    let name = body.name.filter(|name| !name.is_empty());
    if let Some(name) = &name {
        crate::wire::binds::check_volume_name(name)?;
    }
    let request = VolumeRequest {
        name,
        driver: body.driver.unwrap_or_default(),
        options: body.driver_opts.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
        made_for: None,
    };
    let record = call.engine().volumes.create(request).await?;
    json_reply(StatusCode::CREATED, &shown(&call, &record))
}

/// `PUT /volumes/{name}`: of a swarm's volumes alone, and asked of no manager (moby `putVolumesUpdate`).
pub(crate) async fn update(_call: Call) -> Reply {
    Err(ApiError::new(
        ErrorClass::Unavailable,
        "volume update only valid for cluster volumes, but swarm is unavailable",
    ))
}

/// `GET /volumes/{name}`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let record = call.engine().volumes.get(call.name())?;
    ok(&shown(&call, &record))
}

/// `DELETE /volumes/{name}`.
pub(crate) async fn remove(call: Call) -> Reply {
    let force = call.query.boolean("force");
    call.engine().volumes.remove(call.name(), force).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /volumes/prune`. Since API 1.42 only anonymous ones, unless filtered by `all=true`.
pub(crate) async fn prune(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &["all", "label", "label!"])?;
    let all = filters.boolean("all")?.unwrap_or(false) || !call.version.at_least(42);
    let keep = |record: &VolumeRecord| !filters.labels(&record.labels);
    let (names, freed) = call.engine().volumes.prune(all, &keep).await?;
    ok(&VolumesPruned {
        volumes_deleted: names,
        space_reclaimed: freed,
    })
}
