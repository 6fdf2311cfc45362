//! What is asked of registries without bringing an image here.

use hoist_model::ImageReference;

use crate::call::{Call, ok};
use crate::error::{ApiError, Reply};
use crate::wire::credentials;
use crate::wire::filters::Filters;

/// How many repositories a search answers that says nothing, and the most (moby `daemon/pkg/registry/search.go`).
const USUAL: i64 = 25;
const MOST: i64 = 100;

/// `GET /distribution/{name}/json`.
pub(crate) async fn distribution(call: Call) -> Reply {
    let reference =
        ImageReference::parse(call.name()).map_err(|error| ApiError::invalid(error.to_string()))?;
    let credentials = credentials::from_header(call.header("x-registry-auth"));
    let images = &call.engine().images;
    let found = images.describe(&reference, credentials).await?;
    ok(&serde_json::json!({
        "Descriptor": {
            "mediaType": found.media_type,
            "digest": found.digest,
            "size": found.size,
        },
        "Platforms": found.platforms,
    }))
}

/// `GET /images/search`.
pub(crate) async fn search(call: Call) -> Reply {
    let known = ["is-automated", "is-official", "stars"];
    let filters = Filters::from_query(&call.query, &known)?;
    let limit = match call.query.number("limit")?.unwrap_or(0) {
        0 => USUAL,
        limit => limit,
    };
    let most = u32::try_from(limit).ok();
    let Some(most) = most.filter(|_| (1..=MOST).contains(&limit)) else {
        return Err(ApiError::invalid(format!(
            "limit {limit} is outside the range of [1, {MOST}]"
        )));
    };
    let official = filters.boolean("is-official")?;
    // Nothing is automated any more.
    let automated = filters.boolean("is-automated")?.unwrap_or(false);
    let mut stars = 0;
    for value in filters.values("stars") {
        let count: i64 = value
            .parse()
            .map_err(|_| ApiError::invalid(format!("invalid filter 'stars={value}'")))?;
        stars = stars.max(count);
    }
    let term = call.query.get("term").unwrap_or_default();
    let credentials = credentials::from_header(call.header("x-registry-auth"));
    let images = &call.engine().images;
    let found = images.search(term, most, credentials).await?;
    let wanted = found.into_iter().filter(|hit| {
        !automated && official.is_none_or(|wanted| hit.official == wanted) && hit.stars >= stars
    });
    let lines = wanted.map(|hit| {
        serde_json::json!({
            "star_count": hit.stars,
            "is_official": hit.official,
            "name": hit.name,
            "is_automated": false,
            "description": hit.description,
        })
    });
    ok(&lines.collect::<Vec<_>>())
}
