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

/// A text in which failures of the system are said as Go says them, since Docker's clients and people know them so: `no such
/// file or directory`, not `No such file or directory (os error 2)`.
#[must_use]
pub fn in_words(text: &str) -> String {
    const NUMBER: &str = " (os error ";
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(NUMBER) {
        let number = after.split_once(')');
        let number = number.and_then(|(number, after)| Some((number.parse().ok()?, after)));
        let Some((number, after)) = number else {
            told.push_str(before);
            told.push_str(NUMBER);
            rest = after;
            continue;
        };
        let said = std::io::Error::from_raw_os_error(number).to_string();
        let said = said.split(NUMBER).next().unwrap_or(&said);
        if let Some(start) = before.strip_suffix(said) {
            told.push_str(start);
            told.push_str(&said.to_lowercase());
        } else {
            told.push_str(before);
        }
        rest = after;
    }
    told.push_str(rest);
    told
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

    #[test]
    fn failures_of_the_system_are_said_without_their_number() {
        let error = std::io::Error::from_raw_os_error(2);
        assert_eq!(in_words(&error.to_string()), "no such file or directory");
        for (text, told) in [
            (
                "open /A: No such file or directory (os error 2): B",
                "open /A: no such file or directory: B",
            ),
            ("Other words (os error 2)", "Other words"),
            ("not (os error x) a number", "not (os error x) a number"),
            ("cut (os error 2", "cut (os error 2"),
            (
                "Permission denied (os error 13), then Is a directory (os error 21)",
                "permission denied, then is a directory",
            ),
        ] {
            assert_eq!(in_words(text), told);
        }
    }
}
