//! Packets (gitprotocol-common(5), "pkt-line Format"): four hexadecimal digits of length, and the rest.

use crate::GitError;

/// What stands between packets, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Packet {
    /// `0000`
    Flush,
    /// `0001`
    Delimiter,
    /// `0002`
    End,
    Data(Vec<u8>),
}

/// Takes bytes as they come and gives packets back.
#[derive(Debug, Default)]
pub(crate) struct Packets {
    buffer: Vec<u8>,
    start: usize,
}

impl Packets {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next, if all of it is there.
    pub(crate) fn next(&mut self) -> Result<Option<Packet>, GitError> {
        let rest = &self.buffer[self.start..];
        let Some(head) = rest.get(..4) else {
            return Ok(None);
        };
        let length = std::str::from_utf8(head).ok();
        let length = length.filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()));
        let length = length.and_then(|text| usize::from_str_radix(text, 16).ok());
        let packet = match length {
            None | Some(3) => {
                let said = format!("sends no packets, but {:?}", String::from_utf8_lossy(head));
                return Err(GitError::Protocol(said));
            }
            Some(0) => Packet::Flush,
            Some(1) => Packet::Delimiter,
            Some(2) => Packet::End,
            Some(length) => match rest.get(4..length) {
                None => return Ok(None),
                Some(data) => Packet::Data(data.to_vec()),
            },
        };
        self.start += length.unwrap_or(0).max(4);
        Ok(Some(packet))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }
}

/// All packets of an answer.
pub(crate) fn all(bytes: &[u8]) -> Result<Vec<Packet>, GitError> {
    let mut packets = Packets::default();
    packets.push(bytes);
    let mut found = Vec::new();
    while let Some(packet) = packets.next()? {
        found.push(packet);
    }
    if packets.is_empty() {
        Ok(found)
    } else {
        Err(GitError::Protocol("breaks off in a packet".to_owned()))
    }
}

/// Writes a line as a packet.
pub(crate) fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
}
