//! The build cache: told of by `GET /system/df`, made smaller by `POST /build/prune`.

use std::collections::HashSet;
use std::sync::Arc;

use hoist_build::{Builder, CacheRecord};
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
            "Type": if record.description == "local source" { "source.local" } else { "regular" },
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

/// `POST /build/prune`: entries of no use for as long as `until` says; as many, those that were of use last kept, as are more
/// than `reserved-space` (`keep-storage` before 1.48) holds.
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
    let kept_bytes = match call.query.number("reserved-space")? {
        Some(bytes) => bytes,
        None => call.query.number("keep-storage")?.unwrap_or(0),
    };
    let ids: HashSet<&str> = filters.values("id").iter().map(String::as_str).collect();
    let builder = call.builder();
    let kept = most_recent(builder, u64::try_from(kept_bytes).unwrap_or(0));
    let is_wanted = |record: &CacheRecord| {
        let by_id = ids.is_empty() || ids.iter().any(|id| record.key.starts_with(id));
        let is_old = until.is_none_or(|until: Timestamp| record.used < until);
        // Entries have no labels (`docker system prune --filter label=…` asks here too).
        let by_label = filters.values("label").is_empty();
        by_id && by_label && is_old && !kept.contains(&record.key)
    };
    let pruned = builder.prune(is_wanted).await;
    let pruned = pruned.map_err(|error| ApiError::new(error.class(), chain(&error)))?;
    // Their layers, as far as no image has them.
    call.engine().images.collect_soon();
    let event = hoist_engine::events::pruned(EventKind::Builder, pruned.bytes);
    if let Err(error) = call.engine().events.tell(event).await {
        return Err(ApiError::new(error.class(), chain(&error)));
    }
    ok(&json!({ "CachesDeleted": pruned.keys, "SpaceReclaimed": pruned.bytes }))
}

/// The keys of as many entries, from the one that was of use last on, as hold no more than this.
fn most_recent(builder: &Builder, bytes: u64) -> HashSet<String> {
    let mut records = builder.cached();
    records.sort_by_key(|record| std::cmp::Reverse(record.used));
    let mut left = bytes;
    let mut kept = HashSet::new();
    if bytes == 0 {
        return kept;
    }
    for record in records {
        match left.checked_sub(record.size) {
            Some(rest) => left = rest,
            None => break,
        }
        kept.insert(record.key.clone());
    }
    kept
}
