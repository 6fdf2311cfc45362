//! One file of a log, entry by entry, from where one wants.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;

use flate2::read::MultiGzDecoder;
use hoist_model::Timestamp;

use super::files::Opened;
use super::members;

/// Bytes read at once.
const BLOCK: usize = 64 * 1024;
/// A line longer than any entry: none of ours, passed over.
const LONGEST: usize = 4 << 20;

/// Where reading begins: an offset of the file (of a member, in a compressed one), and whole lines to pass over from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) offset: u64,
    pub(super) skip: u64,
}

pub(super) struct Source {
    pub(super) number: u64,
    kind: Kind,
    text: Vec<u8>,
    /// How much of the text was given out.
    given: usize,
    /// Bytes read from disk so far.
    pub(super) read: u64,
}

enum Kind {
    /// Read up to this offset.
    Plain(File, u64),
    /// The next member begins there. Members that end before this instant, or begin after that, are passed over.
    Members(File, u64, Option<Timestamp>, Option<Timestamp>),
    /// Compressed by somebody else: it can only be read through.
    Foreign(Box<BufReader<MultiGzDecoder<File>>>),
}

impl Source {
    pub(super) fn open(
        opened: Opened,
        start: Start,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> io::Result<Self> {
        let mut read = 0;
        let file = opened.file;
        let kind = if !opened.compressed {
            Kind::Plain(file, start.offset)
        } else if is_foreign(&file, &mut read)? {
            Kind::Foreign(Box::new(BufReader::new(MultiGzDecoder::new(file))))
        } else {
            Kind::Members(file, start.offset, since, until)
        };
        Ok(Self {
            number: opened.number,
            kind,
            text: Vec::new(),
            given: 0,
            read,
        })
    }

    /// The file, if it is one that may still grow.
    pub(super) fn plain(&self) -> Option<&File> {
        match &self.kind {
            Kind::Plain(file, _) => Some(file),
            _ => None,
        }
    }

    /// The next whole line with its newline; `None` at the end, for now.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let rest = &self.text[self.given..];
            if let Some(end) = memchr::memchr(b'\n', rest) {
                let begin = self.given;
                self.given += end + 1;
                return Ok(Some(&self.text[begin..self.given]));
            }
            self.text.drain(..self.given);
            self.given = 0;
            if self.text.len() > LONGEST {
                self.text.clear();
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        match &mut self.kind {
            Kind::Plain(file, offset) => {
                let begun = self.text.len();
                self.text.resize(begun + BLOCK, 0);
                let length = file.read_at(&mut self.text[begun..], *offset);
                let length = length.inspect_err(|_| self.text.truncate(begun))?;
                self.text.truncate(begun + length);
                self.read += length as u64;
                *offset += length as u64;
                if length > 0 {
                    return Ok(true);
                }
                // A line that is not whole yet is read again: a full disk may cut it off.
                *offset -= self.text.len() as u64;
                self.text.clear();
                // Somebody emptied the file: it begins anew.
                if file.metadata()?.len() < *offset {
                    *offset = 0;
                }
                Ok(false)
            }
            Kind::Members(file, offset, since, until) => {
                while let Some(member) = members::at(file, *offset, &mut self.read)? {
                    *offset = member.end();
                    if since.is_some_and(|since| member.last < since)
                        || until.is_some_and(|until| member.first > until)
                    {
                        continue;
                    }
                    member.text(file, &mut self.text, &mut self.read)?;
                    return Ok(true);
                }
                Ok(false)
            }
            Kind::Foreign(decoder) => Ok(decoder.read_until(b'\n', &mut self.text)? > 0),
        }
    }
}

/// Whether a compressed file has not our members.
pub(super) fn is_foreign(file: &File, read: &mut u64) -> io::Result<bool> {
    match members::at(file, 0, read) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(true),
        Err(error) => Err(error),
    }
}
