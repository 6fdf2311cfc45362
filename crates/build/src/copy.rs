//! COPY, ADD and WORKDIR: layers put together from files of others.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd as _;
use std::path::Path;

use hoist_image::files::{
    FilesError, Item, Root, Source, TransferOptions, transfer, transfer_digest, transfer_directory,
};
use hoist_model::ErrorClass;
use hoist_runtime::users::{self, UserError};
use thiserror::Error;

use crate::ignore::{Ignore, IgnoreError};
use crate::mode::Mode;
use crate::plan::{CopyStep, FetchedSource, Input};
use crate::select::{SelectError, is_directory, select};

/// Why files could not be copied.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct CopyError(#[from] Cause);

#[derive(Debug, Error)]
enum Cause {
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("--chown={owner}")]
    Owner {
        owner: String,
        #[source]
        source: UserError,
    },
    #[error(
        "invalid chmod parameter: {0:?}: it should be an octal number between 0 and 07777, or symbolic"
    )]
    Mode(String),
    #[error("writing the here-document {name:?}")]
    Document {
        name: String,
        #[source]
        source: std::io::Error,
    },
}

impl From<IgnoreError> for Cause {
    fn from(error: IgnoreError) -> Self {
        Self::Select(error.into())
    }
}

impl CopyError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match &self.0 {
            Cause::Select(error) => error.class(),
            Cause::Files(error) => error.class(),
            Cause::Owner { source, .. } => source.class(),
            Cause::Mode(_) => ErrorClass::InvalidArgument,
            Cause::Document { .. } => ErrorClass::Internal,
        }
    }

    /// Whether whoever takes the layer refused it.
    pub(crate) const fn is_output(&self) -> bool {
        matches!(self.0, Cause::Files(FilesError::Output(_)))
    }
}

/// A digest of what a step brings, without times and without regard to where it goes. `from` is its source, and then what it fetched.
pub(crate) fn digest(step: &CopyStep, from: &[Root]) -> Result<[u8; 32], CopyError> {
    digest_of(step, from).map_err(CopyError)
}

fn digest_of(step: &CopyStep, from: &[Root]) -> Result<[u8; 32], Cause> {
    let exclude = exclude(step)?;
    let items = items(step, from, None, &exclude)?;
    let sources: Vec<Source<'_>> = sources(from, &items).collect();
    let options = TransferOptions {
        owner: of_context(step),
        unpacked_owner: None,
        keep_tops: step.parents,
        mode: None,
        skip: &|path| exclude.matches(path) && !exclude.may_include_below(path),
    };
    Ok(transfer_digest(&sources, &options)?)
}

/// Writes the layer of a step; answers how many entries it has.
pub(crate) fn layer(
    step: &CopyStep,
    from: &[Root],
    below: &Root,
    scratch: &Path,
    out: impl Write,
) -> Result<usize, CopyError> {
    layer_of(step, from, below, scratch, out).map_err(CopyError)
}

fn layer_of(
    step: &CopyStep,
    from: &[Root],
    below: &Root,
    scratch: &Path,
    out: impl Write,
) -> Result<usize, Cause> {
    let exclude = exclude(step)?;
    let items = items(step, from, Some(below), &exclude)?;
    let documents = Documents::write(step, below, scratch)?;
    let owner = step.owner.as_deref().map(|text| owner(text, below));
    let mode = match &step.mode {
        None => None,
        Some(text) => Some(Mode::parse(text).ok_or_else(|| Cause::Mode(text.clone()))?),
    };
    let mode = mode
        .as_ref()
        .map(|mode| move |permissions, is_directory| mode.apply(permissions, is_directory));
    let mut sources: Vec<Source<'_>> = sources(from, &items).collect();
    sources.extend(documents.as_ref().map(|documents| Source {
        root: &documents.root,
        items: &documents.items,
    }));
    let owner = owner.transpose()?;
    let options = TransferOptions {
        owner: owner.or(of_context(step)),
        unpacked_owner: owner,
        keep_tops: step.parents,
        mode: mode.as_ref().map(|mode| mode as &dyn Fn(u16, bool) -> u16),
        skip: &|path| exclude.matches(path) && !exclude.may_include_below(path),
    };
    Ok(transfer(&sources, &options, below, out)?)
}

/// Writes a layer that makes a directory; `user` is whose, as `USER` says it.
pub(crate) fn directory(
    path: &str,
    user: &str,
    below: &Root,
    out: impl Write,
) -> Result<usize, CopyError> {
    let made = || {
        let owner = match user {
            "" => None,
            user => Some(owner(user, below)?),
        };
        Ok(transfer_directory(path, owner, below, out)?)
    };
    made().map_err(CopyError)
}

/// What comes of each source, and where it goes.
fn items(
    step: &CopyStep,
    from: &[Root],
    below: Option<&Root>,
    exclude: &Ignore,
) -> Result<Vec<Vec<Item>>, Cause> {
    let mut items = Vec::with_capacity(from.len());
    for (number, root) in from.iter().enumerate() {
        items.push(match number.checked_sub(1) {
            None => select(step, root, below, exclude)?,
            Some(number) => vec![fetched(step, &step.fetched[number], below)?],
        });
    }
    Ok(items)
}

fn sources<'a>(from: &'a [Root], items: &'a [Vec<Item>]) -> impl Iterator<Item = Source<'a>> {
    let pairs = from.iter().zip(items);
    pairs.map(|(root, items)| Source { root, items })
}

/// A fetched file goes where a copied one would; of a repository comes what is in it.
fn fetched(
    step: &CopyStep,
    source: &FetchedSource,
    below: Option<&Root>,
) -> Result<Item, FilesError> {
    let destination = step.destination.trim_end_matches('/');
    let Some(name) = &source.file else {
        return Ok(Item {
            from: String::new(),
            to: destination.to_owned(),
            unpack_into: None,
        });
    };
    let into_directory = is_directory(step, below)?;
    Ok(Item {
        from: name.clone(),
        to: if into_directory {
            format!("{destination}/{name}")
        } else {
            destination.to_owned()
        },
        unpack_into: source.unpack.then(|| destination.to_owned()),
    })
}

/// Who has files on the machine of whoever builds means nothing here: what comes from a context is root's.
fn of_context(step: &CopyStep) -> Option<(u32, u32)> {
    matches!(step.from, Input::Context(_)).then_some((0, 0))
}

fn exclude(step: &CopyStep) -> Result<Ignore, IgnoreError> {
    Ignore::of(step.exclude.iter().map(String::as_str))
}

/// `user[:group]`, of the files that are below; without a group that of the user's number, as Docker has it.
fn owner(text: &str, below: &Root) -> Result<(u32, u32), Cause> {
    let failed = |source| Cause::Owner {
        owner: text.to_owned(),
        source,
    };
    let user = users::resolve(below.as_fd(), text, &[]).map_err(failed)?;
    // A bare number that nobody has stands for the group too.
    let gid = match text.parse::<u32>() {
        Ok(number) if user.name.is_none() => number,
        _ => user.gid,
    };
    Ok((user.uid, gid))
}

/// Here-documents as files, for as long as they are copied.
struct Documents {
    root: Root,
    items: Vec<Item>,
    _directory: tempfile::TempDir,
}

impl Documents {
    fn write(step: &CopyStep, below: &Root, scratch: &Path) -> Result<Option<Self>, Cause> {
        if step.documents.is_empty() {
            return Ok(None);
        }
        let into_directory = is_directory(step, Some(below))?;
        let destination = step.destination.trim_end_matches('/');
        let failed = |name: &str, source| Cause::Document {
            name: name.to_owned(),
            source,
        };
        let directory =
            crate::run::scratch_directory(scratch).map_err(|error| failed("", error))?;
        let mut items = Vec::new();
        for (number, (name, text)) in step.documents.iter().enumerate() {
            let number = number.to_string();
            let path = directory.path().join(&number);
            fs::write(&path, text).map_err(|error| failed(name, error))?;
            items.push(Item {
                from: number,
                to: if into_directory {
                    format!("{destination}/{name}")
                } else {
                    destination.to_owned()
                },
                unpack_into: None,
            });
        }
        let root = fs::File::open(directory.path()).map_err(|error| failed("", error))?;
        Ok(Some(Self {
            root: Root::new(root.into()),
            items,
            _directory: directory,
        }))
    }
}
