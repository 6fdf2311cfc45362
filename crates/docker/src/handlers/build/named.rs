//! Names of our client's that stand for something else than images of that name (`--build-context`): other contexts, other images.

use std::collections::BTreeMap;

use hoist_build::plan::{Base, BaseName, MAIN_CONTEXT};
use hoist_build::ports::{BaseImages, BoxFuture, OutputFn, PortError};
use hoist_buildkit::normal_name;
use hoist_model::Digest;

/// Images, but for those names.
pub(super) struct NamedContexts<B> {
    main: Option<Vec<Digest>>,
    contexts: BTreeMap<String, Vec<Digest>>,
    images: BTreeMap<String, String>,
    source: B,
}

impl<B> NamedContexts<B> {
    /// Layers of the contexts and references of the images, by name; the context of no name is the build's.
    pub(super) fn new(
        mut contexts: BTreeMap<String, Vec<Digest>>,
        images: BTreeMap<String, String>,
        source: B,
    ) -> Self {
        let main = contexts.remove(MAIN_CONTEXT);
        let contexts = contexts.into_iter();
        let images = images.into_iter();
        Self {
            main,
            contexts: contexts
                .map(|(name, layers)| (normal_name(&name), layers))
                .collect(),
            images: images
                .map(|(name, image)| (normal_name(&name), image))
                .collect(),
            source,
        }
    }

    /// The build's context alone.
    pub(super) fn main(&self) -> BTreeMap<String, Vec<Digest>> {
        let main = self.main.iter();
        main.map(|layers| (MAIN_CONTEXT.to_owned(), layers.clone()))
            .collect()
    }
}

impl<B: BaseImages> BaseImages for NamedContexts<B> {
    fn find<'a>(
        &'a self,
        name: &'a BaseName,
        pull: bool,
        output: OutputFn,
    ) -> BoxFuture<'a, Result<Base, PortError>> {
        Box::pin(async move {
            let known = normal_name(&name.reference);
            if let Some(layers) = self.contexts.get(&known) {
                return Ok(Base::of_files(layers.clone()));
            }
            match self.images.get(&known) {
                None => self.source.find(name, pull, output).await,
                Some(image) => {
                    let name = BaseName {
                        reference: image.clone(),
                        platform: name.platform.clone(),
                    };
                    self.source.find(&name, pull, output).await
                }
            }
        })
    }
}
