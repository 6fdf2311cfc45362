//! The `hoist` binary: client and engine in one, by name and by first word.
//!
//! ```text
//! zygote marker in argv   the runtime's own process, before anything else
//! argv[0] dockerd         the engine, with dockerd's flags
//! argv[0] docker          the client, saying things as the stock client does
//! hoist daemon …          the engine
//! hoist …                 the client
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line prints"
)]

mod cli;
mod render;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments
        .first()
        .and_then(|path| Path::new(path).file_name())
        .and_then(|name| name.to_str())
        .unwrap_or("hoist")
        .to_owned();
    match name.as_str() {
        "docker" => cli::main(cli::Program::Docker, &arguments),
        _ => cli::main(cli::Program::Hoist, &arguments),
    }
}
