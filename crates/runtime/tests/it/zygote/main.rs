//! The program that tests give to the runtime for a zygote, and the engine that a test kills.
//!
//! `engine <exec-root>` starts a runtime and a container for every line it reads, answers `<pid>`, and waits to be
//! killed; see `tests/it/adoption.rs`.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test must name its place"
)]
#![allow(unreachable_pub, reason = "the module is shared with the tests")]

use std::process::ExitCode;

#[path = "../support/mod.rs"]
mod support;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if hoist_runtime::is_zygote(arguments.first().map(std::ffi::OsString::as_os_str)) {
        return hoist_runtime::zygote_main();
    }
    if hoist_runtime::is_keeper(arguments.first().map(std::ffi::OsString::as_os_str)) {
        return hoist_runtime::keeper_main();
    }
    match arguments.get(1).and_then(|word| word.to_str()) {
        Some("engine") => support::engine::run(&arguments[2..]),
        _ => ExitCode::FAILURE,
    }
}
