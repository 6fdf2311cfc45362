//! Base images: those that are here, and those of registries.

use std::collections::HashMap;
use std::sync::Arc;

use hoist_build::plan::{Base, BaseName};
use hoist_build::ports::{BaseImages, BoxFuture, OutputFn, PortError, Stream};
use hoist_engine::images::{Images, Intake};
use hoist_engine::ports::Credentials;
use hoist_engine::records::ImageRecord;
use hoist_model::{ErrorClass, ImageReference, Platform, Progress, chain};

/// Who knows what to log in with.
pub trait Logins: Send + Sync {
    /// What to log in with at a registry, by its host as references have it.
    fn find<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Option<Credentials>>;
}

impl Logins for HashMap<String, Credentials> {
    fn find<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Option<Credentials>> {
        Box::pin(std::future::ready(self.get(registry).cloned()))
    }
}

/// The engine's images as a build's bases, and those that it can pull.
pub struct Bases<L> {
    images: Images,
    logins: L,
    /// The build's: what is pulled stays for it.
    held: Intake,
}

impl<L> std::fmt::Debug for Bases<L> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bases").finish_non_exhaustive()
    }
}

impl<L: Logins> Bases<L> {
    /// Those of an engine; `logins` are for what it has not, and `held` is a share of the build's intake.
    pub const fn new(images: Images, logins: L, held: Intake) -> Self {
        Self {
            images,
            logins,
            held,
        }
    }
}

impl<L: Logins> BaseImages for Bases<L> {
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
                let login = self.logins.find(reference.repository().host()).await;
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
                    .pull_within(self.held.share(), &reference, Some(&platform), login, sink)
                    .await;
                let pulled = pulled.map_err(|error| refused(chain(&error), error.class()))?;
                record = Some(pulled.image);
            }
            let record = record.expect("it was here or was pulled");
            base_of(&self.images, &record)
        })
    }
}

/// An image that is here, to build on.
pub(crate) fn base_of(images: &Images, record: &ImageRecord) -> Result<Base, PortError> {
    let config = images.config(&record.id).map_err(|error| PortError {
        message: chain(&error),
        class: error.class(),
    })?;
    Ok(Base {
        id: record.id.to_string(),
        config: (*config).clone(),
        layers: record.layers.clone(),
    })
}
