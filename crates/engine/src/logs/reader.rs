//! Reading one log for one request, some entries at a time: over full files and compressed ones to the newest.

use std::io;

use hoist_model::Timestamp;

use super::files::{self, Opened};
use super::source::{Source, Start};
use super::{Place, backward, entry, search};
use crate::containers::{LogEntry, LogRequest};

/// Text handed on at once, and entries.
const BATCH_BYTES: usize = 64 * 1024;
const BATCH_ENTRIES: usize = 1024;
/// Entries looked at before others have their turn, wanted or not.
const LOOKS: usize = 64 * 1024;

/// How a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is more.
    More,
    /// All there is was read; more may be written.
    AtEnd,
    /// What comes is not wanted.
    Over,
}

pub(super) struct Reader {
    place: Place,
    request: LogRequest,
    source: Option<Source>,
    /// Whether the file being read has times that went back.
    disordered: bool,
    /// Whether nothing more is written to it.
    sealed: bool,
    /// Whole lines still to be passed over.
    skip: u64,
    /// Bytes read of files that are done with.
    read: u64,
    /// Time of the last entry, for what is said in between.
    last: Timestamp,
}

impl Reader {
    /// Finds where to begin. The files are listed once; the newest is open from then on.
    pub(super) fn open(place: Place, request: LogRequest) -> io::Result<Self> {
        let mut reader = Self {
            place,
            request,
            source: None,
            disordered: false,
            sealed: false,
            skip: 0,
            read: 0,
            last: Timestamp::default(),
        };
        let survey = files::survey(&reader.place.path)?;
        let (opened, start) = match request.tail {
            Some(lines) => backward::nth_last_line(&reader.place, survey, lines, &mut reader.read)?,
            None => {
                let mut oldest = None;
                for number in &survey.numbers {
                    oldest = files::open_number(&reader.place.path, *number)?;
                    if oldest.is_some() {
                        break;
                    }
                }
                (oldest.or(survey.current), None)
            }
        };
        if let Some(opened) = opened {
            reader.begin(opened, start)?;
        }
        Ok(reader)
    }

    /// Bytes read from disk.
    #[cfg(test)]
    pub(super) fn bytes_read(&self) -> u64 {
        self.read + self.source.as_ref().map_or(0, |source| source.read)
    }

    /// Goes on with another file: from a given start, or from where the time asked for begins.
    fn begin(&mut self, opened: Opened, start: Option<Start>) -> io::Result<()> {
        self.disordered = opened.compressed || search::is_disordered(&opened.file)?;
        self.sealed = opened.sealed;
        let start = match (start, self.request.since) {
            (Some(start), _) => start,
            (None, Some(since)) if !self.disordered => Start {
                offset: search::lower_bound(
                    &opened.file,
                    self.place.format,
                    since,
                    &mut self.read,
                )?,
                skip: 0,
            },
            _ => Start::default(),
        };
        self.skip = start.skip;
        // Lines are counted in what is passed over as well.
        let (since, until) = match start.skip {
            0 => (self.request.since, self.request.until),
            _ => (None, None),
        };
        self.read += self.source.take().map_or(0, |source| source.read);
        self.source = Some(Source::open(opened, start, since, until)?);
        Ok(())
    }

    /// The next entries, and how it goes on. Comes back with the reader, which moves between threads.
    pub(super) fn batch(mut self) -> io::Result<(Self, State, Vec<LogEntry>)> {
        let mut entries = Vec::new();
        let state = self.fill(&mut entries)?;
        Ok((self, state, entries))
    }

    fn fill(&mut self, entries: &mut Vec<LogEntry>) -> io::Result<State> {
        let mut bytes = 0;
        let mut looks = 0;
        loop {
            if bytes >= BATCH_BYTES || entries.len() >= BATCH_ENTRIES || looks >= LOOKS {
                return Ok(State::More);
            }
            looks += 1;
            let format = self.place.format;
            let Some(source) = &mut self.source else {
                // None was there yet: the first is as good as the next.
                match files::next(&self.place.path, 0)? {
                    Some(opened) => self.begin(opened, None)?,
                    None => return Ok(State::AtEnd),
                }
                continue;
            };
            let Some(line) = source.next()? else {
                if self.advance(entries, true)? {
                    continue;
                }
                return Ok(State::AtEnd);
            };
            if self.skip > 0 {
                self.skip -= u64::from(entry::is_whole(format, line));
                continue;
            }
            let Some(entry) = entry::parse(format, line) else {
                continue;
            };
            self.last = entry.at;
            if self.request.until.is_some_and(|until| entry.at > until) {
                if self.disordered {
                    continue;
                }
                // The rest of the file is later still; another file may not be, if the clock was set back.
                if self.advance(entries, false)? {
                    continue;
                }
                return Ok(State::Over);
            }
            let stream = match entry.stream {
                2 => self.request.stderr,
                _ => self.request.stdout,
            };
            if stream && self.request.since.is_none_or(|since| entry.at >= since) {
                bytes += entry.bytes.len();
                entries.push(entry);
            }
        }
    }

    /// Goes on where no more comes in this file, or no more that is wanted. Whether there is something to go on with.
    fn advance(&mut self, entries: &mut Vec<LogEntry>, at_end: bool) -> io::Result<bool> {
        let Some(source) = &self.source else {
            return Ok(false);
        };
        if !self.sealed {
            let rotated = source
                .plain()
                .is_some_and(|file| files::is_rotated(file, &self.place.path));
            if !rotated {
                return Ok(false);
            }
            if at_end {
                // What was written between the last read and the rename is still in it; nothing is after that.
                self.sealed = true;
                return Ok(true);
            }
        }
        let done = source.number;
        let Some(opened) = files::next(&self.place.path, done)? else {
            return Ok(false);
        };
        if opened.number > done + 1 {
            let missed = opened.number - done - 1;
            let text = format!(
                "hoist: {missed} log files were rotated away before they were read (max-size, max-file)\n"
            );
            entries.push(LogEntry {
                stream: 2,
                at: self.last,
                bytes: text.into_bytes(),
            });
        }
        self.begin(opened, None)?;
        Ok(true)
    }
}
