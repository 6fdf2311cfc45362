//! Facts about this machine for `version` and `info`, gathered once at start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::Context;
use hoist_cgroup::{CgroupDriver, CgroupSupport, CgroupVersion};
use hoist_docker::{LimitSupport, Node};
use hoist_image::SnapshotterKind;
use hoist_model::Timestamp;
use hoist_model::container::NamespaceMode;

use super::apparmor::AppArmor;
use super::settings::Settings;

/// What of the node only the other parts know.
pub(crate) struct Found {
    pub(crate) storage: SnapshotterKind,
    pub(crate) confinement: Confinement,
    pub(crate) support: CgroupSupport,
    pub(crate) warnings: Vec<String>,
    pub(crate) started_at: Timestamp,
}

/// What confines containers here beside what the settings say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Confinement {
    pub(crate) cgroups: CgroupVersion,
    pub(crate) apparmor: AppArmor,
    /// Whether their users are others on the host.
    pub(crate) remapped: bool,
}

/// As `info` tells it.
pub(crate) fn driver_name(driver: CgroupDriver) -> &'static str {
    match driver {
        CgroupDriver::Cgroupfs => "cgroupfs",
        CgroupDriver::Systemd => "systemd",
    }
}

pub(crate) fn describe(settings: &Settings, found: Found) -> anyhow::Result<Node> {
    let system = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let support = found.support;
    Ok(Node {
        name: text(system.nodename()),
        id: identity(&settings.data_root)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: option_env!("HOIST_COMMIT").unwrap_or_default().to_owned(),
        build_time: option_env!("HOIST_BUILD_TIME")
            .unwrap_or_default()
            .to_owned(),
        started_at: found.started_at,
        data_root: settings.data_root.display().to_string(),
        storage_driver: found.storage.as_str().to_owned(),
        storage_status: vec![(
            "Backing Filesystem".to_owned(),
            backing_file_system(&settings.data_root),
        )],
        cgroup_driver: driver_name(settings.cgroup_driver).to_owned(),
        cgroup_version: match found.confinement.cgroups {
            CgroupVersion::V1 => "1".to_owned(),
            CgroupVersion::V2 => "2".to_owned(),
        },
        kernel_version: text(system.release()),
        operating_system: release_field(&release, "PRETTY_NAME")
            .unwrap_or("Linux")
            .to_owned(),
        operating_system_version: release_field(&release, "VERSION_ID")
            .unwrap_or_default()
            .to_owned(),
        architecture: text(system.machine()),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        online_cpus: online("cpu"),
        memory_nodes: online("node"),
        memory: memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        limits: LimitSupport {
            memory: support.memory,
            swap: support.swap,
            oom_kill_disable: support.oom_kill_disable,
            cpu_period: support.cpu_quota,
            cpu_quota: support.cpu_quota,
            cpu_shares: support.cpu_shares,
            cpuset: support.cpuset,
            pids: support.pids,
            memory_swappiness: support.memory_swappiness,
            blkio: support.blkio,
            blkio_weight: support.blkio_weight,
            blkio_weight_device: support.blkio_weight_device,
        },
        security_options: security_options(settings, found.confinement),
        labels: settings.labels.clone(),
        debug: settings.debug,
        ipv4_forwarding: fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
            .is_ok_and(|text| text.trim() == "1"),
        insecure_registries: settings.insecure_registries.clone(),
        registry_mirrors: settings.registry_mirrors.clone(),
        log: settings.log.clone(),
        defaults: settings.containers.clone(),
        experimental: settings.experimental,
        min_api_version: settings.min_api_version,
        address_pools: settings
            .pools
            .iter()
            .map(|p| (p.base.to_string(), p.size))
            .collect(),
        proxies: proxies(settings),
        warnings: found.warnings,
    })
}

/// By the variables' names, without passwords.
pub(crate) fn proxies(settings: &Settings) -> BTreeMap<String, String> {
    let told = &settings.proxies;
    let shown = |proxy: &Option<hoist_registry::Proxy>| proxy.as_ref().map(ToString::to_string);
    [
        ("HTTP_PROXY", shown(&told.http)),
        ("HTTPS_PROXY", shown(&told.https)),
        ("NO_PROXY", Some(told.exceptions.clone())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// As `/info` lists them (moby `daemon/info.go`, `fillSecurityOptions`).
pub(crate) fn security_options(settings: &Settings, confinement: Confinement) -> Vec<String> {
    let mut options = Vec::new();
    if confinement.apparmor == AppArmor::Loaded {
        options.push(hoist_docker::APPARMOR.to_owned());
    }
    options.push(format!(
        "name=seccomp,profile={}",
        settings.start.seccomp.name()
    ));
    if confinement.remapped {
        options.push("name=userns".to_owned());
    }
    let private = match &settings.containers.cgroup {
        Some(mode) => *mode == NamespaceMode::Private,
        None => confinement.cgroups == CgroupVersion::V2,
    };
    if private {
        options.push("name=cgroupns".to_owned());
    }
    if settings.containers.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

/// What kind of file system the data root is on, in Docker's names (moby `daemon/graphdriver/driver_linux.go`).
fn backing_file_system(data_root: &Path) -> String {
    let Ok(found) = rustix::fs::statfs(data_root) else {
        return "<unknown>".to_owned();
    };
    // Magic numbers as linux/magic.h has them; the kernel's type is wider than they are.
    let name = match found.f_type & 0xffff_ffff {
        0xef53 => "extfs",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlayfs",
        0x2fc1_2fc1 => "zfs",
        0x6969 => "nfs",
        0xf2f5_2010 => "f2fs",
        _ => "<unknown>",
    };
    name.to_owned()
}

/// The data root's own identity, a UUID kept beside the data.
fn identity(data_root: &Path) -> anyhow::Result<String> {
    let path = data_root.join("engine-id");
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok(text.trim().to_owned());
    }
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid")
        .context("read /proc/sys/kernel/random/uuid")?;
    fs::write(&path, &text).with_context(|| format!("write {}", path.display()))?;
    Ok(text.trim().to_owned())
}

fn release_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        .map(|value| value.trim_matches('"'))
}

/// The CPUs or memory nodes that are online; a kernel without NUMA has node 0.
fn online(kind: &str) -> String {
    let list = fs::read_to_string(format!("/sys/devices/system/{kind}/online"));
    let list = list.unwrap_or_default().trim().to_owned();
    if list.is_empty() {
        "0".to_owned()
    } else {
        list
    }
}

fn memory_bytes(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_and_memory_are_read() {
        assert_eq!(
            release_field("A=\"b c\"\nVERSION_ID=12\n", "VERSION_ID"),
            Some("12")
        );
        assert_eq!(release_field("A=\"b c\"\n", "A"), Some("b c"));
        assert_eq!(memory_bytes("MemTotal:  1024 kB\n"), 1_048_576);
        assert_eq!(memory_bytes(""), 0);
    }
}
