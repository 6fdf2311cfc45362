//! `--userns-remap`: whose subordinate ids the users of containers get, and what follows from that.
//!
//! | asked for | whose ranges of subuid(5) and subgid(5) |
//! |---|---|
//! | `default` | dockremap's; where it has none, they are written |
//! | `user`, `uid` | that user's; a group of the same name, or number, must be there |
//! | `user:group`, `uid:gid` | that user's; the group must be there |
//!
//! As in Docker (moby daemon/daemon_unix.go, `parseRemappedRoot`) it is the user's name that both files are asked about. Docker
//! makes a user `dockremap` with useradd. The engine runs no helper, and what containers need is not a user but ids that nobody
//! else has: so it writes the two lines, under the lock that useradd takes (lckpwdf(3)) and beyond every range that is there.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hoist_engine::records::ContainerRecord;
use hoist_model::{IdMap, UserMapping};
use hoist_net::MakeNamespace;
use hoist_runtime::UserNamespace;
use rustix::fs::{FlockOperation, fcntl_lock};

use super::settings::Settings;

/// The user whose ranges `default` means.
const DEFAULT_USER: &str = "dockremap";
/// The first id given to somebody, and how many each gets (login.defs(5), SUB_UID_MIN and SUB_UID_COUNT).
const FIRST: u32 = 100_000;
const COUNT: u32 = 65_536;
/// How long a program that changes the users may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who stands for the users of containers, and the user namespace in which they do.
pub(crate) struct Remapping {
    pub(crate) mapping: Arc<UserMapping>,
    pub(crate) namespace: Arc<UserNamespace>,
}

/// The mapping that the settings ask for, if they ask for one. Writes ranges for `default`.
pub(crate) fn asked_for(settings: &Settings) -> anyhow::Result<Option<Arc<UserMapping>>> {
    let Some(asked) = &settings.userns_remap else {
        return Ok(None);
    };
    let found =
        mapping(asked, &settings.accounts).with_context(|| format!("userns-remap {asked:?}"))?;
    if found.is_none() {
        tracing::warn!("root cannot be remapped with itself: users of containers are the host's");
    }
    Ok(found.map(Arc::new))
}

impl Remapping {
    /// Goes on in the user namespace of a container that still runs, so that those to come can share what it has; else in a
    /// new one. Needs root; blocking, some milliseconds.
    pub(crate) fn start(
        mapping: Arc<UserMapping>,
        containers: &[Arc<ContainerRecord>],
    ) -> anyhow::Result<Self> {
        let executable = executable()?;
        let there = containers.iter().find_map(|record| there(record, &mapping));
        let namespace = match there {
            Some(there) => UserNamespace::enter(&executable, there),
            None => UserNamespace::start(&executable, &mapping),
        };
        Ok(Self {
            mapping,
            namespace: Arc::new(namespace.context("userns-remap: make a user namespace")?),
        })
    }

    /// What makes network namespaces that belong to it.
    pub(crate) fn of_networks(&self) -> MakeNamespace {
        let namespace = self.namespace.clone();
        MakeNamespace(Arc::new(move || namespace.network_namespace()))
    }

    /// What the snapshotter needs of it.
    pub(crate) fn of_mounts(&self) -> anyhow::Result<Arc<hoist_image::Remap>> {
        let reverse = UserNamespace::start(&executable()?, &self.mapping.reversed())
            .context("userns-remap: make a user namespace")?;
        Ok(Arc::new(hoist_image::Remap {
            mapping: self.mapping.clone(),
            namespace: self.namespace.as_fd().try_clone_to_owned()?,
            reverse: reverse.into_mapping(),
        }))
    }
}

fn executable() -> anyhow::Result<PathBuf> {
    fs::read_link("/proc/self/exe").context("read /proc/self/exe")
}

/// The user namespace of a container of an earlier engine, if it still runs and has this mapping.
fn there(record: &ContainerRecord, mapping: &UserMapping) -> Option<OwnedFd> {
    let pid = record.state.running()?.pid;
    if record.spec.security.userns == "host" {
        return None;
    }
    let namespace = File::open(format!("/proc/{pid}/ns/user")).ok()?;
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let has = |name: &str, map: &IdMap| {
        read(name)
            .split_whitespace()
            .eq(map.text().split_whitespace())
    };
    // Its number may be another process' by now.
    let is_its = read("cgroup").contains(record.id.as_str());
    let same = is_its && has("uid_map", &mapping.users) && has("gid_map", &mapping.groups);
    same.then(|| namespace.into())
}

/// The settings of an engine that remaps so: as in Docker everything is below a directory of its own, named by the ids of
/// root, because files there belong to others than those of an engine that does not.
pub(crate) fn placed(settings: &Settings, mapping: Option<&UserMapping>) -> Settings {
    let mut placed = settings.clone();
    if let Some(mapping) = mapping {
        let (uid, gid) = mapping.root();
        let own = format!("{uid}.{gid}");
        placed.data_root = settings.data_root.join(&own);
        placed.exec_root = settings.exec_root.join(&own);
    }
    placed
}

/// The mapping of what was asked for, from the files in this directory; `None` for root's own.
fn mapping(asked: &str, accounts: &Path) -> anyhow::Result<Option<UserMapping>> {
    if asked == "default" {
        make_ranges(accounts)?;
        return Ok(Some(ranges_of(DEFAULT_USER, None, accounts)?));
    }
    let (user, group) = match asked.split(':').collect::<Vec<_>>()[..] {
        [user] => (user, None),
        [user, group] => (user, Some(group)),
        _ => bail!("invalid user/group specification in --userns-remap: {asked:?}"),
    };
    let passwd = read(&accounts.join("passwd"))?;
    let groups = read(&accounts.join("group"))?;
    let (name, uid) = match user.parse::<u32>() {
        Ok(uid) => {
            let found = entry(&passwd, |_, id| id == uid);
            found.with_context(|| format!("uid {uid} has no entry in /etc/passwd"))?
        }
        Err(_) => entry(&passwd, |name, _| name == user).with_context(|| {
            format!("error during uid lookup for {user:?}: no matching entries in passwd file")
        })?,
    };
    // Without a group of its own a user is told apart from one by number, as it was named.
    let group = group.unwrap_or(user);
    match group.parse::<u32>() {
        Ok(gid) => drop(
            entry(&groups, |_, id| id == gid)
                .with_context(|| format!("gid {gid} has no entry in /etc/group"))?,
        ),
        Err(_) => drop(entry(&groups, |name, _| name == group).with_context(|| {
            format!("error during gid lookup for {group:?}: no matching entries in group file")
        })?),
    }
    if name == "root" {
        return Ok(None);
    }
    ranges_of(name, Some(uid), accounts).map(Some)
}

/// A user's ranges, which subuid(5) has by name or by number; both files must have one.
fn ranges_of(name: &str, uid: Option<u32>, accounts: &Path) -> anyhow::Result<UserMapping> {
    let of = |file: &str| {
        let text = read(&accounts.join(file))?;
        let map = map_of(&text, name, uid);
        if map.to_host(0).is_none() {
            bail!(
                "no {file} ranges found for user {name:?}: add a line such as {name}:{FIRST}:{COUNT} to /etc/{file}"
            );
        }
        Ok(map)
    };
    Ok(UserMapping {
        users: of("subuid")?,
        groups: of("subgid")?,
    })
}

fn map_of(text: &str, name: &str, uid: Option<u32>) -> IdMap {
    let mut ranges: Vec<(u32, u32)> = ranges(text)
        .filter(|(owner, ..)| *owner == name || uid.is_some_and(|uid| *owner == uid.to_string()))
        .map(|(_, first, count)| (first, count))
        .collect();
    ranges.sort_unstable();
    IdMap::stacked(ranges)
}

/// The lines `owner:first:count`; others are passed over, as shadow-utils pass over them.
fn ranges(text: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        Some((
            owner,
            fields.next()?.parse().ok()?,
            fields.next()?.parse().ok()?,
        ))
    })
}

/// The entry of passwd(5) or group(5) that is looked for, by name and number.
fn entry(text: &str, wanted: impl Fn(&str, u32) -> bool) -> Option<(&str, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let id = fields.nth(1)?.parse().ok()?;
        wanted(name, id).then_some((name, id))
    })
}

/// A file that is not there is an empty one.
fn read(path: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read.with_context(|| format!("read {}", path.display())),
    }
}

/// Writes dockremap's ranges where it has none.
fn make_ranges(accounts: &Path) -> anyhow::Result<()> {
    let files = ["subuid", "subgid"].map(|name| accounts.join(name));
    let has = |text: &str| map_of(text, DEFAULT_USER, None).to_host(0).is_some();
    let mut texts = [read(&files[0])?, read(&files[1])?];
    if texts.iter().all(|text| has(text)) {
        return Ok(());
    }
    let lock = lock(&accounts.join(".pwd.lock"))?;
    // Others may have written meanwhile.
    texts = [read(&files[0])?, read(&files[1])?];
    let first = free(&texts).context("no range of ids is left in /etc/subuid and /etc/subgid")?;
    for (file, text) in files.iter().zip(&texts) {
        if has(text) {
            continue;
        }
        let line = format!("{DEFAULT_USER}:{first}:{COUNT}\n");
        append(file, text, &line).with_context(|| format!("write {}", file.display()))?;
        tracing::info!(file = %file.display(), line = line.trim_end(), "ids for the users of containers");
    }
    drop(lock);
    Ok(())
}

/// The first id beyond every range of both files, and beyond what users have.
fn free(texts: &[String; 2]) -> Option<u32> {
    let ends = texts
        .iter()
        .flat_map(|text| ranges(text))
        .map(|(_, first, count)| first.saturating_add(count));
    let first = ends.max().unwrap_or(FIRST).max(FIRST);
    first.checked_add(COUNT).map(|_| first)
}

/// The lock of everything that changes users, held until the file closes.
fn lock(path: &Path) -> anyhow::Result<File> {
    let mut options = File::options();
    let file = options.write(true).create(true).truncate(false).mode(0o600);
    let file = file
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    let begun = Instant::now();
    loop {
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS)
                if begun.elapsed() < PATIENCE =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
        }
    }
}

/// Replaces a file by itself and a line more, whole or not at all.
fn append(path: &Path, text: &str, line: &str) -> io::Result<()> {
    let separator = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    let new = path.with_extension("hoist-new");
    let written = || -> io::Result<()> {
        let mut options = File::options();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&new)?;
        if let Ok(metadata) = fs::metadata(path) {
            file.set_permissions(metadata.permissions())?;
        }
        io::Write::write_all(&mut file, format!("{text}{separator}{line}").as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    written().inspect_err(|_| drop(fs::remove_file(&new)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    const FILES: &[(&str, &str)] = &[
        (
            "passwd",
            "root:x:0:0::/:\nann:x:1000:1000::/:\nbob:x:7:7::/:\n",
        ),
        (
            "group",
            "root:x:0:\nann:x:1000:\nstaff:x:50:ann\nbob:x:7:\n",
        ),
        (
            "subuid",
            "ann:200000:10\n1000:100000:20\nhalf:1:1\nnot a line\nbob:1:2:3\n",
        ),
        ("subgid", "ann:300000:10\n"),
    ];

    #[test]
    fn users_and_groups_are_found_by_name_and_number() {
        let directory = accounts(FILES);
        let check = |asked: &str| mapping(asked, directory.path()).map_err(|e| e.to_string());
        for asked in ["ann", "1000", "ann:staff", "1000:50", "ann:50", "1000:ann"] {
            let found = check(asked).unwrap().unwrap();
            // By name and by number, the lower range first.
            assert_eq!(found.users.text(), "0 100000 20\n20 200000 10\n", "{asked}");
            assert_eq!(found.groups.text(), "0 300000 10\n", "{asked}");
        }
        assert_eq!(check("root"), Ok(None));
        assert_eq!(check("0:0"), Ok(None));
        for (asked, why) in [
            (
                "a:b:c",
                "invalid user/group specification in --userns-remap: \"a:b:c\"",
            ),
            ("9", "uid 9 has no entry in /etc/passwd"),
            (
                "eve",
                "error during uid lookup for \"eve\": no matching entries in passwd file",
            ),
            ("ann:9", "gid 9 has no entry in /etc/group"),
            (
                "ann:eve",
                "error during gid lookup for \"eve\": no matching entries in group file",
            ),
            (
                "bob",
                "no subgid ranges found for user \"bob\": add a line such as bob:100000:65536 to /etc/subgid",
            ),
            (
                "",
                "error during uid lookup for \"\": no matching entries in passwd file",
            ),
        ] {
            assert_eq!(check(asked).unwrap_err(), why);
        }
    }

    #[test]
    fn default_gets_ranges_that_nobody_has_and_keeps_them() {
        let directory = accounts(&[("subuid", "ann:100000:65536"), ("subgid", "bob:200000:7\n")]);
        let find = || mapping("default", directory.path()).unwrap().unwrap();
        let found = find();
        assert_eq!(found.root(), (200_007, 200_007));
        let text = |name| fs::read_to_string(directory.path().join(name)).unwrap();
        assert_eq!(text("subuid"), "ann:100000:65536\ndockremap:200007:65536\n");
        assert_eq!(text("subgid"), "bob:200000:7\ndockremap:200007:65536\n");
        assert_eq!(find(), found);
        assert_eq!(text("subuid").lines().count(), 2);
    }

    #[test]
    fn the_first_ranges_begin_where_shadow_utils_begin() {
        let directory = accounts(&[]);
        let found = mapping("default", directory.path()).unwrap().unwrap();
        assert_eq!(found.users.text(), "0 100000 65536\n");
        assert_eq!(free(&["a:4294900000:60000".into(), String::new()]), None);
    }
}
