//! From what is to be started to a plan and the descriptors beside it. Pure but for moving descriptors.

#![allow(
    clippy::cast_sign_loss,
    reason = "clone flags are small and positive, whatever type the constants have"
)]

use std::os::fd::OwnedFd;

use super::{FdIndex, Plan, Step};
use crate::defaults;
use crate::spec::{ExecSpec, LaunchSpec, MountEntry, MountFrom, NamespaceSource, Process};
use hoist_cgroup::devices::DeviceKind;

/// Descriptors in the order the plan names them.
#[derive(Debug, Default)]
pub(crate) struct Fds(pub(crate) Vec<OwnedFd>);

impl Fds {
    fn add(&mut self, fd: OwnedFd) -> FdIndex {
        self.0.push(fd);
        self.0.len() - 1
    }
}

/// The plan of a container's first process. Takes the descriptors out of `spec`.
pub(crate) fn launch(spec: LaunchSpec) -> (Plan, Fds) {
    let mut fds = Fds::default();
    let mut steps = Vec::new();
    let mut namespaces = libc::CLONE_NEWNS as u64;
    let streams_owner = spec.remapped.as_ref().map(|remapped| remapped.streams);
    let remapped = spec.remapped.is_some();
    let cgroup = spec.cgroup.unified.map(|fd| fds.add(fd));
    for fd in spec.cgroup.attach {
        steps.push(Step::JoinCgroup(fds.add(fd)));
    }
    let mut pid_namespace = None;
    match spec.namespaces.pid {
        NamespaceSource::New => namespaces |= libc::CLONE_NEWPID as u64,
        NamespaceSource::Host => {}
        NamespaceSource::Join(fd) => pid_namespace = Some((fds.add(fd), libc::CLONE_NEWPID)),
    }
    let mut own_uts = false;
    let mut entered = Vec::new();
    for (source, kind, name) in [
        (spec.namespaces.network, libc::CLONE_NEWNET, "network"),
        (spec.namespaces.ipc, libc::CLONE_NEWIPC, "ipc"),
        (spec.namespaces.uts, libc::CLONE_NEWUTS, "uts"),
    ] {
        match source {
            NamespaceSource::New => {
                namespaces |= kind as u64;
                own_uts |= kind == libc::CLONE_NEWUTS;
            }
            NamespaceSource::Host => {}
            NamespaceSource::Join(fd) => {
                entered.push(Step::Enter {
                    namespace: fds.add(fd),
                    kinds: kind,
                    name: name.into(),
                });
            }
        }
    }
    let mut visible = Vec::new();
    if let Some(remapped) = spec.remapped {
        // What takes privileges of the host comes first.
        steps.extend(limits(&spec.process));
        steps.extend(spec.process.oom_score_adj.map(Step::OomScore));
        steps.push(Step::Descend {
            user: fds.add(remapped.namespace),
            pid: pid_namespace.take().map(|(fd, _)| fd),
            namespaces: std::mem::take(&mut namespaces),
        });
        visible = remapped.visible;
    }
    steps.extend(entered);
    if matches!(spec.namespaces.cgroup, NamespaceSource::New) {
        // After the cgroups were joined, so that they are its root.
        steps.push(Step::Unshare {
            kinds: libc::CLONE_NEWCGROUP,
            name: "cgroup".into(),
        });
    }
    for mount in visible.into_iter().chain([spec.rootfs]) {
        steps.push(Step::PlaceRoot {
            mount: fds.add(mount),
        });
    }
    let directories = directories(&spec.mounts);
    for entry in spec.mounts {
        let is_new = matches!(&entry.source, MountFrom::New { kind, .. } if kind == "tmpfs");
        steps.push(match entry.source {
            MountFrom::Detached { mount, directory } => Step::Place {
                mount: fds.add(mount),
                target: entry.target.clone(),
                directory,
                attributes: entry.attributes,
                recursive: entry.recursive,
                propagation: entry.propagation,
            },
            MountFrom::OfProcess(process) => Step::Share {
                process: fds.add(process),
                target: entry.target.clone(),
            },
            MountFrom::New { kind, options } => Step::Mount {
                kind,
                options,
                target: entry.target.clone(),
                attributes: entry.attributes,
            },
        });
        if entry.target == "/dev" {
            let is_made = |step: &Step| !remapped || !matches!(step, Step::Node { .. });
            steps.extend(default_devices().filter(is_made));
        }
        if is_new {
            // All that fills a new file system right behind it, so that it can be made ahead (crate::spare).
            let inside = directories
                .iter()
                .filter(|d| is_at_top_of(&entry.target, d));
            steps.extend(inside.cloned().map(Step::MakeDirectory));
        }
    }
    for device in &spec.devices {
        steps.push(Step::Node {
            path: device.path.clone(),
            mode: device.mode
                | match device.kind {
                    DeviceKind::Block => libc::S_IFBLK,
                    DeviceKind::Char | DeviceKind::Any => libc::S_IFCHR,
                },
            major: device.major,
            minor: device.minor,
            uid: device.uid,
            gid: device.gid,
        });
    }
    for sysctl in spec.sysctls {
        let (path, value) = sysctl.into_parts();
        steps.push(Step::Sysctl { path, value });
    }
    if own_uts {
        steps.push(Step::Hostname(spec.hostname));
        if !spec.domainname.is_empty() {
            steps.push(Step::Domainname(spec.domainname));
        }
    }
    steps.push(streams(&spec.process, true));
    if !remapped {
        steps.extend(spec.process.oom_score_adj.map(Step::OomScore));
    }
    steps.extend(spec.readonly_paths.into_iter().map(Step::Protect));
    steps.extend(spec.masked_paths.into_iter().map(Step::Mask));
    // What programs look for to know where they are, and to see what is mounted (observed in every Docker container).
    steps.push(Step::MakeFile("/.dockerenv".into()));
    steps.push(Step::Link {
        path: "/etc/mtab".into(),
        to: "/proc/mounts".into(),
    });
    if !matches!(spec.process.working_directory.as_str(), "" | "/") {
        steps.push(Step::MakeDirectory(spec.process.working_directory.clone()));
    }
    if spec.readonly_rootfs {
        steps.push(Step::ProtectRoot);
    }
    steps.push(Step::Pivot);
    if !remapped {
        steps.extend(limits(&spec.process));
    }
    let (mut plan, fds) = finish(steps, namespaces, pid_namespace, cgroup, &spec.process, fds);
    plan.init = spec.init;
    plan.streams = streams_owner;
    (plan, fds)
}

/// Targets that are directories.
fn directories(mounts: &[MountEntry]) -> Vec<String> {
    let is_directory = |entry: &&MountEntry| match &entry.source {
        MountFrom::Detached { directory, .. } => *directory,
        MountFrom::OfProcess(_) | MountFrom::New { .. } => true,
    };
    let targets = mounts.iter().filter(is_directory);
    targets.map(|entry| entry.target.clone()).collect()
}

fn is_at_top_of(target: &str, path: &str) -> bool {
    path.rsplit_once('/')
        .is_some_and(|(parent, name)| parent == target && !name.is_empty())
}

/// The plan of a further process.
pub(crate) fn exec(spec: ExecSpec) -> (Plan, Fds) {
    let mut fds = Fds::default();
    let mut steps = Vec::new();
    let cgroup = spec.cgroup.unified.map(|fd| fds.add(fd));
    for fd in spec.cgroup.attach {
        steps.push(Step::JoinCgroup(fds.add(fd)));
    }
    let pidfd = fds.add(spec.pidfd);
    let mut kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if spec.remapped.is_some() {
        // These take privileges of the host.
        steps.extend(limits(&spec.process));
        kinds |= libc::CLONE_NEWUSER;
    }
    steps.push(Step::Enter {
        namespace: pidfd,
        kinds,
        name: "the container's".into(),
    });
    if spec.remapped.is_some() {
        steps.push(Step::BecomeRoot);
    }
    steps.push(Step::KeepRoot);
    steps.push(streams(&spec.process, false));
    if spec.remapped.is_none() {
        steps.extend(limits(&spec.process));
    }
    let pid_namespace = Some((pidfd, libc::CLONE_NEWPID));
    let (mut plan, fds) = finish(steps, 0, pid_namespace, cgroup, &spec.process, fds);
    plan.streams = spec.remapped;
    (plan, fds)
}

fn limits(process: &Process) -> impl Iterator<Item = Step> {
    let limits = process.rlimits.iter();
    limits.map(|(resource, soft, hard)| Step::Limit {
        resource: *resource,
        soft: *soft,
        hard: *hard,
    })
}

fn streams(process: &Process, console: bool) -> Step {
    match process.terminal {
        Some((rows, columns)) => Step::Terminal {
            rows,
            columns,
            console,
            uid: process.uid,
        },
        None => Step::Streams { uid: process.uid },
    }
}

fn default_devices() -> impl Iterator<Item = Step> {
    let nodes = defaults::DEVICES.iter().map(|device| Step::Node {
        path: device.path.to_owned(),
        mode: libc::S_IFCHR | 0o666,
        major: device.major,
        minor: device.minor,
        uid: 0,
        gid: 0,
    });
    let links = defaults::SYMLINKS.iter().map(|(path, to)| Step::Link {
        path: (*path).to_owned(),
        to: (*to).to_owned(),
    });
    nodes.chain(links)
}

fn finish(
    mut steps: Vec<Step>,
    namespaces: u64,
    pid_namespace: Option<(FdIndex, i32)>,
    cgroup: Option<FdIndex>,
    process: &Process,
    fds: Fds,
) -> (Plan, Fds) {
    let directory = match process.working_directory.as_str() {
        "" => "/".to_owned(),
        path => path.to_owned(),
    };
    steps.push(Step::WorkingDirectory(directory));
    // While it is still privileged, and before a filter that may forbid the write.
    steps.extend(process.apparmor.clone().map(Step::Confine));
    let seccomp = process.seccomp.as_ref().map(|program| Step::Seccomp {
        program: program.bytes().to_vec(),
        flags: program.flags(),
    });
    let sets = &process.capabilities;
    let credentials = Step::Credentials {
        uid: process.uid,
        gid: process.gid,
        groups: process.groups.clone(),
        bounding: sets.bounding.bits(),
        effective: sets.effective.bits(),
        permitted: sets.permitted.bits(),
        inheritable: sets.inheritable.bits(),
    };
    if process.no_new_privileges {
        // With no_new_privs a filter may be installed without privilege: last, so that it may forbid all the rest.
        steps.push(Step::NoNewPrivileges);
        steps.push(credentials);
        steps.extend(seccomp);
    } else {
        // Without it installing one needs CAP_SYS_ADMIN, which the new credentials lack.
        steps.extend(seccomp);
        steps.push(credentials);
    }
    let candidates = candidates(process);
    let plan = Plan {
        namespaces,
        pid_namespace,
        cgroup,
        steps,
        init: false,
        streams: None,
        candidates,
        arguments: process.arguments.clone(),
        environment: process.environment.clone(),
    };
    (plan, fds)
}

/// Paths to try in turn: the program itself if it has a slash, else below each directory of the process' PATH.
fn candidates(process: &Process) -> Vec<String> {
    let Some(program) = process.arguments.first() else {
        return Vec::new();
    };
    if program.contains('/') {
        return vec![program.clone()];
    }
    let path = process
        .environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="));
    path.unwrap_or(defaults::PATH)
        .split(':')
        .map(|directory| match directory {
            "" => format!("./{program}"),
            directory => format!("{}/{program}", directory.trim_end_matches('/')),
        })
        .collect()
}

#[cfg(test)]
mod tests;
