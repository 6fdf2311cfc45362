//! What a container changed of its image: told, exported, and made an image of.

use std::io::Write;
use std::sync::Arc;

use hoist_image::document::{Healthcheck, HistoryEntry, ImageConfig, ImageRuntimeConfig};
use hoist_image::files::{self, Change, Root};
use hoist_image::{CommitOptions, Ids};
use hoist_model::{ContainerId, ImageReference, chain};
use hoist_store::Class;

use super::files::{at_pace, blocking};
use super::{Containers, container_event};
use crate::clock::now;
use crate::error::ContainerError;
use crate::records::{ContainerRecord, ImageRecord};

/// A wish for an image of a container.
#[derive(Debug, Default)]
pub struct CommitRequest {
    /// The name the image gets, if any.
    pub reference: Option<ImageReference>,
    /// A note.
    pub message: String,
    /// Who.
    pub author: String,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    /// What containers of the image begin with; what it leaves open is the container's.
    pub config: ImageRuntimeConfig,
    /// Whether the container stands still meanwhile.
    pub pause: bool,
}

impl Containers {
    /// What the container changed of its image's files.
    pub async fn changes(&self, id: &ContainerId) -> Result<Vec<Change>, ContainerError> {
        let (this, record) = (self.clone(), self.resolve(id.as_str())?);
        blocking(move || Ok(this.compare(&record)?.1)).await
    }

    /// Writes the container's whole root as a tar, without what is mounted in it.
    pub async fn export(
        &self,
        id: &ContainerId,
        out: impl Write + Send + 'static,
    ) -> Result<(), ContainerError> {
        let snapshotter = self.inner.parts.images.snapshotter().clone();
        let key = id.clone();
        self.tell(id, "export").await;
        at_pace(move || {
            let seen = snapshotter.seen(&key).map_err(|error| broken(&error))?;
            Ok(files::export(&Root::new(seen), out)?)
        })
        .await
    }

    /// Makes an image of the container.
    pub async fn commit(
        &self,
        id: &ContainerId,
        request: CommitRequest,
    ) -> Result<Arc<ImageRecord>, ContainerError> {
        let record = self.resolve(id.as_str())?;
        let running = record.state.running();
        let mut paused_here = request.pause && running.is_some_and(|running| !running.paused);
        if paused_here {
            match self.pause(id).await {
                // It ended meanwhile, and stands still by itself.
                Err(ContainerError::NotRunning(_)) => paused_here = false,
                result => result?,
            }
        }
        let image = self.make_image(&record, request).await;
        if paused_here && let Err(error) = self.unpause(id).await {
            tracing::warn!(container = %id, %error, "stays paused after a commit");
        }
        let (image, message, name) = image?;
        let special = [
            ("comment", message),
            ("imageID", image.id.as_str().to_owned()),
            ("imageRef", name),
        ];
        let event = container_event("commit", &record, &special);
        let store = &self.inner.parts.store;
        let told = store.transaction(Class::Process, move |tx| {
            tx.event(event);
            Ok::<_, ContainerError>(())
        });
        told.await?;
        Ok(image)
    }

    async fn make_image(
        &self,
        record: &Arc<ContainerRecord>,
        request: CommitRequest,
    ) -> Result<(Arc<ImageRecord>, String, String), ContainerError> {
        let images = self.inner.parts.images.clone();
        let known = record.spec.image_id.as_ref();
        let base = known.and_then(|id| images.config(id).ok());
        let base = base.map_or_else(|| nameless(record), Arc::unwrap_or_clone);
        let name = request.reference.as_ref().map(ImageReference::familiar);
        let message = request.message.clone();
        let options = CommitOptions {
            base,
            layers: record.layers.clone(),
            runtime: merge(request.config, record),
            changes: request.changes,
            author: request.author,
            message: request.message,
            created_by: record
                .spec
                .process
                .command
                .iter()
                .flatten()
                .cloned()
                .collect::<Vec<_>>()
                .join(" "),
            created: now(),
            reference: request.reference,
        };
        let (this, of) = (self.clone(), record.clone());
        let changes = move || {
            this.compare(&of)
                .map_err(|error| (chain(&error), error.class()))
        };
        let image = images.commit(changes, options).await?;
        Ok((image, message, name.unwrap_or_default()))
    }

    /// The container's upper directory, and how it differs from the image. Blocking.
    pub(super) fn compare(
        &self,
        record: &ContainerRecord,
    ) -> Result<(Root, Vec<Change>), ContainerError> {
        let snapshotter = self.inner.parts.images.snapshotter();
        // Both with the ids that its processes see.
        let lower = snapshotter.view(&record.layers, Ids::Host);
        let lower = lower.map_err(|error| broken(&error))?;
        let upper = snapshotter.upper(&record.id);
        let upper = Root::new(upper.map_err(|error| broken(&error))?);
        let changes = files::differences(&upper, &Root::new(lower))?;
        Ok((upper, changes))
    }
}

fn broken(error: &hoist_image::SnapshotError) -> ContainerError {
    ContainerError::Internal(chain(error))
}

/// Stands for the configuration of an image that is gone: its layers without their history.
fn nameless(record: &ContainerRecord) -> ImageConfig {
    ImageConfig {
        architecture: record.platform.architecture.clone(),
        os: record.platform.os.clone(),
        variant: record.platform.variant.clone(),
        history: record
            .layers
            .iter()
            .map(|_| HistoryEntry::default())
            .collect(),
        ..ImageConfig::default()
    }
}

/// Fills what a request leaves open with what the container runs by (moby `daemon.merge`).
fn merge(mut own: ImageRuntimeConfig, record: &ContainerRecord) -> ImageRuntimeConfig {
    let (spec, process) = (&record.spec, &record.spec.process);
    if own.user.is_empty() {
        own.user.clone_from(&process.user);
    }
    if own.working_dir.is_empty() {
        own.working_dir.clone_from(&process.working_directory);
    }
    if own.entrypoint.as_ref().is_none_or(Vec::is_empty) {
        own.entrypoint.clone_from(&process.entrypoint);
        if own.cmd.as_ref().is_none_or(Vec::is_empty) {
            own.cmd.clone_from(&process.command);
        }
    }
    own.env = super::merge::merge_environment(&process.environment, &own.env);
    for (name, value) in &spec.labels {
        own.labels
            .entry(name.clone())
            .or_insert_with(|| value.clone());
    }
    let empty = || serde_json::Value::Object(serde_json::Map::new());
    for port in &spec.exposed_ports {
        own.exposed_ports
            .entry(port.to_string())
            .or_insert_with(empty);
    }
    for path in &spec.anonymous_volumes {
        own.volumes.entry(path.clone()).or_insert_with(empty);
    }
    if own.stop_signal.is_none() {
        own.stop_signal = spec.stop_signal.map(|signal| signal.to_string());
    }
    if own.healthcheck.is_none() {
        own.healthcheck = spec.healthcheck.as_ref().map(|check| Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        });
    }
    if own.shell.is_none() && !spec.shell.is_empty() {
        own.shell = Some(spec.shell.clone());
    }
    if own.on_build.is_none() && !spec.on_build.is_empty() {
        own.on_build = Some(spec.on_build.clone());
    }
    own
}
