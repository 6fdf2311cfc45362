//! One build from a Dockerfile's text to an image whose parts are all stored.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures_util::future::try_join_all;
use hoist_image::document::{HistoryEntry, ImageConfig, RootFs};
use hoist_image::{ContentStore, MAX_LAYERS, Snapshotter, StoredImage};
use hoist_model::{Digest, ImageReference, Timestamp, chain};
use hoist_store::Store;
use sha2::{Digest as _, Sha256};

use crate::cache::{Cache, CacheRecord};
use crate::cache_mounts::CacheMounts;
use crate::check::Warning;
use crate::contexts::Contexts;
use crate::dockerfile::Dockerfile;
use crate::error::{BuildError, FailedStep};
use crate::event::{BuildEvent, EventFn};
use crate::plan::{Address, Bases, Input, Plan, PlanError, PlanOptions, Planned, plan};
use crate::ports::{BaseImages, Executor, Fetch, OutputFn, PortError, Surroundings};
use crate::remote::{CacheExport, Exported, INLINE_FIELD, RemoteCache};
use crate::run::{Agents, Secrets};
use crate::solve::{InputError, Solver, Terms, Tools, key_of};

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
    /// Names of stages whose steps are done anew.
    pub no_cache_stages: Vec<String>,
    /// Where else something may have been built before, the first that knows a step first.
    pub caches: Vec<Arc<RemoteCache>>,
    /// Whether the image says what it was built of, for whoever reads it as a cache.
    pub inline_cache: bool,
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

/// Builds images. One per engine.
#[derive(Clone)]
pub struct Builder {
    pub(crate) tools: Arc<Tools>,
    content: Arc<ContentStore>,
    pub(crate) contexts: Contexts,
    pub(crate) clock: fn() -> Timestamp,
}

/// What a build came to.
#[derive(Clone, Debug)]
pub struct Finished {
    /// An image whose parts are all stored.
    pub image: StoredImage,
    /// What caches elsewhere may be told of it.
    pub cache: CacheExport,
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

    /// What is at an address, as a layer, which has to be held against collection. What came last is kept, and comes again only if it has changed.
    ///
    /// # Errors
    /// Those of the [`Fetch`](crate::ports::Fetch) port.
    pub async fn fetch(&self, address: &Address) -> Result<Digest, PortError> {
        self.tools.fetched(address, self.clock).await
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
    ) -> Result<Finished, BuildError> {
        let file = Dockerfile::parse(&request.dockerfile).map_err(PlanError::from)?;
        let plan = Arc::new(
            self.find_plan(&file, &request, bases.as_ref(), &events)
                .await?,
        );
        events(BuildEvent::Planned(plan.clone()));
        if plan.warnings_are_errors && !plan.warnings.is_empty() {
            return Err(BuildError::Checks(plan.warnings.clone()));
        }
        let (anew, epoch) = (anew(&plan, &request), epoch(&request)?);
        let terms = Terms {
            contexts: request.contexts,
            anew,
            caches: request.caches,
            epoch,
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
        let mut cache = exported(&plan, &solver);
        let (inline, tags) = (request.inline_cache, request.tags);
        let image = self.image(&plan, &solver, &layers, tags, &mut cache, inline);
        let image = image.await?;
        let used = (0..plan.steps.len()).filter_map(|step| solver.solved(step));
        let used = used.map(|solved| solved.key.clone()).collect();
        if let Err(error) = self.tools.cache.touch(used, (self.clock)()).await {
            tracing::warn!(
                error = chain(&error),
                "uses of the build cache are not noted"
            );
        }
        Ok(Finished { image, cache })
    }

    /// What [`Builder::build`] would do. Base images are brought here, and nothing else is done.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn plan(
        &self,
        request: &BuildRequest,
        bases: &dyn BaseImages,
        events: EventFn,
    ) -> Result<Plan, BuildError> {
        let file = Dockerfile::parse(&request.dockerfile).map_err(PlanError::from)?;
        self.find_plan(&file, request, bases, &events).await
    }

    /// Checks a Dockerfile without building anything of it; base images are looked at, for what is set in them.
    ///
    /// # Errors
    /// See [`BuildError`].
    pub async fn check(
        &self,
        request: &BuildRequest,
        bases: &dyn BaseImages,
        events: EventFn,
    ) -> Result<Vec<Warning>, BuildError> {
        let file = Dockerfile::parse(&request.dockerfile).map_err(PlanError::from)?;
        let plan = self.find_plan(&file, request, bases, &events);
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
        cache: &mut CacheExport,
        inline: bool,
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
        for field in [
            "container",
            "container_config",
            "docker_version",
            INLINE_FIELD,
        ] {
            config.extra.remove(field);
        }
        config.created = None;
        let epoch = solver.terms.epoch.map(Timestamp::from_seconds);
        for line in &plan.history {
            let solved = line.step.and_then(|step| solver.solved(step));
            let created = solved.map(|solved| epoch.unwrap_or(solved.created).to_string());
            config.history.push(HistoryEntry {
                created,
                created_by: Some(line.created_by.clone()),
                comment: Some("hoist".to_owned()),
                empty_layer: solved.is_none_or(|solved| solved.layer.is_none()),
                ..HistoryEntry::default()
            });
        }
        let created = match epoch {
            Some(epoch) => epoch,
            None => {
                let (key, created) = self.created(&config, &solver.terms.caches).await?;
                cache.steps.push(Exported {
                    key,
                    layer: None,
                    created,
                    in_image: true,
                });
                created
            }
        };
        // What changed nothing but the config was done when the image was.
        for line in &mut config.history {
            if line.comment.as_deref() == Some("hoist") && line.created.is_none() {
                line.created = Some(created.to_string());
            }
        }
        config.created = Some(created.to_string());
        if inline {
            let records = cache.inline(layers)?;
            config.extra.insert(INLINE_FIELD.to_owned(), records.into());
        }
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

    /// When an image like this was first made: the same image again is the same, to its id.
    async fn created(
        &self,
        config: &ImageConfig,
        caches: &[Arc<RemoteCache>],
    ) -> Result<(String, Timestamp), BuildError> {
        let mut hash = Sha256::new();
        hash.update("hoist build image 1\n");
        hash.update(serde_json::to_vec(config)?);
        let key = key_of(hash);
        if let Some(record) = self.tools.cache.get(&key) {
            return Ok((key, record.created));
        }
        let now = (self.clock)();
        let elsewhere = caches.iter().find_map(|cache| cache.get(&key)?.created);
        let created = elsewhere.unwrap_or(now);
        let record = CacheRecord {
            key: key.clone(),
            layer: None,
            size: 0,
            description: "image".to_owned(),
            created,
            used: now,
            uses: 1,
        };
        if let Err(error) = self.tools.cache.put(record).await {
            tracing::warn!(error = chain(&error), "an image's time is not cached");
        }
        Ok((key, created))
    }
}

/// The moment that nothing of the image is to be younger than, where one is said (reproducible-builds.org).
fn epoch(request: &BuildRequest) -> Result<Option<i64>, BuildError> {
    let given = request.options.arguments.get("SOURCE_DATE_EPOCH");
    let given = given
        .and_then(Option::as_deref)
        .filter(|text| !text.is_empty());
    let read = given.map(|text| text.parse().map_err(|_| BuildError::Epoch(text.to_owned())));
    read.transpose()
}

/// Which steps are done though they were done before.
fn anew(plan: &Plan, request: &BuildRequest) -> Vec<bool> {
    let mut anew = vec![request.no_cache; plan.steps.len()];
    for told in &plan.told {
        let name = plan.stages.get(told.stage).and_then(Option::as_deref);
        let is_named = |given: &String| name.is_some_and(|name| name.eq_ignore_ascii_case(given));
        if let Some(step) = told.step
            && request.no_cache_stages.iter().any(is_named)
        {
            anew[step] = true;
        }
    }
    anew
}

/// What was made of which step.
fn exported(plan: &Plan, solver: &Solver) -> CacheExport {
    let mut in_image = vec![false; plan.steps.len()];
    let mut at = &plan.files;
    while let Input::Step(step) = at {
        in_image[*step] = true;
        at = &plan.steps[*step].below;
    }
    let steps = in_image.into_iter().enumerate();
    let steps = steps.filter_map(|(step, in_image)| {
        let solved = solver.solved(step)?;
        Some(Exported {
            key: solved.key.clone(),
            layer: solved.layer.clone(),
            created: solved.created,
            in_image,
        })
    });
    CacheExport {
        steps: steps.collect(),
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
