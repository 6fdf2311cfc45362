//! Files of a result as the protocol tells of them (fsutil `walker.go`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bollard_buildkit_proto::fsutil::types::Stat;
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat, statat,
};

use crate::session::go_mode;

/// Entries of a result that is sent file by file.
const MOST: usize = 4_000_000;

/// All that is below a directory, in the order in which it travels. Blocking.
pub(super) fn walk(root: BorrowedFd<'_>) -> io::Result<Vec<Stat>> {
    let mut entries = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(root, c".", flags, Mode::empty())?;
    let mut stack = vec![level(top, String::new())?];
    while let Some(top) = stack.last_mut() {
        let Some(name) = top.names.pop() else {
            stack.pop();
            continue;
        };
        let found = statat(&top.directory, name.as_str(), AtFlags::SYMLINK_NOFOLLOW)?;
        let path = format!("{}{name}", top.prefix);
        let kind = FileType::from_raw_mode(found.st_mode);
        let linkname = if kind == FileType::Symlink {
            let target = readlinkat(&top.directory, name.as_str(), Vec::new())?;
            target.to_string_lossy().into_owned()
        } else {
            String::new()
        };
        if entries.len() >= MOST {
            return Err(io::Error::other(
                "there are too many files to send one by one",
            ));
        }
        let device = |number: u32| i64::from(number);
        entries.push(Stat {
            path: path.clone(),
            mode: go_mode(found.st_mode),
            uid: found.st_uid,
            gid: found.st_gid,
            size: if kind == FileType::RegularFile {
                found.st_size
            } else {
                0
            },
            mod_time: found
                .st_mtime
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::try_from(found.st_mtime_nsec).unwrap_or(0)),
            linkname,
            devmajor: device(rustix::fs::major(found.st_rdev)),
            devminor: device(rustix::fs::minor(found.st_rdev)),
            ..Stat::default()
        });
        if kind == FileType::Directory {
            let flags = flags | OFlags::NOFOLLOW;
            let directory = openat(&top.directory, name.as_str(), flags, Mode::empty())?;
            stack.push(level(directory, format!("{path}/"))?);
        }
    }
    Ok(entries)
}

/// A directory on the way.
struct Level {
    directory: OwnedFd,
    /// What is still to be told of, last first.
    names: Vec<String>,
    prefix: String,
}

fn level(directory: OwnedFd, prefix: String) -> io::Result<Level> {
    let mut names = Vec::new();
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_str();
        let name = name.map_err(|_| {
            let shown = entry.file_name().to_string_lossy();
            io::Error::other(format!(
                "{prefix}{shown}: a name that is not UTF-8 cannot be sent"
            ))
        })?;
        if !matches!(name, "." | "..") {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(Level {
        directory,
        names,
        prefix,
    })
}

/// Opens a file that was told of.
pub(super) fn open(root: impl AsFd, path: &str) -> io::Result<std::fs::File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let file = openat2(root, path, flags, Mode::empty(), inside)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other(format!("{path} is no file")));
    }
    Ok(file.into())
}
