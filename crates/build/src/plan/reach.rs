//! Which stages are needed, and what each begins with.

use std::cell::{Cell, RefCell};

use hoist_image::document::ImageConfig;
use hoist_model::Platform;

use super::scope::{Scope, argument, is_proxy, of_platforms};
use super::stage::StageState;
use super::{
    BaseName, Bases, Input, Line, MAIN_CONTEXT, Plan, PlanError, PlanOptions, Step, StepId,
    TEXT_LIMIT, Told,
};
use crate::check::{CheckSettings, Warning, check_file};
use crate::dockerfile::{Dockerfile, DockerfileError, Lines, nearest};

/// A plan that is being made.
pub(super) struct Planner<'a> {
    pub(super) file: &'a Dockerfile,
    pub(super) options: &'a PlanOptions,
    bases: &'a Bases,
    /// ARG before the first FROM, and those of platforms.
    pub(super) global: Scope,
    pub(super) steps: Vec<Step>,
    told: Vec<(usize, Vec<Told>)>,
    stages: Vec<Option<StageState>>,
    /// Images that were asked for and are not known.
    pub(super) needs: Vec<BaseName>,
    /// Names of ARG that there are, anywhere in the file.
    pub(super) asked: Vec<String>,
    /// Bytes that what is still to come may have.
    left: Cell<usize>,
    /// What checks found.
    pub(super) warnings: RefCell<Vec<Warning>>,
}

/// What FROM names.
pub(super) struct Beginning {
    pub(super) files: Input,
    pub(super) config: ImageConfig,
    /// Of a stage: its ARG with their values, which those that begin with it have too (BuildKit; the classic builder forgets them).
    pub(super) arguments: Vec<(String, String)>,
    /// Of a stage: what its image's history would go on with.
    pub(super) history: Vec<Line>,
    /// The image's id, if it is one.
    pub(super) id: Option<String>,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        file: &'a Dockerfile,
        options: &'a PlanOptions,
        bases: &'a Bases,
    ) -> Result<Self, PlanError> {
        let mut global = Scope {
            environment: Vec::new(),
            arguments: of_platforms(&Platform::host(), &options.platform),
        };
        let mut asked = Vec::new();
        for (lines, one) in &file.arguments {
            asked.push(one.name.clone());
            let escape = file.directives.escape;
            if let Some(value) = argument(one, &global, options, escape, *lines)? {
                global.set_argument(&one.name, value);
            }
        }
        Ok(Self {
            file,
            options,
            bases,
            global,
            steps: Vec::new(),
            told: Vec::new(),
            stages: vec![None; file.stages.len()],
            needs: Vec::new(),
            asked,
            left: Cell::new(TEXT_LIMIT),
            warnings: RefCell::new(check_file(file)),
        })
    }

    /// Counts what has been said.
    pub(super) fn spend(&self, bytes: usize, lines: Lines) -> Result<(), PlanError> {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.ok_or(PlanError::TooLarge(lines))?);
        Ok(())
    }

    /// Plans the target and all it needs.
    pub(super) fn target(&mut self) -> Result<Plan, PlanError> {
        let given = self.options.arguments.get("BUILDKIT_DOCKERFILE_CHECK");
        let given = given.and_then(Option::as_deref);
        let checks = given.or(self.file.directives.check.as_deref());
        let checks = CheckSettings::parse(checks.unwrap_or_default())?;
        self.check_stages();
        let target = match &self.options.target {
            None => self.file.stages.len() - 1,
            Some(name) => self.file.stage(name).ok_or_else(|| PlanError::Target {
                target: name.clone(),
                meant: nearest(
                    name,
                    self.file.stages.iter().filter_map(|s| s.name.as_deref()),
                )
                .map(str::to_owned),
            })?,
        };
        let state = self.stage(target)?.clone();
        let mut told = std::mem::take(&mut self.told);
        told.sort_by_key(|(stage, _)| *stage);
        // ARG of stages that are not built counts as asking: the file knows the name.
        let in_file = self
            .file
            .stages
            .iter()
            .flat_map(|stage| &stage.instructions);
        let in_file = in_file.filter_map(|instruction| match &instruction.action {
            crate::dockerfile::Action::Arg(arguments) => Some(arguments),
            _ => None,
        });
        let asked: Vec<&str> = in_file
            .flatten()
            .map(|argument| argument.name.as_str())
            .chain(self.asked.iter().map(String::as_str))
            .collect();
        let unused = self.options.arguments.keys();
        let unused = unused.filter(|name| {
            let is_setting = is_proxy(name) || name.starts_with("BUILDKIT_");
            !asked.contains(&name.as_str()) && !is_setting
        });
        let mut config = state.config;
        config.env = state.scope.environment;
        let labels = self.options.labels.clone();
        config.labels.extend(labels);
        Ok(Plan {
            steps: std::mem::take(&mut self.steps),
            told: told.into_iter().flat_map(|(_, told)| told).collect(),
            files: state.files,
            base: state.base,
            config,
            author: state.author,
            history: state.history,
            unused_arguments: unused.cloned().collect(),
            warnings: checks.filter(std::mem::take(&mut self.warnings.borrow_mut())),
            warnings_are_errors: checks.error,
            stages: self.file.stages.iter().map(|s| s.name.clone()).collect(),
        })
    }

    /// A stage, planned now if it was not yet.
    pub(super) fn stage(&mut self, number: usize) -> Result<&StageState, PlanError> {
        if self.stages[number].is_none() {
            let mut told = Vec::new();
            let state = StageState::plan(self, number, &mut told)?;
            self.told.push((number, told));
            self.stages[number] = Some(state);
        }
        Ok(self.stages[number].as_ref().expect("planned just now"))
    }

    /// What a stage begins with.
    pub(super) fn beginning(&mut self, number: usize) -> Result<Beginning, PlanError> {
        let stage = &self.file.stages[number];
        let escape = self.file.directives.escape;
        let base = self.global.expanded(&stage.base, escape, stage.lines)?;
        let base = base.text;
        if base.is_empty() {
            let written = &stage.base;
            return Err(DockerfileError::new(
                stage.lines,
                format!("base name ({written}) should not be blank"),
            )
            .into());
        }
        let platform = match &stage.platform {
            None => self.options.platform.to_string(),
            Some(text) => {
                let expanded = self.global.expanded(text, escape, stage.lines)?;
                let text = expanded.text;
                let parsed = text.parse::<Platform>();
                parsed
                    .map_err(|error| {
                        let message = format!("failed to parse platform {text}: {error}");
                        DockerfileError::new(stage.lines, message)
                    })?
                    .to_string()
            }
        };
        if let Some(earlier) = self.earlier(&base, number) {
            let state = self.stage(earlier)?;
            let mut config = state.base.clone();
            config.config = state.config.clone();
            config.config.env.clone_from(&state.scope.environment);
            config.author.clone_from(&state.author);
            return Ok(Beginning {
                files: state.files.clone(),
                config,
                arguments: state.scope.arguments.clone(),
                history: state.history.clone(),
                id: None,
            });
        }
        if base == "scratch" {
            let mut config = ImageConfig {
                os: self.options.platform.os.clone(),
                architecture: self.options.platform.architecture.clone(),
                variant: self.options.platform.variant.clone(),
                ..ImageConfig::default()
            };
            config.rootfs.kind = "layers".to_owned();
            config.config.working_dir = "/".to_owned();
            return Ok(Beginning {
                files: Input::Nothing,
                config,
                arguments: Vec::new(),
                history: Vec::new(),
                id: None,
            });
        }
        let beginning = self.image(base.clone(), platform.clone());
        self.check_base(&base, &platform, &beginning, stage.lines);
        Ok(beginning)
    }

    /// What `--from` or `from=` names: an earlier stage, the build's context if nothing, else an image.
    pub(super) fn from(
        &mut self,
        name: Option<&str>,
        stage: usize,
        lines: Lines,
    ) -> Result<Input, PlanError> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(Input::Context(MAIN_CONTEXT.to_owned()));
        };
        if let Some(earlier) = self.earlier(name, stage) {
            return Ok(self.stage(earlier)?.files.clone());
        }
        if name == "scratch" {
            return Ok(Input::Nothing);
        }
        if self.file.stages[stage].name.as_deref() == Some(name) {
            return Err(DockerfileError::new(
                lines,
                format!("circular dependency detected on stage: {name}"),
            )
            .into());
        }
        if name.bytes().all(|b| b.is_ascii_digit()) {
            let message =
                format!("invalid from flag value {name}: no stage of this number before it");
            return Err(DockerfileError::new(lines, message).into());
        }
        let platform = self.options.platform.to_string();
        Ok(self.image(name.to_owned(), platform).files)
    }

    /// Adds a step; the same one again if it is there already.
    pub(super) fn step(&mut self, step: Step) -> StepId {
        if let Some(known) = self.steps.iter().position(|known| *known == step) {
            return known;
        }
        self.steps.push(step);
        self.steps.len() - 1
    }

    fn earlier(&self, name: &str, before: usize) -> Option<usize> {
        let stages = &self.file.stages[..before];
        stages
            .iter()
            .rposition(|stage| {
                let own = stage.name.as_deref();
                own.is_some_and(|own| own.eq_ignore_ascii_case(name))
            })
            .or_else(|| name.parse().ok().filter(|&number| number < before))
    }

    fn image(&mut self, reference: String, platform: String) -> Beginning {
        let name = BaseName {
            reference,
            platform,
        };
        match self.bases.get(&name) {
            Some(base) => Beginning {
                files: match base.layers.as_slice() {
                    [] => Input::Nothing,
                    layers => Input::Image(layers.to_vec()),
                },
                config: base.config.clone(),
                arguments: Vec::new(),
                history: Vec::new(),
                id: Some(base.id.clone()),
            },
            None => {
                self.needs.push(name);
                Beginning {
                    files: Input::Nothing,
                    config: ImageConfig::default(),
                    arguments: Vec::new(),
                    history: Vec::new(),
                    id: None,
                }
            }
        }
    }
}
