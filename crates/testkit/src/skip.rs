//! Skipping a test that the machine cannot run, audibly.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that the calling test is skipped and why; the test then returns.
///
/// The line goes to stderr, which the test harness hides for a passing test, and to the file that the
/// environment variable `HOIST_SKIPS` names, if it is set: `scripts/test` counts that file's lines, and the
/// machine that runs `.ci/run` asserts the count.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("skipped: {test}: {reason}");
    let Some(path) = std::env::var_os("HOIST_SKIPS") else {
        return;
    };
    let line = format!("{test}: {reason}\n");
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        panic!(
            "cannot record a skipped test in {}: {error}",
            path.display()
        );
    }
}

/// Whether this process has user id 0.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
