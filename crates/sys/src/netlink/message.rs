//! Netlink messages: written with nested attributes, read without trust (man 7 netlink). No system call.

use std::borrow::Cow;
use std::io;

/// Ask for an acknowledgement even of success.
pub const ACKNOWLEDGE: u16 = libc::NLM_F_ACK as u16;
/// Make the object.
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// Fail if it exists.
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// Replace it if it exists.
pub const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
/// Add at the end of a list.
pub const APPEND: u16 = libc::NLM_F_APPEND as u16;

const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
pub(super) const DUMP: u16 = libc::NLM_F_DUMP as u16;
const HEADER: usize = 16;
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Writes attributes at the end of a message.
pub struct Attributes<'a> {
    out: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// An attribute of raw bytes.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.out.extend_from_slice(&length.to_ne_bytes());
        self.out.extend_from_slice(&kind.to_ne_bytes());
        self.out.extend_from_slice(value);
        pad(self.out);
        self
    }

    /// An attribute of one byte.
    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// An attribute of 32 bits in the machine's order (rtnetlink).
    pub fn put_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_ne_bytes())
    }

    /// An attribute of 32 bits in network order (nf_tables).
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// A text with its terminating zero.
    pub fn put_text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.put(kind, &bytes)
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) -> &mut Self {
        self.nest_after(kind | NESTED, &[], fill)
    }

    /// An attribute that holds a fixed header and then attributes.
    pub fn nest_after(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let start = self.out.len();
        self.put(kind, header);
        fill(&mut Attributes { out: self.out });
        let length = u16::try_from(self.out.len() - start).unwrap_or(u16::MAX);
        self.out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

/// Attributes alone, for a message that holds them as one value.
pub fn attribute_bytes(fill: impl FnOnce(&mut Attributes<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut Attributes { out: &mut out });
    out
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Messages that go out in one `send`, each with the words an error of it is reported in.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    names: Vec<Cow<'static, str>>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one message: its type, flags, fixed header and attributes; `name` says what it does and on what.
    pub fn message(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        fill(&mut Attributes {
            out: &mut self.bytes,
        });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.starts.push(start);
        self.names.push(name.into());
        self
    }

    /// How many messages it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The messages as they go out, sequence numbers still zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The words that the message at a place is reported in.
    pub(super) fn name(&self, index: usize) -> String {
        self.names[index].clone().into_owned()
    }

    pub(super) fn number(&mut self, first: u32) {
        for (start, sequence) in self.starts.iter().zip(first..) {
            self.bytes[start + 8..start + 12].copy_from_slice(&sequence.to_ne_bytes());
        }
    }
}

/// One message from the kernel.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its type.
    pub kind: u16,
    /// Port of the socket it answers, or whose request it tells of.
    pub port: u32,
    /// What follows the netlink header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The attributes after a fixed header of `skip` bytes.
    #[must_use]
    pub fn attributes(&self, skip: usize) -> AttributeIter<'_> {
        attributes(self.payload.get(skip..).unwrap_or_default())
    }

    /// The first attribute of a kind, after a fixed header of `skip` bytes.
    #[must_use]
    pub fn find(&self, skip: usize, kind: u16) -> Option<&[u8]> {
        find(self.payload.get(skip..).unwrap_or_default(), kind)
    }
}

/// The attributes in a piece of a message; a malformed tail ends the iteration.
#[must_use]
pub fn attributes(bytes: &[u8]) -> AttributeIter<'_> {
    AttributeIter { rest: bytes }
}

/// The first attribute of a kind in a piece of a message.
#[must_use]
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// A text attribute without its terminating zero.
#[must_use]
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// Walks attributes as `(kind, value)`.
pub struct AttributeIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for AttributeIter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self
            .rest
            .get(length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((kind, value))
    }
}

/// The messages in a datagram as a socket reads them, for fuzzers.
#[must_use]
pub fn replies(datagram: &[u8]) -> Vec<Reply> {
    let mut found = Vec::new();
    messages(datagram, |_, _, reply| {
        let _ = refusal(&reply);
        found.push(reply);
        true
    });
    found
}

/// Calls `each(sequence, flags, message)` for the messages in a datagram until it answers false.
pub(super) fn messages(mut bytes: &[u8], mut each: impl FnMut(u32, u16, Reply) -> bool) {
    while bytes.len() >= HEADER {
        let word = |at: usize| {
            u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let length = word(0) as usize;
        if length < HEADER || length > bytes.len() {
            return;
        }
        let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
        let flags = u16::from_ne_bytes([bytes[6], bytes[7]]);
        let reply = Reply {
            kind,
            port: word(12),
            payload: bytes[HEADER..length].to_vec(),
        };
        if !each(word(8), flags, reply) {
            return;
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The error in an error message, with the kernel's sentence; `None` for an acknowledgement or anything else.
pub(super) fn refusal(reply: &Reply) -> Option<(io::Error, Option<String>)> {
    if i32::from(reply.kind) != libc::NLMSG_ERROR {
        return None;
    }
    let code = i32::from_ne_bytes(reply.payload.get(0..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    // After the code stands the refused message's header, then the kernel's attributes: 1 is its sentence.
    let detail = reply.find(4 + HEADER, 1).map(text);
    Some((io::Error::from_raw_os_error(-code), detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_frames_pads_and_nests() {
        let mut batch = Batch::new();
        batch.message("one", 16, CREATE, &[1, 2], |a| {
            a.put_text(3, "lo").nest(18, |a| {
                a.put_u32(1, 7);
            });
        });
        let expected: Vec<u8> = [
            &[40u8, 0, 0, 0, 16, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0][..],
            &[1, 2, 0, 0],
            &[7, 0, 3, 0, b'l', b'o', 0, 0],
            &[12, 0, 18, 0x80, 8, 0, 1, 0, 7, 0, 0, 0],
        ]
        .concat();
        assert_eq!(batch.as_bytes(), expected);
        batch.number(9);
        assert_eq!(batch.as_bytes()[8], 9);
    }

    #[test]
    fn attributes_are_walked_and_a_broken_tail_ends_the_walk() {
        let bytes = [
            8, 0, 1, 0, 7, 0, 0, 0, 5, 0, 2, 0x80, 9, 0, 0, 0, 200, 0, 1, 0,
        ];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &[7, 0, 0, 0][..]), (2, &[9][..])]);
    }
}
