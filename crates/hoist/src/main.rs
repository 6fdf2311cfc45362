//! The `hoist` binary: client and engine in one, by name and by first word.
//!
//! ```text
//! zygote marker in argv   the runtime's own process, before anything else
//! argv[0] dockerd         the engine, with dockerd's flags
//! argv[0] docker          the client, saying things as the stock client does
//! hoist daemon …          the engine
//! hoist registry …        the registry
//! hoist …                 the client
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line prints"
)]

mod daemon;
mod exposition;
mod registry;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if hoist_runtime::is_zygote(arguments.first().map(OsString::as_os_str)) {
        return hoist_runtime::zygote_main();
    }
    if hoist_runtime::is_keeper(arguments.first().map(OsString::as_os_str)) {
        return hoist_runtime::keeper_main();
    }
    let name = arguments
        .first()
        .and_then(|path| Path::new(path).file_name())
        .and_then(|name| name.to_str())
        .unwrap_or("hoist")
        .to_owned();
    match name.as_str() {
        "docker" => hoist_cli::main(hoist_cli::Program::Docker, &arguments, daemon::fsck),
        "dockerd" => daemon::main(arguments.into_iter().skip(1)),
        _ if arguments.get(1).is_some_and(|word| word == "daemon") => {
            hoist_cli::detach_if_asked();
            daemon::main(arguments.into_iter().skip(2))
        }
        _ if arguments.get(1).is_some_and(|word| word == "registry") => {
            registry::main(arguments.into_iter().skip(2))
        }
        _ => hoist_cli::main(hoist_cli::Program::Hoist, &arguments, daemon::fsck),
    }
}
