//! Whether AppArmor confines containers here: it has to be on, and docker-default loaded.
//!
//! The engine executes no program: `hoist system load-profile` loads the profile before it is started, and by hand.

use std::fs;

use hoist_model::container::SecuritySpec;
use hoist_runtime::LaunchError;

/// Docker's profile, and ours, of containers that name none.
pub(crate) const DEFAULT_PROFILE: &str = "docker-default";
/// Its state in the kernel (Documentation/admin-guide/LSM/apparmor.rst).
const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// How AppArmor stands on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AppArmor {
    /// The kernel has none, or it is off.
    Off,
    /// On, but without the profile of containers.
    Unloaded,
    /// Containers are confined.
    Loaded,
}

impl AppArmor {
    /// Looks.
    pub(crate) fn find() -> Self {
        let on = fs::read_to_string(ENABLED).is_ok_and(|text| text.trim() == "Y");
        let profiles = fs::read_to_string(PROFILES).unwrap_or_default();
        match (on, has_profile(&profiles)) {
            (false, _) => Self::Off,
            (true, false) => Self::Unloaded,
            (true, true) => Self::Loaded,
        }
    }

    /// What `info` warns of.
    pub(crate) fn warning(self) -> Option<String> {
        (self == Self::Unloaded).then(|| {
            format!(
                "WARNING: AppArmor is on, but profile {DEFAULT_PROFILE} is not loaded: containers are not confined by it. \
                 Load it and start the engine again: hoist system load-profile"
            )
        })
    }

    /// The profile of a process of a container.
    pub(crate) fn profile(self, security: &SecuritySpec) -> Result<Option<String>, LaunchError> {
        match (self, security.apparmor.as_deref()) {
            (_, Some("unconfined")) => Ok(None),
            (Self::Off, Some(profile)) if !profile.is_empty() => Err(LaunchError {
                message: format!("AppArmor profile {profile}: this kernel's AppArmor is off"),
                exit_code: 128,
            }),
            (_, Some(profile)) if !profile.is_empty() => Ok(Some(profile.to_owned())),
            (Self::Loaded, _) if !security.privileged => Ok(Some(DEFAULT_PROFILE.to_owned())),
            _ => Ok(None),
        }
    }
}

/// Lines of the kernel's list: `name (mode)`.
fn has_profile(profiles: &str) -> bool {
    let mut names = profiles.lines().filter_map(|line| line.rsplit_once(" ("));
    names.any(|(name, _)| name == DEFAULT_PROFILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(profile: Option<&str>, privileged: bool) -> SecuritySpec {
        SecuritySpec {
            apparmor: profile.map(str::to_owned),
            privileged,
            ..SecuritySpec::default()
        }
    }

    #[test]
    fn the_list_is_read_by_whole_names() {
        assert!(has_profile(
            "lsb_release (enforce)\ndocker-default (enforce)\n"
        ));
        assert!(!has_profile("docker-default-not (enforce)\n"));
    }

    #[test]
    fn who_names_no_profile_gets_dockers_unless_privileged() {
        use AppArmor::{Loaded, Off, Unloaded};
        for (state, named, privileged, expected) in [
            (Loaded, None, false, Some(DEFAULT_PROFILE)),
            (Loaded, None, true, None),
            (Loaded, Some("mine"), true, Some("mine")),
            (Loaded, Some("unconfined"), false, None),
            (Unloaded, None, false, None),
            (Unloaded, Some("mine"), false, Some("mine")),
            (Off, None, false, None),
        ] {
            let found = state.profile(&security(named, privileged)).unwrap();
            assert_eq!(found.as_deref(), expected, "{state:?} {named:?}");
        }
        let refusal = Off.profile(&security(Some("mine"), false)).unwrap_err();
        assert!(refusal.message.contains("mine"));
    }
}
