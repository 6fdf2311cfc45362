//! What a container's log is asked to be: driver, options and what they mean, with Docker's words for what is wrong.
//!
//! ```text
//! every driver that keeps a log   mode=blocking|non-blocking   max-buffer-size (non-blocking only; 1 MiB where not said)
//! json-file, local                max-size  max-file  compress  labels  labels-regex  env  env-regex  tag
//! none                            anything: nothing is read
//! ```
//!
//! Sizes of files count in thousands, the buffer's in 1024s, as Docker's own readers of them do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Bytes of a log file before a new one is begun, where nobody says. Docker's json-file never begins one; its `local` does at 20 MB.
const MAX_SIZE: u64 = 10_000_000;
const MAX_SIZE_LOCAL: u64 = 20 << 20;
/// Files kept, where nobody says (moby `daemon/logger/local`).
const MAX_FILES: u32 = 5;
/// Bytes that wait to be written in non-blocking mode, where nobody says (moby `daemon/logger/ring.go`).
const BUFFER: u64 = 1 << 20;

/// How entries are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// `json-file`: one object a line.
    #[default]
    JsonFile,
    /// `local`: `time stream P|F text`, the log format of Kubernetes' container runtimes.
    Local,
}

impl LogFormat {
    /// The format of a driver that keeps files here.
    #[must_use]
    pub fn of(driver: &str) -> Option<Self> {
        match driver {
            "json-file" => Some(Self::JsonFile),
            "local" => Some(Self::Local),
            _ => None,
        }
    }
}

/// What a driver's options ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes after which a new file is begun.
    pub max_size: u64,
    /// Files kept, the newest among them.
    pub max_files: u32,
    /// Whether files that are no longer written to are compressed.
    pub compress: bool,
    /// Bytes that may wait to be written; `None` lets the writer wait instead.
    pub buffer: Option<u64>,
}

/// An option is unknown, or its value makes no sense. The text is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidLogOption(pub String);

impl LogOptions {
    /// Reads the options of a driver (moby `daemon/logger/factory.go`, `jsonfilelog`, `local`). Drivers that keep no files have none.
    pub fn of(driver: &str, options: &BTreeMap<String, String>) -> Result<Self, InvalidLogOption> {
        let local = match LogFormat::of(driver) {
            None => return Ok(Self::defaults(false)),
            Some(format) => format == LogFormat::Local,
        };
        let mut read = Self::defaults(local);
        read.buffer = buffer(options)?;
        for name in options.keys() {
            match name.as_str() {
                "mode" | "max-buffer-size" | "max-file" | "max-size" | "compress" | "labels"
                | "labels-regex" | "env" | "env-regex" | "tag" => {}
                _ if local => {
                    return invalid(format!("unknown log opt '{name}' for log driver local"));
                }
                _ => return invalid(format!("unknown log opt '{name}' for json-file log driver")),
            }
        }
        let named = |name: &str, text: &str, error: InvalidLogOption| match local {
            true => InvalidLogOption(format!("invalid value for {name}: {text}: {error}")),
            false => error,
        };
        if let Some(text) = options.get("max-size") {
            read.max_size = size(text, 1000).map_err(|error| named("max-size", text, error))?;
            if read.max_size == 0 {
                return invalid("max-size must be a positive number");
            }
        }
        if let Some(text) = options.get("max-file") {
            let files: i64 = text.parse().map_err(|_| {
                let error = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
                named("max-file", text, InvalidLogOption(error))
            })?;
            if files < 1 {
                return invalid("max-file cannot be less than 1");
            }
            read.max_files = u32::try_from(files).unwrap_or(u32::MAX);
        }
        match options.get("compress").map(|text| boolean(text)) {
            None => read.compress &= read.max_files > 1,
            Some(Ok(asked)) => read.compress = asked,
            Some(Err(error)) if local => {
                return invalid(format!("invalid boolean value for compress: {error}"));
            }
            Some(Err(error)) => return Err(error),
        }
        if read.compress && read.max_files < 2 {
            return invalid(match local {
                true => "compression cannot be enabled when max file count is 1",
                false => {
                    "compress cannot be true when max-file is less than 2 or max-size is not set"
                }
            });
        }
        Ok(read)
    }

    fn defaults(local: bool) -> Self {
        Self {
            max_size: if local { MAX_SIZE_LOCAL } else { MAX_SIZE },
            max_files: MAX_FILES,
            compress: true,
            buffer: None,
        }
    }
}

fn buffer(options: &BTreeMap<String, String>) -> Result<Option<u64>, InvalidLogOption> {
    let mode = options.get("mode").map(String::as_str).unwrap_or_default();
    let asked = options.get("max-buffer-size");
    match (mode, asked) {
        ("" | "blocking", None) => Ok(None),
        ("" | "blocking", Some(_)) => {
            invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        }
        ("non-blocking", None) => Ok(Some(BUFFER)),
        ("non-blocking", Some(text)) => match size(text, 1024) {
            Ok(size) => Ok(Some(size)),
            Err(error) => invalid(format!("error parsing option max-buffer-size: {error}")),
        },
        (other, _) => invalid(format!("logger: logging mode not supported: {other}")),
    }
}

fn invalid<T>(text: impl Into<String>) -> Result<T, InvalidLogOption> {
    Err(InvalidLogOption(text.into()))
}

/// A number with a unit: `10m`, `1.5GB`, `64KiB` (go-units `FromHumanSize` and `RAMInBytes`; `base` is what `k` means).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the whole number below it, or the largest there is"
)]
fn size(text: &str, base: u32) -> Result<u64, InvalidLogOption> {
    let wrong = || InvalidLogOption(format!("invalid size: '{text}'"));
    let end = text
        .rfind(|c: char| c.is_ascii_digit() || matches!(c, '.' | ' '))
        .ok_or_else(wrong)?;
    let (number, suffix) = text.split_at(end + 1);
    let number: f64 = number.trim_end().parse().map_err(|_| wrong())?;
    if number.is_nan() || number < 0.0 {
        return Err(wrong());
    }
    let unit = suffix.to_ascii_lowercase();
    let power = match unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .unwrap_or(&unit)
    {
        "" if unit == "ib" => None,
        "" => Some(0),
        "k" => Some(1),
        "m" => Some(2),
        "g" => Some(3),
        "t" => Some(4),
        "p" => Some(5),
        _ => None,
    };
    let power = power.ok_or_else(|| InvalidLogOption(format!("invalid suffix: '{suffix}'")))?;
    Ok((number * f64::from(base).powi(power)) as u64)
}

/// What Go's `strconv.ParseBool` takes.
fn boolean(text: &str) -> Result<bool, InvalidLogOption> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => invalid(format!(
            "strconv.ParseBool: parsing {text:?}: invalid syntax"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(driver: &str, options: &[(&str, &str)]) -> Result<LogOptions, String> {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        LogOptions::of(driver, &options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_are_read() {
        let plain = read("json-file", &[]).unwrap();
        assert_eq!((plain.max_size, plain.max_files), (10_000_000, 5));
        assert!(plain.compress && plain.buffer.is_none());
        let local = read("local", &[]).unwrap();
        assert_eq!((local.max_size, local.max_files), (20 << 20, 5));
        let asked = read(
            "json-file",
            &[
                ("max-size", "1.5k"),
                ("max-file", "1"),
                ("mode", "non-blocking"),
                ("max-buffer-size", "64k"),
                ("labels", "a"),
                ("tag", "x"),
            ],
        );
        let expected = LogOptions {
            max_size: 1500,
            max_files: 1,
            compress: false,
            buffer: Some(65536),
        };
        assert_eq!(asked.unwrap(), expected);
        let buffered = read("local", &[("mode", "non-blocking")]).unwrap();
        assert_eq!(buffered.buffer, Some(1 << 20));
        assert!(read("none", &[("anything", "goes")]).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said_in_dockers_words() {
        for (driver, name, value, expected) in [
            (
                "json-file",
                "nope",
                "1",
                "unknown log opt 'nope' for json-file log driver",
            ),
            (
                "local",
                "nope",
                "1",
                "unknown log opt 'nope' for log driver local",
            ),
            ("json-file", "max-size", "x", "invalid size: 'x'"),
            ("json-file", "max-size", "-1", "invalid size: '-1'"),
            (
                "json-file",
                "max-size",
                "0",
                "max-size must be a positive number",
            ),
            ("json-file", "max-size", "1xb", "invalid suffix: 'xb'"),
            (
                "local",
                "max-size",
                "x",
                "invalid value for max-size: x: invalid size: 'x'",
            ),
            (
                "json-file",
                "max-file",
                "0",
                "max-file cannot be less than 1",
            ),
            (
                "json-file",
                "max-file",
                "two",
                "strconv.Atoi: parsing \"two\": invalid syntax",
            ),
            (
                "local",
                "max-file",
                "two",
                "invalid value for max-file: two: strconv.Atoi: parsing \"two\": invalid syntax",
            ),
            (
                "json-file",
                "compress",
                "yes",
                "strconv.ParseBool: parsing \"yes\": invalid syntax",
            ),
            (
                "json-file",
                "mode",
                "fast",
                "logger: logging mode not supported: fast",
            ),
            (
                "json-file",
                "max-buffer-size",
                "1m",
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
            ),
        ] {
            assert_eq!(read(driver, &[(name, value)]).unwrap_err(), expected);
        }
        let one = [("compress", "true"), ("max-file", "1")];
        assert_eq!(
            read("json-file", &one).unwrap_err(),
            "compress cannot be true when max-file is less than 2 or max-size is not set"
        );
        assert_eq!(
            read("local", &one).unwrap_err(),
            "compression cannot be enabled when max file count is 1"
        );
        assert_eq!(
            read(
                "json-file",
                &[("mode", "non-blocking"), ("max-buffer-size", "x")]
            )
            .unwrap_err(),
            "error parsing option max-buffer-size: invalid size: 'x'"
        );
    }
}
