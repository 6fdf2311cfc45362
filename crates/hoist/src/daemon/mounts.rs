//! Opening what a container mounts: detached copies of host paths, and the file systems every container has.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use hoist_cgroup::devices::{DeviceKind, DeviceNode, DeviceRule};
use hoist_cgroup::{CgroupMount, CgroupVersion};
use hoist_engine::ports::LaunchFailure;
use hoist_engine::records::{ContainerRecord, MountKind, MountPoint};
use hoist_model::container::{NamespaceMode, Propagation, SecuritySpec};
use hoist_runtime::defaults;
use hoist_runtime::spec::{MountEntry, MountFrom};
use hoist_sys::mount_attributes::{
    NO_ACCESS_TIME, NO_DEV, NO_DIRECTORY_ACCESS_TIME, NO_EXEC, NO_SUID, READ_ONLY, STRICT_ATIME,
};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::mount::{OpenTreeFlags, open_tree};

/// Where containers find their cgroups.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// `MS_*` of mount(2) for propagation.
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const MS_SHARED: u64 = 1 << 20;

fn refuse(message: String) -> LaunchFailure {
    LaunchFailure {
        message,
        exit_code: 128,
    }
}

/// The file systems every container has, with what its modes change of them. `memory_of` is the process whose shared memory
/// it takes part in, if its IPC mode says so.
pub(crate) fn default_entries(
    record: &ContainerRecord,
    cgroups: CgroupVersion,
    memory_of: Option<i32>,
) -> Result<Vec<MountEntry>, LaunchFailure> {
    let security = &record.spec.security;
    let mut entries = Vec::with_capacity(8);
    for default in defaults::MOUNTS {
        let has_own = record
            .mounts
            .iter()
            .any(|point| point.destination == default.target);
        if has_own {
            continue;
        }
        if default.target == "/dev/shm" {
            match security.ipc {
                NamespaceMode::Host => {
                    entries.push(bind("/dev/shm", Path::new("/dev/shm"), 0, true, true)?);
                    continue;
                }
                NamespaceMode::None => continue,
                _ => {}
            }
            if let Some(pid) = memory_of {
                entries.push(shared(default.target, pid)?);
                continue;
            }
        }
        let mut attributes = bits(default.attributes);
        if security.privileged && default.target == "/sys" {
            attributes &= !READ_ONLY;
        }
        let mut options: Vec<(String, String)> = default
            .options
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        if default.target == "/dev/shm" && record.spec.shm_size > 0 {
            options.retain(|(name, _)| name != "size");
            options.push(("size".to_owned(), record.spec.shm_size.to_string()));
        }
        entries.push(new(default.target, default.fs_type, options, attributes));
    }
    let attributes = NO_SUID | NO_DEV | NO_EXEC;
    entries.push(match cgroups {
        CgroupVersion::V2 => {
            let read_only = if writes_cgroups(security) {
                0
            } else {
                READ_ONLY
            };
            new(CGROUPS, "cgroup2", Vec::new(), attributes | read_only)
        }
        // The controllers' directories are placed in it one by one.
        CgroupVersion::V1 => {
            let options = vec![("mode".to_owned(), "755".to_owned())];
            new(CGROUPS, "tmpfs", options, attributes)
        }
    });
    Ok(entries)
}

/// Whether a container may write to its cgroups: as it says (`--security-opt writable-cgroups`), else if it is privileged.
pub(crate) fn writes_cgroups(security: &SecuritySpec) -> bool {
    security.writable_cgroups.unwrap_or(security.privileged)
}

/// The container's own directory of each v1 controller and of the unified tree, as Docker shows them to containers that
/// share the host's cgroup namespace. A controller the container has no directory in is left out.
pub(crate) fn cgroup_entries(
    mounts: &[CgroupMount],
    group: &str,
) -> Result<Vec<MountEntry>, LaunchFailure> {
    let mut entries = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let source = format!("{}{group}", mount.mount_point);
        let source = Path::new(&source);
        if source.is_dir() {
            let target = format!("{CGROUPS}/{}", mount.name);
            entries.push(bind(
                &target,
                source,
                NO_SUID | NO_DEV | NO_EXEC,
                false,
                true,
            )?);
        }
    }
    Ok(entries)
}

fn bits(attributes: defaults::MountAttributes) -> u64 {
    let pick = |on: bool, bit: u64| if on { bit } else { 0 };
    pick(attributes.read_only, READ_ONLY)
        | pick(attributes.no_suid, NO_SUID)
        | pick(attributes.no_dev, NO_DEV)
        | pick(attributes.no_exec, NO_EXEC)
        | pick(attributes.strict_atime, STRICT_ATIME)
}

fn new(target: &str, kind: &str, options: Vec<(String, String)>, attributes: u64) -> MountEntry {
    MountEntry {
        target: target.to_owned(),
        source: MountFrom::New {
            kind: kind.to_owned(),
            options,
        },
        attributes,
        recursive: false,
        propagation: 0,
    }
}

/// What the first process of another container has at this path.
fn shared(target: &str, pid: i32) -> Result<MountEntry, LaunchFailure> {
    let path = format!("/proc/{pid}/ns/mnt");
    let namespace =
        fs::File::open(&path).map_err(|error| refuse(format!("open {path}: {error}")))?;
    Ok(MountEntry {
        target: target.to_owned(),
        source: MountFrom::OfProcess(namespace.into()),
        attributes: 0,
        recursive: false,
        propagation: 0,
    })
}

/// A tmpfs with options as `--tmpfs` writes them: `size=64m,mode=1777,noexec,ro`.
pub(crate) fn tmpfs(
    target: &str,
    text: &str,
    read_only: bool,
) -> Result<MountEntry, LaunchFailure> {
    let mut attributes = NO_SUID | NO_DEV | NO_EXEC;
    let mut options = Vec::new();
    let mut has_mode = false;
    for word in text
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
    {
        match word {
            "ro" => attributes |= READ_ONLY,
            "rw" => attributes &= !READ_ONLY,
            "noexec" => attributes |= NO_EXEC,
            "exec" => attributes &= !NO_EXEC,
            "nosuid" => attributes |= NO_SUID,
            "suid" => attributes &= !NO_SUID,
            "nodev" => attributes |= NO_DEV,
            "dev" => attributes &= !NO_DEV,
            "noatime" => attributes |= NO_ACCESS_TIME,
            "strictatime" => attributes |= STRICT_ATIME,
            "nodiratime" => attributes |= NO_DIRECTORY_ACCESS_TIME,
            // What a memory file system of one's own has anyway, or what changes nothing of it.
            "rprivate" | "private" | "rslave" | "slave" | "rshared" | "shared" | "relatime"
            | "norelatime" | "atime" | "diratime" | "nostrictatime" | "tmpcopyup" | "defaults"
            | "async" | "sync" | "dirsync" | "nomand" | "bind" | "rbind" | "remount" => {}
            word => match word.split_once('=') {
                Some((
                    name @ ("size" | "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol"),
                    value,
                )) => {
                    has_mode |= name == "mode";
                    options.push((name.to_owned(), value.to_owned()));
                }
                _ => {
                    return Err(refuse(format!(
                        "invalid tmpfs option {word:?} for {target}"
                    )));
                }
            },
        }
    }
    if !has_mode {
        options.push(("mode".to_owned(), "1777".to_owned()));
    }
    if read_only {
        attributes |= READ_ONLY;
    }
    Ok(new(target, "tmpfs", options, attributes))
}

/// A bind of a host path, opened now: later changes of the path do not move it.
pub(crate) fn bind(
    target: &str,
    source: &Path,
    attributes: u64,
    recursive: bool,
    private: bool,
) -> Result<MountEntry, LaunchFailure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = openat(CWD, source, flags, Mode::empty()).map_err(|error| {
        refuse(format!(
            "bind source path {} for {target}: {error}",
            source.display()
        ))
    })?;
    entry(
        target,
        source,
        &opened,
        attributes,
        recursive,
        if private { MS_PRIVATE } else { 0 },
    )
}

fn entry(
    target: &str,
    source: &Path,
    opened: &OwnedFd,
    attributes: u64,
    recursive: bool,
    propagation: u64,
) -> Result<MountEntry, LaunchFailure> {
    let failed = |error: rustix::io::Errno| {
        refuse(format!("bind {} to {target}: {error}", source.display()))
    };
    let kind = rustix::fs::fstat(opened).map_err(failed)?.st_mode;
    let directory = rustix::fs::FileType::from_raw_mode(kind) == rustix::fs::FileType::Directory;
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    let mount = open_tree(opened.as_fd(), "", flags).map_err(failed)?;
    Ok(MountEntry {
        target: target.to_owned(),
        source: MountFrom::Detached { mount, directory },
        attributes,
        recursive,
        propagation,
    })
}

/// A mount made elsewhere, read-only, of a directory or a file.
pub(crate) fn detached(
    target: &str,
    mount: OwnedFd,
    writable: bool,
) -> Result<MountEntry, LaunchFailure> {
    let stat = rustix::fs::fstat(&mount)
        .map_err(|error| refuse(format!("look at what is mounted at {target}: {error}")))?;
    let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
    Ok(MountEntry {
        target: target.to_owned(),
        source: MountFrom::Detached {
            mount,
            directory: kind == rustix::fs::FileType::Directory,
        },
        attributes: if writable { 0 } else { READ_ONLY },
        recursive: false,
        propagation: MS_PRIVATE,
    })
}

/// The bind or volume of a resolved mount point.
pub(crate) fn of_point(point: &MountPoint) -> Result<MountEntry, LaunchFailure> {
    let attributes = if point.writable { 0 } else { READ_ONLY };
    let (propagation, recursive) = match Propagation::from_name(&point.propagation) {
        Some(Propagation::Shared) => (MS_SHARED, false),
        Some(Propagation::RShared) => (MS_SHARED, point.recursive),
        Some(Propagation::Slave) => (MS_SLAVE, false),
        Some(Propagation::RSlave) => (MS_SLAVE, point.recursive),
        Some(Propagation::Private) => (MS_PRIVATE, false),
        Some(Propagation::RPrivate) | None => (MS_PRIVATE, point.recursive),
    };
    let source = Path::new(&point.source);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let failed = |error: rustix::io::Errno| {
        let why = match error {
            rustix::io::Errno::XDEV => "it leads out of the volume".to_owned(),
            error => error.to_string(),
        };
        refuse(format!(
            "invalid mount config: source path {} for {}: {why}",
            source.join(&point.subpath).display(),
            point.destination
        ))
    };
    let mut opened = openat(CWD, source, flags, Mode::empty()).map_err(failed)?;
    if propagation != MS_PRIVATE && point.kind == MountKind::Bind {
        check_propagation(source, propagation)?;
    }
    if !point.subpath.is_empty() {
        // Links inside a volume belong to whoever writes to it: they must not lead out (CVE-2017-1002101).
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        opened = openat2(
            &opened,
            point.subpath.as_str(),
            flags,
            Mode::empty(),
            resolve,
        )
        .map_err(failed)?;
    }
    let mut made = entry(
        &point.destination,
        source,
        &opened,
        attributes,
        recursive,
        propagation,
    )?;
    made.recursive &= !point.writable_below;
    Ok(made)
}

/// Refuses propagation from what does not propagate, in Docker's words (moby `daemon/oci_linux.go`).
fn check_propagation(source: &Path, propagation: u64) -> Result<(), LaunchFailure> {
    let real = fs::canonicalize(source)
        .map_err(|error| refuse(format!("bind source path {}: {error}", source.display())))?;
    let table = fs::read_to_string("/proc/thread-self/mountinfo")
        .map_err(|error| refuse(format!("read the table of mounts: {error}")))?;
    let Some((place, shared, slave)) = mount_of(&real, &table) else {
        return Ok(());
    };
    let kind = match propagation {
        MS_SHARED if !shared => "a shared mount",
        MS_SLAVE if !shared && !slave => "a shared or slave mount",
        _ => return Ok(()),
    };
    Err(refuse(format!(
        "path {} is mounted on {place} but it is not {kind}",
        source.display()
    )))
}

/// The mount that a path is on (proc_pid_mountinfo(5)): where it is, whether it is shared, whether it is a slave.
fn mount_of(path: &Path, table: &str) -> Option<(String, bool, bool)> {
    let mounts = table.lines().filter_map(|line| {
        let (before, _) = line.split_once(" - ")?;
        let mut words = before.split(' ').skip(4);
        let place = unescaped(words.next()?);
        let has = |kind: &str| before.split(' ').skip(6).any(|word| word.starts_with(kind));
        let found = (place, has("shared:"), has("master:"));
        path.starts_with(&found.0).then_some(found)
    });
    // Of two at the same place the later one is on top.
    mounts.max_by_key(|(place, ..)| place.len())
}

/// Spaces and the like are written as three octal digits.
fn unescaped(text: &str) -> String {
    let codes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let replaced = |text: String, (code, sign): (&str, &str)| text.replace(code, sign);
    codes.into_iter().fold(text.to_owned(), replaced)
}

/// The device nodes of the host, for privileged containers. Terminals and what containers have of their own stay out.
pub(crate) fn host_devices() -> Vec<DeviceNode> {
    let mut nodes = Vec::new();
    let Ok(entries) = fs::read_dir("/dev") else {
        return nodes;
    };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = match metadata.file_type() {
            kind if kind.is_block_device() => DeviceKind::Block,
            kind if kind.is_char_device() => DeviceKind::Char,
            _ => continue,
        };
        if matches!(name.as_str(), "console" | "ptmx" | "tty") {
            continue;
        }
        let device = metadata.rdev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        nodes.push(DeviceNode {
            path: format!("/dev/{name}"),
            host: entry.path(),
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
                read: true,
                write: true,
                mknod: true,
            },
        });
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_are_taken_or_named() {
        let entry = tmpfs("/t", "size=64m,exec,ro", false).unwrap();
        assert_eq!(entry.attributes, READ_ONLY | NO_SUID | NO_DEV);
        let MountFrom::New { options, .. } = entry.source else {
            panic!("a new file system")
        };
        assert_eq!(options[0], ("size".into(), "64m".into()));
        assert!(
            tmpfs("/t", "nope=1", false)
                .unwrap_err()
                .message
                .contains("nope=1")
        );
    }

    #[test]
    fn a_path_is_on_the_last_mount_that_covers_it() {
        let table = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
            30 21 0:5 / /a\\040b rw master:3 - tmpfs tmpfs rw\n\
            31 21 0:6 / /ab rw - tmpfs tmpfs rw\n";
        let of = |path: &str| mount_of(Path::new(path), table).unwrap();
        assert_eq!(of("/x/y"), ("/".to_owned(), true, false));
        assert_eq!(of("/a b/c"), ("/a b".to_owned(), false, true));
        assert_eq!(of("/ab"), ("/ab".to_owned(), false, false));
        assert_eq!(of("/abc"), ("/".to_owned(), true, false));
    }
}
