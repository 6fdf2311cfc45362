//! The transcript format: parsed and written back without loss.

use std::fmt;

/// One transcript file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// More flags for the daemon, from `%daemon-flags` lines.
    pub(crate) daemon_flags: Vec<String>,
    /// Whether the daemon takes a local registry for Docker Hub, from a `%hub` line.
    pub(crate) hub: bool,
    /// The file, top to bottom.
    pub(crate) steps: Vec<Step>,
}

/// One part of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A comment, an empty line, `%hub` or `%daemon-flags`: kept for writing back.
    Prose(String),
    /// `$ command`, then what it prints; the last line is `[n]` where it ends with status n, not 0.
    Command {
        /// Line number in the file.
        line: usize,
        /// The shell command; may have several lines.
        text: String,
        /// The normalised output.
        expected: Vec<String>,
    },
    /// `%only client: reason`: the next step is for this client alone.
    Only {
        /// Which.
        client: Client,
        /// The line, for writing back.
        text: String,
    },
    /// `%word …`: something the harness does.
    Directive {
        /// Line number in the file.
        line: usize,
        /// The words after the percent sign.
        words: Vec<String>,
    },
    /// `$tty command`, then a dialogue.
    Terminal {
        /// Line number in the file.
        line: usize,
        /// The shell command, run under a terminal of 24 rows and 80 columns.
        command: String,
        /// What the person at the terminal does and sees.
        dialogue: Vec<Turn>,
    },
}

/// Which client a transcript is played with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// The docker command that people have.
    Stock,
    /// Ours, under that name.
    Own,
}

/// One turn at a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// `expect: text`: wait until it is shown.
    Expect(String),
    /// `send: text`: type it and press enter.
    Send(String),
    /// `key: ctrl-p ctrl-q`: press these.
    Key(String),
    /// `resize: rows columns`.
    Resize(u16, u16),
    /// `[n]`: the program ends with status n.
    Ends(i32),
}

impl Transcript {
    /// Parses a transcript.
    ///
    /// # Errors
    /// The line that is not in the format.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut transcript = Self {
            daemon_flags: Vec::new(),
            hub: false,
            steps: Vec::new(),
        };
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .peekable();
        while let Some((line, content)) = lines.next() {
            if let Some(command) = content.strip_prefix("$tty ") {
                let mut dialogue = Vec::new();
                while let Some((at, turn)) = lines.next_if(|(_, next)| !starts_step(next)) {
                    dialogue.push(turn_of(turn).ok_or(format!("line {at}: no turn: {turn}"))?);
                }
                let command = command.to_owned();
                transcript.steps.push(Step::Terminal {
                    line,
                    command,
                    dialogue,
                });
            } else if let Some(command) = content.strip_prefix("$ ") {
                let mut text = command.to_owned();
                while let Some((_, more)) = lines.next_if(|(_, next)| next.starts_with("> ")) {
                    text += "\n";
                    text += &more[2..];
                }
                let mut expected = Vec::new();
                while let Some((_, output)) = lines.next_if(|(_, next)| !starts_step(next)) {
                    expected.push(unescape(output));
                }
                transcript.steps.push(Step::Command {
                    line,
                    text,
                    expected,
                });
            } else if let Some(directive) = content.strip_prefix('%') {
                let words: Vec<String> = directive.split(' ').map(str::to_owned).collect();
                if words[0] == "hub" {
                    transcript.hub = true;
                    transcript.steps.push(Step::Prose(content.to_owned()));
                } else if words[0] == "daemon-flags" {
                    transcript.daemon_flags.extend_from_slice(&words[1..]);
                    transcript.steps.push(Step::Prose(content.to_owned()));
                } else if words[0] == "only" {
                    let client = match words.get(1).map(String::as_str) {
                        Some("stock:") => Client::Stock,
                        Some("hoist:") => Client::Own,
                        _ => return Err(format!("line {line}: only stock: or hoist:, and why")),
                    };
                    let text = content.to_owned();
                    transcript.steps.push(Step::Only { client, text });
                } else {
                    transcript.steps.push(Step::Directive { line, words });
                }
            } else if content.is_empty() || content.starts_with('#') {
                transcript.steps.push(Step::Prose(content.to_owned()));
            } else {
                return Err(format!("line {line}: output without a command: {content}"));
            }
        }
        Ok(transcript)
    }
}

/// Whether a line begins a step; output lines that look so are escaped with a backslash.
fn starts_step(line: &str) -> bool {
    line.is_empty()
        || line.starts_with('#')
        || line.starts_with('%')
        || line.starts_with("$ ")
        || line.starts_with("$tty ")
}

fn unescape(line: &str) -> String {
    line.strip_prefix('\\').unwrap_or(line).to_owned()
}

fn escape(line: &str) -> String {
    let special = starts_step(line) || line.starts_with("> ") || line.starts_with('\\');
    format!("{}{line}", if special { "\\" } else { "" })
}

fn turn_of(line: &str) -> Option<Turn> {
    if let Some(status) = line.strip_prefix('[') {
        return Some(Turn::Ends(status.strip_suffix(']')?.parse().ok()?));
    }
    let (verb, rest) = line.split_once(": ")?;
    let rest = rest.to_owned();
    Some(match verb {
        "expect" => Turn::Expect(rest),
        "send" => Turn::Send(rest),
        "key" => Turn::Key(rest),
        "resize" => {
            let (rows, columns) = rest.split_once(' ')?;
            Turn::Resize(rows.parse().ok()?, columns.parse().ok()?)
        }
        _ => return None,
    })
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Prose(text) | Step::Only { text, .. } => writeln!(f, "{text}")?,
                Step::Directive { words, .. } => writeln!(f, "%{}", words.join(" "))?,
                Step::Command { text, expected, .. } => {
                    writeln!(f, "$ {}", text.replace('\n', "\n> "))?;
                    for line in expected {
                        writeln!(f, "{}", escape(line))?;
                    }
                }
                Step::Terminal {
                    command, dialogue, ..
                } => {
                    writeln!(f, "$tty {command}")?;
                    for turn in dialogue {
                        writeln!(f, "{turn}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expect(text) => write!(f, "expect: {text}"),
            Self::Send(text) => write!(f, "send: {text}"),
            Self::Key(text) => write!(f, "key: {text}"),
            Self::Resize(rows, columns) => write!(f, "resize: {rows} {columns}"),
            Self::Ends(status) => write!(f, "[{status}]"),
        }
    }
}
