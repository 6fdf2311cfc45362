//! Where a file system puts the inodes of directories that come and go.
//!
//! ext4 without a journal does not take an inode again that was freed in the last minutes, and looks at every one of those
//! whenever it makes another (fs/ext4/ialloc.c, `recently_deleted`). It makes a directory in its parent's group of inodes, so
//! where containers come and go by the thousand, or where the data root's neighbours do, each inode costs a walk over all
//! that went: after 3,000 containers 1.4 ms for the eleven of the next one, most of what the engine computes for it. Below a
//! directory that is marked as the top of a hierarchy (chattr(1), `T`) it chooses another group for each.

use std::fs;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{IFlags, fstat, ioctl_getflags, ioctl_setflags, major, minor};

/// Has the file system spread the directories that will be made in this one, if it is one that walks. Best effort: where it
/// cannot be told, or refuses, directories are only made more slowly. Some system calls.
pub fn scatter(directory: impl AsFd) {
    let directory = directory.as_fd();
    let marked = walks(directory).and_then(|walks| {
        if walks {
            let flags = ioctl_getflags(directory)?;
            ioctl_setflags(directory, flags | IFlags::TOPDIR)?;
        }
        Ok(())
    });
    if let Err(error) = marked {
        tracing::debug!(%error, "directories are made beside each other");
    }
}

/// Whether this is on ext4 without a journal.
fn walks(directory: impl AsFd) -> io::Result<bool> {
    let device = fstat(directory)?.st_dev;
    let link = format!("/sys/dev/block/{}:{}", major(device), minor(device));
    // What is on no block device is no ext4.
    let Ok(place) = fs::read_link(link) else {
        return Ok(false);
    };
    let Some(name) = place.file_name() else {
        return Ok(false);
    };
    let task = std::path::Path::new("/sys/fs/ext4")
        .join(name)
        .join("journal_task");
    // fs/ext4/sysfs.c: the process that writes the journal, or this word. Other file systems have no such file.
    Ok(fs::read(task).is_ok_and(|task| task.starts_with(b"<none>")))
}
