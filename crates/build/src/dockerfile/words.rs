//! Quotes, escapes and `$name` in the words of a Dockerfile.
//!
//! Docker's rules (Dockerfile reference, "Environment replacement"; docker/dockerfile 1.1x for the modifiers), which
//! are a shell's with differences that files in the wild lean on: an escape before an ordinary character vanishes
//! outside of quotes and stays inside of double ones; `$` before no name is a dollar; `$1`, `$@` and the shell's other
//! special parameters are names that are never set.

use std::collections::BTreeSet;

use thiserror::Error;

use super::pattern::Pattern;

/// Why a word could not be read; the word itself is named by whoever knows its line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WordError {
    /// A quote that nothing closes.
    #[error("unexpected end of statement while looking for matching {0}-quote")]
    OpenQuote(&'static str),
    /// `${` without `}`, or a substitution that ends before its second part.
    #[error("syntax error: missing '{0}'")]
    Missing(char),
    /// `${}`, `${{`, `${:`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// Variables of variables of variables: more than any program could be started with.
    #[error("variables stand for more than {EXPANSION_LIMIT} bytes here")]
    TooLong,
    /// A modifier that there is not.
    #[error("unsupported modifier ({0}) in substitution")]
    Modifier(String),
    /// A pattern with an escape that means nothing.
    #[error("invalid pattern ({pattern}) in substitution: {reason}")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong.
        reason: String,
    },
    /// `${name?message}` of a name that has no value.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// What the file says about it.
        message: String,
    },
}

/// References inside of the words of references; a person writes two.
const DEEPEST: usize = 100;
/// Bytes that the variables of one text may stand for.
const EXPANSION_LIMIT: usize = 1 << 20;

/// How a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The file's escape character, `\` or a backtick.
    pub(crate) escape: char,
    /// Quotes stay in the result.
    pub(crate) keep_quotes: bool,
    /// Escape characters stay in the result.
    pub(crate) keep_escapes: bool,
    /// Quotes are characters like others (the text of a here-document).
    pub(crate) quotes_are_text: bool,
    /// A reference to a name without a value stays as it is, instead of becoming nothing.
    pub(crate) keep_unset: bool,
}

impl Reading {
    /// As most instructions are read.
    pub(crate) const fn plain(escape: char) -> Self {
        Self {
            escape,
            keep_quotes: false,
            keep_escapes: false,
            quotes_are_text: false,
            keep_unset: false,
        }
    }
}

/// A text after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    /// As one word, white space and all.
    pub(crate) text: String,
    /// As words: split at white space that is neither quoted nor escaped, also at that of values.
    pub(crate) words: Vec<String>,
    /// The names whose values went in.
    pub(crate) used: BTreeSet<String>,
    /// The names that had none.
    pub(crate) unset: BTreeSet<String>,
}

/// Expands a text; `variables` gives a name's value.
///
/// # Errors
/// See [`WordError`].
pub(crate) fn expand<'v>(
    text: &str,
    reading: Reading,
    variables: &dyn Fn(&str) -> Option<&'v str>,
) -> Result<Expanded, WordError> {
    let mut cursor = Cursor {
        chars: text.chars().collect(),
        at: 0,
        reading,
        variables,
        used: BTreeSet::new(),
        unset: BTreeSet::new(),
        left: EXPANSION_LIMIT,
        depth: 0,
    };
    let pieces = cursor.until(None, reading.keep_escapes)?;
    Ok(Expanded {
        text: pieces.text,
        words: pieces.words.finish(),
        used: cursor.used,
        unset: cursor.unset,
    })
}

/// One word that is being put together, and those before it.
#[derive(Default)]
struct Words {
    done: Vec<String>,
    word: String,
}

impl Words {
    fn literal(&mut self, text: &str) {
        self.word.push_str(text);
    }

    fn splitting(&mut self, text: &str) {
        for c in text.chars() {
            if !c.is_whitespace() {
                self.word.push(c);
            } else if !self.word.is_empty() {
                self.done.push(std::mem::take(&mut self.word));
            }
        }
    }

    fn finish(mut self) -> Vec<String> {
        if !self.word.is_empty() {
            self.done.push(self.word);
        }
        self.done
    }
}

#[derive(Default)]
struct Pieces {
    text: String,
    words: Words,
}

impl Pieces {
    fn literal(&mut self, text: &str) {
        self.text.push_str(text);
        self.words.literal(text);
    }

    fn splitting(&mut self, text: &str) {
        self.text.push_str(text);
        self.words.splitting(text);
    }
}

struct Cursor<'a, 'v> {
    chars: Vec<char>,
    at: usize,
    reading: Reading,
    variables: &'a dyn Fn(&str) -> Option<&'v str>,
    used: BTreeSet<String>,
    unset: BTreeSet<String>,
    /// Bytes that values may still have.
    left: usize,
    /// References inside of references.
    depth: usize,
}

impl Cursor<'_, '_> {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += 1;
        Some(c)
    }

    fn take(&mut self, wanted: char) -> bool {
        let is = self.peek() == Some(wanted);
        if is {
            self.at += 1;
        }
        is
    }

    /// Reads up to `stop`, which is taken too, or to the end.
    fn until(&mut self, stop: Option<char>, keep_escapes: bool) -> Result<Pieces, WordError> {
        let mut pieces = Pieces::default();
        let quotes = !self.reading.quotes_are_text;
        while let Some(c) = self.next() {
            let mut one = [0; 4];
            match c {
                _ if Some(c) == stop => return Ok(pieces),
                '\'' if quotes => pieces.literal(&self.single_quoted()?),
                '"' if quotes => pieces.literal(&self.double_quoted(keep_escapes)?),
                '$' => pieces.splitting(&self.dollar()?),
                '<' if self.take('<') => {
                    // White space between a here-document's mark and its word does not separate them.
                    pieces.literal("<<");
                    while let Some(blank @ ('\t' | '\r' | ' ')) = self.peek() {
                        self.at += 1;
                        pieces.literal(blank.encode_utf8(&mut one));
                    }
                }
                _ if c == self.reading.escape => {
                    if keep_escapes {
                        pieces.literal(c.encode_utf8(&mut one));
                    }
                    // At the end there is nothing to escape.
                    if let Some(c) = self.next() {
                        pieces.literal(c.encode_utf8(&mut one));
                    }
                }
                _ => pieces.splitting(c.encode_utf8(&mut one)),
            }
        }
        match stop {
            None => Ok(pieces),
            Some(stop) => Err(WordError::Missing(stop)),
        }
    }

    fn single_quoted(&mut self) -> Result<String, WordError> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(WordError::OpenQuote("single")),
                Some('\'') => break,
                Some(c) => text.push(c),
            }
        }
        Ok(if self.reading.keep_quotes {
            format!("'{text}'")
        } else {
            text
        })
    }

    fn double_quoted(&mut self, keep_escapes: bool) -> Result<String, WordError> {
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(WordError::OpenQuote("double")),
                Some('"') => break,
                Some('$') => text.push_str(&self.dollar()?),
                Some(c) if c == self.reading.escape => {
                    if keep_escapes {
                        text.push(c);
                    }
                    match self.peek() {
                        None => {}
                        Some(next) if next == '"' || next == '$' || next == c => {
                            self.at += 1;
                            text.push(next);
                        }
                        // Before anything else the escape is itself.
                        Some(_) if !keep_escapes => text.push(c),
                        Some(_) => {}
                    }
                }
                Some(c) => text.push(c),
            }
        }
        Ok(if self.reading.keep_quotes {
            format!("\"{text}\"")
        } else {
            text
        })
    }

    /// What stands for a reference, its `$` read already.
    fn dollar(&mut self) -> Result<String, WordError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(WordError::BadSubstitution);
        }
        let value = self.reference()?;
        self.depth -= 1;
        self.left = self
            .left
            .checked_sub(value.len())
            .ok_or(WordError::TooLong)?;
        Ok(value)
    }

    fn reference(&mut self) -> Result<String, WordError> {
        if !self.take('{') {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".to_owned());
            }
            return Ok(match self.value(&name) {
                None if self.reading.keep_unset => format!("${name}"),
                value => value.unwrap_or_default(),
            });
        }
        match self.peek() {
            None => return Err(WordError::Missing('}')),
            Some('{' | '}' | ':') => return Err(WordError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.next() {
            None => Err(WordError::Missing('}')),
            Some('}') => Ok(match self.value(&name) {
                None if self.reading.keep_unset => format!("${{{name}}}"),
                value => value.unwrap_or_default(),
            }),
            Some(':') => match self.next() {
                Some(modifier @ ('-' | '+' | '?')) => self.alternative(&name, modifier, true),
                other => Err(WordError::Modifier(other.iter().fold(
                    ":".to_owned(),
                    |mut modifier, c| {
                        modifier.push(*c);
                        modifier
                    },
                ))),
            },
            Some(modifier @ ('-' | '+' | '?')) => self.alternative(&name, modifier, false),
            Some(end @ ('#' | '%')) => self.trimmed(&name, end),
            Some('/') => self.replaced(&name),
            Some(other) => Err(WordError::Modifier(other.to_string())),
        }
    }

    /// `${name-word}`, `${name+word}`, `${name?message}`, and with a colon, for which an empty value is none.
    fn alternative(
        &mut self,
        name: &str,
        modifier: char,
        empty_is_unset: bool,
    ) -> Result<String, WordError> {
        let word = self.until(Some('}'), false)?.text;
        let value = self.value(name);
        if value.is_none() && self.reading.keep_unset {
            let colon = if empty_is_unset { ":" } else { "" };
            return Ok(format!("${{{name}{colon}{modifier}{word}}}"));
        }
        let is_set = value.is_some();
        let value = value.filter(|value| !(empty_is_unset && value.is_empty()));
        match (modifier, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            (_, Some(value)) => Ok(value),
            (_, None) => Err(WordError::Required {
                name: name.to_owned(),
                message: match word.as_str() {
                    "" if is_set => "is not allowed to be empty".to_owned(),
                    "" => "is not allowed to be unset".to_owned(),
                    _ => word,
                },
            }),
        }
    }

    /// `${name#pattern}`, `##`, `%` and `%%`.
    fn trimmed(&mut self, name: &str, end: char) -> Result<String, WordError> {
        let longest = self.take(end);
        let pattern = self.until(Some('}'), true)?.text;
        let Some(value) = self.value(name) else {
            return Ok(if self.reading.keep_unset {
                let twice = if longest {
                    end.to_string()
                } else {
                    String::new()
                };
                format!("${{{name}{end}{twice}{pattern}}}")
            } else {
                String::new()
            });
        };
        let pattern = Pattern::parse(&pattern)?;
        Ok(if end == '#' {
            pattern.without_prefix(&value, longest)
        } else {
            pattern.without_suffix(&value, longest)
        })
    }

    /// `${name/pattern/text}` and `${name//pattern/text}`.
    fn replaced(&mut self, name: &str) -> Result<String, WordError> {
        let every = self.take('/');
        let pattern = self.until(Some('/'), true)?.text;
        let text = self.until(Some('}'), true)?.text;
        let Some(value) = self.value(name) else {
            return Ok(if self.reading.keep_unset {
                format!("${{{name}/{pattern}/{text}}}")
            } else {
                String::new()
            });
        };
        Ok(Pattern::parse(&pattern)?.replace(&value, &text, every))
    }

    /// A name: letters, digits and underscores; digits alone; or one of the shell's special parameters.
    fn name(&mut self) -> String {
        let start = self.at;
        match self.peek() {
            Some(c) if c.is_numeric() => {
                while self.peek().is_some_and(char::is_numeric) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') => self.at += 1,
            _ => {
                while self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
                    self.at += 1;
                }
            }
        }
        self.chars[start..self.at].iter().collect()
    }

    fn value(&mut self, name: &str) -> Option<String> {
        let value = (self.variables)(name);
        if value.is_some() {
            self.used.insert(name.to_owned());
        } else {
            self.unset.insert(name.to_owned());
        }
        value.map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::{Reading, WordError, expand};

    fn variables(name: &str) -> Option<&'static str> {
        match name {
            "HOME" => Some("/root"),
            "EMPTY" => Some(""),
            "TWO" => Some("a b"),
            "FILE" => Some("one.tar.gz"),
            _ => None,
        }
    }

    fn text(text: &str) -> Result<String, WordError> {
        expand(text, Reading::plain('\\'), &variables).map(|expanded| expanded.text)
    }

    #[test]
    fn quotes_and_escapes_go() {
        for (from, to) in [
            ("plain", "plain"),
            (r"a\ b", "a b"),
            (r#""a b" 'c  d'"#, "a b c  d"),
            (r#""a\b \" \$HOME \\""#, r#"a\b " $HOME \"#),
            (r"'\$HOME'", r"\$HOME"),
            (r"\$HOME", "$HOME"),
            (r"it\'s", "it's"),
            (r"end\", "end"),
            ("a<b <<c", "a<b <<c"),
        ] {
            assert_eq!(text(from).as_deref(), Ok(to), "{from}");
        }
    }

    #[test]
    fn names_become_their_values() {
        for (from, to) in [
            ("$HOME/x", "/root/x"),
            ("${HOME}x", "/rootx"),
            ("$HOMEx", ""),
            ("$", "$"),
            ("a$ b", "a$ b"),
            ("$1abc", "abc"),
            ("$@", ""),
            ("'$HOME'", "$HOME"),
            ("\"$HOME\"", "/root"),
            ("${NONE:-x$HOME}", "x/root"),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY-x}", ""),
            ("${HOME:+x}", "x"),
            ("${EMPTY:+x}", ""),
            ("${EMPTY+x}", "x"),
            ("${NONE+x}", ""),
            ("${NONE:-${EMPTY:-\"y z\"}}", "y z"),
            ("${HOME:?must be}", "/root"),
            ("${FILE%.*}", "one.tar"),
            ("${FILE%%.*}", "one"),
            ("${FILE#*.}", "tar.gz"),
            ("${FILE##*.}", "gz"),
            ("${FILE/./-}", "one-tar.gz"),
            ("${FILE//./-}", "one-tar-gz"),
            (r"${HOME/\//x}", "xroot"),
            ("${NONE/a/b}", ""),
        ] {
            assert_eq!(text(from).as_deref(), Ok(to), "{from}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (from, said) in [
            (
                "'a",
                "unexpected end of statement while looking for matching single-quote",
            ),
            (
                "\"a",
                "unexpected end of statement while looking for matching double-quote",
            ),
            ("${HOME", "syntax error: missing '}'"),
            ("${", "syntax error: missing '}'"),
            ("${}", "syntax error: bad substitution"),
            ("${HOME:-x", "syntax error: missing '}'"),
            ("${HOME/x}", "syntax error: missing '/'"),
            ("${HOME:#x}", "unsupported modifier (:#) in substitution"),
            ("${HOME^x}", "unsupported modifier (^) in substitution"),
            ("${NONE?}", "NONE: is not allowed to be unset"),
            ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
            ("${NONE:?say it}", "NONE: say it"),
            (
                r"${HOME#\r}",
                r"invalid pattern (\r) in substitution: invalid escape '\r'",
            ),
        ] {
            assert_eq!(text(from).expect_err(from).to_string(), said, "{from}");
        }
    }

    #[test]
    fn words_split_where_nothing_holds_them_together() {
        for (from, to) in [
            ("a  b\tc", vec!["a", "b", "c"]),
            ("'a b' c", vec!["a b", "c"]),
            ("$TWO x", vec!["a", "b", "x"]),
            ("\"$TWO\" x", vec!["a b", "x"]),
            ("80${NONE:-80} 1", vec!["8080", "1"]),
            (r"a\ b c", vec!["a b", "c"]),
            ("<< EOF", vec!["<< EOF"]),
        ] {
            let expanded = expand(from, Reading::plain('\\'), &variables).expect(from);
            assert_eq!(expanded.words, to, "{from}");
        }
    }

    #[test]
    fn a_name_without_a_value_can_stay() {
        let reading = Reading {
            keep_unset: true,
            ..Reading::plain('`')
        };
        for same in [
            "$NONE",
            "${NONE}",
            "${NONE:-x}",
            "${NONE##x}",
            "${NONE/x/y}",
        ] {
            let expanded = expand(same, reading, &variables).expect(same);
            assert_eq!(expanded.text, same);
            assert!(expanded.unset.contains("NONE"));
        }
    }

    #[test]
    fn the_escape_can_be_a_backtick() {
        let expanded = expand("C:\\x `$HOME $HOME", Reading::plain('`'), &variables);
        assert_eq!(expanded.expect("a text").text, "C:\\x $HOME /root");
    }
}
