//! A context that the engine fetches (API 1.55 `ImageBuild`, `remote`): the files of a git repository, or what a web server has: an
//! archive, or a Dockerfile alone.

use std::fs::File;
use std::io::{Read, Seek};
use std::sync::Arc;

use hoist_build::Builder;
use hoist_build::plan::Address;
use hoist_image::{Ids, Snapshotter};
use hoist_model::{Digest, ErrorClass, chain};
use rustix::fs::{Mode, OFlags, openat};

use super::context;
use crate::error::ApiError;

/// As much of a file as tells a Dockerfile from an archive: a tar's head.
const HEAD: u64 = 512;

/// What was fetched.
pub(super) struct Remote {
    /// The context; none if all that came is a Dockerfile.
    pub(super) layers: Vec<Digest>,
    /// That Dockerfile's text.
    pub(super) dockerfile: Option<String>,
}

/// Fetches a context. What comes has to be held against collection by the caller.
pub(super) async fn fetch(
    builder: &Builder,
    snapshotter: Arc<dyn Snapshotter>,
    text: &str,
) -> Result<Remote, ApiError> {
    let address = Address::parse(&in_full(text))
        .map_err(|error| ApiError::invalid(format!("invalid build context {text:?}: {error}")))?
        .ok_or_else(|| {
            let what = "expected the address of a git repository or of a file";
            ApiError::invalid(format!("invalid build context {text:?}: {what}"))
        })?;
    let fetched = builder.fetch(&address).await;
    let layer = fetched.map_err(|error| {
        let message = format!("unable to fetch the build context: {}", error.message);
        ApiError::new(error.class, message)
    })?;
    let Address::Web(web) = address else {
        return Ok(Remote {
            layers: vec![layer],
            dockerfile: None,
        });
    };
    let look = move || archive_or_dockerfile(layer, &web.name, snapshotter.as_ref());
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|error| ApiError::new(ErrorClass::Internal, error.to_string()))?
}

/// `github.com/someone/something` is a repository (Docker's `urlutil`: moby/builder/remotecontext).
fn in_full(text: &str) -> String {
    if !text.starts_with("github.com/") {
        return text.to_owned();
    }
    let end = text.find(['#', '?']).unwrap_or(text.len());
    let (repository, rest) = text.split_at(end);
    let repository = repository.trim_end_matches('/');
    let repository = repository.strip_suffix(".git").unwrap_or(repository);
    format!("https://{repository}.git{rest}")
}

/// Blocking.
fn archive_or_dockerfile(
    layer: Digest,
    name: &str,
    snapshotter: &dyn Snapshotter,
) -> Result<Remote, ApiError> {
    let root = snapshotter.view(&[layer], Ids::Host);
    let root = root.map_err(|error| ApiError::new(error.class(), chain(&error)))?;
    let failed = |error: std::io::Error| {
        ApiError::new(
            ErrorClass::Internal,
            format!("reading the build context: {}", chain(&error)),
        )
    };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&root, name, flags, Mode::empty());
    let mut file = File::from(file.map_err(|error| failed(error.into()))?);
    let mut head = Vec::new();
    file.by_ref()
        .take(HEAD)
        .read_to_end(&mut head)
        .map_err(failed)?;
    file.rewind().map_err(failed)?;
    if !is_text(&head) {
        return Ok(Remote {
            layers: vec![context::keep(Box::new(file), snapshotter)?],
            dockerfile: None,
        });
    }
    let mut text = String::new();
    let mut limited = file.take(context::DOCKERFILE_LIMIT + 1);
    limited.read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > context::DOCKERFILE_LIMIT {
        return Err(ApiError::invalid(format!(
            "what the build context's address has is neither an archive nor a Dockerfile of at most {} bytes",
            context::DOCKERFILE_LIMIT
        )));
    }
    context::not_empty(&text, name)?;
    Ok(Remote {
        layers: Vec::new(),
        dockerfile: Some(text),
    })
}

/// Whether a file that begins so is text. A tar has zeros in its head, and no compressed form begins as UTF-8 does, or goes on so.
fn is_text(head: &[u8]) -> bool {
    let cut_short = |error: std::str::Utf8Error| error.error_len().is_none();
    !head.contains(&0) && std::str::from_utf8(head).err().is_none_or(cut_short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_may_be_named_shortly() {
        for (text, full) in [
            ("github.com/a/b", "https://github.com/a/b.git"),
            ("github.com/a/b.git", "https://github.com/a/b.git"),
            (
                "github.com/a/b/#v1:sub",
                "https://github.com/a/b.git#v1:sub",
            ),
            ("https://host/x.tar", "https://host/x.tar"),
        ] {
            assert_eq!(in_full(text), full);
        }
    }

    #[test]
    fn dockerfiles_are_told_from_archives() {
        let mut cut = "FROM busybox\n".repeat(40).into_bytes();
        cut.truncate(511);
        cut.push("é".as_bytes()[0]);
        for text in [&b"FROM busybox\n"[..], b"", &cut] {
            assert!(is_text(text), "{text:?}");
        }
        let gzip = [0x1f, 0x8b, 8];
        let zstd = [0x28, 0xb5, 0x2f, 0xfd];
        let xz = [0xfd, b'7', b'z', b'X', b'Z', 0];
        let bzip2 = [
            b'B', b'Z', b'h', b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0xc1,
        ];
        let tar = [b'a', 0, 0];
        for archive in [&gzip[..], &zstd, &xz, &bzip2, &tar] {
            assert!(!is_text(&[archive, b"abc"].concat()), "{archive:?}");
        }
    }
}
