//! `.dockerignore`: which files of a context are left out.
//!
//! Docker's own rules (Dockerfile reference, ".dockerignore files"; behaviour of moby/patternmatcher 0.6), which are neither git's nor a shell's:
//! patterns are relative to the context's root, `**` is any number of directories, a pattern that matches a directory holds for
//! all below it, `!` takes files back in, and the last pattern that matches decides.

use hoist_model::ErrorClass;
use thiserror::Error;

use crate::glob::Glob;

/// The patterns of one file, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ignore {
    patterns: Vec<IgnorePattern>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IgnorePattern {
    /// It began with `!`.
    includes: bool,
    glob: Glob,
}

/// A pattern that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("syntax error in pattern {pattern:?}: {reason}")]
pub struct IgnoreError {
    /// The pattern as it was written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl IgnoreError {
    /// Always the file's author's to mend.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

/// The patterns of a `.dockerignore` for somebody else to match: those of its lines, cleaned, without a slash at their beginning.
///
/// # Errors
/// A pattern that means nothing.
pub fn lines(text: &str) -> Result<Vec<String>, IgnoreError> {
    Ignore::parse(text)?;
    let patterns = written(text).map(|line| match line.strip_prefix('!') {
        Some(rest) => format!("!{}", cleaned(rest.trim())),
        None => cleaned(line),
    });
    Ok(patterns.collect())
}

fn written(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::trim)
        .filter(|line| !line.is_empty())
}

impl Ignore {
    /// Reads a `.dockerignore`: one pattern a line, lines that begin with `#` and empty ones do not count.
    ///
    /// # Errors
    /// A pattern that means nothing.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        Self::of(written(text))
    }

    /// Takes patterns as they are, such as those of `COPY --exclude`.
    ///
    /// # Errors
    /// A pattern that means nothing.
    pub fn of<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, IgnoreError> {
        let mut read = Vec::new();
        for written in patterns {
            let (includes, pattern) = match written.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, written),
            };
            let refused = |reason| IgnoreError {
                pattern: written.to_owned(),
                reason,
            };
            if includes && pattern.is_empty() {
                return Err(refused("an exclamation mark needs a pattern behind it"));
            }
            let pattern = cleaned(pattern);
            if pattern == "." {
                // Nothing is called like this; Docker reads and never matches it.
                continue;
            }
            read.push(IgnorePattern {
                includes,
                glob: Glob::across_directories(&pattern).map_err(refused)?,
            });
        }
        Ok(Self { patterns: read })
    }

    /// Whether nothing is left out.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path is left out. It is relative to the context's root, with slashes, without one at its beginning or end.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut ignored = false;
        for pattern in &self.patterns {
            if pattern.includes == ignored && pattern.glob.matches_it_or_above(path) {
                ignored = !pattern.includes;
            }
        }
        ignored
    }

    /// Whether something below a directory that is left out can be in all the same: whoever walks the context may skip the directory if not.
    #[must_use]
    pub fn may_include_below(&self, directory: &str) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.includes && pattern.glob.may_match_below(directory))
    }
}

/// Go's `filepath.Clean`, and no slash at the beginning.
pub(crate) fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if pattern.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        ".".to_owned()
    } else {
        parts.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::Ignore;

    fn ignored(patterns: &str, paths: &[&str]) -> Vec<String> {
        let ignore = Ignore::parse(patterns).expect(patterns);
        paths
            .iter()
            .filter(|path| ignore.matches(path))
            .map(|path| (*path).to_owned())
            .collect()
    }

    const TREE: &[&str] = &[
        "a",
        "a/b",
        "a/b/c.md",
        "b",
        "b/x.go",
        "c.md",
        "d/e/f.md",
        "d/e/g.txt",
        ".git",
        ".git/config",
        "x[y",
        "z-1",
    ];

    #[test]
    fn a_pattern_holds_for_all_below_it() {
        assert_eq!(ignored("a", TREE), ["a", "a/b", "a/b/c.md"]);
        assert_eq!(ignored("/a/b/", TREE), ["a/b", "a/b/c.md"]);
        assert_eq!(ignored("./d/../c.md", TREE), ["c.md"]);
        assert_eq!(ignored("*/b", TREE), ["a/b", "a/b/c.md"]);
        assert_eq!(ignored("# a\n\n  .git  \n", TREE), [".git", ".git/config"]);
    }

    #[test]
    fn two_stars_are_any_directories() {
        assert_eq!(ignored("**/*.md", TREE), ["a/b/c.md", "c.md", "d/e/f.md"]);
        assert_eq!(ignored("**/b", TREE), ["a/b", "a/b/c.md", "b", "b/x.go"]);
        assert_eq!(ignored("d/**", TREE), ["d/e/f.md", "d/e/g.txt"]);
        assert_eq!(ignored("d/**/f.md", TREE), ["d/e/f.md"]);
        assert_eq!(ignored("**", TREE), TREE);
        assert_eq!(ignored("**.md", TREE), ["a/b/c.md", "c.md", "d/e/f.md"]);
        assert_eq!(
            ignored("a**/b", &["a/b", "aX/b", "aX/Y/b", "ab"]),
            ["a/b", "aX/b", "aX/Y/b", "ab"]
        );
    }

    #[test]
    fn the_last_that_matches_decides() {
        assert_eq!(
            ignored("**\n!c.md\n!a/b", &["a", "a/b", "a/b/c.md", "c.md"]),
            ["a"]
        );
        assert_eq!(ignored("*.md\n!c.md\nc*", TREE), ["c.md"]);
        assert_eq!(ignored("!a\na", TREE), ["a", "a/b", "a/b/c.md"]);
    }

    #[test]
    fn characters_can_be_of_a_set_or_taken_literally() {
        assert_eq!(
            ignored("[a-b]", TREE),
            ["a", "a/b", "a/b/c.md", "b", "b/x.go"]
        );
        assert_eq!(ignored("?.md", TREE), ["c.md"]);
        assert_eq!(ignored("[^a-y]-1", TREE), ["z-1"]);
        assert_eq!(ignored(r"x\[y", TREE), ["x[y"]);
        assert_eq!(ignored("*.m?", TREE), ["c.md"]);
    }

    #[test]
    fn a_pattern_that_means_nothing_is_named() {
        for (pattern, said) in [
            (
                "a[",
                "syntax error in pattern \"a[\": a bracket is not closed",
            ),
            ("[]", "syntax error in pattern \"[]\": brackets are empty"),
            (
                "[-a]",
                "syntax error in pattern \"[-a]\": a dash in brackets stands between two characters",
            ),
            (
                "a\\",
                "syntax error in pattern \"a\\\\\": a backslash has nothing behind it",
            ),
            (
                "!",
                "syntax error in pattern \"!\": an exclamation mark needs a pattern behind it",
            ),
        ] {
            assert_eq!(Ignore::parse(pattern).expect_err(pattern).to_string(), said);
        }
    }

    #[test]
    fn a_directory_is_skipped_only_if_nothing_in_it_can_be_in() {
        let ignore = Ignore::parse("*\n!src/**/*.rs\n!a?/b").expect("patterns");
        assert!(ignore.may_include_below("src"));
        assert!(ignore.may_include_below("src/x/y"));
        assert!(ignore.may_include_below("ax"));
        assert!(!ignore.may_include_below("target"));
        assert!(!ignore.may_include_below("ax/c"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_back_in_is_never_skipped(
            patterns in proptest::collection::vec("!?(\\*\\*/|\\*|\\?|a|b|/|\\[ab\\]){1,5}", 1..5),
            path in "[ab](/[ab]){0,3}",
        ) {
            let ignore = Ignore::of(patterns.iter().map(String::as_str).filter(|p| *p != "!"));
            if let Ok(ignore) = ignore && !ignore.matches(&path) {
                for (end, _) in path.match_indices('/') {
                    proptest::prop_assert!(!ignore.matches(&path[..end]) || ignore.may_include_below(&path[..end]));
                }
            }
        }
    }
}
