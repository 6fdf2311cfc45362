//! Standard output and error that do not panic when nobody reads them any more.

use std::io::{ErrorKind, Write};

use super::failure::Failure;

/// Writes text as it is.
pub(crate) fn text(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        // `hoist ps | head`: the reader has what it wanted; end as a program killed by SIGPIPE does.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::silent(141)),
        other => Ok(other?),
    }
}

/// Writes a line.
pub(crate) fn line(line: impl AsRef<str>) -> Result<(), Failure> {
    text(format!("{}\n", line.as_ref()))
}

/// Writes a line to standard error; there is nowhere to say that it failed.
pub(crate) fn warn(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr(), "{}", line.as_ref());
}
