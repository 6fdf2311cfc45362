//! Detached overlay mounts of lowers and an upper given by fd.
//!
//! | kernel | how |
//! |---|---|
//! | 6.13   | `lowerdir+`, `upperdir`, `workdir` by fd |
//! | 6.8    | `lowerdir+` and the others by the fds' paths |
//! | before | mount(2) with one page of options at a place of our own, cloned from there and taken down at once |

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen, mount, mount_change, open_tree, unmount,
};

/// The writable side of an overlay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Writable<'a> {
    pub(super) upper: BorrowedFd<'a>,
    pub(super) work: BorrowedFd<'a>,
    /// Nothing written is ever synced.
    pub(super) volatile: bool,
}

/// Mounts an overlay of `lowers`, top first; read-only without a writable side (then the kernel wants two lowers).
///
/// redirect_dir, metacopy and index are off whatever the module's defaults are: an upper directory stays plain files that
/// a later mount, a diff or a copy reads the same way, and layers can not smuggle redirects in.
pub(super) fn mount_overlay(
    lowers: &[BorrowedFd<'_>],
    writable: Option<Writable<'_>>,
    staging: &Staging,
) -> io::Result<OwnedFd> {
    if kernel_is_before(6, 8) {
        return mount_by_options(lowers, writable, staging);
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    // What the mount table shows as its source.
    fsconfig_set_string(context, "source", "overlay")?;
    for lower in lowers {
        set_directory(context, "lowerdir+", *lower)?;
    }
    if let Some(Writable {
        upper,
        work,
        volatile,
    }) = writable
    {
        set_directory(context, "upperdir", upper)?;
        set_directory(context, "workdir", work)?;
        if volatile {
            fsconfig_set_flag(context, "volatile")?;
        }
    }
    for key in ["redirect_dir", "metacopy", "index"] {
        fsconfig_set_string(context, key, "off")?;
    }
    fsconfig_create(context)?;
    let attributes = match writable {
        Some(_) => MountAttrFlags::empty(),
        None => MountAttrFlags::MOUNT_ATTR_RDONLY,
    };
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Where mount(2) puts an overlay for a moment, on kernels that cannot do without.
#[derive(Debug)]
pub(super) struct Staging {
    path: PathBuf,
    /// One mount at a time is there.
    turn: Mutex<()>,
}

impl Staging {
    /// Uses an existing directory, after taking down what a crash left mounted on it.
    pub(super) fn new(path: PathBuf) -> Self {
        while unmount(&path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
        Self {
            path,
            turn: Mutex::new(()),
        }
    }
}

/// For kernels before 6.8. 127 lowers of up to 20 bytes each fit the page that mount(2) takes.
fn mount_by_options(
    lowers: &[BorrowedFd<'_>],
    writable: Option<Writable<'_>>,
    staging: &Staging,
) -> io::Result<OwnedFd> {
    let lowers: Vec<String> = lowers.iter().map(proc_path).collect();
    let mut options = format!(
        "redirect_dir=off,metacopy=off,index=off,lowerdir={}",
        lowers.join(":")
    );
    let mut flags = MountFlags::empty();
    match writable {
        Some(Writable {
            upper,
            work,
            volatile,
        }) => {
            let (upper, work) = (proc_path(&upper), proc_path(&work));
            options += &format!(",upperdir={upper},workdir={work}");
            if volatile {
                options += ",volatile";
            }
        }
        None => flags = MountFlags::RDONLY,
    }
    let options = CString::new(options)?;
    let turn = staging.turn.lock();
    mount("overlay", &staging.path, "overlay", flags, &*options)?;
    // Where the host's mounts are shared, as under systemd, so is this one, and pivot_root(2) takes no shared root.
    let private = mount_change(&staging.path, MountPropagationFlags::PRIVATE);
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let cloned = open_tree(CWD, &staging.path, clone);
    let taken_down = unmount(&staging.path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    drop(turn);
    taken_down?;
    private?;
    Ok(cloned?)
}

fn kernel_is_before(major: u32, minor: u32) -> bool {
    let name = rustix::system::uname();
    let mut numbers = name
        .release()
        .to_str()
        .unwrap_or("")
        .split(|c: char| !c.is_ascii_digit())
        .map_while(|number| number.parse::<u32>().ok());
    let found = numbers.next().zip(numbers.next());
    found.is_some_and(|found| found < (major, minor))
}

/// By fd from 6.13; by the fd's path before.
fn set_directory(context: BorrowedFd<'_>, key: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    match fsconfig_set_fd(context, key, fd) {
        Err(Errno::INVAL | Errno::BADF) => Ok(fsconfig_set_string(context, key, proc_path(&fd))?),
        result => Ok(result?),
    }
}

/// A path that leads to an open file, of bounded length.
pub(super) fn proc_path(fd: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn both_ways_mount_the_same() {
        if !hoist_testkit::is_root() {
            return hoist_testkit::skip("needs root");
        }
        let root = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).unwrap();
            File::open(path).unwrap()
        };
        let staging = Staging::new(root.path().to_owned().join("staging"));
        open("staging");
        let lowers: Vec<File> = (0..127).map(|n| open(&format!("lower-{n}"))).collect();
        fs::write(root.path().join("lower-126/file"), "bottom").unwrap();
        let lowers: Vec<BorrowedFd<'_>> = lowers.iter().map(|file| file.as_fd()).collect();
        for (name, by_options) in [("new", false), ("old", true)] {
            let (upper, work) = (
                open(&format!("{name}/upper")),
                open(&format!("{name}/work")),
            );
            let writable = Some(Writable {
                upper: upper.as_fd(),
                work: work.as_fd(),
                volatile: true,
            });
            let way = if by_options {
                mount_by_options
            } else {
                mount_overlay
            };
            let mount = way(&lowers, writable, &staging).unwrap();
            let at = PathBuf::from(proc_path(&mount));
            assert_eq!(fs::read_to_string(at.join("./file")).unwrap(), "bottom");
            fs::write(at.join("./new"), "x").unwrap();
            assert!(root.path().join(name).join("upper/new").exists());
            let view = way(&lowers, None, &staging).unwrap();
            assert!(fs::write(PathBuf::from(proc_path(&view)).join("./new"), "x").is_err());
        }
        assert_eq!(fs::read_dir(&staging.path).unwrap().count(), 0);
        assert!(!kernel_is_before(2, 6) && kernel_is_before(99, 0));
    }
}
