//! Files of one tree that become a layer over another, as COPY and ADD of a Dockerfile say.
//!
//! Nothing is copied to be read again: the layer's tar is written from the source's open files. What is below only tells which
//! directories are there already (they keep their attributes, which a layer must repeat), where links lead, and what cannot
//! give way.

use std::collections::HashSet;
use std::io::{Read as _, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::error::failed;
use super::pack::{Content, Described, Packer, describe, names};
use super::{FilesError, Root, name};
use crate::tar::{Entry, EntryKind, Xattrs};

/// A file or directory and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is in the source; a link is followed.
    pub from: String,
    /// Absolute; of a directory the place of what is in it.
    pub to: String,
}

/// Items of one tree.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The tree.
    pub root: &'a Root,
    /// In the order in which they are written.
    pub items: &'a [Item],
}

/// What changes on the way.
pub struct TransferOptions<'a> {
    /// Whose everything becomes; as it was where nothing is said.
    pub owner: Option<(u32, u32)>,
    /// Makes permissions of permissions; told whether it is a directory.
    pub mode: Option<&'a dyn Fn(u16, bool) -> u16>,
    /// Whether a path below an item, without a slash at its beginning, stays behind with all that is below it.
    pub skip: &'a dyn Fn(&str) -> bool,
}

/// A digest (SHA-256) of all that a transfer would bring: names, kinds, permissions, owners, attributes and contents, but no times.
///
/// # Errors
/// See [`FilesError`]; an item that is not there is `NotFound`.
pub fn transfer_digest(
    sources: &[Source<'_>],
    options: &TransferOptions<'_>,
) -> Result<[u8; 32], FilesError> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    walk(sources, options, &mut |_, described| {
        let Described { entry, content, .. } = described;
        let kind = match &entry.kind {
            EntryKind::File { size, .. } => format!("file {size}"),
            EntryKind::HardLink { .. } => unreachable!("links are told of by who writes them"),
            EntryKind::Symlink { target } => format!("link {}", target.escape_ascii()),
            EntryKind::Directory => "directory".to_owned(),
            EntryKind::CharDevice { major, minor } => format!("char {major}:{minor}"),
            EntryKind::BlockDevice { major, minor } => format!("block {major}:{minor}"),
            EntryKind::Fifo => "fifo".to_owned(),
        };
        // A line each, in which no name can end the line.
        let (path, mode) = (entry.path.escape_ascii(), entry.mode);
        hash.update(format!(
            "{path} {kind} {mode:o} {}:{}",
            entry.uid, entry.gid
        ));
        for (name, value) in &entry.xattrs {
            hash.update(format!(" {}={}", name.escape_ascii(), value.escape_ascii()));
        }
        hash.update(b"\n");
        Ok(match content {
            Content::Directory(directory) => Some(Entered {
                directory,
                label: entry.path,
            }),
            Content::File(mut file) => {
                loop {
                    match file.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(read) => hash.update(&buffer[..read]),
                        Err(error) => return Err(failed("reading", &entry.path)(error)),
                    }
                }
                None
            }
            Content::None => None,
        })
    })?;
    Ok(hash.finalize().into())
}

/// Writes the tar of a layer that puts the items over `below`; answers how many entries it has. Blocking.
///
/// # Errors
/// See [`FilesError`]; a directory never gives way to something else, nor something else to a directory.
pub fn transfer(
    sources: &[Source<'_>],
    options: &TransferOptions<'_>,
    below: &Root,
    out: impl Write,
) -> Result<usize, FilesError> {
    let mut layer = Layer {
        packer: Packer::new(below, out),
        below,
        owner: options.owner.unwrap_or((0, 0)),
        written: HashSet::new(),
        made: HashSet::new(),
        entries: 0,
    };
    walk(sources, options, &mut |is_top, described| {
        layer.put(is_top, described)
    })?;
    let entries = layer.entries;
    layer.packer.finish()?;
    Ok(entries)
}

/// Writes the tar of a layer that makes a directory, and what is missing above it; none of it if it is there.
///
/// # Errors
/// See [`FilesError`]; something else than a directory is in the way.
pub fn transfer_directory(
    path: &str,
    owner: Option<(u32, u32)>,
    below: &Root,
    out: impl Write,
) -> Result<usize, FilesError> {
    let mut layer = Layer {
        packer: Packer::new(below, out),
        below,
        owner: owner.unwrap_or((0, 0)),
        written: HashSet::new(),
        made: HashSet::new(),
        entries: 0,
    };
    let real = below
        .follow(&name::clean(path))
        .map_err(failed("following", path))?;
    let real = real.trim_matches('/').as_bytes();
    if !real.is_empty() && !layer.has_directory(real)? {
        layer.directories(real, 0)?;
    }
    let entries = layer.entries;
    layer.packer.finish()?;
    Ok(entries)
}

struct Layer<'a, W> {
    packer: Packer<'a, W>,
    below: &'a Root,
    owner: (u32, u32),
    /// Directories that the tar tells of already.
    written: HashSet<Vec<u8>>,
    /// Those of them that are not below: nothing under them can be in the way.
    made: HashSet<Vec<u8>>,
    entries: usize,
}

impl<W: Write> Layer<'_, W> {
    fn put(
        &mut self,
        is_top: bool,
        mut described: Described,
    ) -> Result<Option<Entered>, FilesError> {
        let mtime = described.entry.mtime;
        if is_top {
            // Copies of two items are two files, also where the item is one.
            self.packer.forget_names();
            let wanted = String::from_utf8_lossy(&described.entry.path).into_owned();
            let real = self
                .below
                .follow(&wanted)
                .map_err(failed("following", &wanted))?;
            described.entry.path = real.trim_matches('/').as_bytes().to_vec();
        }
        let path = described.entry.path.clone();
        let (parent, last) = name::split(&path);
        if last.starts_with(b".wh.") {
            // A layer has no way to say it.
            tracing::warn!(
                path = %String::from_utf8_lossy(&path),
                "a file that looks like a whiteout is left out of the layer"
            );
            return Ok(None);
        }
        self.directories(parent, mtime)?;
        let is_directory = matches!(described.content, Content::Directory(_));
        if is_directory && (path.is_empty() || self.written.contains(&path)) {
            return Ok(entered(described));
        }
        let there = if self.made.contains(parent) {
            None
        } else {
            self.kind_below(&path)?
        };
        match there {
            Some(FileType::Directory) if !is_directory => {
                return Err(FilesError::OverwriteDirectory {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    destination: "/".to_owned(),
                });
            }
            Some(FileType::Directory) if is_top => {
                // It stays as it is; only what is in it comes.
                self.repeat(&path)?;
                return Ok(entered(described));
            }
            Some(kind) if is_directory && kind != FileType::Directory => {
                return Err(FilesError::OverwriteFile {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    destination: "/".to_owned(),
                });
            }
            _ => {}
        }
        if is_directory {
            self.written.insert(path.clone());
            if there.is_none() {
                self.made.insert(path.clone());
            }
        }
        self.entries += 1;
        let directory = self.packer.write(described)?;
        Ok(directory.map(|directory| Entered {
            directory,
            label: path,
        }))
    }

    /// Tells of a directory and all above it: as they are below, or anew.
    fn directories(&mut self, path: &[u8], mtime: i64) -> Result<(), FilesError> {
        if path.is_empty() || self.written.contains(path) {
            return Ok(());
        }
        let (parent, _) = name::split(path);
        self.directories(parent, mtime)?;
        if !self.made.contains(parent) && self.has_directory(path)? {
            return self.repeat(path);
        }
        self.written.insert(path.to_vec());
        self.made.insert(path.to_vec());
        self.entries += 1;
        self.packer.entry(&Entry {
            path: path.to_vec(),
            kind: EntryKind::Directory,
            mode: 0o755,
            uid: self.owner.0,
            gid: self.owner.1,
            mtime,
            mtime_nanos: 0,
            xattrs: Xattrs::new(),
        })
    }

    /// Whether there is a directory below; fails if it is something else.
    fn has_directory(&self, path: &[u8]) -> Result<bool, FilesError> {
        match self.kind_below(path)? {
            None => Ok(false),
            Some(FileType::Directory) => Ok(true),
            Some(_) => Err(failed("making", path)(Errno::NOTDIR)),
        }
    }

    fn kind_below(&self, path: &[u8]) -> Result<Option<FileType>, FilesError> {
        match self.below.open(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => {
                let stat = fstat(&found).map_err(failed("looking at", path))?;
                Ok(Some(FileType::from_raw_mode(stat.st_mode)))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("looking at", path)(error)),
        }
    }

    fn repeat(&mut self, path: &[u8]) -> Result<(), FilesError> {
        let found = self
            .below
            .open(path, OFlags::PATH | OFlags::NOFOLLOW)
            .map_err(failed("opening", path))?;
        if let Some(described) = describe(self.below, &found, path.to_vec())? {
            self.entries += 1;
            self.packer.entry(&described.entry)?;
        }
        self.written.insert(path.to_vec());
        Ok(())
    }
}

/// A directory that is gone into, and what it is called in the layer: links that were in the way followed.
struct Entered {
    directory: OwnedFd,
    label: Vec<u8>,
}

fn entered(described: Described) -> Option<Entered> {
    match described.content {
        Content::Directory(directory) => Some(Entered {
            directory,
            label: described.entry.path,
        }),
        _ => None,
    }
}

/// Shows every file of the items to `visit` under its new name, a directory before what is in it, in order of names; a
/// directory that it gives back is gone into.
fn walk(
    sources: &[Source<'_>],
    options: &TransferOptions<'_>,
    visit: &mut dyn FnMut(bool, Described) -> Result<Option<Entered>, FilesError>,
) -> Result<(), FilesError> {
    let items = sources.iter();
    let items = items.flat_map(|source| source.items.iter().map(|item| (source.root, item)));
    for (from, item) in items {
        let path = name::clean(&item.from);
        let found = from
            .open(path.as_bytes(), OFlags::PATH)
            .map_err(failed("opening", &item.from))?;
        let to = item.to.trim_matches('/').as_bytes().to_vec();
        let Some(described) = describe(from, &found, to)? else {
            continue;
        };
        let Some(entered) = visit(true, changed(described, options))? else {
            continue;
        };
        let mut stack = vec![Below {
            names: names(&entered.directory).map_err(failed("reading", &item.from))?,
            directory: entered.directory,
            from: Vec::new(),
            to: entered.label,
        }];
        while let Some(top) = stack.last_mut() {
            let Some(last) = top.names.pop() else {
                stack.pop();
                continue;
            };
            let (path, label) = (joined(&top.from, &last), joined(&top.to, &last));
            if (options.skip)(&String::from_utf8_lossy(&path)) {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = openat(&top.directory, last.as_slice(), flags, Mode::empty())
                .map_err(failed("opening", &path))?;
            let Some(described) = describe(from, &found, label)? else {
                continue;
            };
            if let Some(entered) = visit(false, changed(described, options))? {
                stack.push(Below {
                    names: names(&entered.directory).map_err(failed("reading", &path))?,
                    directory: entered.directory,
                    from: path,
                    to: entered.label,
                });
            }
        }
    }
    Ok(())
}

/// A directory on the way.
struct Below {
    directory: OwnedFd,
    /// What is still to be done, last first.
    names: Vec<Vec<u8>>,
    from: Vec<u8>,
    to: Vec<u8>,
}

fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

fn changed(mut described: Described, options: &TransferOptions<'_>) -> Described {
    let entry = &mut described.entry;
    if let Some((uid, gid)) = options.owner {
        (entry.uid, entry.gid) = (uid, gid);
    }
    if let Some(mode) = options.mode
        && !matches!(entry.kind, EntryKind::Symlink { .. })
    {
        entry.mode = mode(entry.mode, entry.kind == EntryKind::Directory);
    }
    described
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::Path;

    use super::{Item, Source, TransferOptions, transfer, transfer_digest, transfer_directory};
    use crate::files::{FilesError, Root};
    use crate::tar::{Archive, EntryKind};

    const AS_IT_IS: TransferOptions<'static> = TransferOptions {
        owner: None,
        mode: None,
        skip: &|_| false,
    };

    fn root(path: &Path) -> Root {
        Root::new(File::open(path).unwrap().into())
    }

    fn item(from: &str, to: &str) -> Item {
        Item {
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }

    struct Trees {
        _dir: tempfile::TempDir,
        from: Root,
        below: Root,
        path: std::path::PathBuf,
    }

    fn trees() -> Trees {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        let below = dir.path().join("below");
        fs::create_dir_all(from.join("a/deep")).unwrap();
        fs::write(from.join("a/file"), "text").unwrap();
        fs::hard_link(from.join("a/file"), from.join("a/other")).unwrap();
        fs::write(from.join("a/deep/x"), "x").unwrap();
        symlink("file", from.join("a/link")).unwrap();
        symlink("a/file", from.join("top")).unwrap();
        fs::set_permissions(from.join("a/deep"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all(below.join("srv/app/deep")).unwrap();
        fs::set_permissions(below.join("srv"), fs::Permissions::from_mode(0o711)).unwrap();
        symlink("/srv/app", below.join("app")).unwrap();
        fs::write(below.join("srv/plain"), "").unwrap();
        Trees {
            from: root(&from),
            below: root(&below),
            path: dir.path().to_owned(),
            _dir: dir,
        }
    }

    fn listed(tar: &[u8]) -> String {
        let mut archive = Archive::new(tar);
        let mut lines = String::new();
        while let Some(entry) = archive.next_entry().unwrap() {
            let kind = match &entry.kind {
                EntryKind::Directory => "directory".to_owned(),
                EntryKind::File { size, .. } => format!("file {size}"),
                EntryKind::HardLink { target } => format!("same as {}", target.escape_ascii()),
                EntryKind::Symlink { target } => format!("link {}", target.escape_ascii()),
                other => format!("{other:?}"),
            };
            let (path, mode) = (entry.path.escape_ascii(), entry.mode);
            lines += &format!("{path} {mode:o} {}:{} {kind}\n", entry.uid, entry.gid);
        }
        lines
    }

    fn moved(trees: &Trees, items: &[Item], options: &TransferOptions<'_>) -> String {
        let mut tar = Vec::new();
        let source = Source {
            root: &trees.from,
            items,
        };
        match transfer(&[source], options, &trees.below, &mut tar) {
            Ok(_) => listed(&tar),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_a_directory_holds_goes_where_links_lead() {
        let trees = trees();
        expect_test::expect![[r"
            srv 711 0:0 directory
            srv/app 755 0:0 directory
            srv/app/deep 700 0:0 directory
            srv/app/deep/x 644 0:0 file 1
            srv/app/file 644 0:0 file 4
            srv/app/link 777 0:0 link file
            srv/app/other 644 0:0 same as srv/app/file
        "]]
        .assert_eq(&moved(&trees, &[item("a", "/app/")], &AS_IT_IS));
    }

    #[test]
    fn what_is_missing_above_is_made_and_belongs_to_whom_it_is_for() {
        let trees = trees();
        let options = TransferOptions {
            owner: Some((5, 6)),
            mode: Some(&|_, is_directory| if is_directory { 0o750 } else { 0o640 }),
            skip: &|path| path == "deep",
        };
        expect_test::expect![[r"
            new 755 5:6 directory
            new/at 750 5:6 directory
            new/at/file 640 5:6 file 4
            new/at/link 777 5:6 link file
            new/at/other 640 5:6 same as new/at/file
            srv 711 0:0 directory
            srv/plain 640 5:6 file 4
        "]]
        .assert_eq(&moved(
            &trees,
            &[item("a", "/new/at"), item("top", "/srv/plain")],
            &options,
        ));
    }

    #[test]
    fn nothing_of_another_kind_gives_way() {
        let trees = trees();
        assert_eq!(
            moved(&trees, &[item("a/file", "/srv/app")], &AS_IT_IS),
            "cannot overwrite directory \"srv/app\" with non-directory \"/\""
        );
        assert_eq!(
            moved(&trees, &[item("a", "/srv/plain")], &AS_IT_IS),
            "cannot overwrite non-directory \"srv/plain\" with directory \"/\""
        );
        assert_eq!(
            moved(&trees, &[item("a/file", "/srv/plain/x")], &AS_IT_IS),
            "making srv/plain"
        );
        assert_eq!(
            moved(&trees, &[item("none", "/x")], &AS_IT_IS),
            "none: no such file or directory"
        );
    }

    #[test]
    fn a_directory_alone_is_made_once() {
        let trees = trees();
        let made = |path| {
            let mut tar = Vec::new();
            transfer_directory(path, None, &trees.below, &mut tar).map(|_| listed(&tar))
        };
        assert_eq!(made("/app/deep").unwrap(), "");
        assert_eq!(made("/").unwrap(), "");
        expect_test::expect![[r"
            srv 711 0:0 directory
            srv/app 755 0:0 directory
            srv/app/x 755 0:0 directory
            srv/app/x/y 755 0:0 directory
        "]]
        .assert_eq(&made("/app/x/y").unwrap());
        assert!(matches!(made("/srv/plain"), Err(FilesError::Io { .. })));
    }

    #[test]
    fn the_digest_is_of_content_and_not_of_time() {
        let trees = trees();
        let source = Source {
            root: &trees.from,
            items: &[item("a", "/x")],
        };
        let digest = || transfer_digest(&[source], &AS_IT_IS).unwrap();
        let first = digest();
        let file = trees.path.join("from/a/deep/x");
        let open = File::options().write(true).open(&file).unwrap();
        open.set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(digest(), first);
        fs::write(&file, "y").unwrap();
        let second = digest();
        assert_ne!(second, first);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        assert_ne!(digest(), second);
    }
}
