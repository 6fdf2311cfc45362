//! `until` of the prune filters: an instant, or how long ago (moby `api/types/time`, `GetTimestamp`).

use hoist_model::Timestamp;
use hoist_model::quantity::duration;

use super::filters::Filters;
use crate::error::ApiError;

/// The instant before which a thing must have been made; `None` where nothing is said.
pub(crate) fn until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    match filters.values("until") {
        [] => Ok(None),
        [text] => instant(text, now).map(Some).ok_or_else(|| {
            ApiError::invalid(format!(
                "failed to parse value as time or duration: {text:?}"
            ))
        }),
        _ => Err(ApiError::invalid("more than one until filter specified")),
    }
}

/// RFC 3339, in full or cut short (then in UTC); seconds since 1970; or a Go duration before now.
fn instant(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Some(ago) = duration(text) {
        return Some(Timestamp::from_nanos(now.as_nanos().saturating_sub(ago)));
    }
    let dashes = text.bytes().filter(|byte| *byte == b'-').count();
    if dashes < 2 {
        return Timestamp::parse_api(text).ok();
    }
    let zoned = text.ends_with('Z')
        || text
            .split_once('T')
            .is_some_and(|(_, clock)| clock.contains(['+', '-']));
    let full = match (text.len(), zoned) {
        (_, true) => text.to_owned(),
        (10, _) => format!("{text}T00:00:00Z"),
        (13, _) => format!("{text}:00:00Z"),
        (16, _) => format!("{text}:00Z"),
        _ => format!("{text}Z"),
    };
    full.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_and_durations() {
        let now = Timestamp::from_seconds(1_732_400_000);
        let seconds = |text: &str| instant(text, now).map(Timestamp::as_seconds);
        for (text, expected) in [
            ("10m", Some(1_732_399_400)),
            ("1h30m", Some(1_732_394_600)),
            ("1.5h", Some(1_732_394_600)),
            ("-10s", Some(1_732_400_010)),
            ("0", Some(1_732_400_000)),
            ("0s", Some(1_732_400_000)),
            ("1732300000", Some(1_732_300_000)),
            ("1732300000.5", Some(1_732_300_000)),
            ("2024-11-23", Some(1_732_320_000)),
            ("2024-11-23T12", Some(1_732_363_200)),
            ("2024-11-23T12:30", Some(1_732_365_000)),
            ("2024-11-23T12:30:01", Some(1_732_365_001)),
            ("2024-11-23T12:30:01+01:00", Some(1_732_361_401)),
            ("", None),
            ("10 m", None),
            ("10x", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds(text), expected, "{text:?}");
        }
    }
}
