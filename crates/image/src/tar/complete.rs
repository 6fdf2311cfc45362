//! Archives that end right behind their last file's data.
//!
//! Docker's client leaves the padding of the last entry out, and the end mark with it, where it puts a Dockerfile into a context
//! (`docker build -f -`), and Go's reader takes such an archive. What is missing is added here; an archive that ends anywhere else stays as cut
//! as it is.

use std::io::{self, Read};

use super::{Parser, State};

/// Reads an archive, and the padding that it should have had.
pub struct CompleteTar<R> {
    inner: R,
    /// Follows what is read; `None` once that is no archive, which whoever reads it finds out too.
    parser: Option<Parser>,
    padding: Option<u64>,
}

impl<R: Read> CompleteTar<R> {
    /// Over an archive from its first byte.
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            parser: Some(Parser::new()),
            padding: None,
        }
    }
}

impl<R: Read> Read for CompleteTar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.padding.is_none() {
            let read = self.inner.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                let mut input = &buffer[..read];
                while let Some(parser) = &mut self.parser
                    && !input.is_empty()
                {
                    if parser.next(&mut input).is_err() {
                        self.parser = None;
                    }
                }
                return Ok(read);
            }
            self.padding = Some(match self.parser.as_ref().map(|parser| &parser.state) {
                Some(State::Padding { left }) => *left,
                _ => 0,
            });
        }
        let left = self.padding.unwrap_or(0);
        let count = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        buffer[..count].fill(0);
        self.padding = Some(left - count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::CompleteTar;
    use crate::tar::{Entry, EntryKind, TarWriter, Xattrs};

    fn archive() -> Vec<u8> {
        let mut writer = TarWriter::new(Vec::new());
        let entry = Entry {
            path: b"file".to_vec(),
            kind: EntryKind::File { size: 5, offset: 0 },
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_nanos: 0,
            xattrs: Xattrs::new(),
        };
        writer.file(&entry, 5, &b"hello"[..]).unwrap();
        writer.finish().unwrap()
    }

    fn completed(bytes: &[u8]) -> usize {
        let mut all = Vec::new();
        CompleteTar::new(bytes).read_to_end(&mut all).unwrap();
        all.len()
    }

    #[test]
    fn only_the_last_padding_is_added() {
        let whole = archive();
        assert_eq!(completed(&whole), whole.len());
        assert_eq!(completed(&whole[..512 + 5]), 1024);
        assert_eq!(completed(&whole[..512 + 100]), 1024);
        // Data that is missing is not made up, nor a header.
        assert_eq!(completed(&whole[..512 + 4]), 516);
        assert_eq!(completed(&whole[..100]), 100);
        assert_eq!(completed(b"no archive"), 10);
    }
}
