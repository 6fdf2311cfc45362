//! Copies a stream into a layer.

use std::io::{self, Read};
use std::path::PathBuf;

use hoist_model::{Digest, ErrorClass};

use crate::decompress::{Decompressor, layer_limit};
use crate::snapshot::{LayerError, LayerRecord, LayerWriter, Snapshotter};

/// Why a stream did not become a layer.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The stream failed.
    #[error("reading")]
    Read(#[source] io::Error),
    /// The layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

impl CopyError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Read(_) => ErrorClass::InvalidArgument,
            Self::Layer(error) => error.class(),
        }
    }
}

/// Stores a layer from its blob of `size` bytes, compressed or not, if it is the one that is expected. Blocking.
///
/// # Errors
/// The blob cannot be read or is none of a layer, or it is another layer.
pub fn unpack_layer(
    blob: impl Read,
    size: u64,
    expected: &Digest,
    snapshotter: &dyn Snapshotter,
) -> Result<LayerRecord, CopyError> {
    let plain = Decompressor::new(blob, layer_limit(size)).map_err(CopyError::Read)?;
    copy_layer(plain, snapshotter.layer_writer()?, Some(expected), |_| {})
}

/// Writes all of `reader` (uncompressed) and finishes the layer. `moved` hears the bytes of each step.
pub(crate) fn copy_layer(
    mut reader: impl Read,
    mut writer: Box<dyn LayerWriter>,
    expected: Option<&Digest>,
    mut moved: impl FnMut(u64),
) -> Result<LayerRecord, CopyError> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        match writer.write_all(&buffer[..read]) {
            Ok(()) => moved(read as u64),
            // The writer refused the tar, and says why when asked to finish.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return match writer.finish(expected) {
                    Err(error) => Err(error.into()),
                    Ok(_) => Err(LayerError::Invalid(error.to_string()).into()),
                };
            }
            Err(source) => {
                return Err(CopyError::Layer(LayerError::Io {
                    action: "writing",
                    path: PathBuf::from("a layer"),
                    source,
                }));
            }
        }
    }
    Ok(writer.finish(expected)?)
}
