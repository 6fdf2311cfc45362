//! `GET /containers/{id}/logs`.

use axum::body::Body;
use bytes::BytesMut;
use hoist_engine::containers::{LogEntry, LogRequest, log_attributes};
use hoist_engine::records::ContainerRecord;
use hoist_http::mux;
use hoist_model::Timestamp;
use http::StatusCode;

use super::bridge::stream_of;
use crate::call::{Call, with_type};
use crate::error::{ApiError, Reply};

/// Streams the log: multiplexed frames, or raw bytes where the container has a terminal.
pub(crate) async fn logs(call: Call) -> Reply {
    let query = &call.query;
    let (stdout, stderr) = (query.boolean("stdout"), query.boolean("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid(
            "Bad parameters: you must choose at least one stream",
        ));
    }
    let container = call.engine().containers.resolve(call.name())?;
    let request = LogRequest {
        stdout,
        stderr,
        follow: query.boolean("follow"),
        since: instant(query.nonempty("since"), "since")?,
        until: instant(query.nonempty("until"), "until")?,
        tail: tail(query.nonempty("tail")),
    };
    let terminal = container.spec.process.terminal;
    let format = Format {
        terminal,
        timestamps: query.boolean("timestamps"),
        details: query.boolean("details").then(|| details(&container)),
        at_line_start: [true; 2],
        prefix: String::new(),
    };
    let entries = call.engine().containers.logs(&container.id, request)?;
    // An error after the head ends the stream early; the client sees a cut chunked body.
    let body = futures_util::stream::unfold((entries, format), |(mut entries, mut format)| async {
        let next = entries.recv().await?;
        let bytes = next.map(|entries| {
            let mut bytes = BytesMut::new();
            for entry in &entries {
                format.render(entry, &mut bytes);
            }
            bytes.freeze()
        });
        Some((bytes, (entries, format)))
    });
    let multiplexed = !terminal && call.version.at_least(42);
    Ok(with_type(
        if multiplexed {
            "application/vnd.docker.multiplexed-stream"
        } else {
            "application/vnd.docker.raw-stream"
        },
        StatusCode::OK,
        Body::from_stream(body),
    ))
}

/// `0` and nothing are no bound, as Docker's clients send both.
fn instant(text: Option<&str>, name: &str) -> Result<Option<Timestamp>, ApiError> {
    match text {
        None | Some("0") => Ok(None),
        Some(text) => Timestamp::parse_api(text)
            .map(Some)
            .map_err(|error| ApiError::invalid(format!("invalid value for {name:?}: {error}"))),
    }
}

/// Anything that is no number of lines means all of them.
fn tail(text: Option<&str>) -> Option<u64> {
    text?.parse().ok()
}

/// What `details=1` puts before each line: what the log options name (`labels=a,b`, `env=X`, `tag=…`).
fn details(container: &ContainerRecord) -> String {
    let shown: Vec<String> = log_attributes(container)
        .iter()
        .map(|(name, value)| format!("{}={}", escape(name), escape(value)))
        .collect();
    shown.join(",")
}

fn escape(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// How entries become bytes.
struct Format {
    terminal: bool,
    timestamps: bool,
    details: Option<String>,
    /// Per stream: a part of a long line gets no prefix of its own.
    at_line_start: [bool; 2],
    /// Kept for its memory.
    prefix: String,
}

impl Format {
    fn render(&mut self, entry: &LogEntry, out: &mut BytesMut) {
        let start = &mut self.at_line_start[usize::from(entry.stream == 2)];
        self.prefix.clear();
        if *start {
            if self.timestamps {
                self.prefix.push_str(&fixed(entry.at));
                self.prefix.push(' ');
            }
            if let Some(details) = &self.details {
                self.prefix.push_str(details);
                self.prefix.push(' ');
            }
        }
        *start = entry.bytes.ends_with(b"\n");
        if !self.terminal {
            let length = self.prefix.len() + entry.bytes.len();
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            out.extend_from_slice(&mux::header(stream_of(entry), length));
        }
        out.extend_from_slice(self.prefix.as_bytes());
        out.extend_from_slice(&entry.bytes);
    }
}

/// RFC 3339 with all nine digits, as log lines carry it (moby `pkg/jsonmessage`, RFC3339NanoFixed).
fn fixed(at: Timestamp) -> String {
    let whole = Timestamp::from_seconds(at.as_seconds()).to_string();
    let nanos = at.as_nanos().rem_euclid(1_000_000_000);
    format!("{}.{nanos:09}Z", whole.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stream: u8, text: &str) -> LogEntry {
        LogEntry {
            stream,
            at: Timestamp::from_nanos(1_732_400_000_120_000_000),
            bytes: text.as_bytes().to_vec(),
        }
    }

    #[test]
    fn lines_are_framed_and_prefixed_once() {
        let mut format = Format {
            terminal: false,
            timestamps: true,
            details: Some("a=1".into()),
            at_line_start: [true; 2],
            prefix: String::new(),
        };
        let mut render = |entry: &LogEntry| {
            let mut bytes = BytesMut::new();
            format.render(entry, &mut bytes);
            bytes
        };
        let first = render(&entry(2, "he"));
        assert_eq!(&first[..8], b"\x02\0\0\0\0\0\0\x25");
        assert_eq!(&first[8..], b"2024-11-23T22:13:20.120000000Z a=1 he");
        assert_eq!(&render(&entry(2, "llo\n"))[8..], b"llo\n");
        assert!(render(&entry(2, "x\n")).len() > 30);
    }

    #[test]
    fn a_terminal_gets_bytes_as_they_are() {
        let mut format = Format {
            terminal: true,
            timestamps: false,
            details: None,
            at_line_start: [true; 2],
            prefix: String::new(),
        };
        let mut bytes = BytesMut::new();
        format.render(&entry(1, "x\r\n"), &mut bytes);
        assert_eq!(&bytes[..], b"x\r\n");
    }

    #[test]
    fn bounds_are_read() {
        assert_eq!(instant(Some("0"), "since").unwrap(), None);
        assert_eq!(
            instant(Some("1.5"), "since")
                .unwrap()
                .map(Timestamp::as_nanos),
            Some(1_500_000_000)
        );
        assert!(
            instant(Some("x"), "until")
                .unwrap_err()
                .message
                .contains("\"until\"")
        );
        assert_eq!(
            (tail(Some("all")), tail(Some("5")), tail(None)),
            (None, Some(5), None)
        );
    }
}
