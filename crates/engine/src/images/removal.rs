//! Taking names and images away (API `ImageDelete`).

use std::sync::Arc;

use hoist_model::container::ContainerState;
use hoist_model::{ImageReference, ImageSelector};
use hoist_store::{Class, Transaction};

use super::{ImageChange, Images, image_event};
use crate::error::ImageError;
use crate::records::{ContainerRecord, ImageRecord, TagRecord};

impl Images {
    /// Takes a name away and, with the last, the image. Layers follow when nobody names them.
    ///
    /// Texts of refusals are Docker's: scripts match on "must be forced" and "cannot be forced".
    pub async fn remove(
        &self,
        name: &str,
        force: bool,
        _prune: bool,
    ) -> Result<Vec<ImageChange>, ImageError> {
        let image = self.resolve(name)?;
        let by_reference = named_by_reference(&image, name, self);
        let typed = name.to_owned();
        let committed = self
            .inner
            .store
            .transaction(Class::Disk, move |tx| {
                remove(tx, &image, by_reference.as_ref(), &typed, force)
            })
            .await?;
        let changes = committed.value;
        self.request_collection();
        Ok(changes)
    }
}

/// The reference by which `name` finds the image, unless it finds it by id.
fn named_by_reference(image: &ImageRecord, name: &str, images: &Images) -> Option<ImageReference> {
    let reference = ImageSelector::parse(name).reference?;
    let exact = match reference.digest() {
        Some(digest) => reference.with_digest(digest),
        None => reference,
    };
    images
        .references(&image.id)
        .into_iter()
        .find(|held| *held == exact)
}

fn remove(
    tx: &mut Transaction,
    image: &ImageRecord,
    by_reference: Option<&ImageReference>,
    typed: &str,
    force: bool,
) -> Result<Vec<ImageChange>, ImageError> {
    let record = tx
        .get::<ImageRecord>(image.id.as_str())
        .ok_or_else(|| ImageError::NotFound(image.id.to_string()))?;
    let held: Vec<ImageReference> = tx
        .list::<TagRecord>()
        .iter()
        .filter(|tag| tag.image == image.id)
        .map(|tag| tag.reference.clone())
        .collect();
    let tags = held.iter().filter(|name| name.tag().is_some());
    let gone: Vec<ImageReference> = match by_reference {
        Some(reference) if tags.clone().any(|tag| tag != reference) => {
            // Other tags remain: only this name goes, and its repository's digests with the repository's last tag.
            let repository_stays = tags
                .clone()
                .any(|tag| tag != reference && tag.repository() == reference.repository());
            held.iter()
                .filter(|name| {
                    *name == reference
                        || (!repository_stays
                            && name.tag().is_none()
                            && name.repository() == reference.repository())
                })
                .cloned()
                .collect()
        }
        _ => held.clone(),
    };
    let whole = gone.len() == held.len();
    if by_reference.is_none() && tags.count() > 1 && !force {
        return Err(ImageError::Conflict(format!(
            "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            image.id.short()
        )));
    }
    if whole {
        refuse_if_used(tx, image, by_reference.map(|_| typed), force)?;
    }
    let mut changes = Vec::new();
    for name in gone {
        tx.delete::<TagRecord>(&name.to_string());
        tx.event(image_event(
            "untag",
            image.id.as_str(),
            image.id.as_str(),
            &record,
        ));
        changes.push(ImageChange::Untagged(name.familiar()));
    }
    if whole {
        tx.delete::<ImageRecord>(image.id.as_str());
        tx.event(image_event(
            "delete",
            image.id.as_str(),
            image.id.as_str(),
            &record,
        ));
        changes.push(ImageChange::Deleted(image.id.clone()));
    }
    Ok(changes)
}

/// Whether a container was made from an image or mounts it.
pub(super) fn uses(container: &ContainerRecord, image: &ImageRecord) -> bool {
    let mut mounted = container.mounts.iter().flat_map(|point| &point.image);
    container.spec.image_id.as_ref() == Some(&image.id)
        || mounted.any(|mounted| mounted.id == image.id)
}

/// `by_name` is the reference as the caller wrote it, which is how Docker repeats it.
fn refuse_if_used(
    tx: &Transaction,
    image: &ImageRecord,
    by_name: Option<&str>,
    force: bool,
) -> Result<(), ImageError> {
    let users: Vec<Arc<ContainerRecord>> = tx
        .list::<ContainerRecord>()
        .into_iter()
        .filter(|container| uses(container, image))
        .collect();
    let runs = |container: &&Arc<ContainerRecord>| {
        matches!(
            container.state,
            ContainerState::Running(_) | ContainerState::Starting | ContainerState::Restarting(_)
        )
    };
    if let Some(container) = users.iter().find(runs) {
        return Err(ImageError::Conflict(match by_name {
            Some(name) if !force => format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
                container.id.short(),
                image.id.short()
            ),
            _ => format!(
                "conflict: unable to delete {} (cannot be forced) - image is being used by running container {}",
                image.id.short(),
                container.id.short()
            ),
        }));
    }
    match users.first() {
        Some(container) if !force => Err(ImageError::Conflict(match by_name {
            Some(name) => format!(
                "conflict: unable to remove repository reference {name:?} (must force) - container {} is using its referenced image {}",
                container.id.short(),
                image.id.short()
            ),
            None => format!(
                "conflict: unable to delete {} (must be forced) - image is being used by stopped container {}",
                image.id.short(),
                container.id.short()
            ),
        })),
        _ => Ok(()),
    }
}
