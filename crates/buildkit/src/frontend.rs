//! The Dockerfile's frontend: a client's attributes and directories become an image whose parts are stored.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bollard_buildkit_proto::pb;
use hoist_build::dockerfile::Dockerfile;
use hoist_build::plan::{MAIN_CONTEXT, PlanError, Planned, plan};
use hoist_build::ports::{BaseImages, OutputFn};
use hoist_build::{AgentSockets, BuildError, BuildEvent, BuildRequest, EventFn};
use hoist_image::Ids;
use hoist_image::files::{FilesError, Root};
use hoist_model::{Digest, chain};
use tonic::Status;

use crate::attributes::Attributes;
use crate::bases::Bases;
use crate::builds::{Build, Built};
use crate::caches;
use crate::definition;
use crate::door::BuildKit;
use crate::error;
use crate::named::{Named, NamedBases};
use crate::needs::{Needs, Once};
use crate::posted::PostedContext;
use crate::questions::{self, Answer};
use crate::session::{
    Asked, Files, Session, SessionLogins, SyncError, fetch_files, fetch_layer, fetch_secrets,
    fetch_upload, open_agents,
};
use crate::status::{Shown, Steps};

/// Bytes of a Dockerfile and what is beside it.
const DOCKERFILE_LIMIT: u64 = 8 << 20;
/// Between two tellings of how much has come.
const TELL_EVERY: u64 = 1 << 20;

/// What came of it.
pub(crate) enum Solved {
    /// An image whose parts are stored.
    Image(Box<Built>),
    /// What was asked about the Dockerfile.
    Answer(Answer),
}

impl Solved {
    /// The image, where one was to be built.
    pub(crate) fn image(self) -> Option<Built> {
        match self {
            Self::Image(built) => Some(*built),
            Self::Answer(_) => None,
        }
    }
}

/// Builds what the attributes say. Dropping the future ends what runs.
pub(crate) async fn solve(
    door: &BuildKit,
    build: &Arc<Build>,
    given: &HashMap<String, String>,
    inputs: &HashMap<String, pb::Definition>,
    posted: Option<PostedContext>,
) -> Result<Solved, Status> {
    let attributes = Attributes::read(given)?;
    definition::refuse_inputs(inputs)?;
    let named = Named::read(given, inputs, &build.session)?;
    let (intake, mut uploaded) = match posted {
        Some(posted) => (posted.intake, Some(posted.layer)),
        None => (door.images().intake().await, None),
    };
    if let Some(address) = &attributes.upload {
        uploaded = Some(upload(door, build, address).await?);
    }
    let (dockerfile, beside) = match &uploaded {
        Some(layer) if !attributes.has_dockerfile => {
            let text = within(door, &attributes.filename, layer.clone()).await?;
            (text, Files::default())
        }
        _ => load_definition(door, build, &attributes).await?,
    };
    let session = match build.session.as_str() {
        "" => None,
        id => door.sessions().find(id).await,
    };
    let logins = SessionLogins(session.clone());
    let bases = Bases::new(door.images().clone(), logins, intake.share());
    let bases = Arc::new(Once::new(NamedBases {
        door: door.clone(),
        build: build.clone(),
        named,
        source: bases,
    }));
    // Held for one event: events come from the tasks of all steps.
    let steps = Arc::new(Mutex::new(Steps::of(&build.log, &dockerfile)));
    let told = steps.clone();
    let events: EventFn = Arc::new(move |event: BuildEvent| {
        told.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .on(event);
    });
    let failed = |failed: BuildError| {
        let text = error::text(&failed);
        let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.failed(failed.lines(), &text);
        error::status(&failed, &attributes.filename, &dockerfile)
    };
    let request = BuildRequest {
        dockerfile: dockerfile.clone(),
        ..attributes.request.clone()
    };
    if let Some(question) = &attributes.question {
        let asked = questions::Asked {
            builder: door.builder(),
            request: &request,
            name: &attributes.filename,
            bases: bases.as_ref(),
            events,
        };
        let answer = questions::answer(question, asked).await?;
        return Ok(Solved::Answer(answer));
    }
    let needs = needs(&request, bases.as_ref(), &events).await;
    let needs = needs.map_err(&failed)?;
    let mut contexts = BTreeMap::new();
    if let Some(layer) = uploaded {
        contexts.insert(MAIN_CONTEXT.to_owned(), vec![layer]);
    } else if needs.context() {
        let ignore = ignored(door, build, &attributes, &beside).await?;
        let context = context(door, build, &attributes, ignore, needs.follow()).await?;
        contexts.insert(MAIN_CONTEXT.to_owned(), vec![context]);
    }
    let secrets = fetch_secrets(session.as_ref(), needs.secrets).await?;
    let sockets = open_agents(session.as_ref(), door.builder(), needs.agents).await?;
    let platform = &request.options.platform;
    let caches = caches::imported(door, build, platform).await;
    let request = BuildRequest {
        contexts,
        secrets,
        agents: sockets
            .as_ref()
            .map(AgentSockets::agents)
            .unwrap_or_default(),
        caches,
        inline_cache: build.caches.inline,
        ..request
    };
    let image = door.builder().build(request, bases.clone(), events.clone());
    let finished = image.await.map_err(&failed)?;
    Ok(Solved::Image(Box::new(Built {
        image: finished.image,
        cache: finished.cache,
        intake,
    })))
}

/// What the build will need of the client. Base images are brought here on the way.
async fn needs(
    request: &BuildRequest,
    bases: &dyn BaseImages,
    events: &EventFn,
) -> Result<Needs, BuildError> {
    let file = Dockerfile::parse(&request.dockerfile).map_err(PlanError::from)?;
    let mut found = HashMap::new();
    loop {
        let names = match plan(&file, &request.options, &found)? {
            Planned::Ready(plan) => return Ok(Needs::of(&plan)),
            Planned::Needs(names) => names,
        };
        for name in names {
            let events = events.clone();
            let output: OutputFn = Arc::new(move |_, bytes| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                events(BuildEvent::Pulling(text));
            });
            let base = bases.find(&name, request.pull, output).await;
            found.insert(name, Arc::new(base.map_err(BuildError::Base)?));
        }
    }
}

/// Tells of something while it goes on.
async fn shown<T>(
    build: &Build,
    name: &str,
    work: impl AsyncFnOnce(&Shown) -> Result<T, Status>,
) -> Result<T, Status> {
    let shown = build.log.begin(name);
    let result = work(&shown).await;
    shown.ended(result.as_ref().err().map(Status::message));
    result
}

fn refused(what: &str) -> impl Fn(SyncError) -> Status + '_ {
    move |error| {
        Status::new(
            error::code(error.class()),
            format!("{what}: {}", chain(&error)),
        )
    }
}

async fn sharing(
    door: &BuildKit,
    build: &Build,
    attributes: &Attributes,
    directory: &str,
) -> Result<Session, Status> {
    let id = attributes.session(directory, &build.session);
    let session = door.sessions().find(id).await;
    session.ok_or_else(|| Status::not_found(format!("no active session for {id}")))
}

/// The Dockerfile, and what came with it.
async fn load_definition(
    door: &BuildKit,
    build: &Build,
    attributes: &Attributes,
) -> Result<(String, Files), Status> {
    let name = &attributes.filename;
    let title = format!("[internal] load build definition from {name}");
    shown(build, &title, async |shown| {
        let session = sharing(door, build, attributes, &attributes.dockerfile).await?;
        let mut follow = vec![name.clone(), format!("{name}.dockerignore")];
        let (directory, base) = name.rsplit_once('/').unwrap_or(("", name));
        let lower = format!("{directory}/dockerfile");
        let lower = lower.trim_start_matches('/');
        if base == "Dockerfile" {
            follow.push(lower.to_owned());
        }
        let asked = Asked {
            name: attributes.dockerfile.clone(),
            follow,
            ..Asked::default()
        };
        let files = fetch_files(&session, &asked, DOCKERFILE_LIMIT).await;
        let files = files.map_err(refused("failed to read dockerfile"))?;
        let text = files.read(name);
        let text = text.or_else(|| files.read(lower).filter(|_| base == "Dockerfile"));
        let text = text.ok_or_else(|| {
            let why = format!("failed to read dockerfile: open {name}: no such file or directory");
            Status::unknown(why)
        })?;
        shown.progress("transferring dockerfile:", text.len() as u64, true);
        Ok((readable(name, text)?, files.clone()))
    })
    .await
}

/// The context as one archive of the client's.
async fn upload(door: &BuildKit, build: &Build, address: &str) -> Result<Digest, Status> {
    shown(
        build,
        "[internal] load remote build context",
        async |shown| {
            let session = door.sessions().find(&build.session).await;
            let session = session.ok_or_else(|| {
                Status::not_found(format!("no active session for {}", build.session))
            })?;
            let came = AtomicU64::new(0);
            let on_bytes = |more: u64| {
                came.fetch_add(more, Ordering::Relaxed);
            };
            let (_, snapshotter) = door.images().stores();
            let layer = fetch_upload(&session, address, snapshotter, &on_bytes).await;
            let layer = layer.map_err(refused("failed to read the build context"))?;
            shown.progress("transferring context:", came.load(Ordering::Relaxed), true);
            Ok(layer)
        },
    )
    .await
}

/// The Dockerfile in a context.
async fn within(door: &BuildKit, name: &str, context: Digest) -> Result<String, Status> {
    let (_, snapshotter) = door.images().stores();
    let name = name.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let failed = |class, error: &(dyn std::error::Error + 'static)| {
            Status::new(error::code(class), chain(error))
        };
        let root = snapshotter.view(std::slice::from_ref(&context), Ids::Host);
        let root = Root::new(root.map_err(|error| failed(error.class(), &error))?);
        let text = match root.read(&name, DOCKERFILE_LIMIT) {
            Err(FilesError::NotFound(_)) => {
                let why =
                    format!("failed to read dockerfile: open {name}: no such file or directory");
                return Err(Status::unknown(why));
            }
            text => text.map_err(|error| failed(error.class(), &error))?,
        };
        readable(&name, &text)
    });
    let fell = |_| Status::internal("the thread that reads the Dockerfile fell");
    reading.await.map_err(fell)?
}

/// A Dockerfile's text.
fn readable(name: &str, text: &[u8]) -> Result<String, Status> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Status::invalid_argument(format!(
            "the Dockerfile ({name}) cannot be empty"
        )));
    }
    let text = std::str::from_utf8(text);
    let text = text.map_err(|_| Status::invalid_argument(format!("{name} is not UTF-8")))?;
    Ok(text.to_owned())
}

/// Which files of the context are not of interest.
async fn ignored(
    door: &BuildKit,
    build: &Build,
    attributes: &Attributes,
    beside: &Files,
) -> Result<Vec<String>, Status> {
    shown(build, "[internal] load .dockerignore", async |shown| {
        let own = format!("{}.dockerignore", attributes.filename);
        let text = match beside.read(&own) {
            Some(text) => Some(text.to_vec()),
            None => {
                let session = sharing(door, build, attributes, &attributes.context).await?;
                let asked = Asked {
                    name: attributes.context.clone(),
                    follow: vec![".dockerignore".to_owned()],
                    ..Asked::default()
                };
                let files = fetch_files(&session, &asked, DOCKERFILE_LIMIT).await;
                let files = files.map_err(refused("failed to read dockerignore patterns"))?;
                files.read(".dockerignore").map(<[u8]>::to_vec)
            }
        };
        let text = text.unwrap_or_default();
        shown.progress("transferring context:", text.len() as u64, true);
        let text = String::from_utf8_lossy(&text);
        hoist_build::ignore::lines(&text)
            .map_err(|error| Status::invalid_argument(format!(".dockerignore: {error}")))
    })
    .await
}

/// The context as a layer.
async fn context(
    door: &BuildKit,
    build: &Build,
    attributes: &Attributes,
    exclude: Vec<String>,
    follow: Vec<String>,
) -> Result<Digest, Status> {
    shown(build, "[internal] load build context", async |shown| {
        let session = sharing(door, build, attributes, &attributes.context).await?;
        let key = door.contexts().key(
            &session.shared_key,
            &attributes.context,
            &[&exclude, &follow],
        );
        let before = key.as_deref().and_then(|key| door.contexts().get(key));
        let asked = Asked {
            name: attributes.context.clone(),
            exclude,
            follow,
        };
        let came = AtomicU64::new(0);
        let on_bytes = |more: u64| {
            let before = came.fetch_add(more, Ordering::Relaxed);
            if before / TELL_EVERY != (before + more) / TELL_EVERY {
                shown.progress("transferring context:", before + more, false);
            }
        };
        let (_, snapshotter) = door.images().stores();
        let received = fetch_layer(&session, &asked, snapshotter, before, &on_bytes).await;
        let received = received.map_err(refused("failed to read the build context"))?;
        shown.progress("transferring context:", came.load(Ordering::Relaxed), true);
        let layer = received.layer.clone();
        if let Some(key) = key {
            door.contexts().keep(key, received).await;
        }
        Ok(layer)
    })
    .await
}
