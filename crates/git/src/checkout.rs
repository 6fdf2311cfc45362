//! The files of a commit.

use std::io;

use crate::object::Kind;
use crate::{GitError, ObjectId, Pack};

/// Levels of directories; deeper ones are refused.
const DEEPEST: usize = 500;
/// How many tags may be of each other.
const MOST_TAGS: usize = 10;

/// Which files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checkout<'a> {
    /// Only what is in this directory, which becomes the top.
    pub directory: Option<&'a str>,
    /// Whether submodules are left out, as empty directories.
    pub without_submodules: bool,
}

/// A file of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// It comes before what is in it.
    Directory,
    /// With its content.
    File {
        /// Whether it can be executed.
        executable: bool,
        /// What is in it.
        content: &'a [u8],
    },
    /// Where it leads.
    Link(&'a [u8]),
}

/// Takes files with their paths, and when the commit was made, in seconds since 1970.
type Visit<'v> = dyn FnMut(&[u8], Item<'_>, i64) -> io::Result<()> + 'v;

/// Shows the files of a commit (or of a tag's) in order of names.
///
/// # Errors
/// Objects that are not there or hostile, and what `visit` says.
pub fn checkout(
    pack: &mut Pack,
    commit: ObjectId,
    options: Checkout<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), GitError> {
    let (mut tree, time) = tree_of(pack, commit)?;
    let parts = options.directory.unwrap_or_default().split('/');
    for part in parts.filter(|part| !matches!(*part, "" | ".")) {
        let missing = || GitError::NoDirectory(options.directory.unwrap_or_default().to_owned());
        let entries = entries(pack, tree)?;
        let found = entries.iter().find(|entry| entry.name == part.as_bytes());
        let found = found.filter(|entry| entry.mode == DIRECTORY);
        tree = found.ok_or_else(missing)?.id;
    }
    let mut stack = vec![(Vec::new(), entries(pack, tree)?.into_iter())];
    while let Some((path, left)) = stack.last_mut() {
        let Some(entry) = left.next() else {
            stack.pop();
            continue;
        };
        let path = match path.as_slice() {
            [] => entry.name.clone(),
            path => [path, b"/", &entry.name].concat(),
        };
        match entry.mode {
            DIRECTORY => {
                if stack.len() >= DEEPEST {
                    return Err(hostile(entry.id, "directories are too deep"));
                }
                visit(&path, Item::Directory, time)?;
                let below = entries(pack, entry.id)?.into_iter();
                stack.push((path, below));
            }
            SUBMODULE if options.without_submodules => visit(&path, Item::Directory, time)?,
            SUBMODULE => {
                let path = String::from_utf8_lossy(&path).into_owned();
                return Err(GitError::Submodule(path));
            }
            mode => {
                let (kind, content) = pack.object(entry.id)?;
                if kind != Kind::Blob {
                    return Err(hostile(entry.id, "it is no file"));
                }
                let item = match mode {
                    LINK => Item::Link(&content),
                    mode => Item::File {
                        executable: mode & 0o111 != 0,
                        content: &content,
                    },
                };
                visit(&path, item, time)?;
            }
        }
    }
    Ok(())
}

const DIRECTORY: u32 = 0o40_000;
const LINK: u32 = 0o120_000;
const SUBMODULE: u32 = 0o160_000;
const FILE: u32 = 0o100_000;

struct Entry {
    name: Vec<u8>,
    mode: u32,
    id: ObjectId,
}

fn hostile(id: ObjectId, reason: &str) -> GitError {
    GitError::Object {
        id: id.to_string(),
        reason: reason.to_owned(),
    }
}

/// `MODE NAME\0ID`, in order of names.
fn entries(pack: &mut Pack, tree: ObjectId) -> Result<Vec<Entry>, GitError> {
    let (kind, content) = pack.object(tree)?;
    if kind != Kind::Tree {
        return Err(hostile(tree, "it is no directory"));
    }
    let broken = || hostile(tree, "it is broken");
    let mut rest = content.as_slice();
    let mut found: Vec<Entry> = Vec::new();
    while !rest.is_empty() {
        let blank = rest.iter().position(|b| *b == b' ').ok_or_else(broken)?;
        let end = rest.iter().position(|b| *b == 0).ok_or_else(broken)?;
        let mode = std::str::from_utf8(rest.get(..blank).ok_or_else(broken)?);
        let mode = mode.map_err(|_| broken())?;
        let mode = u32::from_str_radix(mode, 8).map_err(|_| broken())?;
        let name = rest.get(blank + 1..end).ok_or_else(broken)?.to_vec();
        let mut id = [0; 20];
        id.copy_from_slice(rest.get(end + 1..end + 21).ok_or_else(broken)?);
        rest = &rest[end + 21..];
        let is_one = matches!(mode & 0o170_000, DIRECTORY | LINK | SUBMODULE | FILE);
        let is_name = !matches!(name.as_slice(), b"" | b"." | b"..")
            && !name.contains(&b'/')
            && !name.eq_ignore_ascii_case(b".git");
        if !is_one || !is_name {
            return Err(hostile(
                tree,
                "an entry of it has a mode or name that git refuses",
            ));
        }
        if found.iter().rev().take(1).any(|last| last.name == name) {
            return Err(hostile(tree, "a name is in it twice"));
        }
        let mode = match mode & 0o170_000 {
            FILE => mode,
            kind => kind,
        };
        found.push(Entry {
            name,
            mode,
            id: ObjectId(id),
        });
    }
    Ok(found)
}

/// The top directory of a commit, and its time.
fn tree_of(pack: &mut Pack, commit: ObjectId) -> Result<(ObjectId, i64), GitError> {
    let mut id = commit;
    for _ in 0..MOST_TAGS {
        let (kind, content) = pack.object(id)?;
        let head = String::from_utf8_lossy(&content).into_owned();
        let field = |name: &str| {
            let mut lines = head.lines().take_while(|line| !line.is_empty());
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        };
        match kind {
            Kind::Commit => {
                let tree = field("tree").ok_or_else(|| hostile(id, "it has no tree"))?;
                let mut words = field("committer").unwrap_or_default().rsplit(' ');
                let time = words.nth(1).and_then(|time| time.parse().ok());
                return Ok((tree.parse()?, time.unwrap_or(0)));
            }
            Kind::Tag => {
                let of = field("object").ok_or_else(|| hostile(id, "it is of nothing"))?;
                id = of.parse()?;
            }
            Kind::Tree | Kind::Blob => return Err(hostile(id, "it is no commit")),
        }
    }
    Err(hostile(commit, "too many tags are of each other"))
}
