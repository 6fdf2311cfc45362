//! D-Bus messages (D-Bus specification, "Message Protocol"): just the marshalling that a few calls to systemd need.
//!
//! Little-endian, alignments counted from the beginning of the header or the body, which itself begins at a multiple of 8.

use std::io;

/// Messages longer than this are not what we asked for.
pub(super) const LONGEST: u32 = 1 << 20;

/// The part of a header before its array of fields, whose length ends it.
pub(super) const FIXED: usize = 16;

const LITTLE_ENDIAN: u8 = b'l';
const VERSION: u8 = 1;
/// Message types.
pub(super) const METHOD_CALL: u8 = 1;
pub(super) const METHOD_RETURN: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;
/// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Bytes in the making.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn boolean(&mut self, value: bool) {
        self.u32(value.into());
    }

    pub(super) fn string(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend(text.as_bytes());
        self.byte(0);
    }

    pub(super) fn signature(&mut self, text: &str) {
        self.byte(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.bytes.extend(text.as_bytes());
        self.byte(0);
    }

    /// An array: its length in bytes does not count the padding before its first element.
    pub(super) fn array(&mut self, alignment: usize, fill: impl FnOnce(&mut Self)) {
        self.u32(0);
        let at = self.bytes.len() - 4;
        self.align(alignment);
        let begin = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn field(&mut self, code: u8, kind: &str, value: &str) {
        self.align(8);
        self.byte(code);
        self.signature(kind);
        if kind == "g" {
            self.signature(value);
        } else {
            self.string(value);
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Whom a call is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// A whole method call.
pub(super) fn call(serial: u32, method: Method<'_>, signature: &str, body: Vec<u8>) -> Vec<u8> {
    let mut writer = Writer::default();
    for byte in [LITTLE_ENDIAN, METHOD_CALL, 0, VERSION] {
        writer.byte(byte);
    }
    writer.u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
    writer.u32(serial);
    writer.array(8, |fields| {
        fields.field(PATH, "o", method.path);
        fields.field(DESTINATION, "s", method.destination);
        fields.field(INTERFACE, "s", method.interface);
        fields.field(MEMBER, "s", method.member);
        if !signature.is_empty() {
            fields.field(SIGNATURE, "g", signature);
        }
    });
    writer.align(8);
    writer.bytes.extend(body);
    writer.into_bytes()
}

/// A message that came.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) kind: u8,
    /// Of which call it is the answer.
    pub(super) reply_to: Option<u32>,
    pub(super) member: String,
    pub(super) error: String,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// How many bytes follow the [`FIXED`] ones: the fields, padded, and the body.
pub(super) fn rest_of(fixed: &[u8; FIXED]) -> io::Result<usize> {
    if fixed[0] != LITTLE_ENDIAN || fixed[3] != VERSION {
        return Err(malformed("another byte order or version"));
    }
    let mut reader = Reader {
        bytes: fixed,
        at: 4,
    };
    let body = reader.u32()?;
    reader.u32()?;
    let fields = reader.u32()?;
    if body > LONGEST || fields > LONGEST {
        return Err(malformed("too long"));
    }
    Ok((fields as usize).next_multiple_of(8) + body as usize)
}

/// Reads a whole message; `rest` is what follows the fixed part.
pub(super) fn parse(fixed: &[u8; FIXED], rest: &[u8]) -> io::Result<Message> {
    let mut head = Reader {
        bytes: fixed,
        at: 12,
    };
    let fields_end = head.u32()? as usize;
    let mut message = Message {
        kind: fixed[1],
        ..Message::default()
    };
    let fields = rest.get(..fields_end).ok_or_else(|| malformed("cut"))?;
    // The array begins at byte 16, a multiple of 8, so that alignments count from its own begin.
    let mut reader = Reader {
        bytes: fields,
        at: 0,
    };
    while reader.at < fields.len() {
        reader.align(8);
        let code = reader.byte()?;
        let kind = reader.signature()?;
        match (code, kind.as_str()) {
            (REPLY_SERIAL, "u") => message.reply_to = Some(reader.u32()?),
            (MEMBER, "s") => message.member = reader.string()?,
            (ERROR_NAME, "s") => message.error = reader.string()?,
            (SIGNATURE, "g") => message.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.string()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => return Err(malformed("a header field of a strange type")),
        }
    }
    let body = fields_end.next_multiple_of(8);
    message.body = rest.get(body..).unwrap_or_default().to_vec();
    Ok(message)
}

/// Bytes being read.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| malformed("cut"))?;
        self.at += count;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> io::Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn text(&mut self, length: usize) -> io::Result<String> {
        let bytes = self.take(length)?.to_vec();
        self.take(1)?;
        String::from_utf8(bytes).map_err(|_| malformed("text that is not UTF-8"))
    }

    pub(super) fn string(&mut self) -> io::Result<String> {
        let length = self.u32()? as usize;
        self.text(length)
    }

    pub(super) fn signature(&mut self) -> io::Result<String> {
        let length = self.byte()?.into();
        self.text(length)
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("malformed D-Bus message: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(bytes: &[u8]) -> ([u8; FIXED], &[u8]) {
        let (fixed, rest) = bytes.split_at(FIXED);
        (fixed.try_into().unwrap(), rest)
    }

    #[test]
    fn a_call_is_as_the_specification_lays_it_out() {
        let method = Method {
            destination: "d.e",
            path: "/p",
            interface: "i.f",
            member: "M",
        };
        let mut body = Writer::default();
        body.string("x");
        body.array(8, |structs| {
            structs.align(8);
            structs.string("k");
        });
        let bytes = call(7, method, "sa(s)", body.into_bytes());
        let (fixed, rest) = split(&bytes);
        assert_eq!(fixed[..4], [b'l', 1, 0, 1]);
        assert_eq!(fixed[8..12], [7, 0, 0, 0]);
        assert_eq!(rest_of(&fixed).unwrap(), rest.len());
        let read = parse(&fixed, rest).unwrap();
        assert_eq!((read.kind, read.member.as_str()), (METHOD_CALL, "M"));
        assert_eq!(read.signature, "sa(s)");
        // 4 length, "x\0", padding to 8, 4 length, padding to 16, then one struct of 6 bytes.
        assert_eq!(
            read.body,
            [
                1, 0, 0, 0, b'x', 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, b'k', 0
            ]
        );
    }

    proptest! {
        #[test]
        fn foreign_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), FIXED..200)) {
            let (fixed, rest) = split(&bytes);
            if rest_of(&fixed).is_ok() {
                let _ = parse(&fixed, rest);
            }
        }
    }
}
