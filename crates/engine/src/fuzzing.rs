//! What bytes from elsewhere meet here, for fuzzers: they may be left out, and must not panic or hang.

use std::path::Path;

use hoist_model::container::{LogFormat, LogOptions};
use tokio::sync::{mpsc, watch};

use crate::containers::{LogEntry, LogRequest};
use crate::logs::{Place, Watches};

/// A log, and an older file of it, as a crash or a full disk may leave them: the last lines are the last of all lines. The
/// first byte says how many are asked for, and in which format it is; `directory` is to write in.
pub fn log(directory: &Path, bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else {
        return;
    };
    let (format, driver) = if choice & 8 == 0 {
        (LogFormat::JsonFile, "json-file")
    } else {
        (LogFormat::Local, "local")
    };
    let path = directory.join("log");
    let (older, newer) = bytes.split_at(bytes.len() / 2);
    std::fs::write(directory.join("log.1"), older).expect("a place to write");
    std::fs::write(&path, newer).expect("a place to write");
    let options = LogOptions::of(driver, &Default::default()).expect("options may be absent");
    let place = Place {
        path,
        format,
        options,
    };
    let all = entries(&place, None);
    let tail = u64::from(*choice % 8);
    let last = entries(&place, Some(tail));
    assert!(last.len() <= all.len());
    assert!(all.ends_with(&last), "the last {tail} are not the last");
}

fn entries(place: &Place, tail: Option<u64>) -> Vec<LogEntry> {
    let request = LogRequest {
        stdout: true,
        stderr: true,
        follow: false,
        since: None,
        until: None,
        tail,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (out, mut entries) = mpsc::channel(8);
        let (_running, running) = watch::channel(false);
        let reading = crate::logs::read(place.clone(), request, running, Watches::new(), out);
        let collect = async {
            let mut all = Vec::new();
            while let Some(batch) = entries.recv().await {
                all.extend(batch.into_iter().flatten());
            }
            all
        };
        tokio::join!(reading, collect).1
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn broken_logs_do_no_harm() {
        let place = hoist_testkit::TemporaryDirectory::new("logs");
        let line =
            br#"{"log":"text \u0007\n","stream":"stdout","time":"2026-11-28T07:28:46.407140123Z"}"#;
        let mut lines = vec![3];
        for _ in 0..6 {
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        let local = b"\x0b2026-11-28T07:28:46.407140123Z stdout F text\n2026-11-28T07:28:46.407140124Z stderr P te\n2026-11-28T07:28:46.407140125Z stderr F xt\n".repeat(3);
        let seeds: [&[u8]; 2] = [&lines, &local];
        hoist_testkit::mutate(&seeds, Duration::from_secs(2), |bytes| {
            log(place.path(), bytes)
        });
    }
}
