//! One entry as it stands in a file (hoist-runtime, `monitor::log::format`, draws the formats).

use std::borrow::Cow;

use hoist_model::Timestamp;
use hoist_model::container::LogFormat;
use serde::Deserialize;

use crate::containers::LogEntry;

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// How a whole line ends in json-file: the text of a part has no newline, so the closing quote follows directly.
const WHOLE: &[u8] = b"\\n\",\"stream\"";

pub(super) fn parse(format: LogFormat, line: &[u8]) -> Option<LogEntry> {
    match format {
        LogFormat::JsonFile => {
            let object: Object<'_> = serde_json::from_slice(line).ok()?;
            Some(LogEntry {
                stream: if object.stream == "stderr" { 2 } else { 1 },
                at: instant(object.time.as_bytes())?,
                bytes: object.log.into_owned().into_bytes(),
            })
        }
        LogFormat::Local => {
            let (head, text) = split(line)?;
            let mut bytes = text.to_vec();
            if head.whole {
                bytes.push(b'\n');
            }
            Some(LogEntry {
                stream: head.stream,
                at: head.at,
                bytes,
            })
        }
    }
}

/// When it was written.
pub(super) fn time_of(format: LogFormat, line: &[u8]) -> Option<Timestamp> {
    match format {
        LogFormat::JsonFile => {
            let end = line.strip_suffix(b"\"}\n")?;
            let start = memchr::memmem::rfind(end, b"\"time\":\"")?;
            instant(&end[start + 8..])
        }
        LogFormat::Local => split(line).map(|(head, _)| head.at),
    }
}

/// Whether it ends a line of the container's.
pub(super) fn is_whole(format: LogFormat, line: &[u8]) -> bool {
    match format {
        LogFormat::JsonFile => memchr::memmem::rfind(line, WHOLE).is_some(),
        LogFormat::Local => split(line).is_some_and(|(head, _)| head.whole),
    }
}

/// Other writers of the format may use another zone.
fn instant(text: &[u8]) -> Option<Timestamp> {
    Timestamp::read_utc(text).or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
}

struct Head {
    at: Timestamp,
    stream: u8,
    whole: bool,
}

fn split(line: &[u8]) -> Option<(Head, &[u8])> {
    let line = line.strip_suffix(b"\n")?;
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let head = Head {
        at: instant(words.next()?)?,
        stream: match words.next()? {
            b"stdout" => 1,
            b"stderr" => 2,
            _ => return None,
        },
        // Tags may follow, after colons.
        whole: words.next()?.first() == Some(&b'F'),
    };
    Some((head, words.next()?))
}
