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
    Action, Argument, Command, Copied, Health, Instruction, Pair, Run, RunNetwork, Stage,
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
        };
        for statement in &source.statements {
            match parse::parse(statement, file.directives.escape)? {
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
