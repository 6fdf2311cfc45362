//! Images of what clients send and containers wrote: archives, root file systems, commits.

use std::io::Read;
use std::sync::Arc;

use hoist_image::files::{Change, Root};
use hoist_image::{CommitOptions, ImportOptions};
use hoist_model::{ErrorClass, ImageReference, Platform, chain};

use super::{Images, at_pace, blocking, refused};
use crate::clock::now;
use crate::error::ImageError;
use crate::ports::ProgressFn;
use crate::records::ImageRecord;

impl Images {
    /// Takes over the images of an archive made by `docker save` or in OCI layout; answers each with its names.
    pub async fn load(
        &self,
        archive: Box<dyn Read + Send>,
        platforms: Vec<Platform>,
        progress: ProgressFn,
    ) -> Result<Vec<(Arc<ImageRecord>, Vec<ImageReference>)>, ImageError> {
        let intake = self.intake().await;
        let inner = self.inner.clone();
        let (stored, intake) = at_pace(move || {
            let sink = |report| progress(report);
            let (content, snapshotter) = (&inner.content, inner.snapshotter.as_ref());
            let loaded =
                hoist_image::load_archive(archive, content, snapshotter, &platforms, &sink);
            let stored = loaded.map_err(|error| refused(chain(&error), error.class()))?;
            Ok((stored, intake))
        })
        .await?;
        let mut loaded = Vec::with_capacity(stored.len());
        for image in &stored {
            let record = self.adopt(image, "load", image.id.as_str()).await?;
            loaded.push((record, image.references.clone()));
        }
        // Not finished: an archive may have layers of no image.
        drop(intake);
        Ok(loaded)
    }

    /// Makes an image of one layer from a root file system's tar.
    pub async fn import(
        &self,
        archive: Box<dyn Read + Send>,
        reference: Option<&ImageReference>,
        message: &str,
        changes: &[String],
        platform: Option<&Platform>,
    ) -> Result<Arc<ImageRecord>, ImageError> {
        let intake = self.intake().await;
        let inner = self.inner.clone();
        let options = ImportOptions {
            changes: changes.to_vec(),
            message: message.to_owned(),
            platform: platform.cloned().unwrap_or_else(Platform::host),
            created: now(),
            reference: reference.cloned(),
        };
        let (stored, intake) = at_pace(move || {
            let (content, snapshotter) = (&inner.content, inner.snapshotter.as_ref());
            let imported = hoist_image::import_rootfs(archive, &options, content, snapshotter);
            let stored = imported.map_err(|error| refused(chain(&error), error.class()))?;
            Ok((stored, intake))
        })
        .await?;
        let image = self.adopt(&stored, "import", stored.id.as_str()).await?;
        intake.finish();
        Ok(image)
    }

    /// Makes an image of what a container changed. `changes` is asked on a thread that may block.
    pub(crate) async fn commit(
        &self,
        changes: impl FnOnce() -> Result<(Root, Vec<Change>), (String, ErrorClass)> + Send + 'static,
        options: CommitOptions,
    ) -> Result<Arc<ImageRecord>, ImageError> {
        let intake = self.intake().await;
        let inner = self.inner.clone();
        let (stored, intake) = blocking(move || {
            let (upper, changes) = changes().map_err(|(message, class)| refused(message, class))?;
            let (content, snapshotter) = (&inner.content, inner.snapshotter.as_ref());
            let committed =
                hoist_image::commit_changes(&upper, &changes, options, content, snapshotter);
            let stored = committed.map_err(|error| refused(chain(&error), error.class()))?;
            Ok((stored, intake))
        })
        .await?;
        let image = self.adopt(&stored, "create", stored.id.as_str()).await?;
        intake.finish();
        Ok(image)
    }
}
