//! Kernel parameters of a container: which ones there are, as a type that nothing else gets into.
//!
//! A parameter is writable only where the container's own namespaces hold its value; anything else would be the host's
//! (CVE-2022-0811: `kernel.core_pattern`). The rule and the texts are runc's validator's.

use hoist_model::ErrorClass;

/// Parameters that an IPC namespace has of its own, beside `fs.mqueue.*` (ipc_namespaces(7)).
const IPC: &[&str] = &[
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

/// A parameter that may be set, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// Below `/proc/sys`, no component of it empty or dots.
    path: String,
    value: String,
}

/// The namespaces that are not the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Separate {
    /// Whether the container has an IPC namespace apart from the host's.
    pub ipc: bool,
    /// The same of its network.
    pub network: bool,
    /// The same of its host name.
    pub uts: bool,
}

/// A parameter that may not be set. The texts are those that runc's users know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SysctlError {
    /// No namespace of any container has it.
    #[error("sysctl {0:?} is not in a separate kernel namespace")]
    NotSeparate(String),
    /// The container shares the host's network.
    #[error("sysctl {0:?} not allowed in host network namespace")]
    HostNetwork(String),
    /// The container shares the host's IPC namespace.
    #[error("sysctl {0:?} is not allowed in the hosts ipc namespace")]
    HostIpc(String),
    /// The container shares the host's name, or says it otherwise.
    #[error("sysctl {0:?} is not allowed, as it conflicts with the container's host name")]
    HostName(String),
}

impl SysctlError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

impl Sysctl {
    /// `name` in either way of sysctl(8), `net.ipv4.ip_forward` or `net/ipv4/ip_forward`.
    pub fn new(name: &str, value: &str, separate: Separate) -> Result<Self, SysctlError> {
        let path = path_of(name);
        let known = path
            .split('/')
            .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'));
        if !known {
            return Err(SysctlError::NotSeparate(name.to_owned()));
        }
        if path.starts_with("net/") {
            if !separate.network {
                return Err(SysctlError::HostNetwork(name.to_owned()));
            }
        } else if path.starts_with("fs/mqueue/") || IPC.contains(&path.as_str()) {
            if !separate.ipc {
                return Err(SysctlError::HostIpc(name.to_owned()));
            }
        } else if path == "kernel/domainname" {
            if !separate.uts {
                return Err(SysctlError::HostName(name.to_owned()));
            }
        } else if path == "kernel/hostname" {
            return Err(SysctlError::HostName(name.to_owned()));
        } else {
            return Err(SysctlError::NotSeparate(name.to_owned()));
        }
        Ok(Self {
            path,
            value: value.to_owned(),
        })
    }

    /// The parameter's place below `/proc/sys`, and its value.
    pub(crate) fn into_parts(self) -> (String, String) {
        (self.path, self.value)
    }
}

/// The first separator tells which way a name is written; the other character is then part of a component
/// (`net.ipv4.conf.eth0/1.forwarding`).
fn path_of(name: &str) -> String {
    if name.find(['.', '/']).map(|at| &name[at..=at]) != Some(".") {
        return name.to_owned();
    }
    name.chars()
        .map(|letter| match letter {
            '.' => '/',
            '/' => '.',
            other => other,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Separate = Separate {
        ipc: true,
        network: true,
        uts: true,
    };

    #[test]
    fn what_a_namespace_has_may_be_set() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            (
                "net.ipv4.conf.eth0/1.forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
            (
                "net/ipv4/conf/eth0.1/forwarding",
                "net/ipv4/conf/eth0.1/forwarding",
            ),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
            ("kernel.domainname", "kernel/domainname"),
        ] {
            let sysctl = Sysctl::new(name, "1", OWN).unwrap();
            assert_eq!(sysctl.into_parts(), (path.to_owned(), "1".to_owned()));
        }
    }

    #[test]
    fn what_is_the_hosts_is_refused_by_name() {
        for name in [
            "kernel.core_pattern",
            "kernel/core_pattern",
            "kernel.shm_rmid_forced+kernel.core_pattern",
            "kernel.shm_rmid_forced\nkernel.core_pattern",
            "net.ipv4/../../kernel/core_pattern",
            "net/../kernel/core_pattern",
            "net/ipv4/../../kernel/core_pattern",
            "net.ipv4....kernel.core_pattern",
            "fs.mqueue.//.//.kernel.core_pattern",
            "fs/mqueue/../../kernel/core_pattern",
            "/net/ipv4/ip_forward",
            "net/./ipv4",
            "net.",
            "net",
            "",
            "vm.overcommit_memory",
            "kernel.hostname",
        ] {
            let error = Sysctl::new(name, "1", OWN).unwrap_err();
            assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn a_shared_namespace_is_not_changed() {
        let shared = Separate {
            ipc: false,
            network: false,
            uts: false,
        };
        for (name, text) in [
            ("net.core.somaxconn", "host network"),
            ("kernel.sem", "ipc namespace"),
            ("fs.mqueue.msg_max", "ipc namespace"),
            ("kernel.domainname", "host name"),
        ] {
            let error = Sysctl::new(name, "1", shared).unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
