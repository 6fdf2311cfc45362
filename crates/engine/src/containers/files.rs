//! Copying files out of and into containers.

use std::io::{Read, Write};
use std::sync::Arc;

use hoist_image::files::{self, FilesError, PathStat, UnpackOptions};
use hoist_model::chain;

use super::Containers;
use super::view::{Places, View};
use crate::error::ContainerError;
use crate::paced::paced;
use crate::records::ContainerRecord;

/// The files of one container, as they are while this lives.
#[derive(Clone)]
pub struct ContainerFiles {
    containers: Containers,
    record: Arc<ContainerRecord>,
    /// The container as the caller named it.
    name: String,
    view: Arc<View>,
}

impl Containers {
    /// Opens the files of a container, running or not.
    pub async fn files(&self, name: &str) -> Result<ContainerFiles, ContainerError> {
        loop {
            let start_ended = self.inner.views.start_ended();
            let record = self.resolve(name)?;
            let containers = self.clone();
            let of = record.clone();
            if let Some(view) = blocking(move || containers.view(&of)).await? {
                return Ok(ContainerFiles {
                    containers: self.clone(),
                    record,
                    name: name.to_owned(),
                    view,
                });
            }
            if self.inner.views.starts(&record.id) {
                start_ended.await;
            }
        }
    }

    /// None if it starts, or has started since the record was read.
    fn view(&self, record: &ContainerRecord) -> Result<Option<Arc<View>>, ContainerError> {
        if let Some(running) = record.state.running() {
            let view = View::of_running(running.pid, self.mapping(&record.spec));
            // Seen after the root was opened, the same process cannot have been another before.
            let now = self.resolve(record.id.as_str())?;
            let same = now.state.running().map(|now| now.pid) == Some(running.pid);
            match view {
                Ok(view) if same => return Ok(Some(Arc::new(view))),
                Err(source) if same => {
                    let context = format!("open the root of container {}", record.id.as_str());
                    return Err(ContainerError::Io { context, source });
                }
                _ => {}
            }
        }
        let snapshotter = self.inner.parts.images.snapshotter().as_ref();
        let places = Places {
            directory: &self.directory(&record.id),
            etc: &self.etc_directory(&record.id),
            mapping: self.mapping(&record.spec),
        };
        let rests = || {
            let now = self.resolve(record.id.as_str());
            now.is_ok_and(|now| now.state.running().is_none())
        };
        let views = &self.inner.views;
        views.of_resting(record, rests, snapshotter, self.volumes(), &places)
    }
}

impl ContainerFiles {
    /// What is at a path, the last link not followed.
    pub async fn stat(&self, path: &str) -> Result<PathStat, ContainerError> {
        let (this, path) = (self.clone(), path.to_owned());
        blocking(move || {
            this.view
                .root
                .stat(&path)
                .map_err(|error| this.told(&path, error))
        })
        .await
    }

    /// Writes what is at a path as a tar.
    pub async fn read(
        &self,
        path: &str,
        out: impl Write + Send + 'static,
    ) -> Result<(), ContainerError> {
        self.containers.tell(&self.record.id, "archive-path").await;
        let (this, path) = (self.clone(), path.to_owned());
        at_pace(move || {
            files::pack(&this.view.root, &path, out).map_err(|error| this.told(&path, error))
        })
        .await
    }

    /// Unpacks a tar into a directory. `keep_kinds` refuses that a directory gives way to something else or the other way
    /// round; `as_user` gives everything to the user the container runs as.
    pub async fn write(
        &self,
        path: &str,
        archive: Box<dyn Read + Send>,
        keep_kinds: bool,
        as_user: bool,
    ) -> Result<(), ContainerError> {
        let (this, path) = (self.clone(), path.to_owned());
        at_pace(move || {
            let owner = if as_user { this.user()? } else { None };
            let options = UnpackOptions {
                keep_kinds,
                owner,
                ..UnpackOptions::default()
            };
            files::unpack(&this.view.root, &path, archive, options)
                .map_err(|error| this.told(&path, error))
        })
        .await?;
        self.containers
            .tell(&self.record.id, "extract-to-dir")
            .await;
        Ok(())
    }

    /// Who the container runs as; nobody in particular where it does not say.
    fn user(&self) -> Result<Option<(u32, u32)>, ContainerError> {
        use std::os::fd::AsFd;
        let user = &self.record.spec.process.user;
        if user.is_empty() {
            return Ok(None);
        }
        let found = hoist_runtime::users::resolve(self.view.root.as_fd(), user, &[])
            .map_err(|error| ContainerError::Invalid(chain(&error)))?;
        Ok(Some((found.uid, found.gid)))
    }

    /// What is missing is told of by the names the caller used.
    fn told(&self, path: &str, error: FilesError) -> ContainerError {
        match error {
            FilesError::NotFound(_) => ContainerError::NoSuchFile {
                path: path.to_owned(),
                container: self.name.clone(),
            },
            error => ContainerError::Files(error),
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
) -> Result<T, ContainerError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(ContainerError::Internal(error.to_string())))
}

/// The same for what is done at a client's pace.
pub(super) async fn at_pace<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
) -> Result<T, ContainerError> {
    paced(work)
        .await
        .unwrap_or_else(|error| Err(ContainerError::Internal(error.to_string())))
}
