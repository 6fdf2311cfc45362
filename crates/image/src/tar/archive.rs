//! Pulls entries out of a reader, for archives whose entries are themselves read as streams.

use std::io::{self, Read};

use super::{Entry, Event, Parser, State, TarError};

/// A tar read from a stream, one entry at a time.
pub(crate) struct Archive<R> {
    reader: R,
    parser: Parser,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self {
            reader,
            parser: Parser::new(),
            buffer: vec![0; 128 << 10].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// The next entry; the data of the last one is skipped as far as it was not read.
    pub(crate) fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let mut input = &self.buffer[self.start..self.end];
            let event = self.parser.next(&mut input).map_err(invalid)?;
            let left = input.len();
            let entry = match event {
                Some(Event::Entry(entry)) => Some(entry),
                _ => None,
            };
            self.start = self.end - left;
            if entry.is_some() {
                return Ok(entry);
            }
            if left == 0 && !self.fill()? {
                self.parser.finish().map_err(invalid)?;
                return Ok(None);
            }
        }
    }

    /// Reads some of the current entry's data.
    fn read_data(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let State::Data { left, .. } = self.parser.state else {
            return Ok(0);
        };
        if out.is_empty() {
            return Ok(0);
        }
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        if self.start == self.end && wanted >= self.buffer.len() / 2 {
            return self.read_directly(&mut out[..wanted]);
        }
        if self.start == self.end && !self.fill()? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let available = &self.buffer[self.start..self.end];
        let mut input = &available[..available.len().min(wanted)];
        match self.parser.next(&mut input).map_err(invalid)? {
            Some(Event::Data(data)) => {
                out[..data.len()].copy_from_slice(data);
                self.start += data.len();
                Ok(data.len())
            }
            _ => Ok(0),
        }
    }

    /// Much of one entry needs no copy of it here.
    fn read_directly(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = read_some(&mut self.reader, out)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut input = &out[..read];
        let event = self.parser.next(&mut input).map_err(invalid)?;
        debug_assert!(matches!(event, Some(Event::Data(data)) if data.len() == read));
        Ok(read)
    }

    fn fill(&mut self) -> io::Result<bool> {
        self.start = 0;
        self.end = 0;
        self.end = read_some(&mut self.reader, &mut self.buffer)?;
        Ok(self.end > 0)
    }
}

fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads the data of the current entry.
impl<R: Read> Read for Archive<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.read_data(out)
    }
}

fn invalid(error: TarError) -> io::Error {
    let kind = match error {
        TarError::Truncated(_) => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
