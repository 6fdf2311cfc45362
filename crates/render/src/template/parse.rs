//! Templates from text to a tree.

use serde_json::Value;

use super::TemplateError;

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    Set(String, Pipeline),
    /// `$name = …`: of a variable that is there.
    Assign(String, Pipeline),
    Break,
    Continue,
    If(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Range {
        variables: Vec<String>,
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
}

/// Commands, each given the result of the one before as its last argument.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) commands: Vec<Vec<Operand>>,
}

/// What a command is made of.
#[derive(Debug)]
pub(super) enum Operand {
    /// `.A.B`; nothing for `.`.
    Field(Vec<String>),
    /// `$name.A`; the root for an empty name.
    Variable(String, Vec<String>),
    Literal(Value),
    Group(Pipeline, Vec<String>),
    Function(String),
}

fn syntax(detail: impl Into<String>) -> TemplateError {
    TemplateError::Syntax(detail.into())
}

/// Text and the insides of `{{…}}`, alternating.
enum Piece {
    Text(String),
    Action(String),
}

fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let before = &rest[..start];
        let inside = &rest[start + 2..];
        let end = close(inside).ok_or_else(|| syntax("\"{{\" is not closed"))?;
        let mut action = &inside[..end];
        let mut before = if trim { before.trim_start() } else { before };
        if let Some(trimmed) = action.strip_prefix("- ") {
            before = before.trim_end();
            action = trimmed;
        }
        trim = action.ends_with(" -");
        let action = action.strip_suffix(" -").unwrap_or(action).trim();
        pieces.push(Piece::Text(before.to_owned()));
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(action.to_owned()));
        }
        rest = &inside[end + 2..];
    }
    let rest = if trim { rest.trim_start() } else { rest };
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

/// Where the `}}` is that is not inside a string.
fn close(inside: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if inside[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

pub(super) fn parse(text: &str) -> Result<Vec<Node>, TemplateError> {
    let pieces = pieces(text)?;
    let mut parser = Parser { pieces: &pieces };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Text => Ok(nodes),
        End::Closed => Err(syntax("{{end}} without a beginning")),
        End::Else(_) => Err(syntax("{{else}} without {{if}}")),
    }
}

struct Parser<'a> {
    pieces: &'a [Piece],
}

enum End {
    Text,
    Closed,
    /// With what follows: nothing, or `if …`.
    Else(String),
}

impl Parser<'_> {
    fn nodes(&mut self) -> Result<(Vec<Node>, End), TemplateError> {
        let mut nodes = Vec::new();
        while let Some((piece, rest)) = self.pieces.split_first() {
            self.pieces = rest;
            let action = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text.clone()));
                    continue;
                }
                Piece::Action(action) => action,
            };
            let (word, rest) = action
                .split_once(char::is_whitespace)
                .unwrap_or((action, ""));
            match word {
                "end" => return Ok((nodes, End::Closed)),
                "else" => return Ok((nodes, End::Else(rest.trim().to_owned()))),
                "if" => nodes.push(self.branch("if", rest)?),
                "with" => nodes.push(self.branch("with", rest)?),
                "range" => {
                    let (variables, over) = match rest.split_once(":=") {
                        Some((names, over)) => (variables(names)?, over),
                        None => (Vec::new(), rest),
                    };
                    let over = pipeline(over)?;
                    let (body, otherwise) = self.bodies("range")?;
                    nodes.push(Node::Range {
                        variables,
                        over,
                        body,
                        otherwise,
                    });
                }
                "break" => nodes.push(Node::Break),
                "continue" => nodes.push(Node::Continue),
                "template" | "define" | "block" => {
                    return Err(TemplateError::Unsupported(format!("{word:?}")));
                }
                _ => match action.split_once(":=") {
                    Some((name, value)) if action.starts_with('$') => {
                        let name = variables(name)?.into_iter().next().unwrap_or_default();
                        nodes.push(Node::Set(name, pipeline(value)?));
                    }
                    None if assignment(action).is_some() => {
                        let (name, value) = assignment(action).unwrap_or_default();
                        nodes.push(Node::Assign(name.to_owned(), pipeline(value)?));
                    }
                    _ => nodes.push(Node::Action(pipeline(action)?)),
                },
            }
        }
        Ok((nodes, End::Text))
    }

    fn branch(&mut self, word: &str, condition: &str) -> Result<Node, TemplateError> {
        let condition = pipeline(condition)?;
        let (then, otherwise) = self.bodies(word)?;
        Ok(match word {
            "if" => Node::If(condition, then, otherwise),
            _ => Node::With(condition, then, otherwise),
        })
    }

    fn bodies(&mut self, word: &str) -> Result<(Vec<Node>, Vec<Node>), TemplateError> {
        let open = || syntax(format!("{{{{{word}}}}} without {{{{end}}}}"));
        let (then, end) = self.nodes()?;
        match end {
            End::Text => Err(open()),
            End::Closed => Ok((then, Vec::new())),
            End::Else(rest) if rest.is_empty() => match self.nodes()? {
                (otherwise, End::Closed) => Ok((then, otherwise)),
                _ => Err(open()),
            },
            // `else if` and `else with` open a branch that shares our `end`.
            End::Else(rest) => match rest.split_once(' ') {
                Some((word @ ("if" | "with"), condition)) => {
                    Ok((then, vec![self.branch(word, condition)?]))
                }
                _ => Err(TemplateError::Unsupported(format!("\"else {rest}\""))),
            },
        }
    }
}

/// `$name = value`.
fn assignment(action: &str) -> Option<(&str, &str)> {
    let (name, value) = action.strip_prefix('$')?.split_once('=')?;
    let name = name.trim_end();
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    plain.then_some((name, value))
}

fn variables(names: &str) -> Result<Vec<String>, TemplateError> {
    names
        .split(',')
        .map(|name| {
            let name = name.trim().strip_prefix('$');
            name.map(str::to_owned)
                .ok_or_else(|| syntax(format!("bad variables {names:?}")))
        })
        .collect()
}

fn pipeline(text: &str) -> Result<Pipeline, TemplateError> {
    let mut tokens = Tokens { rest: text };
    let pipeline = tokens.pipeline()?;
    match tokens.rest.trim() {
        "" => Ok(pipeline),
        rest => Err(syntax(format!("unexpected {rest:?}"))),
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl Tokens<'_> {
    fn pipeline(&mut self) -> Result<Pipeline, TemplateError> {
        let mut commands = vec![Vec::new()];
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next() {
                None | Some(')') => break,
                Some('|') => {
                    self.rest = &self.rest[1..];
                    commands.push(Vec::new());
                }
                Some(first) => {
                    let operand = self.operand(first)?;
                    if let Some(command) = commands.last_mut() {
                        command.push(operand);
                    }
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return Err(syntax("an empty command"));
        }
        Ok(Pipeline { commands })
    }

    fn word(&mut self) -> String {
        let end = self
            .rest
            .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn path(&mut self) -> Result<Vec<String>, TemplateError> {
        let mut path = Vec::new();
        while let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            match self.word() {
                word if word.is_empty() && path.is_empty() => break,
                word if word.is_empty() => return Err(syntax("a field without a name")),
                word => path.push(word),
            }
        }
        Ok(path)
    }

    fn operand(&mut self, first: char) -> Result<Operand, TemplateError> {
        match first {
            '.' => self.path().map(Operand::Field),
            '$' => {
                self.rest = &self.rest[1..];
                let name = self.word();
                Ok(Operand::Variable(name, self.path()?))
            }
            '(' => {
                self.rest = &self.rest[1..];
                let inner = self.pipeline()?;
                self.rest = self
                    .rest
                    .strip_prefix(')')
                    .ok_or_else(|| syntax("\"(\" is not closed"))?;
                Ok(Operand::Group(inner, self.path()?))
            }
            '"' | '`' => self.string(first),
            c if c.is_ascii_digit() || c == '-' => {
                let word = self.word();
                let number: i64 = word
                    .parse()
                    .map_err(|_| syntax(format!("bad number {word:?}")))?;
                Ok(Operand::Literal(number.into()))
            }
            c if c.is_alphabetic() => Ok(match self.word().as_str() {
                "true" => Operand::Literal(true.into()),
                "false" => Operand::Literal(false.into()),
                "nil" => Operand::Literal(Value::Null),
                name => Operand::Function(name.to_owned()),
            }),
            other => Err(syntax(format!("unexpected {other:?}"))),
        }
    }

    fn string(&mut self, quote: char) -> Result<Operand, TemplateError> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1);
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' if quote == '"' => match letters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                letter if letter == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Operand::Literal(text.into()));
                }
                letter => text.push(letter),
            }
        }
        Err(syntax("a string is not closed"))
    }
}
