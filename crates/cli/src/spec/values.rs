//! Small values of flags: bytes, durations, key=value lists, ulimits, files of lines.

use serde_json::{Map, Value, json};

use super::{InvalidFlag, invalid};

/// A number of bytes (`64m`, `1.5g`, `1024`), or -1 for no limit.
pub fn bytes(flag: &str, text: &str) -> Result<i64, InvalidFlag> {
    let size = match text.trim() {
        "-1" => Some(-1),
        size => hoist_model::quantity::bytes(size),
    };
    size.ok_or_else(|| invalid(flag, text, format!("invalid size: '{text}'")))
}

/// Billionths of a processor: `.5`, `2`, `1.25`.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, InvalidFlag> {
    let wrong = || {
        let detail = format!("failed to parse {text} as a rational number");
        invalid("--cpus", text, detail)
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 {
        return Err(wrong());
    }
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let whole: i64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| wrong())?
    };
    let fraction: i64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
    whole
        .checked_mul(1_000_000_000)
        .and_then(|n| n.checked_add(fraction))
        .ok_or_else(wrong)
}

/// Nanoseconds of a Go duration: `1m30s`, `500ms`, `1.5h`.
pub(crate) fn duration(flag: &str, text: &str) -> Result<i64, InvalidFlag> {
    hoist_model::quantity::duration(text)
        .filter(|nanoseconds| *nanoseconds >= 0)
        .ok_or_else(|| invalid(flag, text, format!("time: invalid duration {text:?}")))
}

/// `a=b` items as an object; an item without `=` gets an empty value.
pub(crate) fn key_values(items: impl IntoIterator<Item = impl AsRef<str>>) -> Map<String, Value> {
    items
        .into_iter()
        .map(|item| {
            let (key, value) = item.as_ref().split_once('=').unwrap_or((item.as_ref(), ""));
            (key.to_owned(), value.into())
        })
        .collect()
}

/// `a=b` items that must have a `=`.
pub(super) fn strict_key_values(
    flag: &str,
    items: &[String],
) -> Result<Map<String, Value>, InvalidFlag> {
    match (flag, items.iter().find(|item| !item.contains('='))) {
        (_, None) => Ok(key_values(items)),
        ("--storage-opt", Some(_)) => Err(InvalidFlag::Said("invalid storage option".to_owned())),
        (_, Some(bad)) => Err(no_sysctl(bad)),
    }
}

fn no_sysctl(text: &str) -> InvalidFlag {
    invalid("--sysctl", text, format!("sysctl '{text}' is not allowed"))
}

/// Kernel parameters that a container may have of its own (docker/cli:opts, `ValidateSysctl`).
pub(super) fn sysctls(items: &[String]) -> Result<Map<String, Value>, InvalidFlag> {
    const ALONE: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for item in items {
        let name = item.split('=').next().unwrap_or_default();
        let prefixed = ["net.", "fs.mqueue."].iter().any(|p| name.starts_with(p));
        if !prefixed && !ALONE.contains(&name) {
            return Err(no_sysctl(item));
        }
    }
    strict_key_values("--sysctl", items)
}

/// The lines of an `--env-file` or `--label-file`: comments and blank lines dropped, leading blanks too.
pub(crate) fn lines_of(flag: &str, path: &str, content: &[u8]) -> Result<Vec<String>, InvalidFlag> {
    let text =
        std::str::from_utf8(content).map_err(|_| invalid(flag, path, "the file is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split('=').next().unwrap_or("");
        if key.is_empty() {
            let detail = format!("line {}: no variable name in {line:?}", number + 1);
            return Err(invalid(flag, path, detail));
        }
        if key.contains(char::is_whitespace) {
            let detail = format!("line {}: variable {key:?} contains whitespaces", number + 1);
            return Err(invalid(flag, path, detail));
        }
        lines.push(line.to_owned());
    }
    Ok(lines)
}

/// The limits that Docker knows (docker/go-units:ulimit.go).
const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `name=soft[:hard]`.
pub(crate) fn ulimit(text: &str) -> Result<Value, InvalidFlag> {
    let wrong = || invalid("--ulimit", text, format!("invalid ulimit argument: {text}"));
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    if !ULIMITS.contains(&name) {
        return Err(invalid(
            "--ulimit",
            text,
            format!("invalid ulimit type: {name}"),
        ));
    }
    let number = |s: &str| s.parse::<i64>().map_err(|_| wrong());
    let (soft, hard) = match limits.split_once(':') {
        Some((soft, hard)) => (number(soft)?, number(hard)?),
        None => (number(limits)?, number(limits)?),
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(invalid(
            "--ulimit",
            text,
            format!("the soft limit {soft} is above the hard limit {hard}"),
        ));
    }
    Ok(json!({"Name": name, "Soft": soft, "Hard": hard}))
}

/// `--add-host`, as the API wants it: `name:address`. Either separator is accepted.
pub(crate) fn extra_hosts(entries: &[String]) -> Result<Vec<String>, InvalidFlag> {
    let mut hosts = Vec::new();
    for entry in entries {
        if !entry.contains([':', '=']) {
            let detail = format!("bad format for add-host: {entry:?}");
            return Err(invalid("--add-host", entry, detail));
        }
        hosts.push(match entry.split_once('=') {
            Some((name, address)) => {
                format!(
                    "{name}:{}",
                    address.trim_start_matches('[').trim_end_matches(']')
                )
            }
            None => entry.clone(),
        });
    }
    Ok(hosts)
}

/// A failure of the system as Go says it: without the number.
pub(crate) fn go_error(error: &std::io::Error) -> String {
    hoist_model::in_words(&error.to_string())
}

/// Whether a text is a hardware address of 6, 8 or 20 bytes (Go's `net.ParseMAC`).
pub(super) fn is_mac_address(text: &str) -> bool {
    let separator = if text.contains(':') {
        ':'
    } else if text.contains('-') {
        '-'
    } else {
        '.'
    };
    let width = if separator == '.' { 4 } else { 2 };
    let groups: Vec<_> = text.split(separator).collect();
    let hexadecimal =
        |group: &&str| group.len() == width && group.bytes().all(|byte| byte.is_ascii_hexdigit());
    groups.iter().all(hexadecimal) && [6, 8, 20].contains(&(groups.len() * width / 2))
}

/// `NAME[:COUNT]`; which names there are, the engine knows.
pub(crate) fn restart_policy(text: &str) -> Result<Value, InvalidFlag> {
    let (name, count) = text.split_once(':').unwrap_or((text, "0"));
    if name.is_empty() && !text.is_empty() {
        return Err(InvalidFlag::Said(
            "invalid restart policy format: no policy provided before colon".to_owned(),
        ));
    }
    let count: i64 = count.parse().map_err(|_| {
        InvalidFlag::Said(
            "invalid restart policy format: maximum retry count must be an integer".to_owned(),
        )
    })?;
    Ok(json!({"Name": name, "MaximumRetryCount": count}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_powers_of_1024() {
        for (text, value) in [
            ("64m", 64 << 20),
            ("1.5g", 3 << 29),
            ("1024", 1024),
            ("2GiB", 2 << 30),
            ("8kb", 8192),
            ("-1", -1),
        ] {
            assert_eq!(bytes("-m", text), Ok(value), "{text}");
        }
        for text in ["", "m", "12x", "-5", "1e30", "99999999999t"] {
            assert!(bytes("-m", text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_and_processors() {
        assert_eq!(duration("x", "1m30s"), Ok(90_000_000_000));
        assert_eq!(duration("x", "1.5s"), Ok(1_500_000_000));
        assert!(duration("x", "5").is_err() && duration("x", "").is_err());
        assert_eq!(nano_cpus(".5"), Ok(500_000_000));
        assert_eq!(nano_cpus("2"), Ok(2_000_000_000));
        for text in ["", ".", "-1", "1.2.3", "x", "1.0000000001"] {
            assert!(nano_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn files_of_lines() {
        let file = b"# comment\n\nA=1\n  B=2 \nC\n";
        assert_eq!(
            lines_of("--env-file", "f", file).unwrap(),
            ["A=1", "B=2 ", "C"]
        );
        let error = lines_of("--env-file", "f", b"A=1\nMY VAR=2").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        assert!(lines_of("--env-file", "f", b"=x").is_err());
        assert!(lines_of("--env-file", "f", b"\xff").is_err());
    }

    #[test]
    fn limits_and_policies() {
        assert_eq!(
            ulimit("nofile=10:20").unwrap(),
            json!({"Name": "nofile", "Soft": 10, "Hard": 20})
        );
        assert!(ulimit("nofile=30:20").is_err() && ulimit("nofile").is_err());
        assert_eq!(
            restart_policy("on-failure:3").unwrap(),
            json!({"Name": "on-failure", "MaximumRetryCount": 3})
        );
        assert!(restart_policy("on-failure:x").is_err() && restart_policy(":3").is_err());
    }
}
