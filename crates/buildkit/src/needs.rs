//! What a plan needs of the client: which of its files, which of its secrets. The rest is not asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use hoist_build::dockerfile::MountKind;
use hoist_build::plan::{Base, BaseName, Input, MAIN_CONTEXT, Operation, Plan};
use hoist_build::ports::{BaseImages, BoxFuture, OutputFn, PortError};

/// Of one plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Paths in the context, as patterns; none at all: it is not needed.
    pub(crate) paths: BTreeSet<String>,
    /// Whether all of the context is needed.
    pub(crate) everything: bool,
    /// Ids of secrets.
    pub(crate) secrets: BTreeSet<String>,
    /// Ids of ssh agents.
    pub(crate) agents: BTreeSet<String>,
}

impl Needs {
    pub(crate) fn of(plan: &Plan) -> Self {
        let mut needs = Self::default();
        let is_context = |input: &Input| *input == Input::Context(MAIN_CONTEXT.to_owned());
        needs.everything = is_context(&plan.files);
        for step in &plan.steps {
            needs.everything |= is_context(&step.below);
            match &step.operation {
                Operation::Copy(copy) if is_context(&copy.from) => {
                    for source in &copy.sources {
                        needs.path(source);
                    }
                }
                Operation::Run(run) => {
                    for mounted in &run.mounts {
                        let mount = &mounted.mount;
                        if is_context(&mounted.input) {
                            needs.path(mount.source.as_deref().unwrap_or_default());
                        }
                        if let MountKind::Secret { .. } = mount.kind {
                            let id = mount.id.as_ref().or(mount.source.as_ref());
                            let id = id.or(mount.target.as_ref()).map_or("", String::as_str);
                            let id = id.rsplit('/').next().unwrap_or_default();
                            needs.secrets.insert(id.to_owned());
                        }
                        if let MountKind::Ssh { .. } = mount.kind {
                            let id = mount.id.as_deref().unwrap_or("default");
                            needs.agents.insert(id.to_owned());
                        }
                    }
                }
                Operation::Copy(_) | Operation::Directory { .. } => {}
            }
        }
        needs
    }

    fn path(&mut self, source: &str) {
        let cleaned = hoist_model::path::clean(&format!("/{source}"));
        match cleaned.trim_start_matches('/') {
            "" => self.everything = true,
            path => {
                self.paths.insert(path.to_owned());
            }
        }
    }

    /// Whether the context is needed at all.
    pub(crate) fn context(&self) -> bool {
        self.everything || !self.paths.is_empty()
    }

    /// What is asked for by name; nothing: all.
    pub(crate) fn follow(&self) -> Vec<String> {
        if self.everything {
            return Vec::new();
        }
        self.paths.iter().cloned().collect()
    }
}

/// Base images that are found once in a build, though it is planned twice.
pub(crate) struct Once<B> {
    source: B,
    /// Held for single look-ups.
    found: Mutex<BTreeMap<BaseName, Base>>,
}

impl<B> Once<B> {
    pub(crate) const fn new(source: B) -> Self {
        Self {
            source,
            found: Mutex::new(BTreeMap::new()),
        }
    }
}

impl<B: BaseImages> BaseImages for Once<B> {
    fn find<'a>(
        &'a self,
        name: &'a BaseName,
        pull: bool,
        output: OutputFn,
    ) -> BoxFuture<'a, Result<Base, PortError>> {
        Box::pin(async move {
            let found = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
            let known = found().get(name).cloned();
            if let Some(known) = known {
                return Ok(known);
            }
            let base = self.source.find(name, pull, output).await?;
            found().insert(name.clone(), base.clone());
            Ok(base)
        })
    }
}
