//! An empty volume takes over what the image has at its mount point (observed behaviour of Docker's volumes).
//!
//! Everything by fd below the container's root: `openat2` with `RESOLVE_IN_ROOT`, so that no link of a hostile image
//! leads out. Owner, mode and modification time of files and of the mount point itself come along.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    chmodat, chownat, fstat, futimens, mkdirat, mknodat, openat, openat2, readlinkat, statat,
    symlinkat, utimensat,
};

use crate::error::ContainerError;

/// Deeper trees are refused: the walk keeps two descriptors open per level.
const DEEPEST: usize = 200;

/// Fills `volume` from `destination` below `rootfs` if the volume is empty and the image has a directory there.
pub(crate) fn copy_up(
    rootfs: &OwnedFd,
    destination: &str,
    volume: &Path,
) -> Result<(), ContainerError> {
    let failed = |source: io::Error| ContainerError::Io {
        context: format!(
            "copy {destination} of the image to volume {}",
            volume.display()
        ),
        source,
    };
    let relative = destination.trim_start_matches('/');
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let from = match openat2(rootfs, relative, flags, Mode::empty(), resolve) {
        Ok(from) => from,
        // Nothing there, or no directory: nothing to take over.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(()),
        Err(error) => return Err(failed(error.into())),
    };
    let to = openat(CWD, volume, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    if !is_empty(&to).map_err(|error| failed(error.into()))? {
        return Ok(());
    }
    copy_directory(from.as_fd(), to.as_fd(), 0).map_err(failed)
}

fn is_empty(directory: &OwnedFd) -> rustix::io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

fn copy_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other("directories nested too deeply"));
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            copy_entry(from, to, name, depth)?;
        }
    }
    let stat = fstat(from)?;
    rustix::fs::fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    rustix::fs::fchmod(to, mode_of(&stat))?;
    futimens(to, &times_of(&stat))?;
    Ok(())
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
) -> io::Result<()> {
    let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let nofollow = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match kind {
        FileType::Directory => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | nofollow;
            let source = openat(from, name, flags, Mode::empty())?;
            mkdirat(to, name, Mode::RWXU)?;
            let target = openat(to, name, flags, Mode::empty())?;
            return copy_directory(source.as_fd(), target.as_fd(), depth + 1);
        }
        FileType::RegularFile => {
            let mut source = File::from(openat(
                from,
                name,
                OFlags::RDONLY | nofollow,
                Mode::empty(),
            )?);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | nofollow;
            let mut target = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
            io::copy(&mut source, &mut target)?;
        }
        FileType::Symlink => {
            let link = readlinkat(from, name, Vec::new())?;
            symlinkat(link.as_c_str(), to, name)?;
        }
        kind => mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?,
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != FileType::Symlink {
        chmodat(to, name, mode_of(&stat), AtFlags::empty())?;
    }
    utimensat(to, name, &times_of(&stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn mode_of(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times_of(stat: &Stat) -> Timestamps {
    let timespec = |seconds: i64, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    Timestamps {
        last_access: timespec(stat.st_atime, stat.st_atime_nsec),
        last_modification: timespec(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn content_modes_and_links_come_along_once() {
        let dir = tempfile::tempdir().unwrap();
        let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
        std::fs::create_dir_all(root.join("data/sub")).unwrap();
        std::fs::create_dir(&volume).unwrap();
        std::fs::write(root.join("data/sub/file"), "text").unwrap();
        std::fs::set_permissions(root.join("data"), PermissionsExt::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", root.join("data/link")).unwrap();
        copy_up(&open(&root), "/data", &volume).unwrap();
        assert_eq!(
            std::fs::read_to_string(volume.join("sub/file")).unwrap(),
            "text"
        );
        assert_eq!(
            std::fs::read_link(volume.join("link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(
            volume.metadata().unwrap().permissions().mode() & 0o7777,
            0o1777
        );
        std::fs::write(volume.join("sub/file"), "own").unwrap();
        copy_up(&open(&root), "/data", &volume).unwrap();
        assert_eq!(
            std::fs::read_to_string(volume.join("sub/file")).unwrap(),
            "own"
        );
    }

    #[test]
    fn a_link_at_the_mount_point_stays_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let (root, volume) = (dir.path().join("root"), dir.path().join("volume"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir(&volume).unwrap();
        std::fs::create_dir(dir.path().join("secret")).unwrap();
        std::fs::write(dir.path().join("secret/key"), "k").unwrap();
        symlink(dir.path().join("secret"), root.join("data")).unwrap();
        copy_up(&open(&root), "/data", &volume).unwrap();
        assert_eq!(std::fs::read_dir(&volume).unwrap().count(), 0);
    }
}
