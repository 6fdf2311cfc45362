//! The profile language: Docker's JSON (moby/profiles) and, as its subset, OCI's `linux.seccomp`.

use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::architecture::Architecture;
use super::{SeccompError, default_profile};

/// The largest profile read, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

const FLAG_TSYNC: u32 = 1;
const FLAG_LOG: u32 = 2;
const FLAG_SPEC_ALLOW: u32 = 4;

/// What happens to a call: a `SECCOMP_RET_*` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Action(pub(super) u32);

impl Action {
    pub(super) const ALLOW: Self = Self(0x7fff_0000);
    pub(super) const KILL_PROCESS: Self = Self(0x8000_0000);
    const LOG: Self = Self(0x7ffc_0000);
    const TRACE: Self = Self(0x7ff0_0000);
    const TRAP: Self = Self(0x0003_0000);
    const KILL_THREAD: Self = Self(0);

    /// The call fails with this errno.
    pub(super) const fn errno(errno: u32) -> Self {
        Self(0x0005_0000 | (errno & 0xffff))
    }

    /// Whether the call happens.
    pub(super) fn permits(self) -> bool {
        matches!(self, Self::ALLOW | Self::LOG) || self.0 & 0xffff_0000 == Self::TRACE.0
    }

    fn from_name(name: &str, errno: Option<u32>) -> Result<Self, SeccompError> {
        const EPERM: u32 = 1;
        Ok(match name {
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_ERRNO" => Self::errno(errno.unwrap_or(EPERM)),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KILL_THREAD,
            "SCMP_ACT_KILL_PROCESS" => Self::KILL_PROCESS,
            "SCMP_ACT_TRAP" => Self::TRAP,
            "SCMP_ACT_TRACE" => Self(Self::TRACE.0 | (errno.unwrap_or(EPERM) & 0xffff)),
            "SCMP_ACT_LOG" => Self::LOG,
            other => return Err(SeccompError::Action(other.to_owned())),
        })
    }
}

/// How an argument is compared, unsigned, 64 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// The argument's bits of this mask are equal to the value.
    Masked(u64),
}

/// One check of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Check {
    /// 0 to 5.
    pub(super) index: u8,
    pub(super) comparison: Comparison,
    pub(super) value: u64,
}

/// When a rule applies, or does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) capabilities: Vec<String>,
    pub(super) architectures: Vec<String>,
    pub(super) minimum_kernel: Option<(u32, u32)>,
}

/// What happens to some calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    pub(super) action: Action,
    pub(super) checks: Vec<Check>,
    pub(super) includes: Condition,
    pub(super) excludes: Condition,
}

/// Which architectures a profile covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Architectures {
    /// Per native architecture, the others that its kernel also runs.
    Map(Vec<(Architecture, Vec<Architecture>)>),
    /// These, and the native one.
    List(Vec<Architecture>),
}

/// A profile in Docker's language: rules with conditions not yet decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub(super) default_action: Action,
    pub(super) architectures: Architectures,
    pub(super) rules: Arc<[Rule]>,
    pub(super) flags: Option<u32>,
    /// SHA-256 of the text it was read from; zero for the built-in one. Tells profiles apart in the cache.
    pub(super) fingerprint: [u8; 32],
}

impl Profile {
    /// Docker's default profile.
    #[must_use]
    pub fn docker_default() -> &'static Self {
        static DEFAULT: OnceLock<Profile> = OnceLock::new();
        DEFAULT.get_or_init(default_profile::profile)
    }

    /// Reads the content of `--security-opt seccomp=<file>`.
    pub fn parse(json: &[u8]) -> Result<Self, SeccompError> {
        let fingerprint = fingerprint(json)?;
        let json: ProfileJson =
            serde_json::from_slice(json).map_err(|e| SeccompError::Invalid(e.to_string()))?;
        json.into_profile(fingerprint)
    }

    /// `SECCOMP_FILTER_FLAG_*`; without a word from the profile speculation stays unhindered, as with runc.
    pub(super) fn flags(&self) -> u32 {
        self.flags.unwrap_or(FLAG_SPEC_ALLOW)
    }
}

/// `6.1.0-18-amd64` as (6, 1).
pub(super) fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProfileJson {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchitectureJson>>,
    flags: Option<Vec<String>>,
    syscalls: Option<Vec<RuleJson>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureJson {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleJson {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<CheckJson>>,
    includes: Option<ConditionJson>,
    excludes: Option<ConditionJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CheckJson {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionJson {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl ProfileJson {
    fn into_profile(self, fingerprint: [u8; 32]) -> Result<Profile, SeccompError> {
        let known = |names: Option<Vec<String>>| -> Vec<Architecture> {
            names
                .iter()
                .flatten()
                .filter_map(|name| Architecture::from_profile_name(name))
                .collect()
        };
        let architectures = match (self.architectures, self.arch_map) {
            (Some(list), Some(map)) if !list.is_empty() && !map.is_empty() => {
                return Err(SeccompError::Invalid(
                    "both 'architectures' and 'archMap' are specified in the seccomp profile, use \
                     either 'architectures' or 'archMap'"
                        .to_owned(),
                ));
            }
            (_, Some(map)) if !map.is_empty() => Architectures::Map(
                map.into_iter()
                    .filter_map(|entry| {
                        let main = Architecture::from_profile_name(&entry.architecture)?;
                        Some((main, known(entry.sub_architectures)))
                    })
                    .collect(),
            ),
            (list, _) => Architectures::List(known(list)),
        };
        let flags = match self.flags {
            None => None,
            Some(names) => Some(flag_bits(&names)?),
        };
        let rules: Result<Vec<Rule>, SeccompError> = self
            .syscalls
            .into_iter()
            .flatten()
            .map(RuleJson::into_rule)
            .collect();
        Ok(Profile {
            default_action: Action::from_name(&self.default_action, self.default_errno_ret)?,
            architectures,
            rules: rules?.into(),
            flags,
            fingerprint,
        })
    }
}

/// Tells texts of profiles apart; one that is too long to be read is refused.
pub(super) fn fingerprint(json: &[u8]) -> Result<[u8; 32], SeccompError> {
    if json.len() > SIZE_LIMIT {
        return Err(SeccompError::Invalid(format!(
            "larger than {SIZE_LIMIT} bytes"
        )));
    }
    Ok(Sha256::digest(json).into())
}

fn flag_bits(names: &[String]) -> Result<u32, SeccompError> {
    names.iter().try_fold(0, |bits, name| {
        let bit = match name.as_str() {
            "SECCOMP_FILTER_FLAG_TSYNC" => FLAG_TSYNC,
            "SECCOMP_FILTER_FLAG_LOG" => FLAG_LOG,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FLAG_SPEC_ALLOW,
            other => return Err(SeccompError::Invalid(format!("unknown flag {other:?}"))),
        };
        Ok(bits | bit)
    })
}

impl RuleJson {
    fn into_rule(self) -> Result<Rule, SeccompError> {
        let names = match (self.name, self.names) {
            (Some(_), Some(names)) if !names.is_empty() => {
                return Err(SeccompError::Invalid(
                    "use either 'name' or 'names' in a rule, not both".to_owned(),
                ));
            }
            (Some(name), _) => vec![name],
            (None, names) => names.unwrap_or_default(),
        };
        let checks: Result<Vec<Check>, SeccompError> = self
            .args
            .into_iter()
            .flatten()
            .map(CheckJson::into_check)
            .collect();
        Ok(Rule {
            names,
            action: Action::from_name(&self.action, self.errno_ret)?,
            checks: checks?,
            includes: self.includes.unwrap_or_default().into_condition()?,
            excludes: self.excludes.unwrap_or_default().into_condition()?,
        })
    }
}

impl CheckJson {
    fn into_check(self) -> Result<Check, SeccompError> {
        if self.index > 5 {
            return Err(SeccompError::Invalid(format!(
                "argument index {} above 5",
                self.index
            )));
        }
        let (comparison, value) = match self.op.as_str() {
            "SCMP_CMP_NE" => (Comparison::NotEqual, self.value),
            "SCMP_CMP_LT" => (Comparison::Less, self.value),
            "SCMP_CMP_LE" => (Comparison::LessOrEqual, self.value),
            "SCMP_CMP_EQ" => (Comparison::Equal, self.value),
            "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, self.value),
            "SCMP_CMP_GT" => (Comparison::Greater, self.value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::Masked(self.value), self.value_two),
            other => return Err(SeccompError::Invalid(format!("unknown operator {other:?}"))),
        };
        Ok(Check {
            index: self.index,
            comparison,
            value,
        })
    }
}

impl ConditionJson {
    fn into_condition(self) -> Result<Condition, SeccompError> {
        let minimum_kernel = match self.min_kernel {
            None => None,
            Some(text) => Some(
                kernel_version(&text)
                    .ok_or_else(|| SeccompError::Invalid(format!("minKernel {text:?}")))?,
            ),
        };
        Ok(Condition {
            capabilities: self.caps.unwrap_or_default(),
            architectures: self.arches.unwrap_or_default(),
            minimum_kernel,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        Profile::parse(json.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_profile_is_refused_with_the_reason() {
        assert!(error("nope").starts_with("decoding seccomp profile failed: "));
        assert!(error("{}").contains("defaultAction"));
        assert_eq!(
            error(r#"{"defaultAction":"SCMP_ACT_DANCE"}"#),
            "seccomp action SCMP_ACT_DANCE is not supported"
        );
        let rule = |rule: &str| {
            error(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{rule}]}}"#
            ))
        };
        assert!(rule(r#"{"names":["a"],"name":"b","action":"SCMP_ACT_ALLOW"}"#).contains("either"));
        assert!(rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#).contains("index 6"));
        assert!(rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"X"}]}"#).contains("\"X\""));
        let both = r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#;
        assert!(error(both).contains("use either 'architectures' or 'archMap'"));
    }

    #[test]
    fn nulls_and_unknown_fields_are_fine() {
        let profile = Profile::parse(
            br#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":null,"archMap":null,"x":1,
                "syscalls":[{"names":["ptrace"],"action":"SCMP_ACT_ERRNO","args":null,"comment":"","includes":{},"excludes":{}}]}"#,
        )
        .unwrap();
        assert_eq!(profile.rules[0].action, Action::errno(1));
        assert_eq!(profile.flags(), FLAG_SPEC_ALLOW);
    }

    #[test]
    fn kernel_releases_parse() {
        assert_eq!(kernel_version("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(kernel_version("5.15"), Some((5, 15)));
        assert_eq!(kernel_version("six"), None);
    }
}
