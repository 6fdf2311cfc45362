//! The house's own tasks: `cargo xtask tidy`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who runs it"
)]

mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;

#[derive(Parser)]
#[command(name = "xtask", about = "The house's own tasks")]
enum Task {
    /// Check the rules that the compiler does not: arrows between crates, file sizes, documents.
    Tidy,
}

fn main() -> anyhow::Result<ExitCode> {
    match Task::parse() {
        Task::Tidy => {
            let findings = tidy::check(&repository()?)?;
            for finding in &findings {
                println!("{finding}");
            }
            let failed = findings.iter().any(tidy::Finding::is_failure);
            if failed {
                eprintln!("tidy: the house is not in order");
            }
            Ok(ExitCode::from(u8::from(failed)))
        }
    }
}

/// The repository's root, found from this crate's own place in it.
fn repository() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own
        .ancestors()
        .nth(2)
        .context("crates/xtask lies two levels below the root")?;
    Ok(root.to_owned())
}
