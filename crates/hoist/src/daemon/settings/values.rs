//! Single values, checked: errors name the flag or key and what was given.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, bail};
use hoist_image::SnapshotterChoice;
use hoist_model::container::LogConfig;
use hoist_runtime::cgroup::CgroupDriver;

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
