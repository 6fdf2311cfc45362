//! What containers changed of their images: `docker diff`, `export`, `commit`.

use hoist_engine::containers::CommitRequest;
use hoist_image::document::ImageRuntimeConfig;
use hoist_image::files::{Change, ChangeKind};
use hoist_model::ImageReference;
use http::StatusCode;
use serde::Serialize;

use super::body_writer;
use crate::call::{Call, json_reply, ok};
use crate::error::{ApiError, Reply};

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    path: String,
    kind: u8,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Committed<'a> {
    id: &'a str,
}

/// `GET /containers/{id}/changes`: `null` where nothing changed, which typed clients tell from a list.
pub(crate) async fn list(call: Call) -> Reply {
    let containers = &call.engine().containers;
    let id = &containers.resolve(call.name())?.id;
    let line = |Change { path, kind }: Change| Line {
        path: String::from_utf8_lossy(&path).into_owned(),
        kind: match kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    };
    let lines: Vec<Line> = containers
        .changes(id)
        .await?
        .into_iter()
        .map(line)
        .collect();
    ok(&(!lines.is_empty()).then_some(lines))
}

/// `GET /containers/{id}/export`.
pub(crate) async fn export(call: Call) -> Reply {
    let containers = call.engine().containers.clone();
    let id = containers.resolve(call.name())?.id.clone();
    body_writer::answer(&call.parts, |out| async move {
        containers.export(&id, out).await
    })
    .await
}

/// `POST /commit`.
pub(crate) async fn commit(mut call: Call) -> Reply {
    let config: ImageRuntimeConfig = call.json_or_empty().await?.unwrap_or_default();
    let query = &call.query;
    let name = query.get("container").unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::invalid("invalid name or ID supplied: \"\""));
    }
    let containers = &call.engine().containers;
    let id = containers.resolve(name)?.id.clone();
    let reference = query
        .nonempty("repo")
        .map(|repository| match query.nonempty("tag") {
            Some(tag) => ImageReference::parse(&format!("{repository}:{tag}")),
            None => ImageReference::parse(repository),
        })
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    if reference
        .as_ref()
        .is_some_and(|name| name.digest().is_some())
    {
        return Err(ApiError::invalid(
            "refusing to create a tag with a digest reference",
        ));
    }
    let text = |name: &str| query.get(name).unwrap_or_default().to_owned();
    let changes = query.all("changes").flat_map(str::lines);
    let request = CommitRequest {
        reference,
        message: text("comment"),
        author: text("author"),
        changes: changes
            .filter(|line| !line.trim().is_empty())
            .map(str::to_owned)
            .collect(),
        config,
        pause: query.boolean_or("pause", true),
    };
    let image = containers.commit(&id, request).await?;
    json_reply(
        StatusCode::CREATED,
        &Committed {
            id: image.id.as_str(),
        },
    )
}
