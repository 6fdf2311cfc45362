//! Logs made as the monitor makes them, read and compressed.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use hoist_model::Timestamp;
use hoist_model::container::{LogFormat, LogOptions};

use super::reader::{Reader, State};
use super::{Place, compress, files};
use crate::containers::LogRequest;

fn place(directory: &Path, format: LogFormat, max_files: u32) -> Place {
    Place {
        path: directory.join("log"),
        format,
        options: LogOptions {
            max_size: 1 << 20,
            max_files,
            compress: true,
            buffer: None,
        },
    }
}

fn line(format: LogFormat, second: i64, text: &str) -> String {
    let at = Timestamp::from_seconds(second);
    match format {
        LogFormat::JsonFile => format!(
            "{{\"log\":{},\"stream\":\"stdout\",\"time\":\"{at}\"}}\n",
            serde_json::json!(text)
        ),
        LogFormat::Local => match text.strip_suffix('\n') {
            Some(whole) => format!("{at} stdout F {whole}\n"),
            None => format!("{at} stdout P {text}\n"),
        },
    }
}

/// Writes entries `from..to`, each a second after the other, to the end of the newest file.
fn fill(place: &Place, from: i64, to: i64) {
    let mut text = String::new();
    for second in from..to {
        text += &line(place.format, second, &format!("line {second}\n"));
    }
    append(place, &text);
}

fn append(place: &Place, text: &str) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(&place.path)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// As the monitor does.
fn rotate(place: &Place) -> u64 {
    let number = files::numbers(&place.path).unwrap().last().unwrap_or(&0) + 1;
    std::fs::rename(&place.path, files::numbered(&place.path, number)).unwrap();
    if let Some(oldest) = number.checked_sub(u64::from(place.options.max_files) - 1) {
        let _ = std::fs::remove_file(files::numbered(&place.path, oldest));
        let _ = std::fs::remove_file(files::compressed(&place.path, oldest));
    }
    File::create(&place.path).unwrap();
    number
}

fn request() -> LogRequest {
    LogRequest {
        stdout: true,
        stderr: true,
        ..LogRequest::default()
    }
}

/// What there is for a reader now.
fn drain(mut reader: Reader) -> (Reader, String) {
    let mut text = Vec::new();
    loop {
        let (state, entries);
        (reader, state, entries) = reader.batch().unwrap();
        for entry in entries {
            text.extend(entry.bytes);
        }
        if state != State::More {
            return (reader, String::from_utf8(text).unwrap());
        }
    }
}

fn read(place: &Place, request: LogRequest) -> (String, u64) {
    let (reader, text) = drain(Reader::open(place.clone(), request).unwrap());
    (text, reader.bytes_read())
}

fn lines(from: i64, to: i64) -> String {
    (from..to)
        .map(|second| format!("line {second}\n"))
        .collect()
}

fn at(second: i64) -> Option<Timestamp> {
    Some(Timestamp::from_seconds(second))
}

#[test]
fn files_of_all_kinds_are_one_log() {
    for format in [LogFormat::JsonFile, LogFormat::Local] {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), format, 5);
        fill(&place, 0, 10_000);
        rotate(&place);
        fill(&place, 10_000, 20_000);
        rotate(&place);
        compress::sweep(&place).unwrap();
        fill(&place, 20_000, 30_000);
        rotate(&place);
        fill(&place, 30_000, 40_000);
        let check = |request: LogRequest, from, to| {
            assert_eq!(read(&place, request).0, lines(from, to), "{request:?}");
        };
        check(request(), 0, 40_000);
        for lines in [
            0, 1, 9_999, 10_000, 10_001, 25_000, 35_555, 39_999, 40_000, 99_999,
        ] {
            let tail = Some(lines);
            let from = (40_000 - i64::try_from(lines).unwrap()).max(0);
            check(LogRequest { tail, ..request() }, from, 40_000);
        }
        for second in [0, 1, 777, 9_999, 10_000, 15_001, 20_000, 29_999, 39_999] {
            let since = at(second);
            check(LogRequest { since, ..request() }, second, 40_000);
            let until = at(second);
            check(LogRequest { until, ..request() }, 0, second + 1);
        }
        let (since, until) = (at(12_345), at(31_000));
        check(
            LogRequest {
                since,
                until,
                ..request()
            },
            12_345,
            31_001,
        );
        // As in Docker, time narrows what tail takes.
        let (tail, since) = (Some(100), at(39_950));
        check(
            LogRequest {
                tail,
                since,
                ..request()
            },
            39_950,
            40_000,
        );
    }
}

#[test]
fn zcat_reads_what_is_compressed_and_plain_gzip_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path(), LogFormat::JsonFile, 5);
    fill(&place, 0, 20_000);
    let text = std::fs::read(&place.path).unwrap();
    rotate(&place);
    compress::sweep(&place).unwrap();
    let compressed = files::compressed(&place.path, 1);
    let size = compressed.metadata().unwrap().len();
    assert!(size * 8 < text.len() as u64, "{size} of {}", text.len());
    let zcat = Command::new("zcat").arg(&compressed).output().unwrap();
    assert!(zcat.stdout == text);
    // As an engine of Docker's left it: one member, no times.
    std::fs::remove_file(&compressed).unwrap();
    std::fs::write(directory.path().join("log.1"), &text).unwrap();
    let gzip = Command::new("gzip")
        .arg(directory.path().join("log.1"))
        .status();
    assert!(gzip.unwrap().success());
    fill(&place, 20_000, 20_010);
    assert_eq!(read(&place, request()).0, lines(0, 20_010));
    let tail = Some(1_000);
    assert_eq!(
        read(&place, LogRequest { tail, ..request() }).0,
        lines(19_010, 20_010)
    );
    let since = at(19_999);
    assert_eq!(
        read(&place, LogRequest { since, ..request() }).0,
        lines(19_999, 20_010)
    );
}

#[test]
fn what_is_asked_for_by_time_or_number_is_not_read_through() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path(), LogFormat::JsonFile, 5);
    // 30 MB in three files, one of them compressed.
    fill(&place, 0, 150_000);
    rotate(&place);
    compress::sweep(&place).unwrap();
    fill(&place, 150_000, 300_000);
    rotate(&place);
    fill(&place, 300_000, 450_000);
    for (request, expected) in [
        (
            LogRequest {
                since: at(449_990),
                ..request()
            },
            lines(449_990, 450_000),
        ),
        (
            LogRequest {
                since: at(200_000),
                until: at(200_009),
                ..request()
            },
            lines(200_000, 200_010),
        ),
        (
            LogRequest {
                since: at(100_000),
                until: at(100_009),
                ..request()
            },
            lines(100_000, 100_010),
        ),
        (
            LogRequest {
                until: at(9),
                ..request()
            },
            lines(0, 10),
        ),
        (
            LogRequest {
                tail: Some(10),
                ..request()
            },
            lines(449_990, 450_000),
        ),
    ] {
        let (text, bytes) = read(&place, request);
        assert_eq!(text, expected);
        assert!(bytes < 600_000, "{bytes} bytes were read for {request:?}");
    }
    let (text, _) = read(
        &place,
        LogRequest {
            tail: Some(300_010),
            ..request()
        },
    );
    assert_eq!(text, lines(149_990, 450_000));
}

#[test]
fn a_file_whose_clock_went_back_is_read_through() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path(), LogFormat::JsonFile, 5);
    fill(&place, 100_000, 150_000);
    fill(&place, 0, 50_000);
    let permissions = std::fs::Permissions::from_mode(0o1640);
    std::fs::set_permissions(&place.path, permissions).unwrap();
    let since = LogRequest {
        since: at(49_990),
        ..request()
    };
    let until = LogRequest {
        until: at(10),
        ..request()
    };
    let expected = lines(100_000, 150_000) + &lines(49_990, 50_000);
    for _ in 0..2 {
        assert_eq!(read(&place, since).0, expected);
        assert_eq!(read(&place, until).0, lines(0, 11));
        // And compressed.
        rotate(&place);
        compress::sweep(&place).unwrap();
    }
}

#[test]
fn a_follower_misses_nothing_over_rotation_and_compression() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path(), LogFormat::Local, 100);
    fill(&place, 0, 10);
    let reader = Reader::open(place.clone(), request()).unwrap();
    let (reader, mut seen) = drain(reader);
    fill(&place, 10, 20);
    rotate(&place);
    let (reader, more) = drain(reader);
    seen += &more;
    // It lags: several files come and are compressed meanwhile, one is still plain.
    fill(&place, 20, 5_000);
    rotate(&place);
    fill(&place, 5_000, 5_010);
    rotate(&place);
    compress::sweep(&place).unwrap();
    fill(&place, 5_010, 5_020);
    rotate(&place);
    fill(&place, 5_020, 5_030);
    // An entry that is only half there comes when it is whole.
    append(&place, "1970-01-01T01:24:10Z stdout F ha");
    let (reader, more) = drain(reader);
    seen += &more;
    append(&place, "lf\n");
    let (_, more) = drain(reader);
    assert_eq!(seen + &more, lines(0, 5_030) + "half\n");
}

#[test]
fn a_follower_says_what_it_missed() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path(), LogFormat::JsonFile, 3);
    fill(&place, 0, 10);
    let (reader, seen) = drain(Reader::open(place.clone(), request()).unwrap());
    assert_eq!(seen, lines(0, 10));
    // The rest of its own file it still has.
    fill(&place, 10, 20);
    for file in 2..8 {
        rotate(&place);
        fill(&place, file * 10, file * 10 + 10);
        compress::sweep(&place).unwrap();
    }
    let (_, seen) = drain(reader);
    let notice =
        "hoist: 3 log files were rotated away before they were read (max-size, max-file)\n";
    assert_eq!(seen, lines(10, 20) + notice + &lines(50, 80));
}

#[test]
fn a_log_that_somebody_empties_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path(), LogFormat::JsonFile, 3);
    fill(&place, 0, 100);
    let (reader, _) = drain(Reader::open(place.clone(), request()).unwrap());
    File::options()
        .write(true)
        .open(&place.path)
        .unwrap()
        .set_len(0)
        .unwrap();
    let (reader, seen) = drain(reader);
    assert_eq!(seen, "");
    fill(&place, 100, 110);
    let (_, seen) = drain(reader);
    assert_eq!(seen, lines(100, 110));
}

#[test]
fn a_compression_that_was_killed_neither_loses_nor_repeats() {
    let directory = tempfile::tempdir().unwrap();
    let place = place(directory.path(), LogFormat::JsonFile, 3);
    let names = || {
        let mut names: Vec<String> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    fill(&place, 0, 1_000);
    rotate(&place);
    fill(&place, 1_000, 1_100);
    let plain = std::fs::read(directory.path().join("log.1")).unwrap();
    // Killed while it wrote.
    std::fs::write(directory.path().join("log.1.gz.tmp"), b"\x1f\x8b half").unwrap();
    assert_eq!(read(&place, request()).0, lines(0, 1_100));
    compress::sweep(&place).unwrap();
    assert_eq!(names(), ["log", "log.1.gz"]);
    assert_eq!(read(&place, request()).0, lines(0, 1_100));
    // Killed between the rename and the unlink.
    std::fs::write(directory.path().join("log.1"), plain).unwrap();
    assert_eq!(read(&place, request()).0, lines(0, 1_100));
    compress::sweep(&place).unwrap();
    assert_eq!(names(), ["log", "log.1.gz"]);
    assert_eq!(read(&place, request()).0, lines(0, 1_100));
    // What was rotated away while it was compressed is found and taken away.
    for _ in 0..3 {
        rotate(&place);
    }
    File::create(directory.path().join("log.1.gz")).unwrap();
    compress::sweep(&place).unwrap();
    assert_eq!(names(), ["log", "log.3.gz", "log.4.gz"]);
}

#[test]
fn parts_go_with_the_line_that_completes_them() {
    for format in [LogFormat::JsonFile, LogFormat::Local] {
        let directory = tempfile::tempdir().unwrap();
        let place = place(directory.path(), format, 3);
        let text: String = ["a\n", "long ", "line\n", "b\n", "no end"]
            .iter()
            .zip(0..)
            .map(|(text, second)| line(format, second, text))
            .collect();
        append(&place, &text);
        let tail = |lines| {
            let tail = Some(lines);
            read(&place, LogRequest { tail, ..request() }).0
        };
        assert_eq!(tail(1), "b\nno end");
        assert_eq!(tail(2), "long line\nb\nno end");
        rotate(&place);
        compress::sweep(&place).unwrap();
        assert_eq!(tail(1), "b\nno end");
        assert_eq!(tail(2), "long line\nb\nno end");
        assert_eq!(tail(3), "a\nlong line\nb\nno end");
    }
}
