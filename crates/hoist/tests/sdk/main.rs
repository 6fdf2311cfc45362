//! The client libraries that programs use, with their own test suites and with scenarios of ours, against a
//! temporary daemon.
//!
//! Each directory under `tests/sdk/` is a suite: `run prepare` fetches and builds what it needs, `run` says
//! `test NAME ... ok` (or `FAILED`) for each test. `excluded.txt` names the tests that cannot pass, each with its
//! reason; one that passes all the same fails the suite, and so does a number of passing tests below the one written
//! there. Arguments select suites by a part of their name. tests/sdk/README.md describes the format.
#![expect(clippy::print_stdout, reason = "a test harness reports on stdout")]

mod outcome;
mod stand_ins;
mod suite;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use suite::Suite;

fn main() -> ExitCode {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk");
    let mut filters: Vec<String> = std::env::args().skip(1).collect();
    if filters.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    filters.retain(|argument| !argument.starts_with('-'));
    // `cargo test --workspace` must not download half the world; this tier is asked for by name.
    if std::env::var_os("HOIST_SDK").is_none() {
        println!("\nrunning 0 tests: the SDKs run with HOIST_SDK=1 (scripts/test sdk)");
        return ExitCode::SUCCESS;
    }
    let suites = Suite::find(&directory, &filters);
    if let Some(reason) = missing() {
        for suite in &suites {
            hoist_testkit::skip(&format!("{}: {reason}", suite.name()));
        }
        println!(
            "\ntest result: ok. {} passed; 0 failed; all skipped: {reason}",
            suites.len()
        );
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    for suite in &suites {
        let start = Instant::now();
        println!("\nsuite {}", suite.name());
        let report = match suite.play() {
            Ok(report) => report,
            Err(reason) => {
                println!("suite {} FAILED: {reason}", suite.name());
                failed += 1;
                continue;
            }
        };
        for complaint in &report.complaints {
            println!("{}: {complaint}", suite.name());
        }
        passed += report.passed;
        failed += report.complaints.len();
        println!(
            "suite {}: {} passed, {} excluded, {} complaints, {} s",
            suite.name(),
            report.passed,
            report.excluded,
            report.complaints.len(),
            start.elapsed().as_secs()
        );
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    ExitCode::from(u8::from(failed > 0))
}

/// What this machine lacks to run any suite.
fn missing() -> Option<&'static str> {
    if !hoist_testkit::is_root() {
        return Some("needs root");
    }
    if hoist_testkit::busybox_binary().is_none() {
        return Some("busybox-static is not installed");
    }
    None
}
