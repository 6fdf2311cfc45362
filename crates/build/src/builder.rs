//! One build from a Dockerfile's text to an image whose parts are all stored.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use hoist_image::document::{HistoryEntry, ImageConfig, RootFs};
use hoist_image::{ContentError, ContentStore, LayerError, MAX_LAYERS, Snapshotter, StoredImage};
use hoist_model::{Digest, ErrorClass, ImageReference, Timestamp, chain};
use hoist_store::Store;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::cache::{Cache, CacheRecord};
use crate::cache_mounts::CacheMounts;
use crate::check::Warning;
use crate::contexts::Contexts;
use crate::dockerfile::{Dockerfile, Lines};
use crate::event::{BuildEvent, EventFn};
use crate::plan::{Address, Bases, Plan, PlanError, PlanOptions, Planned, StepId, plan};
use crate::ports::{BaseImages, Executor, Fetch, Fetched, OutputFn, PortError, Surroundings};
use crate::run::{Agents, Secrets};
use crate::solve::{FailedStep, InputError, Solver, StepError, Terms, Tools, key_of};

/// What a builder is made of.
pub struct Parts {
    /// Where the cache's entries are.
    pub store: Store,
    /// Where configs go.
    pub content: Arc<ContentStore>,
    /// Where layers are.
    pub snapshotter: Arc<dyn Snapshotter>,
    /// Who runs programs.
    pub executor: Arc<dyn Executor>,
    /// Who fetches what ADD names by an address.
    pub fetch: Arc<dyn Fetch>,
    /// Directory of the directories of cache mounts.
    pub cache_mounts: PathBuf,
    /// A directory that does not outlive the engine, best in memory: scripts and secrets while they are of use. It is emptied now.
    pub scratch: PathBuf,
    /// The time of day.
    pub clock: fn() -> Timestamp,
}

/// What is to be built.
#[derive(Clone, Debug, Default)]
pub struct BuildRequest {
    /// The Dockerfile's text.
    pub dockerfile: String,
    /// Target, arguments, labels, platform, network.
    pub options: PlanOptions,
    /// Layers of the contexts, by name; that of no name is the build's.
    pub contexts: BTreeMap<String, Vec<Digest>>,
    /// Whether everything is done anew.
    pub no_cache: bool,
    /// Whether base images are asked for where they come from, though they are here.
    pub pull: bool,
    /// What the image will be called.
    pub tags: Vec<ImageReference>,
    /// Limits and names for its programs.
    pub surroundings: Surroundings,
    /// What `RUN --mount=type=secret` may ask for.
    pub secrets: Secrets,
    /// What `RUN --mount=type=ssh` may ask.
    pub agents: Agents,
}

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
            Self::TooManyLayers(_) | Self::Checks(_) => ErrorClass::InvalidArgument,
            Self::Layer(error) => error.class(),
            Self::Content(error) => error.class(),
            Self::Config(_) => ErrorClass::Internal,
        }
    }

    /// Whether there was no room on the disk.
    fn is_full(&self) -> bool {
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

/// Builds images. One per engine.
#[derive(Clone)]
pub struct Builder {
    pub(crate) tools: Arc<Tools>,
    content: Arc<ContentStore>,
    pub(crate) contexts: Contexts,
    pub(crate) clock: fn() -> Timestamp,
}

/// What a prune of the cache let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Keys of entries.
    pub keys: Vec<String>,
    /// Bytes of their layers' files.
    pub bytes: u64,
}

impl Builder {
    /// Joins the parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        // What an engine that was killed left.
        let _ = std::fs::remove_dir_all(&parts.scratch);
        let tools = Tools {
            snapshotter: parts.snapshotter,
            executor: parts.executor,
            fetch: parts.fetch,
            cache: Cache::new(parts.store.clone()),
            mounts: CacheMounts::new(parts.cache_mounts),
            scratch: parts.scratch,
            contents: Mutex::default(),
        };
        Self {
            tools: Arc::new(tools),
            contexts: Contexts::new(parts.store),
            content: parts.content,
            clock: parts.clock,
        }
    }

    /// What is at an address, as a layer, which has to be held against collection.
    ///
    /// # Errors
    /// Those of the [`Fetch`](crate::ports::Fetch) port.
    pub async fn fetch(&self, address: &Address) -> Result<Digest, PortError> {
        match self.tools.fetch.fetch(address, None).await? {
            Fetched::Files { layer, .. } => Ok(layer),
            Fetched::Unchanged => Err(PortError {
                message: format!("{address} is said to be unchanged, and is not known"),
                class: ErrorClass::Internal,
            }),
        }
    }

    /// Builds an image; base images come from `bases`. Its parts are all stored when this returns; it becomes an image when somebody takes note of it, and until then
    /// nothing may be collected. Dropping the future ends what runs.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn build(
        &self,
        request: BuildRequest,
        bases: Arc<dyn BaseImages>,
        events: EventFn,
    ) -> Result<StoredImage, BuildError> {
        let file = Dockerfile::parse(&request.dockerfile).map_err(PlanError::from)?;
        let plan = Arc::new(
            self.find_plan(&file, &request, bases.as_ref(), &events)
                .await?,
        );
        events(BuildEvent::Planned(plan.clone()));
        if plan.warnings_are_errors && !plan.warnings.is_empty() {
            return Err(BuildError::Checks(plan.warnings.clone()));
        }
        let terms = Terms {
            contexts: request.contexts,
            no_cache: request.no_cache,
            surroundings: request.surroundings,
            secrets: request.secrets,
            agents: request.agents,
            now: self.clock,
            events,
        };
        let solver = Solver::new(self.tools.clone(), plan.clone(), terms);
        let layers = solver.layers(&plan.files).await;
        let layers = match layers.map_err(|error| failed(&plan, error)) {
            Ok(layers) => layers,
            Err(error) => {
                if error.is_full() {
                    self.make_room().await;
                }
                return Err(error);
            }
        };
        if layers.len() > MAX_LAYERS {
            return Err(BuildError::TooManyLayers(layers.len()));
        }
        let image = self.image(&plan, &solver, &layers, request.tags).await?;
        let used = (0..plan.steps.len()).filter_map(|step| solver.solved(step));
        let used = used.map(|solved| solved.key.clone()).collect();
        if let Err(error) = self.tools.cache.touch(used, (self.clock)()).await {
            tracing::warn!(
                error = chain(&error),
                "uses of the build cache are not noted"
            );
        }
        Ok(image)
    }

    /// What [`Builder::build`] would do. Base images are brought here, and nothing else is done.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn plan(
        &self,
        request: &BuildRequest,
        bases: Arc<dyn BaseImages>,
        events: EventFn,
    ) -> Result<Plan, BuildError> {
        let file = Dockerfile::parse(&request.dockerfile).map_err(PlanError::from)?;
        self.find_plan(&file, request, bases.as_ref(), &events)
            .await
    }

    /// Checks a Dockerfile without building anything of it; base images are looked at, for what is set in them.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn check(
        &self,
        request: &BuildRequest,
        bases: Arc<dyn BaseImages>,
        events: EventFn,
    ) -> Result<Vec<Warning>, BuildError> {
        let file = Dockerfile::parse(&request.dockerfile).map_err(PlanError::from)?;
        let plan = self.find_plan(&file, request, bases.as_ref(), &events);
        Ok(plan.await?.warnings)
    }

    /// Plans, finding base images until it knows enough.
    async fn find_plan(
        &self,
        file: &Dockerfile,
        request: &BuildRequest,
        source: &dyn BaseImages,
        events: &EventFn,
    ) -> Result<Plan, BuildError> {
        let mut bases = Bases::new();
        loop {
            let names = match plan(file, &request.options, &bases)? {
                Planned::Ready(plan) => return Ok(*plan),
                Planned::Needs(names) => names,
            };
            let found = names.into_iter().map(|name| async move {
                let events = events.clone();
                let output: OutputFn = Arc::new(move |_, bytes| {
                    let text = String::from_utf8_lossy(bytes).into_owned();
                    events(BuildEvent::Pulling(text));
                });
                let base = source.find(&name, request.pull, output).await;
                Ok::<_, BuildError>((name, Arc::new(base.map_err(BuildError::Base)?)))
            });
            bases.extend(try_join_all(found).await?);
        }
    }

    /// Puts the config together and stores it.
    async fn image(
        &self,
        plan: &Plan,
        solver: &Solver,
        layers: &[Digest],
        references: Vec<ImageReference>,
    ) -> Result<StoredImage, BuildError> {
        let mut config = ImageConfig {
            author: plan.author.clone(),
            config: plan.config.clone(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.to_vec(),
            },
            ..plan.base.clone()
        };
        // Fields that older builders wrote about the container that they committed are not true of this image.
        for field in ["container", "container_config", "docker_version"] {
            config.extra.remove(field);
        }
        config.created = None;
        for line in &plan.history {
            let solved = line.step.and_then(|step| solver.solved(step));
            let created = solved.map(|solved| solved.created.to_string());
            config.history.push(HistoryEntry {
                created,
                created_by: Some(line.created_by.clone()),
                comment: Some("hoist".to_owned()),
                empty_layer: solved.is_none_or(|solved| solved.layer.is_none()),
                ..HistoryEntry::default()
            });
        }
        let created = self.created(&config).await?;
        // What changed nothing but the config was done when the image was.
        for line in &mut config.history {
            if line.comment.as_deref() == Some("hoist") && line.created.is_none() {
                line.created = Some(created.to_string());
            }
        }
        config.created = Some(created.to_string());
        let bytes = serde_json::to_vec(&config)?;
        let mut size = 0;
        for layer in layers {
            size += self.tools.snapshotter.layer(layer)?.file_bytes;
        }
        Ok(StoredImage {
            id: self.content.put(&bytes)?,
            layers: layers.to_vec(),
            manifest: None,
            size,
            references,
            config,
        })
    }

    /// Lets go of what is in the cache, where a build found no room: what of it is no image is collected, and the next build has the room.
    async fn make_room(&self) {
        match self.prune(|_| true).await {
            Ok(pruned) => tracing::warn!(
                entries = pruned.keys.len(),
                bytes = pruned.bytes,
                "no room for a build: its cache is let go of"
            ),
            Err(error) => tracing::warn!(
                error = chain(&error),
                "no room for a build, and its cache cannot be let go of"
            ),
        }
    }

    /// When an image like this was first made: the same image again is the same, to its id.
    async fn created(&self, config: &ImageConfig) -> Result<Timestamp, BuildError> {
        let mut hash = Sha256::new();
        hash.update("hoist build image 1\n");
        hash.update(serde_json::to_vec(config)?);
        let key = key_of(hash);
        if let Some(record) = self.tools.cache.get(&key) {
            return Ok(record.created);
        }
        let now = (self.clock)();
        let record = CacheRecord {
            key,
            layer: None,
            size: 0,
            description: "image".to_owned(),
            created: now,
            used: now,
            uses: 1,
        };
        if let Err(error) = self.tools.cache.put(record).await {
            tracing::warn!(error = chain(&error), "an image's time is not cached");
        }
        Ok(now)
    }

    /// Keeps a context that somebody may send again, in the cache, under a key of theirs; what it was before is let go of.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn keep_context(
        &self,
        name: &str,
        layer: &Digest,
    ) -> Result<(), hoist_store::StoreError> {
        let now = (self.clock)();
        let record = CacheRecord {
            key: key_of(Sha256::new_with_prefix(format!(
                "hoist build context 1\n{name}"
            ))),
            size: self
                .tools
                .snapshotter
                .layer(layer)
                .map_or(0, |record| record.file_bytes),
            layer: Some(layer.clone()),
            description: "local source".to_owned(),
            created: now,
            used: now,
            uses: 1,
        };
        self.tools.cache.put(record).await
    }

    /// The cache's entries, in no order.
    #[must_use]
    pub fn cached(&self) -> Vec<Arc<CacheRecord>> {
        let mut records = self.tools.cache.list();
        let contexts = self.contexts.list();
        records.extend(contexts.iter().map(|context| Arc::new(context.entry())));
        records
    }

    /// Lets go of the entries that `wanted` says. Their layers go when they are collected.
    ///
    /// # Errors
    /// The store cannot be written.
    pub async fn prune(
        &self,
        wanted: impl Fn(&CacheRecord) -> bool,
    ) -> Result<Pruned, hoist_store::StoreError> {
        let mut pruned = Pruned::default();
        for record in self.cached() {
            if wanted(&record) {
                pruned.bytes += record.size;
                pruned.keys.push(record.key.clone());
            }
        }
        self.tools.cache.remove(pruned.keys.clone()).await?;
        // A key is of one or of the other.
        self.contexts.remove(pruned.keys.clone()).await?;
        Ok(pruned)
    }
}

fn failed(plan: &Plan, error: InputError) -> BuildError {
    match error {
        InputError::Own(error) => BuildError::Step {
            step: None,
            lines: None,
            error: Arc::new(error),
        },
        InputError::Step(FailedStep { step, error }) => {
            let told = plan.told.iter().find(|told| told.step == Some(step));
            BuildError::Step {
                step: Some(step),
                lines: told.map(|told| told.lines),
                error,
            }
        }
    }
}

/// Layers that cache entries keep, for who collects.
#[must_use]
pub fn cached_layers(store: &Store) -> Vec<Digest> {
    let records = store.snapshot().list::<CacheRecord>();
    let layers = records.iter().filter_map(|record| record.layer.clone());
    layers.chain(crate::contexts::layers(store)).collect()
}
