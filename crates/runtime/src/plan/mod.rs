//! The plan: everything a child does between clone and execve, as data.
//!
//! Every string, path and descriptor is settled before the clone. A descriptor is named by its place in the list that
//! travels beside the plan. The child is a loop over the steps; a failed one comes back as `(step, errno)` and is
//! rendered from here, "mount proc on /proc: EPERM (step 7 of 19)".

mod build;
mod instructions;

use std::fmt;

use serde::{Deserialize, Serialize};

pub(crate) use build::{exec, launch};

/// Place of a descriptor in the list beside the plan.
pub(crate) type FdIndex = usize;

/// What a child does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// `CLONE_NEW*` of the clone itself.
    pub(crate) namespaces: u64,
    /// PID namespace that the forker enters before the clone.
    pub(crate) pid_namespace: Option<(FdIndex, i32)>,
    /// Directory of the unified hierarchy to be born into.
    pub(crate) cgroup: Option<FdIndex>,
    /// In order.
    pub(crate) steps: Vec<Step>,
    /// Whether an init stays behind when the program is executed.
    #[serde(default)]
    pub(crate) init: bool,
    /// The host's user and group that pipes are given to, because the child may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) streams: Option<(u32, u32)>,
    /// The program, if it has a slash; else looked up.
    pub(crate) candidates: Vec<String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<String>,
}

/// One thing a child does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// Write "0" to an open tasks file (v1).
    JoinCgroup(FdIndex),
    /// setns(2).
    Enter {
        namespace: FdIndex,
        kinds: i32,
        name: String,
    },
    /// unshare(2).
    Unshare { kinds: i32, name: String },
    /// Enter a user namespace, be root in it, and go on as a new process whose namespaces belong to it. Steps before this have
    /// the host's privileges, those after it have none of them.
    Descend {
        user: FdIndex,
        /// A PID namespace to be born in.
        pid: Option<FdIndex>,
        namespaces: u64,
    },
    /// Be root of the user namespace that was entered.
    BecomeRoot,
    /// Put the root file system on its place; targets are below it from here on.
    PlaceRoot { mount: FdIndex },
    /// Take the current root as it is (exec).
    KeepRoot,
    /// Move a detached mount to a target, made if missing.
    Place {
        mount: FdIndex,
        target: String,
        directory: bool,
        attributes: u64,
        recursive: bool,
        propagation: u64,
    },
    /// Copy the mount that another process sees at a path, in its mount namespace, and move it to the same path.
    Share { process: FdIndex, target: String },
    /// Make a file system and move it to a target.
    Mount {
        kind: String,
        options: Vec<(String, String)>,
        target: String,
        attributes: u64,
    },
    /// mknod(2) with owner and mode.
    Node {
        path: String,
        mode: u32,
        major: u32,
        minor: u32,
        uid: u32,
        gid: u32,
    },
    /// symlink(2).
    Link { path: String, to: String },
    /// Make the terminal, give it to the monitor, become its session's leader, put it at 0, 1 and 2.
    Terminal {
        rows: u16,
        columns: u16,
        console: bool,
        uid: u32,
    },
    /// Put three descriptors at 0, 1 and 2.
    Streams { uid: u32 },
    /// Write a kernel parameter through a private procfs.
    Sysctl { path: String, value: String },
    /// sethostname(2).
    Hostname(String),
    /// setdomainname(2).
    Domainname(String),
    /// Cover a path with an empty file or directory.
    Mask(String),
    /// Make a path read-only by binding it on itself.
    Protect(String),
    /// Make the root read-only.
    ProtectRoot,
    /// Make the root the root, and let go of what was before.
    Pivot,
    /// mkdir -p below the root.
    MakeDirectory(String),
    /// An empty file below the root, if it is missing.
    MakeFile(String),
    /// chdir, and check that it is inside.
    WorkingDirectory(String),
    /// setrlimit(2).
    Limit { resource: u32, soft: u64, hard: u64 },
    /// Write /proc/self/oom_score_adj through a private procfs.
    OomScore(i32),
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivileges,
    /// Groups, group, user; then exactly these capabilities.
    Credentials {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
        bounding: u64,
        effective: u64,
        permitted: u64,
        inheritable: u64,
    },
    /// Install the filter.
    Seccomp {
        /// Instructions of struct sock_filter, eight bytes each.
        #[serde(with = "instructions")]
        program: Vec<u8>,
        flags: u32,
    },
    /// Be confined by this AppArmor profile (kernel: Documentation/admin-guide/LSM/apparmor.rst).
    Confine(String),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinCgroup(_) => f.write_str("join cgroup"),
            Self::Share { target, .. } => write!(f, "share {target}"),
            Self::Enter { name, .. } => write!(f, "enter {name} namespace"),
            Self::Unshare { name, .. } => write!(f, "make {name} namespace"),
            Self::Descend { .. } => f.write_str("go on in the user namespace"),
            Self::BecomeRoot => f.write_str("become root of the user namespace"),
            Self::PlaceRoot { .. } => f.write_str("place the root file system"),
            Self::KeepRoot => f.write_str("open the root"),
            Self::Place { target, .. } => write!(f, "mount on {target}"),
            Self::Mount { kind, target, .. } => write!(f, "mount {kind} on {target}"),
            Self::Node { path, .. } => write!(f, "make device {path}"),
            Self::Link { path, .. } => write!(f, "make link {path}"),
            Self::Terminal { .. } => f.write_str("make the terminal"),
            Self::Streams { .. } => f.write_str("place the standard streams"),
            Self::Sysctl { path, value } => write!(f, "write {value:?} to /proc/sys/{path}"),
            Self::Hostname(name) => write!(f, "set host name {name}"),
            Self::Domainname(name) => write!(f, "set domain name {name}"),
            Self::Mask(path) => write!(f, "mask {path}"),
            Self::Protect(path) => write!(f, "make {path} read-only"),
            Self::ProtectRoot => f.write_str("make the root file system read-only"),
            Self::Pivot => f.write_str("pivot into the root file system"),
            Self::MakeFile(path) => write!(f, "make file {path}"),
            Self::MakeDirectory(path) => write!(f, "make directory {path}"),
            Self::WorkingDirectory(path) => write!(f, "chdir to cwd {path:?}"),
            Self::Limit { resource, .. } => write!(f, "set resource limit {resource}"),
            Self::OomScore(score) => write!(f, "set oom_score_adj {score}"),
            Self::NoNewPrivileges => f.write_str("forbid new privileges"),
            Self::Credentials { uid, gid, .. } => write!(f, "become user {uid}:{gid}"),
            Self::Confine(profile) => write!(f, "confine by AppArmor profile {profile}"),
            Self::Seccomp { .. } => f.write_str("install the seccomp filter"),
        }
    }
}

/// Why a child did not become the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ChildFailure {
    /// clone3 itself, or what the monitor does before it.
    Clone { what: String, errno: i32 },
    /// A step.
    Step { index: usize, errno: i32 },
    /// There is nothing to execute: not found, not permitted, a directory.
    Execute { errno: i32 },
    /// The kernel refused to execute what is there.
    Refused { errno: i32, path: String },
}

impl Plan {
    /// Whether another process than the one that was cloned becomes the program.
    pub(crate) fn descends(&self) -> bool {
        let descends = |step: &Step| matches!(step, Step::Descend { .. });
        self.steps.iter().any(descends)
    }

    /// Whether its process is in a user namespace other than the engine's: file systems of its own have to be made there.
    pub(crate) fn has_own_users(&self) -> bool {
        let users = libc::CLONE_NEWUSER;
        let kinds = self.steps.iter().map(|step| match step {
            Step::Enter { kinds, .. } | Step::Unshare { kinds, .. } => *kinds,
            _ => 0,
        });
        let kinds = kinds.fold(0, |all, one| all | one);
        self.descends()
            || kinds & users != 0
            || self.namespaces & u64::from(users.unsigned_abs()) != 0
    }

    /// Whether the program is looked for in PATH.
    pub(crate) fn looks_up(&self) -> bool {
        self.arguments
            .first()
            .is_some_and(|program| !program.contains('/'))
    }
}

/// A failed start in words, and the exit code Docker shows for it.
pub(crate) fn render(plan: &Plan, failure: &ChildFailure) -> (String, i32) {
    let text = |errno: &i32| errno_text(*errno);
    match failure {
        ChildFailure::Clone { what, errno } => (format!("{what}: {}", text(errno)), 128),
        ChildFailure::Step { index, errno } => {
            let total = plan.steps.len();
            let step = plan
                .steps
                .get(*index)
                .map(ToString::to_string)
                .unwrap_or_default();
            let sentence = format!("{step}: {} (step {} of {total})", text(errno), index + 1);
            let code = match plan.steps.get(*index) {
                Some(Step::WorkingDirectory(_)) => 127,
                _ => 128,
            };
            (sentence, code)
        }
        ChildFailure::Execute { errno } => {
            let program = plan
                .arguments
                .first()
                .map(String::as_str)
                .unwrap_or_default();
            match *errno {
                libc::ENOENT if plan.looks_up() => (
                    format!("exec: {program:?}: executable file not found in $PATH"),
                    127,
                ),
                libc::ENOENT | libc::ENOTDIR => (
                    format!("exec: {program:?}: stat {program}: no such file or directory"),
                    127,
                ),
                libc::EISDIR => (format!("exec: {program:?}: is a directory"), 126),
                libc::EACCES => (format!("exec: {program:?}: permission denied"), 126),
                _ => (format!("exec: {program:?}: {}", text(errno)), 126),
            }
        }
        ChildFailure::Refused { errno, path } => {
            let code = if *errno == libc::ENOENT { 127 } else { 126 };
            (format!("exec {path}: {}", text(errno)), code)
        }
    }
}

/// What strerror(3) says, in lower case as Go does, without "os error".
fn errno_text(errno: i32) -> String {
    hoist_model::in_words(&std::io::Error::from_raw_os_error(errno).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(program: &str) -> Plan {
        Plan {
            namespaces: 0,
            pid_namespace: None,
            cgroup: None,
            init: false,
            streams: None,
            steps: vec![
                Step::Pivot,
                Step::Mount {
                    kind: "proc".into(),
                    options: vec![],
                    target: "/proc".into(),
                    attributes: 0,
                },
            ],
            candidates: vec![],
            arguments: vec![program.into()],
            environment: vec![],
        }
    }

    #[test]
    fn failures_name_step_and_operand() {
        let failure = ChildFailure::Step {
            index: 1,
            errno: libc::EPERM,
        };
        let (text, code) = render(&plan("x"), &failure);
        assert_eq!(
            text,
            "mount proc on /proc: operation not permitted (step 2 of 2)"
        );
        assert_eq!(code, 128);
    }

    #[test]
    fn exec_failures_have_the_words_the_docker_client_looks_for() {
        for (program, errno, text, code) in [
            (
                "nope",
                libc::ENOENT,
                "exec: \"nope\": executable file not found in $PATH",
                127,
            ),
            (
                "/nope",
                libc::ENOENT,
                "exec: \"/nope\": stat /nope: no such file or directory",
                127,
            ),
            (
                "/etc",
                libc::EACCES,
                "exec: \"/etc\": permission denied",
                126,
            ),
            ("/etc", libc::EISDIR, "exec: \"/etc\": is a directory", 126),
        ] {
            let rendered = render(&plan(program), &ChildFailure::Execute { errno });
            assert_eq!(rendered, (text.to_owned(), code));
        }
    }
}
