//! How entries are written, and where an entry says when it was written.
//!
//! ```text
//! json-file   {"log":"text\n","stream":"stdout","attrs":{"tag":"x"},"time":"2024-01-01T00:00:00.123456789Z"}
//! local       2024-01-01T00:00:00.123456789Z stdout F text
//! ```
//!
//! `attrs` is there where labels, variables or a tag were asked for. A line without its newline, a part of a long one or the
//! last thing a process said, has no `\n` in json-file and `P` in local. `local` is the log format of Kubernetes' container
//! runtimes (kubernetes/design-proposals-archive, `node/kubelet-cri-logging.md`): bytes as they came, nothing escaped.
//! Both end an entry with a newline and have none within, so that a reader finds its place from any offset.

use hoist_model::Timestamp;
use hoist_model::container::LogFormat;

/// Writes entries of one log.
pub(super) struct Entries {
    format: LogFormat,
    /// What follows the stream's name in json-file: `,"attrs":{…}`, or nothing.
    attributes: String,
    stamp: Stamp,
}

impl Entries {
    pub(super) fn new(format: LogFormat, attributes: &str) -> Self {
        let attributes = match attributes {
            "" => String::new(),
            object => format!(",\"attrs\":{object}"),
        };
        Self {
            format,
            attributes,
            stamp: Stamp::default(),
        }
    }

    /// Adds the entry of one line, or of a part of one.
    pub(super) fn put(&mut self, out: &mut Vec<u8>, stream: u8, line: &[u8], at: i64) {
        let name: &[u8] = if stream == 2 { b"stderr" } else { b"stdout" };
        match self.format {
            LogFormat::JsonFile => {
                out.extend_from_slice(b"{\"log\":\"");
                put_text(out, line);
                out.extend_from_slice(b"\",\"stream\":\"");
                out.extend_from_slice(name);
                out.push(b'"');
                out.extend_from_slice(self.attributes.as_bytes());
                out.extend_from_slice(b",\"time\":\"");
                self.stamp.put(out, at);
                out.extend_from_slice(b"\"}\n");
            }
            LogFormat::Local => {
                self.stamp.put(out, at);
                out.push(b' ');
                out.extend_from_slice(name);
                match line.strip_suffix(b"\n") {
                    Some(whole) => {
                        out.extend_from_slice(b" F ");
                        out.extend_from_slice(whole);
                    }
                    None => {
                        out.extend_from_slice(b" P ");
                        out.extend_from_slice(line);
                    }
                }
                out.push(b'\n');
            }
        }
    }
}

/// When an entry was written.
pub(super) fn time_of(format: LogFormat, entry: &[u8]) -> Option<i64> {
    let text = match format {
        LogFormat::JsonFile => {
            let end = entry.strip_suffix(b"\"}\n")?;
            let start = memchr::memmem::rfind(end, b"\"time\":\"")?;
            &end[start + 8..]
        }
        LogFormat::Local => &entry[..memchr::memchr(b' ', entry)?],
    };
    Timestamp::read_utc(text).map(Timestamp::as_nanos)
}

/// What JSON wants escaped, and how: 0 as it is, 1 as `\u00XX`, else a backslash and this.
const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = 1;
        control += 1;
    }
    escapes[b'\n' as usize] = b'n';
    escapes[b'\r' as usize] = b'r';
    escapes[b'\t' as usize] = b't';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

/// Text within a JSON string. Bytes that are no UTF-8 become U+FFFD, as in Docker.
fn put_text(out: &mut Vec<u8>, mut text: &[u8]) {
    loop {
        match std::str::from_utf8(text) {
            Ok(text) => return escape(out, text.as_bytes()),
            Err(error) => {
                let (valid, rest) = text.split_at(error.valid_up_to());
                escape(out, valid);
                out.extend_from_slice("\u{fffd}".as_bytes());
                match error.error_len() {
                    Some(length) => text = &rest[length..],
                    None => return,
                }
            }
        }
    }
}

fn escape(out: &mut Vec<u8>, text: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut plain = 0;
    for (at, byte) in text.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&text[plain..at]);
        plain = at + 1;
        if escape == 1 {
            out.extend_from_slice(b"\\u00");
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', escape]);
        }
    }
    out.extend_from_slice(&text[plain..]);
}

/// Writes instants as RFC 3339 with nanoseconds, without trailing zeros; the text of a second is kept.
#[derive(Default)]
struct Stamp {
    second: Option<i64>,
    text: String,
}

impl Stamp {
    fn put(&mut self, out: &mut Vec<u8>, at: i64) {
        let second = at.div_euclid(1_000_000_000);
        if self.second != Some(second) {
            self.text = Timestamp::from_seconds(second).to_string();
            self.text.pop();
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let mut nanos = at.rem_euclid(1_000_000_000);
        if nanos != 0 {
            let mut digits = [b'0'; 9];
            for digit in digits.iter_mut().rev() {
                *digit += u8::try_from(nanos % 10).unwrap_or(0);
                nanos /= 10;
            }
            let used = digits.iter().rposition(|digit| *digit != b'0');
            out.push(b'.');
            out.extend_from_slice(&digits[..=used.unwrap_or(0)]);
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::*;

    /// One of each: the files under `testdata` are the formats' first version, and stay readable.
    fn sample(format: LogFormat, attributes: &str) -> Vec<u8> {
        let mut entries = Entries::new(format, attributes);
        let mut out = Vec::new();
        let second = 1_732_400_000_000_000_000;
        for (stream, line, at) in [
            (1, &b"plain\n"[..], 0),
            (2, b"to standard error\n", 1),
            (1, b"\n", 120_000_000),
            (1, b"a \"quoted\" back\\slash\ttab\r\n", 120_000_001),
            (1, "gr\u{fc}\u{df}e \u{2713} <&>\n".as_bytes(), 123_456_789),
            (1, b"\x1b[31mred\x07\x00\n", 999_999_999),
            (1, b"\xff\xfe bytes \xe2\x9c\n", 1_000_000_000),
            (1, b"part of a long ", 2_000_000_000),
            (1, b"line\n", 2_000_000_001),
        ] {
            entries.put(&mut out, stream, line, second + at);
        }
        out
    }

    #[test]
    fn json_file_is_as_it_was() {
        let written = sample(LogFormat::JsonFile, "");
        expect_file!["testdata/json-file-v1.log"].assert_eq(&String::from_utf8(written).unwrap());
    }

    #[test]
    fn json_file_with_attributes_is_as_it_was() {
        let written = sample(LogFormat::JsonFile, r#"{"tag":"x"}"#);
        expect_file!["testdata/json-file-attrs-v1.log"]
            .assert_eq(&String::from_utf8(written).unwrap());
    }

    #[test]
    fn local_is_as_it_was() {
        // The bytes that are no text are shown escaped here; the file has them as they came.
        let written = sample(LogFormat::Local, "").escape_ascii().to_string();
        expect_file!["testdata/local-v1.log.escaped"].assert_eq(&written.replace("\\n", "\n"));
    }

    #[test]
    fn the_time_of_an_entry_is_found() {
        for format in [LogFormat::JsonFile, LogFormat::Local] {
            let mut out = Vec::new();
            let at = 1_732_400_000_120_000_000;
            Entries::new(format, "").put(&mut out, 1, b"\"time\":\"\"}\n", at);
            assert_eq!(time_of(format, &out), Some(at));
            assert_eq!(time_of(format, b"nonsense\n"), None);
        }
    }

    #[test]
    fn json_is_what_the_library_reads_back() {
        proptest::proptest!(|(text in proptest::collection::vec(proptest::num::u8::ANY, 0..200))| {
            let mut out = Vec::new();
            Entries::new(LogFormat::JsonFile, "").put(&mut out, 1, &text, 1);
            let read: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let lossy = String::from_utf8_lossy(&text);
            proptest::prop_assert_eq!(read["log"].as_str(), Some(&*lossy));
        });
    }
}
