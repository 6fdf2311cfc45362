//! The objects of one node as the store holds them. Immutable once shared; a change is a new record.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use hoist_model::container::{
    ContainerSpec, ContainerState, Health, PortKey, PortMapping, StartedWith,
};
use hoist_model::network::{Segment, Subnet};
use hoist_model::{
    ContainerId, Digest, EndpointId, ImageId, ImageReference, NetworkId, Platform, SandboxId,
    Timestamp,
};
use hoist_store::Record;
use serde::{Deserialize, Serialize};

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// Its identity.
    pub id: ContainerId,
    /// Its name, without a slash.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What was asked for, the image's defaults merged in.
    pub spec: ContainerSpec,
    /// The image's layers, bottom first: diff ids.
    pub layers: Vec<Digest>,
    /// The platform of its image.
    pub platform: Platform,
    /// Where it stands.
    pub state: ContainerState,
    /// How often its restart policy started it.
    pub restart_count: u32,
    /// Whether a person stopped it, so that `unless-stopped` leaves it alone.
    pub manually_stopped: bool,
    /// Whether the machine's end stopped it, so that the next engine starts it again as its policy says.
    #[serde(default)]
    pub suspended: bool,
    /// What is mounted, resolved at create.
    pub mounts: Vec<MountPoint>,
    /// What it is linked to on the default bridge.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Its places on networks, while it runs, in the order of its interfaces. Until 0.2 there was at most one, under another
    /// name.
    #[serde(default, alias = "attachment", deserialize_with = "one_or_many")]
    pub attachments: Vec<NetworkAttachment>,
    /// What its process was given beside its own words; `None` before the first start, and of earlier versions.
    #[serde(default)]
    pub started_with: Option<StartedWith>,
    /// What its health check found; `None` where nothing was ever probed.
    #[serde(default)]
    pub health: Option<Health>,
    /// Live processes started by exec, for inspect; not persisted across daemons.
    #[serde(skip)]
    pub exec_ids: Vec<hoist_model::ExecId>,
}

impl ContainerRecord {
    /// The ports that are published now.
    #[must_use]
    pub fn published(&self) -> &[PortMapping] {
        let mut places = self.attachments.iter().map(|place| place.ports.as_slice());
        places.find(|ports| !ports.is_empty()).unwrap_or_default()
    }

    /// Its place on the network of that name.
    #[must_use]
    pub fn place_on(&self, network: &str) -> Option<&NetworkAttachment> {
        let mut places = self.attachments.iter();
        places.find(|place| place.network_name == network)
    }
}

/// Reads a list, or the one value or none that stood in its place before.
fn one_or_many<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Vec<NetworkAttachment>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Many(Vec<NetworkAttachment>),
        One(Option<Box<NetworkAttachment>>),
    }
    Ok(match Stored::deserialize(from)? {
        Stored::Many(places) => places,
        Stored::One(place) => place.into_iter().map(|place| *place).collect(),
    })
}

/// A link to another container (API `HostConfig.Links`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The name that the other has in this one.
    pub alias: String,
    /// The other.
    pub target: ContainerId,
}

/// A mount as resolved at create (API `MountPoint`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// `bind`, `volume`, `tmpfs` or `image`.
    pub kind: MountKind,
    /// The volume's name; empty for other kinds.
    pub name: String,
    /// Path on the host; empty for tmpfs.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// The volume's driver; empty for other kinds.
    pub driver: String,
    /// The mode as written.
    pub mode: String,
    /// Whether writing is allowed.
    pub writable: bool,
    /// Propagation, for binds.
    pub propagation: String,
    /// Options of a tmpfs, comma separated.
    pub options: String,
    /// Path within the source; empty is its root.
    pub subpath: String,
    /// Whether mounts below a bind's source come along.
    pub recursive: bool,
    /// Whether those stay writable where the bind itself is read only.
    #[serde(default)]
    pub writable_below: bool,
    /// Whether the volume was made for this container alone.
    pub anonymous: bool,
    /// Whether an empty volume takes over the image's content at this path before the first start.
    pub copy_up: bool,
    /// The image that is mounted, for that kind.
    #[serde(default)]
    pub image: Option<MountedImage>,
}

/// An image as a mount holds it: it cannot be removed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountedImage {
    /// Which.
    pub id: ImageId,
    /// Its layers' diff ids, bottom first.
    pub layers: Vec<Digest>,
}

/// What kind of thing a [`MountPoint`] mounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// An image's file system.
    Image,
}

impl MountKind {
    /// Docker's word (API `MountPoint.Type`).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Image => "image",
        }
    }
}

/// One container's place on one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// Which network.
    pub network_id: NetworkId,
    /// Its name.
    pub network_name: String,
    /// This membership.
    pub endpoint_id: EndpointId,
    /// The network namespace.
    pub sandbox_id: SandboxId,
    /// Address, if it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Prefix length of the subnet.
    pub prefix_length: u8,
    /// Default gateway.
    pub gateway: Option<Ipv4Addr>,
    /// `02:42:…`.
    pub mac_address: String,
    /// Published ports; all stand at the first place.
    pub ports: Vec<PortMapping>,
    /// IPv6 address, if it has one.
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// Prefix length of the IPv6 subnet.
    #[serde(default)]
    pub prefix_length_v6: u8,
    /// Default gateway of IPv6.
    #[serde(default)]
    pub gateway_v6: Option<Ipv6Addr>,
    /// The network's driver.
    #[serde(default = "bridge_driver")]
    pub driver: String,
    /// What the host has to remember of this place, as it wrote it; `None` for records of earlier versions.
    #[serde(default)]
    pub host: Option<HostPlace>,
}

/// What the host remembers of a place beside what everybody sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlace {
    /// The interface in the container.
    pub interface: String,
    /// The host's end of it.
    pub host_interface: String,
    /// See [`EndpointSpec::gateway_priority`](hoist_model::container::EndpointSpec::gateway_priority).
    pub gateway_priority: i64,
    /// Whether the network leads out.
    pub leads_out: bool,
    /// Whether IPv4 ports are published without translation, and IPv6 ports.
    pub routed: (bool, bool),
    /// Ports that are published so.
    pub open: Vec<PortKey>,
}

fn bridge_driver() -> String {
    "bridge".to_owned()
}

/// An image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Digest of its configuration.
    pub id: ImageId,
    /// Digest of the manifest it came by, if it came by one.
    pub manifest: Option<Digest>,
    /// Diff ids, bottom first.
    pub layers: Vec<Digest>,
    /// Unpacked bytes.
    pub size: u64,
    /// When it was built; `None` where the configuration does not say.
    pub created: Option<Timestamp>,
    /// What it was built for.
    pub platform: Platform,
    /// Labels of its configuration.
    pub labels: BTreeMap<String, String>,
    /// When it was last tagged here.
    pub tagged_at: Option<Timestamp>,
}

/// A name for an image: a tag, or a repository digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TagRecord {
    /// The name, fully qualified.
    pub reference: ImageReference,
    /// What it names.
    pub image: ImageId,
}

/// A volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its name: 64 hexadecimal digits where nobody gave one.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// User's key/value pairs.
    pub labels: BTreeMap<String, String>,
    /// Driver options as given.
    pub options: BTreeMap<String, String>,
    /// Whether nobody named it.
    pub anonymous: bool,
    /// The container that it was made with, until that is removed and leaves it. If there is no such container, the engine was
    /// killed before it was one, and the volume goes, too.
    #[serde(default)]
    pub made_for: Option<ContainerId>,
}

/// A network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NetworkRecord {
    /// Its identity.
    pub id: NetworkId,
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Its subnets; empty for host and null.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    /// As the host makes it; `None` for the networks that every node has.
    #[serde(default)]
    pub segment: Option<Segment>,
    /// Whether it is meant for containers that are started by hand.
    #[serde(default)]
    pub attachable: bool,
    /// Options of the address management, as given.
    #[serde(default)]
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// User's key/value pairs.
    pub labels: BTreeMap<String, String>,
    /// For a network that is only what others are made of (`--config-only`): the host makes nothing of it.
    #[serde(default)]
    pub configuration: Option<NetworkConfiguration>,
    /// The name of the one that it was made of (`--config-from`); empty is none.
    #[serde(default)]
    pub config_from: String,
}

/// What a network that is only a configuration has beside options, labels and subnets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfiguration {
    /// Whether containers get IPv4 addresses.
    pub ipv4: bool,
    /// Whether they get IPv6 addresses.
    pub ipv6: bool,
}

impl NetworkRecord {
    /// Whether every node has it.
    #[must_use]
    pub fn is_builtin(&self) -> bool {
        self.segment.is_none() && self.configuration.is_none()
    }

    /// Whether containers get addresses of a family.
    #[must_use]
    pub fn has_family(&self, v6: bool) -> bool {
        let (made, written) = (self.segment.as_ref(), self.configuration.as_ref());
        let families = made
            .map(|made| (made.ipv4, made.ipv6))
            .or(written.map(|one| (one.ipv4, one.ipv6)));
        let (ipv4, ipv6) = families.unwrap_or_else(|| {
            let mut subnets = self.subnets.iter();
            (true, subnets.any(|one| one.subnet.addr().is_ipv6()))
        });
        if v6 { ipv6 } else { ipv4 }
    }

    /// Whether nothing leaves or enters it.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        self.segment
            .as_ref()
            .is_some_and(|segment| segment.internal)
    }
}

impl Record for ContainerRecord {
    const TABLE: &'static str = "containers";

    fn key(&self) -> String {
        self.id.as_str().to_owned()
    }
}

impl Record for ImageRecord {
    const TABLE: &'static str = "images";

    fn key(&self) -> String {
        self.id.as_str().to_owned()
    }
}

impl Record for TagRecord {
    const TABLE: &'static str = "tags";

    fn key(&self) -> String {
        self.reference.to_string()
    }
}

impl Record for VolumeRecord {
    const TABLE: &'static str = "volumes";

    fn key(&self) -> String {
        self.name.clone()
    }
}

impl Record for NetworkRecord {
    const TABLE: &'static str = "networks";

    fn key(&self) -> String {
        self.id.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_an_earlier_version_are_read() {
        let mut record = crate::containers::testing::record();
        let text = serde_json::to_string(&record).unwrap();
        let old =
            |value: &str| text.replace("\"attachments\":[]", &format!("\"attachment\":{value}"));
        let read = |text: &str| serde_json::from_str::<ContainerRecord>(text).unwrap();
        assert!(old("null").contains("\"attachment\":null"));
        assert_eq!(read(&old("null")).attachments, []);
        let place = r#"{"network_id":"ID","network_name":"bridge","endpoint_id":"ID","sandbox_id":"ID",
            "ipv4":"172.18.0.2","prefix_length":16,"gateway":"172.18.0.1","mac_address":"02:42:ac:12:00:02","ports":[]}"#
            .replace("ID", &"0a".repeat(32));
        let places = read(&old(&place)).attachments;
        assert_eq!(places[0].driver, "bridge");
        assert_eq!(places[0].ipv4, Some([172, 18, 0, 2].into()));
        record.attachments = places;
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(read(&text).attachments, record.attachments);
    }
}
