//! Events about containers, with the attributes Docker gives them (API `SystemEvents`).

use hoist_model::{Event, EventKind};

use crate::clock::now;
use crate::records::{ContainerRecord, NetworkAttachment};

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

/// An event about a network a container joined or left.
pub(crate) fn network_event(
    action: &str,
    record: &ContainerRecord,
    attachment: &NetworkAttachment,
) -> Event {
    let attributes = [
        ("container", record.id.as_str()),
        ("name", attachment.network_name.as_str()),
        ("type", "bridge"),
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
