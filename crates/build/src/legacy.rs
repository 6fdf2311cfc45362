//! What Docker's classic builder prints, of a build whose steps are done side by side: told in the order of the file, each step's output
//! held back until its turn comes.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::event::BuildEvent;
use crate::plan::{Operation, Plan, StepId};
use crate::ports::Stream;
use crate::solve::key_of;

/// A build that is told of.
#[derive(Debug, Default)]
pub struct LegacyLines {
    plan: Option<Arc<Plan>>,
    /// The instruction that is being told of; its heading was.
    at: usize,
    steps: HashMap<StepId, Progress>,
    /// Stands for the image so far, as Docker's ids do.
    id: String,
}

#[derive(Debug, Default)]
struct Progress {
    /// The key of a program that runs or ran.
    began: Option<String>,
    output: Vec<(Stream, Vec<u8>)>,
    done: Option<(bool, String)>,
    told: bool,
}

/// A piece of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyLine {
    /// On standard output, its end included.
    Text(String),
    /// On standard error.
    Error(String),
}

impl LegacyLines {
    /// What is to be printed now.
    pub fn on(&mut self, event: BuildEvent) -> Vec<LegacyLine> {
        let mut lines = Vec::new();
        match event {
            BuildEvent::Pulling(text) => lines.push(LegacyLine::Text(text)),
            BuildEvent::Planned(plan) => {
                if !plan.unused_arguments.is_empty() {
                    lines.push(LegacyLine::Text(format!(
                        "[Warning] One or more build-args [{}] were not consumed\n",
                        plan.unused_arguments.join(" ")
                    )));
                }
                self.plan = Some(plan);
                self.heading(&mut lines);
                self.advance(&mut lines);
            }
            BuildEvent::Began(step, key) => {
                let runs = self
                    .plan
                    .as_ref()
                    .is_some_and(|plan| matches!(plan.steps[step].operation, Operation::Run(_)));
                if !runs {
                    return lines;
                }
                if self.current() == Some(step) {
                    lines.push(running(&key));
                }
                self.steps.entry(step).or_default().began = Some(key);
            }
            BuildEvent::Wrote(step, stream, bytes) => {
                if self.current() == Some(step) {
                    lines.push(text(stream, &bytes));
                } else {
                    let progress = self.steps.entry(step).or_default();
                    progress.output.push((stream, bytes));
                }
            }
            BuildEvent::Done {
                step, cached, key, ..
            } => {
                let is_current = self.current() == Some(step);
                let progress = self.steps.entry(step).or_default();
                progress.done = Some((cached, key));
                if is_current {
                    self.advance(&mut lines);
                }
            }
        }
        lines
    }

    /// The step whose instruction is being told of.
    fn current(&self) -> Option<StepId> {
        let plan = self.plan.as_ref()?;
        plan.told.get(self.at)?.step
    }

    /// Tells of what is done, up to the first that is not.
    fn advance(&mut self, lines: &mut Vec<LegacyLine>) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        while let Some(told) = plan.told.get(self.at) {
            let mut key = told.base.clone().unwrap_or_default();
            if let Some(step) = told.step {
                let Some(progress) = self.steps.get_mut(&step) else {
                    return;
                };
                let Some((cached, done)) = progress.done.clone() else {
                    return;
                };
                if cached || std::mem::replace(&mut progress.told, true) {
                    lines.push(LegacyLine::Text(" ---> Using cache\n".to_owned()));
                }
                key = done;
            }
            let is_image = told.base.is_some();
            self.id = if is_image {
                key.trim_start_matches("sha256:").to_owned()
            } else {
                let text = format!("{} {} {key}", self.id, told.text);
                key_of(Sha256::new_with_prefix(text))
            };
            let short: String = self.id.chars().take(12).collect();
            lines.push(LegacyLine::Text(format!(" ---> {short}\n")));
            self.at += 1;
            self.heading(lines);
        }
    }

    /// Says which instruction comes, and what its step wrote before its turn came.
    fn heading(&mut self, lines: &mut Vec<LegacyLine>) {
        let Some(plan) = self.plan.clone() else {
            return;
        };
        let Some(told) = plan.told.get(self.at) else {
            return;
        };
        let (number, total) = (self.at + 1, plan.told.len());
        lines.push(LegacyLine::Text(format!(
            "Step {number}/{total} : {}\n",
            told.text
        )));
        let Some(step) = told.step else { return };
        if let Some(progress) = self.steps.get_mut(&step) {
            if let Some(key) = progress.began.as_ref().filter(|_| !progress.told) {
                lines.push(running(key));
            }
            for (stream, bytes) in std::mem::take(&mut progress.output) {
                lines.push(text(stream, &bytes));
            }
        }
    }
}

fn running(key: &str) -> LegacyLine {
    let short: String = key.chars().take(12).collect();
    LegacyLine::Text(format!(" ---> Running in {short}\n"))
}

fn text(stream: Stream, bytes: &[u8]) -> LegacyLine {
    let text = String::from_utf8_lossy(bytes).into_owned();
    match stream {
        Stream::Output => LegacyLine::Text(text),
        Stream::Error => LegacyLine::Error(text),
    }
}
