//! What a container wrote.

use std::io::Read;
use std::os::unix::net::UnixStream;

use hoist_runtime::spec::{LaunchSpec, Streams};

use super::PATIENCE;

/// Both streams, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Output {
    pub stdout: String,
    pub stderr: String,
    pub code: i32,
}

/// All three streams.
pub const ALL: Streams = Streams {
    stdin: true,
    stdout: true,
    stderr: true,
};

/// Attaches to all streams of a container to be started.
pub fn attach(spec: &mut LaunchSpec) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    spec.attached.push((ALL, theirs));
    ours
}

/// Reads until this text came.
pub fn read_until(stream: &mut UnixStream, text: &str) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut all = String::new();
    while !all.contains(text) {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "ended without {text:?}: {all:?}");
        all += &String::from_utf8_lossy(&buffer[..length]);
    }
    all
}

/// Reads to the end, and takes frames apart unless it is a terminal's.
pub fn read(mut stream: UnixStream, terminal: bool, code: i32) -> Output {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let mut output = Output {
        stdout: String::new(),
        stderr: String::new(),
        code,
    };
    if terminal {
        output.stdout = String::from_utf8(bytes).unwrap();
        return output;
    }
    let mut rest = &bytes[..];
    while let Some((header, after)) = rest.split_at_checked(8) {
        let length = u32::from_be_bytes(header[4..].try_into().unwrap());
        let (payload, after) = after.split_at(usize::try_from(length).unwrap());
        let text = std::str::from_utf8(payload).unwrap();
        match header[0] {
            1 => output.stdout += text,
            2 => output.stderr += text,
            other => panic!("frame of stream {other}"),
        }
        rest = after;
    }
    assert!(rest.is_empty(), "a frame was cut");
    output
}
