//! The zygote.

use std::process::ExitCode;

/// Whether this process was started as a zygote. The first thing that `main` asks.
#[must_use]
pub fn is_zygote() -> bool {
    let mut arguments = std::env::args_os();
    arguments.next().is_some_and(|name| name == ZYGOTE)
        && arguments
            .next()
            .is_some_and(|argument| argument == "zygote")
}

pub(crate) const ZYGOTE: &str = "hoist-zygote";

/// The whole life of a zygote: returns when the engine's end of its socket closes.
pub fn zygote_main() -> ExitCode {
    unimplemented!()
}
