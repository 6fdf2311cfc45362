//! The builder's CacheStore port over registries: a cache is what one name of a repository leads to.

use std::sync::Arc;

use axum::body::Bytes;
use hoist_build::ports::{BoxFuture, CacheStore, PortError};
use hoist_buildkit::{CacheAccess, CacheRegistries};
use hoist_engine::images::Images;
use hoist_engine::ports::Credentials;
use hoist_image::document::Descriptor;
use hoist_model::{Digest, ImageReference, chain};
use hoist_registry::{Access, Artifact, PullError};

use super::registry::{RegistrySource, credentials};

/// Opens them with the engine's own client of registries.
pub(crate) struct RegistryCaches {
    pub(crate) source: Arc<RegistrySource>,
    pub(crate) images: Images,
}

impl CacheRegistries for RegistryCaches {
    fn open(
        &self,
        reference: ImageReference,
        login: Option<Credentials>,
        access: CacheAccess,
    ) -> Arc<dyn CacheStore> {
        let access = match access {
            CacheAccess::Read => Access::Pull,
            CacheAccess::Write => Access::Push,
        };
        let (client, stores) = (self.source.client(), self.images.stores());
        let login = login.map(credentials);
        Arc::new(RegistryCache(Artifact::new(
            &client, stores, reference, login, access,
        )))
    }
}

struct RegistryCache(Artifact);

fn refused(error: &PullError) -> PortError {
    PortError {
        message: chain(error),
        class: error.class(),
    }
}

impl CacheStore for RegistryCache {
    fn manifest(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, PortError>> {
        Box::pin(async {
            let manifest = self.0.manifest().await.map_err(|error| refused(&error))?;
            Ok(manifest.map(Vec::from))
        })
    }

    fn document(&self, descriptor: Descriptor) -> BoxFuture<'_, Result<Vec<u8>, PortError>> {
        Box::pin(async move {
            let document = self.0.document(&descriptor).await;
            document.map(Vec::from).map_err(|error| refused(&error))
        })
    }

    fn fetch(
        &self,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> BoxFuture<'_, Result<(), PortError>> {
        Box::pin(async move {
            let fetched = self.0.fetch_layer(descriptor, diff_id).await;
            fetched.map_err(|error| refused(&error))
        })
    }

    fn send(
        &self,
        layer: Digest,
        known: Option<Descriptor>,
    ) -> BoxFuture<'_, Result<Descriptor, PortError>> {
        Box::pin(async move {
            let pushed = self.0.push_layer(layer, known).await;
            pushed.map_err(|error| refused(&error))
        })
    }

    fn put<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>> {
        Box::pin(async move {
            let bytes = Bytes::from(bytes);
            let digest = self.0.put(&bytes).await.map_err(|error| refused(&error))?;
            Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
        })
    }

    fn name<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>> {
        Box::pin(async move {
            let bytes = Bytes::from(bytes);
            let put = self.0.put_manifest(media_type, &bytes).await;
            let digest = put.map_err(|error| refused(&error))?;
            Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
        })
    }
}
