//! The text form of a plan: for people (`hoist build --plan`), for tests, and, with what the inputs turned out to be, for the cache's keys.

use std::fmt::{self, Write as _};

use super::{BuildNetwork, CopyStep, Input, Operation, Plan, RunStep};
use crate::dockerfile::{MountKind, Sharing};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{number}: over {}", step.below)?;
            for line in step.operation.text(&|input| input.to_string()).lines() {
                writeln!(f, "   {line}")?;
            }
        }
        writeln!(f, "image: {}", self.files)
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Context(name) if name.is_empty() => f.write_str("the context"),
            Self::Context(name) => write!(f, "context {name:?}"),
            Self::Image(layers) => {
                let top = layers.last().map(ToString::to_string);
                write!(f, "{} layers to {}", layers.len(), top.unwrap_or_default())
            }
            Self::Step(step) => write!(f, "step {step}"),
            Self::Fetched(address) => write!(f, "{address}"),
        }
    }
}

impl Operation {
    /// What is done, a fact a line; `name` says what an input is.
    #[must_use]
    pub(crate) fn text(&self, name: &dyn Fn(&Input) -> String) -> String {
        let mut text = String::new();
        let written = match self {
            Self::Run(run) => run.write(&mut text, name),
            Self::Copy(copy) => copy.write(&mut text, name),
            Self::Directory { path, owner } => writeln!(text, "directory {path:?} of {owner:?}"),
        };
        written.expect("a text takes all that is written");
        text
    }
}

impl Operation {
    /// What is done, on one line, for people.
    pub(crate) fn headline(&self) -> String {
        match self {
            Self::Run(run) => format!("RUN {}", run.words.join(" ")),
            Self::Copy(copy) => format!("COPY {} {}", copy.sources.join(" "), copy.destination),
            Self::Directory { path, .. } => format!("WORKDIR {path}"),
        }
    }
}

impl RunStep {
    fn write(&self, text: &mut String, name: &dyn Fn(&Input) -> String) -> fmt::Result {
        writeln!(text, "run {:?}", self.words)?;
        if let Some(script) = &self.script {
            writeln!(text, "script {script:?}")?;
        }
        for variable in &self.environment {
            writeln!(text, "with {variable:?}")?;
        }
        writeln!(text, "in {:?}", self.working_directory)?;
        for volume in &self.volumes {
            writeln!(text, "volume {volume:?}")?;
        }
        if !self.user.is_empty() {
            writeln!(text, "as {:?}", self.user)?;
        }
        match &self.network {
            BuildNetwork::Default => {}
            BuildNetwork::None => writeln!(text, "network none")?,
            BuildNetwork::Host => writeln!(text, "network host")?,
            BuildNetwork::Named(name) => writeln!(text, "network {name:?}")?,
        }
        if self.insecure {
            writeln!(text, "insecure")?;
        }
        for step_mount in &self.mounts {
            let mount = &step_mount.mount;
            let target = mount.target.as_deref().unwrap_or_default();
            let input = name(&step_mount.input);
            match &mount.kind {
                MountKind::Bind => write!(text, "bind {target:?} of {input}")?,
                MountKind::Cache { sharing } => {
                    let sharing = match sharing {
                        Sharing::Shared => "shared",
                        Sharing::Private => "private",
                        Sharing::Locked => "locked",
                    };
                    write!(text, "cache {target:?} {sharing} from {input}")?;
                }
                MountKind::Tmpfs { size } => write!(text, "tmpfs {target:?} {size}")?,
                MountKind::Secret { variable, required } => {
                    write!(text, "secret {target:?} {variable:?} {required}")?;
                }
                MountKind::Ssh { required } => write!(text, "ssh {target:?} {required}")?,
            }
            let (source, id) = (&mount.source, &mount.id);
            let (mode, uid, gid) = (mount.mode, mount.uid, mount.gid);
            let read_only = mount.read_only;
            writeln!(
                text,
                " {source:?} {id:?} {mode:?} {uid:?} {gid:?} {read_only}"
            )?;
        }
        Ok(())
    }
}

impl CopyStep {
    /// All that decides what it brings, and what that is called.
    pub(crate) fn content_text(&self) -> String {
        let (sources, exclude, parents) = (&self.sources, &self.exclude, self.parents);
        let destination = &self.destination;
        let fetched = self.fetched.iter();
        let fetched: Vec<_> = fetched
            .map(|fetched| (&fetched.file, fetched.unpack))
            .collect();
        format!(
            "{sources:?} without {exclude:?} to {destination:?} {parents} {fetched:?} {}",
            self.unpack
        )
    }

    fn write(&self, text: &mut String, name: &dyn Fn(&Input) -> String) -> fmt::Result {
        writeln!(
            text,
            "copy to {:?} from {}",
            self.destination,
            name(&self.from)
        )?;
        for source in &self.sources {
            writeln!(text, "source {source:?}")?;
        }
        for fetched in &self.fetched {
            let (from, file) = (name(&fetched.input), &fetched.file);
            let unpack = if fetched.unpack { " unpack" } else { "" };
            writeln!(text, "fetched {from} {file:?}{unpack}")?;
        }
        for (name, document) in &self.documents {
            writeln!(text, "file {name:?} {document:?}")?;
        }
        if let Some(owner) = &self.owner {
            writeln!(text, "owner {owner:?}")?;
        }
        if let Some(mode) = &self.mode {
            writeln!(text, "mode {mode:?}")?;
        }
        for pattern in &self.exclude {
            writeln!(text, "without {pattern:?}")?;
        }
        for (is, word) in [
            (self.parents, "parents"),
            (self.link, "link"),
            (self.unpack, "unpack"),
        ] {
            if is {
                writeln!(text, "{word}")?;
            }
        }
        Ok(())
    }
}
