//! From a file's text to statements: parser directives, comments, continued lines, here-documents.
//!
//! ```text
//! # syntax=docker/dockerfile:1      directives, only before anything else, each at most once
//! # about the next instruction      comments, kept for the names they describe
//! RUN one && \                      a line that ends with the escape character goes on,
//!     # said in between             comments and (with a notice) empty lines in it do not count
//!     two
//! COPY <<EOF <<-END /dir/           here-documents follow the line, in order; `-` takes leading tabs away
//! ```

use super::error::{DockerfileError, Lines};
use super::words::{Reading, WordError, expand};

/// The directives at a file's top (Dockerfile reference, "Parser directives").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directives {
    /// `# syntax=`: the image of the frontend that the author had in mind.
    pub syntax: Option<String>,
    /// `# escape=`: `\` or a backtick.
    pub escape: char,
    /// `# check=`: which checks are left out, and whether one that fails ends the build.
    pub check: Option<String>,
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HereDocument {
    /// The word that ends it, which is also the name of the file it makes.
    pub name: String,
    /// Whether `$name` in it stands for a value: not if the word was quoted.
    pub expand: bool,
    /// `<<-`: leading tabs of its lines go.
    pub chomp: bool,
    /// The descriptor before the mark (`3<<EOF`), 0 if there is none.
    pub descriptor: u32,
    /// Its lines, each with its end.
    pub text: String,
}

impl HereDocument {
    /// The text as the file gets it.
    #[must_use]
    pub fn content(&self) -> String {
        if !self.chomp {
            return self.text.clone();
        }
        self.text
            .split_inclusive('\n')
            .map(|line| line.trim_start_matches('\t'))
            .collect()
    }
}

/// One instruction as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) lines: Lines,
    /// Continued lines joined.
    pub(super) text: String,
    /// The comments right before it, without their marks.
    pub(super) comments: Vec<String>,
    pub(super) here_documents: Vec<HereDocument>,
}

/// A file's statements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) directives: Directives,
    pub(super) statements: Vec<Statement>,
    /// Statements with an empty line inside.
    pub(super) with_empty_lines: Vec<Lines>,
}

/// Instructions that here-documents may follow, also behind ONBUILD.
const WITH_HERE_DOCUMENTS: [&str; 3] = ["add", "copy", "run"];

/// Splits a file into statements.
///
/// # Errors
/// A directive twice or with a wrong value, a here-document without an end, a file without an instruction.
pub(super) fn split(text: &str) -> Result<Source, DockerfileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split_inclusive('\n').zip(1..).peekable();
    let mut directives = Directives {
        syntax: None,
        escape: '\\',
        check: None,
    };
    let mut seen = Vec::new();
    while let Some(&(line, number)) = lines.peek() {
        let Some((name, value)) = directive(line) else {
            break;
        };
        if seen.contains(&name) {
            return Err(DockerfileError::new(
                Lines::one(number),
                format!("only one {name} parser directive can be used"),
            ));
        }
        match name.as_str() {
            "syntax" => directives.syntax = Some(value.to_owned()),
            "check" => directives.check = Some(value.to_owned()),
            _ => directives.escape = escape_character(value, number)?,
        }
        seen.push(name);
        lines.next();
    }
    let mut source = Source {
        directives,
        statements: Vec::new(),
        with_empty_lines: Vec::new(),
    };
    let escape = source.directives.escape;
    let mut comments = Vec::new();
    while let Some((line, first)) = lines.next() {
        let line = end_trimmed(line).trim_start();
        if let Some(comment) = line.strip_prefix('#') {
            match comment.trim() {
                "" => comments.clear(),
                comment => comments.push(comment.to_owned()),
            }
            continue;
        }
        let (line, mut goes_on) = continued(line, escape);
        if !goes_on && line.is_empty() {
            continue;
        }
        let mut statement = line.to_owned();
        let mut last = first;
        let mut has_empty_line = false;
        while goes_on {
            let Some((line, number)) = lines.next() else {
                break;
            };
            last = number;
            let line = end_trimmed(line);
            if line.trim_start().starts_with('#') {
                continue;
            }
            if line.trim().is_empty() {
                has_empty_line = true;
                continue;
            }
            let (line, more) = continued(line, escape);
            statement.push_str(line);
            goes_on = more;
        }
        if statement.trim().is_empty() {
            continue;
        }
        let mut here_documents = Vec::new();
        if can_have_here_documents(&statement) && statement.contains("<<") {
            here_documents = announced(&statement)
                .map_err(|error| DockerfileError::new(Lines { first, last }, error.to_string()))?;
            for document in &mut here_documents {
                loop {
                    let Some((line, number)) = lines.next() else {
                        return Err(DockerfileError::new(
                            Lines { first, last },
                            format!("unterminated heredoc: no line is {}", document.name),
                        ));
                    };
                    last = number;
                    let end = end_trimmed(line);
                    let end = if document.chomp {
                        end.trim_start_matches('\t')
                    } else {
                        end
                    };
                    if end == document.name {
                        break;
                    }
                    document.text.push_str(line);
                }
            }
        }
        let lines = Lines { first, last };
        if has_empty_line {
            source.with_empty_lines.push(lines);
        }
        source.statements.push(Statement {
            lines,
            text: statement,
            comments: std::mem::take(&mut comments),
            here_documents,
        });
    }
    if source.statements.is_empty() {
        return Err(DockerfileError::new(
            Lines::one(text.lines().count().max(1)),
            "file with no instructions",
        ));
    }
    Ok(source)
}

fn escape_character(value: &str, line: usize) -> Result<char, DockerfileError> {
    match value {
        "\\" => Ok('\\'),
        "`" => Ok('`'),
        _ => Err(DockerfileError::new(
            Lines::one(line),
            format!("invalid escape token '{value}' does not match ` or \\"),
        )),
    }
}

/// `# name = value` of a directive that there is.
fn directive(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty())
        .then_some((name, value))
}

fn end_trimmed(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
}

/// The line without the escape character at its end, and whether there was one. Two of them are not a continuation; blanks after it are none.
fn continued(line: &str, escape: char) -> (&str, bool) {
    let trimmed = line.trim_end_matches([' ', '\t']);
    match trimmed.strip_suffix(escape) {
        Some(rest) if !rest.ends_with(escape) => (rest, true),
        _ => (line, false),
    }
}

fn can_have_here_documents(statement: &str) -> bool {
    let mut words = statement.split_whitespace().map(str::to_ascii_lowercase);
    let is_one = |word: &Option<String>| {
        word.as_deref()
            .is_some_and(|word| WITH_HERE_DOCUMENTS.contains(&word))
    };
    match words.next() {
        Some(word) if word == "onbuild" => is_one(&words.next()),
        word => is_one(&word),
    }
}

/// The here-documents that a line announces, without their texts.
fn announced(line: &str) -> Result<Vec<HereDocument>, WordError> {
    let reading = Reading {
        keep_quotes: true,
        keep_escapes: true,
        keep_unset: true,
        ..Reading::plain('\\')
    };
    // A line that is no sequence of words (an open quote in JSON, say) announces nothing.
    let Ok(line) = expand(line, reading, &|_| None) else {
        return Ok(Vec::new());
    };
    let mut documents = Vec::new();
    for word in line.words {
        documents.extend(here_document(&word)?);
    }
    Ok(documents)
}

/// A word like `3<<-"EOF"` as the here-document it announces.
///
/// # Errors
/// The word after the mark cannot be read.
pub(super) fn here_document(word: &str) -> Result<Option<HereDocument>, WordError> {
    let Some((descriptor, rest)) = word.split_once("<<") else {
        return Ok(None);
    };
    if !descriptor.bytes().all(|b| b.is_ascii_digit()) || rest.contains('<') {
        return Ok(None);
    }
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let plain = Reading {
        keep_unset: true,
        ..Reading::plain('\\')
    };
    let words = expand(rest.trim_start(), plain, &|_| None)?.words;
    let [name] = words.as_slice() else {
        return Ok(None);
    };
    let quoted = Reading {
        keep_quotes: true,
        ..plain
    };
    Ok(Some(HereDocument {
        // Any quote around or in the word means that the text is taken as it is.
        expand: expand(rest.trim_start(), quoted, &|_| None)?.text == *name,
        name: name.clone(),
        chomp,
        descriptor: descriptor.parse().unwrap_or(0),
        text: String::new(),
    }))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::split;

    fn check(text: &str, expected: &Expect) {
        let shown = match split(text) {
            Err(error) => error.to_string(),
            Ok(source) => source
                .statements
                .iter()
                .map(|statement| {
                    let documents: String = statement
                        .here_documents
                        .iter()
                        .map(|d| {
                            format!(
                                "\n  {} {:?}{}{}",
                                d.name,
                                d.content(),
                                if d.expand { "" } else { " raw" },
                                if d.descriptor == 0 { "" } else { " descriptor" },
                            )
                        })
                        .collect();
                    format!(
                        "{}-{} {:?} {:?}{documents}\n",
                        statement.lines.first,
                        statement.lines.last,
                        statement.text,
                        statement.comments,
                    )
                })
                .collect(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn lines_go_on_over_comments_and_empty_lines() {
        check(
            "# escape=\\\n# what it is\nFROM a\\\n  # inside\n\n  b \\  \n c\n\n\n#\n# x\n\nRUN d\\\\\nRUN e",
            &expect![[r#"
                3-7 "FROM a  b  c" ["what it is"]
                13-13 "RUN d\\\\" ["x"]
                14-14 "RUN e" []
            "#]],
        );
    }

    #[test]
    fn the_escape_character_can_be_another() {
        check(
            "# escape=`\nRUN dir c:\\\nRUN a `\n b",
            &expect![[r#"
                2-2 "RUN dir c:\\" []
                3-4 "RUN a  b" []
            "#]],
        );
    }

    #[test]
    fn here_documents_follow_their_line() {
        check(
            "RUN <<EOF 3<<-\"X\" cat\na $b\nEOF\n\t\tc\n\tX\nCOPY <<'A' /b\n#c\nA\nONBUILD RUN <<E\nx\nE\nCMD <<NO",
            &expect![[r##"
                1-5 "RUN <<EOF 3<<-\"X\" cat" []
                  EOF "a $b\n"
                  X "c\n" raw descriptor
                6-8 "COPY <<'A' /b" []
                  A "#c\n" raw
                9-11 "ONBUILD RUN <<E" []
                  E "x\n"
                12-12 "CMD <<NO" []
            "##]],
        );
    }

    #[test]
    fn what_is_no_here_document() {
        check(
            "RUN cat <<<word\nRUN echo '<<EOF'\nRUN a << b c <d\nb\nRUN [\"<<E\"]\nRUN echo $((1<<2))\n2))",
            &expect![[r#"
                1-1 "RUN cat <<<word" []
                2-2 "RUN echo '<<EOF'" []
                3-4 "RUN a << b c <d" []
                  b ""
                5-5 "RUN [\"<<E\"]" []
                6-6 "RUN echo $((1<<2))" []
                7-7 "2))" []
            "#]],
        );
    }

    #[test]
    fn what_is_wrong_names_its_line() {
        check(
            "FROM a\nRUN <<EOF\nx",
            &expect!["dockerfile parse error on line 2: unterminated heredoc: no line is EOF"],
        );
        check(
            "# escape=x\nFROM a",
            &expect![[
                r"dockerfile parse error on line 1: invalid escape token 'x' does not match ` or \"
            ]],
        );
        check(
            "# escape=`\n#escape = \\\nFROM a",
            &expect![
                "dockerfile parse error on line 2: only one escape parser directive can be used"
            ],
        );
        check(
            "# only\n\n",
            &expect!["dockerfile parse error on line 2: file with no instructions"],
        );
    }
}
