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
use hoist_build::ports::Stream;
use hoist_build::{BuildEvent, BuildRequest, Builder, ContextName, EventFn, outline};
use hoist_buildkit::Bases;
use hoist_engine::ports::Credentials;
use hoist_image::Snapshotter;
use hoist_model::{Digest, ErrorClass, chain};
use http::StatusCode;

use super::perform::{Job, NoImage};
use super::pipe::{Sayer, pipe};
use super::{body_reader, context, logins, remote};
use crate::call::{Call, empty, with_type};
use crate::error::{ApiError, Reply};
use crate::wire::build::{BuildBody, BuildReport, ContextBody};

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
    let intake = images.intake().await;
    let given = std::mem::take(&mut body.contexts);
    let (contexts, alone) = contexts(&builder, images.stores().1, given).await?;
    request.contexts = contexts;
    let name = body.dockerfile_name.take();
    request.dockerfile = match body.dockerfile.take().or(alone) {
        Some(text) => {
            context::not_empty(&text, name.as_deref().unwrap_or("Dockerfile"))?;
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
    let work: futures_util::future::BoxFuture<'static, Vec<Bytes>> = if body.plan_only {
        let bases = Arc::new(Bases::new(images, logins));
        Box::pin(plan(builder, bases, request, begun, sayer))
    } else {
        let (dockerfile, tags) = (request.dockerfile.clone(), request.tags.clone());
        let job = Job {
            images,
            builder,
            intake,
            logins,
            request,
            events: events(begun, sayer),
        };
        Box::pin(async move {
            let last = match job.perform().await {
                Ok(id) => BuildReport::Image {
                    at: begun.elapsed().as_secs_f64(),
                    id: id.to_string(),
                    names: tags.iter().map(ToString::to_string).collect(),
                },
                Err(failed) => failure(&failed, &dockerfile, begun),
            };
            vec![last.to_bytes()]
        })
    };
    let body: Body = listener.body(Vec::new(), work);
    Ok(with_type("application/json", StatusCode::OK, body))
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

/// What would be done, as text.
async fn plan(
    builder: Builder,
    bases: Arc<Bases<HashMap<String, Credentials>>>,
    request: BuildRequest,
    begun: Instant,
    sayer: Sayer,
) -> Vec<Bytes> {
    let planned = builder.plan(&request, bases, events(begun, sayer)).await;
    let last = match planned {
        Ok(plan) => BuildReport::Plan {
            text: plan.to_string(),
        },
        Err(error) => failure(&NoImage::Build(error), &request.dockerfile, begun),
    };
    vec![last.to_bytes()]
}

fn failure(failed: &NoImage, dockerfile: &str, begun: Instant) -> BuildReport<'static> {
    let at = begun.elapsed().as_secs_f64();
    match failed {
        NoImage::Build(error) => {
            let lines = error.lines();
            let excerpt = lines.map(|lines| hoist_build::dockerfile::excerpt(dockerfile, lines));
            let step = match error {
                hoist_build::BuildError::Step { step, .. } => *step,
                _ => None,
            };
            BuildReport::Failed {
                at,
                message: chain(error),
                step,
                excerpt,
                line: lines.map(|lines| lines.first),
                exit_code: error.exit_code(),
                status: hoist_http::status_of(error.class()).as_u16(),
            }
        }
        NoImage::Engine(error) => BuildReport::Failed {
            at,
            message: chain(error),
            step: None,
            excerpt: None,
            line: None,
            exit_code: None,
            status: hoist_http::status_of(error.class()).as_u16(),
        },
    }
}

/// Makes reports of a build's events.
fn events(begun: Instant, sayer: Sayer) -> EventFn {
    // Held for one event: events come from the tasks of all steps.
    let texts = Mutex::new(Texts::default());
    Arc::new(move |event| {
        let at = begun.elapsed().as_secs_f64();
        match event {
            BuildEvent::Pulling(text) => {
                sayer.say(BuildReport::Said { at, text: &text }.to_bytes());
            }
            BuildEvent::Planned(plan) => {
                let mut warnings = Vec::new();
                if !plan.unused_arguments.is_empty() {
                    warnings.push(format!(
                        "one or more build-args {:?} were not consumed",
                        plan.unused_arguments
                    ));
                }
                let vertices = outline(&plan).into_iter().map(Into::into).collect();
                let planned = BuildReport::Planned {
                    at,
                    vertices,
                    warnings,
                };
                sayer.say(planned.to_bytes());
            }
            BuildEvent::Began(step, _) => sayer.say(BuildReport::Began { at, step }.to_bytes()),
            BuildEvent::Wrote(step, stream, bytes) => {
                let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
                let stream = match stream {
                    Stream::Output => 1,
                    Stream::Error => 2,
                };
                let text = texts.whole(step, stream, &bytes);
                let wrote = BuildReport::Wrote {
                    at,
                    step,
                    stream,
                    text: &text,
                };
                if sayer.say_output(wrote.to_bytes()) {
                    texts.clipped = false;
                } else if !std::mem::replace(&mut texts.clipped, true) {
                    let wrote = BuildReport::Wrote {
                        at,
                        step,
                        stream,
                        text: "\n[output clipped: it is not read fast enough]\n",
                    };
                    sayer.say(wrote.to_bytes());
                }
            }
            BuildEvent::Done { step, cached, .. } => {
                sayer.say(BuildReport::Done { at, step, cached }.to_bytes());
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
