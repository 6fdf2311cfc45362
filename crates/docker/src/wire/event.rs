//! `GET /events` (API 1.55, `EventMessage`).

use std::collections::BTreeMap;

use hoist_model::{Event, EventKind};
use serde::Serialize;

use super::filters::Filters;
use crate::ApiVersion;

/// Every filter there is (moby `daemon/events/filter.go`); those of swarm match nothing.
pub(crate) const FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

#[derive(Debug, Serialize)]
pub(crate) struct EventMessage<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Action")]
    action: &'a str,
    #[serde(rename = "Actor")]
    actor: Actor<'a>,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Debug, Serialize)]
struct Actor<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Attributes")]
    attributes: &'a BTreeMap<String, String>,
}

/// One event. Before API 1.52 containers and images also get the members of API 1.21 and before.
pub(crate) fn message(event: &Event, version: ApiVersion) -> EventMessage<'_> {
    let legacy =
        !version.at_least(52) && matches!(event.kind, EventKind::Container | EventKind::Image);
    EventMessage {
        status: legacy.then_some(&event.action),
        id: legacy.then_some(&event.actor),
        from: (legacy && event.kind == EventKind::Container)
            .then(|| event.attributes.get("image").map(String::as_str))
            .flatten(),
        kind: event.kind.as_str(),
        action: &event.action,
        actor: Actor {
            id: &event.actor,
            attributes: &event.attributes,
        },
        scope: "local",
        time: event.at.as_seconds(),
        time_nano: event.at.as_nanos(),
    }
}

/// Whether an event is asked for.
pub(crate) fn included(event: &Event, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let about = |kind: EventKind| {
        filters.any(kind.as_str(), |wanted| {
            event.kind == kind
                && (event.actor == *wanted
                    || name == wanted.trim_start_matches('/')
                    || (wanted.len() >= 4
                        && matches!(kind, EventKind::Container | EventKind::Network)
                        && event.actor.starts_with(wanted.as_str())))
        })
    };
    let image = || {
        filters.any("image", |wanted| {
            let of = match event.kind {
                EventKind::Image => [event.actor.as_str(), name],
                EventKind::Container => {
                    [event.attributes.get("image").map_or("", String::as_str), ""]
                }
                _ => return false,
            };
            of.iter().any(|text| {
                !text.is_empty() && (*text == wanted || untagged(text) == wanted.as_str())
            })
        })
    };
    filters.any("event", |wanted| {
        event.action == *wanted || event.action.split(':').next() == Some(wanted.as_str())
    }) && filters.exact("type", event.kind.as_str())
        && filters.exact("scope", "local")
        && filters.labels(&event.attributes)
        && about(EventKind::Container)
        && about(EventKind::Network)
        && about(EventKind::Volume)
        && about(EventKind::Daemon)
        && image()
        && ["config", "node", "plugin", "secret", "service"]
            .iter()
            .all(|key| !filters.has(key))
}

/// A reference without its tag.
fn untagged(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => reference,
    }
}
