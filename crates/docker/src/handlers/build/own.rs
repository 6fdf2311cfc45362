//! Builds by Hoist's own client: `POST /hoist/build`, and the contexts that it puts here and need not put here again.
//!
//! Why not `POST /build`: secrets and the text of a Dockerfile have no place in an address, several contexts none in one body, and a
//! context that is here already need not be sent. The answer tells of steps as they are, side by side.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Body;
use bytes::Bytes;
use hoist_build::plan::{MAIN_CONTEXT, StepId};
use hoist_build::ports::{CacheStore, PortError, Stream};
use hoist_build::{
    BuildEvent, BuildRequest, Builder, CacheExport, ContextName, EventFn, Finished, RemoteCache,
    outline,
};
use hoist_buildkit::{Bases, BuildKit, CacheAccess, CachePlace, CacheTerms};
use hoist_engine::images::{Images, Intake};
use hoist_engine::ports::Credentials;
use hoist_image::Snapshotter;
use hoist_model::build::{Failed, Planned, Report};
use hoist_model::{Digest, ErrorClass, chain};
use http::StatusCode;

use super::named::NamedContexts;
use super::outputs::{self, Deliver, Outputs};
use super::perform::NoImage;
use super::pipe::{Sayer, pipe};
use super::{body_reader, context, logins, remote};
use crate::call::{Call, empty, with_type};
use crate::error::{ApiError, Reply};
use crate::wire::build::{BuildBody, ContextBody, line};

/// `HEAD /hoist/build/contexts/{slot}?key=`: 204 if the context is here in this state, else 404.
pub(crate) async fn has_context(call: Call) -> Reply {
    let name = context_name(&call)?;
    match call.builder().kept_context(&name) {
        Some(_) => Ok(empty(StatusCode::NO_CONTENT)),
        None => Err(unknown(&name)),
    }
}

/// `PUT /hoist/build/contexts/{slot}?key=&about=`: keeps a tar as the context of this state.
pub(crate) async fn put_context(call: Call) -> Reply {
    let name = context_name(&call)?;
    let about = call.query.get("about").unwrap_or_default();
    let about: String = about.chars().take(256).collect();
    let images = call.engine().images.clone();
    let builder = call.builder().clone();
    let (reader, pump) = body_reader::bridge(call.body);
    let intake = images.intake().await;
    let (_, snapshotter) = images.stores();
    let keep = tokio::task::spawn_blocking(move || context::keep(reader, snapshotter.as_ref()));
    let kept = body_reader::feed(keep, pump).await;
    let layer = kept.map_err(|error| ApiError::new(ErrorClass::Internal, error.to_string()))??;
    let about = match about.as_str() {
        "" => "context".to_owned(),
        about => format!("context {about}"),
    };
    builder.keep_sent(name, layer, about).await;
    intake.finish();
    // What the slot held before.
    images.collect_soon();
    Ok(empty(StatusCode::CREATED))
}

fn context_name(call: &Call) -> Result<ContextName, ApiError> {
    let name = ContextName {
        slot: call.name().to_owned(),
        key: call.query.get("key").unwrap_or_default().to_owned(),
    };
    for (what, text) in [("context", &name.slot), ("key", &name.key)] {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ApiError::invalid(format!(
                "invalid {what} {text:?}: expected 64 hexadecimal digits"
            )));
        }
    }
    Ok(name)
}

fn unknown(name: &ContextName) -> ApiError {
    ApiError::new(
        ErrorClass::NotFound,
        format!("no build context {} in state {}", name.slot, name.key),
    )
}

/// `POST /hoist/build`.
pub(crate) async fn build(mut call: Call) -> Reply {
    let begun = Instant::now();
    let mut body: BuildBody = call.json().await?;
    let logins = logins(call.header("x-registry-config"))?;
    let images = call.engine().images.clone();
    let builder = call.builder().clone();
    let mut request = body.request()?;
    let caches = body.caches()?;
    let outputs = outputs::read(&body.outputs, &request.tags)?;
    let intake = images.intake().await;
    let given = std::mem::take(&mut body.contexts);
    let (contexts, alone) = contexts(&builder, images.stores().1, given).await?;
    request.contexts = contexts;
    let name = body.dockerfile_name.take();
    let shown = name.clone().unwrap_or_else(|| "Dockerfile".to_owned());
    request.dockerfile = match body.dockerfile.take().or(alone) {
        Some(text) => {
            context::not_empty(&text, &shown)?;
            text
        }
        None => {
            let main = request.contexts.get(MAIN_CONTEXT);
            let layers = main.cloned().unwrap_or_default();
            let (_, snapshotter) = images.stores();
            let read = tokio::task::spawn_blocking(move || {
                context::dockerfile(&layers, name.as_deref(), snapshotter.as_ref())
            });
            read.await
                .map_err(|error| ApiError::new(ErrorClass::Internal, error.to_string()))??
        }
    };
    let (sayer, listener) = pipe();
    let bases = Bases::new(images.clone(), logins.clone(), intake.share());
    let contexts = std::mem::take(&mut request.contexts);
    let bases = NamedContexts::new(contexts, std::mem::take(&mut body.images), bases);
    request.contexts = bases.main();
    let job = Own {
        images,
        builder,
        buildkit: call.facade.buildkit.clone(),
        intake,
        logins,
        bases: Arc::new(bases),
        request,
        caches,
        outputs,
        begun,
        sayer,
    };
    let dockerfile = job.request.dockerfile.clone();
    let (plan_only, question) = (body.plan_only, body.question);
    let work: futures_util::future::BoxFuture<'static, Vec<Bytes>> = Box::pin(async move {
        let ended = match (plan_only, question) {
            (true, _) => job.plan().await,
            (false, Some(question)) => job.answer(&question, &shown).await,
            (false, None) => job.perform().await,
        };
        let last = ended.unwrap_or_else(|failed| failure(&failed, &dockerfile, begun));
        vec![line(&last)]
    });
    let body: Body = listener.body(Vec::new(), work);
    Ok(with_type("application/json", StatusCode::OK, body))
}

/// One build.
struct Own {
    images: Images,
    builder: Builder,
    buildkit: BuildKit,
    /// Held since before the first layer of a context came.
    intake: Intake,
    logins: HashMap<String, Credentials>,
    bases: Arc<NamedContexts<Bases<HashMap<String, Credentials>>>>,
    request: BuildRequest,
    caches: CacheTerms,
    outputs: Outputs,
    begun: Instant,
    sayer: Sayer,
}

impl Own {
    fn events(&self) -> EventFn {
        events(self.begun, self.sayer.clone())
    }

    /// What would be done, as text.
    async fn plan(self) -> Result<Report, NoImage> {
        let planned = self
            .builder
            .plan(&self.request, self.bases.as_ref(), self.events());
        let text = planned.await.map_err(NoImage::Build)?.to_string();
        Ok(Report::Plan { text })
    }

    /// What was asked about the Dockerfile.
    async fn answer(self, question: &str, name: &str) -> Result<Report, NoImage> {
        let (bases, events) = (self.bases.as_ref(), self.events());
        let asked = hoist_buildkit::answer_as_text(
            question,
            &self.builder,
            &self.request,
            name,
            bases,
            events,
        );
        let (text, code) = asked.await.map_err(NoImage::Port)?;
        Ok(Report::Answer { text, code })
    }

    /// Builds, and does what is wanted with it. Dropping the future ends it.
    async fn perform(mut self) -> Result<Report, NoImage> {
        self.request.inline_cache = self.caches.inline;
        self.request.caches = self.imported().await;
        let (request, bases, images) = (
            self.request.clone(),
            self.bases.clone(),
            self.images.clone(),
        );
        let built = self.builder.build(request, bases, self.events()).await;
        let done = match built {
            Ok(finished) => self.deliver(finished).await,
            Err(error) => {
                drop(self);
                Err(NoImage::Build(error))
            }
        };
        // The context, and what a failed step left, are nobody's.
        images.collect_soon();
        done
    }

    async fn deliver(self, finished: Finished) -> Result<Report, NoImage> {
        self.export(&finished.cache).await?;
        let deliver = Deliver {
            images: &self.images,
            logins: &self.logins,
            sayer: &self.sayer,
            begun: self.begun,
        };
        let pushed = deliver
            .all(&finished.image, self.intake, &self.outputs)
            .await?;
        Ok(Report::Image {
            at: self.begun.elapsed().as_secs_f64(),
            id: finished.image.id.to_string(),
            names: self.outputs.names().map(ToString::to_string).collect(),
            pushed: pushed.map(|digest| digest.to_string()),
        })
    }

    fn beside(&self, name: &str, text: &str) {
        outputs::beside(&self.sayer, self.begun, name, text);
    }

    fn open(
        &self,
        place: &CachePlace,
        access: CacheAccess,
    ) -> Result<Arc<dyn CacheStore>, PortError> {
        let CachePlace::Registry(reference) = place else {
            return Err(PortError {
                message: "a cache of type local is not implemented by hoist build yet: use docker buildx, or type=registry".to_owned(),
                class: ErrorClass::NotImplemented,
            });
        };
        let login = self.logins.get(reference.repository().host()).cloned();
        let registries = self.buildkit.registries();
        Ok(registries.open(reference.clone(), login, access))
    }

    /// The caches that can be read; of the others it is said why not.
    async fn imported(&self) -> Vec<Arc<RemoteCache>> {
        let mut imported = Vec::new();
        for place in &self.caches.imports {
            let title = format!("importing cache manifest from {place}");
            let read = async {
                let store = self.open(place, CacheAccess::Read)?;
                RemoteCache::import(store, &self.request.options.platform).await
            };
            match read.await {
                Ok(cache) => {
                    self.beside(&title, &format!("{} steps", cache.entries()));
                    imported.push(Arc::new(cache));
                }
                Err(error) => self.beside(&title, &format!("ERROR: {error}")),
            }
        }
        imported
    }

    async fn export(&self, cache: &CacheExport) -> Result<(), NoImage> {
        for target in &self.caches.exports {
            let title = format!("exporting cache to {}", target.place);
            let write = async {
                let store = self.open(&target.place, CacheAccess::Write)?;
                cache.export(store.as_ref(), target.mode).await
            };
            match write.await {
                Ok((steps, _)) => self.beside(&title, &format!("{steps} steps")),
                Err(error) if target.ignore_error => {
                    self.beside(&title, &format!("ERROR: {error}"));
                }
                Err(error) => return Err(NoImage::Port(error)),
            }
        }
        Ok(())
    }
}

/// The layers of the contexts that are named, and the text of a Dockerfile that came in place of the main one.
async fn contexts(
    builder: &Builder,
    snapshotter: Arc<dyn Snapshotter>,
    given: BTreeMap<String, ContextBody>,
) -> Result<(BTreeMap<String, Vec<Digest>>, Option<String>), ApiError> {
    let mut contexts = BTreeMap::new();
    let mut dockerfile = None;
    for (name, body) in given {
        let kept = match (body.kept, body.remote) {
            (Some(kept), None) => kept,
            (None, Some(address)) => {
                let remote = remote::fetch(builder, snapshotter.clone(), &address).await?;
                if name == MAIN_CONTEXT {
                    dockerfile = remote.dockerfile;
                } else if remote.dockerfile.is_some() {
                    return Err(ApiError::invalid(format!(
                        "build context {name:?}: {address} is no archive"
                    )));
                }
                contexts.insert(name, remote.layers);
                continue;
            }
            _ => {
                return Err(ApiError::invalid(format!(
                    "build context {name:?}: it comes from one place, which its Kept or its Remote says"
                )));
            }
        };
        let once = kept.once;
        let kept = ContextName::from(kept);
        let layer = builder.kept_context(&kept);
        let layer = layer.ok_or_else(|| unknown(&kept))?;
        // This build's intake keeps the layer from here on.
        if once {
            builder.forget_context(&kept).await;
        } else {
            builder.use_context(&kept).await;
        }
        contexts.insert(name, vec![layer]);
    }
    Ok((contexts, dockerfile))
}

fn failure(failed: &NoImage, dockerfile: &str, begun: Instant) -> Report {
    let at = begun.elapsed().as_secs_f64();
    match failed {
        NoImage::Build(error) => {
            let lines = error.lines();
            let excerpt = lines.map(|lines| hoist_build::dockerfile::excerpt(dockerfile, lines));
            let step = match error {
                hoist_build::BuildError::Step { step, .. } => *step,
                _ => None,
            };
            Report::Failed(Failed {
                at,
                message: chain(error),
                step,
                excerpt,
                line: lines.map(|lines| lines.first),
                exit_code: error.exit_code(),
                status: hoist_http::status_of(error.class()).as_u16(),
                state: None,
            })
        }
        NoImage::Engine(error) => without_step(at, chain(error), error.class()),
        NoImage::Port(error) => without_step(at, error.message.clone(), error.class),
    }
}

fn without_step(at: f64, message: String, class: ErrorClass) -> Report {
    Report::Failed(Failed {
        at,
        message,
        step: None,
        excerpt: None,
        line: None,
        exit_code: None,
        status: hoist_http::status_of(class).as_u16(),
        state: None,
    })
}

/// Makes reports of a build's events.
fn events(begun: Instant, sayer: Sayer) -> EventFn {
    // Held for one event: events come from the tasks of all steps.
    let texts = Mutex::new(Texts::default());
    Arc::new(move |event| {
        let at = begun.elapsed().as_secs_f64();
        match event {
            BuildEvent::Pulling(text) => {
                sayer.say(line(&Report::Said { at, text }));
            }
            BuildEvent::Planned(plan) => {
                let mut warnings = Vec::new();
                if !plan.unused_arguments.is_empty() {
                    warnings.push(format!(
                        "one or more build-args {:?} were not consumed",
                        plan.unused_arguments
                    ));
                }
                let vertices = outline(&plan).into_iter().map(|vertex| Planned {
                    name: vertex.name,
                    step: vertex.step,
                });
                let planned = Report::Planned {
                    at,
                    vertices: vertices.collect(),
                    warnings,
                };
                sayer.say(line(&planned));
            }
            BuildEvent::Began(step, _) => sayer.say(line(&Report::Began { at, step })),
            BuildEvent::Wrote(step, stream, bytes) => {
                let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
                let stream = match stream {
                    Stream::Output => 1,
                    Stream::Error => 2,
                };
                let text = texts.whole(step, stream, &bytes);
                let wrote = |text| {
                    line(&Report::Wrote {
                        at,
                        step,
                        stream,
                        text,
                    })
                };
                if sayer.say_output(wrote(text)) {
                    texts.clipped = false;
                } else if !std::mem::replace(&mut texts.clipped, true) {
                    let clipped = "\n[output clipped: it is not read fast enough]\n";
                    sayer.say(wrote(clipped.to_owned()));
                }
            }
            BuildEvent::Done { step, cached, .. } => {
                sayer.say(line(&Report::Done { at, step, cached }));
            }
        }
    })
}

/// Puts characters together that came in two pieces.
#[derive(Default)]
struct Texts {
    begun: HashMap<(StepId, u8), Vec<u8>>,
    /// Whether it was said that something is left out.
    clipped: bool,
}

impl Texts {
    fn whole(&mut self, step: StepId, stream: u8, bytes: &[u8]) -> String {
        let held = self.begun.entry((step, stream)).or_default();
        held.extend_from_slice(bytes);
        let end = match std::str::from_utf8(held) {
            // Cut in a character: at most three bytes wait for the next piece.
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => held.len(),
        };
        let rest = held.split_off(end);
        let text = String::from_utf8_lossy(held).into_owned();
        *held = rest;
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Texts;

    #[test]
    fn a_character_in_two_pieces_is_one() {
        let mut texts = Texts::default();
        let bytes = "aé→".as_bytes();
        let mut told = String::new();
        for at in 0..bytes.len() {
            told += &texts.whole(1, 1, &bytes[at..=at]);
            told += &texts.whole(1, 2, b"");
        }
        assert_eq!(told, "aé→");
        assert_eq!(texts.whole(1, 1, b"\xff!"), "\u{fffd}!");
        // An end that never comes is left out, not taken for an error of what follows.
        assert_eq!(texts.whole(1, 1, "é".as_bytes().split_at(1).0), "");
    }
}
