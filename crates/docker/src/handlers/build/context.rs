//! A build's context on its way in: a tar that becomes a layer, which is looked at as layers are.

use std::io::Read;

use hoist_build::ignore::Ignore;
use hoist_image::decompress::Decompressor;
use hoist_image::files::{FilesError, Root, hide};
use hoist_image::{CompleteTar, Ids, Snapshotter};
use hoist_model::{Digest, ErrorClass, chain};

use crate::error::ApiError;

/// Bytes of a Dockerfile; the largest real ones have some thousand lines.
pub(super) const DOCKERFILE_LIMIT: u64 = 8 << 20;
/// Which files clients leave out.
const IGNORE_FILE: &str = ".dockerignore";
/// Bytes of a context when it is unpacked.
const CONTEXT_LIMIT: u64 = 1 << 40;

/// Keeps a tar, compressed or not, as a layer. Blocking.
pub(super) fn keep(
    body: Box<dyn Read + Send>,
    snapshotter: &dyn Snapshotter,
) -> Result<Digest, ApiError> {
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        ApiError::invalid(format!("reading the build context: {}", chain(error)))
    };
    let body = Decompressor::new(body, CONTEXT_LIMIT).map_err(|error| unreadable(&error))?;
    let mut body = CompleteTar::new(body);
    let failed = |error: hoist_image::LayerError| {
        ApiError::new(error.class(), format!("build context: {}", chain(&error)))
    };
    let mut writer = snapshotter.layer_writer().map_err(failed)?;
    if let Err(error) = std::io::copy(&mut body, &mut writer) {
        // A writer that refused what it was given says why when it is asked to finish.
        return Err(match writer.finish(None) {
            Err(refused) => failed(refused),
            Ok(_) => unreadable(&error),
        });
    }
    Ok(writer.finish(None).map_err(failed)?.diff_id)
}

/// What clients send although the ignore file leaves it out, because the engine has to see it: the Dockerfile and the ignore file itself.
/// Steps do not see them. Blocking.
pub(super) fn hide_ignored(
    layers: &mut Vec<Digest>,
    dockerfile: Option<&str>,
    snapshotter: &dyn Snapshotter,
) -> Result<(), ApiError> {
    let root = view(layers, snapshotter)?;
    let failed = |error: FilesError| ApiError::new(error.class(), chain(&error));
    let text = match root.read(IGNORE_FILE, DOCKERFILE_LIMIT) {
        Ok(text) => text,
        Err(FilesError::NotFound(_)) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let ignore = Ignore::parse(&String::from_utf8_lossy(&text))
        .map_err(|error| ApiError::invalid(format!("{IGNORE_FILE}: {error}")))?;
    let dockerfile = hoist_model::path::clean(&format!("/{}", dockerfile.unwrap_or("Dockerfile")));
    let mut hidden = vec![IGNORE_FILE, dockerfile.trim_start_matches('/')];
    hidden.retain(|path| ignore.matches(path));
    if hidden.is_empty() {
        return Ok(());
    }
    let stored = |error: hoist_image::LayerError| ApiError::new(error.class(), chain(&error));
    let mut writer = snapshotter.layer_writer().map_err(stored)?;
    if hide(&hidden, &root, &mut writer).map_err(failed)? > 0 {
        layers.push(writer.finish(None).map_err(stored)?.diff_id);
    }
    Ok(())
}

fn view(layers: &[Digest], snapshotter: &dyn Snapshotter) -> Result<Root, ApiError> {
    let root = snapshotter.view(layers, Ids::Host);
    let root = root.map_err(|error| ApiError::new(error.class(), chain(&error)))?;
    Ok(Root::new(root))
}

/// Reads the Dockerfile in a context; without a name the usual one. Blocking.
pub(super) fn dockerfile(
    layers: &[Digest],
    name: Option<&str>,
    snapshotter: &dyn Snapshotter,
) -> Result<String, ApiError> {
    let root = view(layers, snapshotter)?;
    let file = name.unwrap_or("Dockerfile");
    let text = match root.read(file, DOCKERFILE_LIMIT) {
        // As Docker: where nobody named one, the other case is looked for.
        Err(_) if name.is_none() => root.read("dockerfile", DOCKERFILE_LIMIT),
        result => result,
    };
    let text = text.map_err(|error| match error {
        FilesError::NotFound(_) => {
            ApiError::invalid(format!("Cannot locate specified Dockerfile: {file}"))
        }
        error => ApiError::new(error.class(), chain(&error)),
    })?;
    let text = String::from_utf8(text)
        .map_err(|_| ApiError::invalid(format!("the Dockerfile ({file}) is not UTF-8")))?;
    not_empty(&text, file)?;
    Ok(text)
}

/// Refuses a Dockerfile without a word in it.
pub(super) fn not_empty(text: &str, file: &str) -> Result<(), ApiError> {
    if text.trim().is_empty() {
        return Err(ApiError::new(
            ErrorClass::InvalidArgument,
            format!("the Dockerfile ({file}) cannot be empty"),
        ));
    }
    Ok(())
}
