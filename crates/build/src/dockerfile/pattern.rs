//! Shell patterns in `${name#pattern}`, `${name%pattern}` and `${name/pattern/text}`.
//!
//! POSIX pattern matching without bracket expressions, as in docker/dockerfile 1.7 and later: `*` is any run of
//! characters, `?` any one, neither of them a line feed; a backslash takes `*`, `?` and itself literally, and before
//! `}` and `/` it is only there to keep them from ending the pattern.

use super::words::WordError;

/// A pattern that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Run,
    One,
    Literal(char),
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// A backslash before anything but `*`, `?`, `\`, `}` and `/`, or at the end.
    pub(super) fn parse(text: &str) -> Result<Self, WordError> {
        let refused = |escaped: String| WordError::Pattern {
            pattern: text.to_owned(),
            reason: format!("invalid escape '\\{escaped}'"),
        };
        let mut parts = Vec::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Run,
                '?' => Part::One,
                '\\' => match chars.next() {
                    Some(c @ ('*' | '?' | '\\' | '}' | '/')) => Part::Literal(c),
                    Some(other) => return Err(refused(other.to_string())),
                    None => return Err(refused(String::new())),
                },
                other => Part::Literal(other),
            });
        }
        Ok(Self(parts))
    }

    /// The value without the part at its beginning that matches: the shortest such part, or the longest.
    pub(super) fn without_prefix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let ends = self.ends(&chars, 0);
        let end = if longest {
            ends.iter().rposition(|&is| is)
        } else {
            ends.iter().position(|&is| is)
        };
        chars[end.unwrap_or(0)..].iter().collect()
    }

    /// The value without the part at its end that matches: the shortest such part, or the longest.
    pub(super) fn without_suffix(&self, value: &str, longest: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let matches_from = |&start: &usize| self.ends(&chars, start)[chars.len()];
        let mut starts = 0..=chars.len();
        let start = if longest {
            starts.find(matches_from)
        } else {
            starts.rev().find(matches_from)
        };
        chars[..start.unwrap_or(chars.len())].iter().collect()
    }

    /// The value with the first match, or every one, replaced by `text`; a match begins as early as it can and is as long as it can be.
    pub(super) fn replace(&self, value: &str, text: &str, every: bool) -> String {
        let chars: Vec<char> = value.chars().collect();
        let mut result = String::new();
        let mut at = 0;
        while at <= chars.len() {
            match self.ends(&chars, at).iter().rposition(|&is| is) {
                Some(end) => {
                    result.push_str(text);
                    if end == at {
                        // An empty match: one character is kept, so that the search gets on.
                        result.extend(chars.get(at));
                        at += 1;
                    } else {
                        at = end;
                        if at == chars.len() {
                            break;
                        }
                    }
                    if !every {
                        break;
                    }
                }
                None => {
                    result.extend(chars.get(at));
                    at += 1;
                }
            }
        }
        result.extend(chars.get(at..).unwrap_or_default());
        result
    }

    /// For each position from 0 to the length: whether a match that begins at `start` can end there.
    fn ends(&self, chars: &[char], start: usize) -> Vec<bool> {
        let mut reached = vec![false; chars.len() + 1];
        reached[start] = true;
        for part in &self.0 {
            let mut next = vec![false; chars.len() + 1];
            match part {
                Part::Run => {
                    let mut running = false;
                    for at in start..=chars.len() {
                        running |= reached[at];
                        next[at] = running;
                        running &= chars.get(at).is_some_and(|&c| c != '\n');
                    }
                }
                Part::One | Part::Literal(_) => {
                    for at in start..chars.len() {
                        let fits = match part {
                            Part::Literal(c) => chars[at] == *c,
                            _ => chars[at] != '\n',
                        };
                        next[at + 1] = reached[at] && fits;
                    }
                }
            }
            reached = next;
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn the_shortest_or_the_longest_prefix_goes() {
        let path = "/usr/local/bin/tool";
        let pattern = Pattern::parse("*/").expect("a pattern");
        assert_eq!(pattern.without_prefix(path, false), "usr/local/bin/tool");
        assert_eq!(pattern.without_prefix(path, true), "tool");
        let none = Pattern::parse("x*").expect("a pattern");
        assert_eq!(none.without_prefix(path, true), path);
    }

    #[test]
    fn the_shortest_or_the_longest_suffix_goes() {
        let name = "archive.tar.gz";
        let pattern = Pattern::parse(".*").expect("a pattern");
        assert_eq!(pattern.without_suffix(name, false), "archive.tar");
        assert_eq!(pattern.without_suffix(name, true), "archive");
        let escaped = Pattern::parse(r"\*").expect("a pattern");
        assert_eq!(escaped.without_suffix("a*", false), "a");
        assert_eq!(escaped.without_suffix("ab", false), "ab");
    }

    #[test]
    fn one_match_or_every_match_is_replaced() {
        let pattern = Pattern::parse("a?").expect("a pattern");
        assert_eq!(pattern.replace("abcabd", "-", false), "-cabd");
        assert_eq!(pattern.replace("abcabd", "-", true), "-c-d");
        assert_eq!(pattern.replace("xyz", "-", true), "xyz");
        let run = Pattern::parse("b*").expect("a pattern");
        assert_eq!(run.replace("abc\ndbe", "-", true), "a-\nd-");
    }

    #[test]
    fn an_escape_of_anything_else_is_refused() {
        assert!(Pattern::parse(r"a\b").is_err());
        assert!(Pattern::parse("a\\").is_err());
        assert!(Pattern::parse(r"a\/b\}").is_ok());
    }
}
