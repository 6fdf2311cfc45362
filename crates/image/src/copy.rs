//! Copies a stream into a layer.

use std::io::{self, Read};
use std::path::PathBuf;

use hoist_model::Digest;

use crate::snapshot::{LayerError, LayerRecord, LayerWriter};

/// Why a stream did not become a layer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The stream failed.
    #[error("reading")]
    Read(#[source] io::Error),
    /// The layer failed.
    #[error(transparent)]
    Layer(#[from] LayerError),
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
