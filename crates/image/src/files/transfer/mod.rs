//! Files of one tree that become a layer over another, as COPY and ADD of a Dockerfile say.
//!
//! Nothing is copied to be read again: the layer's tar is written from the source's open files. What is below only tells which
//! directories are there already (they keep their attributes, which a layer must repeat), where links lead, and what cannot
//! give way.

mod archive;
mod layer;

use std::io::{Read as _, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};

use super::error::failed;
use super::pack::{Content, Described, describe, names};
use super::{FilesError, Root, name};
use crate::sha256::Sha256;
use crate::tar::EntryKind;
use layer::Layer;

/// A file or directory and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Where it is in the source; a link is followed.
    pub from: String,
    /// Absolute; of a directory the place of what is in it.
    pub to: String,
    /// If it is an archive, compressed or not, what is in it goes into this directory instead.
    pub unpack_into: Option<String>,
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
    /// The same of what comes out of archives.
    pub unpacked_owner: Option<(u32, u32)>,
    /// Makes permissions of permissions; told whether it is a directory.
    pub mode: Option<&'a dyn Fn(u16, bool) -> u16>,
    /// Whether a directory that is an item itself keeps its permissions, owner and times where it is new; else it is made as those above it are.
    pub keep_tops: bool,
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
    Ok(hash.bytes())
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
    let mut layer = Layer::new(below, options.owner.unwrap_or((0, 0)), out);
    layer.keep_tops = options.keep_tops;
    walk(sources, options, &mut |item, described| {
        let into = item.and_then(|item| item.unpack_into.as_deref());
        if let (Some(into), Content::File(file)) = (into, &described.content)
            && archive::is_archive(file).map_err(failed("reading", &described.entry.path))?
        {
            layer.unpack(file, into, options.unpacked_owner)?;
            return Ok(None);
        }
        layer.put(item.is_some(), described)
    })?;
    layer.finish()
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
    let mut layer = Layer::new(below, owner.unwrap_or((0, 0)), out);
    let real = below
        .follow(path.as_bytes())
        .map_err(failed("following", path))?;
    if !real.is_empty() && !layer.has_directory(&real)? {
        layer.directories(&real, 0)?;
    }
    layer.finish()
}

/// Writes the tar of a layer that hides files of `below`; answers how many entries it has.
///
/// # Errors
/// See [`FilesError`].
pub fn hide(paths: &[&str], below: &Root, out: impl Write) -> Result<usize, FilesError> {
    let mut layer = Layer::new(below, (0, 0), out);
    for path in paths {
        layer.hide(name::clean(path).trim_matches('/'))?;
    }
    layer.finish()
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

/// Is shown a file, and the item if it is one itself; gives back what is gone into.
type Visit<'v> = dyn FnMut(Option<&Item>, Described) -> Result<Option<Entered>, FilesError> + 'v;

/// Shows every file of the items to `visit` under its new name, a directory before what is in it, in order of names; a
/// directory that it gives back is gone into.
fn walk(
    sources: &[Source<'_>],
    options: &TransferOptions<'_>,
    visit: &mut Visit<'_>,
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
        let Some(entered) = visit(Some(item), changed(described, options))? else {
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
            if let Some(entered) = visit(None, changed(described, options))? {
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
mod tests;
