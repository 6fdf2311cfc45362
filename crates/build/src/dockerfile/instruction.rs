//! The instructions of a Dockerfile, typed, before any variable stands for its value.
//!
//! The source of each is the Dockerfile reference of docker/dockerfile 1.1x.

use super::error::Lines;
use super::mount::MountText;
use super::source::HereDocument;

/// `name=value` as written; the value's quotes and variables are read when its turn comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Before the sign.
    pub name: String,
    /// Behind it.
    pub value: String,
    /// Whether there is no sign: `name value`.
    pub is_legacy: bool,
}

/// `name` or `name=default` of ARG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The build argument.
    pub name: String,
    /// What it is if the builder gives none.
    pub default: Option<String>,
    /// What the comment above says of it.
    pub description: Option<String>,
}

/// A command of RUN, CMD or ENTRYPOINT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `["program", "argument"]`, started as it is.
    Exec(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

/// What COPY and ADD take, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Paths, patterns, and ADD's addresses.
    pub sources: Vec<String>,
    /// Files whose text stands in the Dockerfile.
    pub documents: Vec<HereDocument>,
    /// A directory if it ends with a slash.
    pub destination: String,
    /// `--chown=user:group`.
    pub owner: Option<String>,
    /// `--chmod=755`, or symbolic.
    pub mode: Option<String>,
    /// `--link`: a layer of its own that does not depend on what is below it.
    pub link: bool,
    /// `--exclude`, as often as given.
    pub exclude: Vec<String>,
}

/// What ADD says of what it fetches and unpacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// `--checksum=sha256:…` of an address.
    pub checksum: Option<String>,
    /// `--keep-git-dir`.
    pub keep_git_directory: Option<bool>,
    /// `--unpack`: whether archives are; without it local ones are and fetched ones are not.
    pub unpack: Option<bool>,
}

/// `RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What runs.
    pub command: Command,
    /// Its here-documents.
    pub documents: Vec<HereDocument>,
    /// `--mount`, as often as given.
    pub mounts: Vec<MountText>,
    /// `--network`.
    pub network: RunNetwork,
    /// `--security=insecure`.
    pub insecure: bool,
}

/// `RUN --network`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunNetwork {
    /// The build's.
    #[default]
    Default,
    /// Only the loopback.
    None,
    /// The host's.
    Host,
}

/// `HEALTHCHECK`. Times are in nanoseconds, 0 where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The base image's check goes.
    None,
    /// A probe.
    Probe {
        /// What runs.
        command: Command,
        /// Between probes.
        interval: i64,
        /// Of one probe.
        timeout: i64,
        /// During which failures do not count.
        start_period: i64,
        /// Between probes in that time.
        start_interval: i64,
        /// Failures until unhealthy.
        retries: i64,
    },
}

/// What an instruction does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// `ADD`
    Add {
        /// What and where.
        copied: Copied,
        /// How.
        fetch: Fetch,
    },
    /// `ARG`
    Arg(Vec<Argument>),
    /// `CMD`
    Cmd(Command),
    /// `COPY`
    Copy {
        /// What and where.
        copied: Copied,
        /// `--from`: a stage, a context or an image.
        from: Option<String>,
        /// `--parents`: directories above are made too.
        parents: bool,
    },
    /// `ENTRYPOINT`
    Entrypoint(Command),
    /// `ENV`
    Env(Vec<Pair>),
    /// `EXPOSE`
    Expose(Vec<String>),
    /// `HEALTHCHECK`
    Healthcheck(Health),
    /// `LABEL`
    Label(Vec<Pair>),
    /// `MAINTAINER`
    Maintainer(String),
    /// `ONBUILD`: the instruction as written, here-documents included.
    Onbuild(String),
    /// `RUN`
    Run(Run),
    /// `SHELL`
    Shell(Vec<String>),
    /// `STOPSIGNAL`
    Stopsignal(String),
    /// `USER`
    User(String),
    /// `VOLUME`
    Volume(Vec<String>),
    /// `WORKDIR`
    Workdir(String),
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Where it stands.
    pub lines: Lines,
    /// As it was written, continued lines joined, without its here-documents.
    pub text: String,
    /// The name as it was written, for the check of its case.
    pub name: String,
    /// What it does.
    pub action: Action,
}

/// `FROM` and what follows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Where `FROM` stands.
    pub lines: Lines,
    /// `FROM` as it was written.
    pub text: String,
    /// The image or stage that it begins with, variables unread.
    pub base: String,
    /// `AS name`, in lower case.
    pub name: Option<String>,
    /// `--platform`, variables unread.
    pub platform: Option<String>,
    /// What the comment above says of it.
    pub description: Option<String>,
    /// The rest, in order.
    pub instructions: Vec<Instruction>,
}
