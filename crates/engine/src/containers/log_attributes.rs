//! What goes with every line of a container's log: labels, variables and a tag, as the log options name them.
//!
//! ```text
//! labels=a,b   labels-regex=^app   env=X,Y   env-regex=^APP_   tag={{.Name}}/{{.ID}}
//! ```
//!
//! A tag is text with the fields of Docker's templates; of their language nothing more (moby `daemon/logger/loginfo.go`).

use std::collections::BTreeMap;

use hoist_model::container::{InvalidLogOption, LogConfig, LogFormat, LogOptions};
use regex_lite::Regex;

use crate::records::ContainerRecord;

/// Refuses options that are unknown or make no sense, in Docker's words.
pub fn check_log_options(log: &LogConfig) -> Result<(), InvalidLogOption> {
    LogOptions::of(&log.driver, &log.options)?;
    if LogFormat::of(&log.driver).is_none() {
        return Ok(());
    }
    pattern(log, "labels-regex")?;
    pattern(log, "env-regex")?;
    for piece in pieces(option(log, "tag")) {
        if let Piece::Field(name) = piece?
            && !FIELDS.contains(&name)
        {
            return Err(InvalidLogOption(format!(
                "error parsing tag: can't evaluate field {name}"
            )));
        }
    }
    Ok(())
}

/// Names and values; none where nothing was asked for. Options are those that [`check_log_options`] let pass.
#[must_use]
pub fn log_attributes(record: &ContainerRecord) -> BTreeMap<String, String> {
    let log = &record.spec.log;
    let labels = &record.spec.labels;
    let variables: BTreeMap<&str, &str> = record
        .spec
        .process
        .environment
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let mut attributes = BTreeMap::new();
    let mut take = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    };
    for name in option(log, "labels").split(',') {
        take(name, labels.get(name).map(String::as_str));
    }
    if let Ok(Some(pattern)) = pattern(log, "labels-regex") {
        for (name, value) in labels.iter().filter(|(name, _)| pattern.is_match(name)) {
            take(name, Some(value));
        }
    }
    for name in option(log, "env").split(',') {
        take(name, variables.get(name).copied());
    }
    if let Ok(Some(pattern)) = pattern(log, "env-regex") {
        for (name, value) in variables.iter().filter(|(name, _)| pattern.is_match(name)) {
            take(name, Some(value));
        }
    }
    let tag: String = pieces(option(log, "tag"))
        .filter_map(Result::ok)
        .map(|piece| match piece {
            Piece::Text(text) => text.to_owned(),
            Piece::Field(name) => field(record, name),
        })
        .collect();
    if !tag.is_empty() {
        attributes.insert("tag".to_owned(), tag);
    }
    attributes
}

fn option<'a>(log: &'a LogConfig, name: &str) -> &'a str {
    log.options.get(name).map_or("", String::as_str)
}

fn pattern(log: &LogConfig, name: &str) -> Result<Option<Regex>, InvalidLogOption> {
    match option(log, name) {
        "" => Ok(None),
        text => Regex::new(text).map(Some).map_err(|error| {
            InvalidLogOption(format!("error parsing regexp in {name}={text}: {error}"))
        }),
    }
}

const FIELDS: [&str; 9] = [
    "ID",
    "FullID",
    "Name",
    "ImageID",
    "ImageFullID",
    "ImageName",
    "DaemonName",
    "Command",
    "Hostname",
];

fn field(record: &ContainerRecord, name: &str) -> String {
    let spec = &record.spec;
    let image = spec.image_id.as_ref().map(ToString::to_string);
    let image = image.unwrap_or_default();
    match name {
        "ID" => record.id.as_str().chars().take(12).collect(),
        "FullID" => record.id.as_str().to_owned(),
        "Name" => record.name.clone(),
        "ImageID" => {
            let hex = image.split_once(':').map_or(&*image, |(_, hex)| hex);
            hex.chars().take(12).collect()
        }
        "ImageFullID" => image,
        "ImageName" => spec.image.clone(),
        "DaemonName" => "docker".to_owned(),
        "Command" => spec.process.arguments().join(" "),
        "Hostname" => rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        _ => String::new(),
    }
}

enum Piece<'a> {
    Text(&'a str),
    Field(&'a str),
}

fn pieces(template: &str) -> impl Iterator<Item = Result<Piece<'_>, InvalidLogOption>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(inside) = rest.strip_prefix("{{") else {
            let (text, later) = rest.split_at(rest.find("{{").unwrap_or(rest.len()));
            rest = later;
            return Some(Ok(Piece::Text(text)));
        };
        let field = inside.split_once("}}").and_then(|(field, later)| {
            rest = later;
            field.trim().strip_prefix('.')
        });
        match field {
            Some(field) if field.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                Some(Ok(Piece::Field(field)))
            }
            _ => {
                rest = "";
                Some(Err(InvalidLogOption(format!(
                    "error parsing tag {template:?}: only fields such as {{{{.Name}}}} and {{{{.ID}}}} are known here"
                ))))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::testing::record;

    fn with(options: &[(&str, &str)]) -> ContainerRecord {
        let mut record = record();
        record.name = "web".into();
        record.spec.labels = [("app", "shop"), ("app.tier", "front"), ("other", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        record.spec.process.environment = vec!["APP_ENV=test".into(), "PATH=/bin".into()];
        record.spec.log.options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        record
    }

    fn check(options: &[(&str, &str)], expected: &str) {
        let record = with(options);
        check_log_options(&record.spec.log).unwrap();
        let found: Vec<String> = log_attributes(&record)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn what_is_named_goes_with_the_log() {
        check(&[], "");
        check(
            &[("labels", "app,none"), ("env", "APP_ENV")],
            "APP_ENV=test app=shop",
        );
        check(&[("labels-regex", "^app")], "app=shop app.tier=front");
        check(&[("env-regex", "^A")], "APP_ENV=test");
        check(
            &[("tag", "{{.Name}}/{{ .DaemonName }}!")],
            "tag=web/docker!",
        );
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (name, value, expected) in [
            ("labels-regex", "(", "labels-regex=("),
            ("env-regex", "[", "env-regex=["),
            ("tag", "{{.Nope}}", "can't evaluate field Nope"),
            ("tag", "{{json .}}", "error parsing tag \"{{json .}}\""),
            ("tag", "{{.Name", "error parsing tag \"{{.Name\""),
            ("nope", "1", "unknown log opt 'nope'"),
        ] {
            let record = with(&[(name, value)]);
            let error = check_log_options(&record.spec.log).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
