//! The house's own tasks: tidy checks, the compatibility table, the bench, the leak check.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who runs it"
)]

mod bench;
mod leaks;
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
    /// Write docs/compatibility.md from the router's table.
    Compatibility,
    /// Measure Hoist, Debian's Docker and the syscall floor side by side.
    Bench(bench::Options),
    /// Compare what the kernel holds with what it held before: mounts, links, cgroups, tables, processes.
    Leaks {
        /// Write the present state to the file in place of comparing with it.
        #[arg(long)]
        save: bool,
        /// The file.
        file: PathBuf,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let failed = match Task::parse() {
        Task::Tidy => {
            let findings = tidy::check(&repository()?)?;
            for finding in &findings {
                println!("{finding}");
            }
            findings.iter().any(tidy::Finding::is_failure)
        }
        Task::Compatibility => {
            tidy::compatibility::write(&repository()?)?;
            false
        }
        Task::Bench(options) => {
            bench::run(&repository()?, &options)?;
            false
        }
        Task::Leaks { save: true, file } => {
            leaks::save(&file)?;
            false
        }
        Task::Leaks { save: false, file } => {
            let leaked = leaks::compare(&file)?;
            for thing in &leaked {
                eprintln!("leaked: {thing}");
            }
            !leaked.is_empty()
        }
    };
    Ok(ExitCode::from(u8::from(failed)))
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
