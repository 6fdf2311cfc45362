//! `--user` and `--group-add` against the container's own `/etc/passwd` and `/etc/group`.
//!
//! One parser for run, exec and build (CVE-2026-30892). The files belong to the image, so they are hostile: opened
//! below the root whatever they link to, regular files only, and no larger than any honest one. A missing file is an
//! empty one. Lines that do not parse are skipped, as C libraries do.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd};

use hoist_model::ErrorClass;
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

/// The largest `/etc/passwd` or `/etc/group` that is read, in bytes.
const SIZE_LIMIT: usize = 8 << 20;

/// The largest user or group id, Docker's rule.
const ID_LIMIT: u32 = i32::MAX as u32;

const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

/// Who a process in the container is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups: the primary one first (CVE-2022-36109), each once.
    pub groups: Vec<u32>,
    /// Home directory, `/` when nothing says; the value of `HOME` when the environment has none.
    pub home: String,
    /// Login name, if the user has an entry.
    pub name: Option<String>,
}

/// A user or group could not be resolved. The texts of the first three are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The user is not a number and has no entry.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    UnknownUser(String),
    /// The group is not a number and has no entry.
    #[error("unable to find group {0}: no matching entries in group file")]
    UnknownGroup(String),
    /// A number is outside 0 to 2147483647.
    #[error("uids and gids must be in range 0-2147483647: {0}")]
    OutOfRange(String),
    /// A database is larger than any honest one.
    #[error("/{path} in the container is larger than {SIZE_LIMIT} bytes")]
    TooLarge {
        /// The file.
        path: &'static str,
    },
    /// A database exists and cannot be read.
    #[error("read /{path} in the container")]
    Read {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl UserError {
    /// The class a façade maps to its protocol's status.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::UnknownUser(_)
            | Self::UnknownGroup(_)
            | Self::OutOfRange(_)
            | Self::TooLarge { .. } => ErrorClass::InvalidArgument,
            Self::Read { .. } => ErrorClass::Internal,
        }
    }
}

/// Resolves `user` (`name` or `uid`, either with `:group` or `:gid`, or empty for root) inside `rootfs`.
///
/// Blocking; reads at most two files of the container. Opened with `RESOLVE_IN_ROOT`, so a link in the image cannot
/// name a file of the host.
pub fn resolve(
    rootfs: BorrowedFd<'_>,
    user: &str,
    group_add: &[String],
) -> Result<User, UserError> {
    let passwd = read_database(rootfs, PASSWD)?;
    let group = read_database(rootfs, GROUP)?;
    resolve_in(&passwd, &group, user, group_add)
}

fn read_database(rootfs: BorrowedFd<'_>, path: &'static str) -> Result<Vec<u8>, UserError> {
    let read_error = |source: io::Error| UserError::Read { path, source };
    // Looked at before it is opened: opening a device that an image put here is an act (a watchdog starts), and
    // opening a FIFO waits.
    let found = match openat2(
        rootfs,
        path,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    ) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
        Err(errno) => return Err(read_error(errno.into())),
    };
    let stat = fstat(&found).map_err(|errno| read_error(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(read_error(io::Error::other("not a regular file")));
    }
    let own = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = open(own, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| read_error(errno.into()))?;
    let mut content = Vec::new();
    File::from(file)
        .take(SIZE_LIMIT as u64 + 1)
        .read_to_end(&mut content)
        .map_err(read_error)?;
    if content.len() > SIZE_LIMIT {
        return Err(UserError::TooLarge { path });
    }
    Ok(content)
}

/// Fields of the lines of a colon-separated database that have at least `minimum` of them.
fn entries(database: &[u8], minimum: usize) -> impl Iterator<Item = Vec<&str>> {
    database
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .map(|line| line.trim_end_matches('\r').split(':').collect::<Vec<_>>())
        .filter(move |fields| fields.len() >= minimum && !fields[0].is_empty())
}

/// A number as users write ids. `None`: not a number at all.
fn parse_id(text: &str) -> Option<Result<u32, UserError>> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let id = text.parse().ok().filter(|id| *id <= ID_LIMIT);
    Some(id.ok_or_else(|| UserError::OutOfRange(text.to_owned())))
}

/// An id in a database: entries with an impossible one are skipped, never wrapped.
fn entry_id(text: &str) -> Option<u32> {
    parse_id(text)?.ok()
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn find_user<'a>(passwd: &'a [u8], matches: impl Fn(&str, u32) -> bool) -> Option<PasswdEntry<'a>> {
    // name:password:uid:gid:gecos:home:shell, the last three being optional in what people write.
    entries(passwd, 4).find_map(|fields| {
        let (uid, gid) = (entry_id(fields[2])?, entry_id(fields[3])?);
        matches(fields[0], uid).then(|| PasswdEntry {
            name: fields[0],
            uid,
            gid,
            home: fields.get(5).copied().unwrap_or(""),
        })
    })
}

fn find_group(group: &[u8], matches: impl Fn(&str, u32) -> bool) -> Option<u32> {
    entries(group, 3).find_map(|fields| {
        let gid = entry_id(fields[2])?;
        matches(fields[0], gid).then_some(gid)
    })
}

/// The group called `text`, or with that number, which needs no entry.
fn resolve_group(group: &[u8], text: &str) -> Result<u32, UserError> {
    match parse_id(text) {
        Some(id) => id,
        None => find_group(group, |name, _| name == text)
            .ok_or_else(|| UserError::UnknownGroup(text.to_owned())),
    }
}

fn resolve_in(
    passwd: &[u8],
    group: &[u8],
    user: &str,
    group_add: &[String],
) -> Result<User, UserError> {
    let (user_text, group_text) = user.split_once(':').unwrap_or((user, ""));
    let user_text = if user_text.is_empty() { "0" } else { user_text };

    // A number is always an id, even where an entry has it as its name.
    let number = parse_id(user_text).transpose()?;
    let entry = find_user(passwd, |name, uid| match number {
        Some(number) => uid == number,
        None => name == user_text,
    });
    let (uid, mut gid) = match (&entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(number)) => (number, 0),
        (None, None) => return Err(UserError::UnknownUser(user_text.to_owned())),
    };

    let mut supplementary = Vec::new();
    if !group_text.is_empty() {
        gid = resolve_group(group, group_text)?;
    } else if let Some(entry) = &entry {
        // Membership counts only where no group was named.
        supplementary.extend(entries(group, 4).filter_map(|fields| {
            fields[3]
                .split(',')
                .any(|member| member == entry.name)
                .then(|| entry_id(fields[2]))?
        }));
    }
    for text in group_add {
        supplementary.push(resolve_group(group, text)?);
    }
    let mut groups = vec![gid];
    for extra in supplementary {
        if !groups.contains(&extra) {
            groups.push(extra);
        }
    }

    let home = entry.as_ref().map_or("", |entry| entry.home);
    Ok(User {
        uid,
        gid,
        groups,
        home: if home.is_empty() {
            "/".to_owned()
        } else {
            home.to_owned()
        },
        name: entry.map(|entry| entry.name.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const PASSWD_TEXT: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
        bob:x:1000:1000:Bob,,,:/home/bob:/bin/sh\n\
        42:x:77:77::/odd:/bin/sh\n\
        huge:x:4294967296:5::/:\n\
        short:x:9:9\n";
    const GROUP_TEXT: &[u8] =
        b"root:x:0:root\nwheel:x:10:root,bob\nstaff:x:50:bob\nbob:x:1000:\nempty:x:60\n";

    fn check(user: &str, add: &[&str]) -> Result<User, String> {
        let add: Vec<String> = add.iter().map(|s| (*s).to_owned()).collect();
        resolve_in(PASSWD_TEXT, GROUP_TEXT, user, &add).map_err(|e| e.to_string())
    }

    fn user(uid: u32, gid: u32, groups: &[u32], home: &str, name: Option<&str>) -> User {
        User {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn names_and_numbers_resolve_as_in_docker() {
        assert_eq!(
            check("", &[]).unwrap(),
            user(0, 0, &[0, 10], "/root", Some("root"))
        );
        assert_eq!(
            check("bob", &[]).unwrap(),
            user(1000, 1000, &[1000, 10, 50], "/home/bob", Some("bob"))
        );
        assert_eq!(
            check("1000", &[]).unwrap(),
            user(1000, 1000, &[1000, 10, 50], "/home/bob", Some("bob"))
        );
        assert_eq!(check("5000", &[]).unwrap(), user(5000, 0, &[0], "/", None));
        assert_eq!(
            check("bob:staff", &[]).unwrap(),
            user(1000, 50, &[50], "/home/bob", Some("bob"))
        );
        assert_eq!(
            check("5000:6000", &[]).unwrap(),
            user(5000, 6000, &[6000], "/", None)
        );
        assert_eq!(
            check(":staff", &[]).unwrap(),
            user(0, 50, &[50], "/root", Some("root"))
        );
        assert_eq!(check("bob:", &[]).unwrap().gid, 1000);
        // All digits is an id, not the name of the entry `42`.
        assert_eq!(check("42", &[]).unwrap(), user(42, 0, &[0], "/", None));
        assert_eq!(check("short", &[]).unwrap().home, "/");
    }

    #[test]
    fn added_groups_come_after_the_users_own() {
        assert_eq!(
            check("bob", &["empty", "7", "wheel"]).unwrap().groups,
            [1000, 10, 50, 60, 7]
        );
        assert_eq!(
            check("bob", &["nope"]).unwrap_err(),
            "unable to find group nope: no matching entries in group file"
        );
    }

    #[test]
    fn what_cannot_be_is_refused_in_dockers_words() {
        assert_eq!(
            check("alice", &[]).unwrap_err(),
            "unable to find user alice: no matching entries in passwd file"
        );
        assert_eq!(
            check("bob:nope", &[]).unwrap_err(),
            "unable to find group nope: no matching entries in group file"
        );
        for bad in [
            "2147483648",
            "4294967296",
            "-1",
            "99999999999999999999",
            "0:4294967295",
        ] {
            assert!(
                check(bad, &[]).unwrap_err().contains("range 0-2147483647"),
                "{bad}"
            );
        }
        // An entry whose id does not fit is no entry (CVE-2024-40635: 4294967296 must not become 0).
        assert!(
            check("huge", &[])
                .unwrap_err()
                .contains("unable to find user huge")
        );
    }

    #[test]
    fn files_are_read_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        // No /etc at all.
        assert_eq!(
            resolve(root.as_fd(), "", &[]).unwrap(),
            user(0, 0, &[0], "/", None)
        );
        assert!(resolve(root.as_fd(), "bob", &[]).is_err());

        // Absolute and climbing links stay inside.
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("real"), PASSWD_TEXT).unwrap();
        symlink("/real", dir.path().join("etc/passwd")).unwrap();
        symlink("../../../../../../etc/group", dir.path().join("etc/group")).unwrap();
        let loops = resolve(root.as_fd(), "bob", &[]).unwrap_err();
        assert!(
            matches!(loops, UserError::Read { path: GROUP, .. }),
            "{loops}"
        );
        std::fs::remove_file(dir.path().join("etc/group")).unwrap();
        assert_eq!(resolve(root.as_fd(), "bob", &[]).unwrap().uid, 1000);
    }

    #[test]
    fn a_fifo_or_a_huge_file_does_not_hang_or_fill_memory() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = dir.path().join("etc/passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &passwd, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(matches!(
            resolve(root.as_fd(), "", &[]),
            Err(UserError::Read { .. })
        ));
        std::fs::remove_file(&passwd).unwrap();
        File::create(&passwd)
            .unwrap()
            .set_len(SIZE_LIMIT as u64 + 1)
            .unwrap();
        assert!(matches!(
            resolve(root.as_fd(), "", &[]),
            Err(UserError::TooLarge { path: PASSWD })
        ));
    }

    proptest! {
        #[test]
        fn no_input_panics_or_leaves_the_range(
            passwd in proptest::collection::vec(prop_oneof![Just(b':'), Just(b'\n'), Just(b'0'), any::<u8>()], 0..200),
            group in proptest::collection::vec(prop_oneof![Just(b':'), Just(b','), Just(b'\n'), any::<u8>()], 0..200),
            user in "[a-z0-9:+-]{0,12}",
            add in proptest::collection::vec("[a-z0-9+-]{0,12}", 0..3),
        ) {
            if let Ok(user) = resolve_in(&passwd, &group, &user, &add) {
                prop_assert!(user.uid <= ID_LIMIT && user.groups.iter().all(|gid| *gid <= ID_LIMIT));
                prop_assert_eq!(user.groups[0], user.gid);
                prop_assert!(!user.home.is_empty());
            }
        }
    }
}
