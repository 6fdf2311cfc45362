//! The Dockerfile language: from text to stages of typed instructions.
//!
//! ```text
//! text ─ source ─→ statements ─ arguments ─→ name, flags, rest ─ parse ─→ instructions ─→ stages
//! ```
//!
//! What a variable stands for is only known when the builder walks through a stage: [`words`] is what it reads them with.
//! Ours, because no library reads here-documents, the escape directive, Docker's word rules and `--mount` as files in the wild
//! need them.

mod arguments;
mod error;
mod instruction;
mod mount;
mod parse;
mod pattern;
mod source;
#[cfg(test)]
mod tests;
mod words;

pub(crate) use error::nearest;
pub use error::{DockerfileError, Lines, excerpt};
pub use instruction::{
    Action, Argument, Command, Copied, Fetch, Health, Instruction, Pair, Run, RunNetwork, Stage,
};
pub use mount::{Mount, MountError, MountKind, MountText, Sharing};
pub use source::{Directives, HereDocument};
pub use words::WordError;
pub(crate) use words::{Expanded, Reading, expand};

/// A Dockerfile that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    /// The directives at its top.
    pub directives: Directives,
    /// ARG before the first FROM.
    pub arguments: Vec<(Lines, Argument)>,
    /// In order; at least one.
    pub stages: Vec<Stage>,
    /// Instructions with an empty line inside, which Docker warns of.
    pub with_empty_lines: Vec<Lines>,
    /// Stages and arguments with a comment right above that describes something else.
    pub undescribed: Vec<Undescribed>,
}

/// A definition with a comment right above that does not begin with its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undescribed {
    /// The instruction.
    pub lines: Lines,
    /// `FROM` or `ARG`.
    pub instruction: &'static str,
    /// What the comment should begin with.
    pub name: String,
}

impl Undescribed {
    fn of(
        comments: &[String],
        instruction: &'static str,
        names: &[&str],
        lines: Lines,
    ) -> Option<Self> {
        let word = comments.last()?.split(' ').next()?;
        let name = match names {
            [] => return None,
            [one] => (*one).to_owned(),
            _ => "<arg_key>".to_owned(),
        };
        (!names.contains(&word)).then_some(Self {
            lines,
            instruction,
            name,
        })
    }
}

/// Reads an instruction that an image brought along in its `OnBuild`.
///
/// # Errors
/// What is wrong with it; its lines are those of the text.
pub(crate) fn parse_trigger(text: &str) -> Result<Vec<Instruction>, DockerfileError> {
    let source = source::split(text)?;
    source
        .statements
        .iter()
        .map(
            |statement| match parse::parse(statement, source.directives.escape)? {
                parse::Parsed::Instruction(instruction) => Ok(*instruction),
                parse::Parsed::From(_) => Err(DockerfileError::new(
                    statement.lines,
                    "FROM isn't allowed as an ONBUILD trigger",
                )),
            },
        )
        .collect()
}

impl Dockerfile {
    /// Reads a file.
    ///
    /// # Errors
    /// The first thing that is wrong, with its lines and Docker's words.
    pub fn parse(text: &str) -> Result<Self, DockerfileError> {
        let source = source::split(text)?;
        let mut file = Self {
            directives: source.directives,
            arguments: Vec::new(),
            stages: Vec::new(),
            with_empty_lines: source.with_empty_lines,
            undescribed: Vec::new(),
        };
        for statement in &source.statements {
            let parsed = parse::parse(statement, file.directives.escape)?;
            let (comments, lines) = (&statement.comments, statement.lines);
            file.undescribed.extend(match &parsed {
                parse::Parsed::From(stage) => {
                    let names: Vec<&str> = stage.name.as_deref().into_iter().collect();
                    Undescribed::of(comments, "FROM", &names, lines)
                }
                parse::Parsed::Instruction(instruction) => match &instruction.action {
                    Action::Arg(arguments) => {
                        let names: Vec<&str> = arguments.iter().map(|a| a.name.as_str()).collect();
                        Undescribed::of(comments, "ARG", &names, lines)
                    }
                    _ => None,
                },
            });
            match parsed {
                parse::Parsed::From(stage) => file.stages.push(*stage),
                parse::Parsed::Instruction(instruction) => match file.stages.last_mut() {
                    Some(stage) => stage.instructions.push(*instruction),
                    None => match instruction.action {
                        Action::Arg(arguments) => file
                            .arguments
                            .extend(arguments.into_iter().map(|a| (statement.lines, a))),
                        _ => {
                            return Err(DockerfileError::new(
                                statement.lines,
                                "no build stage in current context",
                            ));
                        }
                    },
                },
            }
        }
        if file.stages.is_empty() {
            return Err(DockerfileError::new(
                Lines::one(text.lines().count().max(1)),
                "dockerfile contains no stages to build",
            ));
        }
        Ok(file)
    }

    /// The stage of this name (whatever its case) or, if there is none, of this number; of several of one name the last.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<usize> {
        self.stages
            .iter()
            .rposition(|stage| {
                stage
                    .name
                    .as_deref()
                    .is_some_and(|own| own.eq_ignore_ascii_case(name))
            })
            .or_else(|| name.parse().ok().filter(|&at| at < self.stages.len()))
    }
}
