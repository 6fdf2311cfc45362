//! From a Dockerfile to a graph of steps: only what the target needs, each step a description of itself that has no names of stages, no
//! lines and no times in it, so that equal work has equal text wherever it is written.
//!
//! ```text
//!            base images ◀── asked for by name, as often as one that is found shows that more are needed (ONBUILD)
//!                 │
//! Dockerfile ─▶ plan ─▶ steps (what changes files) ─▶ solver
//!                 └───▶ config and history (what does not)
//! ```

mod address;
mod checks;
mod instruction;
mod reach;
mod run;
mod said;
mod scope;
mod stage;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use address::{Address, GitAddress, WebAddress};

use hoist_image::document::{ImageConfig, ImageRuntimeConfig};
use hoist_model::{Digest, ErrorClass, Platform};
use thiserror::Error;

use crate::check::{CheckError, Warning};
use crate::dockerfile::{Dockerfile, DockerfileError, Lines, Mount};
use crate::ignore::Ignore;

/// What a build is asked for, beside the file.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The stage to build, by name or number; the last one if none is said.
    pub target: Option<String>,
    /// `--build-arg`; one without a value leaves the file's default.
    pub arguments: BTreeMap<String, Option<String>>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// What the image is for.
    pub platform: Platform,
    /// `--network` of the whole build.
    pub network: BuildNetwork,
    /// What the context leaves out, for the check of what is copied from it.
    pub ignore: Ignore,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self {
            target: None,
            arguments: BTreeMap::new(),
            labels: BTreeMap::new(),
            platform: Platform::host(),
            network: BuildNetwork::Default,
            ignore: Ignore::default(),
        }
    }
}

/// Which network a step has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BuildNetwork {
    /// The default bridge.
    #[default]
    Default,
    /// Only the loopback.
    None,
    /// The host's.
    Host,
    /// One of the user's, or `container:name`.
    Named(String),
}

/// A base image that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    /// Its id, as people are shown it.
    pub id: String,
    /// Its config.
    pub config: ImageConfig,
    /// Its layers, bottom first.
    pub layers: Vec<Digest>,
}

impl Base {
    /// Files that are no image's, as one of this machine with nothing in its config.
    #[must_use]
    pub fn of_files(layers: Vec<Digest>) -> Self {
        let host = Platform::host();
        Self {
            id: layers.last().map_or_else(String::new, ToString::to_string),
            config: ImageConfig {
                architecture: host.architecture,
                os: host.os,
                ..ImageConfig::default()
            },
            layers,
        }
    }
}

/// An image that is needed: its name as written, and for which platform.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BaseName {
    /// The reference.
    pub reference: String,
    /// As `--platform` of its FROM says, else the target's.
    pub platform: String,
}

/// Bytes of all that a file says, with what its variables stand for, each time they are said.
const TEXT_LIMIT: usize = 256 << 20;

/// The images that were found so far.
pub type Bases = HashMap<BaseName, Arc<Base>>;

/// A step's number in its plan.
pub type StepId = usize;

/// Files that something begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// None: `scratch`.
    Nothing,
    /// What the client sent, or a context by name.
    Context(String),
    /// An image's.
    Image(Vec<Digest>),
    /// What a step leaves.
    Step(StepId),
    /// What is at an address.
    Fetched(Box<Address>),
}

/// Where programs are looked for in images that do not say, and what an image begun from `scratch` says, as in Docker.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The context that needs no name.
pub const MAIN_CONTEXT: &str = "";

/// Something that changes files.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The files it changes.
    pub below: Input,
    /// How.
    pub operation: Operation,
}

/// How a step changes files.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A program runs.
    Run(Box<RunStep>),
    /// Files come.
    Copy(Box<CopyStep>),
    /// A directory is made if it is missing.
    Directory {
        /// Absolute.
        path: String,
        /// Whose, as `USER` says it; empty for root.
        owner: String,
    },
}

/// A program that runs over the files.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStep {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// More of it that does not make another step of this one: proxies.
    pub proxies: Vec<String>,
    /// Absolute.
    pub working_directory: String,
    /// Of VOLUME: made if they are not there. What is written below them stays, as with BuildKit.
    pub volumes: Vec<String>,
    /// As `USER` says it; empty for root.
    pub user: String,
    /// Its network.
    pub network: BuildNetwork,
    /// With all privileges.
    pub insecure: bool,
    /// What it sees beside the files.
    pub mounts: Vec<StepMount>,
    /// A script that it is, where a here-document begins with `#!`: its text.
    pub script: Option<String>,
}

/// A mount, and the files it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct StepMount {
    /// As written, its target absolute.
    pub mount: Mount,
    /// Of a bind or cache mount: what it begins with.
    pub input: Input,
}

/// Files that come from somewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct CopyStep {
    /// From where.
    pub from: Input,
    /// Patterns of paths there.
    pub sources: Vec<String>,
    /// What else comes.
    pub fetched: Vec<FetchedSource>,
    /// Files whose text stands in the Dockerfile: name and text.
    pub documents: Vec<(String, String)>,
    /// Absolute; a directory if it ends with a slash.
    pub destination: String,
    /// `--chown`.
    pub owner: Option<String>,
    /// `--chmod`.
    pub mode: Option<String>,
    /// `--parents`.
    pub parents: bool,
    /// `--link`: what is below does not count.
    pub link: bool,
    /// `--exclude`.
    pub exclude: Vec<String>,
    /// ADD: archives are unpacked.
    pub unpack: bool,
}

/// Something that ADD fetches.
#[derive(Clone, Debug, PartialEq)]
pub struct FetchedSource {
    /// From where.
    pub input: Input,
    /// The file that it is; nothing where all of it is meant.
    pub file: Option<String>,
    /// Whether it is unpacked if it is an archive.
    pub unpack: bool,
}

/// An instruction as it is told of, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The stage's number in the file.
    pub stage: usize,
    /// Where it stands.
    pub lines: Lines,
    /// As written, variables unread.
    pub text: String,
    /// What it does to files, if anything.
    pub step: Option<StepId>,
    /// Of FROM: the image, where it is one.
    pub base: Option<String>,
}

/// One line of an image's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What is said of it.
    pub created_by: String,
    /// The step whose layer it is, if any.
    pub step: Option<StepId>,
}

/// A build that can begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What changes files; one only leans on those before it.
    pub steps: Vec<Step>,
    /// The instructions of the stages that are needed.
    pub told: Vec<Told>,
    /// The image's files.
    pub files: Input,
    /// The base image's config: the new one keeps its history.
    pub base: ImageConfig,
    /// What containers of the image begin with.
    pub config: ImageRuntimeConfig,
    /// `MAINTAINER`.
    pub author: Option<String>,
    /// What the base's history goes on with.
    pub history: Vec<Line>,
    /// Build arguments that no ARG asked for.
    pub unused_arguments: Vec<String>,
    /// What checks found that are not left out, in order of lines.
    pub warnings: Vec<Warning>,
    /// Whether the build fails because of them.
    pub warnings_are_errors: bool,
    /// The names of all stages of the file, those that are not needed too.
    pub stages: Vec<Option<String>>,
}

/// What planning came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    /// It can begin.
    Ready(Box<Plan>),
    /// These images have to be found first.
    Needs(Vec<BaseName>),
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The file is wrong.
    #[error(transparent)]
    Dockerfile(#[from] DockerfileError),
    /// The target is none of its stages.
    #[error("target stage {target:?} could not be found{}", .meant.as_ref().map_or_else(String::new, |meant| format!(" (did you mean {meant}?)")))]
    Target {
        /// As asked for.
        target: String,
        /// The nearest that there is.
        meant: Option<String>,
    },
    /// What the file says of checks means nothing.
    #[error("failed to parse check options: {0}")]
    Check(#[from] CheckError),
    /// Variables of variables make more of the file than can be meant.
    #[error("dockerfile line {}: with its variables the file is larger than {} MiB", .0.first, TEXT_LIMIT >> 20)]
    TooLarge(Lines),
    /// Something that is not there yet.
    #[error("dockerfile line {}: {what} is not implemented by Hoist yet", .lines.first)]
    Missing {
        /// Where.
        lines: Lines,
        /// What.
        what: &'static str,
    },
}

impl PlanError {
    /// The class of this failure.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        match self {
            Self::Dockerfile(_) | Self::Target { .. } | Self::Check(_) | Self::TooLarge(_) => {
                ErrorClass::InvalidArgument
            }
            Self::Missing { .. } => ErrorClass::NotImplemented,
        }
    }

    /// The lines of the file that are to blame, if some are.
    #[must_use]
    pub const fn lines(&self) -> Option<Lines> {
        match self {
            Self::Dockerfile(error) => Some(error.lines),
            Self::Target { .. } | Self::Check(_) => None,
            Self::Missing { lines, .. } | Self::TooLarge(lines) => Some(*lines),
        }
    }
}

/// Plans a build, or tells which images it has to know first. Pure.
///
/// # Errors
/// See [`PlanError`].
pub fn plan(file: &Dockerfile, options: &PlanOptions, bases: &Bases) -> Result<Planned, PlanError> {
    let mut planner = reach::Planner::new(file, options, bases)?;
    let result = planner.target();
    if !planner.needs.is_empty() {
        // What was planned without them means nothing, nor does what was wrong with it.
        planner.needs.sort();
        planner.needs.dedup();
        return Ok(Planned::Needs(planner.needs));
    }
    result.map(|plan| Planned::Ready(Box::new(plan)))
}
