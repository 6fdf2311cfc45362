//! What is wrong with a Dockerfile, and where.

use std::fmt;

use hoist_model::ErrorClass;

/// Lines of a file, counted from 1, both ends included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lines {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
}

impl Lines {
    /// One line.
    #[must_use]
    pub const fn one(line: usize) -> Self {
        Self {
            first: line,
            last: line,
        }
    }
}

/// A Dockerfile that cannot be built, with the lines that say so.
///
/// Its text is Docker's (`dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)`); clients match on its
/// first words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerfileError {
    /// Where.
    pub lines: Lines,
    /// What, without the line.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl DockerfileError {
    pub(crate) fn new(lines: Lines, message: impl Into<String>) -> Self {
        Self {
            lines,
            message: message.into(),
            suggestion: None,
        }
    }

    /// Always the file's author's to mend.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }

    /// The lines of the file around the error, those that are wrong marked, as `docker build` shows them:
    ///
    /// ```text
    ///    2 |     FROM scratch
    ///    3 | >>> RUNN true
    /// ```
    #[must_use]
    pub fn excerpt(&self, source: &str) -> String {
        excerpt(source, self.lines)
    }
}

/// See [`DockerfileError::excerpt`].
#[must_use]
pub fn excerpt(source: &str, lines: Lines) -> String {
    use fmt::Write as _;
    /// Lines of context before and after; more where little is wrong.
    const AROUND: usize = 2;
    let from = lines.first.saturating_sub(AROUND).max(1);
    let mut text = String::new();
    for (number, line) in source.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        if number < from || number > lines.last.saturating_add(AROUND) {
            continue;
        }
        let mark = if (lines.first..=lines.last).contains(&number) {
            ">>>"
        } else {
            "   "
        };
        let line = format!("{number:>4} | {mark} {line}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

impl fmt::Display for DockerfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "dockerfile parse error on line {}: {}",
            self.lines.first, self.message
        )?;
        match &self.suggestion {
            Some(word) => write!(f, " (did you mean {word}?)"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DockerfileError {}

/// The word of `right` that is nearest to `wrong` and at most two edits away; none where one of them is what was written.
pub(crate) fn nearest<'w>(
    wrong: &str,
    right: impl IntoIterator<Item = &'w str>,
) -> Option<&'w str> {
    let wrong = wrong.to_ascii_lowercase();
    right
        .into_iter()
        .map(|word| (edits(&wrong, &word.to_ascii_lowercase()), word))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| (1..=2).contains(distance))
        .map(|(_, word)| word)
}

/// Levenshtein's distance.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, c) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in to.iter().enumerate() {
            let substituted = diagonal + usize::from(c != *other);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::{DockerfileError, Lines, nearest};

    #[test]
    fn an_error_shows_its_line_and_what_was_meant() {
        let error = DockerfileError {
            suggestion: nearest("RUNN", ["ADD", "RUN"]).map(str::to_owned),
            ..DockerfileError::new(Lines::one(3), "unknown instruction: RUNN")
        };
        assert_eq!(
            error.to_string(),
            "dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)"
        );
        assert_eq!(
            error.excerpt("FROM a\n\nRUNN b\nCMD c\n"),
            "   1 |     FROM a\n   2 |\n   3 | >>> RUNN b\n   4 |     CMD c\n"
        );
    }

    #[test]
    fn only_a_near_word_is_suggested() {
        assert_eq!(nearest("chwon", ["chown", "chmod"]), Some("chown"));
        assert_eq!(nearest("elephant", ["chown", "chmod"]), None);
        assert_eq!(nearest("chown", ["chown", "chmod"]), None);
    }
}
