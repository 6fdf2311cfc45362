//! One control group directory: an fd, the path errors name, and the few operations on it.

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;

use super::CgroupError;

/// An open control group directory.
#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: String,
}

fn open_below(at: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat2(
        at,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

impl Directory {
    /// Opens the root of a mounted hierarchy.
    pub(super) fn open_mount(mount_point: &str) -> Result<Self, CgroupError> {
        let fd = rustix::fs::open(mount_point, DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| directory_error("open", mount_point, errno))?;
        Ok(Self {
            fd,
            path: mount_point.to_owned(),
        })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The same directory after [`Directory::rename_child`].
    pub(super) fn renamed(self, parent: &Self, name: &str) -> Self {
        Self {
            fd: self.fd,
            path: parent.child_path(name),
        }
    }

    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }

    fn child_path(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// Opens the group `name` (a relative path) below; `Ok(None)` where there is none.
    pub(super) fn child(&self, name: &str) -> Result<Option<Self>, CgroupError> {
        match open_below(self.fd(), name, DIRECTORY) {
            Ok(fd) => Ok(Some(Self {
                fd,
                path: self.child_path(name),
            })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(directory_error("open", &self.child_path(name), errno)),
        }
    }

    /// Makes the group `name` below; `Ok(None)` where there is one already.
    pub(super) fn make_child(&self, name: &str) -> Result<Option<Self>, CgroupError> {
        match mkdirat(self.fd(), name, Mode::from_raw_mode(0o755)) {
            Ok(()) => self.child(name),
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(directory_error("make", &self.child_path(name), errno)),
        }
    }

    /// Gives a group below another name; v1 only. `Ok(false)` where there is one of that name.
    pub(super) fn rename_child(&self, name: &str, to: &str) -> Result<bool, CgroupError> {
        match renameat(self.fd(), name, self.fd(), to) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(errno) => Err(directory_error("rename", &self.child_path(name), errno)),
        }
    }

    /// Opens the group `name` below, making it where there is none.
    pub(super) fn ensure_child(&self, name: &str) -> Result<Self, CgroupError> {
        if let Some(child) = self.child(name)? {
            return Ok(child);
        }
        self.make_child(name)?;
        self.child(name)?
            .ok_or_else(|| directory_error("open", &self.child_path(name), Errno::NOENT))
    }

    /// Removes the group `name` and those below it, which must hold no process. Gone already is fine.
    pub(super) fn remove_child(&self, name: &str) -> Result<(), CgroupError> {
        match unlinkat(self.fd(), name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(errno) => {
                return Err(directory_error("remove", &self.child_path(name), errno));
            }
        }
        // Busy: processes, or groups that the container made inside.
        if let Some(child) = self.child(name)? {
            for inner in child.children()? {
                child.remove_child(&inner)?;
            }
        }
        match unlinkat(self.fd(), name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(directory_error("remove", &self.child_path(name), errno)),
        }
    }

    /// Names of the groups directly below.
    pub(super) fn children(&self) -> Result<Vec<String>, CgroupError> {
        let list_error = |errno| directory_error("list", &self.path, errno);
        let is_group = |name: &CStr| name != c"." && name != c"..";
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(list_error)? {
            let entry = entry.map_err(list_error)?;
            if entry.file_type() == FileType::Directory
                && is_group(entry.file_name())
                && let Ok(name) = entry.file_name().to_str()
            {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Opens a control file for reading, to be named by its descriptor.
    pub(super) fn open_for_reading(&self, file: &str) -> Result<OwnedFd, CgroupError> {
        open_below(self.fd(), file, OFlags::RDONLY).map_err(|errno| CgroupError::Read {
            path: self.child_path(file),
            source: errno.into(),
        })
    }

    /// Opens a control file for writing, to be handed to another process.
    pub(super) fn open_for_writing(&self, file: &str) -> Result<OwnedFd, CgroupError> {
        open_below(self.fd(), file, OFlags::WRONLY)
            .map_err(|errno| self.unwritten(file, "", errno.into()))
    }

    /// As [`Directory::open_for_writing`], of a file at a relative path; `Ok(None)` where there is none.
    pub(super) fn find_for_writing(&self, path: &str) -> Result<Option<OwnedFd>, CgroupError> {
        match open_below(self.fd(), path, OFlags::WRONLY) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.unwritten(path, "", errno.into())),
        }
    }

    /// Writes a control file in one write(2).
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        self.try_write(file, value)
            .map_err(|source| self.unwritten(file, value, source))
    }

    /// Writes one value after the other, each with a write of its own, to a file opened once.
    pub(super) fn write_each(
        &self,
        file: &str,
        values: impl Iterator<Item = String>,
    ) -> Result<(), CgroupError> {
        let mut opened = std::fs::File::from(self.open_for_writing(file)?);
        for value in values {
            opened
                .write_all(value.as_bytes())
                .map_err(|source| self.unwritten(file, &value, source))?;
        }
        Ok(())
    }

    fn unwritten(&self, file: &str, value: &str, source: io::Error) -> CgroupError {
        CgroupError::Write {
            path: self.child_path(file),
            value: value.to_owned(),
            source,
        }
    }

    fn try_write(&self, file: &str, value: &str) -> io::Result<()> {
        let fd = open_below(self.fd(), file, OFlags::WRONLY)?;
        std::fs::File::from(fd).write_all(value.as_bytes())
    }

    /// Whether the group has a control file of this name.
    pub(super) fn has(&self, file: &str) -> bool {
        rustix::fs::accessat(
            self.fd(),
            file,
            rustix::fs::Access::EXISTS,
            AtFlags::empty(),
        )
        .is_ok()
    }

    /// Reads a control file whole.
    pub(super) fn read(&self, file: &str) -> Result<String, CgroupError> {
        self.try_read(file).map_err(|source| CgroupError::Read {
            path: self.child_path(file),
            source,
        })
    }

    fn try_read(&self, file: &str) -> io::Result<String> {
        let fd = open_below(self.fd(), file, OFlags::RDONLY)?;
        let mut text = String::with_capacity(1024);
        std::fs::File::from(fd).read_to_string(&mut text)?;
        Ok(text)
    }

    /// Process ids in this group and those below it, in the caller's pid namespace.
    pub(super) fn procs(&self) -> Result<Vec<i32>, CgroupError> {
        let mut pids: Vec<i32> = self
            .read("cgroup.procs")?
            .lines()
            .filter_map(|line| line.parse().ok())
            .filter(|pid| *pid > 0)
            .collect();
        for name in self.children()? {
            if let Some(child) = self.child(&name)? {
                pids.extend(child.procs()?);
            }
        }
        Ok(pids)
    }
}

fn directory_error(verb: &'static str, path: &str, errno: Errno) -> CgroupError {
    CgroupError::Directory {
        verb,
        path: path.to_owned(),
        source: errno.into(),
    }
}
