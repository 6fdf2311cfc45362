//! What a probe prints: both streams in the order they came, taken out of their frames, cut after Docker's 4096 bytes.

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

/// Bytes that are kept (moby `daemon/health.go`).
const LIMIT: usize = 4096;
/// Stream, three zeros, length in four bytes of big endian (API `ContainerAttach`).
const HEADER: usize = 8;

/// Collects output as it comes.
#[derive(Default)]
pub(super) struct Output {
    kept: Vec<u8>,
    /// Whether there was more.
    cut: bool,
    header: Vec<u8>,
    /// Bytes of the current frame still to come.
    left: usize,
}

impl Output {
    /// Reads until the end of the stream.
    pub(super) async fn read(&mut self, stream: &mut UnixStream) {
        let mut chunk = vec![0; LIMIT];
        loop {
            match stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(length) => self.take(&chunk[..length]),
            }
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (now, later) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= now.len();
                bytes = later;
                let room = LIMIT - self.kept.len();
                self.cut |= now.len() > room;
                self.kept.extend_from_slice(&now[..now.len().min(room)]);
                continue;
            }
            let (now, later) = bytes.split_at((HEADER - self.header.len()).min(bytes.len()));
            self.header.extend_from_slice(now);
            bytes = later;
            if let Ok([_, _, _, _, length @ ..]) = <[u8; HEADER]>::try_from(&self.header[..]) {
                self.left = u32::from_be_bytes(length) as usize;
                self.header.clear();
            }
        }
    }

    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let more = if self.cut { "..." } else { "" };
        format!("{text}{more}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], &length[..], text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_taken_apart_however_they_come() {
        let bytes = [frame(1, "out"), frame(2, ""), frame(2, "err")].concat();
        for size in 1..bytes.len() {
            let mut output = Output::default();
            bytes.chunks(size).for_each(|chunk| output.take(chunk));
            assert_eq!(output.text(), "outerr", "{size}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_and_says_so() {
        let mut output = Output::default();
        output.take(&frame(1, &"x".repeat(LIMIT)));
        assert_eq!(output.text().len(), LIMIT);
        output.take(&frame(1, "y"));
        assert!(output.text().ends_with("x..."));
    }
}
