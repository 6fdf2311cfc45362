//! Chooses a snapshotter: by a probe that does once, for real, what every container needs.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use hoist_model::ContainerId;
use rustix::fs::{Mode, OFlags, openat};

use super::layer_files::remove_any;
use super::snapshots::Snapshots;
use super::{Changes, Ids, Remap, SnapshotError, Snapshotter, SnapshotterChoice, SnapshotterKind};

/// Opens the layers and containers under `root`, sweeping what a crash left half-made.
///
/// With `Auto` a small EROFS layer is mounted under an overlay to find out whether that works here: it needs kernel 6.12,
/// EROFS in it, and a data root that is not already two file systems deep.
pub fn open_snapshotter(
    root: &Path,
    choice: SnapshotterChoice,
) -> Result<Arc<dyn Snapshotter>, SnapshotError> {
    open_remapping_snapshotter(root, choice, None)
}

/// As [`open_snapshotter`], for an engine that may remap containers.
///
/// The probe is then of a container that is remapped, and without EROFS it is directories that must stand it. Nothing stands in
/// where they do not: copies of every image with other owners would take its room and time again.
pub fn open_remapping_snapshotter(
    root: &Path,
    choice: SnapshotterChoice,
    remap: Option<Arc<Remap>>,
) -> Result<Arc<dyn Snapshotter>, SnapshotError> {
    let kind = find_out(root, choice, remap.clone())?;
    Ok(Arc::new(Snapshots::open(root, kind, true, remap)?))
}

/// In which form layers are kept by this choice.
pub(super) fn find_out(
    root: &Path,
    choice: SnapshotterChoice,
    remap: Option<Arc<Remap>>,
) -> Result<SnapshotterKind, SnapshotError> {
    let erofs = || probe(root, SnapshotterKind::Erofs, remap.clone());
    match choice {
        SnapshotterChoice::Directory => {}
        SnapshotterChoice::Erofs => {
            erofs().map_err(|source| SnapshotError::Unsupported {
                path: root.to_owned(),
                source: Box::new(source),
            })?;
            return Ok(SnapshotterKind::Erofs);
        }
        SnapshotterChoice::Auto => match erofs() {
            Ok(()) => return Ok(SnapshotterKind::Erofs),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::info!(
                    error,
                    "EROFS layers do not work here: layers are kept as directories"
                );
            }
        },
    }
    let directory = SnapshotterKind::Directory;
    if remap.is_some() {
        probe(root, directory, remap).map_err(|source| SnapshotError::NotRemapped {
            path: root.to_owned(),
            source: Box::new(source),
        })?;
    }
    Ok(directory)
}

/// Stores a layer, mounts a container over it, and reads and writes through the mount.
fn probe(
    root: &Path,
    kind: SnapshotterKind,
    remap: Option<Arc<Remap>>,
) -> Result<(), SnapshotError> {
    let path = root.join(".probe");
    remove_any(&path)?;
    let result = try_probe(&path, kind, remap);
    remove_any(&path)?;
    result
}

fn try_probe(
    path: &Path,
    kind: SnapshotterKind,
    remap: Option<Arc<Remap>>,
) -> Result<(), SnapshotError> {
    let owner = remap.as_ref().map_or((0, 0), |remap| remap.mapping.root());
    let ids = remap.as_ref().map_or(Ids::Host, |_| Ids::Remapped);
    let snapshots = Snapshots::open(path, kind, false, remap)?;
    let failed = |source| SnapshotError::Mount {
        what: "a probe of layers under overlay".into(),
        source,
    };
    let mut writer = snapshots.layer_writer()?;
    writer.write_all(&probe_tar()).map_err(failed)?;
    let layer = writer.finish(None)?;
    let key = ContainerId::from_bytes(&[0; 32]);
    snapshots.prepare(&key, &[layer.diff_id], ids)?;
    let mount = snapshots.mount(&key, Changes::Kept)?;
    let read = || -> io::Result<()> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mut file = File::from(openat(&mount, "probe", flags, Mode::empty())?);
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        if text != PROBE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "read other bytes than were written",
            ));
        }
        let stat = rustix::fs::fstat(&file)?;
        if ids == Ids::Remapped && (stat.st_uid, stat.st_gid) != owner {
            return Err(io::Error::other("files keep the ids of the layer"));
        }
        file.write_all(b"copied up")
    };
    read().map_err(failed)
}

const PROBE: &str = "hoist";

/// A tar of one file, made by hand: one header, one block of data, two of end.
fn probe_tar() -> Vec<u8> {
    let mut tar = vec![0; 2048];
    let mut put = |at: usize, bytes: &[u8]| tar[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"probe");
    put(100, b"0000644\0");
    put(124, format!("{:011o}\0", PROBE.len()).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    put(512, PROBE.as_bytes());
    let sum: u32 = tar[..512].iter().map(|b| u32::from(*b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}
