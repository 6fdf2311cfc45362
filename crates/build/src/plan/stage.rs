//! One stage, instruction by instruction.

use hoist_image::document::{ImageConfig, ImageRuntimeConfig};

use super::checks::Seen;
use super::reach::{Beginning, Planner};
use super::scope::Scope;
use super::{DEFAULT_PATH, Input, Line, PlanError, Told};
use crate::dockerfile::{Instruction, Lines, parse_trigger};

/// A stage as far as it was planned.
#[derive(Clone, Debug)]
pub(super) struct StageState {
    /// Its number in the file.
    pub(super) number: usize,
    pub(super) files: Input,
    /// The config of what it began with.
    pub(super) base: ImageConfig,
    /// The variables are in `scope`.
    pub(super) config: ImageRuntimeConfig,
    pub(super) scope: Scope,
    pub(super) history: Vec<Line>,
    /// Every ARG so far with its value, as the history of a RUN tells of them.
    pub(super) shown_arguments: Vec<String>,
    pub(super) author: Option<String>,
    /// Whether this stage has a CMD of its own: ENTRYPOINT takes an inherited one away.
    pub(super) has_command: bool,
    /// For checks.
    pub(super) seen: Seen,
}

impl StageState {
    pub(super) fn plan(
        planner: &mut Planner<'_>,
        number: usize,
        told: &mut Vec<Told>,
    ) -> Result<Self, PlanError> {
        let file = planner.file;
        let stage = &file.stages[number];
        let Beginning {
            files,
            config,
            arguments,
            history,
            id,
        } = planner.beginning(number)?;
        told.push(Told {
            stage: number,
            lines: stage.lines,
            text: stage.text.clone(),
            step: None,
            base: id,
        });
        let mut runtime = config.config.clone();
        if !runtime.env.iter().any(|text| text.starts_with("PATH=")) {
            // Whatever it begins with: `ENV PATH=$PATH:/more` has something to add to.
            runtime.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        let mut state = Self {
            number,
            files,
            author: config.author.clone(),
            scope: Scope {
                environment: std::mem::take(&mut runtime.env),
                arguments,
            },
            history,
            shown_arguments: Vec::new(),
            has_command: false,
            seen: Seen::default(),
            base: config,
            config: runtime,
        };
        for trigger in state.config.on_build.take().unwrap_or_default() {
            for mut instruction in parse_trigger(&trigger)? {
                instruction.lines = stage.lines;
                state.apply(planner, &instruction, told)?;
            }
        }
        for instruction in &stage.instructions {
            state.apply(planner, instruction, told)?;
        }
        Ok(state)
    }

    fn apply(
        &mut self,
        planner: &mut Planner<'_>,
        instruction: &Instruction,
        told: &mut Vec<Told>,
    ) -> Result<(), PlanError> {
        let steps = planner.steps.len();
        let before = self.files.clone();
        self.check(planner, instruction);
        self.instruction(planner, instruction)?;
        let step = match &self.files {
            Input::Step(step) if self.files != before || planner.steps.len() > steps => Some(*step),
            _ => None,
        };
        told.push(Told {
            stage: self.number,
            lines: instruction.lines,
            text: instruction.text.clone(),
            step,
            base: None,
        });
        Ok(())
    }

    /// One word of an instruction, its variables read.
    pub(super) fn word(
        &self,
        planner: &Planner<'_>,
        text: &str,
        lines: Lines,
    ) -> Result<String, PlanError> {
        let escape = planner.file.directives.escape;
        let expanded = self.scope.expanded(text, escape, lines)?;
        self.check_variables(planner, &expanded.unset, lines);
        planner.spend(expanded.text.len(), lines)?;
        Ok(expanded.text)
    }

    /// A path as the stage's working directory has it; a slash at its end stays.
    pub(super) fn absolute(&self, path: &str) -> String {
        let is_directory = path.ends_with('/')
            || matches!(path.rsplit('/').next(), Some("." | ".."))
            || path.is_empty();
        let joined = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.config.working_dir)
        };
        let mut cleaned = hoist_model::path::clean(&joined);
        if is_directory && !cleaned.ends_with('/') {
            cleaned.push('/');
        }
        cleaned
    }

    /// Says in the history what an instruction did to the config.
    pub(super) fn said(&mut self, created_by: String) {
        self.history.push(Line {
            created_by,
            step: None,
        });
    }
}
