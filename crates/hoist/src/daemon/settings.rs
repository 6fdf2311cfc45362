//! What the engine was told: by flags, by daemon.json, else by defaults. Plain data; every crate gets its part.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use hoist_cgroup::CgroupDriver;
use hoist_docker::{ApiVersion, ContainerDefaults};
use hoist_image::SnapshotterChoice;
use hoist_model::container::LogConfig;
use hoist_net::{AddressPool, Instance};

use super::arguments::Arguments;
use super::keys;
use super::served::RegistrySettings;

mod conflicts;
mod containers;
mod file;
mod hosts;
mod network;
mod proxies;
mod values;

use containers::{Said, check_runtime};
pub(crate) use containers::{SeccompDefault, StartDefaults};
use file::{Pool, not_with, read_file};
pub(crate) use hosts::{Host, TlsFiles};
use hosts::{parse_host, tls_files};
pub(crate) use network::{NetworkSaid, NetworkSettings};
use network::{check_pool, parse_net, parse_pool};
pub(crate) use proxies::{ProxiesSaid, told};
pub(crate) use values::LogFormat;
use values::{
    absolute, addresses, cgroup_driver, count, labels, log, log_format, log_level, min_api_version,
    mirrors, storage, storage_opts,
};

/// The default engine's directories and sockets.
pub(crate) const DATA_ROOT: &str = "/var/lib/hoist";
const EXEC_ROOT: &str = "/run/hoist";
/// The socket Hoist's own client asks first.
pub(crate) const SOCKET: &str = "/run/hoist.sock";
/// The socket everybody else's clients ask.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const CONFIG_FILE: &str = "/etc/hoist/daemon.json";

/// Everything, checked.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) hosts: Vec<Host>,
    /// Whether the hosts are the default ones, of which docker.sock is given up to a live engine.
    pub(crate) default_hosts: bool,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) debug: bool,
    pub(crate) log_level: String,
    pub(crate) bip: Option<ipnet::Ipv4Net>,
    /// The default bridge, and what all networks begin with.
    pub(crate) network: NetworkSettings,
    pub(crate) pools: Vec<AddressPool>,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) registry_mirrors: Vec<String>,
    pub(crate) registry_host_overrides: BTreeMap<String, SocketAddr>,
    pub(crate) registry_certificates: PathBuf,
    pub(crate) storage: SnapshotterChoice,
    pub(crate) group: Option<String>,
    pub(crate) mtu: u32,
    /// Where containers log that do not say.
    pub(crate) log: LogConfig,
    pub(crate) labels: Vec<String>,
    /// Where metrics are served, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    /// The registry in this process, if there is one.
    pub(crate) registry: Option<RegistrySettings>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) cgroup_driver: CgroupDriver,
    /// Whose subordinate ids the users of containers get, as written.
    pub(crate) userns_remap: Option<String>,
    /// Where users and groups of the host are looked up.
    pub(crate) accounts: PathBuf,
    pub(crate) log_format: LogFormat,
    /// Without colours, wherever the log goes.
    pub(crate) raw_logs: bool,
    /// What containers get when they are made.
    pub(crate) containers: ContainerDefaults,
    /// What they get at each start.
    pub(crate) start: StartDefaults,
    /// For the resolv.conf of containers that do not say.
    pub(crate) dns: Dns,
    /// What `host-gateway` means; empty is the bridge's own address.
    pub(crate) host_gateways: Vec<IpAddr>,
    pub(crate) max_concurrent_downloads: u32,
    pub(crate) max_download_attempts: u32,
    /// Layers uploaded at a time.
    pub(crate) max_concurrent_uploads: u32,
    /// By which servers registries are asked.
    pub(crate) proxies: hoist_registry::Proxies,
    /// Whether containers go on when the engine ends.
    pub(crate) live_restore: bool,
    /// How long they may take to end with it, if not; none is as long as it takes.
    pub(crate) shutdown_timeout: Option<Duration>,
    pub(crate) experimental: bool,
    pub(crate) min_api_version: ApiVersion,
    /// Flags and keys that have no meaning here, to be named in the log.
    pub(crate) ignored: Vec<String>,
}

/// What resolv.conf says where the container leaves it open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dns {
    pub(crate) servers: Vec<IpAddr>,
    pub(crate) options: Vec<String>,
    pub(crate) search: Vec<String>,
}

/// Downloads at a time and attempts of each (dockerd(8)).
const DOWNLOADS: u32 = 3;
const ATTEMPTS: u32 = 5;
/// Uploads at a time.
const UPLOADS: u32 = 5;
/// Seconds for containers to end with the engine.
const SHUTDOWN_TIMEOUT: i64 = 15;

impl Settings {
    /// The level of what is logged.
    pub(crate) fn log_filter(&self) -> &str {
        if self.debug { "debug" } else { &self.log_level }
    }

    /// Takes those of `new` that can change while the engine runs: all but where the engine and its containers are.
    pub(crate) fn take_reloadable(&mut self, new: Self) {
        *self = Self {
            data_root: std::mem::take(&mut self.data_root),
            exec_root: std::mem::take(&mut self.exec_root),
            userns_remap: self.userns_remap.take(),
            accounts: std::mem::take(&mut self.accounts),
            // Of flags alone, which are the same.
            registry: self.registry.take(),
            ..new
        };
    }

    /// What of them concerns the host's networks.
    pub(crate) fn of_networks(&self, instance: Instance) -> hoist_net::Settings {
        let told = &self.network;
        hoist_net::Settings {
            bridge: told.bridge.clone(),
            bridge_address: self.bip,
            bridge_address_v6: told.bip6,
            range: told.fixed_cidr,
            gateway: told.default_gateway,
            ipv6: told.ipv6,
            range_v6: told.fixed_cidr_v6,
            gateway_v6: told.default_gateway_v6,
            pools: self.pools.clone(),
            ip_forward: told.ip_forward,
            guard: !told.ip_forward_no_drop,
            firewall_v4: told.iptables,
            firewall_v6: told.ip6tables,
            inter_container: told.icc,
            masquerade: told.ip_masq,
            mtu: self.mtu,
            default_host_ip: told.ip,
            ..hoist_net::Settings::new(instance)
        }
    }
}

/// Reads the file, puts the flags beside it and checks every value; errors name the flag or key and its value.
pub(crate) fn settle(arguments: Arguments, mut ignored: Vec<String>) -> anyhow::Result<Settings> {
    let path = arguments.config_file.as_deref();
    let (file, written) = read_file(path)?;
    let path = path.unwrap_or(Path::new(CONFIG_FILE));
    let strange: Vec<&str> = file.unknown.keys().map(String::as_str).collect();
    let strange: Vec<&str> = strange
        .into_iter()
        .filter(|key| !keys::is_known(key))
        .collect();
    if !strange.is_empty() {
        // dockerd's sentence (moby daemon/config/config.go, findConfigurationConflicts).
        bail!(
            "{}: the following directives don't match any configuration option: {}",
            not_with(path),
            strange.join(", ")
        );
    }
    conflicts::check(&arguments.given, &written).with_context(|| not_with(path))?;
    ignored.extend(
        file.unknown
            .keys()
            .map(|key| format!("daemon.json {key:?}")),
    );
    if let Some(plugin) = file.authorization_plugins.first() {
        // Who asks for it relies on it: to go on without would let in whom the plugin keeps out.
        bail!("authorization-plugins {plugin:?}: authorization plugins are not supported");
    }
    for (name, value) in [
        ("cpu-rt-period", file.cpu_rt_period),
        ("cpu-rt-runtime", file.cpu_rt_runtime),
    ] {
        if value.is_some_and(|value| value != 0) {
            bail!("{name}: kernel does not support CPU real-time scheduler");
        }
    }
    let runtime = arguments.default_runtime.or(file.default_runtime);
    check_runtime(runtime.as_deref(), file.runtimes.into_keys())?;
    let pick = |flags: Vec<String>, keys: Vec<String>| if flags.is_empty() { keys } else { flags };
    let data_root = arguments.data_root.or(file.data_root);
    let is_default = data_root
        .as_deref()
        .is_none_or(|root| root == Path::new(DATA_ROOT));
    let data_root = absolute("data-root", data_root.unwrap_or_else(|| DATA_ROOT.into()))?;
    let exec_root = match arguments.exec_root.or(file.exec_root) {
        Some(root) => absolute("exec-root", root)?,
        None if is_default => EXEC_ROOT.into(),
        None => data_root.join("exec"),
    };
    let hosts = pick(arguments.hosts, file.hosts);
    let default_hosts = hosts.is_empty();
    let hosts = if default_hosts {
        vec![Host::Unix(SOCKET.into()), Host::Unix(DOCKER_SOCKET.into())]
    } else {
        hosts
            .iter()
            .map(|host| parse_host(host))
            .collect::<anyhow::Result<_>>()?
    };
    let mut pools: Vec<Pool> = Vec::new();
    for text in &arguments.default_address_pools {
        pools.push(parse_pool(text)?);
    }
    if pools.is_empty() {
        pools = file.default_address_pools;
    }
    let overrides = if arguments.registry_host_overrides.is_empty() {
        file.registry_host_overrides
    } else {
        let pair = |text: &String| {
            let (name, address) = text.split_once('=').with_context(|| {
                format!("invalid registry-host-override {text:?}: expected name=address:port")
            })?;
            Ok((name.to_owned(), address.to_owned()))
        };
        arguments
            .registry_host_overrides
            .iter()
            .map(pair)
            .collect::<anyhow::Result<_>>()?
    };
    let tls = tls_files(
        arguments.tls.or(file.tls).unwrap_or_default(),
        arguments.tlsverify.or(file.tlsverify).unwrap_or_default(),
        [
            (
                "tlscacert",
                arguments.tlscacert.or(file.tlscacert),
                "ca.pem",
            ),
            ("tlscert", arguments.tlscert.or(file.tlscert), "cert.pem"),
            ("tlskey", arguments.tlskey.or(file.tlskey), "key.pem"),
        ],
    )?;
    let mut gateways = file.host_gateway_ips;
    gateways.extend(file.host_gateway_ip);
    let gateways = pick(arguments.host_gateway_ips, gateways);
    // dockerd's variable, where nothing else is said.
    let minimum = file
        .min_api_version
        .or_else(|| std::env::var("DOCKER_MIN_API_VERSION").ok());
    let proxies = proxies::settle(
        arguments.proxies.over(file.proxies),
        |name| std::env::var(name).ok(),
        &mut ignored,
    )?;
    storage_opts(&pick(arguments.storage_opts, file.storage_opts))?;
    let bip = arguments.bip.or(file.bip);
    let network = network::settle(
        arguments.network.over(file.network),
        bip.is_some(),
        &arguments.default_network_opts,
        file.default_network_opts,
    )?;
    Ok(Settings {
        data_root,
        exec_root,
        hosts,
        default_hosts,
        pidfile: arguments.pidfile.or(file.pidfile),
        debug: arguments.debug.or(file.debug).unwrap_or_default(),
        log_level: log_level(arguments.log_level.or(file.log_level))?,
        bip: bip.map(|text| parse_net("bip", &text)).transpose()?,
        network,
        pools: pools
            .iter()
            .map(check_pool)
            .collect::<anyhow::Result<_>>()?,
        insecure_registries: pick(arguments.insecure_registries, file.insecure_registries),
        registry_mirrors: mirrors(pick(arguments.registry_mirrors, file.registry_mirrors))?,
        registry_host_overrides: overrides
            .into_iter()
            .map(|(name, address)| {
                let parsed = address.parse().with_context(|| {
                    format!(
                        "invalid registry-host-override {name}={address}: expected address:port"
                    )
                })?;
                Ok((name, parsed))
            })
            .collect::<anyhow::Result<_>>()?,
        registry_certificates: arguments
            .registry_certificates
            .or(file.registry_certificates)
            .unwrap_or_else(|| "/etc/docker/certs.d".into()),
        storage: storage(arguments.storage_driver.or(file.storage_driver))?,
        group: arguments.group.or(file.group),
        mtu: arguments.mtu.or(file.mtu).unwrap_or(1500),
        log: log(
            arguments.log_driver.or(file.log_driver),
            &arguments.log_opts,
            file.log_opts,
        )?,
        labels: labels(pick(arguments.labels, file.labels))?,
        registry: arguments.registry.map(|address| RegistrySettings {
            address,
            users: arguments.registry_users,
            rights: arguments.registry_rights,
            tls: arguments.registry_tls_cert.zip(arguments.registry_tls_key),
        }),
        metrics: arguments
            .metrics_addr
            .or(file.metrics_addr)
            .map(|text| {
                text.replace("localhost:", "127.0.0.1:")
                    .parse()
                    .with_context(|| {
                        format!("invalid metrics-addr {text:?}: expected address:port")
                    })
            })
            .transpose()?,
        tls,
        userns_remap: arguments
            .userns_remap
            .or(file.userns_remap)
            .filter(|asked| !asked.is_empty()),
        accounts: arguments.accounts.unwrap_or_else(|| "/etc".into()),
        cgroup_driver: cgroup_driver(&pick(arguments.exec_opts, file.exec_opts))?,
        log_format: log_format(arguments.log_format.or(file.log_format).as_deref())?,
        raw_logs: arguments.raw_logs.or(file.raw_logs).unwrap_or_default(),
        containers: containers::defaults(Said {
            shm_size: arguments.default_shm_size.or(file.default_shm_size),
            ipc_mode: arguments.default_ipc_mode.or(file.default_ipc_mode),
            cgroupns_mode: arguments
                .default_cgroupns_mode
                .or(file.default_cgroupns_mode),
            cgroup_parent: arguments.cgroup_parent.or(file.cgroup_parent),
            no_new_privileges: arguments
                .no_new_privileges
                .or(file.no_new_privileges)
                .unwrap_or_default(),
        })?,
        start: StartDefaults {
            ulimits: containers::ulimits(&arguments.default_ulimits, file.default_ulimits)?,
            init: arguments.init.or(file.init).unwrap_or_default(),
            seccomp: containers::seccomp(arguments.seccomp_profile.or(file.seccomp_profile))?,
        },
        dns: Dns {
            servers: addresses("dns", pick(arguments.dns, file.dns))?,
            options: pick(arguments.dns_opts, file.dns_opts),
            search: pick(arguments.dns_search, file.dns_search),
        },
        host_gateways: addresses("host-gateway-ip", gateways)?,
        max_concurrent_downloads: count(
            "max concurrent downloads",
            arguments
                .max_concurrent_downloads
                .or(file.max_concurrent_downloads),
            DOWNLOADS,
        )?,
        max_download_attempts: count(
            "max download attempts",
            arguments
                .max_download_attempts
                .or(file.max_download_attempts),
            ATTEMPTS,
        )?,
        max_concurrent_uploads: count(
            "max concurrent uploads",
            arguments
                .max_concurrent_uploads
                .or(file.max_concurrent_uploads),
            UPLOADS,
        )?,
        proxies,
        live_restore: arguments.live_restore.or(file.live_restore).unwrap_or(true),
        shutdown_timeout: u64::try_from(
            arguments
                .shutdown_timeout
                .or(file.shutdown_timeout)
                .unwrap_or(SHUTDOWN_TIMEOUT),
        )
        .ok()
        .map(Duration::from_secs),
        experimental: arguments
            .experimental
            .or(file.experimental)
            .unwrap_or_default(),
        min_api_version: min_api_version(minimum.as_deref())?,
        ignored,
    })
}

#[cfg(test)]
mod tests;
