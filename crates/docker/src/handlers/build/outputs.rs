//! What becomes of a build of our client's: an image here, at a registry, or files that go to the client, in pieces between the lines of the answer.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::Instant;

use bytes::Bytes;
use hoist_build::ports::PortError;
use hoist_engine::images::{Images, Intake, Pushing};
use hoist_engine::ports::Credentials;
use hoist_image::files::Root;
use hoist_image::{Ids, LayerCompression, SavedImage, StoredImage};
use hoist_model::build::Report;
use hoist_model::{Digest, ErrorClass, ImageReference, Progress, Timestamp, chain};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

use super::perform::NoImage;
use super::pipe::Sayer;
use crate::error::ApiError;
use crate::wire::build::{TypedBody, line};

/// Bytes of a piece, and pieces that wait.
const PIECE: usize = 1 << 20;
const WAITING: usize = 4;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Outputs {
    /// Names of the image; an image is made where there is nothing else to make.
    names: Vec<ImageReference>,
    is_image: bool,
    push: Option<LayerCompression>,
    /// What goes to the client, by its place in the list.
    files: Vec<(usize, Form)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The file of `docker save`, which is an OCI layout too.
    Archive,
    /// The files as one.
    Tar,
}

/// Reads what is asked for; refuses, before anything is built, what there is not.
pub(super) fn read(given: &[TypedBody], tags: &[ImageReference]) -> Result<Outputs, ApiError> {
    let mut outputs = Outputs {
        names: tags.to_vec(),
        is_image: given.is_empty(),
        ..Outputs::default()
    };
    for (number, output) in given.iter().enumerate() {
        for (key, value) in &output.attributes {
            let is_known = match key.as_str() {
                "name" | "push" => true,
                "compression" => matches!(value.as_str(), "gzip" | "zstd"),
                _ => false,
            };
            if !is_known {
                return Err(ApiError::missing(format!(
                    "an output of type {} with {key}={value} is not implemented yet",
                    output.kind
                )));
            }
        }
        let text = |key: &str| output.attributes.get(key).map_or("", String::as_str);
        match output.kind.as_str() {
            "image" => {
                outputs.is_image = true;
                for name in text("name").split(',').filter(|name| !name.is_empty()) {
                    let name = ImageReference::parse(name);
                    let name = name.map_err(|error| ApiError::invalid(error.to_string()))?;
                    if !outputs.names.contains(&name) {
                        outputs.names.push(name);
                    }
                }
                if text("push") == "true" {
                    outputs.push = Some(match text("compression") {
                        "zstd" => LayerCompression::Zstd,
                        _ => LayerCompression::Gzip,
                    });
                }
            }
            "archive" => outputs.files.push((number, Form::Archive)),
            "tar" => outputs.files.push((number, Form::Tar)),
            other => {
                return Err(ApiError::missing(format!(
                    "the output {other:?} is not implemented yet"
                )));
            }
        }
    }
    if outputs.push.is_some() && outputs.names.is_empty() {
        return Err(ApiError::invalid(
            "an image that is to be pushed needs a name",
        ));
    }
    Ok(outputs)
}

impl Outputs {
    /// What the image is called.
    pub(super) fn names(&self) -> impl Iterator<Item = &ImageReference> {
        self.names.iter()
    }
}

/// Says that something beside the steps is done.
pub(super) fn beside(sayer: &Sayer, begun: Instant, name: &str, text: &str) {
    let report = Report::Beside {
        at: begun.elapsed().as_secs_f64(),
        name: name.to_owned(),
        text: text.to_owned(),
        done: true,
    };
    sayer.say(line(&report));
}

/// Who does it.
pub(super) struct Deliver<'a> {
    pub(super) images: &'a Images,
    pub(super) logins: &'a HashMap<String, Credentials>,
    pub(super) sayer: &'a Sayer,
    pub(super) begun: Instant,
}

impl Deliver<'_> {
    /// Files first, then the image, then its registry; answers the manifest's digest there.
    pub(super) async fn all(
        &self,
        image: &StoredImage,
        intake: Intake,
        outputs: &Outputs,
    ) -> Result<Option<Digest>, NoImage> {
        for (number, form) in &outputs.files {
            self.send(image, *number, *form, &outputs.names).await?;
        }
        if !outputs.is_image {
            return Ok(None);
        }
        let named = StoredImage {
            references: outputs.names.clone(),
            ..image.clone()
        };
        let adopted = self.images.adopt_built(&named, intake).await;
        adopted.map_err(NoImage::Engine)?;
        let mut pushed = None;
        if let Some(compression) = outputs.push {
            for name in &outputs.names {
                pushed = self.push(name, compression).await?.or(pushed);
            }
        }
        Ok(pushed)
    }

    async fn push(
        &self,
        name: &ImageReference,
        compression: LayerCompression,
    ) -> Result<Option<Digest>, NoImage> {
        let title = format!("pushing {name}");
        let login = self.logins.get(name.repository().host()).cloned();
        let found = Arc::new(Mutex::new(None));
        let heard = found.clone();
        let sink = Arc::new(move |progress: Progress| {
            if let Progress::Pushed { digest, .. } = progress {
                *heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(digest);
            }
        });
        let what = Pushing::Tag(name.clone());
        let pushed = self.images.push(&what, compression, login, sink).await;
        pushed.map_err(NoImage::Engine)?;
        let digest = found.lock().unwrap_or_else(PoisonError::into_inner).take();
        let told = digest.as_ref().map(ToString::to_string);
        beside(self.sayer, self.begun, &title, &told.unwrap_or_default());
        Ok(digest)
    }

    async fn send(
        &self,
        image: &StoredImage,
        number: usize,
        form: Form,
        names: &[ImageReference],
    ) -> Result<(), NoImage> {
        let (content, snapshotter) = self.images.stores();
        let (sender, mut pieces) = mpsc::channel(WAITING);
        let (image, names) = (image.clone(), names.to_vec());
        let failed = |error: &(dyn std::error::Error + 'static), class| PortError {
            message: chain(error),
            class,
        };
        let writing = tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(PIECE, Outgoing(sender));
            match form {
                Form::Archive => {
                    let created = image.config.created.as_deref().unwrap_or_default();
                    let created = created.parse::<Timestamp>();
                    let saved = SavedImage {
                        id: image.id,
                        layers: image.layers,
                        references: names,
                        created: created.map_or(0, Timestamp::as_seconds),
                    };
                    let out = hoist_image::Copied(&mut out);
                    hoist_image::save_images(&[saved], &content, snapshotter.as_ref(), out)
                        .map_err(|error| failed(&error, error.class()))?;
                }
                Form::Tar => {
                    let view = snapshotter.view(&image.layers, Ids::Host);
                    let view = view.map_err(|error| failed(&error, error.class()))?;
                    hoist_image::files::export(&Root::new(view), &mut out)
                        .map_err(|error| failed(&error, error.class()))?;
                }
            }
            out.flush()
                .map_err(|error| failed(&error, ErrorClass::Unavailable))
        });
        while let Some(piece) = pieces.recv().await {
            let head = line(&Report::Piece {
                output: number,
                length: piece.len() as u64,
            });
            let whole = [head, piece].concat();
            self.sayer.say_piece(whole.into()).await;
        }
        let written = writing.await.unwrap_or_else(|error| {
            Err(PortError {
                message: error.to_string(),
                class: ErrorClass::Internal,
            })
        });
        written.map_err(NoImage::Port)
    }
}

/// Pieces on their way, from a thread.
struct Outgoing(mpsc::Sender<Bytes>);

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE);
        let sent = self
            .0
            .blocking_send(Bytes::copy_from_slice(&bytes[..count]));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))?;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
