//! Out-of-memory kills: the counter, and a descriptor that tells when to look at it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;

use super::layout::Controller;
use super::{CgroupError, Group};

/// Readable when something happened to the memory of a container; [`Group::oom_kills`] then tells whether a process
/// was killed. May be readable for nothing.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OomWatch> for OwnedFd {
    fn from(watch: OomWatch) -> Self {
        watch.fd
    }
}

impl OomWatch {
    /// Takes what is pending, so that the descriptor is readable again only after something new. Does not block.
    pub fn drain(&self) {
        let mut buffer = [0; 4096];
        while rustix::io::read(&self.fd, &mut buffer[..]).is_ok_and(|count| count == buffer.len()) {
        }
    }
}

fn counter(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, _)| *name == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}

impl Group {
    /// How many processes of the container the kernel's out-of-memory killer took so far. 0 without a memory
    /// controller.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        let Some(directory) = self.directory(Controller::Memory)? else {
            return Ok(0);
        };
        let unified = self.hierarchies().is_unified(Controller::Memory);
        let file = if unified {
            "memory.events"
        } else {
            "memory.oom_control"
        };
        Ok(counter(&directory.read(file)?, "oom_kill").unwrap_or(0))
    }

    /// Watches for out-of-memory kills; `Ok(None)` without a memory controller.
    ///
    /// v1: an eventfd registered in `cgroup.event_control`; it also fires when the group goes away. v2: inotify on
    /// `memory.events`.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>, CgroupError> {
        let Some(directory) = self.directory(Controller::Memory)? else {
            return Ok(None);
        };
        let read_error = |file: &str, source: rustix::io::Errno| CgroupError::Read {
            path: format!("{}/{file}", directory.path()),
            source: source.into(),
        };
        if self.hierarchies().is_unified(Controller::Memory) {
            let file = "memory.events";
            let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
            let fd = inotify::init(flags).map_err(|errno| read_error(file, errno))?;
            let path = format!("/proc/self/fd/{}/{file}", directory.fd().as_raw_fd());
            inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)
                .map_err(|errno| read_error(file, errno))?;
            return Ok(Some(OomWatch { fd }));
        }
        let file = "memory.oom_control";
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| read_error(file, errno))?;
        let control = directory.open_for_reading(file)?;
        let registration = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
        directory.write("cgroup.event_control", &registration)?;
        Ok(Some(OomWatch { fd }))
    }
}

#[cfg(test)]
mod tests {
    use super::counter;

    #[test]
    fn both_versions_spell_the_counter_alike() {
        let v1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        let v2 = "low 0\nhigh 0\nmax 12\noom 1\noom_kill 2\noom_group_kill 0\n";
        assert_eq!(
            (counter(v1, "oom_kill"), counter(v2, "oom_kill")),
            (Some(3), Some(2))
        );
        assert_eq!(counter("oom 1\n", "oom_kill"), None);
    }
}
