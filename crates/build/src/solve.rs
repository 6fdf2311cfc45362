//! Does what a plan says: every step once, side by side where none waits for another, none that was done before.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use hoist_image::files::Root;
use hoist_image::{Ids, SnapshotError, Snapshotter, clamp_times};
use hoist_model::{Digest, Timestamp, chain};
use sha2::{Digest as _, Sha256};
use tokio::sync::OnceCell;

use crate::cache::{Cache, CacheRecord};
use crate::cache_mounts::CacheMounts;
use crate::copy;
use crate::error::{FailedStep, StepError};
use crate::event::{BuildEvent, EventFn};
use crate::plan::{CopyStep, Input, Operation, Plan, RunStep, Step, StepId};
use crate::ports::{BoxFuture, Executor, Fetch, OutputFn, RunRequest, Surroundings};
use crate::remote::RemoteCache;
use crate::run::{Agents, Secrets};

/// What a step left: the layers of its files, bottom first, and whether the last is its own.
#[derive(Clone, Debug)]
pub(crate) struct Solved {
    pub(crate) layers: Arc<Vec<Digest>>,
    pub(crate) layer: Option<Digest>,
    pub(crate) created: Timestamp,
    pub(crate) key: String,
}

/// What steps lean on.
pub(crate) struct Tools {
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) fetch: Arc<dyn Fetch>,
    pub(crate) cache: Cache,
    pub(crate) mounts: CacheMounts,
    /// Scripts, secrets and here-documents while they are of use.
    pub(crate) scratch: PathBuf,
    /// Content digests of what was copied from where: the same again need not be read again. Held for single look-ups.
    pub(crate) contents: Mutex<BTreeMap<String, [u8; 32]>>,
}

/// What holds for one build.
pub(crate) struct Terms {
    pub(crate) contexts: BTreeMap<String, Vec<Digest>>,
    /// By step: whether it is done though it was done before.
    pub(crate) anew: Vec<bool>,
    pub(crate) caches: Vec<Arc<RemoteCache>>,
    /// No file of what is made is younger, in seconds since 1970.
    pub(crate) epoch: Option<i64>,
    pub(crate) surroundings: Surroundings,
    pub(crate) secrets: Secrets,
    pub(crate) agents: Agents,
    pub(crate) now: fn() -> Timestamp,
    pub(crate) events: EventFn,
}

/// One build's steps on their way.
pub(crate) struct Solver {
    pub(crate) tools: Arc<Tools>,
    plan: Arc<Plan>,
    pub(crate) terms: Terms,
    results: Vec<OnceCell<Result<Solved, FailedStep>>>,
    /// What is at addresses, by their text: asked for once a build, that steps do not see two states of one. Held for single look-ups.
    addresses: Mutex<BTreeMap<String, Arc<OnceCell<Digest>>>>,
}

/// More than these are forgotten, all at once: it costs a reading.
const CONTENTS_LIMIT: usize = 10_000;

impl Solver {
    pub(crate) fn new(tools: Arc<Tools>, plan: Arc<Plan>, terms: Terms) -> Self {
        let results = plan.steps.iter().map(|_| OnceCell::new()).collect();
        Self {
            tools,
            plan,
            terms,
            results,
            addresses: Mutex::default(),
        }
    }

    /// Does a step and all it needs. Dropping the future ends what runs.
    pub(crate) fn step(&self, step: StepId) -> BoxFuture<'_, Result<Solved, FailedStep>> {
        Box::pin(async move {
            let result = self.results[step].get_or_init(|| self.solve(step)).await;
            result.clone()
        })
    }

    /// What a step left, once it was done.
    pub(crate) fn solved(&self, step: StepId) -> Option<&Solved> {
        self.results[step]
            .get()
            .and_then(|result| result.as_ref().ok())
    }

    /// The layers of an input, bottom first.
    pub(crate) async fn layers(&self, input: &Input) -> Result<Arc<Vec<Digest>>, InputError> {
        Ok(match input {
            Input::Nothing => Arc::default(),
            Input::Image(layers) => Arc::new(layers.clone()),
            Input::Step(step) => self.step(*step).await.map_err(InputError::Step)?.layers,
            Input::Context(name) => {
                let context = self.terms.contexts.get(name);
                let missing = || InputError::Own(StepError::NoContext(name.clone()));
                Arc::new(context.ok_or_else(missing)?.clone())
            }
            Input::Fetched(address) => {
                let cell = {
                    let mut known = self
                        .addresses
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    known.entry(address.to_string()).or_default().clone()
                };
                let layer = cell.get_or_try_init(|| self.fetched(address)).await;
                Arc::new(vec![layer.map_err(InputError::Own)?.clone()])
            }
        })
    }

    async fn solve(&self, number: StepId) -> Result<Solved, FailedStep> {
        let step = &self.plan.steps[number];
        let own = |error: StepError| FailedStep {
            step: number,
            error: Arc::new(error),
        };
        let inputs = step.inputs();
        let inputs = inputs.into_iter().map(|input| self.layers(input));
        let inputs = try_join_all(inputs).await.map_err(|error| match error {
            InputError::Step(failed) => failed,
            InputError::Own(error) => own(error),
        })?;
        let (below, others) = inputs.split_first().expect("a step is over something");
        let mut key = self.key(step, below, others).await.map_err(own)?;
        if let Some(epoch) = self.terms.epoch {
            // The same files at other times are other layers.
            key = key_of(Sha256::new_with_prefix(format!(
                "hoist build epoch 1\n{epoch}\n{key}"
            )));
        }
        let known = match self.terms.anew[number] {
            true => None,
            false => self.known(step, &key).await,
        };
        if let Some(record) = known {
            self.tell(BuildEvent::Done {
                step: number,
                cached: true,
                key: key.clone(),
                layer: record.layer.clone(),
            });
            return Ok(solved(below, record.layer.clone(), record.created, key));
        }
        self.tell(BuildEvent::Began(number, key.clone()));
        let done = self.act(number, step, below, others).await;
        let mut layer = done.map_err(own)?;
        if let (Some(made), Some(epoch)) = (&layer, self.terms.epoch) {
            layer = Some(self.clamped(made.clone(), epoch).await.map_err(own)?);
        }
        let now = (self.terms.now)();
        self.keep_result(step, &key, layer.clone(), now).await;
        self.tell(BuildEvent::Done {
            step: number,
            cached: false,
            key: key.clone(),
            layer: layer.clone(),
        });
        Ok(solved(below, layer, now, key))
    }

    /// What is known of a step: here, or elsewhere, from where it is brought then.
    async fn known(&self, step: &Step, key: &str) -> Option<Arc<CacheRecord>> {
        let is_here = |record: &Arc<CacheRecord>| {
            let layer = record.layer.as_ref();
            layer.is_none_or(|layer| self.tools.snapshotter.has_layer(layer))
        };
        if let Some(record) = self.tools.cache.get(key).filter(is_here) {
            return Some(record);
        }
        for cache in &self.terms.caches {
            let Some(hit) = cache.get(key) else { continue };
            if let Some((layer, descriptor)) = &hit.layer
                && !self.tools.snapshotter.has_layer(layer)
                && let Err(error) = cache.fetch(layer, descriptor).await
            {
                // It is done again, then.
                tracing::warn!(error = chain(&error), %layer, "a layer of a cache elsewhere did not come");
                continue;
            }
            let layer = hit.layer.as_ref().map(|(layer, _)| layer.clone());
            let created = hit.created.unwrap_or_else(|| (self.terms.now)());
            return Some(Arc::new(self.keep_result(step, key, layer, created).await));
        }
        None
    }

    async fn clamped(&self, layer: Digest, epoch: i64) -> Result<Digest, StepError> {
        let snapshotter = self.tools.snapshotter.clone();
        blocking(move || Ok(clamp_times(&layer, epoch, snapshotter.as_ref())?)).await
    }

    /// Notes what a step made.
    async fn keep_result(
        &self,
        step: &Step,
        key: &str,
        layer: Option<Digest>,
        created: Timestamp,
    ) -> CacheRecord {
        let size = layer
            .as_ref()
            .map(|layer| self.tools.snapshotter.layer(layer));
        let record = CacheRecord {
            key: key.to_owned(),
            layer,
            size: size
                .and_then(Result::ok)
                .map_or(0, |record| record.file_bytes),
            description: step.operation.headline(),
            created,
            used: (self.terms.now)(),
            uses: 1,
        };
        if let Err(error) = self.tools.cache.put(record.clone()).await {
            tracing::warn!(error = chain(&error), "a build step is not cached");
        }
        record
    }

    /// A digest of what a step does to which files.
    async fn key(
        &self,
        step: &Step,
        below: &Arc<Vec<Digest>>,
        others: &[Arc<Vec<Digest>>],
    ) -> Result<String, StepError> {
        let mut hash = Sha256::new();
        // A new version of what steps do begins with another word here.
        hash.update("hoist build step 2\n");
        if let Operation::Copy(copy) = &step.operation {
            let content = self.content(copy, others).await?;
            hash.update(step.operation.text(&|_| "what it is".to_owned()));
            hash.update(content);
            if copy.link {
                return Ok(key_of(hash));
            }
        } else {
            // In the order in which the text names them.
            let names = Mutex::new(others.iter());
            let name = |input: &Input| match input {
                Input::Nothing => "nothing".to_owned(),
                _ => {
                    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
                    names
                        .next()
                        .map_or_else(String::new, |layers| chained(layers))
                }
            };
            hash.update(step.operation.text(&name));
        }
        hash.update(chained(below));
        Ok(key_of(hash))
    }

    /// A digest of what a COPY brings, times left out.
    async fn content(
        &self,
        step: &CopyStep,
        from: &[Arc<Vec<Digest>>],
    ) -> Result<[u8; 32], StepError> {
        let mut memo = step.content_text();
        for layers in from {
            memo.push('\n');
            memo.push_str(&chained(layers));
        }
        let contents = || {
            let contents = &self.tools.contents;
            contents.lock().unwrap_or_else(PoisonError::into_inner)
        };
        let known = contents().get(&memo).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let (step, from) = (step.clone(), from.to_vec());
        let snapshotter = self.tools.snapshotter.clone();
        let digest = blocking(move || {
            let from = views(snapshotter.as_ref(), &from)?;
            Ok(copy::digest(&step, &from)?)
        })
        .await?;
        let mut contents = contents();
        if contents.len() >= CONTENTS_LIMIT {
            contents.clear();
        }
        contents.insert(memo, digest);
        Ok(digest)
    }

    async fn act(
        &self,
        number: StepId,
        step: &Step,
        below: &Arc<Vec<Digest>>,
        others: &[Arc<Vec<Digest>>],
    ) -> Result<Option<Digest>, StepError> {
        match &step.operation {
            Operation::Run(run) => self.run(number, run, below, others).await,
            Operation::Copy(step) => {
                let (step, from, below) = (step.clone(), others.to_vec(), below.clone());
                let snapshotter = self.tools.snapshotter.clone();
                let scratch = self.tools.scratch.clone();
                blocking(move || {
                    let from = views(snapshotter.as_ref(), &from)?;
                    let below = if step.link { Arc::default() } else { below };
                    let below = view(snapshotter.as_ref(), &below)?;
                    let mut writer = snapshotter.layer_writer()?;
                    let copied = copy::layer(&step, &from, &below, &scratch, &mut writer);
                    finish(copied.map_err(Into::into), writer)
                })
                .await
            }
            Operation::Directory { path, owner } => {
                let (path, owner, below) = (path.clone(), owner.clone(), below.clone());
                let snapshotter = self.tools.snapshotter.clone();
                blocking(move || {
                    let below = view(snapshotter.as_ref(), &below)?;
                    let mut writer = snapshotter.layer_writer()?;
                    let made = copy::directory(&path, &owner, &below, &mut writer);
                    finish(made.map_err(Into::into), writer)
                })
                .await
            }
        }
    }

    async fn run(
        &self,
        number: StepId,
        run: &RunStep,
        below: &Arc<Vec<Digest>>,
        others: &[Arc<Vec<Digest>>],
    ) -> Result<Option<Digest>, StepError> {
        let (secrets, agents) = (&self.terms.secrets, &self.terms.agents);
        let prepared = crate::run::prepare(run, others, &self.tools, secrets, agents);
        let mut prepared = prepared.await?;
        let mut environment = run.proxies.clone();
        environment.extend(run.environment.iter().cloned());
        environment.append(&mut prepared.environment);
        let words = prepared.words.clone();
        let request = RunRequest {
            layers: below.to_vec(),
            words: words.clone(),
            environment,
            working_directory: run.working_directory.clone(),
            directories: run.volumes.clone(),
            user: run.user.clone(),
            network: run.network.clone(),
            insecure: run.insecure,
            mounts: std::mem::take(&mut prepared.mounts),
            surroundings: self.terms.surroundings.clone(),
        };
        let events = self.terms.events.clone();
        let output: OutputFn = Arc::new(move |stream, bytes| {
            events(BuildEvent::Wrote(number, stream, bytes.to_vec()));
        });
        let outcome = self.tools.executor.run(request, output).await?;
        if outcome.exit_code != 0 {
            return Err(StepError::Exit {
                words,
                code: outcome.exit_code,
                out_of_memory: outcome.out_of_memory,
            });
        }
        Ok(outcome.layer)
    }

    fn tell(&self, event: BuildEvent) {
        (self.terms.events)(event);
    }
}

/// Why an input is not there.
pub(crate) enum InputError {
    /// The step that makes it failed.
    Step(FailedStep),
    /// It cannot be had.
    Own(StepError),
}

impl Step {
    /// What it is over, and then what it reads beside, in the order in which its text names it.
    fn inputs(&self) -> Vec<&Input> {
        let mut inputs = vec![&self.below];
        match &self.operation {
            Operation::Run(run) => {
                let named = run.mounts.iter().map(|mount| &mount.input);
                inputs.extend(named.filter(|input| **input != Input::Nothing));
            }
            Operation::Copy(copy) => {
                inputs.push(&copy.from);
                inputs.extend(copy.fetched.iter().map(|fetched| &fetched.input));
            }
            Operation::Directory { .. } => {}
        }
        inputs
    }
}

fn solved(
    below: &Arc<Vec<Digest>>,
    layer: Option<Digest>,
    created: Timestamp,
    key: String,
) -> Solved {
    let layers = match &layer {
        None => below.clone(),
        Some(layer) => {
            let mut layers = below.to_vec();
            layers.push(layer.clone());
            Arc::new(layers)
        }
    };
    Solved {
        layers,
        layer,
        created,
        key,
    }
}

/// Ends a layer's writing: nothing was written, nothing is kept.
fn finish(
    written: Result<usize, StepError>,
    writer: Box<dyn hoist_image::LayerWriter>,
) -> Result<Option<Digest>, StepError> {
    match written {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(writer.finish(None)?.diff_id)),
        // A writer that refused a byte says why when it is asked to finish.
        Err(StepError::Copy(error)) if error.is_output() => match writer.finish(None) {
            Err(refused) => Err(refused.into()),
            Ok(_) => Err(error.into()),
        },
        Err(error) => Err(error),
    }
}

fn views(
    snapshotter: &dyn Snapshotter,
    inputs: &[Arc<Vec<Digest>>],
) -> Result<Vec<Root>, SnapshotError> {
    inputs
        .iter()
        .map(|layers| view(snapshotter, layers))
        .collect()
}

pub(crate) fn view(
    snapshotter: &dyn Snapshotter,
    layers: &[Digest],
) -> Result<Root, SnapshotError> {
    snapshotter.view(layers, Ids::Host).map(Root::new)
}

fn chained(layers: &[Digest]) -> String {
    let texts: Vec<String> = layers.iter().map(ToString::to_string).collect();
    texts.join(" ")
}

/// What was hashed, as keys are written.
pub(crate) fn key_of(hash: Sha256) -> String {
    Digest::from_sha256(&hash.finalize().into())
        .hex()
        .to_owned()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StepError> + Send + 'static,
) -> Result<T, StepError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StepError::Worker(io::Error::other(error).to_string())))
}
