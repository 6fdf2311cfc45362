//! The objects of one node as the store holds them. Immutable once shared; a change is a new record.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hoist_model::container::{ContainerSpec, ContainerState, Health, PortMapping};
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
    /// Its place on the network, while it runs.
    pub attachment: Option<NetworkAttachment>,
    /// What its health check found; `None` where nothing was ever probed.
    #[serde(default)]
    pub health: Option<Health>,
    /// Live processes started by exec, for inspect; not persisted across daemons.
    #[serde(skip)]
    pub exec_ids: Vec<hoist_model::ExecId>,
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
    /// Published ports.
    pub ports: Vec<PortMapping>,
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
    /// `bridge`, `host` or `null`.
    pub driver: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Subnet, gateway; empty for host and null.
    pub subnet: Option<String>,
    /// The gateway's address.
    pub gateway: Option<Ipv4Addr>,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// User's key/value pairs.
    pub labels: BTreeMap<String, String>,
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
