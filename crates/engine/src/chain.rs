//! Errors as one sentence: the error and every source it keeps.

use std::error::Error;
use std::fmt::Write;

/// `error: source: its source`, each link once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let link = source.to_string();
        if !text.ends_with(&link) {
            let _ = write!(text, ": {link}");
        }
        next = source.source();
    }
    text
}
