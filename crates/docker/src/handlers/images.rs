//! Images: list, inspect, history, tag, remove. Pulling and loading are in [`super::transfer`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hoist_engine::images::{ImageChange, ImageUsage, ManifestKind};
use hoist_engine::records::ImageRecord;
use hoist_model::{Digest, ImageReference, Timestamp};
use http::StatusCode;
use serde_json::Value;

use crate::call::{Call, empty, json_value, ok};
use crate::clock::now;
use crate::error::{ApiError, Reply};
use crate::wire::filters::Filters;
use crate::wire::image as wire;
use crate::wire::image_manifests::manifests;

const FILTERS: [&str; 7] = [
    "before",
    "dangling",
    "label",
    "label!",
    "reference",
    "since",
    "until",
];

/// `GET /images/json`.
pub(crate) async fn list(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &FILTERS)?;
    let images = &call.engine().images;
    let dangling = filters.boolean("dangling")?;
    let created = |key: &str| -> Result<Option<Timestamp>, ApiError> {
        match filters.values(key).first() {
            Some(name) => Ok(Some(images.resolve(name)?.created.unwrap_or_default())),
            None => Ok(None),
        }
    };
    let (before, since) = (created("before")?, created("since")?);
    let until = filters
        .values("until")
        .first()
        .map(|text| moment(text))
        .transpose()?;
    let mut patterns: Vec<String> = filters.values("reference").to_vec();
    if !call.version.at_least(41) {
        // A parameter of its own until 1.41 (API history).
        patterns.extend(call.query.nonempty("filter").map(str::to_owned));
    }
    let manifests = call.query.boolean("manifests") && call.version.at_least(47);
    let used = users(&call);
    let shared = if call.query.boolean("shared-size") {
        images.file_usage().shared
    } else {
        Vec::new()
    };
    let records = images.list();
    let mut lines = Vec::new();
    for (at_line, record) in records.iter().enumerate() {
        let at = record.created.unwrap_or_default();
        let mut references = images.references(&record.id);
        let untagged = references.iter().all(|reference| reference.tag().is_none());
        let wanted = filters.labels(&record.labels)
            && before.is_none_or(|other| at < other)
            && since.is_none_or(|other| at > other)
            && until.is_none_or(|other| at < other)
            && dangling.is_none_or(|wanted| untagged == wanted);
        if !patterns.is_empty() {
            references.retain(|reference| patterns.iter().any(|p| names(p, reference)));
        }
        if !wanted || (!patterns.is_empty() && references.is_empty()) {
            continue;
        }
        let containers = used.get(record.id.as_str()).copied().unwrap_or(0);
        let mut line = wire::summary(record, &references, containers, call.version);
        line.shared(shared.get(at_line).copied());
        if manifests {
            line.with_manifests(manifests_of(&call, record));
        }
        lines.push(line);
    }
    ok(&lines)
}

/// Every image as the list shows it, with what it occupies and how much of that is shared.
pub(super) fn summaries(call: &Call, usage: &ImageUsage) -> Result<Vec<Value>, ApiError> {
    let images = &call.engine().images;
    let used = users(call);
    let records = images.list();
    let mut lines = Vec::with_capacity(records.len());
    for (at, record) in records.iter().enumerate() {
        let references = images.references(&record.id);
        let containers = used.get(record.id.as_str()).copied().unwrap_or(0);
        let mut line = wire::summary(record, &references, containers, call.version);
        if let Some(size) = usage.sizes.get(at) {
            line.size(*size);
        }
        line.shared(usage.shared.get(at).copied());
        lines.push(json_value(&line)?);
    }
    Ok(lines)
}

/// The manifests of an image, and who uses it.
fn manifests_of(call: &Call, record: &ImageRecord) -> Vec<Value> {
    let containers = call.engine().containers.list();
    let users = containers.iter().filter_map(|container| {
        let uses = container.spec.image_id.as_ref() == Some(&record.id);
        uses.then(|| container.id.as_str().to_owned())
    });
    let all = call.engine().images.manifests(record);
    manifests(record, &all, &users.collect::<Vec<_>>())
}

/// How many containers use each image.
fn users(call: &Call) -> HashMap<String, i64> {
    let mut used = HashMap::new();
    for container in call.engine().containers.list() {
        if let Some(id) = &container.spec.image_id {
            *used.entry(id.as_str().to_owned()).or_default() += 1;
        }
    }
    used
}

/// `POST /images/prune`. Only images without a tag, unless filtered by `dangling=false`.
pub(crate) async fn prune(call: Call) -> Reply {
    let known = ["dangling", "label", "label!", "until"];
    let filters = Filters::from_query(&call.query, &known)?;
    let all = !filters.boolean("dangling")?.unwrap_or(true);
    let until = filters
        .values("until")
        .first()
        .map(|text| moment(text))
        .transpose()?;
    let wanted = |record: &ImageRecord| {
        filters.labels(&record.labels)
            && until.is_none_or(|until| record.created.unwrap_or_default() < until)
    };
    let (changes, freed) = call.engine().images.prune(all, &wanted).await?;
    let lines = changed(changes);
    ok(&serde_json::json!({
        "ImagesDeleted": (!lines.is_empty()).then_some(lines),
        "SpaceReclaimed": freed,
    }))
}

/// An instant, or how long ago it was (`24h`, `1h30m`).
pub(super) fn moment(text: &str) -> Result<Timestamp, ApiError> {
    if let Ok(at) = Timestamp::parse_api(text) {
        return Ok(at);
    }
    let mut nanos: i64 = 0;
    let mut digits = String::new();
    for character in text.chars() {
        if character.is_ascii_digit() {
            digits.push(character);
            continue;
        }
        let unit: i64 = match character {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            _ => 0,
        };
        let Some(part) = digits
            .parse::<i64>()
            .ok()
            .filter(|_| unit > 0)
            .and_then(|count| count.checked_mul(unit * 1_000_000_000))
        else {
            return Err(ApiError::invalid(format!("invalid filter 'until={text}'")));
        };
        nanos = nanos.saturating_add(part);
        digits.clear();
    }
    if !digits.is_empty() || text.is_empty() {
        return Err(ApiError::invalid(format!("invalid filter 'until={text}'")));
    }
    Ok(Timestamp::from_nanos(
        now().as_nanos().saturating_sub(nanos),
    ))
}

/// Whether a pattern of the filter `reference` (shell wildcards; Go's `path.Match`) names a reference.
fn names(pattern: &str, reference: &ImageReference) -> bool {
    let familiar = reference.familiar();
    let repository = reference.repository().familiar();
    wildcard(pattern.as_bytes(), familiar.as_bytes())
        || wildcard(pattern.as_bytes(), repository.as_bytes())
        || ImageReference::parse_exact(pattern)
            .is_ok_and(|exact| exact.familiar() == familiar || exact.familiar() == repository)
}

fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', rest @ ..], _) => {
            wildcard(rest, text)
                || text
                    .split_first()
                    .is_some_and(|(first, left)| *first != b'/' && wildcard(pattern, left))
        }
        ([b'?', rest @ ..], [first, left @ ..]) => *first != b'/' && wildcard(rest, left),
        ([literal, rest @ ..], [first, left @ ..]) => literal == first && wildcard(rest, left),
        _ => false,
    }
}

struct Known {
    record: Arc<ImageRecord>,
    references: Vec<ImageReference>,
}

fn known(call: &Call) -> Result<Known, ApiError> {
    let images = &call.engine().images;
    let record = images.resolve(call.name())?;
    if let Some(text) = call.query.nonempty("platform") {
        check_platform(call.name(), text, &record)?;
    }
    let references = images.references(&record.id);
    Ok(Known { record, references })
}

/// A platform as clients send it: JSON, in Docker's words where it is wrong (moby `httputils.DecodePlatform`), or `os/arch`.
pub(super) fn parse_platform(text: &str) -> Result<hoist_model::Platform, ApiError> {
    if !text.starts_with('{') {
        return text
            .parse()
            .map_err(|error: hoist_model::InvalidPlatform| ApiError::invalid(error.to_string()));
    }
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        os: String,
        #[serde(default)]
        architecture: String,
        variant: Option<String>,
    }
    let body: Body = serde_json::from_str(text)
        .map_err(|error| ApiError::invalid(format!("failed to parse platform: {error}")))?;
    if body.os.is_empty() || body.architecture.is_empty() {
        return Err(ApiError::invalid(
            "both OS and Architecture must be provided",
        ));
    }
    Ok(hoist_model::Platform {
        os: body.os,
        architecture: body.architecture,
        variant: body.variant.filter(|variant| !variant.is_empty()),
        ..hoist_model::Platform::default()
    })
}

/// Refuses an image of another platform than the one asked for: JSON (inspect, history) or `os/arch`.
pub(super) fn check_platform(name: &str, text: &str, record: &ImageRecord) -> Result<(), ApiError> {
    let wanted = parse_platform(text)?;
    if record.platform.satisfies(&wanted) {
        return Ok(());
    }
    Err(hoist_engine::error::ImageError::Platform {
        reference: name.to_owned(),
        wanted: wanted.to_string(),
        actual: record.platform.to_string(),
    }
    .into())
}

/// `GET /images/{name}/json`.
pub(crate) async fn inspect(call: Call) -> Reply {
    let manifests = call.query.boolean("manifests") && call.version.at_least(48);
    if manifests && call.query.nonempty("platform").is_some() {
        return Err(ApiError::invalid(
            "conflicting options: manifests and platform options cannot both be set",
        ));
    }
    let known = known(&call)?;
    let config = call.engine().images.config(&known.record.id)?;
    let driver = &call.facade.node.storage_driver;
    let (record, references) = (&known.record, &known.references);
    let mut told = wire::inspect(record, references, &config, driver, call.version);
    if manifests {
        told["Manifests"] = manifests_of(&call, record).into();
    }
    ok(&told)
}

/// `GET /images/{name}/attestations`: a pull brings the image alone, so there are none unless the index that it came by names
/// some, which then are not here.
pub(crate) async fn attestations(call: Call) -> Reply {
    if call.query.all("platform").count() > 1 {
        return Err(ApiError::invalid("only one platform can be given"));
    }
    let known = known(&call)?;
    let all = call.engine().images.manifests(&known.record);
    let of = |of: &Digest| Some(of) == known.record.manifest.as_ref();
    if all
        .iter()
        .any(|one| matches!(&one.kind, ManifestKind::Attestation(about) if of(about)))
    {
        return Err(ApiError::missing(format!(
            "the attestations of {} are not kept here: its registry has them",
            call.name()
        )));
    }
    ok(&[(); 0])
}

/// `GET /images/{name}/history`.
pub(crate) async fn history(call: Call) -> Reply {
    let known = known(&call)?;
    let config = call.engine().images.config(&known.record.id)?;
    let sizes = call.engine().images.layer_sizes(&known.record);
    ok(&wire::history(
        &known.record,
        &known.references,
        &config,
        &sizes,
    ))
}

/// `POST /images/{name}/tag`.
pub(crate) async fn tag(call: Call) -> Reply {
    let repository = call.query.get("repo").unwrap_or_default();
    let target = match call.query.nonempty("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    let target =
        ImageReference::parse(&target).map_err(|error| ApiError::invalid(error.to_string()))?;
    if target.digest().is_some() {
        return Err(ApiError::invalid(
            "refusing to create a tag with a digest reference",
        ));
    }
    call.engine().images.tag(call.name(), &target).await?;
    Ok(empty(StatusCode::CREATED))
}

/// `DELETE /images/{name}`.
pub(crate) async fn remove(call: Call) -> Reply {
    let force = call.query.boolean("force");
    let prune = !call.query.boolean("noprune");
    let images = &call.engine().images;
    for platform in call.query.all("platforms") {
        let record = images.resolve(call.name())?;
        check_platform(call.name(), platform, &record)?;
    }
    let changes = call
        .engine()
        .images
        .remove(call.name(), force, prune)
        .await?;
    ok(&changed(changes))
}

fn changed(changes: Vec<ImageChange>) -> Vec<BTreeMap<&'static str, String>> {
    changes
        .into_iter()
        .map(|change| match change {
            ImageChange::Untagged(name) => BTreeMap::from([("Untagged", name)]),
            ImageChange::Deleted(digest) => {
                BTreeMap::from([("Deleted", digest.as_str().to_owned())])
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_patterns() {
        let reference = ImageReference::parse("localhost:5000/team/app:v1").unwrap();
        let hub = ImageReference::parse("busybox:1.36").unwrap();
        for (pattern, reference, expected) in [
            ("busybox", &hub, true),
            ("busybox:1.36", &hub, true),
            ("busy*", &hub, true),
            ("busybox:2", &hub, false),
            ("*/team/*", &reference, true),
            ("localhost:5000/team/app", &reference, true),
            ("*", &hub, true),
            ("*", &reference, false),
            ("library/busybox", &hub, true),
        ] {
            assert_eq!(names(pattern, reference), expected, "{pattern}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(moment("10").unwrap().as_seconds(), 10);
        let hour_ago = now().as_seconds() - moment("1h").unwrap().as_seconds();
        assert!((3600..=3602).contains(&hour_ago), "{hour_ago}");
        assert!(moment("x").is_err() && moment("5h3").is_err() && moment("").is_err());
    }
}
