//! What is said both by a flag and in daemon.json: dockerd refuses it, whichever the values are, and so do we. Neither wins, since
//! whoever wrote one of them does not see the other.

use anyhow::bail;
use serde_json::{Map, Value};

use crate::daemon::arguments::Given;

/// Flags that may be given more than once, and what their keys are called (moby `cmd/dockerd/config.go`, `opts.NamedOption`).
const NAMED: &[(&str, &str)] = &[
    ("add-runtime", "runtimes"),
    ("cdi-spec-dir", "cdi-spec-dirs"),
    ("default-address-pool", "default-address-pools"),
    ("default-network-opt", "default-network-opts"),
    ("default-ulimit", "default-ulimits"),
    ("exec-opt", "exec-opts"),
    ("feature", "features"),
    ("host", "hosts"),
    ("host-gateway-ip", "host-gateway-ips"),
    ("insecure-registry", "insecure-registries"),
    ("label", "labels"),
    ("log-opt", "log-opts"),
    ("node-generic-resource", "node-generic-resources"),
    ("registry-host-override", "registry-host-overrides"),
    ("registry-mirror", "registry-mirrors"),
    ("storage-opt", "storage-opts"),
];
/// Those that add to each other.
const MERGED: &[&str] = &["runtimes"];
/// Lists of pairs, which Go shows as maps.
const PAIRS: &[&str] = &["log-opts", "registry-host-overrides"];
/// Objects in the file of which each key is an option.
const GROUPS: &[&str] = &["proxies"];
/// Addresses that may have a password in them.
const SECRET: &[&str] = &["http-proxy", "https-proxy"];

/// Refuses what is in both, in dockerd's words (moby `daemon/config/config.go`, `findConfigurationConflicts`).
pub(super) fn check(given: &[Given], file: &Map<String, Value>) -> anyhow::Result<()> {
    let grouped = GROUPS
        .iter()
        .filter_map(|group| file.get(*group)?.as_object());
    let all: Vec<&Map<String, Value>> = std::iter::once(file).chain(grouped).collect();
    let conflicts: Vec<String> = given
        .iter()
        .filter_map(|flag| {
            let named = NAMED.iter().find(|(name, _)| *name == flag.flag);
            let key = named.map_or(flag.flag.as_str(), |(_, key)| key);
            let value = all.iter().find_map(|keys| keys.get(key))?;
            let is_merged = MERGED.contains(&key);
            let (flag, value) = (shown(key, flag), in_go(value));
            let (flag, value) = if SECRET.contains(&key) {
                (masked(&flag), masked(&value))
            } else {
                (flag, value)
            };
            (!is_merged).then(|| format!("{key}: (from flag: {flag}, from file: {value})"))
        })
        .collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    bail!(
        "the following directives are specified both as a flag and in the configuration file: {}",
        conflicts.join(", ")
    )
}

fn shown(key: &str, flag: &Given) -> String {
    if PAIRS.contains(&key) {
        let pairs = flag.values.iter().filter_map(|pair| pair.split_once('='));
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.into()));
        return in_go(&Value::Object(pairs.collect()));
    }
    if flag.is_list {
        return format!("[{}]", flag.values.join(" "));
    }
    flag.values.join(" ")
}

/// As Go's `%v` has it.
fn in_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(in_go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(pairs) => {
            let mut pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{key}:{}", in_go(value)))
                .collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// Without the name and the password in it.
fn masked(address: &str) -> String {
    match address.split_once("://").and_then(|(scheme, rest)| {
        let (_, host) = rest.rsplit_once('@')?;
        Some((scheme, host))
    }) {
        Some((scheme, host)) => format!("{scheme}://xxxxx:xxxxx@{host}"),
        None => address.to_owned(),
    }
}
