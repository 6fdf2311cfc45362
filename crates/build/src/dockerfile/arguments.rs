//! From a statement to its name, its flags and the arguments behind them, before any variable stands for its value.

use super::error::{DockerfileError, Lines, nearest};

/// A statement's parts: `COPY`, `--chown=a`, `b c`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'s> {
    pub(super) name: &'s str,
    pub(super) flags: Vec<String>,
    pub(super) rest: &'s str,
}

/// Splits a statement. Flags end at the first word that does not begin with two dashes, or after `--` alone.
pub(super) fn parts(statement: &str, escape: char) -> Parts<'_> {
    let statement = statement.trim();
    let (name, rest) = statement
        .split_once([' ', '\t', '\u{b}', '\u{c}', '\r'])
        .unwrap_or((statement, ""));
    let mut flags = Vec::new();
    let mut rest = rest.trim();
    while rest.starts_with("--") {
        let (word, after) = flag_word(rest, escape);
        rest = after.trim_start();
        if word == "--" {
            break;
        }
        flags.push(word);
    }
    Parts { name, flags, rest }
}

/// The first word of a text, its quotes and escapes taken away, and what is behind it.
fn flag_word(text: &str, escape: char) -> (String, &str) {
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == escape {
            word.extend(chars.next().map(|(_, c)| c));
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_some() {
            word.push(c);
        } else if c.is_whitespace() {
            return (word, &text[at..]);
        } else if matches!(c, '\'' | '"') {
            quote = Some(c);
        } else {
            word.push(c);
        }
    }
    (word, "")
}

/// Words between white space, their quotes and escapes still there (they are read when variables are).
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == escape && quote != Some('\'') {
            // An escape at the very end escapes nothing and goes.
            if let Some(next) = chars.next() {
                word.push(c);
                word.push(next);
            }
            continue;
        }
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if matches!(c, '\'' | '"') => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
        word.push(c);
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words between white space, nothing else meant by any character.
pub(super) fn plain_words(text: &str) -> Vec<String> {
    text.split(['\t', '\u{b}', '\u{c}', '\r', ' '])
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Arguments in their exec form, or what stands there instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `["a", "b"]`
    Exec(Vec<String>),
    /// Anything else, to be read by the shell or as words.
    Shell,
}

/// Whether arguments are a JSON array of strings.
///
/// # Errors
/// They are a JSON array of something else, which nobody can have meant for a shell.
pub(super) fn form(text: &str, lines: Lines) -> Result<Form, DockerfileError> {
    if !text.starts_with('[') {
        return Ok(Form::Shell);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Err(_) => Ok(Form::Shell),
        Ok(values) => values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(text) => Ok(text),
                _ => Err(DockerfileError::new(
                    lines,
                    "when using JSON array syntax, arrays must be comprised of strings only",
                )),
            })
            .collect::<Result<_, _>>()
            .map(Form::Exec),
    }
}

/// A statement's flags, taken one after the other by name; what nobody took is unknown.
pub(super) struct Flags<'s> {
    lines: Lines,
    given: Vec<(&'s str, Option<&'s str>)>,
    known: Vec<&'static str>,
}

impl<'s> Flags<'s> {
    pub(super) fn new(flags: &'s [String], lines: Lines) -> Self {
        let given = flags
            .iter()
            .map(|flag| {
                let flag = flag.strip_prefix("--").unwrap_or(flag);
                match flag.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (flag, None),
                }
            })
            .collect();
        Self {
            lines,
            given,
            known: Vec::new(),
        }
    }

    /// The values of a flag that may be given several times.
    pub(super) fn every(&mut self, name: &'static str) -> Result<Vec<&'s str>, DockerfileError> {
        self.known.push(name);
        let lines = self.lines;
        self.given
            .extract_if(.., |(given, _)| *given == name)
            .map(|(_, value)| {
                value.ok_or_else(|| {
                    DockerfileError::new(lines, format!("missing a value on flag: --{name}"))
                })
            })
            .collect()
    }

    /// The value of a flag that may be given once.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<&'s str>, DockerfileError> {
        self.not_twice(name)?;
        Ok(self.every(name)?.pop())
    }

    /// A flag that is true where nothing else is said.
    pub(super) fn switch(&mut self, name: &'static str) -> Result<Option<bool>, DockerfileError> {
        self.not_twice(name)?;
        self.known.push(name);
        let Some(at) = self.given.iter().position(|(given, _)| *given == name) else {
            return Ok(None);
        };
        let (_, value) = self.given.remove(at);
        match value.map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some("") => Err(self.error(format!("missing a value on flag: --{name}"))),
            Some(_) => Err(self.error(format!(
                "expecting boolean value for flag --{name}, not: {}",
                value.unwrap_or_default()
            ))),
        }
    }

    /// That every flag was one that there is.
    pub(super) fn finish(self) -> Result<(), DockerfileError> {
        match self.given.first() {
            None => Ok(()),
            Some((name, _)) => {
                let mut error = self.error(format!("unknown flag: --{name}"));
                error.suggestion =
                    nearest(name, self.known.iter().copied()).map(|name| format!("--{name}"));
                Err(error)
            }
        }
    }

    fn not_twice(&self, name: &str) -> Result<(), DockerfileError> {
        if self
            .given
            .iter()
            .filter(|(given, _)| *given == name)
            .count()
            > 1
        {
            return Err(self.error(format!("duplicate flag specified: --{name}")));
        }
        Ok(())
    }

    fn error(&self, message: String) -> DockerfileError {
        DockerfileError::new(self.lines, message)
    }
}

#[cfg(test)]
mod tests {
    use super::{Form, form, parts, quoted_words};
    use crate::dockerfile::Lines;

    #[test]
    fn flags_end_at_the_first_other_word() {
        let parts = parts("  COPY --a=\"b c\" --d=\\e   x --y ", '\\');
        assert_eq!(parts.name, "COPY");
        assert_eq!(parts.flags, ["--a=b c", "--d=e"]);
        assert_eq!(parts.rest, "x --y");
        let parts = super::parts("RUN --a -- --b", '\\');
        assert_eq!(parts.flags, ["--a"]);
        assert_eq!(parts.rest, "--b");
    }

    #[test]
    fn words_keep_what_is_read_later() {
        assert_eq!(
            quoted_words(r#"a="b c" d\ e 'f\' "" \"#, '\\'),
            [r#"a="b c""#, r"d\ e", r"'f\'", r#""""#]
        );
    }

    #[test]
    fn only_strings_make_an_exec_form() {
        let at = Lines::one(1);
        assert_eq!(
            form(r#"["a", "b c"]"#, at),
            Ok(Form::Exec(vec!["a".to_owned(), "b c".to_owned()]))
        );
        assert_eq!(form("['a']", at), Ok(Form::Shell));
        assert_eq!(form("[ -f x ] && y", at), Ok(Form::Shell));
        assert!(form("[1]", at).is_err());
    }
}
