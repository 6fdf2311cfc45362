//! What is told of a build while it goes on: vertexes (what people see as `#5 [2/3] RUN make`), how far they are, what they write.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bollard_buildkit_proto::google::protobuf::Timestamp;
use bollard_buildkit_proto::moby::buildkit::v1::{
    StatusResponse, Vertex, VertexLog, VertexStatus, VertexWarning,
};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use hoist_build::BuildEvent;
use hoist_build::dockerfile::{Dockerfile, Lines};
use hoist_build::plan::{Plan, StepId};
use hoist_build::ports::Stream;
use hoist_engine::clock;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// Bytes of output of one step; what comes after is left out, and said so (buildkit `util/progress/logs`).
const STEP_OUTPUT: usize = 2 << 20;
/// Bytes of output of one build that are kept for who has not read them.
const BUILD_OUTPUT: usize = 32 << 20;
/// Messages that are sent as one.
const BATCH: usize = 256;

/// What was told of a build, for any number of readers, from its beginning.
#[derive(Clone, Default)]
pub(crate) struct Log {
    /// Held for single additions.
    state: Arc<Mutex<State>>,
    /// Changes when there is more.
    more: Arc<watch::Sender<()>>,
}

#[derive(Default)]
struct State {
    told: Vec<Arc<StatusResponse>>,
    /// Bytes of output in it.
    output: usize,
    /// Vertexes there were, for their names to differ.
    vertexes: u64,
    closed: bool,
}

impl Log {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, response: StatusResponse) {
        self.state().told.push(Arc::new(response));
        self.more.send_replace(());
    }

    /// Nothing more comes.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.more.send_replace(());
    }

    /// Warns of something.
    pub(crate) fn warn(&self, warning: VertexWarning) {
        self.tell(StatusResponse {
            warnings: vec![warning],
            ..StatusResponse::default()
        });
    }

    /// All that was told and will be.
    pub(crate) fn read(&self) -> BoxStream<'static, StatusResponse> {
        let state = (self.clone(), self.more.subscribe(), 0);
        let read = stream::unfold(state, |(log, mut more, mut at)| async move {
            loop {
                more.mark_unchanged();
                let (batch, closed) = {
                    let state = log.state();
                    let end = state.told.len().min(at + BATCH);
                    (state.told[at..end].to_vec(), state.closed)
                };
                if !batch.is_empty() {
                    at += batch.len();
                    return Some((joined(&batch), (log, more, at)));
                }
                if closed {
                    return None;
                }
                more.changed().await.ok()?;
            }
        });
        read.boxed()
    }

    /// Begins something that is told of.
    pub(crate) fn begin(&self, name: &str) -> Shown {
        let shown = self.announce(name, Vec::new());
        shown.started();
        shown
    }

    /// Names something that will begin.
    fn announce(&self, name: &str, inputs: Vec<String>) -> Shown {
        let number = {
            let mut state = self.state();
            state.vertexes += 1;
            state.vertexes
        };
        let hash = Sha256::digest(format!("{number} {name}"));
        let digest = hash.iter().map(|byte| format!("{byte:02x}"));
        let vertex = Vertex {
            digest: format!("sha256:{}", digest.collect::<String>()),
            name: name.to_owned(),
            inputs,
            ..Vertex::default()
        };
        Shown {
            log: self.clone(),
            state: Arc::new(Mutex::new(ShownState { vertex, output: 0 })),
        }
    }
}

fn joined(batch: &[Arc<StatusResponse>]) -> StatusResponse {
    let mut whole = StatusResponse::default();
    for part in batch {
        whole.vertexes.extend(part.vertexes.iter().cloned());
        whole.statuses.extend(part.statuses.iter().cloned());
        whole.logs.extend(part.logs.iter().cloned());
        whole.warnings.extend(part.warnings.iter().cloned());
    }
    whole
}

/// Something that is told of.
#[derive(Clone)]
pub(crate) struct Shown {
    log: Log,
    /// Held for single changes.
    state: Arc<Mutex<ShownState>>,
}

struct ShownState {
    vertex: Vertex,
    /// Bytes it has written.
    output: usize,
}

impl Shown {
    fn state(&self) -> MutexGuard<'_, ShownState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Vertex)) {
        let vertex = {
            let mut state = self.state();
            change(&mut state.vertex);
            state.vertex.clone()
        };
        self.log.tell(StatusResponse {
            vertexes: vec![vertex],
            ..StatusResponse::default()
        });
    }

    fn started(&self) {
        self.change(|vertex| vertex.started = Some(now()));
    }

    fn done(&self, cached: bool) {
        self.change(|vertex| {
            vertex.started.get_or_insert_with(now);
            vertex.completed = Some(now());
            vertex.cached = cached;
        });
    }

    /// It came to its end: well, or with these words.
    pub(crate) fn ended<E: std::fmt::Display>(&self, error: Option<E>) {
        self.change(|vertex| {
            vertex.started.get_or_insert_with(now);
            vertex.completed = Some(now());
            vertex.error = error.map(|error| error.to_string()).unwrap_or_default();
        });
    }

    fn digest(&self) -> String {
        self.state().vertex.digest.clone()
    }

    /// Tells how far a part of it is, in bytes; `done` is its end.
    pub(crate) fn progress(&self, part: &str, current: u64, done: bool) {
        let (vertex, started) = {
            let state = self.state();
            (state.vertex.digest.clone(), state.vertex.started)
        };
        self.log.tell(StatusResponse {
            statuses: vec![VertexStatus {
                id: part.to_owned(),
                name: part.to_owned(),
                vertex,
                current: i64::try_from(current).unwrap_or(i64::MAX),
                timestamp: Some(now()),
                started,
                completed: done.then(now),
                ..VertexStatus::default()
            }],
            ..StatusResponse::default()
        });
    }

    /// Tells what it writes: 1 is its output, 2 its errors.
    pub(crate) fn wrote(&self, stream: i64, bytes: Vec<u8>) {
        let (vertex, before) = {
            let mut state = self.state();
            let before = state.output;
            state.output += bytes.len();
            (state.vertex.digest.clone(), before)
        };
        if before > STEP_OUTPUT {
            return;
        }
        let mut msg = bytes;
        let full = {
            let mut state = self.log.state();
            state.output += msg.len();
            state.output > BUILD_OUTPUT
        };
        if full || before + msg.len() > STEP_OUTPUT {
            self.state().output = STEP_OUTPUT + 1;
            msg.truncate(STEP_OUTPUT - before);
            msg.extend_from_slice(b"\n[output clipped, log limit 2MiB reached]\n");
        }
        self.log.tell(StatusResponse {
            logs: vec![VertexLog {
                vertex,
                timestamp: Some(now()),
                stream,
                msg,
            }],
            ..StatusResponse::default()
        });
    }
}

fn now() -> Timestamp {
    timestamp(clock::now())
}

/// A time as it travels.
pub(crate) fn timestamp(time: hoist_model::Timestamp) -> Timestamp {
    let nanos = time.as_nanos();
    Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
}

/// A build of a Dockerfile as it is told of.
pub(crate) struct Steps {
    log: Log,
    /// Of its stages, in order: their names.
    stages: Vec<Option<String>>,
    /// While base images are looked for.
    bases: Option<Shown>,
    by_step: HashMap<StepId, Vec<Shown>>,
    by_lines: BTreeMap<Lines, Shown>,
}

impl Steps {
    pub(crate) fn of(log: &Log, dockerfile: &str) -> Self {
        let file = Dockerfile::parse(dockerfile);
        let stages = file.map(|file| file.stages.into_iter().map(|stage| stage.name).collect());
        Self {
            log: log.clone(),
            stages: stages.unwrap_or_default(),
            bases: None,
            by_step: HashMap::new(),
            by_lines: BTreeMap::new(),
        }
    }

    /// Takes what the builder tells.
    pub(crate) fn on(&mut self, event: BuildEvent) {
        match event {
            BuildEvent::Pulling(text) => {
                let log = &self.log;
                let bases = self
                    .bases
                    .get_or_insert_with(|| log.begin("[internal] load base images"));
                bases.wrote(1, text.into_bytes());
            }
            BuildEvent::Planned(plan) => {
                if let Some(bases) = self.bases.take() {
                    bases.done(false);
                }
                self.planned(&plan);
            }
            BuildEvent::Began(step, _) => self.each(step, Shown::started),
            BuildEvent::Wrote(step, stream, bytes) => {
                let stream = match stream {
                    Stream::Output => 1,
                    Stream::Error => 2,
                };
                if let Some(shown) = self.by_step.get(&step).and_then(|all| all.first()) {
                    shown.wrote(stream, bytes);
                }
            }
            BuildEvent::Done { step, cached, .. } => self.each(step, |shown| shown.done(cached)),
        }
    }

    fn each(&self, step: StepId, tell: impl Fn(&Shown)) {
        for shown in self.by_step.get(&step).into_iter().flatten() {
            tell(shown);
        }
    }

    /// Where the build failed, if at an instruction.
    pub(crate) fn failed(&mut self, lines: Option<Lines>, error: &str) {
        let shown = lines.and_then(|lines| self.by_lines.get(&lines)).cloned();
        if let Some(shown) = shown.or_else(|| self.bases.take()) {
            shown.ended(Some(error));
        }
    }

    fn planned(&mut self, plan: &Plan) {
        let tells = |told: &&hoist_build::plan::Told| told.step.is_some() || told.base.is_some();
        let mut totals: HashMap<usize, usize> = HashMap::new();
        for told in plan.told.iter().filter(tells) {
            *totals.entry(told.stage).or_default() += 1;
        }
        let mut numbers: HashMap<usize, usize> = HashMap::new();
        let mut before: HashMap<usize, String> = HashMap::new();
        for told in plan.told.iter().filter(tells) {
            let number = numbers.entry(told.stage).or_default();
            *number += 1;
            let total = totals[&told.stage];
            let stage = if self.stages.len() > 1 {
                let name = self.stages.get(told.stage).cloned().flatten();
                format!(
                    "{} ",
                    name.unwrap_or_else(|| format!("stage-{}", told.stage))
                )
            } else {
                String::new()
            };
            let name = format!("[{stage}{number}/{total}] {}", told.text);
            let inputs = before.get(&told.stage).cloned().into_iter().collect();
            let shown = self.log.announce(&name, inputs);
            before.insert(told.stage, shown.digest());
            match told.step {
                Some(step) => {
                    shown.change(|_| {});
                    self.by_step.entry(step).or_default().push(shown.clone());
                }
                None => shown.done(false),
            }
            self.by_lines.insert(told.lines, shown);
        }
    }
}
