//! Which controllers this host has, and where: a pure reading of `/proc/self/mountinfo`.
//!
//! Three shapes are met: v2 only (one `cgroup2` mount), v1 (one `cgroup` mount per controller or pair of them), and
//! hybrid (v1 mounts plus a `cgroup2` mount that owns whatever controllers v1 left over, often none).

/// A controller, by its v1 name; v2 says `io` for blkio and has `cpuacct`, `devices` and `freezer` built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Cpuset,
    Pids,
    Devices,
    Freezer,
    Blkio,
}

impl Controller {
    pub(super) const ALL: [Self; 8] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Pids,
        Self::Devices,
        Self::Freezer,
        Self::Blkio,
    ];

    /// Those every container is put in; cpuset and blkio only when there is a reason.
    pub(super) const ALWAYS: [Self; 6] = [
        Self::Memory,
        Self::Cpu,
        Self::Cpuacct,
        Self::Pids,
        Self::Devices,
        Self::Freezer,
    ];

    /// The name in v1 mount options.
    pub(super) const fn v1_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Pids => "pids",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Blkio => "blkio",
        }
    }

    /// The name in `cgroup.controllers`; `None` for what every v2 group can do (cgroup-v2.rst).
    pub(super) const fn v2_name(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("memory"),
            Self::Cpu => Some("cpu"),
            Self::Cpuset => Some("cpuset"),
            Self::Pids => Some("pids"),
            Self::Blkio => Some("io"),
            Self::Cpuacct | Self::Devices | Self::Freezer => None,
        }
    }
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct V1Mount {
    pub(super) mount_point: String,
    pub(super) controllers: Vec<Controller>,
}

/// The mounts to use, each controller at most once in `v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) v1: Vec<V1Mount>,
    pub(super) unified: Option<String>,
    /// The v1 hierarchy without controllers in which systemd keeps services apart.
    pub(super) systemd: Option<String>,
}

/// Reads `mountinfo` (proc_pid_mountinfo(5)): `id parent dev root point options [tags] - type source super-options`.
///
/// Where a hierarchy is mounted twice (a bind into some root file system), a mount of its root wins over one of a
/// part, then the first.
pub(super) fn parse(mountinfo: &str) -> Layout {
    let mut mounts: Vec<(bool, &str, String, &str)> = mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let (root, point) = (left.next()?, left.next()?);
            let mut right = right.split(' ');
            let kind = right.next()?;
            let options = right.nth(1)?;
            matches!(kind, "cgroup" | "cgroup2")
                .then(|| (root != "/", kind, unescape(point), options))
        })
        .collect();
    mounts.sort_by_key(|(partial, ..)| *partial);

    let mut layout = Layout::default();
    for (_, kind, mount_point, options) in mounts {
        if kind == "cgroup2" {
            layout.unified.get_or_insert(mount_point);
            continue;
        }
        if options.split(',').any(|option| option == "name=systemd") {
            layout.systemd.get_or_insert(mount_point);
            continue;
        }
        let controllers: Vec<Controller> = Controller::ALL
            .into_iter()
            .filter(|controller| {
                options
                    .split(',')
                    .any(|option| option == controller.v1_name())
            })
            .filter(|controller| {
                !layout
                    .v1
                    .iter()
                    .any(|v1| v1.controllers.contains(controller))
            })
            .collect();
        if !controllers.is_empty() {
            layout.v1.push(V1Mount {
                mount_point,
                controllers,
            });
        }
    }
    layout
}

/// Undoes the octal escapes of mountinfo (`\040` is a space).
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
        {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &after[3..];
            }
            _ => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(mountinfo: &str, expected: Expect) {
        let layout = parse(mountinfo);
        let mut text = String::new();
        for v1 in &layout.v1 {
            let names: Vec<&str> = v1.controllers.iter().map(|c| c.v1_name()).collect();
            text += &format!("{} {}\n", names.join(","), v1.mount_point);
        }
        text += &format!("unified {}\n", layout.unified.as_deref().unwrap_or("-"));
        if let Some(systemd) = &layout.systemd {
            text += &format!("systemd {systemd}\n");
        }
        expected.assert_eq(&text);
    }

    #[test]
    fn v2_only() {
        check(
            "22 28 0:20 / /sys rw,nosuid - sysfs sysfs rw\n\
             29 22 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n",
            expect![[r#"
                unified /sys/fs/cgroup
            "#]],
        );
    }

    #[test]
    fn v1_of_a_systemd_host_with_paired_controllers() {
        check(
            "30 25 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n\
             32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n\
             35 30 0:31 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n\
             36 30 0:32 / /sys/fs/cgroup/net_cls,net_prio rw shared:16 - cgroup cgroup rw,net_cls,net_prio\n\
             37 30 0:33 / /sys/fs/cgroup/memory rw shared:17 - cgroup cgroup rw,memory\n",
            expect![[r#"
                cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct
                memory /sys/fs/cgroup/memory
                unified -
                systemd /sys/fs/cgroup/systemd
            "#]],
        );
    }

    #[test]
    fn hybrid_with_a_mount_in_a_container_and_a_space_in_a_path() {
        check(
            "90 31 0:32 /docker/abc /root/fs/sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
             35 31 0:32 / /my\\040cgroups/memory rw,relatime - cgroup cgroup rw,memory\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
             garbage\n",
            expect![[r#"
                cpu /sys/fs/cgroup/cpu
                memory /my cgroups/memory
                unified /sys/fs/cgroup/unified
            "#]],
        );
    }

    #[test]
    fn escapes_that_are_none_stay() {
        assert_eq!(unescape(r"a\040b\134c\x\0"), r"a b\c\x\0");
    }
}
