//! Where a build's base images come from: those that are here, and those of registries.

use std::collections::HashMap;
use std::sync::Arc;

use hoist_build::plan::{Base, BaseName};
use hoist_build::ports::{BaseImages, BoxFuture, OutputFn, PortError, Stream};
use hoist_engine::images::Images;
use hoist_engine::ports::Credentials;
use hoist_model::{ErrorClass, ImageReference, Platform, Progress, chain};

/// Base images: those that are here, and those of registries.
pub(super) struct Bases {
    pub(super) images: Images,
    pub(super) logins: HashMap<String, Credentials>,
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
