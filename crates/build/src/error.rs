//! Why there is no image.

use std::sync::Arc;

use hoist_image::{ContentError, LayerError, MAX_LAYERS, SnapshotError};
use hoist_model::{ErrorClass, chain};
use thiserror::Error;

use crate::check::Warning;
use crate::copy::CopyError;
use crate::dockerfile::Lines;
use crate::plan::{PlanError, StepId};
use crate::ports::PortError;
use crate::run::RunError;

/// Why there is no image.
#[derive(Debug, Error)]
pub enum BuildError {
    /// The Dockerfile is wrong.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Checks found something, and the file says that this is an error.
    #[error("{}", violations(.0))]
    Checks(Vec<Warning>),
    /// A base image could not be had.
    #[error(transparent)]
    Base(PortError),
    /// A step failed; where it stands in the Dockerfile.
    #[error("{}", chain(.error.as_ref()))]
    Step {
        /// Its number in the plan; none where the image's files could not be had at all.
        step: Option<StepId>,
        /// The instruction.
        lines: Option<Lines>,
        /// Why.
        error: Arc<StepError>,
    },
    /// `SOURCE_DATE_EPOCH` is no time.
    #[error("invalid SOURCE_DATE_EPOCH {0:?}: expected seconds since 1970")]
    Epoch(String),
    /// More layers than an image can have.
    #[error(
        "the image would have {0} layers, more than {MAX_LAYERS}: join some RUN or COPY instructions"
    )]
    TooManyLayers(usize),
    /// A layer could not be looked at.
    #[error("reading a layer")]
    Layer(#[from] LayerError),
    /// The config could not be stored.
    #[error("storing the image's config")]
    Content(#[from] ContentError),
    /// The config could not be written.
    #[error("writing the image's config")]
    Config(#[from] serde_json::Error),
}

impl BuildError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Plan(error) => error.class(),
            Self::Base(error) => error.class,
            Self::Step { error, .. } => error.class(),
            Self::TooManyLayers(_) | Self::Checks(_) | Self::Epoch(_) => {
                ErrorClass::InvalidArgument
            }
            Self::Layer(error) => error.class(),
            Self::Content(error) => error.class(),
            Self::Config(_) => ErrorClass::Internal,
        }
    }

    /// Whether there was no room on the disk.
    pub(crate) fn is_full(&self) -> bool {
        // Ports tell their failures as texts.
        if let Self::Step { error, .. } = self
            && let StepError::Port(error) = error.as_ref()
        {
            return error.message.contains("No space left on device");
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = match self {
            Self::Step { error, .. } => Some(error.as_ref()),
            other => Some(other),
        };
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|io| io.kind() == std::io::ErrorKind::StorageFull) {
                return true;
            }
            cause = error.source();
        }
        false
    }

    /// The lines of the Dockerfile that are to blame, if some are.
    #[must_use]
    pub fn lines(&self) -> Option<Lines> {
        match self {
            Self::Plan(error) => error.lines(),
            Self::Step { lines, .. } => *lines,
            Self::Checks(warnings) => warnings.first().map(|warning| warning.lines),
            _ => None,
        }
    }

    /// The code of a program that failed, for who passes it on.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Step { error, .. } => match error.as_ref() {
                StepError::Exit { code, .. } => Some(*code),
                _ => None,
            },
            _ => None,
        }
    }
}

fn violations(warnings: &[Warning]) -> String {
    let mut rules: Vec<&str> = warnings.iter().map(|warning| warning.rule.name()).collect();
    rules.sort_unstable();
    rules.dedup();
    let mut text = format!("lint violation found for rules: {}", rules.join(", "));
    for warning in warnings {
        text.push_str("\n - ");
        text.push_str(&warning.headline());
    }
    text
}

/// Why a step could not be done.
#[derive(Debug, Error)]
pub enum StepError {
    /// A program ended with another code than 0.
    #[error("The command '{}' returned a non-zero code: {code}{}", .words.join(" "), if *.out_of_memory { " (killed: out of memory)" } else { "" })]
    Exit {
        /// The program and its arguments.
        words: Vec<String>,
        /// The code.
        code: i32,
        /// Whether it was killed for want of memory.
        out_of_memory: bool,
    },
    /// A program could not be run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Whoever runs programs could not.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Files could not be copied.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// A context that nobody sent.
    #[error("there is no build context{}", if .0.is_empty() { String::new() } else { format!(" {:?}", .0) })]
    NoContext(String),
    /// Layers could not be looked at.
    #[error("looking at layers")]
    Snapshot(#[from] SnapshotError),
    /// A layer could not be stored.
    #[error("storing a layer")]
    Layer(#[from] LayerError),
    /// A layer could not be given other times.
    #[error("setting the times of a layer")]
    Times(#[from] hoist_image::CopyError),
    /// A worker fell.
    #[error("build worker: {0}")]
    Worker(String),
}

impl StepError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Exit { .. } | Self::NoContext(_) => ErrorClass::InvalidArgument,
            Self::Run(error) => error.class(),
            Self::Port(error) => error.class,
            Self::Copy(error) => error.class(),
            Self::Snapshot(error) => error.class(),
            Self::Layer(error) => error.class(),
            Self::Times(error) => error.class(),
            Self::Worker(_) => ErrorClass::Internal,
        }
    }
}

/// A failed step. Those that waited for it fail with it.
#[derive(Clone, Debug)]
pub struct FailedStep {
    /// Which.
    pub step: StepId,
    /// Why.
    pub error: Arc<StepError>,
}
