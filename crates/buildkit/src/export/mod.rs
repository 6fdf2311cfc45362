//! What becomes of a result, by the exporters that the client names: an image of the engine's, an archive, a directory.

mod send;
mod walk;

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};
use hoist_engine::images::Pushing;
use hoist_image::files::Root;
use hoist_image::{Ids, LayerCompression, SavedImage, StoredImage};
use hoist_model::{ErrorClass, ImageReference, chain};
use tonic::Status;

use crate::bases::Logins as _;
use crate::builds::{Build, Built};
use crate::door::BuildKit;
use crate::error::{self, missing};
use crate::session::{Session, SessionLogins};

/// What clients are told of a build that came to something.
pub(crate) type Told = HashMap<String, String>;

/// Exporters of one build.
const MOST: usize = 32;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Here, by name.
    Image,
    /// The file of `docker save`, which is an OCI layout too.
    Archive,
    /// The files as one.
    Tar,
    /// The files.
    Directory,
}

/// One output.
#[derive(Debug)]
pub(crate) struct Export {
    kind: Kind,
    names: Vec<ImageReference>,
    push: bool,
    /// How layers are sent.
    compression: LayerCompression,
}

/// The exporters of a request; older clients have one, elsewhere. Refuses, before anything is built, what there is not.
pub(crate) fn read(request: &mut SolveRequest) -> Result<Vec<Export>, Status> {
    let mut exporters = std::mem::take(&mut request.exporters);
    if exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        exporters.push(Exporter {
            r#type: std::mem::take(&mut request.exporter_deprecated),
            attrs: std::mem::take(&mut request.exporter_attrs_deprecated),
        });
    }
    if exporters.len() > MOST {
        return Err(Status::invalid_argument(format!(
            "more than {MOST} outputs"
        )));
    }
    exporters.iter().map(export_of).collect()
}

fn export_of(exporter: &Exporter) -> Result<Export, Status> {
    let kind = match exporter.r#type.as_str() {
        "moby" | "image" => Kind::Image,
        "docker" | "oci" => Kind::Archive,
        "tar" => Kind::Tar,
        "local" => Kind::Directory,
        other => return Err(missing(format!("the exporter {other:?}"))),
    };
    let is = |key: &str, value: &str| exporter.attrs.get(key).is_some_and(|text| text == value);
    if kind == Kind::Archive && is("tar", "false") {
        return Err(missing("an OCI layout as a directory (tar=false)"));
    }
    Ok(Export {
        kind,
        names: names(exporter)?,
        push: kind == Kind::Image && is("push", "true"),
        compression: match is("compression", "zstd") {
            true => LayerCompression::Zstd,
            false => LayerCompression::Gzip,
        },
    })
}

/// `name=a,b`.
fn names(exporter: &Exporter) -> Result<Vec<ImageReference>, Status> {
    let given = exporter.attrs.get("name").map_or("", String::as_str);
    let given = given.split(',').filter(|name| !name.is_empty());
    let read = given.map(|name| {
        ImageReference::parse(name).map_err(|error| Status::invalid_argument(error.to_string()))
    });
    read.collect()
}

fn failed(class: ErrorClass, error: &(dyn std::error::Error + 'static)) -> Status {
    Status::new(error::code(class), chain(error))
}

/// Carries the exporters out, those that send something first: the image is taken note of when all is well.
pub(crate) async fn export(
    door: &BuildKit,
    build: &Build,
    built: Option<Built>,
    exports: &[Export],
) -> Result<Told, Status> {
    let mut told = Told::new();
    let Some(mut built) = built else {
        return Ok(told);
    };
    for (number, export) in exports.iter().enumerate() {
        let title = match export.kind {
            Kind::Image => continue,
            Kind::Archive => "exporting to docker image format",
            Kind::Tar | Kind::Directory => "exporting to client",
        };
        let shown = build.log.begin(title);
        let sent = send(door, build, &built.image, number, export).await;
        shown.ended(sent.as_ref().err().map(Status::message));
        sent?;
    }
    let images = exports.iter().filter(|export| export.kind == Kind::Image);
    let is_image = images.clone().next().is_some();
    let names: Vec<_> = images.flat_map(|export| &export.names).cloned().collect();
    let id = built.image.id.to_string();
    told.insert("containerimage.digest".to_owned(), id.clone());
    told.insert("containerimage.config.digest".to_owned(), id.clone());
    if !names.is_empty() {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        told.insert("image.name".to_owned(), names.join(","));
    }
    if !is_image {
        drop(built);
        door.images().collect_soon();
        return Ok(told);
    }
    let shown = build.log.begin("exporting to image");
    built.image.references = names.clone();
    let adopted = door.images().adopt_built(&built.image, built.intake).await;
    door.images().collect_soon();
    if let Err(error) = adopted {
        let status = failed(error.class(), &error);
        shown.ended(Some(status.message()));
        return Err(status);
    }
    shown.progress(&format!("writing image {id}"), 0, true);
    for name in &names {
        shown.progress(&format!("naming to {name}"), 0, true);
    }
    shown.ended(None::<&str>);
    for export in exports.iter().filter(|export| export.push) {
        push(door, build, export).await?;
    }
    Ok(told)
}

async fn session(door: &BuildKit, build: &Build) -> Result<Session, Status> {
    let session = door.sessions().find(&build.session).await;
    session.ok_or_else(|| Status::not_found(format!("no active session for {}", build.session)))
}

async fn send(
    door: &BuildKit,
    build: &Build,
    image: &StoredImage,
    number: usize,
    export: &Export,
) -> Result<(), Status> {
    let session = session(door, build).await?;
    let (content, snapshotter) = door.images().stores();
    if export.kind == Kind::Archive {
        let created = image.config.created.as_deref().unwrap_or_default();
        let created = created.parse::<hoist_model::Timestamp>();
        let saved = SavedImage {
            id: image.id.clone(),
            layers: image.layers.clone(),
            references: export.names.clone(),
            created: created.map_or(0, hoist_model::Timestamp::as_seconds),
        };
        return send::file(&session, number, move |out| {
            let out = hoist_image::Copied(out);
            hoist_image::save_images(&[saved], &content, snapshotter.as_ref(), out)
                .map_err(|error| failed(error.class(), &error))
        })
        .await;
    }
    let layers = image.layers.clone();
    let viewing = tokio::task::spawn_blocking(move || snapshotter.view(&layers, Ids::Host));
    let view = viewing.await;
    let view = view.map_err(|_| Status::internal("the thread that mounts the result fell"))?;
    let view = view.map_err(|error| failed(error.class(), &error))?;
    if export.kind == Kind::Directory {
        return send::directory(&session, number, view).await;
    }
    send::file(&session, number, move |out| {
        hoist_image::files::export(&Root::new(view), out)
            .map_err(|error| failed(error.class(), &error))
    })
    .await
}

async fn push(door: &BuildKit, build: &Build, export: &Export) -> Result<(), Status> {
    let logins = SessionLogins(session(door, build).await.ok());
    for name in &export.names {
        let shown = build.log.begin(&format!("pushing {name}"));
        let login = logins.find(name.repository().host()).await;
        let told = shown.clone();
        let sink = std::sync::Arc::new(move |progress: hoist_model::Progress| {
            if let hoist_model::Progress::Message { text, .. } = progress {
                told.wrote(1, format!("{text}\n").into_bytes());
            }
        });
        let what = Pushing::Tag(name.clone());
        let pushed = door.images().push(&what, export.compression, login, sink);
        let pushed = pushed.await.map_err(|error| failed(error.class(), &error));
        shown.ended(pushed.as_ref().err().map(Status::message));
        pushed?;
    }
    Ok(())
}
