//! Single values, checked: errors name the flag or key and what was given.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use hoist_cgroup::CgroupDriver;
use hoist_docker::ApiVersion;
use hoist_image::SnapshotterChoice;
use hoist_model::container::LogConfig;

pub(super) fn absolute(name: &str, path: PathBuf) -> anyhow::Result<PathBuf> {
    if path.is_absolute() {
        Ok(path)
    } else {
        bail!(
            "invalid {name} {}: the path must be absolute",
            path.display()
        )
    }
}

/// The one option of execution there is (dockerd(8), "native.cgroupdriver").
pub(super) fn cgroup_driver(options: &[String]) -> anyhow::Result<CgroupDriver> {
    let mut driver = CgroupDriver::Cgroupfs;
    for option in options {
        driver = match option.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs")) => CgroupDriver::Cgroupfs,
            Some(("native.cgroupdriver", "systemd")) => CgroupDriver::Systemd,
            _ => bail!(
                "invalid exec-opt {option:?}: expected native.cgroupdriver=cgroupfs or native.cgroupdriver=systemd"
            ),
        };
    }
    Ok(driver)
}

pub(super) fn log_level(level: Option<String>) -> anyhow::Result<String> {
    match level.as_deref() {
        None => Ok("info".to_owned()),
        Some(known @ ("debug" | "info" | "warn" | "error")) => Ok(known.to_owned()),
        Some("fatal") => Ok("error".to_owned()),
        Some(other) => bail!("invalid logging level: {other}"),
    }
}

/// Options of flags win over those of the file, one by one.
pub(super) fn log(
    driver: Option<String>,
    flags: &[String],
    mut options: BTreeMap<String, String>,
) -> anyhow::Result<LogConfig> {
    for flag in flags {
        let (name, value) = flag
            .split_once('=')
            .with_context(|| format!("invalid log-opt {flag:?}: expected name=value"))?;
        options.insert(name.to_owned(), value.to_owned());
    }
    let driver = driver.unwrap_or_else(|| LogConfig::default().driver);
    if !matches!(driver.as_str(), "json-file" | "local" | "none") {
        bail!("invalid log-driver {driver:?}: known are json-file, local and none");
    }
    let log = LogConfig { driver, options };
    hoist_engine::containers::check_log_options(&log).context("failed to set log opts")?;
    Ok(log)
}

pub(super) fn storage(driver: Option<String>) -> anyhow::Result<SnapshotterChoice> {
    match driver.as_deref() {
        None | Some("") => Ok(SnapshotterChoice::Auto),
        Some("erofs") => Ok(SnapshotterChoice::Erofs),
        Some("directory" | "overlay2" | "overlayfs" | "overlay") => {
            Ok(SnapshotterChoice::Directory)
        }
        Some(other) => {
            bail!("unknown storage driver {other:?}: known are erofs and directory (overlay2)")
        }
    }
}

/// Options of Docker's storage drivers. The one without an effect there is taken; the others promise what this engine does
/// not keep: limits on the size of containers.
pub(super) fn storage_opts(options: &[String]) -> anyhow::Result<()> {
    for option in options {
        match option.split_once('=') {
            Some(("overlay2.override_kernel_check", _)) => {}
            Some(("overlay2.size", _)) => {
                bail!("storage-opt {option:?}: limits on the size of containers are not supported")
            }
            _ => bail!("storage-opt {option:?}: unknown option"),
        }
    }
    Ok(())
}

/// How the engine's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    /// One object a line.
    Json,
}

pub(super) fn log_format(format: Option<&str>) -> anyhow::Result<LogFormat> {
    match format {
        None | Some("" | "text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => bail!("invalid log-format {other:?}: use \"text\" or \"json\""),
    }
}

/// Labels are pairs, and each name has one value (moby `daemon/config/config.go`, `GetConflictFreeLabels`).
pub(super) fn labels(labels: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for label in &labels {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        if name.trim().is_empty() {
            bail!("invalid label '{label}': empty name");
        }
        if name.trim_start().contains(char::is_whitespace) {
            bail!("label '{label}' contains whitespaces");
        }
        if let Some(other) = values.insert(name, value).filter(|other| *other != value) {
            bail!("conflict labels for {name}={value} and {name}={other}");
        }
    }
    // Each once, and with its `=`, as everywhere labels are listed.
    let labels = values.into_iter();
    Ok(labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect())
}

/// Addresses by flag or key.
pub(super) fn addresses(name: &str, texts: Vec<String>) -> anyhow::Result<Vec<IpAddr>> {
    let parse = |text: String| {
        let parsed = text.trim().parse();
        parsed.with_context(|| {
            format!("invalid {name}: IP address is not correctly formatted: {text}")
        })
    };
    texts.into_iter().map(parse).collect()
}

/// A mirror is a server and nothing below it (moby `registry/config.go`, `ValidateMirror`).
pub(super) fn mirrors(mirrors: Vec<String>) -> anyhow::Result<Vec<String>> {
    for mirror in &mirrors {
        let (scheme, rest) = mirror
            .split_once("://")
            .with_context(|| format!("invalid mirror: no scheme in {mirror:?}"))?;
        if !matches!(scheme, "http" | "https") {
            bail!("invalid mirror: unsupported scheme {scheme:?} in {mirror:?}");
        }
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.is_empty() || host.contains(['/', '?', '#', '@']) {
            bail!(
                "invalid mirror: expected scheme and host, without path, query, fragment or user, in {mirror:?}"
            );
        }
    }
    Ok(mirrors)
}

/// The oldest API that is served, between the oldest and the newest there are.
pub(super) fn min_api_version(text: Option<&str>) -> anyhow::Result<ApiVersion> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(ApiVersion::OLDEST);
    };
    let minor = text.strip_prefix("1.").and_then(|minor| minor.parse().ok());
    let minor: u16 = minor
        .with_context(|| format!("invalid min-api-version {text:?}: expected a version, 1.44"))?;
    let version = ApiVersion::minor(minor);
    if version < ApiVersion::OLDEST {
        bail!(
            "invalid min-api-version {text:?}: minimum supported API version is {}",
            ApiVersion::OLDEST
        );
    }
    if version > ApiVersion::NEWEST {
        bail!(
            "invalid min-api-version {text:?}: maximum supported API version is {}",
            ApiVersion::NEWEST
        );
    }
    Ok(version)
}

/// A number that has to be more than nothing.
pub(super) fn count(name: &str, given: Option<i64>, default: u32) -> anyhow::Result<u32> {
    match given {
        None => Ok(default),
        Some(number) => u32::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .with_context(|| format!("invalid {name}: {number}")),
    }
}
