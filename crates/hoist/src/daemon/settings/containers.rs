//! What containers get that do not say: some of it when they are made ([`ContainerDefaults`], shown by inspect), some at each
//! start ([`StartDefaults`]), as in dockerd.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use hoist_docker::ContainerDefaults;
use hoist_model::Digest;
use hoist_model::container::{NamespaceMode, SeccompChoice, StartedWith, Ulimit};
use hoist_runtime::seccomp::Profile;
use sha2::{Digest as _, Sha256};

use super::file::UlimitKey;
use crate::daemon::rlimits;
use hoist_cli::bytes;

/// Put under a container's own at each start.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartDefaults {
    /// By name; a container's own limit of the same name wins.
    pub(crate) ulimits: Vec<Ulimit>,
    pub(crate) init: bool,
    pub(crate) seccomp: SeccompDefault,
}

impl StartDefaults {
    /// What is remembered with a container that was started with these.
    pub(crate) fn to_keep(&self) -> StartedWith {
        StartedWith {
            ulimits: self.ulimits.clone(),
            seccomp: match &self.seccomp {
                SeccompDefault::Builtin => SeccompChoice::Builtin,
                SeccompDefault::Unconfined => SeccompChoice::Unconfined,
                SeccompDefault::File { text, .. } => SeccompChoice::Profile(text.to_string()),
            },
        }
    }

    /// The same as they were at a container's start.
    pub(crate) fn of_start(kept: &StartedWith) -> Self {
        Self {
            ulimits: kept.ulimits.clone(),
            init: false,
            seccomp: match &kept.seccomp {
                SeccompChoice::Default | SeccompChoice::Builtin => SeccompDefault::Builtin,
                SeccompChoice::Unconfined => SeccompDefault::Unconfined,
                SeccompChoice::Profile(text) => SeccompDefault::File {
                    path: PathBuf::new(),
                    text: text.as_str().into(),
                },
            },
        }
    }
}

/// The system calls of containers without a profile of their own.
#[derive(Clone, Debug, Default)]
pub(crate) enum SeccompDefault {
    /// Docker's profile.
    #[default]
    Builtin,
    Unconfined,
    File {
        path: PathBuf,
        /// The file's, which was read as a profile once.
        text: Arc<str>,
    },
}

impl SeccompDefault {
    /// As `/info` names it: `builtin`, `unconfined` or the file.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Builtin => "builtin".to_owned(),
            Self::Unconfined => "unconfined".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }
}

impl fmt::Display for SeccompDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        // A reload tells by this whether the file changed.
        if let Self::File { text, .. } = self {
            let digest = Digest::from_sha256(&Sha256::digest(text.as_bytes()).into());
            write!(f, " (contents {})", &digest.hex()[..12])?;
        }
        Ok(())
    }
}

/// `builtin`, `unconfined` or the path of a profile, which is read and checked here.
pub(super) fn seccomp(profile: Option<String>) -> anyhow::Result<SeccompDefault> {
    let path = match profile.as_deref() {
        None | Some("" | "builtin") => return Ok(SeccompDefault::Builtin),
        Some("unconfined") => return Ok(SeccompDefault::Unconfined),
        Some(path) => PathBuf::from(path),
    };
    let text = std::fs::read(&path)
        .with_context(|| format!("opening seccomp profile ({}) failed", path.display()))?;
    Profile::parse(&text).with_context(|| format!("seccomp profile ({})", path.display()))?;
    Ok(SeccompDefault::File {
        path,
        text: String::from_utf8_lossy(&text).into(),
    })
}

/// Flags `name=soft[:hard]` over the file's, one by one by name.
pub(super) fn ulimits(
    flags: &[String],
    file: BTreeMap<String, UlimitKey>,
) -> anyhow::Result<Vec<Ulimit>> {
    let mut limits = BTreeMap::new();
    for (key, value) in file {
        if value.name.as_ref().is_some_and(|name| *name != key) {
            bail!(
                "invalid default-ulimits {key:?}: its Name is {:?}",
                value.name.unwrap_or_default()
            );
        }
        limits.insert(key, (value.soft, value.hard));
    }
    for flag in flags {
        let invalid = || {
            format!("invalid default-ulimit {flag:?}: expected name=soft[:hard], nofile=1024:4096")
        };
        let (name, values) = flag.split_once('=').with_context(invalid)?;
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let number = |text: &str| text.parse::<i64>().with_context(invalid);
        limits.insert(name.to_owned(), (number(soft)?, number(hard)?));
    }
    let limits: Vec<Ulimit> = limits
        .into_iter()
        .map(|(name, (soft, hard))| Ulimit { name, soft, hard })
        .collect();
    if let Err(error) = rlimits::resolve(&limits) {
        bail!("invalid default-ulimits: {error}");
    }
    Ok(limits)
}

/// What of it was said, by flag or key.
#[derive(Default)]
pub(super) struct Said {
    pub(super) shm_size: Option<String>,
    pub(super) ipc_mode: Option<String>,
    pub(super) cgroupns_mode: Option<String>,
    pub(super) cgroup_parent: Option<String>,
    pub(super) no_new_privileges: bool,
}

/// Checks what new containers get.
pub(super) fn defaults(said: Said) -> anyhow::Result<ContainerDefaults> {
    let shm_size = match said.shm_size.as_deref() {
        None | Some("") => 0,
        Some(text) => match bytes("--default-shm-size", text) {
            Ok(size) if size > 0 => size,
            Ok(_) => bail!("invalid default-shm-size {text:?}: it must be more than 0"),
            Err(_) => bail!("invalid default-shm-size {text:?}: expected a size, 64m"),
        },
    };
    // The sentences are dockerd's (moby `daemon/config/config_linux.go`).
    let ipc = match said.ipc_mode.as_deref() {
        None | Some("" | "private") => NamespaceMode::Private,
        Some("shareable") => NamespaceMode::Shareable,
        Some(mode) if is_ipc_mode(mode) => bail!(
            "IPC mode \"{mode}\" is not supported as default value; use \"shareable\" or \"private\""
        ),
        Some(mode) => {
            bail!("default IPC mode setting ({mode}) is invalid; use \"shareable\" or \"private\"")
        }
    };
    let cgroup = match said.cgroupns_mode.as_deref() {
        None | Some("") => None,
        Some("private") => Some(NamespaceMode::Private),
        Some("host") => Some(NamespaceMode::Host),
        Some(mode) => {
            bail!("default cgroup namespace mode ({mode}) is invalid; use \"host\" or \"private\"")
        }
    };
    Ok(ContainerDefaults {
        shm_size,
        ipc,
        cgroup,
        cgroup_parent: said.cgroup_parent.unwrap_or_default(),
        no_new_privileges: said.no_new_privileges,
    })
}

fn is_ipc_mode(mode: &str) -> bool {
    matches!(mode, "host" | "none")
        || mode
            .strip_prefix("container:")
            .is_some_and(|n| !n.is_empty())
}

/// Only the runtime there is has names: ours, and runc's where it is asked for.
pub(super) fn check_runtime(
    name: Option<&str>,
    others: impl Iterator<Item = String>,
) -> anyhow::Result<()> {
    let Some(name) = name else { return Ok(()) };
    if matches!(name, "" | "hoist" | "runc" | "io.containerd.runc.v2") {
        return Ok(());
    }
    if others.into_iter().any(|other| other == name) {
        bail!("default-runtime {name:?}: other runtimes than the engine's own are not supported");
    }
    bail!("specified default runtime '{name}' does not exist")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulimits_of_flags_win_over_those_of_the_file_by_name() {
        let file: BTreeMap<String, UlimitKey> = serde_json::from_str(
            r#"{"nofile":{"Name":"nofile","Soft":1,"Hard":2},"core":{"Soft":-1,"Hard":-1}}"#,
        )
        .unwrap();
        let found = ulimits(&["nofile=5:6".to_owned()], file).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|u| (u.name.as_str(), u.soft, u.hard))
            .collect();
        assert_eq!(found, [("core", -1, -1), ("nofile", 5, 6)]);
        for bad in ["nofile", "nope=1", "nofile=x", "nofile=7:6"] {
            let error = ulimits(&[bad.to_owned()], BTreeMap::new()).unwrap_err();
            let name = bad.split('=').next().unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn defaults_are_checked_in_dockers_words() {
        let refused = |said: Said| defaults(said).unwrap_err().to_string();
        let mode = |mode: &str| Some(mode.to_owned());
        let error = refused(Said {
            ipc_mode: mode("host"),
            ..Said::default()
        });
        assert_eq!(
            error,
            "IPC mode \"host\" is not supported as default value; use \"shareable\" or \"private\""
        );
        let error = refused(Said {
            ipc_mode: mode("x"),
            ..Said::default()
        });
        assert_eq!(
            error,
            "default IPC mode setting (x) is invalid; use \"shareable\" or \"private\""
        );
        let error = refused(Said {
            cgroupns_mode: mode("x"),
            ..Said::default()
        });
        assert!(error.contains("(x) is invalid"), "{error}");
        for size in ["0", "-1", "much"] {
            let error = refused(Said {
                shm_size: mode(size),
                ..Said::default()
            });
            assert!(error.contains(size), "{error}");
        }
        let some = defaults(Said {
            shm_size: mode("1g"),
            ..Said::default()
        })
        .unwrap();
        assert_eq!(some.shm_size, 1 << 30);
    }

    #[test]
    fn a_seccomp_profile_is_read_and_checked_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#).unwrap();
        let path = file.path().display().to_string();
        let one = seccomp(Some(path.clone())).unwrap();
        assert_eq!(one.name(), path);
        std::fs::write(file.path(), r#"{"defaultAction":"SCMP_ACT_ERRNO"}"#).unwrap();
        let other = seccomp(Some(path.clone())).unwrap();
        assert_ne!(one.to_string(), other.to_string(), "the contents count");
        std::fs::write(file.path(), "nonsense").unwrap();
        let error = format!("{:#}", seccomp(Some(path.clone())).unwrap_err());
        assert!(error.contains(&path), "{error}");
        let error = format!("{:#}", seccomp(Some("/no/such".to_owned())).unwrap_err());
        assert!(error.contains("/no/such"), "{error}");
    }

    #[test]
    fn the_default_runtime_is_ours_by_any_name() {
        let others = || ["nvidia".to_owned()].into_iter();
        assert!(check_runtime(Some("runc"), others()).is_ok());
        let error = check_runtime(Some("nvidia"), others()).unwrap_err();
        assert!(error.to_string().contains("nvidia"), "{error}");
        let error = check_runtime(Some("x"), others()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "specified default runtime 'x' does not exist"
        );
    }
}
