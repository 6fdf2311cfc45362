//! The build cache: told of by `GET /system/df`, made smaller by `POST /build/prune`.

use std::sync::Arc;

use hoist_build::{Budget, CacheRecord};
use hoist_engine::images::Images;
use hoist_model::{EventKind, Timestamp, chain};
use serde_json::{Value, json};

use crate::call::{Call, ok};
use crate::error::{ApiError, Reply};
use crate::wire::filters::Filters;

/// Every entry (API 1.55 `BuildCache`), those that were of use last first. One has what its layer occupies on disk, as du(1)
/// counts it; where an image or an entry before it has the same layer it is shared, and has nothing of its own.
pub(super) async fn list(
    mut records: Vec<Arc<CacheRecord>>,
    images: Images,
) -> Result<Vec<Value>, ApiError> {
    records.sort_by_key(|record| std::cmp::Reverse(record.used));
    let measure = move || -> Vec<_> {
        let mut known = images.layers();
        let measured = records.into_iter().map(|record| {
            let layer = record.layer.clone();
            let is_new = layer.clone().is_some_and(|layer| known.insert(layer));
            let bytes = layer.as_ref().filter(|_| is_new);
            let size = bytes.map_or(0, |layer| images.layer_disk_bytes(layer));
            (record, size, layer.is_some() && !is_new)
        });
        measured.collect()
    };
    let measured = tokio::task::spawn_blocking(measure).await;
    let measured = measured
        .map_err(|error| ApiError::new(hoist_model::ErrorClass::Internal, error.to_string()))?;
    let item = |(record, size, is_shared): &(Arc<CacheRecord>, u64, bool)| {
        json!({
            "ID": record.key,
            "Parents": null,
            "Type": record.kind(),
            "Description": record.description,
            "InUse": false,
            "Shared": is_shared,
            "Size": size,
            "CreatedAt": record.created.to_string(),
            "LastUsedAt": record.used.to_string(),
            "UsageCount": record.uses,
        })
    };
    Ok(measured.iter().map(item).collect())
}

/// `POST /build/prune` (API 1.55 `BuildPrune`): entries of no use for as long as `until` says, those that were of use longest ago first, until
/// the rest keeps to `max-used-space`, `min-free-space` and, whatever those say, `reserved-space` (`keep-storage` before 1.48).
pub(crate) async fn prune(call: Call) -> Reply {
    let known = [
        "until",
        "unused-for",
        "id",
        "description",
        "type",
        "inuse",
        "shared",
        "private",
        "label",
        "label!",
    ];
    let filters = Filters::from_query(&call.query, &known)?;
    let mut until = None;
    for name in ["until", "unused-for"] {
        if let Some(text) = filters.values(name).first() {
            until = Some(super::images::moment(text)?);
        }
    }
    let bytes = |name: &str| -> Result<Option<u64>, ApiError> {
        let given = call.query.number(name)?;
        Ok(given.map(|bytes| u64::try_from(bytes).unwrap_or(0)))
    };
    let reserved = match bytes("reserved-space")? {
        Some(bytes) => Some(bytes),
        None => bytes("keep-storage")?,
    };
    let budget = Budget {
        max_used: bytes("max-used-space")?.unwrap_or(0),
        reserved: reserved.unwrap_or(0),
        min_free: bytes("min-free-space")?.unwrap_or(0),
    };
    // A filter that is only named means that it is so.
    let is = |name: &str| -> Result<Option<bool>, ApiError> {
        match filters.values(name).first().map(String::as_str) {
            None => Ok(None),
            Some("" | "1" | "true") => Ok(Some(true)),
            Some("0" | "false") => Ok(Some(false)),
            Some(other) => Err(ApiError::invalid(format!(
                "invalid filter '{name}={other}': expected true or false"
            ))),
        }
    };
    let private = is("private")?.map(|private| !private);
    let (in_use, shared) = (is("inuse")?, is("shared")?.or(private));
    let of_images = shared.map(|_| call.engine().images.layers());
    let builder = call.builder();
    let is_wanted = |record: &CacheRecord| {
        let any = |name: &str, fits: &dyn Fn(&str) -> bool| {
            let values = filters.values(name);
            values.is_empty() || values.iter().any(|value| fits(value))
        };
        let is_old = until.is_none_or(|until: Timestamp| record.used < until);
        let of_images = of_images.as_ref();
        let is_shared = of_images.is_some_and(|layers| {
            let layer = record.layer.as_ref();
            layer.is_some_and(|layer| layers.contains(layer))
        });
        is_old
            && any("id", &|id| record.key.starts_with(id))
            && any("type", &|kind| record.kind() == kind)
            && any("description", &|text| record.description.contains(text))
            // Entries have no labels (`docker system prune --filter label=…` asks here too), and no step holds one.
            && filters.values("label").is_empty()
            && in_use != Some(true)
            && shared.is_none_or(|shared| shared == is_shared)
    };
    let pruned = builder.prune_to(&budget, is_wanted).await;
    let pruned = pruned.map_err(|error| ApiError::new(error.class(), chain(&error)))?;
    // Their layers, as far as no image has them.
    call.engine().images.collect_soon();
    let event = hoist_engine::events::pruned(EventKind::Builder, pruned.bytes);
    if let Err(error) = call.engine().events.tell(event).await {
        return Err(ApiError::new(error.class(), chain(&error)));
    }
    ok(&json!({ "CachesDeleted": pruned.keys, "SpaceReclaimed": pruned.bytes }))
}
