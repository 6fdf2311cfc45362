//! Which container needs which: what is stopped before, and started after.
//!
//! Of links, mounts taken over, and namespaces of another container the engine knows itself; of Compose's `depends_on` by
//! the label that Compose leaves on containers (docker/compose:pkg/api/labels.go): `service:condition:restart`, separated
//! by commas, about services of the same project.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hoist_model::ContainerId;
use hoist_model::container::{NamespaceMode, NetworkMode};

use crate::records::ContainerRecord;

const PROJECT: &str = "com.docker.compose.project";
const SERVICE: &str = "com.docker.compose.service";
const DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// Whom each of these containers needs, of these containers.
pub(super) fn needs(
    containers: &[Arc<ContainerRecord>],
) -> BTreeMap<ContainerId, BTreeSet<ContainerId>> {
    let of = |record: &Arc<ContainerRecord>| {
        let wanted = containers.iter().filter(|other| {
            other.id != record.id
                && (named(record).any(|name| is_called(other, name)) || composed(record, other))
        });
        (record.id.clone(), wanted.map(|o| o.id.clone()).collect())
    };
    containers.iter().map(of).collect()
}

/// An order in which each comes after those it needs; in a circle somebody has to be first.
pub(super) fn first_to_last(containers: &[Arc<ContainerRecord>]) -> Vec<ContainerId> {
    let mut needs = needs(containers);
    let mut order = Vec::with_capacity(needs.len());
    while let Some(next) = needs
        .iter()
        .find(|(_, needed)| needed.is_empty())
        .or_else(|| needs.first_key_value())
        .map(|(id, _)| id.clone())
    {
        needs.remove(&next);
        for needed in needs.values_mut() {
            needed.remove(&next);
        }
        order.push(next);
    }
    order
}

/// The containers it names, as it names them: full id, short id or name.
fn named(record: &ContainerRecord) -> impl Iterator<Item = &str> {
    let spec = &record.spec;
    let network = match &spec.network.mode {
        NetworkMode::Container(name) => Some(name.as_str()),
        _ => None,
    };
    let joined = [&spec.security.pid, &spec.security.ipc]
        .into_iter()
        .filter_map(|mode| match mode {
            NamespaceMode::Container(name) => Some(name.as_str()),
            _ => None,
        });
    let links = spec.network.links.iter();
    let links = links.chain(spec.network.endpoints.values().flat_map(|e| &e.links));
    let before_colon = |text: &'_ String| text.split(':').next().map(str::len);
    let written = links
        .chain(&spec.volumes_from)
        .filter_map(move |text| text.get(..before_colon(text)?));
    network.into_iter().chain(joined).chain(written)
}

fn is_called(record: &ContainerRecord, name: &str) -> bool {
    let name = name.strip_prefix('/').unwrap_or(name);
    record.name == name || (name.len() >= 12 && record.id.as_str().starts_with(name))
}

/// Whether Compose made `record` depend on `other`.
fn composed(record: &ContainerRecord, other: &ContainerRecord) -> bool {
    let label = |of: &ContainerRecord, name: &str| of.spec.labels.get(name).cloned();
    let (Some(services), Some(project)) = (label(record, DEPENDS_ON), label(record, PROJECT))
    else {
        return false;
    };
    let service = label(other, SERVICE);
    label(other, PROJECT) == Some(project)
        && services
            .split(',')
            .filter_map(|dependency| dependency.split(':').next())
            .any(|name| service.as_deref() == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containers::testing;

    fn container(
        number: u8,
        name: &str,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Arc<ContainerRecord> {
        let mut record = testing::record();
        record.id = ContainerId::from_bytes(&[number; 32]);
        record.name = name.to_owned();
        change(&mut record);
        Arc::new(record)
    }

    fn service(number: u8, name: &str, depends_on: &str) -> Arc<ContainerRecord> {
        container(number, name, |record| {
            let labels = [(PROJECT, "shop"), (SERVICE, name), (DEPENDS_ON, depends_on)];
            record.spec.labels = labels
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
        })
    }

    fn order(containers: &[Arc<ContainerRecord>]) -> Vec<&str> {
        let name = |id: &ContainerId| {
            let found = containers.iter().find(|c| c.id == *id);
            found.map_or("", |c| c.name.as_str())
        };
        first_to_last(containers).iter().map(name).collect()
    }

    #[test]
    fn namespaces_mounts_and_links_of_others_come_first() {
        let base = container(9, "base", |_| ());
        let short = base.id.as_str()[..12].to_owned();
        let containers = [
            container(1, "joins", |c| {
                c.spec.network.mode = NetworkMode::Container(short)
            }),
            container(2, "mounts", |c| {
                c.spec.volumes_from = vec!["joins:ro".to_owned()]
            }),
            container(3, "linked", |c| {
                c.spec.network.links = vec!["/mounts:db".to_owned()]
            }),
            container(4, "sees", |c| {
                c.spec.security.pid = NamespaceMode::Container("linked".to_owned());
            }),
            base,
        ];
        assert_eq!(
            order(&containers),
            ["base", "joins", "mounts", "linked", "sees"]
        );
    }

    #[test]
    fn composes_depends_on_is_about_its_own_project() {
        let stranger = container(5, "stranger", |record| {
            let labels = [(PROJECT, "other"), (SERVICE, "web")];
            record.spec.labels = labels
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        });
        let containers = [
            service(
                1,
                "web",
                "api:service_started:false,cache:service_healthy:true",
            ),
            service(2, "api", "db:service_started:false"),
            service(3, "cache", ""),
            service(4, "db", ""),
            stranger,
        ];
        assert_eq!(
            order(&containers),
            ["cache", "db", "api", "web", "stranger"]
        );
    }

    #[test]
    fn a_circle_is_cut() {
        let containers = [
            service(1, "a", "b:service_started:false"),
            service(2, "b", "a:service_started:false"),
            service(3, "c", "b:service_started:false"),
        ];
        assert_eq!(order(&containers), ["a", "b", "c"]);
    }
}
