//! Executing the zygote so that nobody can write to its program (CVE-2019-5736).
//!
//! A container's process runs Hoist's own binary until it executes its program, and until then `/proc/<pid>/exe` of it leads
//! to that file. Three ways, the first that works:
//!
//! 1. a detached read-only overlay of the binary's directory: no copy, and no mount anywhere that could be made writable;
//! 2. a sealed memory file (`memfd_noexec=2` refuses it; counts as idle memory);
//! 3. a copy without a name, opened read-only, on the exec-root's file system.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_string, fsmount, fsopen,
};

use crate::handle::Settings;
use crate::message;
use crate::zygote::MARKER;

/// Raises the limit of open files as far as it goes: every container costs the engine some. Answers what it was, which is
/// what containers get.
pub(crate) fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Starts a zygote of a program whose `main` asks [`crate::is_zygote`]; answers the socket to it. `files` is the soft limit
/// of open files that containers inherit.
pub(crate) fn spawn(settings: &Settings, files: u64) -> io::Result<(OwnedFd, Child)> {
    let (executable, private) = (&settings.executable, &settings.exec_root);
    let (ours, theirs) = message::pair()?;
    let file = File::open(executable)?;
    let (held, path) = overlay(executable)
        .or_else(|_| memory_file(&file))
        .or_else(|_| copy(&file, private))?;
    // Nothing is to be run between fork and exec, so the standard library spawns without forking.
    let child = Command::new(path)
        .arg0(MARKER)
        .arg(files.to_string())
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn();
    drop(held);
    let child = child?;
    for group in &*settings.groups {
        // Where it stays in the engine's group it may end with the engine's service, no worse.
        if let Err(error) = rustix::io::write(group, child.id().to_string().as_bytes()) {
            tracing::warn!(%error, "monitors have no group of their own");
        }
    }
    Ok((ours, child))
}

fn descriptor_path(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn overlay(executable: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let (Some(directory), Some(name)) = (executable.parent(), executable.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let open = |path: &Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    // An overlay without an upper directory wants two lowers; the second is an empty tmpfs.
    let empty = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&empty)?;
    let empty = fsmount(
        &empty,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    for lower in [&open(directory)?, &empty] {
        match fsconfig_set_fd(&context, "lowerdir+", lower.as_fd()) {
            Err(Errno::INVAL | Errno::BADF) => {
                fsconfig_set_string(&context, "lowerdir+", descriptor_path(lower))?;
            }
            result => result?,
        }
    }
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let path = descriptor_path(&mount).join(name);
    // What the overlay shows is the file that was asked for.
    let (shown, wanted) = (std::fs::metadata(&path)?, std::fs::metadata(executable)?);
    if shown.len() != wanted.len() {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok((mount, path))
}

fn memory_file(mut file: &File) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 know no MFD_EXEC and make every memory file executable.
    let memory = match memfd_create(MARKER, flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create(MARKER, flags)?,
        result => result?,
    };
    file.rewind()?;
    let mut memory = File::from(memory);
    io::copy(&mut file, &mut memory)?;
    fcntl_add_seals(
        &memory,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    let path = descriptor_path(&memory);
    Ok((memory.into(), path))
}

fn copy(mut file: &File, exec_root: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::XUSR;
    let mut copy = File::from(rustix::fs::open(exec_root, flags, mode)?);
    file.rewind()?;
    io::copy(&mut file, &mut copy)?;
    let read_only = File::open(descriptor_path(&copy))?;
    let path = descriptor_path(&read_only);
    Ok((read_only.into(), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The three ways, each with a program that tells that it runs, and that cannot be written to.
    #[test]
    fn every_way_gives_a_program_that_runs_and_that_nobody_can_write_to() {
        let busybox = Path::new("/bin/busybox");
        let Ok(file) = File::open(busybox) else {
            hoist_testkit::skip("no busybox");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let ways = [
            ("overlay", overlay(busybox)),
            ("memory file", memory_file(&file)),
            ("copy", copy(&file, directory.path())),
        ];
        for (name, way) in ways {
            let (_held, path) = match way {
                Ok(way) => way,
                Err(error) if !hoist_testkit::is_root() => {
                    hoist_testkit::skip(&format!("{name}: {error}"));
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            };
            let status = Command::new(&path)
                .arg0("busybox")
                .arg("true")
                .status()
                .unwrap();
            assert!(status.success(), "{name}");
            let written = std::fs::OpenOptions::new().write(true).open(&path);
            let refused = match written {
                Err(_) => true,
                // A sealed file opens, and refuses every write.
                Ok(mut file) => std::io::Write::write(&mut file, b"x").is_err(),
            };
            // A nameless copy can be opened anew by root; no name and no descriptor of it leaves this process.
            assert!(refused || name == "copy", "{name}");
        }
    }
}
