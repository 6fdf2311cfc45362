//! The writer and the buffer on files of their own.

use std::os::fd::OwnedFd;
use std::path::Path;

use hoist_model::container::LogFormat;

use super::ring::Ring;
use super::writer::Writer;
use crate::monitor::LogOrder;

const SECOND: i64 = 1_000_000_000;

fn order(max_size: u64, max_files: u32) -> LogOrder {
    LogOrder {
        name: "log".into(),
        max_size,
        max_files,
        format: LogFormat::Local,
        attributes: String::new(),
        buffer: None,
    }
}

fn open(directory: &Path) -> OwnedFd {
    std::fs::File::open(directory).unwrap().into()
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What was logged: stream, flag and text of each entry.
fn texts(path: &Path) -> Vec<String> {
    let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    text.lines()
        .map(|line| line.split_once(' ').unwrap().1.to_owned())
        .collect()
}

#[test]
fn lines_are_put_together_and_long_ones_split() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(open(directory.path()), order(0, 1));
    writer.write(1, b"a\nb", SECOND);
    writer.write(2, b"err", SECOND);
    writer.write(1, b"c\n\nd", SECOND);
    writer.write(2, b"or\n", SECOND);
    let long = vec![b'x'; 40_000];
    writer.write(1, &long, SECOND);
    writer.write(1, b"\n", SECOND);
    writer.write(1, b"end", SECOND);
    writer.finish(SECOND);
    let found = texts(&directory.path().join("log"));
    let short: Vec<&str> = found
        .iter()
        .map(|text| &text[..text.len().min(14)])
        .collect();
    assert_eq!(
        short,
        [
            "stdout F a",
            "stdout F bc",
            "stdout F ",
            "stderr F error",
            "stdout P dxxxx",
            "stdout P xxxxx",
            "stdout F xxxxx",
            "stdout P end"
        ]
    );
    let long: usize = found[4..7].iter().map(|text| text.len() - 9).sum();
    assert_eq!(long, 40_001);
}

#[test]
fn full_files_get_numbers_and_the_oldest_go() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(open(directory.path()), order(1000, 3));
    for number in 0..100 {
        writer.write(1, format!("line {number}\n").as_bytes(), SECOND);
    }
    // 44 bytes an entry, 23 entries a file.
    assert_eq!(names(directory.path()), ["log", "log.3", "log.4"]);
    let mut found = Vec::new();
    for name in ["log.3", "log.4", "log"] {
        let path = directory.path().join(name);
        assert!(path.metadata().unwrap().len() < 1100);
        found.extend(texts(&path));
    }
    assert_eq!(found.last().unwrap(), "stdout F line 99");
    let expected: Vec<String> = (100 - found.len()..100)
        .map(|number| format!("stdout F line {number}"))
        .collect();
    assert_eq!(found, expected);
    // Another writer goes on with the numbers, compressed files among them.
    std::fs::rename(
        directory.path().join("log.4"),
        directory.path().join("log.4.gz"),
    )
    .unwrap();
    let mut writer = Writer::open(open(directory.path()), order(1000, 3));
    for number in 0..20 {
        writer.write(1, format!("more {number}\n").as_bytes(), 2 * SECOND);
    }
    assert_eq!(names(directory.path()), ["log", "log.4.gz", "log.5"]);
}

#[test]
fn one_file_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(open(directory.path()), order(1000, 1));
    for number in 0..100 {
        writer.write(1, format!("line {number}\n").as_bytes(), SECOND);
    }
    assert_eq!(names(directory.path()), ["log"]);
    let found = texts(&directory.path().join("log"));
    assert!(found.len() < 30);
    assert_eq!(found.last().unwrap(), "stdout F line 99");
}

#[test]
fn a_torn_entry_is_cut_off_and_times_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::fs::write(
        &path,
        "1970-01-01T00:00:07Z stdout F whole\n1970-01-01T00:00:08Z stdo",
    )
    .unwrap();
    let mut writer = Writer::open(open(directory.path()), order(0, 1));
    writer.write(1, b"next\n", 6_500_000_000);
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "1970-01-01T00:00:07Z stdout F whole\n1970-01-01T00:00:07.000000001Z stdout F next\n"
    );
}

#[test]
fn a_clock_that_goes_back_is_told_true_and_marked() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let sticky = || path.metadata().unwrap().permissions().mode() & 0o1000 != 0;
    let mut writer = Writer::open(open(directory.path()), order(0, 1));
    writer.write(1, b"a\nb\n", 100 * SECOND);
    assert!(!sticky());
    writer.write(1, b"c\n", 50 * SECOND);
    assert!(sticky());
    let text = std::fs::read_to_string(&path).unwrap();
    let times: Vec<&str> = text.lines().map(|line| &line[..19]).collect();
    assert_eq!(
        times,
        [
            "1970-01-01T00:01:40",
            "1970-01-01T00:01:40",
            "1970-01-01T00:00:50"
        ]
    );
}

#[test]
fn what_does_not_fit_is_dropped_in_whole_lines_and_counted() {
    // A pipe that nobody reads, in place of a disk that hangs: the thread is stuck in its write.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let mut reader = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let writer = Writer::open(open(directory.path()), order(0, 1));
    let mut ring = Ring::start(writer, 64 * 1024).ok().unwrap();
    let begun = std::time::Instant::now();
    let mut sent = Vec::new();
    for number in 0..200_000 {
        sent.extend_from_slice(format!("line {number}\n").as_bytes());
        // Pieces that end where lines do not.
        if sent.len() > 10_007 {
            ring.write(1, &sent[..10_007], SECOND);
            sent.drain(..10_007);
        }
    }
    ring.write(1, &sent, SECOND);
    // A line longer than a part, and one that has no end.
    ring.write(1, &vec![b'y'; 50_000], SECOND);
    ring.write(1, b"\nend", SECOND);
    // Nobody reads: held up, it would wait for ever.
    assert!(begun.elapsed() < std::time::Duration::from_secs(60));
    // Read from now on: all that was kept comes, and how much was not.
    let reading = std::thread::spawn(move || {
        use std::io::Read;
        let mut text = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        while !text.ends_with(b"\nover\n") {
            let length = reader.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8(text).unwrap()
    });
    ring.finish(SECOND);
    std::fs::write(&path, "over\n").unwrap();
    let text = reading.join().unwrap();
    let (mut kept, mut dropped, mut next) = (0, 0, 0);
    for line in text.strip_suffix("over\n").unwrap().lines() {
        let (_, entry) = line.split_once(' ').unwrap();
        if let Some(text) = entry.strip_prefix("stderr F hoist: ") {
            let number: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert!(text.ends_with(
                "log lines were dropped: the buffer of 65536 bytes was full (mode=non-blocking)"
            ));
            dropped += number;
            next += number;
        } else {
            let text = entry.strip_prefix("stdout F line ").unwrap();
            assert_eq!(text, next.to_string());
            kept += 1;
            next += 1;
        }
    }
    // Two lines more than the numbered ones: the long one and the last.
    assert_eq!(kept + dropped, 200_002, "{kept} kept");
    assert!(kept > 1000 && dropped > 100_000, "{kept} kept");
    let lost = std::fs::read_to_string(directory.path().join("log.lost")).unwrap();
    let mut counts = lost.trim_end_matches('\0').split_whitespace();
    assert_eq!(counts.next().unwrap().parse::<usize>().unwrap(), dropped);
    assert_eq!(counts.next().unwrap().parse::<usize>().unwrap(), 0);
}

#[test]
fn nothing_is_lost_that_fits() {
    let directory = tempfile::tempdir().unwrap();
    let mut sent = String::new();
    let writer = Writer::open(open(directory.path()), order(0, 1));
    let mut ring = Ring::start(writer, 16 << 20).ok().unwrap();
    for number in 0..10_000 {
        sent.push_str(&format!("line {number}\n"));
    }
    for (number, piece) in sent.as_bytes().chunks(777).enumerate() {
        ring.write(1, piece, SECOND + i64::try_from(number).unwrap());
    }
    ring.write(2, &vec![b'z'; 40_000], 2 * SECOND);
    ring.write(2, b"\nend", 2 * SECOND);
    ring.finish(2 * SECOND);
    let found = texts(&directory.path().join("log"));
    assert_eq!(found.len(), 10_004);
    let expected: Vec<String> = (0..10_000)
        .map(|number| format!("stdout F line {number}"))
        .collect();
    assert_eq!(found[..10_000], expected);
    assert_eq!(found[10_003], "stderr P end");
}
