//! Namespaces and privileges: `HostConfig`'s modes and `SecurityOpt`, both ways
//! (moby `daemon/daemon_unix.go`, `parseSecurityOpt`).

use hoist_model::container::{NamespaceMode, NetworkMode, SeccompChoice, SecuritySpec};

use super::create_body::{HostConfigBody, Words};
use crate::error::ApiError;

/// Reads everything that decides about privileges; `no_new_privileges` is what holds where no option says otherwise.
pub(crate) fn security_from_wire(
    host: &mut HostConfigBody,
    no_new_privileges: bool,
) -> Result<SecuritySpec, ApiError> {
    let mut security = SecuritySpec {
        no_new_privileges,
        privileged: host.privileged.unwrap_or_default(),
        cap_add: host.cap_add.take().map(Words::into_vec).unwrap_or_default(),
        cap_drop: host
            .cap_drop
            .take()
            .map(Words::into_vec)
            .unwrap_or_default(),
        options: host.security_opt.take().unwrap_or_default(),
        readonly_rootfs: host.readonly_rootfs.unwrap_or_default(),
        masked_paths: host.masked_paths.take(),
        readonly_paths: host.readonly_paths.take(),
        sysctls: host.sysctls.take().unwrap_or_default(),
        pid: private_host_or_container(host.pid_mode.as_deref(), "PID")?,
        ipc: ipc_mode(host.ipc_mode.as_deref())?,
        uts: host_or_private(host.uts_mode.as_deref(), "UTS")?.unwrap_or_default(),
        cgroup: cgroup_mode(host.cgroupns_mode.as_deref())?,
        userns: host.userns_mode.take().unwrap_or_default(),
        oom_score_adj: host.oom_score_adj.unwrap_or_default(),
        ..SecuritySpec::default()
    };
    if !matches!(security.userns.as_str(), "" | "host") {
        return Err(ApiError::invalid(format!(
            "invalid userns mode: {}",
            security.userns
        )));
    }
    if !(-1000..=1000).contains(&security.oom_score_adj) {
        return Err(ApiError::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            security.oom_score_adj
        )));
    }
    for option in security.options.clone() {
        apply_option(&mut security, &option)?;
    }
    Ok(security)
}

fn apply_option(security: &mut SecuritySpec, option: &str) -> Result<(), ApiError> {
    match option {
        "no-new-privileges" => {
            security.no_new_privileges = true;
            return Ok(());
        }
        "disable" => {
            security.labels.push("disable".to_owned());
            return Ok(());
        }
        _ => {}
    }
    let malformed =
        |part: u8| ApiError::invalid(format!("invalid --security-opt {part}: {option:?}"));
    // The colon is the form of Docker before 1.11.
    let (name, value) = option
        .split_once('=')
        .or_else(|| option.split_once(':'))
        .ok_or_else(|| malformed(1))?;
    match name {
        "label" if value == "disable" => security.labels.push(value.to_owned()),
        // Docker takes the others and does without them; who asks to be confined is told that they are not.
        "label" => {
            return Err(ApiError::invalid(format!(
                "invalid --security-opt: {option:?}: SELinux is not enabled in this engine, so that no label would be set; \
                 it takes label=disable alone"
            )));
        }
        "apparmor" => security.apparmor = Some(value.to_owned()),
        "seccomp" => {
            security.seccomp = match value {
                "unconfined" => SeccompChoice::Unconfined,
                "" => SeccompChoice::Default,
                "builtin" => SeccompChoice::Builtin,
                profile => SeccompChoice::Profile(profile.to_owned()),
            };
        }
        "no-new-privileges" => {
            security.no_new_privileges = yes_or_no(value).ok_or_else(|| malformed(2))?;
        }
        "writable-cgroups" => {
            security.writable_cgroups = Some(yes_or_no(value).ok_or_else(|| malformed(2))?);
        }
        // Docker's CLI turns this into empty path lists; other clients send it as it is.
        "systempaths" if value == "unconfined" => {
            security.masked_paths = Some(Vec::new());
            security.readonly_paths = Some(Vec::new());
        }
        _ => return Err(malformed(2)),
    }
    Ok(())
}

/// Go's `strconv.ParseBool`.
fn yes_or_no(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn container_mode(text: &str, kind: &str) -> Result<Option<NamespaceMode>, ApiError> {
    match text.strip_prefix("container:") {
        Some("") => Err(ApiError::invalid(format!(
            "invalid {kind} mode: {text}: it must be container:<name|id>"
        ))),
        Some(name) => Ok(Some(NamespaceMode::Container(name.to_owned()))),
        None => Ok(None),
    }
}

fn private_host_or_container(text: Option<&str>, kind: &str) -> Result<NamespaceMode, ApiError> {
    match text.unwrap_or_default() {
        "" | "private" => Ok(NamespaceMode::Private),
        "host" => Ok(NamespaceMode::Host),
        text => container_mode(text, kind)?
            .ok_or_else(|| ApiError::invalid(format!("invalid {kind} mode: {text}"))),
    }
}

fn ipc_mode(text: Option<&str>) -> Result<NamespaceMode, ApiError> {
    match text.unwrap_or_default() {
        "shareable" => Ok(NamespaceMode::Shareable),
        "none" => Ok(NamespaceMode::None),
        _ => private_host_or_container(text, "IPC"),
    }
}

fn host_or_private(text: Option<&str>, kind: &str) -> Result<Option<NamespaceMode>, ApiError> {
    match text.unwrap_or_default() {
        "" => Ok(None),
        "host" => Ok(Some(NamespaceMode::Host)),
        text => Err(ApiError::invalid(format!("invalid {kind} mode: {text}"))),
    }
}

fn cgroup_mode(text: Option<&str>) -> Result<Option<NamespaceMode>, ApiError> {
    match text {
        Some("private") => Ok(Some(NamespaceMode::Private)),
        text => host_or_private(text, "cgroup namespace"),
    }
}

/// Reads `NetworkMode`.
pub(crate) fn network_mode(text: &str) -> Result<NetworkMode, ApiError> {
    Ok(match text {
        "" | "default" | "bridge" => NetworkMode::Bridge,
        "none" => NetworkMode::None,
        "host" => NetworkMode::Host,
        text => match text.strip_prefix("container:") {
            Some("") => {
                return Err(ApiError::invalid(
                    "invalid network mode: invalid container format container:<name|id>",
                ));
            }
            None if text == "container" => {
                return Err(ApiError::invalid(
                    "invalid network mode: invalid container format container:<name|id>",
                ));
            }
            Some(name) => NetworkMode::Container(name.to_owned()),
            None => NetworkMode::Network(text.to_owned()),
        },
    })
}

/// `NetworkMode` as inspect shows it.
pub(crate) fn network_mode_text(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Container(name) => format!("container:{name}"),
        NetworkMode::Network(name) => name.clone(),
    }
}

/// A namespace's mode as inspect shows it; `private` is what it says for one of its own.
pub(crate) fn namespace_text(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Shareable => "shareable".to_owned(),
        NamespaceMode::None => "none".to_owned(),
        NamespaceMode::Container(name) => format!("container:{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SecuritySpec, String> {
        let mut host: HostConfigBody = serde_json::from_str(text).unwrap();
        security_from_wire(&mut host, false).map_err(|error| error.message)
    }

    #[test]
    fn options_are_understood() {
        let security = read(
            r#"{"SecurityOpt":["no-new-privileges","seccomp=unconfined","apparmor=mine","label=disable","writable-cgroups=true","systempaths=unconfined"]}"#,
        )
        .unwrap();
        assert!(security.no_new_privileges);
        assert_eq!(security.seccomp, SeccompChoice::Unconfined);
        assert_eq!(security.apparmor.as_deref(), Some("mine"));
        assert_eq!(security.labels, ["disable"]);
        assert_eq!(security.writable_cgroups, Some(true));
        assert_eq!(security.masked_paths, Some(Vec::new()));
        let off =
            read(r#"{"SecurityOpt":["no-new-privileges:false","seccomp={\"a\":1}"]}"#).unwrap();
        assert!(!off.no_new_privileges);
        assert_eq!(off.seccomp, SeccompChoice::Profile("{\"a\":1}".into()));
        let security = |text: &str| {
            let mut host: HostConfigBody = serde_json::from_str(text).unwrap();
            security_from_wire(&mut host, true).unwrap()
        };
        let engines = security(r#"{"SecurityOpt":["seccomp=builtin"]}"#);
        assert!(engines.no_new_privileges && engines.options.len() == 1);
        assert_eq!(engines.seccomp, SeccompChoice::Builtin);
        assert!(!security(r#"{"SecurityOpt":["no-new-privileges=false"]}"#).no_new_privileges);
    }

    #[test]
    fn modes_are_understood() {
        let security = read(
            r#"{"PidMode":"host","IpcMode":"shareable","UTSMode":"host","CgroupnsMode":"private"}"#,
        )
        .unwrap();
        assert_eq!(security.pid, NamespaceMode::Host);
        assert_eq!(security.ipc, NamespaceMode::Shareable);
        assert_eq!(security.uts, NamespaceMode::Host);
        assert_eq!(security.cgroup, Some(NamespaceMode::Private));
        assert_eq!(read("{}").unwrap().cgroup, None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            (
                r#"{"SecurityOpt":["what"]}"#,
                "invalid --security-opt 1: \"what\"",
            ),
            (
                r#"{"SecurityOpt":["a=b"]}"#,
                "invalid --security-opt 2: \"a=b\"",
            ),
            (
                r#"{"SecurityOpt":["writable-cgroups=maybe"]}"#,
                "invalid --security-opt 2: \"writable-cgroups=maybe\"",
            ),
            (
                r#"{"SecurityOpt":["label=type:one_t"]}"#,
                "invalid --security-opt: \"label=type:one_t\": SELinux is not enabled in this engine, so that no label would be set; it takes label=disable alone",
            ),
            (
                r#"{"SecurityOpt":["label:level:s0:c1"]}"#,
                "invalid --security-opt: \"label:level:s0:c1\": SELinux is not enabled in this engine, so that no label would be set; it takes label=disable alone",
            ),
            (r#"{"PidMode":"x"}"#, "invalid PID mode: x"),
            (r#"{"IpcMode":"x"}"#, "invalid IPC mode: x"),
            (r#"{"UTSMode":"x"}"#, "invalid UTS mode: x"),
            (
                r#"{"CgroupnsMode":"x"}"#,
                "invalid cgroup namespace mode: x",
            ),
            (
                r#"{"OomScoreAdj":1001}"#,
                "Invalid value 1001, range for oom score adj is [-1000, 1000]",
            ),
            (
                r#"{"PidMode":"container:"}"#,
                "invalid PID mode: container:: it must be container:<name|id>",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
    }
}
