//! From a container's record to what the runtime starts: mounts opened, users and capabilities resolved, cgroups made.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use hoist_cgroup::devices::{self, DeviceNode, DeviceRule};
use hoist_cgroup::{CgroupHandle, CgroupRequest, CgroupVersion, Cgroups, Group};
use hoist_engine::containers::log_attributes;
use hoist_engine::ports::{ExecLaunch, LaunchFailure, LaunchRequest, NetworkNamespace};
use hoist_engine::records::{ContainerRecord, MountKind};
use hoist_model::container::{LogFormat, LogOptions, NamespaceMode};
use hoist_model::{ContainerId, chain};
use hoist_runtime::seccomp::Seccomp;
use hoist_runtime::spec::{
    ExecSpec, LaunchSpec, LogSpec, MountEntry, NamespaceSource, Namespaces, Streams,
};
use hoist_runtime::sysctl::{Separate, Sysctl};
use hoist_runtime::{Seed, defaults};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::apparmor::AppArmor;
use super::mounts;
use super::process::{Wanted, hostname, process};
use super::remap::Remapping;
use super::settings::StartDefaults;
use super::user_namespace;

/// What of this machine a start needs.
pub(crate) struct Machine {
    pub(crate) cgroups: Cgroups,
    pub(crate) seccomp: Seccomp,
    /// `--cgroup-parent` of the containers that have one. Locked for single look-ups and changes.
    pub(crate) parents: Mutex<HashMap<ContainerId, String>>,
    pub(crate) apparmor: AppArmor,
    /// Who stands for the users of containers, if not they themselves.
    pub(crate) remapping: Option<Remapping>,
    pub(crate) seeds: Seeds,
    /// What containers get that do not say. Read once per start, replaced by a reload.
    pub(crate) defaults: RwLock<Arc<StartDefaults>>,
    /// Keeps the engine's scope there, where it has one.
    pub(crate) _seed: Option<Seed>,
}

/// What a seed is made from.
pub(crate) struct Seeds {
    pub(crate) executable: PathBuf,
    pub(crate) exec_root: PathBuf,
}

impl Machine {
    /// A process to begin the container's own scope with, if it gets one.
    pub(crate) fn seed(&self, parent: &str) -> Result<Option<Seed>, LaunchFailure> {
        if !self.cgroups.wants_scope(parent) {
            return Ok(None);
        }
        let seed = Seed::start(&self.seeds.executable, &self.seeds.exec_root);
        seed.map(Some)
            .map_err(|error| refuse(format!("begin a scope: {error}")))
    }

    pub(crate) fn defaults(&self) -> Arc<StartDefaults> {
        let defaults = self.defaults.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&defaults)
    }

    /// Who stands for the users of this container.
    fn remapping(&self, record: &ContainerRecord) -> Option<&Remapping> {
        let shares = record.spec.security.userns == "host";
        self.remapping.as_ref().filter(|_| !shares)
    }

    pub(crate) fn group(&self, id: &ContainerId) -> Group {
        let parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
        self.cgroups
            .group(id, parents.get(id).map_or("", String::as_str))
    }

    /// Notes under which parent a container's cgroups are, where that is not the engine's own.
    pub(crate) fn note_parent(&self, id: &ContainerId, parent: &str) {
        if !parent.is_empty() {
            let mut parents = self.parents.lock().unwrap_or_else(PoisonError::into_inner);
            parents.insert(id.clone(), parent.to_owned());
        }
    }

    /// Whether this process is one of the container's: its id may be another's by now.
    pub(crate) fn holds(&self, id: &ContainerId, pid: i32) -> bool {
        self.group(id).procs().is_ok_and(|pids| pids.contains(&pid))
    }

    pub(crate) fn remove_cgroup(&self, id: &ContainerId, parent: &str) {
        self.parents
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id);
        self.cgroups.remove(self.cgroups.group(id, parent));
    }

    pub(crate) fn oom_killed(&self, id: &ContainerId) -> bool {
        self.group(id).oom_kills().is_ok_and(|kills| kills > 0)
    }
}

/// A refusal of something the caller asked for, or of the machine.
pub(super) fn refuse(message: String) -> LaunchFailure {
    LaunchFailure {
        message,
        exit_code: 128,
    }
}

pub(super) fn refused<E: std::error::Error + 'static>(error: E) -> LaunchFailure {
    refuse(chain(&error))
}

/// Everything for a container's first process.
pub(crate) fn launch_spec(
    machine: &Machine,
    request: LaunchRequest,
    engines: &StartDefaults,
    seed: Option<&Seed>,
) -> Result<LaunchSpec, LaunchFailure> {
    let record = request.record.clone();
    let spec = &record.spec;
    let security = &spec.security;
    let privileged = security.privileged;
    if let Some(request) = spec.resources.device_requests.first() {
        return Err(refuse(request.to_string()));
    }
    let rootfs = request.rootfs;
    let mut detached = request.detached;
    let mut nodes = devices::resolve(&spec.resources.devices).map_err(refused)?;
    let mut rules: Vec<DeviceRule> = nodes.iter().map(|node: &DeviceNode| node.rule).collect();
    for text in &spec.resources.device_cgroup_rules {
        rules.push(DeviceRule::parse(text).map_err(refused)?);
    }
    let process = process(
        machine,
        &record,
        rootfs.as_fd(),
        &Wanted {
            engines,
            process: &spec.process,
            environment: &[],
            linked: &request.environment,
            privileged,
            user: &spec.process.user,
            terminal: spec
                .process
                .terminal
                .then(|| request.console_size.unwrap_or((24, 80))),
            open_stdin: spec.process.open_stdin,
            stdin_once: spec.process.stdin_once,
        },
    )?;
    let memory_of = request.joins.ipc;
    let namespaces = namespaces(machine, &record, request.network, request.joins)?;
    let sysctls = sysctls(&security.sysctls, &namespaces)?;
    let remapped = match machine.remapping(&record) {
        Some(remapping) => Some(user_namespace::remapped(remapping, &namespaces, &process)?),
        None => None,
    };
    machine.note_parent(&record.id, &spec.cgroup_parent);
    let cgroup = machine
        .cgroups
        .create(
            &record.id,
            &CgroupRequest {
                parent: &spec.cgroup_parent,
                resources: &spec.resources,
                devices: &rules,
                privileged,
                seed: seed.map(Seed::pid),
            },
        )
        .map_err(refused)?;
    let mut entries = mounts::default_entries(&record, machine.cgroups.version(), memory_of)?;
    if machine.cgroups.version() == CgroupVersion::V1 {
        let group = machine.group(&record.id).path().map_err(refused)?;
        entries.extend(mounts::cgroup_entries(&machine.cgroups.mounts(), &group)?);
    }
    for (target, source) in &request.etc_files {
        entries.push(mounts::bind(target, source, 0, false, true)?);
    }
    for point in &record.mounts {
        entries.push(match point.kind {
            MountKind::Tmpfs => mounts::tmpfs(&point.destination, &point.options, !point.writable)?,
            MountKind::Bind | MountKind::Volume => mounts::of_point(point)?,
            MountKind::Image => {
                let at = |(destination, _): &(String, _)| *destination == point.destination;
                let found = detached.iter().position(at);
                let place = found.ok_or_else(|| {
                    refuse(format!("image mount at {}: no mount", point.destination))
                })?;
                mounts::detached(
                    &point.destination,
                    detached.swap_remove(place).1,
                    point.writable,
                )?
            }
        });
    }
    if privileged {
        nodes.extend(mounts::host_devices());
    }
    if let Some(remapping) = machine.remapping(&record) {
        let devices = user_namespace::devices(&entries, std::mem::take(&mut nodes))?;
        entries.extend(devices);
        user_namespace::fit(&mut entries, remapping, &namespaces.ipc)?;
    }
    entries.sort_by_key(|entry: &MountEntry| depth(&entry.target));
    let paths = |own: &Option<Vec<String>>, default: &[&str]| match own {
        Some(paths) => paths.clone(),
        None if privileged => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    };
    let mut readonly_paths = paths(&security.readonly_paths, defaults::READ_ONLY_PATHS);
    if machine.cgroups.version() == CgroupVersion::V1 && !mounts::writes_cgroups(security) {
        // Made read-only once what is in it was placed.
        readonly_paths.push(mounts::CGROUPS.to_owned());
    }
    let attached: Vec<(Streams, UnixStream)> = request
        .attached
        .into_iter()
        .map(|(wanted, stream)| (super::zygote::streams(wanted), stream))
        .collect();
    Ok(LaunchSpec {
        id: record.id.clone(),
        rootfs,
        readonly_rootfs: security.readonly_rootfs,
        hostname: hostname(&record),
        domainname: spec.domainname.clone(),
        namespaces,
        mounts: entries,
        devices: nodes,
        masked_paths: paths(&security.masked_paths, defaults::MASKED_PATHS),
        readonly_paths,
        sysctls,
        cgroup,
        process,
        init: spec.init.unwrap_or(engines.init),
        log: log_spec(&record, request.log_path)?,
        attached,
        kept: request.kept,
        remapped,
    })
}

/// Everything for a further process of a running container, whose first process has this id.
pub(crate) fn exec_spec(
    machine: &Machine,
    request: &ExecLaunch,
    pidfd: OwnedFd,
    pid: i32,
    stream: Option<UnixStream>,
) -> Result<ExecSpec, LaunchFailure> {
    let record = &request.container;
    let wanted = &request.request;
    let cgroup: CgroupHandle = machine
        .cgroups
        .group(&record.id, &record.spec.cgroup_parent)
        .join()
        .map_err(refused)?;
    let root = std::fs::File::open(format!("/proc/{pid}/root")).map_err(|error| {
        refuse(format!(
            "open the root of container {}: {error}",
            record.id.as_str()
        ))
    })?;
    let user = if wanted.process.user.is_empty() {
        &record.spec.process.user
    } else {
        &wanted.process.user
    };
    let mut own = wanted.process.clone();
    if own.working_directory.is_empty() {
        own.working_directory
            .clone_from(&record.spec.process.working_directory);
    }
    // Those of its start, which a reload since then does not change.
    let engines = match &record.started_with {
        Some(kept) => Arc::new(StartDefaults::of_start(kept)),
        None => machine.defaults(),
    };
    let process = process(
        machine,
        record,
        root.as_fd(),
        &Wanted {
            engines: &engines,
            process: &own,
            environment: &record.spec.process.environment,
            linked: &request.environment,
            privileged: wanted.privileged || record.spec.security.privileged,
            user,
            terminal: own
                .terminal
                .then(|| request.console_size.unwrap_or((24, 80))),
            open_stdin: wanted.attach.stdin,
            stdin_once: true,
        },
    )?;
    let streams = Streams {
        stdin: wanted.attach.stdin,
        stdout: wanted.attach.stdout,
        stderr: wanted.attach.stderr,
    };
    let remapped = match machine.remapping(record) {
        Some(remapping) => Some(user_namespace::owner(remapping, &process)?),
        None => None,
    };
    Ok(ExecSpec {
        id: request.id.clone(),
        pidfd,
        cgroup,
        process,
        remapped,
        attached: stream.map(|stream| (streams, stream)),
    })
}

/// Refuses parameters that would be the host's.
fn sysctls(
    asked: &BTreeMap<String, String>,
    namespaces: &Namespaces,
) -> Result<Vec<Sysctl>, LaunchFailure> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let separate = Separate {
        ipc: is_separate(&namespaces.ipc, "ipc")?,
        network: is_separate(&namespaces.network, "net")?,
        uts: is_separate(&namespaces.uts, "uts")?,
    };
    asked
        .iter()
        .map(|(name, value)| Sysctl::new(name, value, separate).map_err(refused))
        .collect()
}

/// Whether a namespace is not the host's, which is the engine's own. A container that is joined may share that.
fn is_separate(source: &NamespaceSource, kind: &str) -> Result<bool, LaunchFailure> {
    match source {
        NamespaceSource::New => Ok(true),
        NamespaceSource::Host => Ok(false),
        NamespaceSource::Join(fd) => {
            let own = rustix::fs::stat(format!("/proc/self/ns/{kind}"));
            let joined = rustix::fs::fstat(fd);
            match (own, joined) {
                (Ok(own), Ok(joined)) => {
                    Ok((own.st_dev, own.st_ino) != (joined.st_dev, joined.st_ino))
                }
                (Err(error), _) | (_, Err(error)) => {
                    Err(refuse(format!("look at the {kind} namespace: {error}")))
                }
            }
        }
    }
}

fn namespaces(
    machine: &Machine,
    record: &ContainerRecord,
    network: NetworkNamespace,
    joins: hoist_engine::ports::Joins,
) -> Result<Namespaces, LaunchFailure> {
    let security = &record.spec.security;
    let of = |pid: i32, kind: &str| {
        let path = format!("/proc/{pid}/ns/{kind}");
        std::fs::File::open(&path)
            .map(|file| NamespaceSource::Join(file.into()))
            .map_err(|error: io::Error| refuse(format!("open {path}: {error}")))
    };
    let source = |mode: &NamespaceMode, join: Option<i32>, kind: &str| match (mode, join) {
        (NamespaceMode::Host, _) => Ok(NamespaceSource::Host),
        (NamespaceMode::Container(_), Some(pid)) => of(pid, kind),
        _ => Ok(NamespaceSource::New),
    };
    // Docker's default: the host's view on v1 and hybrid hosts, one's own on v2.
    let own_view = match &security.cgroup {
        Some(NamespaceMode::Host) => false,
        Some(_) => true,
        None => machine.cgroups.version() == CgroupVersion::V2,
    };
    Ok(Namespaces {
        pid: source(&security.pid, joins.pid, "pid")?,
        network: match network {
            NetworkNamespace::Own(fd) => NamespaceSource::Join(fd),
            NetworkNamespace::Host => NamespaceSource::Host,
            NetworkNamespace::OfProcess(pid) => of(pid, "net")?,
        },
        ipc: source(&security.ipc, joins.ipc, "ipc")?,
        uts: source(&security.uts, None, "uts")?,
        cgroup: if own_view {
            NamespaceSource::New
        } else {
            NamespaceSource::Host
        },
    })
}

fn log_spec(
    record: &ContainerRecord,
    path: Option<std::path::PathBuf>,
) -> Result<Option<LogSpec>, LaunchFailure> {
    let Some(path) = path else { return Ok(None) };
    let log = &record.spec.log;
    let options =
        LogOptions::of(&log.driver, &log.options).map_err(|error| refuse(error.to_string()))?;
    let attributes = match log_attributes(record) {
        none if none.is_empty() => String::new(),
        some => serde_json::json!(some).to_string(),
    };
    Ok(Some(LogSpec {
        path,
        max_size: options.max_size,
        max_files: options.max_files,
        format: LogFormat::of(&log.driver).unwrap_or_default(),
        attributes,
        buffer: options.buffer,
    }))
}

fn depth(target: &str) -> usize {
    target.split('/').filter(|part| !part.is_empty()).count()
}
