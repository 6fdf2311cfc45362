//! Events about containers, with the attributes Docker gives them (API `SystemEvents`).

use hoist_model::{Event, EventKind};

use crate::clock::now;
use crate::records::{ContainerRecord, MountKind, NetworkAttachment};

/// An event about a container: its labels, image and name, and what is special to the action.
pub(crate) fn container_event(
    action: &str,
    record: &ContainerRecord,
    special: &[(&'static str, String)],
) -> Event {
    let mut attributes = record.spec.labels.clone();
    attributes.insert("image".to_owned(), record.spec.image.clone());
    attributes.insert("name".to_owned(), record.name.clone());
    attributes.extend(
        special
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    Event {
        at: now(),
        kind: EventKind::Container,
        action: action.to_owned(),
        actor: record.id.as_str().to_owned(),
        attributes,
    }
}

/// Events about the volumes a container mounts or lets go.
pub(super) fn mount_events(action: &str, record: &ContainerRecord) -> Vec<Event> {
    let volumes = record
        .mounts
        .iter()
        .filter(|mount| mount.kind == MountKind::Volume);
    volumes
        .map(|mount| {
            let mut attributes = vec![
                ("container", record.id.as_str().to_owned()),
                ("driver", mount.driver.clone()),
            ];
            if action == "mount" {
                attributes.extend([
                    ("destination", mount.destination.clone()),
                    ("propagation", mount.propagation.clone()),
                    ("read/write", mount.writable.to_string()),
                ]);
            }
            Event {
                at: now(),
                kind: EventKind::Volume,
                action: action.to_owned(),
                actor: mount.name.clone(),
                attributes: attributes
                    .into_iter()
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect(),
            }
        })
        .collect()
}

/// What a prune gave back.
pub(crate) fn prune_event(kind: EventKind, reclaimed: u64) -> Event {
    Event {
        at: now(),
        kind,
        action: "prune".to_owned(),
        actor: String::new(),
        attributes: [("reclaimed".to_owned(), reclaimed.to_string())].into(),
    }
}

/// An event about a network a container joined or left.
pub(crate) fn network_event(
    action: &str,
    record: &ContainerRecord,
    attachment: &NetworkAttachment,
) -> Event {
    let attributes = [
        ("container", record.id.as_str()),
        ("name", attachment.network_name.as_str()),
        ("type", attachment.driver.as_str()),
    ];
    Event {
        at: now(),
        kind: EventKind::Network,
        action: action.to_owned(),
        actor: attachment.network_id.as_str().to_owned(),
        attributes: attributes
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}
