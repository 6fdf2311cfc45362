//! `--filter key=value` and `--since`, `--until` as the API takes them.

use std::time::{SystemTime, UNIX_EPOCH};

use hoist_model::Timestamp;
use serde_json::{Map, Value, json};

use crate::spec::duration;
use crate::{Context, Failure};

/// The `filters` parameter: keys to lists of values; nothing for no filters.
pub(crate) fn api_filters(filters: &[String]) -> Result<Option<String>, Failure> {
    let mut wanted = Map::new();
    for filter in filters {
        let (key, value) = filter.split_once('=').ok_or_else(|| {
            Failure::bad_flag(format!(
                "invalid argument {filter:?} for \"--filter\" flag: bad format of filter (expected name=value)"
            ))
        })?;
        let key = key.trim().to_ascii_lowercase();
        let values = wanted.entry(key).or_insert_with(|| json!([]));
        if let Some(values) = values.as_array_mut() {
            values.push(value.trim().into());
        }
    }
    Ok((!wanted.is_empty()).then(|| Value::Object(wanted).to_string()))
}

/// The filters of a prune and those that the configuration adds (`pruneFilters` of config.json); one that contradicts what
/// was asked for is left out.
pub(crate) fn with_configured(
    context: &Context,
    filters: &[String],
) -> Result<Vec<String>, Failure> {
    let mut all = filters.to_vec();
    for configured in context.config()?.prune_filters() {
        let contradiction = match configured.split_once('=') {
            Some(("label", value)) => format!("label!={value}"),
            Some(("label!", value)) => format!("label={value}"),
            Some((_, value)) if !value.is_empty() => String::new(),
            _ => continue,
        };
        if !filters.contains(&contradiction) {
            all.push(configured.to_owned());
        }
    }
    Ok(all)
}

/// Now.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_nanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// An instant as people write it: an RFC 3339 text (its time or zone may be left out), seconds since 1970,
/// or how long ago (`42m`); as `seconds.nanoseconds`.
pub(crate) fn since(text: &str, now: Timestamp) -> Result<String, Failure> {
    let at = if let Ok(at) = Timestamp::parse_api(text) {
        at
    } else if let Ok(ago) = duration("--since", text) {
        Timestamp::from_nanos(now.as_nanos().saturating_sub(ago))
    } else {
        let padded = match text.len() {
            10 => format!("{text}T00:00:00Z"),
            16 => format!("{text}:00Z"),
            _ => format!("{text}Z"),
        };
        padded.parse().map_err(|_| {
            Failure::new(format!(
                "failed to parse value as time or duration: {text:?}"
            ))
        })?
    };
    let nanos = at.as_nanos().rem_euclid(1_000_000_000);
    Ok(format!("{}.{nanos:09}", at.as_seconds()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_of_one_key_come_together() {
        let filters = ["label=a=b", "status=running", "Label=c"].map(str::to_owned);
        assert_eq!(
            api_filters(&filters).unwrap().unwrap(),
            r#"{"label":["a=b","c"],"status":["running"]}"#
        );
        assert_eq!(api_filters(&[]).unwrap(), None);
        assert!(api_filters(&["bare".to_owned()]).is_err());
    }

    #[test]
    fn instants_in_every_form() {
        let now = Timestamp::from_seconds(10_000);
        for (text, at) in [
            ("1m", "9940.000000000"),
            ("12.5", "12.500000000"),
            ("1970-01-01T00:00:10Z", "10.000000000"),
            ("1970-01-02", "86400.000000000"),
            ("1970-01-01T00:01", "60.000000000"),
        ] {
            assert_eq!(since(text, now).unwrap(), at, "{text}");
        }
        assert!(since("yesterday", now).is_err());
    }
}
