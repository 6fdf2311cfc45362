//! The client libraries that programs use, with their own test suites and with scenarios of ours, against a
//! temporary daemon.
//!
//! Each directory under `tests/sdk/` is a suite: `run prepare` fetches and builds what it needs, `run` says
//! `test NAME ... ok` (or `FAILED`) for each test. `excluded.txt` names the tests that cannot pass, each with its
//! reason; one that passes all the same fails the suite, and so does a number of passing tests below the one written
//! there. Arguments select suites by a part of their name. tests/sdk/README.md describes the format.
#![expect(clippy::print_stdout, reason = "a test harness reports on stdout")]
#![expect(
    clippy::unwrap_used,
    reason = "a lock poisoned by a panic ends the harness"
)]

mod outcome;
mod stand_ins;
mod suite;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use outcome::Report;
use suite::Suite;

/// Suites prepared and run at once: they mostly wait.
const AT_ONCE: usize = 2;

fn main() -> ExitCode {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/sdk");
    let mut filters: Vec<String> = std::env::args().skip(1).collect();
    if filters.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    filters.retain(|argument| !argument.starts_with('-'));
    outcome::check_itself();
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
    let queue = Mutex::new(suites.iter());
    let totals = Mutex::new((0, 0));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(suite) = queue.lock().unwrap().next() else {
                        return;
                    };
                    let start = Instant::now();
                    let outcome = std::panic::catch_unwind(|| suite.play());
                    let outcome =
                        outcome.unwrap_or_else(|_| Err("the harness panicked".to_owned()));
                    // Held while this suite's lines are printed.
                    let mut totals = totals.lock().unwrap();
                    let (passed, failed) = tell(suite, outcome, start.elapsed());
                    totals.0 += passed;
                    totals.1 += failed;
                }
            });
        }
    });
    let (passed, failed) = totals.into_inner().unwrap();
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored");
    ExitCode::from(u8::from(failed > 0))
}

/// Reports how a suite went: how many tests passed, and how many complaints there are.
fn tell(suite: &Suite, outcome: Result<Report, String>, took: Duration) -> (usize, usize) {
    let name = suite.name();
    let report = match outcome {
        Ok(report) => report,
        Err(reason) => {
            println!("suite {name} FAILED: {reason}");
            return (0, 1);
        }
    };
    if !report.complaints.is_empty() {
        // Indented, so that nobody takes its lines for this harness's own.
        for line in report.output.lines() {
            println!("    {line}");
        }
    }
    for complaint in &report.complaints {
        println!("{name}: {complaint}");
    }
    println!(
        "suite {name}: {} passed, {} excluded, {} complaints, {} s",
        report.passed,
        report.excluded,
        report.complaints.len(),
        took.as_secs()
    );
    (report.passed, report.complaints.len())
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
