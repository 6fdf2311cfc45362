//! `GET /events`.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use hoist_model::{Event, Timestamp};
use http::StatusCode;

use crate::ApiVersion;
use crate::call::{Call, with_type};
use crate::clock::now;
use crate::error::{ApiError, Reply};
use crate::wire::event::{FILTERS, included, message};
use crate::wire::filters::Filters;

/// Streams events: those since an instant, then live ones.
pub(crate) async fn stream(call: Call) -> Reply {
    let filters = Filters::from_query(&call.query, &FILTERS)?;
    let instant = |name: &str| -> Result<Option<Timestamp>, ApiError> {
        call.query
            .nonempty(name)
            .map(|text| {
                Timestamp::parse_api(text).map_err(|error| ApiError::invalid(error.to_string()))
            })
            .transpose()
    };
    let (since, until) = (instant("since")?, instant("until")?);
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(ApiError::invalid(format!(
            "`since` time ({since}) cannot be after `until` time ({until})"
        )));
    }
    // With an end that has passed, what led up to it is asked for.
    let since = since.or_else(|| {
        until
            .filter(|end| *end <= now())
            .map(|_| Timestamp::default())
    });
    let version = call.version;
    let (kind, sequence) = negotiate(call.header("accept").unwrap_or_default(), version);
    let events = call.engine().events.subscribe(since, until);
    let body =
        futures_util::stream::unfold((events, filters), move |(mut events, filters)| async move {
            loop {
                let event = events.recv().await?;
                if included(&event, &filters) {
                    let bytes = render(&event, version, sequence);
                    return Some((Ok::<_, Infallible>(bytes), (events, filters)));
                }
            }
        });
    Ok(with_type(kind, StatusCode::OK, Body::from_stream(body)))
}

/// The content type, and whether each object starts with a record separator (RFC 7464).
fn negotiate(accept: &str, version: ApiVersion) -> (&'static str, bool) {
    let wants = |kind: &str| {
        accept
            .split(',')
            .any(|part| part.split(';').next().unwrap_or_default().trim() == kind)
    };
    match () {
        () if version.at_least(52) && wants("application/json-seq") => {
            ("application/json-seq", true)
        }
        () if version.at_least(53) && wants("application/jsonl") => ("application/jsonl", false),
        () if version.at_least(52) && wants("application/x-ndjson") => {
            ("application/x-ndjson", false)
        }
        () => ("application/json", false),
    }
}

fn render(event: &Event, version: ApiVersion, sequence: bool) -> Bytes {
    let mut line = if sequence { vec![0x1e] } else { Vec::new() };
    serde_json::to_writer(&mut line, &message(event, version))
        .expect("a struct of plain members is JSON");
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_model::EventKind;
    use std::collections::BTreeMap;

    #[test]
    fn old_clients_get_old_members() {
        let event = Event {
            at: Timestamp::from_nanos(1_500_000_000),
            kind: EventKind::Container,
            action: "die".into(),
            actor: "abc".into(),
            attributes: BTreeMap::from([("image".into(), "busybox".into())]),
        };
        let text = |minor| {
            let bytes = render(&event, ApiVersion::minor(minor), false);
            String::from_utf8(bytes.to_vec()).unwrap()
        };
        let rest = r#""Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"image":"busybox"}},"scope":"local","time":1,"timeNano":1500000000}"#;
        assert_eq!(text(52), format!("{{{rest}\n"));
        assert_eq!(
            text(51),
            format!("{{\"status\":\"die\",\"id\":\"abc\",\"from\":\"busybox\",{rest}\n")
        );
    }

    #[test]
    fn the_content_type_is_what_was_asked_for() {
        let kind = |accept, minor| negotiate(accept, ApiVersion::minor(minor)).0;
        assert_eq!(kind("application/jsonl", 53), "application/jsonl");
        assert_eq!(kind("application/jsonl", 52), "application/json");
        assert_eq!(
            kind("application/json-seq, */*", 52),
            "application/json-seq"
        );
        assert_eq!(kind("", 55), "application/json");
    }
}
