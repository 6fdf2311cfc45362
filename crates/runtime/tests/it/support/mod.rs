//! Containers for tests: a root file system of busybox, and what runs in it.

#![allow(
    dead_code,
    reason = "two programs share this, and each uses a part of it"
)]

pub mod engine;
pub mod output;

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hoist_cgroup::CgroupHandle;
use hoist_model::ContainerId;
use hoist_runtime::spec::{
    LaunchSpec, MountEntry, MountFrom, NamespaceSource, Namespaces, Process,
};
use hoist_runtime::{capabilities, defaults};
use rustix::fs::CWD;
use rustix::mount::{OpenTreeFlags, open_tree};

/// A directory with busybox in it, removed at the end.
pub struct Rootfs {
    directory: PathBuf,
}

impl Rootfs {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("hoist-runtime-it-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        for name in ["bin", "etc", "tmp", "root", "proc", "sys", "dev"] {
            std::fs::create_dir_all(directory.join(name)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap();
        std::fs::copy(busybox, directory.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "false", "cat", "echo", "sleep", "env", "pwd", "id", "ls", "stty",
            "kill", "hostname", "mount", "head", "tty", "ps", "dd", "seq", "touch", "readlink",
            "stat", "grep", "wc", "tr", "sort", "yes", "test", "mkdir", "chmod", "ln", "date",
        ] {
            std::os::unix::fs::symlink("busybox", directory.join("bin").join(applet)).unwrap();
        }
        std::fs::write(
            directory.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\n",
        )
        .unwrap();
        std::fs::set_permissions(
            directory.join("tmp"),
            std::fs::Permissions::from_mode(0o1777),
        )
        .unwrap();
        Self { directory }
    }

    pub fn path(&self, inside: &str) -> PathBuf {
        self.directory.join(inside.trim_start_matches('/'))
    }

    /// A detached mount of it.
    pub fn mount(&self) -> OwnedFd {
        mount_of(&self.directory)
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

pub fn mount_of(path: &Path) -> OwnedFd {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).unwrap()
}

/// A tmpfs that is soon full, unmounted at the end.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    pub fn new(directory: &Path, size: &str) -> Self {
        let path = directory.join("small");
        std::fs::create_dir(&path).unwrap();
        let options = std::ffi::CString::new(format!("size={size}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &path, "tmpfs", flags, &*options).unwrap();
        Self { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.path, rustix::mount::UnmountFlags::DETACH);
    }
}

/// A new id every time.
pub fn new_id() -> ContainerId {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut bytes = [0x7e; 32];
    bytes[..4].copy_from_slice(&std::process::id().to_be_bytes());
    bytes[4..8].copy_from_slice(&number.to_be_bytes());
    ContainerId::from_bytes(&bytes)
}

/// What a default container of these arguments is, but for cgroups and the network.
pub fn spec(rootfs: &Rootfs, arguments: &[&str]) -> LaunchSpec {
    let mounts = defaults::MOUNTS
        .iter()
        .map(|mount| MountEntry {
            target: mount.target.to_owned(),
            source: MountFrom::New {
                kind: mount.fs_type.to_owned(),
                options: mount
                    .options
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            },
            attributes: u64::from(mount.attributes.read_only)
                | u64::from(mount.attributes.no_suid) << 1
                | u64::from(mount.attributes.no_dev) << 2
                | u64::from(mount.attributes.no_exec) << 3,
            recursive: false,
            propagation: 0,
        })
        .collect();
    let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    LaunchSpec {
        id: new_id(),
        rootfs: rootfs.mount(),
        readonly_rootfs: false,
        hostname: "box".to_owned(),
        domainname: String::new(),
        namespaces: Namespaces {
            pid: NamespaceSource::New,
            network: NamespaceSource::New,
            ipc: NamespaceSource::New,
            uts: NamespaceSource::New,
            cgroup: NamespaceSource::New,
        },
        mounts,
        devices: Vec::new(),
        masked_paths: owned(defaults::MASKED_PATHS),
        readonly_paths: owned(defaults::READ_ONLY_PATHS),
        sysctls: Vec::new(),
        cgroup: CgroupHandle {
            attach: Vec::new(),
            unified: None,
        },
        process: process(arguments),
        init: false,
        log: None,
        attached: Vec::new(),
        kept: Vec::new(),
        remapped: None,
    }
}

/// A default process.
pub fn process(arguments: &[&str]) -> Process {
    let set = capabilities::resolve(&[], &[], false, capabilities::available()).unwrap();
    Process {
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        environment: vec![format!("PATH={}", defaults::PATH)],
        working_directory: "/".to_owned(),
        uid: 0,
        gid: 0,
        groups: vec![0],
        capabilities: capabilities::for_process(set, 0),
        no_new_privileges: false,
        apparmor: None,
        seccomp: None,
        rlimits: Vec::new(),
        oom_score_adj: None,
        terminal: None,
        open_stdin: false,
        stdin_once: false,
    }
}

/// How long anything that has to come may take, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until there is something.
pub fn wait_for<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
