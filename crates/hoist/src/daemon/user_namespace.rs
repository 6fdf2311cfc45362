//! What is different about a container whose users are not the host's.
//!
//! In its user namespace nobody may make device nodes, so the host's are mounted; the host's users that own what it is given
//! have to be its own; and only ids that are mapped can be anybody's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use hoist_cgroup::devices::DeviceNode;
use hoist_engine::ports::LaunchFailure;
use hoist_runtime::UserNamespace;
use hoist_runtime::defaults;
use hoist_runtime::spec::{MountEntry, MountFrom, NamespaceSource, Namespaces, Process, Remapped};
use hoist_sys::process::owner_of_namespace;
use rustix::fs::fstat;

use super::launch_spec::refuse;
use super::mounts;
use super::remap::Remapping;

/// What its start needs beyond what every start needs.
pub(super) fn remapped(
    remapping: &Remapping,
    namespaces: &Namespaces,
    process: &Process,
) -> Result<Remapped, LaunchFailure> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: std::io::Error| refuse(format!("{what}: {error}"))
    };
    Ok(Remapped {
        namespace: owning(remapping, namespaces)?,
        visible: UserNamespace::visible().map_err(failed("mount proc and sysfs"))?,
        streams: owner(remapping, process)?,
    })
}

/// The host's user and group of its standard streams: its own user, and its root's group, as pipes of root have it.
pub(super) fn owner(remapping: &Remapping, process: &Process) -> Result<(u32, u32), LaunchFailure> {
    let mapping = &remapping.mapping;
    let stranger = |kind: &str, id: u32| {
        refuse(format!(
            "{kind} {id} is outside the range of ids that containers have (userns-remap)"
        ))
    };
    let mut groups = process.groups.iter().chain([&process.gid]);
    if let Some(group) = groups.find(|group| mapping.groups.to_host(**group).is_none()) {
        return Err(stranger("group", *group));
    }
    match mapping.users.to_host(process.uid) {
        Some(uid) => Ok((uid, mapping.root().1)),
        None => Err(stranger("user", process.uid)),
    }
}

/// The user namespace that owns the namespaces it joins, so that it has a say in them: the engine's own, or, where it joins
/// those of a container of an earlier engine, that one's.
fn owning(remapping: &Remapping, namespaces: &Namespaces) -> Result<OwnedFd, LaunchFailure> {
    let failed = |error: std::io::Error| refuse(format!("look at a namespace's owner: {error}"));
    let number = |fd: BorrowedFd<'_>| {
        let stat = fstat(fd).map_err(|error| failed(error.into()))?;
        Ok::<_, LaunchFailure>((stat.st_dev, stat.st_ino))
    };
    let host = std::fs::File::open("/proc/self/ns/user").map_err(failed)?;
    let host = number(host.as_fd())?;
    let mut found = None;
    let Namespaces {
        pid, network, ipc, ..
    } = namespaces;
    for source in [pid, network, ipc] {
        let NamespaceSource::Join(joined) = source else {
            continue;
        };
        let owner = owner_of_namespace(joined.as_fd()).map_err(failed)?;
        let number = number(owner.as_fd())?;
        if number == host {
            return Err(refuse(
                "cannot share a namespace of the host's users when user namespaces are enabled: it takes --userns=host"
                    .to_owned(),
            ));
        }
        match &found {
            Some((_, other)) if *other != number => {
                return Err(refuse(
                    "cannot share namespaces of containers in different user namespaces".to_owned(),
                ));
            }
            _ => found = Some((owner, number)),
        }
    }
    match found {
        Some((owner, _)) => Ok(owner),
        None => remapping
            .namespace
            .as_fd()
            .try_clone_to_owned()
            .map_err(failed),
    }
}

/// Device nodes as mounts of the host's, the default ones and these.
pub(super) fn devices(
    entries: &[MountEntry],
    nodes: Vec<DeviceNode>,
) -> Result<Vec<MountEntry>, LaunchFailure> {
    let has_own = entries
        .iter()
        .any(|entry| entry.target == "/dev" && !matches!(entry.source, MountFrom::New { .. }));
    let defaults: &[_] = if has_own { &[] } else { defaults::DEVICES };
    let own = nodes.iter().map(|node| (node.path.as_str(), &*node.host));
    let all = defaults
        .iter()
        .map(|node| (node.path, Path::new(node.path)));
    all.chain(own)
        .map(|(target, source)| mounts::bind(target, source, 0, false, true))
        .collect()
}

/// Makes file systems of what may be made in there: the group of terminals is left out where it is nobody's, and the host's
/// message queues are mounted as they are, if they are.
pub(super) fn fit(
    entries: &mut Vec<MountEntry>,
    remapping: &Remapping,
    ipc: &NamespaceSource,
) -> Result<(), LaunchFailure> {
    let is_queues = |entry: &MountEntry| matches!(&entry.source, MountFrom::New { kind, .. } if kind == "mqueue");
    if matches!(ipc, NamespaceSource::Host)
        && let Some(place) = entries.iter().position(is_queues)
    {
        let target = entries.swap_remove(place).target;
        let source = Path::new("/dev/mqueue");
        if source.is_dir() {
            entries.push(mounts::bind(&target, source, 0, false, true)?);
        }
    }
    for entry in entries {
        if let MountFrom::New { kind, options } = &mut entry.source
            && kind == "devpts"
        {
            let is_mapped = |gid: &str| {
                let gid = gid.parse().ok();
                gid.is_some_and(|gid| remapping.mapping.groups.to_host(gid).is_some())
            };
            options.retain(|(name, value)| name != "gid" || is_mapped(value));
        }
    }
    Ok(())
}
