//! What the sources of COPY and ADD name: paths and patterns become items, each with where it goes.

use hoist_image::files::{FilesError, Item, Root};
use hoist_model::ErrorClass;
use thiserror::Error;

use crate::glob::Glob;
use crate::ignore::{Ignore, IgnoreError, cleaned};
use crate::plan::CopyStep;

/// Why sources could not be found.
#[derive(Debug, Error)]
pub(crate) enum SelectError {
    /// Nothing of this name.
    #[error(
        "COPY failed: file not found in build context or excluded by .dockerignore: stat {0}: file does not exist"
    )]
    NotFound(String),
    /// Nothing matches any pattern.
    #[error("COPY failed: no source files were specified")]
    NoMatch,
    /// A pattern that means nothing.
    #[error("syntax error in pattern {pattern:?}: {reason}")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// `--exclude` that means nothing.
    #[error(transparent)]
    Exclude(#[from] IgnoreError),
    /// The source could not be read.
    #[error(transparent)]
    Files(#[from] FilesError),
}

impl SelectError {
    /// The class of this failure.
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::NotFound(_) | Self::NoMatch | Self::Pattern { .. } => ErrorClass::InvalidArgument,
            Self::Exclude(error) => error.class(),
            Self::Files(error) => error.class(),
        }
    }
}

/// Finds what a step copies in the root of its source; `below` tells whether the destination is a directory. In order of the
/// sources, of a pattern in order of names.
///
/// # Errors
/// See [`SelectError`].
pub(crate) fn select(
    step: &CopyStep,
    from: &Root,
    below: Option<&Root>,
    exclude: &Ignore,
) -> Result<Vec<Item>, SelectError> {
    let into_directory = is_directory(step, below)?;
    let destination = step.destination.trim_end_matches('/');
    let mut items = Vec::new();
    for source in &step.sources {
        let found = matches(source, from)?;
        for path in found {
            let is_directory = from
                .is_directory(&path)?
                .ok_or_else(|| SelectError::NotFound(path.clone()))?;
            let name = path.rsplit('/').next().unwrap_or(&path);
            if !is_directory && exclude.matches(name) {
                continue;
            }
            let to = if step.parents {
                parents(destination, source, &path)
            } else if is_directory || !into_directory {
                destination.to_owned()
            } else {
                format!("{destination}/{name}")
            };
            let unpack_into = (step.unpack && !is_directory).then(|| destination.to_owned());
            items.push(Item {
                from: path,
                to,
                unpack_into,
            });
        }
    }
    let has_others = !step.documents.is_empty() || !step.fetched.is_empty();
    if items.is_empty() && !has_others && exclude.is_empty() {
        return Err(SelectError::NoMatch);
    }
    Ok(items)
}

/// Whether what comes goes into the destination, instead of becoming it.
pub(crate) fn is_directory(step: &CopyStep, below: Option<&Root>) -> Result<bool, FilesError> {
    match below {
        _ if step.destination.ends_with('/') => Ok(true),
        Some(below) => Ok(below.is_directory(&step.destination)? == Some(true)),
        None => Ok(false),
    }
}

/// With `--parents` the whole path of the source goes below the destination; if it was written with `/./` in it, what is behind that.
fn parents(destination: &str, source: &str, path: &str) -> String {
    let kept = match source.split_once("/./") {
        Some((before, _)) => {
            let depth = cleaned(before).split('/').count();
            path.split('/').skip(depth).collect::<Vec<_>>().join("/")
        }
        None => path.to_owned(),
    };
    format!("{destination}/{kept}")
}

/// The paths, relative to the root, that a source names.
fn matches(source: &str, from: &Root) -> Result<Vec<String>, SelectError> {
    let path = match cleaned(source).as_str() {
        "." => String::new(),
        // Above the root there is nothing: `..` stays at it.
        path => path
            .split('/')
            .skip_while(|part| *part == "..")
            .collect::<Vec<_>>()
            .join("/"),
    };
    if !path.contains(['*', '?', '[', '\\']) {
        return Ok(vec![path]);
    }
    let mut found = vec![String::new()];
    for part in path.split('/') {
        let glob = Glob::of_names(part).map_err(|reason| SelectError::Pattern {
            pattern: source.to_owned(),
            reason,
        })?;
        let mut next = Vec::new();
        for directory in &found {
            for name in from.names(directory)? {
                if glob.matches(&name) {
                    next.push(if directory.is_empty() {
                        name
                    } else {
                        format!("{directory}/{name}")
                    });
                }
            }
        }
        found = next;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use hoist_image::files::Root;

    use super::select;
    use crate::ignore::Ignore;
    use crate::plan::{CopyStep, Input};

    fn selected(sources: &[&str], destination: &str, parents: bool) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path();
        for directory in ["a/b", "a/c", "src/x/lib"] {
            fs::create_dir_all(root.join(directory)).expect("made");
        }
        for file in [
            "one.txt",
            "two.txt",
            "a/b/f.rs",
            "a/c/g.rs",
            "src/x/lib/h.rs",
        ] {
            fs::write(root.join(file), "").expect("written");
        }
        let root = Root::new(fs::File::open(root).expect("opened").into());
        let step = CopyStep {
            from: Input::Nothing,
            sources: sources.iter().map(|s| (*s).to_owned()).collect(),
            documents: Vec::new(),
            destination: destination.to_owned(),
            owner: None,
            mode: None,
            parents,
            link: false,
            exclude: Vec::new(),
            unpack: false,
            fetched: Vec::new(),
        };
        match select(&step, &root, Some(&root), &Ignore::default()) {
            Err(error) => error.to_string(),
            Ok(items) => {
                let shown: Vec<_> = items
                    .iter()
                    .map(|i| format!("{}={}", i.from, i.to))
                    .collect();
                shown.join(" ")
            }
        }
    }

    #[test]
    fn files_go_into_directories_and_directories_become_them() {
        assert_eq!(selected(&["one.txt"], "/w", false), "one.txt=/w");
        assert_eq!(selected(&["one.txt"], "/w/", false), "one.txt=/w/one.txt");
        assert_eq!(selected(&["/one.txt"], "/a", false), "one.txt=/a/one.txt");
        assert_eq!(
            selected(&["a", "two.txt"], "/w/", false),
            "a=/w two.txt=/w/two.txt"
        );
        assert_eq!(selected(&["."], "/", false), "=");
        assert_eq!(
            selected(&["../../one.txt"], "/w/", false),
            "one.txt=/w/one.txt"
        );
    }

    #[test]
    fn patterns_are_of_names() {
        assert_eq!(
            selected(&["*.txt"], "/w/", false),
            "one.txt=/w/one.txt two.txt=/w/two.txt"
        );
        assert_eq!(
            selected(&["a/*/[fg].rs"], "/w/", false),
            "a/b/f.rs=/w/f.rs a/c/g.rs=/w/g.rs"
        );
        assert_eq!(
            selected(&["none*"], "/w/", false),
            "COPY failed: no source files were specified"
        );
        assert_eq!(
            selected(&["none"], "/w/", false),
            "COPY failed: file not found in build context or excluded by .dockerignore: stat none: file does not exist"
        );
    }

    #[test]
    fn parents_are_kept_from_where_it_is_said() {
        assert_eq!(
            selected(&["a/*/*.rs"], "/w/", true),
            "a/b/f.rs=/w/a/b/f.rs a/c/g.rs=/w/a/c/g.rs"
        );
        assert_eq!(
            selected(&["src/./x/lib"], "/w/", true),
            "src/x/lib=/w/x/lib"
        );
    }
}
