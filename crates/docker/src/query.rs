//! Query strings, read by Docker's rules (moby `daemon/server/httputils/form.go`).

use crate::error::ApiError;

/// The parameters behind the `?`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        Self(
            form_urlencoded::parse(text.unwrap_or_default().as_bytes())
                .into_owned()
                .collect(),
        )
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The first value of a parameter unless it is empty.
    pub(crate) fn nonempty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// True for anything but nothing, `0`, `no`, `false` and `none`.
    pub(crate) fn boolean(&self, name: &str) -> bool {
        self.boolean_or(name, false)
    }

    /// As [`Query::boolean`], with a value for when the parameter is absent.
    pub(crate) fn boolean_or(&self, name: &str, absent: bool) -> bool {
        self.get(name).map_or(absent, |value| {
            !matches!(
                value.trim().to_ascii_lowercase().as_str(),
                "" | "0" | "no" | "false" | "none"
            )
        })
    }

    /// A number; absent or empty is `None`.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, ApiError> {
        self.nonempty(name)
            .map(|value| {
                value.parse().map_err(|_| {
                    ApiError::invalid(format!("invalid value {value:?} for parameter {name}"))
                })
            })
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_dockers() {
        let query = Query::parse(Some("a=1&b=0&c=False&d=&e=yes&f&g=None"));
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        assert_eq!(
            names.map(|name| query.boolean(name)),
            [true, false, false, false, true, false, false, false]
        );
        assert!(query.boolean_or("h", true));
        assert!(!query.boolean_or("b", true));
    }

    #[test]
    fn a_number_that_is_none_is_refused_by_name() {
        let query = Query::parse(Some("t=x&u=5&v="));
        assert_eq!(query.number("u").unwrap(), Some(5));
        assert_eq!(query.number("v").unwrap(), None);
        assert!(
            query
                .number("t")
                .unwrap_err()
                .message
                .contains("parameter t")
        );
    }
}
