//! Compressing the files of a log that are full. It is done beside everything else, and may be killed at any point:
//!
//! ```text
//! log.7 ──read──► log.7.gz.tmp ──sync──► rename log.7.gz ──► unlink log.7
//!                 (killed: begun anew)   (killed: log.7 is read until it is unlinked at the next start)
//! ```
//!
//! The monitor may rotate log.7 away meanwhile: it unlinks log.7, then log.7.gz. Whoever finds log.7 gone after its rename
//! unlinks log.7.gz, so that nothing is left of it in any order of these steps.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use super::{Place, files, members};

/// Compresses every full file that is not yet; takes away what an earlier engine left half done, and files beyond those kept.
pub(super) fn sweep(place: &Place) -> io::Result<()> {
    let path = &place.path;
    let numbers = files::numbers(path)?;
    let newest = numbers.last().copied().unwrap_or(0);
    let kept = u64::from(place.options.max_files.max(1)) - 1;
    let mut outcome = Ok(());
    for number in numbers {
        let _ = remove(&temporary(path, number));
        if number + kept <= newest {
            remove(&files::numbered(path, number))?;
            remove(&files::compressed(path, number))?;
        } else if place.options.compress {
            // A disk without room for one may have some for the next, smaller one.
            outcome = outcome.and(one(place, number));
        }
    }
    outcome
}

fn temporary(path: &Path, number: u64) -> std::path::PathBuf {
    files::compressed(path, number).with_extension("gz.tmp")
}

fn one(place: &Place, number: u64) -> io::Result<()> {
    let plain = files::numbered(&place.path, number);
    let compressed = files::compressed(&place.path, number);
    let Some(file) = files::open(&plain)? else {
        return Ok(());
    };
    if !compressed.exists() {
        let temporary = temporary(&place.path, number);
        let written =
            write(place, file, &temporary).and_then(|()| std::fs::rename(&temporary, &compressed));
        if let Err(error) = written {
            let _ = remove(&temporary);
            return Err(error);
        }
    }
    if !remove(&plain)? {
        remove(&compressed)?;
    }
    Ok(())
}

fn write(place: &Place, mut file: File, temporary: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let out = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(temporary)?;
    let mut out = BufWriter::new(out);
    let mut text = Vec::with_capacity(members::TEXT);
    loop {
        let begun = text.len();
        let wanted = members::TEXT.saturating_sub(begun).max(64 * 1024) as u64;
        let read = (&mut file).take(wanted).read_to_end(&mut text)?;
        let whole = match memchr::memrchr(b'\n', &text) {
            _ if read == 0 => text.len(),
            Some(at) => at + 1,
            // One entry longer than all this: its end comes.
            None => 0,
        };
        if whole > 0 {
            members::write(&mut out, place.format, &text[..whole])?;
            text.drain(..whole);
        }
        if read == 0 {
            break;
        }
    }
    out.flush()?;
    // Before the original goes: a power cut may take what is only in memory.
    out.get_ref().sync_data()
}

/// Whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
