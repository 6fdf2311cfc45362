//! A layer whose files are no younger than a moment: the same work at another time makes the same layer (`SOURCE_DATE_EPOCH`).

use std::fs::File;
use std::io;

use hoist_model::Digest;

use crate::copy::CopyError;
use crate::snapshot::{LayerWriter, Snapshotter};
use crate::tar::{Archive, Entry, EntryKind, TarWriter};

/// The layer with every time behind `latest` (seconds since 1970) set to it; the layer itself where none is. Blocking.
///
/// # Errors
/// It cannot be read, or the other cannot be written.
pub fn clamp_times(
    layer: &Digest,
    latest: i64,
    snapshotter: &dyn Snapshotter,
) -> Result<Digest, CopyError> {
    if !has_younger(snapshotter.open_tar(layer)?, latest).map_err(CopyError::Read)? {
        return Ok(layer.clone());
    }
    let mut writer = snapshotter.layer_writer()?;
    let rewritten = rewrite(snapshotter.open_tar(layer)?, latest, &mut writer);
    match rewritten {
        Ok(()) => Ok(writer.finish(None)?.diff_id),
        // A writer that refused a byte says why when it is asked to finish.
        Err(error) => Err(match writer.finish(None) {
            Err(refused) => refused.into(),
            Ok(_) => CopyError::Read(error),
        }),
    }
}

fn is_younger(entry: &Entry, latest: i64) -> bool {
    (entry.mtime, entry.mtime_nanos) > (latest, 0)
}

fn has_younger(tar: File, latest: i64) -> io::Result<bool> {
    let mut archive = Archive::new(tar);
    while let Some(entry) = archive.next_entry()? {
        if is_younger(&entry, latest) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn rewrite(tar: File, latest: i64, writer: &mut Box<dyn LayerWriter>) -> io::Result<()> {
    let mut archive = Archive::new(tar);
    let mut out = TarWriter::new(writer);
    while let Some(mut entry) = archive.next_entry()? {
        if is_younger(&entry, latest) {
            (entry.mtime, entry.mtime_nanos) = (latest, 0);
        }
        match entry.kind {
            EntryKind::File { size, .. } => out.file(&entry, size, &mut archive)?,
            _ => out.entry(&entry)?,
        }
    }
    out.finish().map(drop)
}
