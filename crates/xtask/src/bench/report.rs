//! docs/benchmarks.md: what was measured, on what, by which command.

use std::fmt::Write as _;

use super::measures::tell;
use super::statistics::{Number, Samples};

/// One line of the table.
pub(super) struct Row {
    pub(super) what: String,
    pub(super) unit: &'static str,
    pub(super) hoist: Samples,
    pub(super) docker: Samples,
    pub(super) note: String,
}

/// The whole report as Markdown.
pub(super) fn render(rows: &[Row], arguments: &str, docker: Option<&str>) -> String {
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`; medians, with the 95th percentile. Both engines run in this one run, in alternating\n\
         batches, each in a network namespace of its own that holds nothing else, on private paths on the same disk. Ratio: Docker's\n\
         median over ours. The floor is the kernel's own work (`hoist_sys::floor`): clone3 into six namespaces, overlay, proc,\n\
         pivot_root, execve, wait; no cgroups, no seccomp, no stdio, no API.\n\n\
         | | |\n|---|---|\n\
         | machine | {} × {}, {} MB memory |\n\
         | kernel | {} |\n\
         | load at the end of the run | {} |\n\
         | commit | {} |\n\
         | command | `cargo xtask bench{arguments}` |\n\
         | Docker | {} |\n\
         | client | {} |\n\n\
         | what | Hoist | Docker | ratio | runs | note |\n|---|---|---|---|---|---|\n",
        tell("nproc", &[]),
        tell(
            "sh",
            &["-c", "grep -m1 'model name' /proc/cpuinfo | cut -d: -f2"]
        ),
        tell(
            "sh",
            &[
                "-c",
                "awk '/MemTotal/ { print int($2 / 1000) }' /proc/meminfo"
            ]
        ),
        tell("uname", &["-r"]),
        tell("cut", &["-d ", "-f1-3", "/proc/loadavg"]),
        commit(),
        docker.unwrap_or("not measured"),
        tell("docker", &["--version"]),
    );
    for row in rows {
        let Row {
            what,
            unit,
            hoist,
            docker,
            note,
        } = row;
        let ratio = if hoist.is_empty() || docker.is_empty() {
            "—".to_owned()
        } else {
            format!("{}×", Number(docker.median() / hoist.median()))
        };
        let counts = format!("{} / {}", hoist.count(), docker.count());
        let _ = writeln!(
            text,
            "| {what}, {unit} | {hoist} | {docker} | {ratio} | {counts} | {note} |"
        );
    }
    text
}

/// The commit, with a plus when the tree differs from it.
fn commit() -> String {
    let changed = !tell("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    let plus = if changed { "+" } else { "" };
    format!(
        "{}{plus}",
        tell("git", &["rev-parse", "--short=12", "HEAD"])
    )
}
