//! Bringing images here, and from here: pull, push, import and load. Replies are streams of progress; an error before the first
//! line is an ordinary error reply, one after it travels in the stream.

use std::collections::HashMap;
use std::future::Future;
use std::io::Read;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use hoist_engine::images::Pushing;
use hoist_engine::ports::ProgressFn;
use hoist_image::LayerCompression;
use hoist_model::{Digest, ImageReference, LayerPhase, Platform, Progress};
use http::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::body_reader;
use crate::call::{Call, with_type};
use crate::error::{ApiError, Reply};
use crate::wire::credentials;
use crate::wire::progress::{Line, PullLines, import_lines, load_line, push_lines};

/// Lines that may wait for a slow client; further progress is dropped, never the result.
const BACKLOG: usize = 256;
/// The least time between two reports of one layer in one phase.
const PACE: Duration = Duration::from_millis(100);

/// The work: it ends with the lines that close the stream. It goes on while its client reads nothing, because others may wait for
/// what it holds, and ends when the client leaves.
type Work = Pin<Box<dyn Future<Output = Result<Vec<Line>, ApiError>> + Send>>;

type Lines = mpsc::Receiver<Line>;

/// `POST /images/create`: pull with `fromImage`, import with `fromSrc`.
pub(crate) async fn create(mut call: Call) -> Reply {
    let platform = call
        .query
        .nonempty("platform")
        .map(str::parse::<Platform>)
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    if call.query.nonempty("fromImage").is_some() {
        let (work, lines) = pull(&call, platform)?;
        return stream(work, lines).await;
    }
    match call.query.get("fromSrc") {
        Some("-") => {
            let body = std::mem::take(&mut call.body);
            import(call, platform, body, None).await
        }
        Some(url) if !url.is_empty() => {
            let (url, images) = (url.to_owned(), call.engine().images.clone());
            let fetched = images.fetch(&url).await?;
            let body = Body::from_stream(fetched.pieces);
            import(call, platform, body, Some((url, fetched.length))).await
        }
        _ => Err(ApiError::invalid("neither fromImage nor fromSrc is given")),
    }
}

fn pull(call: &Call, platform: Option<Platform>) -> Result<(Work, Lines), ApiError> {
    let name = call.query.get("fromImage").unwrap_or_default();
    let invalid = |error: hoist_model::InvalidReference| ApiError::invalid(error.to_string());
    let text = match call.query.nonempty("tag") {
        Some(digest) if digest.contains(':') => format!("{name}@{digest}"),
        Some(tag) => format!("{name}:{tag}"),
        // An old client's way to ask for all tags.
        None => name.strip_suffix(':').unwrap_or(name).to_owned(),
    };
    let reference = ImageReference::parse_exact(&text).map_err(invalid)?;
    let credentials = credentials::from_header(call.header("x-registry-auth"));
    let images = call.engine().images.clone();
    let mut pulling = PullLines::default();
    let (sink, lines) = sink(move |progress| pulling.report(progress));
    let work: Work = Box::pin(async move {
        let platform = platform.as_ref();
        let mut warning = None;
        // A name alone means all of its tags (moby `postImagesCreate`).
        let newer = match reference.tag().is_some() || reference.digest().is_some() {
            true => {
                let pulled = images.pull(&reference, platform, credentials, sink);
                let pulled = pulled.await?;
                // What is no index has nothing to choose from: it comes, and is said to be another than was asked for (moby
                // `PullImage`).
                let alone = pulled.image.manifest.as_ref() == Some(&pulled.digest);
                if let Some(platform) = platform.filter(|_| alone) {
                    let (name, wanted) = (reference.familiar(), platform.to_string());
                    let checked = super::images::check_platform(&name, &wanted, &pulled.image);
                    warning = checked.err();
                }
                pulled.newer
            }
            false => {
                let repository = reference.repository();
                let pulled = images.pull_all(repository, platform, credentials, sink);
                pulled.await?
            }
        };
        let outcome = if newer {
            "Downloaded newer image for"
        } else {
            "Image is up to date for"
        };
        // The digest was the last thing the source reported.
        let status = format!("Status: {outcome} {}", reference.familiar());
        let mut lines = vec![Line::status(status)];
        lines.extend(warning.map(|error| Line::status(format!("WARNING: {}", error.message))));
        Ok(lines)
    });
    Ok((work, lines))
}

/// `POST /images/{name}/push`: one tag, or, without `tag`, all of them.
pub(crate) async fn push(call: Call) -> Reply {
    let invalid = |error: hoist_model::InvalidReference| ApiError::invalid(error.to_string());
    let name = call.name();
    let images = call.engine().images.clone();
    let what = match call.query.nonempty("tag") {
        Some(tag) => {
            let named = ImageReference::parse(name).map_err(invalid)?;
            Pushing::Tag(named.with_tag(tag).map_err(invalid)?)
        }
        None => {
            let named = ImageReference::parse_exact(name).map_err(invalid)?;
            if named.digest().is_some() {
                return Err(ApiError::invalid("cannot push a digest reference"));
            }
            match named.tag() {
                Some(_) => Pushing::Tag(named),
                None => Pushing::AllTags(named.repository().clone()),
            }
        }
    };
    if let (Some(text), Pushing::Tag(reference)) = (call.query.nonempty("platform"), &what) {
        let record = images.resolve(&reference.to_string())?;
        super::images::check_platform(&reference.familiar(), text, &record)?;
    }
    let credentials = credentials::from_header(call.header("x-registry-auth"));
    // Ours alone: Docker's engine sends gzip and nothing else.
    let compression = match call.query.nonempty("compression") {
        None | Some("gzip") => LayerCompression::Gzip,
        Some("zstd") => LayerCompression::Zstd,
        Some(other) => {
            let text = format!("invalid compression {other:?}: it is gzip or zstd");
            return Err(ApiError::invalid(text));
        }
    };
    let (sink, lines) = sink(push_lines);
    let work: Work = Box::pin(async move {
        images.push(&what, compression, credentials, sink).await?;
        Ok(Vec::new())
    });
    stream(work, lines).await
}

/// Makes an image of a body, or of what came from a URL, of which the length may be known.
async fn import(
    call: Call,
    platform: Option<Platform>,
    body: Body,
    from: Option<(String, Option<u64>)>,
) -> Reply {
    let query = call.query.clone();
    let reference = query
        .nonempty("repo")
        .map(|repository| {
            let text = match query.nonempty("tag") {
                Some(tag) => format!("{repository}:{tag}"),
                None => repository.to_owned(),
            };
            ImageReference::parse(&text).map_err(|error| ApiError::invalid(error.to_string()))
        })
        .transpose()?;
    let changes: Vec<String> = query.all("changes").map(str::to_owned).collect();
    let images = call.engine().images.clone();
    let (reader, pump) = body_reader::bridge(body);
    let (report, lines) = sink(import_lines);
    let reader: Box<dyn Read + Send> = match from {
        None => reader,
        Some((url, total)) => {
            report(Progress::Message {
                subject: None,
                text: format!("Downloading from {url}"),
            });
            Box::new(Reported {
                reader,
                current: 0,
                total,
                at: Instant::now(),
                report,
            })
        }
    };
    let work: Work = Box::pin(async move {
        let message = query.get("message").unwrap_or_default();
        let imported = body_reader::feed(
            images.import(
                reader,
                reference.as_ref(),
                message,
                &changes,
                platform.as_ref(),
            ),
            pump,
        )
        .await?;
        Ok(vec![Line::status(imported.id.as_str())])
    });
    stream(work, lines).await
}

/// Tells how much of a file of the web was read.
struct Reported {
    reader: Box<dyn Read + Send>,
    current: u64,
    total: Option<u64>,
    /// When that was told last.
    at: Instant,
    report: ProgressFn,
}

impl Read for Reported {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.current += count as u64;
        let now = Instant::now();
        if count == 0 || now.duration_since(self.at) >= PACE {
            self.at = now;
            (self.report)(Progress::Importing {
                current: self.current,
                total: self.total,
            });
        }
        Ok(count)
    }
}

/// `POST /images/load`.
pub(crate) async fn load(call: Call) -> Reply {
    let quiet = call.query.boolean("quiet");
    let platforms = wanted_platforms(&call)?;
    let images = call.engine().images.clone();
    let (reader, pump) = body_reader::bridge(call.body);
    let (sink, lines) = sink(move |progress| {
        let line = load_line(progress).filter(|_| !quiet);
        line.into_iter().collect()
    });
    let work: Work = Box::pin(async move {
        let loaded = body_reader::feed(images.load(reader, platforms, sink), pump).await?;
        let mut lines = Vec::new();
        for (image, references) in loaded {
            if references.is_empty() {
                let text = format!("Loaded image ID: {}\n", image.id.as_str());
                lines.push(Line::stream(text));
            }
            for reference in references {
                lines.push(Line::stream(format!(
                    "Loaded image: {}\n",
                    reference.familiar()
                )));
            }
        }
        Ok(lines)
    });
    // Unlike the others: also what goes wrong at once travels in the stream (moby `postImagesLoad`).
    let mut streaming = Streaming::new(work, lines);
    let first = streaming.next().await;
    let first = first.map(|line| line.unwrap_or_else(|error| Line::failure(&error.message)));
    Ok(reply_of(first, streaming))
}

/// Of which platforms images are loaded; none is of any (API 1.48, several from 1.52 on).
fn wanted_platforms(call: &Call) -> Result<Vec<Platform>, ApiError> {
    let given = call.query.all("platform").filter(|text| !text.is_empty());
    let given: Vec<&str> = given.filter(|_| call.version.at_least(48)).collect();
    if given.len() > 1 && !call.version.at_least(52) {
        return Err(ApiError::invalid(
            "multiple platform parameters are not supported in this API version",
        ));
    }
    let platforms = given.into_iter().map(super::images::parse_platform);
    platforms.collect()
}

/// A progress sink and the lines it makes. Called from any thread; never waits.
fn sink(to_lines: impl FnMut(&Progress) -> Vec<Line> + Send + 'static) -> (ProgressFn, Lines) {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    // Held for one report: reports come from the threads of all layers.
    let state = Mutex::new((HashMap::new(), to_lines));
    let sink = move |progress: Progress| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let (pace, to_lines) = &mut *state;
        if let Progress::Layer { layer, phase } = &progress
            && !is_due(pace, layer, phase, Instant::now())
        {
            return;
        }
        for line in to_lines(&progress) {
            let _ = sender.try_send(line);
        }
    };
    (Arc::new(sink), receiver)
}

/// Whether a report is worth a line: a new phase, or enough time since the last one of the same.
fn is_due(
    pace: &mut HashMap<Digest, (std::mem::Discriminant<LayerPhase>, Instant)>,
    layer: &Digest,
    phase: &LayerPhase,
    now: Instant,
) -> bool {
    let kind = std::mem::discriminant(phase);
    let moving = matches!(
        phase,
        LayerPhase::Downloading { .. } | LayerPhase::Extracting { .. }
    );
    match pace.get(layer) {
        Some((last, at)) if *last == kind && moving && now.duration_since(*at) < PACE => false,
        _ => {
            pace.insert(layer.clone(), (kind, now));
            true
        }
    }
}

/// Where a streamed reply stands.
struct Streaming {
    work: Option<Going>,
    lines: Lines,
    last: std::vec::IntoIter<Line>,
}

impl Streaming {
    fn new(work: Work, lines: Lines) -> Self {
        Self {
            work: Some(Going(tokio::spawn(work.in_current_span()))),
            lines,
            last: Vec::new().into_iter(),
        }
    }

    /// The next line; `None` is the end. The work is dropped with this if the client leaves.
    async fn next(&mut self) -> Option<Result<Line, ApiError>> {
        loop {
            if let Some(line) = self.last.next() {
                return Some(Ok(line));
            }
            let Some(work) = &mut self.work else {
                return None;
            };
            tokio::select! {
                biased;
                Some(line) = self.lines.recv() => return Some(Ok(line)),
                result = &mut work.0 => {
                    self.work = None;
                    let broken = |error: tokio::task::JoinError| {
                        Err(ApiError::new(hoist_model::ErrorClass::Internal, error.to_string()))
                    };
                    let result = result.unwrap_or_else(broken);
                    // What was reported before the end comes before the end.
                    let mut last = Vec::new();
                    while let Ok(line) = self.lines.try_recv() {
                        last.push(line);
                    }
                    match result {
                        Ok(lines) => last.extend(lines),
                        Err(error) if last.is_empty() => return Some(Err(error)),
                        Err(error) => last.push(Line::failure(&error.message)),
                    }
                    self.last = last.into_iter();
                }
            }
        }
    }
}

/// Work on a task of its own, which is given up with this.
struct Going(JoinHandle<Result<Vec<Line>, ApiError>>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers once the first line or the end is there.
async fn stream(work: Work, lines: Lines) -> Reply {
    let mut streaming = Streaming::new(work, lines);
    let first = streaming.next().await.transpose()?;
    Ok(reply_of(first, streaming))
}

/// A reply of this line and those that follow.
fn reply_of(first: Option<Line>, streaming: Streaming) -> Response<Body> {
    let rest = futures_util::stream::unfold(streaming, |mut streaming| async move {
        let line = match streaming.next().await? {
            Ok(line) => line,
            Err(error) => Line::failure(&error.message),
        };
        Some((line.to_bytes(), streaming))
    });
    let first = first.map(|line| line.to_bytes());
    let body = futures_util::StreamExt::chain(futures_util::stream::iter(first), rest);
    let body = futures_util::StreamExt::map(body, Ok::<Bytes, std::convert::Infallible>);
    with_type("application/json", StatusCode::OK, Body::from_stream(body))
}
