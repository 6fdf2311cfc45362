//! The files of one log: what there is, and which comes next.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// One file that is open for reading.
#[derive(Debug)]
pub(super) struct Opened {
    /// Its place in the order of files; the newest has the one that it will get.
    pub(super) number: u64,
    pub(super) compressed: bool,
    /// Whether nothing more is written to it.
    pub(super) sealed: bool,
    pub(super) file: File,
}

/// What there is of a log at one instant.
pub(super) struct Survey {
    /// Numbers of full files, rising.
    pub(super) numbers: Vec<u64>,
    /// The newest file, if there is one.
    pub(super) current: Option<Opened>,
}

/// How often a log may be rotated under a survey before it is taken as it comes.
const LOOKS: usize = 100;

pub(super) fn numbered(path: &Path, number: u64) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

pub(super) fn compressed(path: &Path, number: u64) -> PathBuf {
    PathBuf::from(format!("{}.{number}.gz", path.display()))
}

/// `None` where there is none.
pub(super) fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether both are the same file.
fn is_same(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.ino() == named.ino() && open.dev() == named.dev(),
        _ => false,
    }
}

/// Whether the newest file is another by now than this one.
pub(super) fn is_rotated(file: &File, path: &Path) -> bool {
    !is_same(file, path)
}

/// Numbers of full files, compressed or not, rising.
pub(super) fn numbers(path: &Path) -> io::Result<Vec<u64>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix))
            .map(|rest| rest.strip_suffix(".gz").unwrap_or(rest))
            .and_then(|number| number.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Looks again if the log was rotated meanwhile: the newest file's number follows from those of the others.
pub(super) fn survey(path: &Path) -> io::Result<Survey> {
    for last in (0..LOOKS).rev() {
        let file = open(path)?;
        let numbers = numbers(path)?;
        let Some(file) = file else {
            // Between its old name and a new file, or none was ever written.
            if last == 0 || !path.exists() {
                return Ok(Survey {
                    numbers,
                    current: None,
                });
            }
            continue;
        };
        if last == 0 || is_same(&file, path) {
            let current = Opened {
                number: numbers.last().unwrap_or(&0) + 1,
                compressed: false,
                sealed: false,
                file,
            };
            return Ok(Survey {
                numbers,
                current: Some(current),
            });
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// A full file, as it is now. In this order: it is taken away only after the compressed one is there.
pub(super) fn open_number(path: &Path, number: u64) -> io::Result<Option<Opened>> {
    let plain = open(&numbered(path, number))?;
    let (file, compressed) = match plain {
        Some(file) => (Some(file), false),
        None => (open(&compressed(path, number))?, true),
    };
    Ok(file.map(|file| Opened {
        number,
        compressed,
        sealed: true,
        file,
    }))
}

/// The oldest file after this one that can still be had.
pub(super) fn next(path: &Path, after: u64) -> io::Result<Option<Opened>> {
    let mut wanted = after + 1;
    for _ in 0..LOOKS {
        if let Some(found) = open_number(path, wanted)? {
            return Ok(Some(found));
        }
        let survey = survey(path)?;
        match survey.numbers.iter().find(|number| **number > after) {
            // Gone, or rotated away while we looked: its successor then.
            Some(number) => wanted = *number,
            None => return Ok(survey.current),
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}
