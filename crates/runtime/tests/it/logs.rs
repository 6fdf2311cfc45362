//! The log that a monitor writes.

use hoist_runtime::spec::LogSpec;

use crate::machine::Machine;
use crate::support::{Rootfs, spec};

fn lines(text: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let field = |name: &str| line[name].as_str().unwrap().to_owned();
            assert!(field("time").ends_with('Z'));
            (field("stream"), field("log"))
        })
        .collect()
}

#[test]
fn every_line_is_logged_with_its_stream() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let path = machine.directory().join("c.log");
    let mut talker = spec(
        &rootfs,
        &["sh", "-c", "echo one; echo two >&2; sleep 0.05; printf end"],
    );
    talker.log = Some(LogSpec::json_file(path.clone(), 1 << 20, 2));
    assert_eq!(machine.run(talker), 0);
    let mut found = lines(&std::fs::read_to_string(path).unwrap());
    found.sort();
    let line = |stream: &str, log: &str| (stream.to_owned(), log.to_owned());
    assert_eq!(
        found,
        [
            line("stderr", "two\n"),
            line("stdout", "end"),
            line("stdout", "one\n")
        ]
    );
}

#[test]
fn rotation_loses_nothing_but_the_oldest() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let path = machine.directory().join("c.log");
    let mut talker = spec(&rootfs, &["seq", "1", "50000"]);
    talker.log = Some(LogSpec::json_file(path.clone(), 200_000, 3));
    assert_eq!(machine.run(talker), 0);
    let mut files: Vec<(u64, std::path::PathBuf)> = std::fs::read_dir(machine.directory())
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?;
            let number = match name.strip_prefix("c.log")? {
                "" => u64::MAX,
                number => number.strip_prefix('.')?.parse().unwrap(),
            };
            Some((number, path))
        })
        .collect();
    files.sort();
    assert_eq!(files.len(), 3);
    assert_eq!(files[0].0 + 1, files[1].0);
    let mut text = String::new();
    for (_, file) in files {
        let part = std::fs::read_to_string(&file).unwrap();
        // One entry beyond the limit.
        assert!(part.len() < 200_200, "{} bytes", part.len());
        text.push_str(&part);
    }
    let numbers: Vec<u32> = lines(&text)
        .iter()
        .map(|(_, log)| log.trim().parse().unwrap())
        .collect();
    assert_eq!(numbers.last(), Some(&50000));
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[test]
fn a_full_disk_neither_stops_nor_ends_the_container() {
    let Some(mut machine) = Machine::start() else {
        return;
    };
    let rootfs = Rootfs::new();
    let directory = crate::support::SmallDisk::new(machine.directory(), "64k");
    let mut talker = spec(&rootfs, &["sh", "-c", "seq 1 20000; echo last"]);
    talker.log = Some(LogSpec::json_file(
        directory.path().join("c.log"),
        1 << 30,
        2,
    ));
    assert_eq!(machine.run(talker), 0);
    let text = std::fs::read_to_string(directory.path().join("c.log")).unwrap();
    // What is there is whole lines.
    assert!(text.is_empty() || text.ends_with("}\n"));
    lines(&text);
}
