//! Finding where the last lines of a log begin without reading it from its start.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;

use hoist_model::container::LogFormat;

use super::files::{self, Opened, Survey};
use super::members::{self, Member};
use super::source::{Source, Start, is_foreign};
use super::{Place, entry};

const BLOCK: usize = 64 * 1024;

/// The file and the place in it at which the last `lines` whole lines begin. An entry without a newline in its text belongs
/// to the line that it is completed by.
pub(super) fn nth_last_line(
    place: &Place,
    survey: Survey,
    lines: u64,
    read: &mut u64,
) -> io::Result<(Option<Opened>, Option<Start>)> {
    let mut missing = lines;
    let mut oldest = None;
    let mut current = survey.current;
    let mut numbers = survey.numbers.into_iter().rev();
    loop {
        let opened = match current.take() {
            Some(current) => current,
            None => match numbers.next() {
                None => return Ok((oldest, Some(Start::default()))),
                Some(number) => match files::open_number(&place.path, number)? {
                    Some(opened) => opened,
                    None => continue,
                },
            },
        };
        let found = if opened.compressed {
            in_compressed(&opened, place.format, missing, read)?
        } else {
            in_plain(&opened.file, place.format, missing, read)?
        };
        match found {
            Ok(start) => return Ok((Some(opened), Some(start))),
            Err(found) => missing -= found,
        }
        oldest = Some(opened);
    }
}

/// Where the wanted lines begin, or how many there are if they are too few.
type Found = Result<Start, u64>;

fn in_plain(file: &File, format: LogFormat, wanted: u64, read: &mut u64) -> io::Result<Found> {
    let at = |offset| Ok(Ok(Start { offset, skip: 0 }));
    let mut end = file.metadata()?.len();
    if wanted == 0 {
        return at(end);
    }
    let mut kept: Vec<u8> = Vec::new();
    let mut found = 0;
    // Walks entries from the last to the first; `end` is where the entry before the kept bytes ends.
    loop {
        let start = end.saturating_sub(BLOCK as u64);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(BLOCK)];
        file.read_exact_at(&mut block, start)?;
        *read += end - start;
        block.extend_from_slice(&kept);
        let mut right = block.len();
        while let Some(newline) = memchr::memrchr(b'\n', &block[..right.saturating_sub(1)]) {
            if entry::is_whole(format, &block[newline + 1..right]) {
                if found == wanted {
                    return at(start + right as u64);
                }
                found += 1;
            }
            right = newline + 1;
        }
        kept = block[..right].to_vec();
        end = start;
        if start == 0 {
            if entry::is_whole(format, &kept) {
                if found == wanted {
                    return at(kept.len() as u64);
                }
                found += 1;
            }
            return if found >= wanted {
                at(0)
            } else {
                Ok(Err(found))
            };
        }
    }
}

fn in_compressed(
    opened: &Opened,
    format: LogFormat,
    wanted: u64,
    read: &mut u64,
) -> io::Result<Found> {
    let file = &opened.file;
    if is_foreign(file, read)? {
        return in_foreign(opened, format, wanted, read);
    }
    let mut all: Vec<Member> = Vec::new();
    while let Some(member) = members::at(file, all.last().map_or(0, Member::end), read)? {
        all.push(member);
    }
    let mut found = 0;
    for member in all.iter().rev() {
        found += u64::from(member.lines);
        if found >= wanted {
            let skip = found - wanted;
            let offset = if wanted == 0 {
                member.end()
            } else {
                member.offset
            };
            return Ok(Ok(Start { offset, skip }));
        }
    }
    Ok(if wanted == 0 {
        Ok(Start::default())
    } else {
        Err(found)
    })
}

/// Compressed by somebody else: its lines are counted.
fn in_foreign(
    opened: &Opened,
    format: LogFormat,
    wanted: u64,
    read: &mut u64,
) -> io::Result<Found> {
    let copy = Opened {
        file: opened.file.try_clone()?,
        ..*opened
    };
    let mut source = Source::open(copy, Start::default(), None, None)?;
    let mut found = 0;
    while let Some(line) = source.next()? {
        found += u64::from(entry::is_whole(format, line));
    }
    *read += source.read;
    // Both share a position.
    (&opened.file).rewind()?;
    let start = |skip| Start { offset: 0, skip };
    Ok(found.checked_sub(wanted).map(start).ok_or(found))
}
