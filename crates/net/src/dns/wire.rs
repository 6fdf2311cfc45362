//! DNS messages (RFC 1035), as far as a server that answers some names and forwards the rest reads and writes them.
//!
//! What is forwarded passes as it came, but for its id: only the header and the question are read.

use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};

/// Bytes of a header.
const HEADER: usize = 12;
/// The largest message without EDNS (RFC 1035 §4.2.1).
const PLAIN: u16 = 512;
/// The bit that says that an answer was cut, in the third byte.
const TRUNCATED: u8 = 2;
/// The largest datagram we ask for: passes every path unfragmented (DNS flag day 2020).
const PAYLOAD: u16 = 1232;

/// How a question came; its answer goes the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// In a datagram: long answers are cut short.
    Udp,
    /// On a connection.
    Tcp,
}

/// A question as it was read.
#[derive(Debug)]
pub(super) struct Asked {
    metadata: Metadata,
    /// What is asked.
    pub(super) query: Query,
    /// Where the question ends in the message.
    pub(super) end: usize,
    edns: Option<Edns>,
}

/// Why a message is not a question that could be answered.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It is not one at all: silence.
    Ignored,
    /// It is refused with this.
    Refused(Vec<u8>),
}

/// Reads a message that came from a container.
pub(super) fn read(bytes: &[u8]) -> Result<Asked, Unusable> {
    let mut decoder = BinDecoder::new(bytes);
    let Ok(header) = Header::read(&mut decoder) else {
        return Err(Unusable::Ignored);
    };
    // An answer to an answer could go on for ever.
    if header.message_type != MessageType::Query {
        return Err(Unusable::Ignored);
    }
    if header.op_code != OpCode::Query {
        return Err(Unusable::Refused(bare(bytes, 4)));
    }
    // RFC 9619: one question.
    if header.counts.queries != 1 {
        return Err(Unusable::Refused(bare(bytes, 1)));
    }
    let Ok(query) = Query::read(&mut decoder) else {
        return Err(Unusable::Refused(bare(bytes, 1)));
    };
    let edns = if header.counts.additionals == 0 {
        None
    } else {
        Message::from_vec(bytes).ok().and_then(|whole| whole.edns)
    };
    Ok(Asked {
        metadata: header.metadata,
        query,
        end: decoder.index(),
        edns,
    })
}

/// A refusal without a question: the header with a response code.
fn bare(bytes: &[u8], code: u8) -> Vec<u8> {
    let mut reply = bytes[..HEADER].to_vec();
    // QR, the opcode and RD of the question.
    reply[2] = 0x80 | (reply[2] & 0x79);
    reply[3] = 0x80 | code;
    reply[4..].fill(0);
    reply
}

impl Asked {
    /// The answer with these records, none of them being an answer too; cut where it is too long for its way.
    pub(super) fn reply(&self, records: Vec<Record>, transport: Transport) -> Vec<u8> {
        self.encode(records, ResponseCode::NoError, transport)
    }

    /// The name does not exist.
    pub(super) fn no_such_name(&self) -> Vec<u8> {
        self.encode(Vec::new(), ResponseCode::NXDomain, Transport::Udp)
    }

    /// Nobody could tell.
    pub(super) fn failure(&self) -> Vec<u8> {
        self.encode(Vec::new(), ResponseCode::ServFail, Transport::Udp)
    }

    fn encode(&self, records: Vec<Record>, code: ResponseCode, transport: Transport) -> Vec<u8> {
        let mut message = Message::new(self.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata.recursion_desired = self.metadata.recursion_desired;
        message.metadata.checking_disabled = self.metadata.checking_disabled;
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        message.add_answers(records);
        if self.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            message.set_edns(edns);
        }
        let room = match (transport, &self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, None) => PLAIN,
            (Transport::Udp, Some(edns)) => edns.max_payload().max(PLAIN),
        };
        let mut bytes = emit(&message, room);
        if bytes.get(2).is_some_and(|flags| flags & TRUNCATED != 0) {
            // One record less than there was room for leaves some for what says that we know EDNS (RFC 6891 §7).
            let fitting = usize::from(u16::from_be_bytes([bytes[6], bytes[7]]));
            message.answers.truncate(fitting.saturating_sub(1));
            message.metadata.truncation = true;
            bytes = emit(&message, room);
        }
        bytes
    }
}

/// A message of at most so many bytes, cut between two records if need be.
fn emit(message: &Message, room: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::from(PLAIN));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(room);
    let done = message.emit(&mut encoder);
    encoder.trim();
    done.expect("a question that came in a message fits into one");
    bytes
}

/// A message with another id.
pub(super) fn with_id(message: &[u8], id: u16) -> Vec<u8> {
    let mut bytes = message.to_vec();
    bytes[..2].copy_from_slice(&id.to_be_bytes());
    bytes
}

/// The id of a message of at least a header.
pub(super) fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

/// What a server sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Not an answer to our question: whoever sent it, the answer may still come.
    Stray,
    /// The server could not or would not tell: another may.
    Failed,
    /// The answer.
    Answer,
}

/// Judges what came as the answer to a question that was sent with an id; `question` is the question's bytes.
pub(super) fn judge(response: &[u8], own_id: u16, question: &[u8]) -> Verdict {
    const RESPONSE: u8 = 0x80;
    if response.len() < HEADER || id(response) != own_id || response[2] & RESPONSE == 0 {
        return Verdict::Stray;
    }
    let failed = matches!(response[3] & 15, 2 | 5);
    let echoed = response.get(HEADER..HEADER + question.len());
    match [response[4], response[5]] {
        [0, 1] if echoed.is_some_and(|echoed| echoed.eq_ignore_ascii_case(question)) => {
            if failed {
                Verdict::Failed
            } else {
                Verdict::Answer
            }
        }
        // Some leave the question out when they refuse.
        [0, 0] if failed => Verdict::Failed,
        _ => Verdict::Stray,
    }
}

/// The bytes of a message's one question.
pub(super) fn question(message: &[u8], end: usize) -> &[u8] {
    &message[HEADER..end]
}

/// The length of the first message of what came on a connection, as far as it is known.
pub(super) fn framed_length(input: &[u8]) -> usize {
    let byte = |at: usize| usize::from(input.get(at).copied().unwrap_or_default());
    byte(0) << 8 | byte(1)
}

/// The first message of what came on a connection, where a length of two bytes precedes each (RFC 1035 §4.2.2); `None`
/// while it is not whole.
pub(super) fn framed(input: &[u8]) -> Option<&[u8]> {
    let length = u16::from_be_bytes([*input.first()?, *input.get(1)?]);
    input.get(2..2 + usize::from(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        question.extend(b"\x03wEb\0\0\x01\0\x01");
        let asked = &question[HEADER..];
        let with = |change: &[(usize, u8)]| {
            let mut response = question.clone();
            response[2] |= 0x80;
            for (at, value) in change {
                response[*at] = *value;
            }
            judge(&response, 0x1234, asked)
        };
        assert_eq!(with(&[]), Verdict::Answer);
        assert_eq!(with(&[(13, b'W')]), Verdict::Answer);
        assert_eq!(with(&[(3, 3)]), Verdict::Answer);
        assert_eq!(with(&[(3, 2)]), Verdict::Failed);
        assert_eq!(with(&[(3, 5), (5, 0)]), Verdict::Failed);
        // Another id, a question, another name, type or number of questions.
        for change in [(1, 0), (2, 1), (14, b'x'), (17, 28), (5, 0), (5, 2)] {
            assert_eq!(with(&[change]), Verdict::Stray, "{change:?}");
        }
        assert_eq!(judge(&question[..11], 0x1234, asked), Verdict::Stray);
        assert_eq!(judge(&question[..14], 0x1234, asked), Verdict::Stray);
    }

    #[test]
    fn messages_on_a_connection_come_whole() {
        assert_eq!(framed(&[]), None);
        assert_eq!(framed(&[0]), None);
        assert_eq!(framed(&[0, 2, 7]), None);
        assert_eq!(framed(&[0, 2, 7, 8, 0]), Some(&[7, 8][..]));
        assert_eq!(framed(&[0, 0]), Some(&[][..]));
    }
}
