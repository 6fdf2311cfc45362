//! The composition root: every part is made and joined here, top to bottom. Reading it is reading the architecture.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use hoist_build::{Builder, CacheRecord, ContextRecord, LatestRecord, cached_layers};
use hoist_engine::Engine;
use hoist_engine::containers::{Containers, Parts};
use hoist_engine::events::Events;
use hoist_engine::execs::Execs;
use hoist_engine::images::Images;
use hoist_engine::networks::Networks;
use hoist_engine::ports::ExitNotice;
use hoist_engine::records::{ContainerRecord, ImageRecord, NetworkRecord, TagRecord, VolumeRecord};
use hoist_engine::volumes::Volumes;
use hoist_image::{ContentStore, Snapshotter};
use hoist_model::{NetworkId, Timestamp, UserMapping, chain};
use hoist_net::{Instance, OccupiedBridge};
use hoist_registry::server::Shelf;
use hoist_store::{Store, StoreError};
use ipnet::IpNet;
use sha2::Digest as _;
use tokio::sync::mpsc;

use super::apparmor::AppArmor;
use super::network::HostNetwork;
use super::node::{self, Confinement, Found};
use super::registry::RegistrySource;
use super::remap::Remapping;
use super::settings::{DATA_ROOT, Settings};
use super::shelf::EngineShelf;
use super::zygote::ZygoteRuntime;

/// For finding the address of a volume's server.
const NAME_DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// A whole engine, ready to serve.
pub(crate) struct Wired {
    pub(crate) engine: Engine,
    pub(crate) builder: Builder,
    pub(crate) node: hoist_docker::Node,
    /// The engine's images, for a registry in this process.
    pub(crate) shelf: Arc<dyn Shelf>,
    /// Where images come from; a reload changes how it is spoken to.
    pub(crate) registry: Arc<RegistrySource>,
    /// What containers get at their start; a reload changes it.
    pub(crate) runtime: Arc<ZygoteRuntime>,
    pub(crate) network: Arc<HostNetwork>,
    /// Where layers are; a reload changes in which form.
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    /// How this machine confines containers.
    pub(crate) confinement: Confinement,
    /// Ends of processes, to be handed to [`deliver`].
    pub(crate) exits: mpsc::UnboundedReceiver<ExitNotice>,
    networks: hoist_net::Networks,
}

/// Makes every part of the engine and joins them.
pub(crate) async fn wire(
    settings: &Settings,
    mapping: Option<Arc<UserMapping>>,
    started_at: Timestamp,
) -> anyhow::Result<Wired> {
    for directory in [&settings.data_root, &settings.exec_root] {
        private_directory(directory, 0o711)?;
    }
    let instance = instance(&settings.data_root);

    // State: one file, all records in memory.
    super::lost_store::refuse(&settings.data_root)?;
    // Requests wait for its writer, a thread that takes after this one. Without short slices nothing breaks.
    let _ = hoist_sys::process::set_slice(super::SLICE);
    let store = open_store(&settings.data_root);
    let _ = hoist_sys::process::set_slice(0);
    let store = store?;

    // Who the users of containers are on the host, if others.
    let remapping = mapping
        .clone()
        .map(|mapping| Remapping::start(mapping, &store.snapshot().list::<ContainerRecord>()));
    let remapping = remapping.transpose()?;

    // Images: documents as they came, layers as tar and index, a registry to bring them from.
    let image_root = settings.data_root.join("image");
    private_directory(&image_root, 0o700)?;
    let content = Arc::new(ContentStore::open(&image_root)?);
    let of_mounts = remapping.as_ref().map(Remapping::of_mounts).transpose()?;
    let snapshotter =
        hoist_image::open_remapping_snapshotter(&image_root, settings.storage, of_mounts)?;
    let source = Arc::new(RegistrySource::new(
        registry_client(settings)?,
        content.clone(),
        snapshotter.clone(),
    ));
    let images = Images::new(
        store.clone(),
        content.clone(),
        snapshotter.clone(),
        source.clone(),
    );
    // Before the first collection, which is made while an earlier engine's leftovers are taken over.
    let of_cache = store.clone();
    images.keep_layers_of(Arc::new(move || cached_layers(&of_cache)));

    // The host's side: bridge, namespaces and ports; zygote, monitors and cgroups.
    let mut network_settings = settings.of_networks(instance.clone());
    network_settings.occupied = occupied(&store);
    network_settings.make_namespace = remapping.as_ref().map(Remapping::of_networks);
    let networks = hoist_net::Networks::start(network_settings)?;
    let host = HostNetwork::new(networks.clone(), instance.clone(), settings);
    let network = Arc::new(host);
    let (report, exits) = mpsc::unbounded_channel();
    let (report_oom, ooms) = mpsc::unbounded_channel();
    let apparmor = AppArmor::find();
    let has_sockets = networks.clone();
    let keeper = hoist_runtime::Keeper(Arc::new(move |id| has_sockets.reserving(id)));
    let runtime = Arc::new(ZygoteRuntime::start(
        settings, &instance, apparmor, remapping, keeper, report, report_oom,
    )?);

    // What one node can do.
    let options = settings.network.default_network_opts.clone();
    let engine_networks = Networks::open(store.clone(), network.clone(), options).await?;
    network.name_bridge(default_bridge(&engine_networks));
    if let Err(error) = networks.sweep_bridges() {
        tracing::warn!(error = chain(&error), "bridges of an earlier engine stay");
    }
    let resolve = Arc::new(server_address);
    let owner = mapping.as_ref().map_or((0, 0), |mapping| mapping.root());
    let volume_root = settings.data_root.join("volumes");
    let volumes = Volumes::open(store.clone(), &volume_root, resolve, owner)?;
    let container_root = settings.data_root.join("containers");
    private_directory(&container_root, 0o710)?;
    hoist_image::scatter(std::fs::File::open(&container_root)?);
    let etc_root = settings.exec_root.join("etc");
    private_directory(&etc_root, 0o710)?;
    let containers = Containers::new(Parts {
        store: store.clone(),
        images: images.clone(),
        volumes: volumes.clone(),
        networks: engine_networks.clone(),
        runtime: runtime.clone(),
        network: network.clone(),
        root: container_root,
        etc_root,
        remap: mapping.clone(),
    });
    let execs = Execs::new(store.clone(), containers.clone(), runtime.clone());
    hoist_engine::health::probe(&containers, &execs);
    containers.hear_ooms(ooms);
    let events = Events::new(store.clone());
    let confinement = Confinement {
        cgroups: runtime.cgroups().version(),
        apparmor,
        remapped: mapping.is_some(),
    };
    let node = node::describe(
        settings,
        Found {
            storage: snapshotter.kind(),
            confinement,
            support: runtime.cgroups().support(),
            warnings: apparmor.warning().into_iter().collect(),
            started_at,
        },
    )?;

    // What an earlier engine left is taken over before the first request.
    containers.recover().await?;
    if let Err(error) = networks.sweep() {
        tracing::warn!(
            error = chain(&error),
            "network leftovers of an earlier engine stay"
        );
    }
    let engine = Engine {
        containers,
        images,
        networks: engine_networks,
        volumes,
        execs,
        events,
    };
    let shelf = EngineShelf::new(engine.clone(), content, snapshotter.clone());
    // What makes images of Dockerfiles.
    let builder = super::build::builder(settings, &store, &engine, source.clone());
    Ok(Wired {
        engine,
        builder,
        shelf: Arc::new(shelf),
        node,
        registry: source,
        confinement,
        runtime,
        network,
        snapshotter,
        exits,
        networks,
    })
}

/// Under which id the store knows the default bridge, if there is one.
pub(super) fn default_bridge(networks: &Networks) -> Option<NetworkId> {
    let bridge = networks.resolve("bridge");
    bridge.ok().map(|bridge| bridge.id.clone())
}

/// The records of a data root.
pub(super) fn open_store(data_root: &Path) -> Result<Store, StoreError> {
    Store::builder()
        .table::<ContainerRecord>()
        .table::<ImageRecord>()
        .table::<TagRecord>()
        .table::<VolumeRecord>()
        .table::<NetworkRecord>()
        .table::<CacheRecord>()
        .table::<LatestRecord>()
        .table::<ContextRecord>()
        .open(&data_root.join("store"))
}

/// Hands ends of processes to whom they concern, until the runtime is gone.
pub(crate) async fn deliver(engine: Engine, mut exits: mpsc::UnboundedReceiver<ExitNotice>) {
    while let Some(notice) = exits.recv().await {
        engine.execs.notice(&notice).await;
        engine.containers.notice(notice);
    }
}

impl Wired {
    /// What has to be undone when the engine ends; containers go on.
    pub(crate) fn networks(&self) -> hoist_net::Networks {
        self.networks.clone()
    }
}

/// The address of a volume's server, for threads that may block.
fn server_address(name: &str) -> std::io::Result<std::net::IpAddr> {
    let runtime = tokio::runtime::Handle::try_current().map_err(std::io::Error::other)?;
    runtime.block_on(async {
        let looked_up = hoist_registry::address_of(name);
        match tokio::time::timeout(NAME_DEADLINE, looked_up).await {
            Ok(Err(error)) => Err(std::io::Error::other(format!("lookup {name}: {error}"))),
            Ok(found) => found,
            Err(_) => Err(std::io::Error::other(format!("lookup {name}: i/o timeout"))),
        }
    })
}

/// Which engine this is: kernel names derive from the data root.
fn instance(data_root: &Path) -> Instance {
    if data_root == Path::new(DATA_ROOT) {
        return Instance::default_engine();
    }
    let canonical = data_root
        .canonicalize()
        .unwrap_or_else(|_| data_root.to_owned());
    let hash = sha2::Sha256::digest(canonical.as_os_str().as_encoded_bytes());
    Instance::of([hash[0], hash[1], hash[2]])
}

/// The default bridge as an earlier engine made it, if containers run on it still: as far as their processes tell, which are
/// asked for themselves only later.
fn occupied(store: &Store) -> Option<OccupiedBridge> {
    let snapshot = store.snapshot();
    let is_on_it = |record: &Arc<ContainerRecord>| {
        let running = record.state.running();
        let lives = running.is_some_and(|r| Path::new(&format!("/proc/{}", r.pid)).exists());
        lives && record.place_on("bridge").is_some()
    };
    if !snapshot.list::<ContainerRecord>().iter().any(is_on_it) {
        return None;
    }
    let networks = snapshot.list::<NetworkRecord>();
    let bridge = networks.iter().find(|network| network.name == "bridge")?;
    let addresses = bridge.subnets.iter().filter_map(|one| {
        let gateway = one.gateway?;
        Some(IpNet::new_assert(gateway, one.subnet.prefix_len()))
    });
    let (mut v4, mut v6) = (None, None);
    for address in addresses {
        match address {
            IpNet::V4(net) => v4 = Some(net),
            IpNet::V6(net) => v6 = Some(net),
        }
    }
    Some(OccupiedBridge {
        name: bridge
            .options
            .get("com.docker.network.bridge.name")?
            .clone(),
        address: v4?,
        address_v6: v6,
    })
}

/// A client that speaks to registries as the settings say.
pub(super) fn registry_client(settings: &Settings) -> anyhow::Result<hoist_registry::Client> {
    let settings = hoist_registry::Settings {
        hosts: settings
            .registry_host_overrides
            .clone()
            .into_iter()
            .collect(),
        insecure: settings
            .insecure_registries
            .iter()
            .map(|text| text.parse())
            .collect::<Result<_, _>>()?,
        certificates: Some(settings.registry_certificates.clone()),
        mirrors: settings.registry_mirrors.clone(),
        proxies: settings.proxies.clone(),
        max_concurrent_downloads: usize::try_from(settings.max_concurrent_downloads)
            .unwrap_or(usize::MAX),
        max_concurrent_uploads: usize::try_from(settings.max_concurrent_uploads)
            .unwrap_or(usize::MAX),
        max_attempts: settings.max_download_attempts,
        ..hoist_registry::Settings::default()
    };
    Ok(hoist_registry::Client::new(settings))
}

/// Makes a directory if it is missing; only root may list it.
fn private_directory(path: &Path, mode: u32) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .with_context(|| format!("mkdir {}", path.display()))
}
