//! What bytes from elsewhere meet here, for fuzzers: they may be refused, and must not panic or hang; and cuts change
//! nothing.

use bytes::BytesMut;

use crate::framing::{Chunks, take_head};
use crate::mux::Demux;

/// Multiplexed output as a client gets it. The first byte says where it is cut.
pub fn stdcopy(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let whole = frames(&[bytes]);
    let at = usize::from(*cut) * bytes.len() / 256;
    assert_eq!(
        whole,
        frames(&[&bytes[..at], &bytes[at..]]),
        "a cut at {at}"
    );
}

fn frames(parts: &[&[u8]]) -> (Vec<(u8, Vec<u8>)>, bool) {
    let mut demux = Demux::default();
    let mut found = Vec::new();
    for part in parts {
        demux.push(part);
        loop {
            match demux.next_frame() {
                Ok(Some((stream, payload))) => found.push((stream as u8, payload.to_vec())),
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
    }
    (found, false)
}

/// A request's head as it comes: what is taken of it is at its front, and the rest stays.
pub fn head(bytes: &[u8]) {
    let mut held = BytesMut::from(bytes);
    if let Some((head, _, _)) = take_head(&mut held, |_, path| path.ends_with("/attach")) {
        assert!(!head.is_empty(), "nothing was taken");
        assert!(bytes.ends_with(&held), "what stays is not the end");
    }
}

/// A chunked body: where it ends does not depend on how it is cut.
pub fn chunks(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else {
        return;
    };
    let (whole, ended) = Chunks::default().advance(bytes);
    assert!(whole <= bytes.len());
    let at = usize::from(*cut) * bytes.len() / 256;
    let mut chunks = Chunks::default();
    let (first, early) = chunks.advance(&bytes[..at]);
    if early {
        assert_eq!((first, true), (whole, ended), "a cut at {at}");
    } else {
        let (second, late) = chunks.advance(&bytes[at..]);
        assert_eq!((first + second, late), (whole, ended), "a cut at {at}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LASTING: Duration = Duration::from_millis(700);

    #[test]
    fn output_of_strangers_does_no_harm() {
        let seeds: [&[u8]; 2] = [
            b"\x80\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01d",
            b"\x10\x00\0\0\0\0\0\x10\0abc",
        ];
        hoist_testkit::mutate(&seeds, LASTING, stdcopy);
    }

    #[test]
    fn heads_of_strangers_do_no_harm() {
        let seeds: [&[u8]; 3] = [
            b"POST /v1.41/containers/x/attach?stream=1 HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\nmore",
            b"POST /build HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ];
        hoist_testkit::mutate(&seeds, LASTING, head);
    }

    #[test]
    fn chunks_of_strangers_do_no_harm() {
        let seeds: [&[u8]; 2] = [
            b"\x403;x=y\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\nGET",
            b"\x01ffffffffffffffffffff\r\n",
        ];
        hoist_testkit::mutate(&seeds, LASTING, chunks);
    }
}
