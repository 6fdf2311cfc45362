//! The stock docker client, and ours by its name, against a temporary daemon, compared with the transcripts in `tests/conformance/`.
//!
//! One daemon for each transcript, several at a time, because that is also what it is to run many engines on
//! one machine. `UPDATE_EXPECT=1` writes what was seen in place of what was expected. Arguments select
//! transcripts by a part of their name. tests/conformance/README.md describes the format.
#![expect(clippy::print_stdout, reason = "a test harness reports on stdout")]
#![expect(
    clippy::unwrap_used,
    reason = "a lock poisoned by a panic ends the harness"
)]

mod flags;
mod normalise;
mod session;
mod transcript;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use session::Session;
use transcript::{Client, Step, Transcript};

/// Transcripts run at once: they mostly wait for processes.
const AT_ONCE: usize = 4;

fn main() -> ExitCode {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/conformance");
    let mut filters: Vec<String> = std::env::args().skip(1).collect();
    if filters.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    filters.retain(|argument| !argument.starts_with('-'));
    // `cargo test --workspace` builds dev binaries; this tier is about the one that people run.
    if cfg!(debug_assertions) && std::env::var_os("HOIST_CONFORMANCE").is_none() {
        println!("\nrunning 0 tests: conformance runs the release binary (cargo test --release)");
        return ExitCode::SUCCESS;
    }
    let names = transcripts(&directory, &filters);
    let clients = clients();
    let plays: Vec<(&PathBuf, Client)> = clients
        .iter()
        .flat_map(|client| names.iter().map(|name| (name, *client)))
        .collect();
    println!("\nrunning {} tests", plays.len());
    let docker = std::env::var_os("HOIST_DOCKER").unwrap_or_else(|| "docker".into());
    if let Some(reason) = missing(&docker) {
        for (name, _) in &plays {
            hoist_testkit::skip(&format!("{}: {reason}", name.display()));
        }
        println!(
            "\ntest result: ok. {} passed; 0 failed; all skipped: {reason}",
            plays.len()
        );
        return ExitCode::SUCCESS;
    }
    let queue = Mutex::new(plays.iter());
    let failed = Mutex::new(Vec::new());
    if filters.is_empty()
        || filters
            .iter()
            .any(|filter| "every-flag".contains(filter.as_str()))
    {
        let missing = flags::missing(&docker);
        if missing.is_empty() {
            println!("test every-flag ... ok");
        } else {
            println!("test every-flag ... FAILED\n  {}", missing.join("\n  "));
            failed.lock().unwrap().push("every-flag".to_owned());
        }
    }
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((path, client)) = queue.lock().unwrap().next() else {
                        return;
                    };
                    let mut name = path
                        .file_stem()
                        .unwrap_or_default()
                        .to_string_lossy()
                        .into_owned();
                    if *client == Client::Own {
                        name += " by hoist";
                    }
                    let start = Instant::now();
                    let outcome = std::panic::catch_unwind(|| run(path, *client, &docker));
                    let seconds = start.elapsed().as_secs_f32();
                    match outcome.unwrap_or_else(|panic| Err(panic_text(&*panic))) {
                        Ok(()) => println!("test {name} ... ok ({seconds:.1} s)"),
                        Err(report) => {
                            println!("test {name} ... FAILED ({seconds:.1} s)\n{report}");
                            failed.lock().unwrap().push(name);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
    let passed = plays.len() - failed.len();
    println!(
        "\ntest result: {verdict}. {passed} passed; {} failed; 0 ignored",
        failed.len()
    );
    ExitCode::from(u8::from(!failed.is_empty()))
}

/// With which clients: both, or the one that `HOIST_CLIENT` names (stock, hoist). `UPDATE_EXPECT` writes what the
/// stock client says.
fn clients() -> Vec<Client> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return vec![Client::Stock];
    }
    match std::env::var("HOIST_CLIENT").as_deref() {
        Ok("stock") => vec![Client::Stock],
        Ok("hoist") => vec![Client::Own],
        _ => vec![Client::Stock, Client::Own],
    }
}

fn transcripts(directory: &Path, filters: &[String]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory)
        .expect("tests/conformance is part of the repository")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .filter(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()))
        })
        .collect();
    found.sort();
    found
}

/// What this machine lacks to run any transcript.
fn missing(docker: &std::ffi::OsStr) -> Option<String> {
    if !hoist_testkit::is_root() {
        return Some("needs root".to_owned());
    }
    if hoist_testkit::busybox_binary().is_none() {
        return Some("busybox-static is not installed".to_owned());
    }
    let client = std::process::Command::new(docker).arg("--version").output();
    match client {
        Ok(output) if output.status.success() => None,
        _ => Some(format!("no docker client at {}", docker.display())),
    }
}

/// Runs one transcript; the error is a report for a reader.
fn run(path: &Path, client: Client, docker: &std::ffi::OsStr) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let title = text.lines().next().unwrap_or_default();
    if client == Client::Own && title.ends_with("(stock client only)") {
        return Ok(());
    }
    let transcript = Transcript::parse(&text)?;
    let mut session = Session::start(&transcript, client, docker)?;
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut report = String::new();
    let mut seen = transcript.clone();
    let mut only = None;
    for (step, rewritten) in transcript.steps.iter().zip(&mut seen.steps) {
        if let Step::Only { client, .. } = step {
            only = Some(*client);
            continue;
        }
        if only.take().is_some_and(|only| only != client) {
            continue;
        }
        match (step, rewritten) {
            (
                Step::Command {
                    line,
                    text,
                    expected,
                },
                Step::Command { expected: to, .. },
            ) => {
                let actual = session.command(text)?;
                if actual != *expected {
                    report += &difference(*line, text, expected, &actual);
                }
                *to = actual;
            }
            (Step::Directive { line, words }, _) => session
                .directive(words)
                .map_err(|error| format!("{report}line {line}: %{}: {error}", words.join(" ")))?,
            (
                Step::Terminal {
                    line,
                    command,
                    dialogue,
                },
                _,
            ) => session
                .terminal(command, dialogue)
                .map_err(|error| format!("{report}line {line}: {error}\n{}", session.log_tail()))?,
            _ => {}
        }
    }
    if !report.is_empty() {
        report += &session.log_tail();
    }
    let left = session.finish();
    if !left.is_empty() {
        report += &format!("  left behind:\n    {}\n", left.join("\n    "));
    }
    if update && seen != transcript {
        std::fs::write(path, seen.to_string()).map_err(|error| error.to_string())?;
        return if left.is_empty() { Ok(()) } else { Err(report) };
    }
    if report.is_empty() {
        Ok(())
    } else {
        Err(report)
    }
}

fn difference(line: usize, command: &str, expected: &[String], actual: &[String]) -> String {
    let mut text = format!("  line {line}: $ {command}\n");
    for gone in expected.iter().filter(|line| !actual.contains(line)) {
        text += &format!("    - {gone}\n");
    }
    for new in actual.iter().filter(|line| !expected.contains(line)) {
        text += &format!("    + {new}\n");
    }
    if text.lines().count() == 1 {
        text += &format!("    the same lines in another order or number: {actual:#?}\n");
    }
    text
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panicked")
        .to_owned()
}
