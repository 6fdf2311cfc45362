//! Runs one test of this binary again, as a process of its own that may be killed or traced.

use std::process::Command;

/// A command that runs the test `name` with `variable` set; the test does its child's work only then.
pub(crate) fn command(name: &str, variable: &str, value: &std::path::Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(variable, value);
    command
}

/// Whether this process is the child, and for which directory.
pub(crate) fn directory(variable: &str) -> Option<std::path::PathBuf> {
    std::env::var_os(variable).map(Into::into)
}
