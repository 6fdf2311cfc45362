//! Where one HTTP/1 request ends and the next begins, as far as taking connections over needs to know.
//!
//! Docker's clients may attach without an `Upgrade` header and still get the raw connection after `200 OK`
//! (moby `container_routes.go`, postContainersAttach). hyper hands a connection over only after `101`, so such
//! requests are given an `Upgrade` header on their way in, and the `101` becomes `200 OK` on its way out.
//! Request heads are found with hyper's own parser; whatever it does not accept passes unchanged, for hyper to refuse.
//!
//! ```text
//!  Head ──head──▶ Length(n) ──n bytes──▶ Head        Head ──"PRI "/unparsable──▶ Through
//!       ──head──▶ Chunked ──last chunk─▶ Head        any  ──101 written────────▶ Through
//! ```

use bytes::{Buf, BytesMut};
use http::Method;

/// The protocol name in an `Upgrade` header that came from here and not from the client.
pub(crate) const TAKEOVER: &str = "hoist-takeover";
/// A head longer than this passes unread.
const LONGEST_HEAD: usize = 64 << 10;
const MOST_HEADERS: usize = 128;

/// Which requests may take their connection without asking.
pub(crate) type Hijackable = fn(&Method, &str) -> bool;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Between messages, or in a head that is not whole yet.
    Head,
    /// In a body with this many bytes to go.
    Length(u64),
    /// In a chunked body.
    Chunked(Chunks),
    /// No longer looked at.
    Through,
}

/// What a head asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An ordinary reply.
    Reply,
    /// An upgrade, by the client's own header.
    Upgrade,
    /// The connection, by our header.
    Takeover,
}

/// Takes one whole head from the front of `held`, with our header added where it applies.
///
/// `None`: not whole yet.
pub(crate) fn take_head(
    held: &mut BytesMut,
    hijackable: Hijackable,
) -> Option<(BytesMut, State, Asked)> {
    if held.starts_with(b"PRI ") {
        return Some((held.split(), State::Through, Asked::Reply));
    }
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(held) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if held.len() <= LONGEST_HEAD => return None,
        Ok(httparse::Status::Partial) | Err(_) => {
            return Some((held.split(), State::Through, Asked::Reply));
        }
    };
    let method = request.method.unwrap_or("GET");
    let target = request.path.unwrap_or("/");
    let mut state = State::Head;
    let mut upgrade = false;
    for header in request.headers.iter() {
        let name = header.name;
        if name.eq_ignore_ascii_case("upgrade") {
            upgrade = true;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            let last = header.value.rsplit(|b| *b == b',').next().unwrap_or(b"");
            state = if last.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                State::Chunked(Chunks::default())
            } else {
                State::Through
            };
        } else if name.eq_ignore_ascii_case("content-length") && state == State::Head {
            let parsed = std::str::from_utf8(header.value)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            state = match parsed {
                Some(0) => State::Head,
                Some(length) => State::Length(length),
                None => State::Through,
            };
        }
    }
    if method == "CONNECT" {
        state = State::Through;
    }
    let path = target.split('?').next().unwrap_or(target);
    let wanted = !upgrade
        && state != State::Through
        && Method::from_bytes(method.as_bytes()).is_ok_and(|method| hijackable(&method, path));
    if !wanted {
        let asked = if upgrade {
            Asked::Upgrade
        } else {
            Asked::Reply
        };
        return Some((held.split_to(length), state, asked));
    }
    // HTTP/1.0 knows no upgrade; to hyper the request is one of 1.1.
    let mut head = BytesMut::with_capacity(length + 40);
    head.extend_from_slice(format!("{method} {target} HTTP/1.1\r\n").as_bytes());
    head.extend_from_slice(format!("Upgrade: {TAKEOVER}\r\n").as_bytes());
    let mut old = held.split_to(length);
    while old.first().is_some_and(|b| matches!(b, b'\r' | b'\n')) {
        old.advance(1);
    }
    if let Some(end) = old.iter().position(|b| *b == b'\n') {
        old.advance(end + 1);
    }
    head.extend_from_slice(&old);
    Some((head, state, Asked::Takeover))
}

/// What a piece of a reply means for the upgrade that was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Says nothing about it (`100 Continue`, or the end of an earlier reply).
    Nothing,
    /// An ordinary reply: the connection stays HTTP.
    Refused,
    /// `101`, at this offset.
    Accepted(usize),
}

/// Reads the beginning of what hyper writes after an upgrade was asked for.
pub(crate) fn answer(bytes: &[u8]) -> Answer {
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        if rest.starts_with(b"HTTP/1.1 101") {
            return Answer::Accepted(at);
        }
        if rest.starts_with(b"HTTP/1.1 100") {
            match rest.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(end) => at += end + 4,
                None => return Answer::Nothing,
            }
            continue;
        }
        return if rest.starts_with(b"HTTP/1.") {
            Answer::Refused
        } else {
            Answer::Nothing
        };
    }
}

/// The same reply as `200 OK`, without the words about an upgrade that the client did not ask for.
pub(crate) fn as_ok(reply: &[u8]) -> BytesMut {
    let mut out = BytesMut::with_capacity(reply.len());
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    let mut rest = after_line(reply);
    while let Some(line) = rest.iter().position(|b| *b == b'\n').map(|n| &rest[..=n]) {
        rest = after_line(rest);
        let name = line.split(|b| *b == b':').next().unwrap_or(b"");
        if !name.eq_ignore_ascii_case(b"connection") && !name.eq_ignore_ascii_case(b"upgrade") {
            out.extend_from_slice(line);
        }
        if line == b"\r\n" {
            break;
        }
    }
    out.extend_from_slice(rest);
    out
}

fn after_line(bytes: &[u8]) -> &[u8] {
    match bytes.iter().position(|b| *b == b'\n') {
        Some(end) => &bytes[end + 1..],
        None => &[],
    }
}

/// Walks a chunked body (RFC 9112 §7.1) without judging it: hyper does.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunks {
    part: Part,
    size: u64,
}

#[derive(Debug, Default, PartialEq, Eq, Clone, Copy)]
enum Part {
    #[default]
    Size,
    Extension,
    Data,
    DataEnd,
    TrailerStart,
    Trailer,
}

impl Chunks {
    /// How many of `bytes` belong to the body, and whether it ends with them.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.part == Part::Data {
                let here = usize::try_from(self.size).unwrap_or(usize::MAX);
                let step = here.min(bytes.len() - at);
                self.size -= step as u64;
                at += step;
                if self.size == 0 {
                    self.part = Part::DataEnd;
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match (self.part, byte) {
                (Part::Size | Part::Extension, b'\n') => {
                    self.part = if self.size == 0 {
                        Part::TrailerStart
                    } else {
                        Part::Data
                    };
                }
                (Part::Size, _) => match char::from(byte).to_digit(16) {
                    Some(digit) => {
                        self.size = self.size.saturating_mul(16).saturating_add(digit.into());
                    }
                    None => self.part = Part::Extension,
                },
                (Part::DataEnd, b'\n') => self.part = Part::Size,
                (Part::TrailerStart, b'\n') => return (at, true),
                (Part::TrailerStart, b'\r') => {}
                (Part::TrailerStart, _) => self.part = Part::Trailer,
                (Part::Trailer, b'\n') => self.part = Part::TrailerStart,
                _ => {}
            }
        }
        (at, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(method: &Method, path: &str) -> bool {
        method == Method::POST && path.ends_with("/attach")
    }

    fn head(text: &str) -> (String, State, Asked, String) {
        let mut held = BytesMut::from(text);
        let (head, state, asked) = take_head(&mut held, attach).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&head), state, asked, text(&held))
    }

    #[test]
    fn only_registered_requests_without_upgrade_are_changed() {
        let (text, state, asked, rest) =
            head("POST /containers/a/attach?stdin=1 HTTP/1.0\nHost: x\n\nearly");
        assert_eq!(
            text,
            "POST /containers/a/attach?stdin=1 HTTP/1.1\r\nUpgrade: hoist-takeover\r\nHost: x\n\n"
        );
        assert_eq!((state, asked), (State::Head, Asked::Takeover));
        assert_eq!(rest, "early");
        for same in [
            "GET /containers/a/attach HTTP/1.1\r\n\r\n",
            "POST /containers/a/attach HTTP/1.1\r\nuPgrade: tcp\r\n\r\n",
            "POST /containers/attach/start HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(head(same).0, same);
        }
        assert_eq!(
            head("POST /a HTTP/1.1\r\nUpgrade: h2c\r\n\r\n").2,
            Asked::Upgrade
        );
    }

    #[test]
    fn bodies_are_measured() {
        for (headers, state) in [
            ("Content-Length: 12\r\n", State::Length(12)),
            ("Content-Length: 0\r\n", State::Head),
            (
                "Content-Length: 3\r\nTransfer-Encoding: gzip, Chunked\r\n",
                State::Chunked(Chunks::default()),
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
                State::Chunked(Chunks::default()),
            ),
            ("Transfer-Encoding: gzip\r\n", State::Through),
            ("Content-Length: x\r\n", State::Through),
        ] {
            assert_eq!(
                head(&format!("POST /a HTTP/1.1\r\n{headers}\r\n")).1,
                state,
                "{headers}"
            );
        }
        assert_eq!(head("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").1, State::Through);
        assert_eq!(head("\x16\x03\x01 what").1, State::Through);
        assert!(take_head(&mut BytesMut::from("POST /a HT"), attach).is_none());
    }

    #[test]
    fn chunked_bodies_end_where_they_end_however_cut() {
        let body = b"4;x=y\r\nab\r\n\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\n";
        let wire = [&body[..], b"POST /next"].concat();
        for cut in 0..body.len() {
            let mut chunks = Chunks::default();
            let (first, done) = chunks.advance(&wire[..cut]);
            assert_eq!((first, done), (cut, false), "{cut}");
            let (second, done) = chunks.advance(&wire[cut..]);
            assert!(done);
            assert_eq!(first + second, body.len());
        }
    }

    #[test]
    fn an_accepted_takeover_reads_as_ok() {
        let reply = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nServer: x\r\nupgrade: a\r\n\r\nUpgrade: data\n";
        assert_eq!(answer(reply), Answer::Accepted(0));
        assert_eq!(
            &as_ok(reply)[..],
            b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nUpgrade: data\n"
        );
        assert_eq!(answer(b"HTTP/1.1 404 Not Found\r\n"), Answer::Refused);
        assert_eq!(
            answer(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 U\r\n"),
            Answer::Accepted(25)
        );
        assert_eq!(answer(b"HTTP/1.1 100 Continue\r\n\r\n"), Answer::Nothing);
    }
}
