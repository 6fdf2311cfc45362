//! Flags about what a container shares with the machine and may do there.

use serde_json::{Value, json};

use super::{Fields, Host};
use crate::spec::devices::{self, Device};
use crate::spec::flags::ContainerFlags;
use crate::spec::values::{self, key_values, restart_policy};
use crate::spec::{InvalidFlag, invalid};

pub(super) fn isolation(
    host_config: &mut Fields,
    flags: &ContainerFlags,
    host: &Host<'_>,
) -> Result<(), InvalidFlag> {
    host_config.flag("AutoRemove", flags.rm);
    let policy = flags
        .restart
        .as_ref()
        .map(|r| restart_policy(r))
        .transpose()?;
    if flags.rm && policy.as_ref().is_some_and(|p| p["Name"] != "no") {
        return Err(InvalidFlag::Conflict("--restart", "--rm"));
    }
    host_config.some("RestartPolicy", policy);
    host_config.flag("Privileged", flags.privileged);
    host_config.flag("Init", flags.init);
    host_config.list("CapAdd", &flags.cap_add);
    host_config.list("CapDrop", &flags.cap_drop);
    host_config.list("GroupAdd", &flags.group_add);
    host_config.list("SecurityOpt", &security(flags, host)?);
    for (flag, kind, value, modes) in [
        ("--pid", "PID", &flags.pid, &["host"][..]),
        ("--uts", "UTS", &flags.uts, &["host"]),
        ("--userns", "USER", &flags.userns, &["host"]),
        (
            "--cgroupns",
            "CGROUP",
            &flags.cgroupns,
            &["host", "private"],
        ),
    ] {
        let Some(mode) = value.as_deref().filter(|mode| !mode.is_empty()) else {
            continue;
        };
        let of = mode.strip_prefix("container:").unwrap_or_default();
        if !modes.contains(&mode) && (flag != "--pid" || of.is_empty()) {
            return Err(InvalidFlag::Said(format!("{flag}: invalid {kind} mode")));
        }
    }
    for rule in &flags.device_cgroup_rule {
        if !devices::is_cgroup_rule(rule) {
            let detail = format!("invalid device cgroup format '{rule}'");
            return Err(invalid("--device-cgroup-rule", rule, detail));
        }
    }
    for (name, value) in [
        ("PidMode", &flags.pid),
        ("IpcMode", &flags.ipc),
        ("UTSMode", &flags.uts),
        ("UsernsMode", &flags.userns),
        ("CgroupnsMode", &flags.cgroupns),
        ("CgroupParent", &flags.cgroup_parent),
        ("Isolation", &flags.isolation),
        ("Runtime", &flags.runtime),
    ] {
        host_config.some(name, value.clone());
    }
    host_config.map("Sysctls", values::sysctls(&flags.sysctl)?);
    host_config.map("Annotations", key_values(&flags.annotation));
    let mut log = Fields::default();
    log.some("Type", flags.log_driver.clone());
    // What has no value is the engine's to refuse: it knows the driver's options.
    log.map("Config", key_values(&flags.log_opt));
    host_config.map("LogConfig", log.0);
    let (mut mappings, mut named) = (Vec::new(), Vec::new());
    for text in &flags.device {
        match devices::device(text)? {
            Device::Mapping(mapping) => mappings.push(mapping),
            Device::Cdi(name) => named.push(name),
        }
    }
    let mut requests = Vec::new();
    for text in &flags.gpus {
        requests.push(devices::gpus(text)?);
    }
    if !named.is_empty() {
        requests.push(json!({"Driver": "cdi", "DeviceIDs": named}));
    }
    if !mappings.is_empty() {
        host_config.set("Devices", mappings);
    }
    if !requests.is_empty() {
        host_config.set("DeviceRequests", requests);
    }
    host_config.list("DeviceCgroupRules", &flags.device_cgroup_rule);
    Ok(())
}

/// A seccomp profile is a file of this machine: its content travels, not its name.
fn security(flags: &ContainerFlags, host: &Host<'_>) -> Result<Vec<String>, InvalidFlag> {
    let mut options = Vec::with_capacity(flags.security_opt.len());
    for option in &flags.security_opt {
        let separator = if option.contains('=') { '=' } else { ':' };
        match option.split_once(separator) {
            Some(("seccomp", profile)) if !["unconfined", "builtin"].contains(&profile) => {
                let wrong = |detail: String| invalid("--security-opt", option, detail);
                let content = (host.read)(profile).map_err(|error| {
                    let why = values::go_error(&error);
                    InvalidFlag::Said(format!(
                        "opening seccomp profile ({profile}) failed: open {profile}: {why}"
                    ))
                })?;
                let profile: Value =
                    serde_json::from_slice(&content).map_err(|e| wrong(e.to_string()))?;
                options.push(format!("seccomp={profile}"));
            }
            None if option != "no-new-privileges" => {
                return Err(invalid("--security-opt", option, "expected option=value"));
            }
            _ => options.push(option.clone()),
        }
    }
    Ok(options)
}
