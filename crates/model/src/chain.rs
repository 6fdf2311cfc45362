//! Errors as one sentence.

use std::error::Error;
use std::fmt::Write;

/// An error and every source it keeps, `error: source: its source`, each link once.
///
/// Errors of the house do not repeat their source in their own text; whoever shows one to a person uses this.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_link_is_told_once() {
        let inner = std::io::Error::other("inner");
        assert_eq!(chain(&Outer(inner)), "outer: inner");
    }
}
