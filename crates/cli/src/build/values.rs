//! Values of a build's flags: secrets, arguments, comma-separated fields.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::Failure;
use crate::spec::fields;
use crate::spec::values::go_error;

/// The moment that nothing of an image is younger than (reproducible-builds.org).
const EPOCH: &str = "SOURCE_DATE_EPOCH";
/// The largest secret that BuildKit takes, in bytes.
const SECRET_LIMIT: usize = 500 << 10;

/// `--secret id=NAME[,src=PATH][,env=VARIABLE][,type=file|env]`: values in base64, by id.
pub(super) fn secrets(flags: &[String]) -> Result<Map<String, Value>, Failure> {
    let mut secrets = Map::new();
    for flag in flags {
        let wrong = |detail: String| Failure::new(format!("invalid secret {flag:?}: {detail}"));
        let (mut id, mut kind, mut source, mut variable) = (None, None, None, None);
        for (name, value) in named(flag)? {
            match name.as_str() {
                "id" => id = Some(value),
                "type" if matches!(value.as_str(), "file" | "env") => kind = Some(value),
                "type" => return Err(wrong(format!("unsupported secret type {value:?}"))),
                "source" | "src" => source = Some(value),
                "env" => variable = Some(value),
                _ => return Err(wrong(format!("unexpected key {name:?}"))),
            }
        }
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            return Err(wrong("it has no id".to_owned()));
        };
        // BuildKit's order: what is said, else a variable of that name, else a file of that name.
        let of_variable = match (kind.as_deref(), &variable, &source) {
            (Some("env"), None, Some(source)) => Some(source.clone()),
            (Some("env"), None, None) => Some(id.clone()),
            (_, Some(variable), _) => Some(variable.clone()),
            (None, None, None) if std::env::var_os(&id).is_some() => Some(id.clone()),
            _ => None,
        };
        let bytes = match of_variable {
            Some(name) => {
                use std::os::unix::ffi::OsStringExt as _;
                let value = std::env::var_os(&name);
                let value = value.ok_or_else(|| wrong(format!("no variable {name:?}")))?;
                value.into_vec()
            }
            None => {
                let path = source.unwrap_or_else(|| id.clone());
                std::fs::read(&path)
                    .map_err(|error| wrong(format!("open {path}: {}", go_error(&error))))?
            }
        };
        if bytes.len() > SECRET_LIMIT {
            return Err(wrong(format!(
                "it is larger than {SECRET_LIMIT} bytes: mount it from a context instead"
            )));
        }
        secrets.insert(id, STANDARD.encode(bytes).into());
    }
    Ok(secrets)
}

/// `--cache-from`, `--cache-to`: `type=…,name=value`; a name alone is an image's.
pub(super) fn caches(flags: &[String]) -> Result<Vec<Value>, Failure> {
    let read = flags.iter().map(|flag| {
        if !flag.contains('=') {
            return Ok(json!({"Type": "registry", "Attributes": {"ref": flag}}));
        }
        let mut fields = named(flag)?;
        let kind = fields.iter().position(|(name, _)| name == "type");
        let kind = kind.map(|at| fields.remove(at).1);
        let kind =
            kind.ok_or_else(|| Failure::new(format!("invalid cache {flag:?}: it has no type")))?;
        let attributes: Map<_, _> = fields
            .into_iter()
            .map(|(name, value)| (name, value.into()))
            .collect();
        Ok(json!({"Type": kind, "Attributes": attributes}))
    });
    read.collect()
}

/// `name=value,name=value`, quoted as CSV is; a name alone has an empty value.
pub(super) fn named(flag: &str) -> Result<Vec<(String, String)>, Failure> {
    let fields = fields(flag);
    let pairs = fields.into_iter().map(|field| match field.split_once('=') {
        Some((name, value)) => (name.trim().to_ascii_lowercase(), value.to_owned()),
        None => (field.trim().to_ascii_lowercase(), String::new()),
    });
    Ok(pairs.collect())
}

/// `--build-arg NAME=value`; one without a value takes the client's variable, if it has it.
pub(super) fn arguments(flags: &[String]) -> Map<String, Value> {
    let mut arguments = Map::new();
    for flag in flags {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag.as_str(), std::env::var(flag).ok()),
        };
        arguments.insert(name.to_owned(), value.map_or(Value::Null, Value::from));
    }
    // As buildx: who builds reproducibly says so by this variable.
    if let Ok(epoch) = std::env::var(EPOCH)
        && !arguments.contains_key(EPOCH)
    {
        arguments.insert(EPOCH.to_owned(), epoch.into());
    }
    arguments
}

/// `--label name=value`.
pub(super) fn labels(flags: &[String]) -> Map<String, Value> {
    let labels: BTreeMap<_, _> = flags
        .iter()
        .map(|flag| flag.split_once('=').unwrap_or((flag, "")))
        .collect();
    let labels = labels.into_iter();
    labels
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_files_or_variables() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "s3cret").unwrap();
        let read = |text: String| secrets(&[text]).map_err(|failure| failure.message);
        let found = read(format!("id=a,src={}", path.display())).unwrap();
        assert_eq!(found["a"], STANDARD.encode("s3cret"));
        let found = read("id=b,env=PATH".to_owned()).unwrap();
        assert!(found["b"].as_str().is_some_and(|text| !text.is_empty()));
        assert_eq!(read("id=PATH".to_owned()).unwrap()["PATH"], found["b"]);
        for (text, said) in [
            ("src=x", "it has no id"),
            ("id=x,kind=y", "unexpected key \"kind\""),
            ("id=x,type=y", "unsupported secret type \"y\""),
            ("id=x,env=NO_SUCH_VARIABLE_HERE", "no variable"),
            ("id=x,src=/nowhere/x", "open /nowhere/x: no such file"),
        ] {
            let message = read(text.to_owned()).unwrap_err();
            assert!(
                message.contains(said) && message.contains(text),
                "{message}"
            );
        }
    }

    #[test]
    fn an_argument_without_a_value_is_the_clients() {
        let given = ["A=1=2", "PATH", "NO_SUCH_VARIABLE_HERE"].map(str::to_owned);
        let found = arguments(&given);
        assert_eq!(found["A"], "1=2");
        assert!(found["PATH"].is_string());
        assert!(found["NO_SUCH_VARIABLE_HERE"].is_null());
    }
}
