//! What survives: kill -9, a full disk; and how often the disk is really synced.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use hoist_store::{Class, StoreError};

use crate::{Thing, child, open, thing};

const KILLED: &str = "HOIST_STORE_KILLED";
const FULL: &str = "HOIST_STORE_FULL";
const TRACED: &str = "HOIST_STORE_TRACED";

#[test]
fn kill_9_loses_nothing_acknowledged() {
    if let Some(dir) = child::directory(KILLED) {
        let store = open(&dir).unwrap();
        for i in 0_u64.. {
            let class = if i % 3 == 0 {
                Class::Disk
            } else {
                Class::Process
            };
            let name = format!("t{i}");
            let put = move |tx: &mut hoist_store::Transaction| {
                tx.put(thing(&name, i));
                Ok::<_, StoreError>(())
            };
            store.transaction(class, put).wait().unwrap();
            println!("acknowledged {i}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=3 {
        let mut process = child::command(
            "survival::kill_9_loses_nothing_acknowledged",
            KILLED,
            dir.path(),
        )
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
        let mut last = 0;
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("acknowledged ") {
                last = n.parse().unwrap();
                if last == 100 * round {
                    process.kill().unwrap();
                }
            }
        }
        process.wait().unwrap();
        let store = open(dir.path()).unwrap();
        let snapshot = store.snapshot();
        for i in 0..=last {
            assert_eq!(snapshot.get::<Thing>(&format!("t{i}")).unwrap().size, i);
        }
    }
}

#[test]
fn a_full_disk_is_an_error_and_the_store_goes_on() {
    if let Some(dir) = child::directory(FULL) {
        std::fs::write(dir.join("filler"), vec![0; 1_500_000]).unwrap();
        let store = open(&dir).unwrap();
        let put = |i: u64| {
            let pending = store.transaction(Class::Disk, move |tx| {
                tx.put(thing(&format!("{i}{}", "x".repeat(20_000)), i));
                Ok::<_, StoreError>(())
            });
            pending.wait()
        };
        let mut written = 0;
        let error = loop {
            match put(written) {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert_eq!(store.snapshot().count::<Thing>() as u64, written);
        std::fs::remove_file(dir.join("filler")).unwrap();
        put(written).unwrap();
        drop(store);
        let store = open(&dir).unwrap();
        assert_eq!(store.snapshot().count::<Thing>() as u64, written + 1);
        println!("went on");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let inner = child::command(
        "survival::a_full_disk_is_an_error_and_the_store_goes_on",
        FULL,
        dir.path(),
    );
    let script = "mount -t tmpfs -o size=2m none \"$0\" || exit 77; exec \"$@\"";
    let mut outer = Command::new("unshare");
    outer
        .args(["--mount", "sh", "-c", script])
        .arg(dir.path())
        .arg(inner.get_program())
        .args(inner.get_args())
        .env(FULL, dir.path());
    match outer.output() {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(text.contains("went on"), "{text}");
        }
        Ok(output) if output.status.code() == Some(101) => {
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        }
        _ => eprintln!("skipped: a private tmpfs needs unshare and root"),
    }
}

/// The budget by trace: a life of create, start, exit and remove syncs twice.
#[test]
fn strace_counts_as_many_syncs_as_the_writer() {
    if let Some(dir) = child::directory(TRACED) {
        let store = open(&dir).unwrap();
        for (i, class) in [Class::Disk, Class::Process, Class::Process, Class::Disk]
            .into_iter()
            .cycle()
            .take(40)
            .enumerate()
        {
            let put = move |tx: &mut hoist_store::Transaction| {
                tx.put(thing("a", i as u64));
                Ok::<_, StoreError>(())
            };
            store.transaction(class, put).wait().unwrap();
        }
        assert_eq!(store.statistics().syncs, 20);
        // Ends without the checkpoint of an orderly close, which is not a request's cost.
        std::mem::forget(store);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("trace");
    let name = "survival::strace_counts_as_many_syncs_as_the_writer";
    let inner = child::command(name, TRACED, dir.path());
    let traced = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync,sync_file_range", "-o"])
        .arg(&log)
        .arg(inner.get_program())
        .args(inner.get_args())
        .env(TRACED, dir.path())
        .output();
    let Some(output) = traced.ok().filter(|o| !o.stderr.starts_with(b"strace:")) else {
        eprintln!("skipped: no strace that may trace");
        return;
    };
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(log).unwrap();
    let syncs = trace.lines().filter(|l| l.contains("sync(")).count();
    // Twenty for the lives; the rest makes and opens the file.
    assert!((20..=32).contains(&syncs), "{syncs} syncs:\n{trace}");
}

#[test]
fn the_log_of_synced_commits_is_folded_when_nobody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let length = || {
        std::fs::metadata(dir.path().join("state.db"))
            .unwrap()
            .len()
    };
    let before = length();
    for i in 0_u64..300 {
        let put = move |tx: &mut hoist_store::Transaction| {
            tx.put(thing(&format!("t{i}"), i));
            Ok::<_, StoreError>(())
        };
        store.transaction(Class::Disk, put).wait().unwrap();
    }
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while length() == before {
        assert!(
            std::time::Instant::now() < end,
            "the file stays at {before} bytes"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
