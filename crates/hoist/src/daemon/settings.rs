//! What the engine was told: flags over daemon.json over defaults. Plain data; every crate gets its part.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hoist_image::SnapshotterChoice;
use hoist_model::container::LogConfig;
use hoist_net::AddressPool;
use hoist_runtime::cgroup::CgroupDriver;

use super::arguments::Arguments;
use super::keys;

mod file;
mod hosts;
mod network;
mod values;

use file::{Pool, read_file};
pub(crate) use hosts::{Host, TlsFiles};
use hosts::{parse_host, tls_files};
use network::{check_pool, parse_net, parse_pool};
use values::{absolute, cgroup_driver, log, log_level, storage};

/// The default engine's directories and sockets.
pub(crate) const DATA_ROOT: &str = "/var/lib/hoist";
const EXEC_ROOT: &str = "/run/hoist";
/// The socket Hoist's own client asks first.
pub(crate) const SOCKET: &str = "/run/hoist.sock";
/// The socket everybody else's clients ask.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const CONFIG_FILE: &str = "/etc/hoist/daemon.json";

/// Everything, checked.
#[derive(Debug)]
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
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) cgroup_driver: CgroupDriver,
    /// Flags and keys that have no meaning here, to be named in the log.
    pub(crate) ignored: Vec<String>,
}

impl Settings {
    /// The level of what is logged.
    pub(crate) fn log_filter(&self) -> &str {
        if self.debug { "debug" } else { &self.log_level }
    }

    /// Takes those of `new` that can change while the engine runs.
    pub(crate) fn take_reloadable(&mut self, new: Self) {
        self.debug = new.debug;
        self.log_level = new.log_level;
        self.labels = new.labels;
        self.log = new.log;
        self.insecure_registries = new.insecure_registries;
        self.registry_mirrors = new.registry_mirrors;
        self.registry_host_overrides = new.registry_host_overrides;
        self.registry_certificates = new.registry_certificates;
        self.hosts = new.hosts;
        self.default_hosts = new.default_hosts;
        self.metrics = new.metrics;
        self.tls = new.tls;
    }
}

/// Reads the file, lays the flags over it and checks every value; errors name the flag or key and its value.
pub(crate) fn settle(arguments: Arguments, mut ignored: Vec<String>) -> anyhow::Result<Settings> {
    let file = read_file(arguments.config_file.as_deref())?;
    let strange: Vec<&str> = file.unknown.keys().map(String::as_str).collect();
    let strange: Vec<&str> = strange
        .into_iter()
        .filter(|key| !keys::is_known(key))
        .collect();
    if !strange.is_empty() {
        let path = arguments
            .config_file
            .as_deref()
            .unwrap_or(Path::new(CONFIG_FILE));
        // dockerd's sentence (moby daemon/config/config.go, findConfigurationConflicts).
        bail!(
            "unable to configure the engine with file {}: the following directives don't match any configuration option: {}",
            path.display(),
            strange.join(", ")
        );
    }
    ignored.extend(
        file.unknown
            .keys()
            .map(|key| format!("daemon.json {key:?}")),
    );
    if let Some(remap) = ignored.iter().find(|name| name.contains("userns-remap")) {
        // Who asks for it relies on it: to go on without would make root of containers root of the host.
        anyhow::bail!("{remap}: remapping the users of containers is not supported");
    }
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
        arguments.tls || file.tls,
        arguments.tlsverify || file.tlsverify,
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
    Ok(Settings {
        data_root,
        exec_root,
        hosts,
        default_hosts,
        pidfile: arguments.pidfile.or(file.pidfile),
        debug: arguments.debug || file.debug,
        log_level: log_level(arguments.log_level.or(file.log_level))?,
        bip: arguments
            .bip
            .or(file.bip)
            .map(|text| parse_net("bip", &text))
            .transpose()?,
        pools: pools
            .iter()
            .map(check_pool)
            .collect::<anyhow::Result<_>>()?,
        insecure_registries: pick(arguments.insecure_registries, file.insecure_registries),
        registry_mirrors: pick(arguments.registry_mirrors, file.registry_mirrors),
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
        labels: pick(arguments.labels, file.labels),
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
        cgroup_driver: cgroup_driver(&pick(arguments.exec_opts, file.exec_opts))?,
        ignored,
    })
}

#[cfg(test)]
mod tests;
