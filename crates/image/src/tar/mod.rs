//! A tar parser of our own: bytes are pushed in, entries and data come out.
//!
//! Reads ustar, pax (per entry and global), GNU long names and base-256 numbers. Where two known parsers would disagree
//! about an archive, above all about a size, the archive is refused: such archives smuggle files past scanners
//! (CVE-2025-62518, CVE-2026-33055). Names come out relative and normal; `..` is refused. Nothing is ever extracted here.
//!
//! ```text
//!   Header ──L,K,x,g──▶ Special(body, ≤ 1 MiB) ──▶ Header
//!     │ entry                                        ▲
//!     └──▶ Data(size) ──▶ Padding(to 512) ───────────┘
//!     │ two zero blocks
//!     └──▶ Ended: the rest is ignored, as GNU tar and Go do
//! ```
//!
//! Absent on purpose: sparse files, multi-volume archives, incremental dumps: refused by name.

mod archive;
mod complete;
mod header;
mod pax;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use archive::Archive;
pub use complete::CompleteTar;
use header::{BLOCK, Header};
use pax::PaxRecords;
pub use write::TarWriter;

/// Bytes one pax header or GNU long name may have (Go's limit).
const SPECIAL_LIMIT: u64 = 1 << 20;
/// Bytes a whole path may have, and a symlink's target (PATH_MAX less its NUL).
const PATH_LIMIT: usize = 4095;
/// Bytes of a name that an error shows.
const SHOWN_LIMIT: usize = 200;
/// Bytes one component of a path may have (NAME_MAX).
const NAME_LIMIT: usize = 255;

/// Why a tar was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TarError {
    /// The header at this offset is not one.
    #[error("no valid header at byte {offset}: {reason}")]
    Header {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An entry breaks a rule.
    #[error("entry {name:?} at byte {offset}: {reason}")]
    Entry {
        /// The entry's name as written.
        name: String,
        /// Where its header is.
        offset: u64,
        /// The rule.
        reason: String,
    },
    /// The bytes end inside an entry.
    #[error("unexpected end at byte {0}")]
    Truncated(u64),
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// `size` bytes of data that begin at byte `offset` of the archive (a multiple of 512).
    File {
        /// Bytes.
        size: u64,
        /// Where in the archive; nothing to who writes one.
        offset: u64,
    },
    /// Another name of an earlier entry; the target is normal and relative.
    HardLink {
        /// The earlier name.
        target: Vec<u8>,
    },
    /// The target is as written.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// A directory.
    Directory,
    /// A character device.
    CharDevice {
        /// The driver.
        major: u32,
        /// The device.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The driver.
        major: u32,
        /// The device.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Extended attributes: names and values.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry with everything its headers said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Relative, without `.`, `..`, empty components or a slash at either end; empty for the root itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky, 0 to 0o7777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds, below 10⁹.
    pub mtime_nanos: u32,
    /// Extended attributes, each name once, in order of names.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What the parser saw next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// An entry; the data of a file follows.
    Entry(Entry),
    /// Some data of the last entry.
    Data(&'a [u8]),
}

enum State {
    Header,
    /// Collecting the body of a `x`, `g`, `L` or `K` entry: kind, bytes wanted, padding after.
    Special {
        kind: u8,
        left: u64,
        padding: u64,
        body: Vec<u8>,
    },
    Data {
        left: u64,
        padding: u64,
    },
    Padding {
        left: u64,
    },
    Ended,
}

/// The parser: one archive's state.
pub(crate) struct Parser {
    state: State,
    block: [u8; BLOCK],
    filled: usize,
    zero_blocks: u32,
    /// Bytes consumed.
    offset: u64,
    pax: Option<PaxRecords>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    entries: u64,
}

/// Entries one archive may have; the index of that many takes about 1 GB of memory.
const ENTRY_LIMIT: u64 = 4 << 20;

impl Parser {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Header,
            block: [0; BLOCK],
            filled: 0,
            zero_blocks: 0,
            offset: 0,
            pax: None,
            long_name: None,
            long_link: None,
            entries: 0,
        }
    }

    /// Consumes bytes from the front of `input` up to the next event; `None` when they are used up.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, TarError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Ended => {
                    self.offset += input.len() as u64;
                    *input = &[];
                }
                State::Padding { left } => {
                    let taken = (*left).min(input.len() as u64);
                    *left -= taken;
                    let done = *left == 0;
                    take(input, taken);
                    self.offset += taken;
                    if done {
                        self.state = State::Header;
                    }
                }
                State::Data { left, padding } => {
                    let taken = (*left).min(input.len() as u64);
                    *left -= taken;
                    if *left == 0 {
                        self.state = after(*padding);
                    }
                    self.offset += taken;
                    return Ok(Some(Event::Data(take(input, taken))));
                }
                State::Special { left, body, .. } => {
                    let taken = (*left).min(input.len() as u64);
                    *left -= taken;
                    body.extend_from_slice(take(input, taken));
                    let done = *left == 0;
                    self.offset += taken;
                    if done {
                        self.finish_special()?;
                    }
                }
                State::Header => {
                    let taken = (BLOCK - self.filled).min(input.len());
                    self.block[self.filled..self.filled + taken]
                        .copy_from_slice(take(input, taken as u64));
                    self.filled += taken;
                    self.offset += taken as u64;
                    if self.filled == BLOCK {
                        self.filled = 0;
                        if let Some(entry) = self.header()? {
                            return Ok(Some(Event::Entry(entry)));
                        }
                    }
                }
            }
        }
        Ok(None)
    }

    /// Says whether the archive may end here. The end marker may be missing, as Go allows, but no entry may be cut.
    pub(crate) fn finish(&self) -> Result<(), TarError> {
        let pending = self.pax.is_some() || self.long_name.is_some() || self.long_link.is_some();
        match self.state {
            State::Ended => Ok(()),
            State::Header if self.filled == 0 && !pending => Ok(()),
            _ => Err(TarError::Truncated(self.offset)),
        }
    }

    fn header(&mut self) -> Result<Option<Entry>, TarError> {
        let at = self.offset - BLOCK as u64;
        if self.block.iter().all(|b| *b == 0) {
            self.zero_blocks += 1;
            if self.zero_blocks == 2 {
                self.state = State::Ended;
            }
            return Ok(None);
        }
        let bad = |reason: String| TarError::Header { offset: at, reason };
        if self.zero_blocks == 1 {
            return Err(bad("a lone zero block comes before it".into()));
        }
        let header = Header::parse(&self.block).map_err(bad)?;
        self.entries += 1;
        if self.entries > ENTRY_LIMIT {
            return Err(bad(format!("more than {ENTRY_LIMIT} entries")));
        }
        if matches!(header.kind, b'x' | b'X' | b'g' | b'L' | b'K') {
            if !header.extensible {
                return Err(bad("an extended header without the magic of one".into()));
            }
            if header.size > SPECIAL_LIMIT {
                return Err(bad(format!(
                    "an extended header of {} bytes, more than {SPECIAL_LIMIT}",
                    header.size
                )));
            }
            let kind = if header.kind == b'X' {
                b'x'
            } else {
                header.kind
            };
            self.state = State::Special {
                kind,
                left: header.size,
                padding: padding(header.size),
                body: Vec::new(),
            };
            if header.size == 0 {
                self.finish_special()?;
            }
            return Ok(None);
        }
        let pax = self.pax.take().unwrap_or_default();
        let long_name = self.long_name.take();
        let long_link = self.long_link.take();
        let shown = long_name
            .as_deref()
            .or(pax.path.as_deref())
            .unwrap_or(&header.name);
        let name = String::from_utf8_lossy(&shown[..shown.len().min(SHOWN_LIMIT)]).into_owned();
        let refused = |reason: String| TarError::Entry {
            name: name.clone(),
            offset: at,
            reason,
        };
        if header.kind == b'V' {
            self.state = after(0);
            return if header.size == 0 {
                Ok(None)
            } else {
                Err(refused("a volume label with data".into()))
            };
        }
        let (entry, size) =
            header::merge(header, pax, long_name, long_link, self.offset).map_err(refused)?;
        self.state = if size > 0 {
            State::Data {
                left: size,
                padding: padding(size),
            }
        } else {
            State::Header
        };
        Ok(Some(entry))
    }

    fn finish_special(&mut self) -> Result<(), TarError> {
        let State::Special {
            kind,
            padding,
            body,
            ..
        } = std::mem::replace(&mut self.state, State::Header)
        else {
            return Ok(());
        };
        self.state = after(padding);
        let bad = |reason: String| TarError::Header {
            offset: self.offset,
            reason,
        };
        match kind {
            b'g' => PaxRecords::parse(&body)
                .and_then(|records| records.check_global())
                .map_err(bad)?,
            b'x' => {
                if self.pax.is_some() {
                    return Err(bad("two pax headers for one entry".into()));
                }
                self.pax = Some(PaxRecords::parse(&body).map_err(bad)?);
            }
            kind => {
                let slot = if kind == b'L' {
                    &mut self.long_name
                } else {
                    &mut self.long_link
                };
                if slot.is_some() {
                    return Err(bad("two GNU long names for one entry".into()));
                }
                *slot = Some(header::until_nul(&body).to_vec());
            }
        }
        Ok(())
    }
}

/// Whether some bytes begin with a sound tar header.
pub(crate) fn is_header(bytes: &[u8]) -> bool {
    bytes
        .first_chunk()
        .is_some_and(|block| Header::parse(block).is_ok())
}

fn take<'a>(input: &mut &'a [u8], count: u64) -> &'a [u8] {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let (front, rest) = input.split_at(count.min(input.len()));
    *input = rest;
    front
}

fn after(padding: u64) -> State {
    if padding == 0 {
        State::Header
    } else {
        State::Padding { left: padding }
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() & (BLOCK as u64 - 1)
}

/// Makes a name relative and normal; refuses `..` and what no Linux file system can hold.
pub(crate) fn normal_path(name: &[u8]) -> Result<Vec<u8>, String> {
    let mut path = Vec::with_capacity(name.len());
    for component in name.split(|b| *b == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err("its path contains \"..\"".into()),
            _ => {}
        }
        if component.len() > NAME_LIMIT {
            return Err(format!(
                "its path has a component of more than {NAME_LIMIT} bytes"
            ));
        }
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(component);
    }
    if path.len() > PATH_LIMIT {
        return Err(format!("its path has more than {PATH_LIMIT} bytes"));
    }
    if path.contains(&0) {
        return Err("its path contains a NUL".into());
    }
    Ok(path)
}
