//! From a request to an image that the engine has: what every door onto the builder does.

use std::collections::HashMap;
use std::sync::Arc;

use hoist_build::ports::PortError;
use hoist_build::{BuildError, BuildRequest, Builder, EventFn};
use hoist_buildkit::Bases;
use hoist_engine::error::ImageError;
use hoist_engine::images::{Images, Intake};
use hoist_engine::ports::Credentials;
use hoist_model::Digest;

/// A build that can begin.
pub(super) struct Job {
    pub(super) images: Images,
    pub(super) builder: Builder,
    /// Held since before the first layer of a context came.
    pub(super) intake: Intake,
    pub(super) logins: HashMap<String, Credentials>,
    pub(super) request: BuildRequest,
    pub(super) events: EventFn,
}

/// Why there is no image.
pub(super) enum NoImage {
    /// It could not be built.
    Build(BuildError),
    /// The engine could not take it over.
    Engine(ImageError),
    /// Somebody outside could not do their part.
    Port(PortError),
}

impl Job {
    /// Builds, and names what was built. Dropping the future ends it.
    pub(super) async fn perform(self) -> Result<Digest, NoImage> {
        let bases = Arc::new(Bases::new(
            self.images.clone(),
            self.logins,
            self.intake.share(),
        ));
        let built = self.builder.build(self.request, bases, self.events).await;
        let built = match built {
            Ok(built) => {
                let built = built.image;
                let adopted = self.images.adopt_built(&built, self.intake).await;
                adopted
                    .map(|image| image.id.clone())
                    .map_err(NoImage::Engine)
            }
            Err(error) => {
                drop(self.intake);
                Err(NoImage::Build(error))
            }
        };
        // The context, and what a failed step left, are nobody's.
        self.images.collect_soon();
        built
    }
}
