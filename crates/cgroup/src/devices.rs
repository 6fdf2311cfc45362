//! Host devices given to containers: what `--device` and `--device-cgroup-rule` mean on this host.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use hoist_model::ErrorClass;
use hoist_model::container::DeviceMapping;
use rustix::fs::{major, minor};

/// Character or block devices, or, in a rule, both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Both kinds, in rules only.
    Any,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// One line of device access. Later lines win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Which kind.
    pub kind: DeviceKind,
    /// Major number; `None` is any.
    pub major: Option<u32>,
    /// Minor number; `None` is any.
    pub minor: Option<u32>,
    /// May open for reading.
    pub read: bool,
    /// May open for writing.
    pub write: bool,
    /// May make the node.
    pub mknod: bool,
}

/// A device node to make in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceNode {
    /// Absolute path inside the container.
    pub path: String,
    /// Where it is on the host, to be mounted where nodes cannot be made.
    pub host: PathBuf,
    /// `Char` or `Block`.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits, as on the host.
    pub mode: u32,
    /// Owner, as on the host.
    pub uid: u32,
    /// Group, as on the host.
    pub gid: u32,
    /// What the container's device control group allows for it.
    pub rule: DeviceRule,
}

/// A device was asked for that cannot be given. The texts are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The path is not there or is no device.
    #[error("error gathering device information while adding custom device \"{path}\"")]
    NotADevice {
        /// The path on the host.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Permissions other than `r`, `w` and `m`.
    #[error("invalid device mode: {0}")]
    Permissions(String),
    /// A rule that is not `type major:minor permissions`.
    #[error("invalid device cgroup rule format: '{0}'")]
    Rule(String),
}

impl DeviceError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// Parses the permissions of `--device`: any of `r`, `w`, `m`, each once; empty is all.
fn parse_permissions(text: &str) -> Option<(bool, bool, bool)> {
    if text.is_empty() {
        return Some((true, true, true));
    }
    let count = |wanted: char| text.chars().filter(|c| *c == wanted).count();
    let (read, write, mknod) = (count('r'), count('w'), count('m'));
    let valid = text.len() == read + write + mknod && read.max(write).max(mknod) == 1;
    valid.then_some((read == 1, write == 1, mknod == 1))
}

impl DeviceRule {
    /// Reads `--device-cgroup-rule`, such as `c 1:3 rwm`, `b *:* m` or `a *:* rwm`.
    pub fn parse(text: &str) -> Result<Self, DeviceError> {
        let invalid = || DeviceError::Rule(text.to_owned());
        let number = |field: &str| match field {
            "*" => Some(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().map(Some),
            _ => None,
        };
        let mut words = text.split(' ');
        let (Some(kind), Some(numbers), Some(permissions), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(invalid());
        };
        let kind = match kind {
            "a" => DeviceKind::Any,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Char,
            _ => return Err(invalid()),
        };
        let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
        let major = number(major).ok_or_else(invalid)?;
        let minor = number(minor).ok_or_else(invalid)?;
        if permissions.is_empty() {
            return Err(invalid());
        }
        let (read, write, mknod) = parse_permissions(permissions).ok_or_else(invalid)?;
        Ok(Self {
            allow: true,
            kind,
            major,
            minor,
            read,
            write,
            mknod,
        })
    }
}

/// The nodes that `mappings` name: a device itself, or every device below a directory. Blocking: asks the host's `/dev`.
pub fn resolve(mappings: &[DeviceMapping]) -> Result<Vec<DeviceNode>, DeviceError> {
    let mut nodes = Vec::new();
    for mapping in mappings {
        let permissions = parse_permissions(&mapping.permissions)
            .ok_or_else(|| DeviceError::Permissions(mapping.permissions.clone()))?;
        let not_a_device = |source| DeviceError::NotADevice {
            path: mapping.path_on_host.clone(),
            source,
        };
        let host = Path::new(&mapping.path_on_host);
        let inside = if mapping.path_in_container.is_empty() {
            &mapping.path_on_host
        } else {
            &mapping.path_in_container
        };
        let metadata = fs::metadata(host).map_err(not_a_device)?;
        if metadata.is_dir() {
            let before = nodes.len();
            walk(host, inside, permissions, &mut nodes).map_err(not_a_device)?;
            if nodes.len() == before {
                return Err(not_a_device(io::Error::other("not a device node")));
            }
        } else {
            let node = node(inside, host, &metadata, permissions)
                .ok_or_else(|| not_a_device(io::Error::other("not a device node")))?;
            nodes.push(node);
        }
    }
    Ok(nodes)
}

fn walk(
    directory: &Path,
    inside: &str,
    permissions: (bool, bool, bool),
    nodes: &mut Vec<DeviceNode>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Links are left out, and so is what vanished meanwhile.
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else {
            continue;
        };
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let inside = format!("{}/{name}", inside.trim_end_matches('/'));
        if metadata.is_dir() {
            walk(&entry.path(), &inside, permissions, nodes)?;
        } else {
            nodes.extend(node(&inside, &entry.path(), &metadata, permissions));
        }
    }
    Ok(())
}

fn node(
    path: &str,
    host: &Path,
    metadata: &fs::Metadata,
    (read, write, mknod): (bool, bool, bool),
) -> Option<DeviceNode> {
    let kind = if metadata.file_type().is_char_device() {
        DeviceKind::Char
    } else if metadata.file_type().is_block_device() {
        DeviceKind::Block
    } else {
        return None;
    };
    let (major, minor) = (major(metadata.rdev()), minor(metadata.rdev()));
    Some(DeviceNode {
        path: path.to_owned(),
        host: host.to_owned(),
        kind,
        major,
        minor,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        rule: DeviceRule {
            allow: true,
            kind,
            major: Some(major),
            minor: Some(minor),
            read,
            write,
            mknod,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host: &str, permissions: &str) -> [DeviceMapping; 1] {
        [DeviceMapping {
            path_on_host: host.to_owned(),
            path_in_container: "/dev/inside".to_owned(),
            permissions: permissions.to_owned(),
        }]
    }

    #[test]
    fn a_device_is_what_the_host_says() {
        let nodes = resolve(&mapping("/dev/null", "rw")).unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!(
            (nodes[0].path.as_str(), nodes[0].kind),
            ("/dev/inside", DeviceKind::Char)
        );
        assert_eq!((nodes[0].major, nodes[0].minor), (1, 3));
        assert_eq!(
            nodes[0].rule,
            DeviceRule {
                mknod: false,
                ..DeviceRule::parse("c 1:3 rwm").unwrap()
            }
        );
    }

    #[test]
    fn what_is_no_device_is_refused_with_its_path() {
        let error = resolve(&mapping("/dev/nope-hoist", "rwm")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "error gathering device information while adding custom device \"/dev/nope-hoist\""
        );
        assert!(resolve(&mapping("/etc/hostname", "")).is_err());
        let empty = tempfile::tempdir().unwrap();
        let error = resolve(&mapping(empty.path().to_str().unwrap(), "")).unwrap_err();
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "not a device node"
        );
        assert_eq!(
            resolve(&mapping("/dev/null", "rr"))
                .unwrap_err()
                .to_string(),
            "invalid device mode: rr"
        );
    }

    #[test]
    fn rules_parse_as_dockers_pattern_does() {
        let rule = DeviceRule::parse("b *:7 rm").unwrap();
        assert_eq!(
            (rule.kind, rule.major, rule.minor),
            (DeviceKind::Block, None, Some(7))
        );
        assert_eq!((rule.read, rule.write, rule.mknod), (true, false, true));
        for bad in [
            "", "c", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 rx", "c  1:3 r", "c 1:3 r ", "c -1:3 r",
            "c 1:+3 r", "c 1:3 ",
        ] {
            assert!(DeviceRule::parse(bad).is_err(), "{bad:?}");
        }
    }
}
