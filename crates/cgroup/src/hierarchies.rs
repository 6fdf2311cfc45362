//! The mounted hierarchies, opened once, and where each controller lives.

use std::collections::BTreeSet;

use hoist_model::ContainerId;

use super::directory::Directory;
use super::layout::{self, Controller};
use super::{CgroupError, CgroupMount, CgroupSupport, CgroupVersion};

/// How names of groups made in advance begin; a container's name is its id, all digits and `a` to `f`.
pub(super) const READY_PREFIX: &str = "ready-";

/// One mounted hierarchy.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) root: Directory,
    controllers: Vec<Controller>,
    pub(super) unified: bool,
}

/// All of them, v1 first.
#[derive(Debug)]
pub(super) struct Hierarchies {
    pub(super) list: Vec<Hierarchy>,
    /// Without controllers: where systemd on v1 keeps services apart.
    systemd: Option<Directory>,
    parent: String,
    /// Whether the parent is a scope of systemd's, which made it and takes it away.
    delegated: bool,
    /// Controllers of every container.
    pub(super) always: Vec<Controller>,
}

/// `/a/b` as `a/b`, refusing what could leave the hierarchy or is no name.
fn relative(parent: &str) -> Result<&str, CgroupError> {
    let path = parent.trim_matches('/');
    let valid = path.split('/').all(|part| !matches!(part, "" | "." | ".."))
        && path.len() < 2048
        && !path.contains(['\0', '\n']);
    if valid {
        Ok(path)
    } else {
        Err(CgroupError::InvalidValue {
            option: "cgroup parent",
            value: parent.to_owned(),
            reason: "expected an absolute path without . and ..",
        })
    }
}

/// Lets groups below `directory` have the controllers it has itself. One at a time: one that cannot be enabled (such
/// as cpu while real-time tasks run) must not cost the others.
fn delegate(directory: &Directory) -> Result<(), CgroupError> {
    let has = directory.read("cgroup.controllers")?;
    let enabled = directory.read("cgroup.subtree_control")?;
    let enabled: BTreeSet<&str> = enabled.split_whitespace().collect();
    for name in has.split_whitespace() {
        let wanted = Controller::ALL
            .iter()
            .any(|controller| controller.v2_name() == Some(name));
        if !wanted || enabled.contains(name) {
            continue;
        }
        if let Err(error) = directory.write("cgroup.subtree_control", &format!("+{name}")) {
            // EBUSY: this group holds processes, so it can have no children with controllers. Nothing else will work.
            if error.is_busy() {
                return Err(error);
            }
            tracing::warn!(controller = name, %error, "control group controller cannot be enabled");
        }
    }
    Ok(())
}

/// Makes `path` below `root`; on v2 every group on the way hands its controllers down.
fn make_path(root: &Directory, path: &str, unified: bool) -> Result<Directory, CgroupError> {
    let mut made: Option<Directory> = None;
    for part in path.split('/') {
        let above = made.as_ref().unwrap_or(root);
        if unified {
            delegate(above)?;
        }
        made = Some(above.ensure_child(part)?);
    }
    let made = made.ok_or(CgroupError::NotMounted)?;
    if unified {
        delegate(&made)?;
    }
    Ok(made)
}

/// Whether groups count block IO that is not throttled: v1 of newer kernels (6.18 seen) counts nothing until the first
/// throttle is set, and a directory that counts nothing is not worth making. The root's own count tells.
fn counts_io(list: &[Hierarchy]) -> bool {
    let blkio = list
        .iter()
        .find(|hierarchy| hierarchy.controllers.contains(&Controller::Blkio));
    blkio.is_some_and(|hierarchy| {
        let file = "blkio.throttle.io_service_bytes_recursive";
        hierarchy.unified
            || hierarchy
                .root
                .read(file)
                .is_ok_and(|text| text.lines().count() > 1)
    })
}

impl Hierarchies {
    pub(super) fn open(parent: &str, seed: Option<u32>) -> Result<Self, CgroupError> {
        let path = "/proc/self/mountinfo";
        let mountinfo = std::fs::read_to_string(path).map_err(|source| CgroupError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::open_layout(&layout::parse(&mountinfo), parent, seed)
    }

    fn open_layout(
        layout: &layout::Layout,
        parent: &str,
        seed: Option<u32>,
    ) -> Result<Self, CgroupError> {
        let parent = relative(parent)?;
        let mut list = Vec::new();
        for mount in &layout.v1 {
            let root = Directory::open_mount(&mount.mount_point)?;
            let controllers = mount.controllers.clone();
            list.push(Hierarchy {
                root,
                controllers,
                unified: false,
            });
        }
        if let Some(mount_point) = &layout.unified {
            let root = Directory::open_mount(mount_point)?;
            if let Some(seed) = seed {
                // A group with processes of its own can have none below it that is limited.
                Self::seat(&root, parent, seed)?;
            }
            let made = make_path(&root, parent, true)?;
            let names = made.read("cgroup.controllers")?;
            let on_v1 = |controller: &Controller| {
                layout
                    .v1
                    .iter()
                    .any(|mount| mount.controllers.contains(controller))
            };
            let controllers = Controller::ALL
                .into_iter()
                .filter(|controller| !on_v1(controller))
                .filter(|controller| match controller.v2_name() {
                    Some(name) => names.split_whitespace().any(|n| n == name),
                    None => true,
                })
                .collect();
            list.push(Hierarchy {
                root,
                controllers,
                unified: true,
            });
        }
        if list.is_empty() {
            return Err(CgroupError::NotMounted);
        }
        let mut always = Controller::ALWAYS.to_vec();
        if counts_io(&list) {
            always.push(Controller::Blkio);
        }
        let systemd = layout.systemd.as_deref().map(Directory::open_mount);
        let hierarchies = Self {
            list,
            systemd: systemd.transpose()?,
            parent: parent.to_owned(),
            delegated: seed.is_some(),
            always,
        };
        for controller in &hierarchies.always {
            if let Some(position) = hierarchies.position(*controller) {
                hierarchies.ensure_parent_of(position, "")?;
            }
        }
        hierarchies.sweep_ready();
        Ok(hierarchies)
    }

    /// Where a controller lives.
    pub(super) fn position(&self, controller: Controller) -> Option<usize> {
        // Freezing works in any v2 group and is atomic there, so it is preferred to v1's freezer.
        if controller == Controller::Freezer
            && let Some(unified) = self.list.iter().position(|hierarchy| hierarchy.unified)
        {
            return Some(unified);
        }
        self.list
            .iter()
            .position(|hierarchy| hierarchy.controllers.contains(&controller))
    }

    /// Whether a controller is on the v2 tree.
    pub(super) fn is_unified(&self, controller: Controller) -> bool {
        self.position(controller)
            .is_some_and(|position| self.list[position].unified)
    }

    pub(super) fn version(&self) -> CgroupVersion {
        if self.list.iter().all(|hierarchy| hierarchy.unified) {
            CgroupVersion::V2
        } else {
            CgroupVersion::V1
        }
    }

    pub(super) fn support(&self) -> CgroupSupport {
        let has = |controller| self.position(controller).is_some();
        let file = |controller, v1: &str, v2: &str| {
            self.position(controller).is_some_and(|position| {
                let file = if self.list[position].unified { v2 } else { v1 };
                match self.parent_of(position, "") {
                    Ok(Some(parent)) => parent.has(file),
                    // Made with the first container that needs it; files for limits are in no root.
                    _ => self.probe(position, file),
                }
            })
        };
        let either = |files: [(&str, &str); 2]| {
            let mut files = files.into_iter();
            files.any(|(v1, v2)| file(Controller::Blkio, v1, v2))
        };
        CgroupSupport {
            blkio_weight: either([
                ("blkio.weight", "io.weight"),
                ("blkio.bfq.weight", "io.bfq.weight"),
            ]),
            blkio_weight_device: either([
                ("blkio.weight_device", "io.weight"),
                ("blkio.bfq.weight_device", "io.bfq.weight"),
            ]),
            memory_swappiness: file(Controller::Memory, "memory.swappiness", "memory.swappiness"),
            memory: has(Controller::Memory),
            swap: file(
                Controller::Memory,
                "memory.memsw.limit_in_bytes",
                "memory.swap.max",
            ),
            oom_kill_disable: has(Controller::Memory) && !self.is_unified(Controller::Memory),
            cpu_shares: file(Controller::Cpu, "cpu.shares", "cpu.weight"),
            cpu_quota: file(Controller::Cpu, "cpu.cfs_quota_us", "cpu.max"),
            cpuset: has(Controller::Cpuset),
            pids: has(Controller::Pids),
            blkio: has(Controller::Blkio),
            devices: has(Controller::Devices),
        }
    }

    /// Whether a new group of this hierarchy has a file.
    fn probe(&self, position: usize, file: &str) -> bool {
        let root = &self.list[position].root;
        let name = format!("hoist-probe-{}", std::process::id());
        let has = matches!(root.make_child(&name), Ok(Some(made)) if made.has(file));
        if let Err(error) = root.remove_child(&name) {
            tracing::debug!(%error, "an empty control group stays");
        }
        has
    }

    /// The existing parent group of a container in one hierarchy; `Ok(None)` where there is none.
    pub(super) fn parent_of(
        &self,
        position: usize,
        custom: &str,
    ) -> Result<Option<Directory>, CgroupError> {
        let hierarchy = &self.list[position];
        let path = if custom.is_empty() {
            &self.parent
        } else {
            relative(custom)?
        };
        hierarchy.root.child(path)
    }

    /// The parent group of a container in one hierarchy, made where it is missing.
    pub(super) fn ensure_parent_of(
        &self,
        position: usize,
        custom: &str,
    ) -> Result<Directory, CgroupError> {
        let hierarchy = &self.list[position];
        let path = if custom.is_empty() {
            &self.parent
        } else {
            relative(custom)?
        };
        match hierarchy.root.child(path)? {
            Some(parent) if !hierarchy.unified || custom.is_empty() => Ok(parent),
            _ => make_path(&hierarchy.root, path, hierarchy.unified),
        }
    }

    /// Fills `cpuset.cpus` and `cpuset.mems` along the path to a v1 cpuset group: a fresh one has neither, and no
    /// process can enter it then.
    pub(super) fn inherit_cpuset(&self, position: usize, path: &str) -> Result<(), CgroupError> {
        let root = &self.list[position].root;
        let mut above: Option<Directory> = None;
        for part in path.split('/') {
            let from = above.as_ref().unwrap_or(root);
            let Some(group) = from.child(part)? else {
                break;
            };
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if group.read(file)?.trim().is_empty() {
                    group.write(file, from.read(file)?.trim())?;
                }
            }
            above = Some(group);
        }
        Ok(())
    }

    /// The path of a container's group from any hierarchy's root.
    pub(super) fn path_of(&self, custom: &str, name: &str) -> Result<String, CgroupError> {
        let parent = if custom.is_empty() {
            &self.parent
        } else {
            relative(custom)?
        };
        Ok(format!("{parent}/{name}"))
    }

    pub(super) fn is_delegated(&self) -> bool {
        self.delegated
    }

    pub(super) fn has_v1(&self) -> bool {
        self.list.iter().any(|hierarchy| !hierarchy.unified)
    }

    pub(super) fn mounts(&self) -> Vec<CgroupMount> {
        let mount = |hierarchy: &Hierarchy| {
            let mount_point = hierarchy.root.path().to_owned();
            let name = mount_point
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned();
            CgroupMount {
                name,
                mount_point,
                unified: hierarchy.unified,
            }
        };
        self.list.iter().map(mount).collect()
    }

    /// Removes groups made in advance by an engine that was killed.
    fn sweep_ready(&self) {
        for parent in self.parents() {
            let names = parent.children().unwrap_or_default();
            for name in names.iter().filter(|name| name.starts_with(READY_PREFIX)) {
                if let Err(error) = parent.remove_child(name) {
                    tracing::warn!(%error, "left-over control group stays");
                }
            }
        }
    }

    /// The engine's own parent group, where a hierarchy has it.
    fn parents(&self) -> impl Iterator<Item = Directory> {
        (0..self.list.len()).filter_map(|position| self.parent_of(position, "").ok().flatten())
    }

    /// The engine's parent group in the hierarchies that service managers follow, made where it is missing.
    pub(super) fn followed_parents(&self) -> Result<Vec<Directory>, CgroupError> {
        let unified = self.list.iter().filter(|hierarchy| hierarchy.unified);
        unified
            .map(|hierarchy| make_path(&hierarchy.root, &self.parent, true))
            .chain(
                self.systemd
                    .iter()
                    .map(|root| make_path(root, &self.parent, false)),
            )
            .collect()
    }

    pub(super) fn existing(&self) -> Result<Vec<ContainerId>, CgroupError> {
        let mut ids = BTreeSet::new();
        for parent in self.parents() {
            let names = parent.children()?;
            ids.extend(
                names
                    .iter()
                    .filter_map(|name| name.parse::<ContainerId>().ok()),
            );
        }
        Ok(ids.into_iter().collect())
    }

    /// Removes the engine's parent groups unless containers are in them.
    pub(super) fn remove_parent(&self) -> Result<(), CgroupError> {
        if self.delegated {
            // systemd does, once the seed and the last monitor are gone.
            return Ok(());
        }
        let mut failed = None;
        let names = self.existing()?;
        let unified = self.list.iter().map(|h| (&h.root, h.unified));
        let systemd = self.systemd.iter().map(|root| (root, true));
        for (root, followed) in unified.chain(systemd).filter(|_| names.is_empty()) {
            let removed = if followed {
                Self::remove_with_monitors(root, &self.parent)
            } else {
                root.remove_child(&self.parent)
            };
            if let Err(error) = removed {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_stays_below_the_root() {
        assert_eq!(relative("/hoist-x").unwrap(), "hoist-x");
        assert_eq!(relative("/a/b/").unwrap(), "a/b");
        for bad in ["", "/", "/a/../b", "a//b", "/./a", "/a\nb"] {
            let error = relative(bad).unwrap_err();
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
