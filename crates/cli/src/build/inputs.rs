//! What a build is made of, as a command line names it: a context and a Dockerfile.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use hoist_build::ignore::Ignore;
use hoist_image::decompress::Compression;
use hoist_model::chain;
use serde_json::{Map, Value};

use super::directory::Directory;
use crate::Failure;
use crate::spec::values::go_error;

/// Bytes of a Dockerfile or an ignore file.
const FILE_LIMIT: u64 = 8 << 20;

/// Which files do not go.
pub(super) const IGNORE_FILE: &str = ".dockerignore";

/// Where a context comes from.
pub(super) enum Source {
    /// A directory here.
    Directory(Directory),
    /// An archive that is read.
    Archive(Box<dyn Read + Send>),
    /// An address that the engine asks.
    Address(String),
    /// Nowhere: a Dockerfile alone.
    Nothing,
}

/// A context and a Dockerfile.
pub(super) struct Inputs {
    pub(super) main: Source,
    /// The Dockerfile's text; else it is in the context.
    pub(super) dockerfile: Option<String>,
    /// Its name as it was said.
    pub(super) name: Option<String>,
    /// Where it is in the context, if it is in that.
    pub(super) inside: Option<String>,
    /// What the classic endpoint has to be sent although the ignore file leaves it out, so that it can read it and leave it out itself:
    /// names and texts.
    pub(super) ignored: Vec<(String, String)>,
}

/// Whether an operand is the address of a repository or of a file (Docker's `urlutil`: moby/builder/remotecontext).
pub(super) fn is_address(text: &str) -> bool {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| text.starts_with(prefix));
    begins(&["http://", "https://", "git://", "ssh://", "github.com/"])
        || (begins(&["git@"]) && text.contains(':'))
}

/// Finds out what is meant; looks at the context's directory and reads the Dockerfile.
pub(super) fn find(operand: &str, file: Option<&str>) -> Result<Inputs, Failure> {
    if operand == "-" {
        return from_input(file);
    }
    if is_address(operand) {
        let dockerfile = match file {
            Some("-") => Some(text_of_input()?),
            _ => None,
        };
        return Ok(Inputs {
            main: Source::Address(operand.to_owned()),
            name: file.filter(|_| dockerfile.is_none()).map(str::to_owned),
            dockerfile,
            inside: None,
            ignored: Vec::new(),
        });
    }
    let directory = Path::new(operand);
    match std::fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => {
            return Err(Failure::new(format!(
                "unable to prepare context: context must be a directory: {}",
                absolute(directory).display()
            )));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!(
                "unable to prepare context: path {operand:?} not found"
            )));
        }
        Err(error) => {
            return Err(Failure::new(format!(
                "unable to prepare context: path {operand:?}: {}",
                go_error(&error)
            )));
        }
    }
    let (path, text) = match file {
        Some("-") => (None, text_of_input()?),
        Some(file) => {
            let path = PathBuf::from(file);
            (Some(path.clone()), read(&path)?)
        }
        None => {
            let mut path = directory.join("Dockerfile");
            // As Docker: where nobody named one, the other case is looked for.
            if !path.exists() && directory.join("dockerfile").exists() {
                path = directory.join("dockerfile");
            }
            let text = read(&path)?;
            (Some(path), text)
        }
    };
    let ignored = ignore_file(directory, path.as_deref());
    let ignore = ignored.as_deref().map(read_ignore).transpose()?;
    let ignore = ignore.unwrap_or_default();
    let own = directory.join(IGNORE_FILE);
    let own = match own.is_file() && ignore.matches(IGNORE_FILE) {
        true => Some((IGNORE_FILE.to_owned(), read(&own)?)),
        false => None,
    };
    let about = ignored.map(|path| path.display().to_string());
    let directory = Directory::look(directory, &ignore, &about.unwrap_or_default())?;
    let inside = path.as_ref().and_then(|path| {
        let whole = path.canonicalize().ok()?;
        let below = whole.strip_prefix(directory.path()).ok()?;
        Some(below.to_str()?.to_owned())
    });
    let dockerfile = inside.iter().filter(|inside| ignore.matches(inside));
    let dockerfile = dockerfile.map(|inside| (inside.clone(), text.clone()));
    Ok(Inputs {
        ignored: dockerfile.chain(own).collect(),
        main: Source::Directory(directory),
        dockerfile: Some(text),
        name: path.map(|path| path.display().to_string()),
        inside,
    })
}

/// Images that names stand for, and where the contexts of other names come from.
pub(super) type Named = (Map<String, Value>, Vec<(String, Source)>);

/// `--build-context NAME=…`: images by name, and other contexts.
pub(super) fn named(flags: &[String]) -> Result<Named, Failure> {
    let (mut images, mut sources) = (Map::new(), Vec::new());
    for flag in flags {
        let wrong = || {
            Failure::new(format!(
                "invalid --build-context {flag:?}: expected NAME=PATH"
            ))
        };
        let (name, value) = flag.split_once('=').ok_or_else(wrong)?;
        if name.is_empty() || value.is_empty() {
            return Err(wrong());
        }
        if let Some(image) = value.strip_prefix("docker-image://") {
            images.insert(name.to_owned(), image.into());
            continue;
        }
        let source = if is_address(value) {
            Source::Address(value.to_owned())
        } else if value.contains("://") {
            return Err(Failure::new(format!(
                "--build-context {flag:?}: that kind of context is not implemented yet"
            )));
        } else {
            let path = Path::new(value);
            let ignored = ignore_file(path, None);
            let ignore = ignored.as_deref().map(read_ignore).transpose()?;
            let about = ignored.map(|path| path.display().to_string());
            Source::Directory(Directory::look(
                path,
                &ignore.unwrap_or_default(),
                &about.unwrap_or_default(),
            )?)
        };
        sources.push((name.to_owned(), source));
    }
    Ok((images, sources))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The ignore file that holds: the Dockerfile's own, else the context's.
fn ignore_file(directory: &Path, dockerfile: Option<&Path>) -> Option<PathBuf> {
    let own = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    own.into_iter()
        .chain([directory.join(IGNORE_FILE)])
        .find(|path| path.is_file())
}

/// Reads an ignore file.
pub(super) fn read_ignore(path: &Path) -> Result<Ignore, Failure> {
    let text = read(path)?;
    Ignore::parse(&text).map_err(|error| {
        Failure::new(format!(
            "error reading {}: {}",
            path.display(),
            chain(&error)
        ))
    })
}

/// Reads a file of text.
fn read(path: &Path) -> Result<String, Failure> {
    let open = || {
        let path = path.canonicalize()?;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        file.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = open().map_err(|error: std::io::Error| {
        let place = absolute(path);
        Failure::new(format!(
            "unable to prepare context: unable to evaluate symlinks in Dockerfile path: lstat {}: {}",
            place.display(),
            go_error(&error)
        ))
    })?;
    text(bytes, &path.display().to_string())
}

fn text(bytes: Vec<u8>, name: &str) -> Result<String, Failure> {
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(Failure::new(format!(
            "{name} is larger than {FILE_LIMIT} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|_| Failure::new(format!("{name} is not UTF-8")))
}

fn text_of_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)?;
    text(bytes, "the Dockerfile on standard input")
}

/// Standard input: an archive, or a Dockerfile alone.
fn from_input(file: Option<&str>) -> Result<Inputs, Failure> {
    if file == Some("-") {
        return Err(Failure::new(
            "invalid argument: can't use stdin for both build context and dockerfile",
        ));
    }
    let mut head = Vec::new();
    // A tar's first header.
    std::io::stdin().take(512).read_to_end(&mut head)?;
    if head.is_empty() {
        return Err(Failure::new(
            "failed to read build context from stdin: it is empty",
        ));
    }
    let is_tar = head.get(257..262).is_some_and(|magic| magic == b"ustar");
    if is_tar || Compression::sniff(&head) != Compression::Plain || is_old_tar(&head) {
        return Ok(Inputs {
            main: Source::Archive(Box::new(Cursor::new(head).chain(std::io::stdin()))),
            dockerfile: None,
            name: file.map(str::to_owned),
            inside: None,
            ignored: Vec::new(),
        });
    }
    std::io::stdin()
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut head)?;
    Ok(Inputs {
        main: Source::Nothing,
        dockerfile: Some(text(head, "the Dockerfile on standard input")?),
        name: None,
        inside: None,
        ignored: Vec::new(),
    })
}

/// Whether it is the header of a tar that has no magic: its checksum is right.
fn is_old_tar(head: &[u8]) -> bool {
    if head.len() < 512 {
        return false;
    }
    let sum: u64 = head
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if (148..156).contains(&at) {
                u64::from(b' ')
            } else {
                u64::from(*byte)
            }
        })
        .sum();
    let text = String::from_utf8_lossy(&head[148..156]);
    let digits = text.trim_matches(['\0', ' ']);
    u64::from_str_radix(digits, 8).is_ok_and(|said| said == sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_from_directories() {
        for address in [
            "https://x/y.git#main:sub",
            "git://x/y",
            "git@host:a/b.git",
            "github.com/a/b",
            "http://host/x.tar.gz",
        ] {
            assert!(is_address(address), "{address}");
        }
        for path in [".", "/x", "git@x", "github.community", "https"] {
            assert!(!is_address(path), "{path}");
        }
    }

    #[test]
    fn a_dockerfile_has_its_own_ignore_file() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(ignore_file(dir.path(), Some(&at("D"))), None);
        std::fs::write(at(".dockerignore"), "a").unwrap();
        assert_eq!(
            ignore_file(dir.path(), Some(&at("D"))),
            Some(at(".dockerignore"))
        );
        std::fs::write(at("D.dockerignore"), "b").unwrap();
        assert_eq!(
            ignore_file(dir.path(), Some(&at("D"))),
            Some(at("D.dockerignore"))
        );
        assert_eq!(ignore_file(dir.path(), None), Some(at(".dockerignore")));
    }
}
