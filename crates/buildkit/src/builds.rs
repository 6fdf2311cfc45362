//! Builds under way, by the name that their client gave them.
//!
//! ```text
//!  Control.Solve(ref) ─▶ begin ─▶ Build ◀─ find(ref) ── Control.Status, LLBBridge.*
//!       └─ Running: when it is dropped, the build is over: its log is closed, what goes on for it ends, its results go
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard_buildkit_proto::moby::buildkit::v1::frontend;
use hoist_build::{CacheExport, RemoteCache};
use hoist_engine::images::Intake;
use hoist_image::StoredImage;
use hoist_model::Digest;
use tokio::sync::{OnceCell, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::caches::CacheTerms;
use crate::status::Log;

/// How long somebody waits for a build that is named: its requests come at once, in any order.
const PATIENCE: Duration = Duration::from_secs(20);
/// Builds that are over whose log can still be read: the request for it may come late.
const REMEMBERED: usize = 16;
/// Builds at a time.
const LIMIT: usize = 500;
/// Results of one build that nobody has taken.
const RESULTS: usize = 64;

/// All of them.
#[derive(Clone, Default)]
pub(crate) struct Builds {
    /// Held for single look-ups.
    state: Arc<Mutex<State>>,
    came: Arc<watch::Sender<()>>,
}

#[derive(Default)]
struct State {
    builds: HashMap<String, Arc<Build>>,
    over: VecDeque<String>,
}

/// One of them.
pub(crate) struct Build {
    /// The session of who builds; empty if it has none.
    pub(crate) session: String,
    /// What its client says of caches elsewhere, and those that were read.
    pub(crate) caches: CacheTerms,
    pub(crate) imported: OnceCell<Vec<Arc<RemoteCache>>>,
    /// What is told of it.
    pub(crate) log: Log,
    /// When it is over, or to be.
    pub(crate) over: CancellationToken,
    /// Takes what the gateway's client returns. Held for single look-ups.
    returned: Mutex<Option<oneshot::Sender<Returned>>>,
    /// What was built and not yet returned, by its name. Held for single look-ups.
    results: Mutex<Results>,
}

#[derive(Default)]
struct Results {
    last: u64,
    by_id: HashMap<String, Built>,
}

/// What a gateway's client returns: a result, or why there is none.
pub(crate) type Returned = Result<frontend::Result, Status>;

/// An image whose parts are stored and that nobody has taken note of.
pub(crate) struct Built {
    pub(crate) image: StoredImage,
    /// What caches elsewhere may be told of it.
    pub(crate) cache: CacheExport,
    /// Keeps its parts from being collected.
    pub(crate) intake: Intake,
}

/// A build goes on for as long as this is there.
pub(crate) struct Running {
    builds: Builds,
    name: String,
    build: Arc<Build>,
}

impl Builds {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a build; the receiver hears what the gateway's client returns.
    pub(crate) fn begin(
        &self,
        name: &str,
        session: &str,
        caches: CacheTerms,
    ) -> Result<(Running, oneshot::Receiver<Returned>), Status> {
        if name.is_empty() {
            return Err(Status::invalid_argument("a build needs a ref"));
        }
        let (sender, receiver) = oneshot::channel();
        let build = Arc::new(Build {
            session: session.to_owned(),
            caches,
            imported: OnceCell::new(),
            log: Log::default(),
            over: CancellationToken::new(),
            returned: Mutex::new(Some(sender)),
            results: Mutex::default(),
        });
        {
            let mut state = self.state();
            if state.builds.len() >= LIMIT + REMEMBERED {
                return Err(Status::resource_exhausted(format!(
                    "there are {LIMIT} builds under way"
                )));
            }
            if let Some(known) = state.builds.get(name) {
                if !known.over.is_cancelled() {
                    return Err(Status::already_exists(format!("there is a build {name:?}")));
                }
                state.over.retain(|over| over != name);
            }
            state.builds.insert(name.to_owned(), build.clone());
        }
        self.came.send_replace(());
        let running = Running {
            builds: self.clone(),
            name: name.to_owned(),
            build,
        };
        Ok((running, receiver))
    }

    /// The build of this name, which may be about to come.
    pub(crate) async fn find(&self, name: &str) -> Result<Arc<Build>, Status> {
        let mut came = self.came.subscribe();
        let wait = async {
            loop {
                came.mark_unchanged();
                let known = self.state().builds.get(name).cloned();
                if known.is_some() {
                    return known;
                }
                came.changed().await.ok()?;
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await.ok().flatten();
        found.ok_or_else(|| Status::not_found(format!("no such job {name}")))
    }
}

impl Builds {
    /// What a build under way came to that nobody has taken: an image, by its id.
    pub(crate) fn result(&self, id: &Digest) -> Option<StoredImage> {
        let builds: Vec<_> = self.state().builds.values().cloned().collect();
        builds.iter().find_map(|build| {
            let results = build.results();
            let mut images = results.by_id.values().map(|built| &built.image);
            images
                .find(|image| image.id.as_str() == id.as_str())
                .cloned()
        })
    }
}

impl Running {
    pub(crate) fn build(&self) -> &Arc<Build> {
        &self.build
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.build.over.cancel();
        self.build.log.close();
        self.build.results().by_id.clear();
        let mut state = self.builds.state();
        state.over.push_back(std::mem::take(&mut self.name));
        if state.over.len() > REMEMBERED
            && let Some(oldest) = state.over.pop_front()
        {
            state.builds.remove(&oldest);
        }
    }
}

impl Build {
    fn results(&self) -> MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a result until somebody takes it; answers its name.
    pub(crate) fn keep(&self, built: Built) -> Result<String, Status> {
        let mut results = self.results();
        if self.over.is_cancelled() {
            return Err(Status::cancelled("the build is over"));
        }
        if results.by_id.len() >= RESULTS {
            return Err(Status::resource_exhausted(format!(
                "a build has at most {RESULTS} results that nobody takes"
            )));
        }
        results.last += 1;
        let name = format!("result-{}", results.last);
        results.by_id.insert(name.clone(), built);
        Ok(name)
    }

    /// Takes a result.
    pub(crate) fn take(&self, name: &str) -> Option<Built> {
        self.results().by_id.remove(name)
    }

    /// Looks at a result.
    pub(crate) fn image(&self, name: &str) -> Option<StoredImage> {
        let results = self.results();
        results.by_id.get(name).map(|built| built.image.clone())
    }

    /// What the gateway's client made of it. Only the first says so.
    pub(crate) fn returns(&self, what: Returned) -> Result<(), Status> {
        let returned = self.returned.lock();
        let sender = returned.unwrap_or_else(PoisonError::into_inner).take();
        let sender = sender.ok_or_else(|| Status::failed_precondition("it has returned before"))?;
        sender
            .send(what)
            .map_err(|_| Status::cancelled("the build is over"))
    }
}
