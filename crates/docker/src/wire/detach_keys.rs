//! Detach keys: `ctrl-p,ctrl-q` as text, and finding them in what a terminal sends (moby `pkg/stringid` of old,
//! `moby/term` `ascii.go` and `proxy.go`).

use crate::error::ApiError;

/// What detaches where the client asked for nothing else: ctrl-p, ctrl-q.
const DEFAULT: [u8; 2] = [16, 17];

/// Reads the words: single characters or `ctrl-` with a letter or one of `@[\]^_`, separated by commas.
pub(crate) fn parse(text: &str) -> Result<Vec<u8>, ApiError> {
    if text.is_empty() {
        return Ok(DEFAULT.to_vec());
    }
    let invalid = || ApiError::invalid(format!("Invalid detach keys ({text}) provided"));
    let mut keys = Vec::new();
    for word in text.split(',') {
        let key = match word.as_bytes() {
            [key] => *key,
            [prefix @ .., key] if prefix == b"ctrl-" => match key {
                b'a'..=b'z' => key - b'a' + 1,
                b'@' => 0,
                b'[' => 27,
                b'\\' => 28,
                b']' => 29,
                b'^' => 30,
                b'_' => 31,
                _ => return Err(invalid()),
            },
            b"DEL" => 127,
            _ => return Err(invalid()),
        };
        keys.push(key);
    }
    Ok(keys)
}

/// Finds the keys in a stream of input cut anywhere. A beginning that turns out to be nothing is passed on late.
#[derive(Debug)]
pub(crate) struct Scanner {
    keys: Vec<u8>,
    matched: usize,
}

impl Scanner {
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends what may be passed on to `out`; true once the keys were seen, which are not passed on.
    pub(crate) fn scan(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in input {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return true;
                }
                continue;
            }
            // What was held back was no beginning after all; a shorter one may end in it.
            let mut held = self.keys[..self.matched].to_vec();
            held.push(*byte);
            self.matched = 0;
            let keep = (1..held.len())
                .find(|start| self.keys.starts_with(&held[*start..]))
                .unwrap_or(held.len());
            out.extend_from_slice(&held[..keep]);
            self.matched = held.len() - keep;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_keys() {
        for (text, expected) in [
            ("", vec![16, 17]),
            ("ctrl-p,ctrl-q", vec![16, 17]),
            ("ctrl-x,a", vec![24, b'a']),
            ("ctrl-@", vec![0]),
            ("ctrl-_,DEL", vec![31, 127]),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
        for bad in ["ctrl-", "ctrl-A", "ctrl-1", "abc", "a,,b", "ctrl-p,"] {
            assert_eq!(
                parse(bad).unwrap_err().message,
                format!("Invalid detach keys ({bad}) provided")
            );
        }
    }

    fn scan(keys: &[u8], inputs: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut scanner = Scanner::new(keys.to_vec());
        let mut out = Vec::new();
        let found = inputs.iter().any(|input| scanner.scan(input, &mut out));
        (out, found)
    }

    #[test]
    fn keys_are_found_wherever_the_input_is_cut() {
        assert_eq!(
            scan(b"\x10\x11", &[b"ab\x10", b"\x11rest"]),
            (b"ab".to_vec(), true)
        );
        assert_eq!(
            scan(b"\x10\x11", &[b"\x10x\x11"]),
            (b"\x10x\x11".to_vec(), false)
        );
        assert_eq!(
            scan(b"\x10\x11", &[b"\x10\x10\x11"]),
            (b"\x10".to_vec(), true)
        );
        assert_eq!(scan(b"aab", &[b"aaab"]), (b"a".to_vec(), true));
        assert_eq!(scan(b"abac", &[b"ababac!"]), (b"ab".to_vec(), true));
        assert_eq!(scan(b"q", &[b"xyq"]), (b"xy".to_vec(), true));
    }
}
