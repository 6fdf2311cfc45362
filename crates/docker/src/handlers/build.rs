//! `POST /build` (API 1.55 `ImageBuild`): the classic builder's endpoint, by which the stock client builds without buildx. The stream is
//! the classic builder's; the Dockerfile may be of today.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use bytes::Bytes;
use hoist_build::plan::{Base, BaseName, BuildNetwork, MAIN_CONTEXT, PlanOptions};
use hoist_build::ports::{BaseImages, BoxFuture, OutputFn, PortError, Stream, Surroundings};
use hoist_build::{
    BuildError, BuildEvent, BuildRequest, EventFn, LegacyLine, LegacyLines, Secrets,
};
use hoist_engine::images::Images;
use hoist_engine::ports::Credentials;
use hoist_image::decompress::Decompressor;
use hoist_image::files::Root;
use hoist_image::{CompleteTar, Ids, Snapshotter};
use hoist_model::container::{Resources, Ulimit};
use hoist_model::{Digest, ErrorClass, ImageReference, Platform, Progress, chain};
use http::StatusCode;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::body_reader;
use crate::call::{Call, with_type};
use crate::error::{ApiError, Reply};
use crate::query::Query;
use crate::wire::credentials;
use crate::wire::progress::Line;

/// Bytes of a Dockerfile; the largest real ones have some thousand lines.
const DOCKERFILE_LIMIT: u64 = 8 << 20;
/// Bytes of a context when it is unpacked.
const CONTEXT_LIMIT: u64 = 1 << 40;
/// Bytes of output that may wait for a client who does not read; more is left out, and said so.
const OUTPUT_LIMIT: usize = 16 << 20;

/// `POST /build`.
pub(crate) async fn build(call: Call) -> Reply {
    refuse_missing(&call.query)?;
    let request = request(&call)?;
    let logins = logins(call.header("x-registry-config"))?;
    let dockerfile = call.query.nonempty("dockerfile").map(str::to_owned);
    let (pull, quiet) = (call.query.boolean("pull"), call.query.boolean("q"));
    let images = call.engine().images.clone();
    let builder = call.builder().clone();
    let (reader, pump) = body_reader::bridge(call.body);
    let intake = images.intake().await;
    let (_, snapshotter) = images.stores();
    let read =
        tokio::task::spawn_blocking(move || context(reader, dockerfile, snapshotter.as_ref()));
    let read = body_reader::feed(read, pump).await;
    let (context, dockerfile) =
        read.map_err(|error| ApiError::new(ErrorClass::Internal, error.to_string()))??;
    let request = BuildRequest {
        dockerfile: dockerfile.clone(),
        contexts: BTreeMap::from([(MAIN_CONTEXT.to_owned(), vec![context])]),
        pull,
        ..request
    };
    let tags = request.tags.clone();
    let bases = Arc::new(Bases {
        images: images.clone(),
        logins,
    });
    let (events, lines) = lines(quiet);
    let work = async move {
        let built = builder.build(request, bases, events).await;
        let built = match built {
            Ok(built) => {
                let adopted = images.adopt_built(&built, intake).await;
                adopted.map_err(|error| ApiError::from(error).into())
            }
            Err(error) => {
                drop(intake);
                Err(failure(&error, &dockerfile))
            }
        };
        // The context, and what a failed step left, are nobody's.
        images.collect_soon();
        built.map(|image| image.id.clone())
    };
    stream(work, lines, tags, quiet).await
}

/// What is asked for that there is not.
fn refuse_missing(query: &Query) -> Result<(), ApiError> {
    if query.nonempty("remote").is_some() {
        return Err(ApiError::missing(
            "building from an address is not implemented yet",
        ));
    }
    for (name, what) in [("squash", "squashing layers"), ("outputs", "build outputs")] {
        let asked = match name {
            "squash" => query.boolean(name),
            _ => query
                .nonempty(name)
                .is_some_and(|text| !matches!(text, "[]" | "null")),
        };
        if asked {
            return Err(ApiError::missing(format!("{what} is not implemented yet")));
        }
    }
    Ok(())
}

fn request(call: &Call) -> Result<BuildRequest, ApiError> {
    let query = &call.query;
    let platform = query.nonempty("platform").map(str::parse::<Platform>);
    let platform = platform
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let mut tags = Vec::new();
    for text in query.all("t").filter(|text| !text.is_empty()) {
        let reference = ImageReference::parse(text);
        tags.push(reference.map_err(|error| ApiError::invalid(error.to_string()))?);
    }
    let arguments: BTreeMap<String, Option<String>> = json(query, "buildargs")?;
    let network = match query.get("networkmode").unwrap_or_default() {
        "" | "default" | "bridge" => BuildNetwork::Default,
        "none" => BuildNetwork::None,
        "host" => BuildNetwork::Host,
        other => BuildNetwork::Named(other.to_owned()),
    };
    let number = |name| Ok::<_, ApiError>(query.number(name)?.unwrap_or(0));
    let ulimits: Vec<WireUlimit> = json(query, "ulimits")?;
    let resources = Resources {
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: query.get("cpusetcpus").unwrap_or_default().to_owned(),
        cpuset_mems: query.get("cpusetmems").unwrap_or_default().to_owned(),
        ulimits: ulimits.into_iter().map(Into::into).collect(),
        ..Resources::default()
    };
    Ok(BuildRequest {
        options: PlanOptions {
            target: query.nonempty("target").map(str::to_owned),
            arguments,
            labels: json(query, "labels")?,
            platform: platform.unwrap_or_else(Platform::host),
            network,
            ..PlanOptions::default()
        },
        no_cache: query.boolean("nocache"),
        tags,
        surroundings: Surroundings {
            extra_hosts: extra_hosts(query),
            shm_size: number("shmsize")?,
            resources,
            cgroup_parent: query.get("cgroupparent").unwrap_or_default().to_owned(),
        },
        secrets: Secrets::default(),
        ..BuildRequest::default()
    })
}

/// `name:address`, once for each, or all of them with commas between.
fn extra_hosts(query: &Query) -> Vec<String> {
    let given = query.all("extrahosts").flat_map(|text| text.split(','));
    let given = given.filter(|text| !text.is_empty());
    given.map(str::to_owned).collect()
}

/// A parameter that is JSON; absent, empty and `null` are the default.
fn json<T: for<'d> Deserialize<'d> + Default>(query: &Query, name: &str) -> Result<T, ApiError> {
    match query.nonempty(name) {
        None => Ok(T::default()),
        Some(text) => serde_json::from_str::<Option<T>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|error| ApiError::invalid(format!("invalid {name}: {error}"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireUlimit {
    name: String,
    soft: i64,
    hard: i64,
}

impl From<WireUlimit> for Ulimit {
    fn from(wire: WireUlimit) -> Self {
        Self {
            name: wire.name,
            soft: wire.soft,
            hard: wire.hard,
        }
    }
}

/// `X-Registry-Config`: what to log in with, by registry.
fn logins(header: Option<&str>) -> Result<HashMap<String, Credentials>, ApiError> {
    let given = header.filter(|text| !text.trim().is_empty());
    credentials::by_registry(given)
        .ok_or_else(|| ApiError::invalid("invalid X-Registry-Config header"))
}

/// Keeps a context as a layer, which is looked at as layers are, and reads the Dockerfile in it. Blocking.
fn context(
    body: Box<dyn Read + Send>,
    dockerfile: Option<String>,
    snapshotter: &dyn Snapshotter,
) -> Result<(Digest, String), ApiError> {
    let unreadable = |error: &(dyn std::error::Error + 'static)| {
        ApiError::invalid(format!("reading the build context: {}", chain(error)))
    };
    let body = Decompressor::new(body, CONTEXT_LIMIT).map_err(|error| unreadable(&error))?;
    let mut body = CompleteTar::new(body);
    let failed = |error: hoist_image::LayerError| {
        ApiError::new(error.class(), format!("build context: {}", chain(&error)))
    };
    let mut writer = snapshotter.layer_writer().map_err(failed)?;
    if let Err(error) = std::io::copy(&mut body, &mut writer) {
        // A writer that refused what it was given says why when it is asked to finish.
        return Err(match writer.finish(None) {
            Err(refused) => failed(refused),
            Ok(_) => unreadable(&error),
        });
    }
    let layer = writer.finish(None).map_err(failed)?.diff_id;
    let root = snapshotter.view(std::slice::from_ref(&layer), Ids::Host);
    let root = root.map_err(|error| ApiError::new(error.class(), chain(&error)))?;
    let root = Root::new(root);
    let name = dockerfile.as_deref().unwrap_or("Dockerfile");
    let text = match root.read(name, DOCKERFILE_LIMIT) {
        // As Docker: where nobody named one, the other case is looked for.
        Err(_) if dockerfile.is_none() => root.read("dockerfile", DOCKERFILE_LIMIT),
        result => result,
    };
    let text = text.map_err(|error| match error {
        hoist_image::files::FilesError::NotFound(_) => {
            ApiError::invalid(format!("Cannot locate specified Dockerfile: {name}"))
        }
        error => ApiError::new(error.class(), chain(&error)),
    })?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::invalid(format!(
            "the Dockerfile ({name}) cannot be empty"
        )));
    }
    let text = String::from_utf8(text)
        .map_err(|_| ApiError::invalid(format!("the Dockerfile ({name}) is not UTF-8")))?;
    Ok((layer, text))
}

/// Why there is no image, and the code of the program that failed.
struct Failure {
    error: ApiError,
    exit_code: Option<i32>,
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            exit_code: None,
        }
    }
}

/// An error with the lines of the Dockerfile that are to blame.
fn failure(error: &BuildError, dockerfile: &str) -> Failure {
    let mut message = chain(error);
    if let Some(lines) = error.lines() {
        let excerpt = hoist_build::dockerfile::excerpt(dockerfile, lines);
        message = format!("{message}\n{}", excerpt.trim_end());
    }
    Failure {
        exit_code: error.exit_code(),
        error: ApiError::new(error.class(), message),
    }
}

/// Base images: those that are here, and those of registries.
struct Bases {
    images: Images,
    logins: HashMap<String, Credentials>,
}

impl BaseImages for Bases {
    fn find<'a>(
        &'a self,
        name: &'a BaseName,
        pull: bool,
        output: OutputFn,
    ) -> BoxFuture<'a, Result<Base, PortError>> {
        Box::pin(async move {
            let refused = |message: String, class| PortError { message, class };
            let platform = name.platform.parse::<Platform>();
            let platform = platform
                .map_err(|error| refused(error.to_string(), ErrorClass::InvalidArgument))?;
            let here = self.images.resolve(&name.reference).ok();
            let mut record = here.filter(|record| !pull && record.platform.satisfies(&platform));
            if record.is_none() {
                let reference = ImageReference::parse(&name.reference);
                let reference = reference
                    .map_err(|error| refused(error.to_string(), ErrorClass::InvalidArgument))?;
                let login = self.logins.get(reference.repository().host()).cloned();
                let sink = Arc::new(move |progress: Progress| {
                    if let Progress::Message {
                        subject: None,
                        text,
                    } = progress
                    {
                        output(Stream::Output, format!("{text}\n").as_bytes());
                    }
                });
                let pulled = self
                    .images
                    .pull(&reference, Some(&platform), login, sink)
                    .await;
                let pulled = pulled.map_err(|error| refused(chain(&error), error.class()))?;
                record = Some(pulled.image);
            }
            let record = record.expect("it was here or was pulled");
            let config = self.images.config(&record.id);
            let config = config.map_err(|error| refused(chain(&error), error.class()))?;
            Ok(Base {
                id: record.id.to_string(),
                config: (*config).clone(),
                layers: record.layers.clone(),
            })
        })
    }
}

type Lines = mpsc::UnboundedReceiver<(Line, usize)>;

/// Takes a build's events and makes lines of them. What a program writes is not waited with: beyond a limit it is left out.
fn lines(quiet: bool) -> (EventFn, (Lines, Arc<AtomicUsize>)) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let held = waiting.clone();
    // Held for one event: events come from the tasks of all steps.
    let legacy = Mutex::new((LegacyLines::default(), false));
    let events = move |event: BuildEvent| {
        let mut legacy = legacy.lock().unwrap_or_else(PoisonError::into_inner);
        let (legacy, clipped) = &mut *legacy;
        for line in legacy.on(event) {
            let (LegacyLine::Text(text) | LegacyLine::Error(text)) = line;
            let size = text.len();
            if quiet {
                continue;
            }
            if held.load(Ordering::Relaxed) + size > OUTPUT_LIMIT {
                if !std::mem::replace(clipped, true) {
                    let said = "[output clipped: it is not read fast enough]\n";
                    let _ = sender.send((Line::stream(said), 0));
                }
                continue;
            }
            *clipped = false;
            held.fetch_add(size, Ordering::Relaxed);
            let _ = sender.send((Line::stream(text), size));
        }
    };
    (Arc::new(events), (receiver, waiting))
}

/// Answers once the first line or the end is there; the build is dropped, and ends, if the client leaves.
async fn stream(
    work: impl Future<Output = Result<Digest, Failure>> + Send + 'static,
    (mut lines, waiting): (Lines, Arc<AtomicUsize>),
    tags: Vec<ImageReference>,
    quiet: bool,
) -> Reply {
    let mut work = Box::pin(work);
    let first = tokio::select! {
        biased;
        Some((line, size)) = lines.recv() => {
            waiting.fetch_sub(size, Ordering::Relaxed);
            vec![line]
        }
        result = &mut work => {
            // What was said before the end comes before it.
            let mut said = Vec::new();
            while let Ok((line, _)) = lines.try_recv() {
                said.push(line);
            }
            match result {
                Err(failure) if said.is_empty() => return Err(failure.error),
                result => said.extend(ending(result, &tags, quiet)),
            }
            let body = said.iter().map(Line::to_bytes).collect::<Vec<_>>().concat();
            return Ok(with_type("application/json", StatusCode::OK, Body::from(body)));
        }
    };
    let state = (Some(work), lines, first.into_iter(), (waiting, tags, quiet));
    let body = futures_util::stream::unfold(state, |state| async move {
        let (mut work, mut lines, mut ready, about) = state;
        loop {
            if let Some(line) = ready.next() {
                return Some((line.to_bytes(), (work, lines, ready, about)));
            }
            let running = work.as_mut()?;
            tokio::select! {
                biased;
                Some((line, size)) = lines.recv() => {
                    about.0.fetch_sub(size, Ordering::Relaxed);
                    ready = vec![line].into_iter();
                }
                result = running => {
                    work = None;
                    let mut last = Vec::new();
                    while let Ok((line, _)) = lines.try_recv() {
                        last.push(line);
                    }
                    last.extend(ending(result, &about.1, about.2));
                    ready = last.into_iter();
                }
            }
        }
    });
    let body = futures_util::StreamExt::map(body, Ok::<Bytes, std::convert::Infallible>);
    Ok(with_type(
        "application/json",
        StatusCode::OK,
        Body::from_stream(body),
    ))
}

fn ending(result: Result<Digest, Failure>, tags: &[ImageReference], quiet: bool) -> Vec<Line> {
    match result {
        Err(error) => vec![Line::failure_with_code(
            &error.error.message,
            error.exit_code,
        )],
        Ok(id) if quiet => vec![Line::stream(format!("{id}\n"))],
        Ok(id) => {
            let short: String = id
                .to_string()
                .chars()
                .skip("sha256:".len())
                .take(12)
                .collect();
            let mut lines = vec![
                Line::built(id),
                Line::stream(format!("Successfully built {short}\n")),
            ];
            lines.extend(
                tags.iter()
                    .map(|tag| Line::stream(format!("Successfully tagged {}\n", tag.familiar()))),
            );
            lines
        }
    }
}
