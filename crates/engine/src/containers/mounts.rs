//! From the mounts a request names to the mount points a container has.
//!
//! Resolved once, at create: volumes are made, anonymous ones named, and every point gets one source. Later
//! wins on the same destination: image volumes, then `--volumes-from`, then what the request names itself.

use std::collections::BTreeMap;
use std::path::Path;

use hoist_model::ContainerId;
use hoist_model::container::{ContainerSpec, MountSource, MountSpec, Propagation};

use super::Containers;
use crate::error::ContainerError;
use crate::records::{MountKind, MountPoint, MountedImage};
use crate::volumes::VolumeRequest;

/// Tidies an absolute path of the container without looking at any file system: `/a//b/./c/` is `/a/b/c`.
pub(crate) fn clean_target(path: &str) -> Result<String, ContainerError> {
    if !path.starts_with('/') {
        return Err(ContainerError::Invalid(format!(
            "invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    let target = hoist_model::path::clean(path);
    if target == "/" {
        return Err(ContainerError::Invalid(
            "invalid specification: destination can't be '/'".to_owned(),
        ));
    }
    Ok(target)
}

impl Containers {
    /// Resolves every mount of a request. Volumes made here stay when a later step of the create fails, as in Docker;
    /// anonymous ones are then removed by the caller, who finds them in the answer.
    pub(crate) async fn resolve_mounts(
        &self,
        spec: &ContainerSpec,
        id: &ContainerId,
    ) -> Result<Vec<MountPoint>, ContainerError> {
        let mut points: BTreeMap<String, MountPoint> = BTreeMap::new();
        for entry in &spec.volumes_from {
            for point in self.points_of(entry)? {
                points.insert(point.destination.clone(), point);
            }
        }
        let mut own: BTreeMap<String, ()> = BTreeMap::new();
        for mount in &spec.mounts {
            let destination = clean_target(&mount.target)?;
            if own.insert(destination.clone(), ()).is_some() {
                return Err(ContainerError::Invalid(format!(
                    "Duplicate mount point: {destination}"
                )));
            }
            let point = self.resolve_mount(mount, destination.clone(), id).await?;
            points.insert(destination, point);
        }
        for path in &spec.anonymous_volumes {
            let destination = clean_target(path)?;
            if points.contains_key(&destination) {
                continue;
            }
            let point = self
                .volume_point(destination.clone(), VolumeRequest::default(), id)
                .await?;
            points.insert(destination, point);
        }
        // Ordered by destination, so that a parent is mounted before what is below it.
        Ok(points.into_values().collect())
    }

    fn points_of(&self, entry: &str) -> Result<Vec<MountPoint>, ContainerError> {
        let (name, mode) = entry.split_once(':').unwrap_or((entry, ""));
        if !matches!(mode, "" | "ro" | "rw" | "z" | "Z") {
            return Err(ContainerError::Invalid(format!(
                "invalid mode: {mode} for volumes-from {name}"
            )));
        }
        let other = self.resolve(name)?;
        let takes = |kind| matches!(kind, MountKind::Bind | MountKind::Volume);
        let points = other
            .mounts
            .iter()
            .filter(|point| takes(point.kind))
            .cloned();
        Ok(points
            .map(|mut point| {
                point.writable &= mode != "ro";
                point.copy_up = false;
                point
            })
            .collect())
    }

    async fn resolve_mount(
        &self,
        mount: &MountSpec,
        destination: String,
        id: &ContainerId,
    ) -> Result<MountPoint, ContainerError> {
        match &mount.source {
            MountSource::Bind {
                path,
                create_missing,
                propagation,
                recursive,
                writable_below,
            } => {
                bind_source(path, *create_missing)?;
                Ok(MountPoint {
                    source: path.clone(),
                    mode: mount.mode.clone(),
                    writable: !mount.read_only,
                    propagation: propagation.as_str().to_owned(),
                    recursive: *recursive,
                    writable_below: *writable_below,
                    ..blank(MountKind::Bind, destination)
                })
            }
            MountSource::Volume {
                name,
                no_copy,
                subpath,
                driver,
                options,
                labels,
            } => {
                let request = VolumeRequest {
                    name: name.clone(),
                    driver: driver.clone(),
                    options: options.iter().cloned().collect(),
                    labels: labels.iter().cloned().collect(),
                    made_for: None,
                };
                let mut point = self.volume_point(destination, request, id).await?;
                point.mode.clone_from(&mount.mode);
                point.writable = !mount.read_only;
                point.subpath.clone_from(subpath);
                point.copy_up &= !no_copy && subpath.is_empty();
                Ok(point)
            }
            MountSource::Tmpfs {
                size,
                mode,
                options,
            } => {
                let mut words: Vec<String> = options
                    .split(',')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect();
                if *size > 0 {
                    words.push(format!("size={size}"));
                }
                if *mode > 0 {
                    words.push(format!("mode={mode:o}"));
                }
                Ok(MountPoint {
                    options: words.join(","),
                    writable: !mount.read_only,
                    ..blank(MountKind::Tmpfs, destination)
                })
            }
            MountSource::Image { reference, subpath } => {
                let image = self.inner.parts.images.resolve(reference)?;
                Ok(MountPoint {
                    name: reference.clone(),
                    // Docker has a path of the host here; our mounts of images have none.
                    source: image.id.as_str().to_owned(),
                    writable: false,
                    propagation: Propagation::default().as_str().to_owned(),
                    subpath: subpath.clone(),
                    image: Some(MountedImage {
                        id: image.id.clone(),
                        layers: image.layers.clone(),
                    }),
                    ..blank(MountKind::Image, destination)
                })
            }
        }
    }

    async fn volume_point(
        &self,
        destination: String,
        mut request: VolumeRequest,
        id: &ContainerId,
    ) -> Result<MountPoint, ContainerError> {
        let anonymous = request.name.is_none();
        request.made_for = Some(id.clone());
        let volume = self.volumes().create(request).await?;
        Ok(MountPoint {
            name: volume.name.clone(),
            source: self
                .volumes()
                .mountpoint(&volume.name)
                .display()
                .to_string(),
            driver: "local".to_owned(),
            anonymous,
            copy_up: true,
            ..blank(MountKind::Volume, destination)
        })
    }
}

/// Checks, or makes, the host's side of a bind. Texts are Docker's.
fn bind_source(path: &str, create_missing: bool) -> Result<(), ContainerError> {
    if !path.starts_with('/') {
        return Err(ContainerError::Invalid(format!(
            "invalid mount config for type \"bind\": invalid mount path: '{path}' mount path must be absolute"
        )));
    }
    if Path::new(path).exists() {
        return Ok(());
    }
    if !create_missing {
        return Err(ContainerError::Invalid(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {path}"
        )));
    }
    std::fs::create_dir_all(path).map_err(|source| ContainerError::Io {
        context: format!("error while creating mount source path '{path}'"),
        source,
    })
}

fn blank(kind: MountKind, destination: String) -> MountPoint {
    MountPoint {
        kind,
        name: String::new(),
        source: String::new(),
        destination,
        driver: String::new(),
        mode: String::new(),
        writable: true,
        propagation: String::new(),
        options: String::new(),
        subpath: String::new(),
        recursive: true,
        writable_below: false,
        anonymous: false,
        copy_up: false,
        image: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_tidied_and_the_root_refused() {
        assert_eq!(clean_target("/a//b/./c/../d/").unwrap(), "/a/b/d");
        assert!(clean_target("a").unwrap_err().to_string().contains("'a'"));
        for root in ["/", "//", "/..", "/a/.."] {
            assert!(clean_target(root).is_err(), "{root}");
        }
    }
}
