//! RUN.

use super::reach::Planner;
use super::scope::{proxies, unreadable};
use super::stage::StageState;
use super::{BuildNetwork, Input, Line, Operation, PlanError, RunStep, Step, StepMount};
use crate::dockerfile::{
    Command, DockerfileError, HereDocument, Lines, MountError, MountKind, Reading, Run, RunNetwork,
};

impl StageState {
    pub(super) fn run(
        &mut self,
        planner: &mut Planner<'_>,
        run: &Run,
        lines: Lines,
    ) -> Result<(), PlanError> {
        if run.insecure {
            // Nobody but who builds may allow it, and the classic endpoint has no word for that (BuildKit's entitlements).
            let message = "security.insecure is not allowed";
            return Err(DockerfileError::new(lines, message).into());
        }
        let mut mounts = Vec::with_capacity(run.mounts.len());
        for text in &run.mounts {
            mounts.push(self.mount(planner, text, lines)?);
        }
        let (words, script) = self.command(run);
        let network = match run.network {
            RunNetwork::Default => planner.options.network.clone(),
            RunNetwork::None => BuildNetwork::None,
            RunNetwork::Host => BuildNetwork::Host,
        };
        let environment = self.scope.of_a_run();
        let bytes = environment.iter().map(String::len).sum();
        planner.spend(bytes, lines)?;
        let arguments = &self.shown_arguments;
        let mut said = vec!["RUN".to_owned()];
        if !arguments.is_empty() {
            // As Docker writes it: how many, and each.
            said.push(format!("|{}", arguments.len()));
            said.extend(arguments.iter().cloned());
        }
        said.extend(words.iter().cloned());
        let step = planner.step(Step {
            below: self.files.clone(),
            operation: Operation::Run(Box::new(RunStep {
                words,
                environment,
                proxies: proxies(planner.options),
                working_directory: match self.config.working_dir.as_str() {
                    "" => "/".to_owned(),
                    path => path.to_owned(),
                },
                volumes: self.volumes(),
                user: self.config.user.clone(),
                network,
                insecure: run.insecure,
                mounts,
                script,
            })),
        });
        self.files = Input::Step(step);
        self.history.push(Line {
            created_by: said.join(" "),
            step: Some(step),
        });
        Ok(())
    }

    /// What runs, with its here-documents: one alone is the shell's script, or a program if it begins with `#!`; behind a command they are
    /// the shell's to read.
    fn command(&self, run: &Run) -> (Vec<String>, Option<String>) {
        let Command::Shell(line) = &run.command else {
            return (self.words_of(&run.command), None);
        };
        let mut words = self.shell();
        if let [document] = run.documents.as_slice()
            && is_alone(line, document)
        {
            let text = document.content();
            if text.starts_with("#!") {
                return (Vec::new(), Some(text));
            }
            words.push(text);
            return (words, None);
        }
        let mut text = line.clone();
        for HereDocument {
            name,
            text: document,
            ..
        } in &run.documents
        {
            text.push('\n');
            text.push_str(document);
            text.push_str(name);
        }
        words.push(text);
        (words, None)
    }

    /// Where VOLUME says that something will be mounted: the classic builder mounts something there, and files are written that count on it.
    fn volumes(&self) -> Vec<String> {
        let paths = self.config.volumes.keys();
        paths
            .map(|path| hoist_model::path::clean(&format!("/{path}")))
            .collect()
    }

    fn mount(
        &mut self,
        planner: &mut Planner<'_>,
        text: &crate::dockerfile::MountText,
        lines: Lines,
    ) -> Result<StepMount, PlanError> {
        let escape = planner.file.directives.escape;
        let scope = &self.scope;
        let resolved = text.resolve(&mut |value| {
            scope
                .expand(value, Reading::plain(escape))
                .map(|expanded| expanded.text)
        });
        let mut mount = resolved.map_err(|error| match error {
            MountError::Word(error) => unreadable("--mount", &error, lines),
            error => DockerfileError::new(lines, error.to_string()),
        })?;
        let refused = |message: String| PlanError::from(DockerfileError::new(lines, message));
        mount.target = match (&mount.kind, &mount.target, &mount.id, &mount.source) {
            (_, Some(target), ..) => Some(self.absolute(target).trim_end_matches('/').to_owned()),
            (MountKind::Secret { variable, .. }, None, id, source) => {
                let name = id.as_ref().or(source.as_ref());
                let name = name.map(|name| name.rsplit('/').next().unwrap_or(name));
                // A secret that is a variable needs no file.
                name.filter(|_| variable.is_none())
                    .map(|name| format!("/run/secrets/{name}"))
            }
            (MountKind::Ssh { .. }, None, ..) => None,
            (_, None, ..) => return Err(refused("mount target must be set".to_owned())),
        };
        if mount.target.as_deref() == Some("") {
            return Err(refused("invalid mount target \"/\"".to_owned()));
        }
        let is_cache = matches!(mount.kind, MountKind::Cache { .. });
        if mount.source.is_some() && mount.from.is_none() && is_cache {
            // A path in what programs wrote: it must not lead out by their links.
            let what = "a part of a cache mount";
            return Err(PlanError::Missing { lines, what });
        }
        let input = match mount.kind {
            MountKind::Bind => planner.from(mount.from.as_deref(), self.number, lines)?,
            MountKind::Cache { .. } if mount.from.is_some() => {
                planner.from(mount.from.as_deref(), self.number, lines)?
            }
            _ => Input::Nothing,
        };
        // Its name was for finding the input: the same input under another name is the same step.
        mount.from = None;
        Ok(StepMount { mount, input })
    }
}

/// Whether a line is nothing but the mark of a here-document.
fn is_alone(line: &str, document: &HereDocument) -> bool {
    let rest = line.trim().trim_start_matches(|c: char| c.is_ascii_digit());
    rest.strip_prefix("<<").is_some_and(|rest| {
        let word = rest.trim_start_matches('-').trim();
        word.trim_matches(['"', '\'']) == document.name
    })
}
