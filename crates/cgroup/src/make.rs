//! Making a container's groups: anew, or from what was made in advance.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::directory::Directory;
use super::group::Group;
use super::hierarchies::{Hierarchies, READY_PREFIX};
use super::layout::Controller;
use super::{CgroupError, CgroupHandle, CgroupRequest, JOIN, apply};

/// The v1 directories of a container to come: default devices, no limits, no processes.
#[derive(Debug)]
pub(super) struct Ready {
    group: Group,
    /// Per hierarchy the directory and its [`JOIN`] file; both stay what they are when it is renamed.
    directories: Vec<(usize, Directory, OwnedFd)>,
}

impl Ready {
    /// Makes one; on error nothing stays.
    pub(super) fn make(hierarchies: &Arc<Hierarchies>, number: u64) -> Result<Self, CgroupError> {
        let name = format!("{READY_PREFIX}{number}");
        let group = Group::new(Arc::clone(hierarchies), &name, "");
        let mut ready = Self {
            group,
            directories: Vec::new(),
        };
        ready
            .fill()
            .inspect_err(|_| drop(ready.group.remove_now()))?;
        Ok(ready)
    }

    fn fill(&mut self) -> Result<(), CgroupError> {
        let hierarchies = &self.group.hierarchies;
        for position in self
            .group
            .positions_for(&hoist_model::container::Resources::default())
        {
            if hierarchies.list[position].unified {
                continue;
            }
            let parent = hierarchies.ensure_parent_of(position, "")?;
            let directory = make_fresh(&parent, &self.group.name)?;
            if hierarchies.position(Controller::Devices) == Some(position) {
                apply::restrict_devices(&directory)?;
            }
            let procs = directory.open_for_writing(JOIN)?;
            self.directories.push((position, directory, procs));
        }
        Ok(())
    }

    /// What is to be removed when it is not used after all.
    pub(super) fn into_group(self) -> Group {
        self.group
    }

    /// Takes the directory of one hierarchy under its final name.
    fn claim(
        &mut self,
        position: usize,
        parent: &Directory,
        name: &str,
    ) -> Result<Option<(Directory, OwnedFd)>, CgroupError> {
        let Some(index) = self.directories.iter().position(|(at, ..)| *at == position) else {
            return Ok(None);
        };
        if !parent.rename_child(&self.group.name, name)? {
            parent.remove_child(name)?;
            if !parent.rename_child(&self.group.name, name)? {
                return Ok(None);
            }
        }
        let (_, directory, procs) = self.directories.swap_remove(index);
        Ok(Some((directory.renamed(parent, name), procs)))
    }
}

/// Makes one directory, replacing what an earlier run of the container left.
fn make_fresh(parent: &Directory, name: &str) -> Result<Directory, CgroupError> {
    for _ in 0..2 {
        if let Some(directory) = parent.make_child(name)? {
            return Ok(directory);
        }
        parent.remove_child(name)?;
    }
    Err(CgroupError::Directory {
        verb: "make",
        path: format!("{}/{name}", parent.path()),
        source: Errno::EXIST.into(),
    })
}

/// One directory of the container being made.
struct Made {
    position: usize,
    directory: Directory,
    /// Its [`JOIN`] file, where it was made in advance.
    procs: Option<OwnedFd>,
}

impl Group {
    /// Makes the directories and sets everything; see [`super::Cgroups::create`]. Also what of `ready` was not used.
    pub(super) fn create(
        &self,
        request: &CgroupRequest<'_>,
        mut ready: Option<Ready>,
    ) -> (Result<CgroupHandle, CgroupError>, Option<Group>) {
        let made = self.make(request, ready.as_mut());
        if made.is_err() {
            for error in self.remove_now() {
                tracing::warn!(%error, "control group of a failed start stays");
            }
        }
        let unused = ready
            .filter(|ready| !ready.directories.is_empty())
            .map(Ready::into_group);
        (made, unused)
    }

    fn make(
        &self,
        request: &CgroupRequest<'_>,
        mut ready: Option<&mut Ready>,
    ) -> Result<CgroupHandle, CgroupError> {
        let hierarchies = &self.hierarchies;
        let mut all: Vec<Made> = Vec::new();
        for position in self.positions_for(request.resources) {
            let parent = hierarchies.ensure_parent_of(position, &self.parent)?;
            let claimed = match ready.as_mut() {
                Some(ready) => ready.claim(position, &parent, &self.name)?,
                None => None,
            };
            all.push(match claimed {
                Some((directory, procs)) => Made {
                    position,
                    directory,
                    procs: Some(procs),
                },
                None => {
                    let directory = if self.slice.is_some() {
                        // systemd made it, fresh.
                        parent.ensure_child(&self.name)?
                    } else {
                        make_fresh(&parent, &self.name)?
                    };
                    Made {
                        position,
                        directory,
                        procs: None,
                    }
                }
            });
            if hierarchies.position(Controller::Cpuset) == Some(position)
                && !hierarchies.list[position].unified
            {
                let path = hierarchies.path_of(&self.parent, &self.name)?;
                hierarchies.inherit_cpuset(position, &path)?;
            }
        }
        let find = |controller| {
            let position = hierarchies.position(controller)?;
            all.iter().find(|made| made.position == position)
        };
        let writes = apply::limit_writes(hierarchies, request.resources)?;
        apply::apply(&writes, |controller| {
            find(controller).map(|made| &made.directory)
        })?;
        if let Some(made) = find(Controller::Devices) {
            let (directory, in_advance) = (&made.directory, made.procs.is_some());
            match (
                hierarchies.is_unified(Controller::Devices),
                request.privileged,
            ) {
                (true, true) => {}
                (true, false) => apply::attach_device_program(directory, request.devices)?,
                (false, true) if in_advance => apply::allow_all_devices(directory)?,
                (false, true) => {}
                (false, false) => {
                    if !in_advance {
                        apply::restrict_devices(directory)?;
                    }
                    apply::add_devices(directory, request.devices)?;
                }
            }
        }
        let mut handle = CgroupHandle {
            attach: Vec::new(),
            unified: None,
        };
        for Made {
            position,
            directory,
            procs,
        } in all
        {
            match procs {
                Some(procs) => handle.attach.push(procs),
                None if hierarchies.list[position].unified => {
                    handle.unified = Some(directory.into_fd());
                }
                None => handle.attach.push(directory.open_for_writing(JOIN)?),
            }
        }
        Ok(handle)
    }
}
