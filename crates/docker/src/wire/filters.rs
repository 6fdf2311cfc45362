//! `filters={"label":["a=b"]}` and the older `{"label":{"a=b":true}}` (API 1.22 and before, still sent by the CLI).

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde::Deserialize;

use crate::error::ApiError;
use crate::query::Query;

/// Parsed filters: keys, each with values of which one must hold (labels: all).
#[derive(Clone, Debug, Default)]
pub(crate) struct Filters {
    values: BTreeMap<String, Vec<String>>,
    /// Of each value that is an expression, the expression: made once, however many objects are looked at.
    patterns: BTreeMap<String, Regex>,
}

/// Keys whose values are expressions.
const PATTERNS: [&str; 2] = ["name", "id"];

#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
}

impl Filters {
    /// Reads the parameter `filters` and refuses keys not in `known`.
    pub(crate) fn from_query(query: &Query, known: &[&str]) -> Result<Self, ApiError> {
        let Some(text) = query.nonempty("filters") else {
            return Ok(Self::default());
        };
        let raw: BTreeMap<String, Values> = serde_json::from_str(text)
            .map_err(|error| ApiError::invalid(format!("invalid filters {text:?}: {error}")))?;
        let mut filters = BTreeMap::new();
        for (key, values) in raw {
            if !known.contains(&key.as_str()) {
                return Err(ApiError::invalid(format!("invalid filter '{key}'")));
            }
            let values = match values {
                Values::List(values) => values,
                Values::Set(set) => set
                    .into_iter()
                    .filter_map(|(value, on)| on.then_some(value))
                    .collect(),
            };
            filters.insert(key, values);
        }
        let patterns = PATTERNS
            .iter()
            .filter_map(|key| filters.get(*key))
            .flatten()
            .filter_map(|value: &String| Some((value.clone(), Regex::new(value).ok()?)))
            .collect();
        Ok(Self {
            values: filters,
            patterns,
        })
    }

    /// The values of a key; empty if it is not filtered by.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key is filtered by.
    pub(crate) fn has(&self, key: &str) -> bool {
        !self.values(key).is_empty()
    }

    /// Whether one of the key's values holds, or none is given.
    pub(crate) fn any(&self, key: &str, holds: impl FnMut(&String) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(holds)
    }

    /// Whether one of the values equals `text`, or none is given.
    pub(crate) fn exact(&self, key: &str, text: &str) -> bool {
        self.any(key, |value| value == text)
    }

    /// Whether one of the values, as an unanchored expression, matches one of `texts`; or none is given.
    pub(crate) fn matches(&self, key: &str, texts: &[&str]) -> bool {
        self.any(key, |value| {
            texts.contains(&value.as_str())
                || self
                    .patterns
                    .get(value)
                    .is_some_and(|pattern| texts.iter().any(|text| pattern.is_match(text)))
        })
    }

    /// Whether all label filters (`key` or `key=value`) hold and none of `label!` does.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let holds = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(holds) && !self.values("label!").iter().any(holds)
    }

    /// A yes or no filter, `dangling=true`.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let mut answer = None;
        for value in self.values(key) {
            let this = match value.as_str() {
                "1" | "true" | "True" | "TRUE" | "t" => true,
                "0" | "false" | "False" | "FALSE" | "f" => false,
                _ => {
                    return Err(ApiError::invalid(format!("invalid filter '{key}={value}'")));
                }
            };
            if answer.is_some_and(|other| other != this) {
                return Err(ApiError::invalid(format!(
                    "invalid filter '{key}={:?}'",
                    self.values(key)
                )));
            }
            answer = Some(this);
        }
        Ok(answer)
    }

    /// Refuses values that are not in the list.
    pub(crate) fn check(&self, key: &str, known: &[&str]) -> Result<(), ApiError> {
        match self
            .values(key)
            .iter()
            .find(|value| !known.contains(&value.as_str()))
        {
            Some(value) => Err(ApiError::invalid(format!("invalid filter '{key}={value}'"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn filters(json: &str) -> Filters {
        let text = format!(
            "filters={}",
            form_urlencoded::byte_serialize(json.as_bytes()).collect::<String>()
        );
        Filters::from_query(
            &Query::parse(Some(&text)),
            &["label", "label!", "name", "dangling"],
        )
        .unwrap()
    }

    #[test]
    fn both_forms_are_read() {
        for json in [
            r#"{"name":["a","b"]}"#,
            r#"{"name":{"a":true,"b":true,"c":false}}"#,
        ] {
            assert_eq!(filters(json).values("name"), ["a", "b"]);
        }
    }

    #[test]
    fn names_are_unanchored_expressions_or_literal() {
        assert!(filters(r#"{"name":["eb"]}"#).matches("name", &["web"]));
        assert!(filters(r#"{"name":["^/web$"]}"#).matches("name", &["/web", "web"]));
        assert!(!filters(r#"{"name":["^eb"]}"#).matches("name", &["web"]));
        assert!(filters(r#"{"name":["a("]}"#).matches("name", &["a("]));
        assert!(filters("{}").matches("name", &["any"]));
    }

    #[test]
    fn all_labels_must_hold() {
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert!(filters(r#"{"label":["a","a=1"]}"#).labels(&labels));
        assert!(!filters(r#"{"label":["a","b"]}"#).labels(&labels));
        assert!(!filters(r#"{"label!":["a"]}"#).labels(&labels));
        assert!(!filters(r#"{"label":["a=2"]}"#).labels(&labels));
    }

    #[test]
    fn what_is_unknown_is_refused() {
        let read = |text: &str| {
            Filters::from_query(&Query::parse(Some(text)), &["name"])
                .unwrap_err()
                .message
        };
        assert_eq!(
            read("filters=%7B%22x%22%3A%5B%22y%22%5D%7D"),
            "invalid filter 'x'"
        );
        assert!(read("filters=nope").starts_with("invalid filters \"nope\": "));
        assert_eq!(
            filters(r#"{"dangling":["x"]}"#)
                .boolean("dangling")
                .unwrap_err()
                .message,
            "invalid filter 'dangling=x'"
        );
    }
}
