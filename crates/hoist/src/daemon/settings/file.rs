//! daemon.json: its keys, and how it is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Map, Value};

use hoist_engine::networks::DriverOptions;

use super::{CONFIG_FILE, NetworkSaid, ProxiesSaid};

/// The keys of daemon.json that have a meaning here (dockerd(8), "Daemon configuration file").
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) data_root: Option<PathBuf>,
    pub(super) exec_root: Option<PathBuf>,
    pub(super) hosts: Vec<String>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) debug: Option<bool>,
    pub(super) log_level: Option<String>,
    pub(super) bip: Option<String>,
    pub(super) default_address_pools: Vec<Pool>,
    pub(super) insecure_registries: Vec<String>,
    pub(super) registry_mirrors: Vec<String>,
    pub(super) registry_host_overrides: BTreeMap<String, String>,
    pub(super) registry_certificates: Option<PathBuf>,
    pub(super) storage_driver: Option<String>,
    pub(super) group: Option<String>,
    pub(super) mtu: Option<u32>,
    pub(super) log_driver: Option<String>,
    pub(super) log_opts: BTreeMap<String, String>,
    pub(super) labels: Vec<String>,
    pub(super) metrics_addr: Option<String>,
    pub(super) tls: Option<bool>,
    pub(super) tlsverify: Option<bool>,
    pub(super) tlscacert: Option<PathBuf>,
    pub(super) tlscert: Option<PathBuf>,
    pub(super) tlskey: Option<PathBuf>,
    pub(super) exec_opts: Vec<String>,
    pub(super) userns_remap: Option<String>,
    pub(super) log_format: Option<String>,
    pub(super) raw_logs: Option<bool>,
    pub(super) default_ulimits: BTreeMap<String, UlimitKey>,
    pub(super) default_shm_size: Option<String>,
    pub(super) default_ipc_mode: Option<String>,
    pub(super) default_cgroupns_mode: Option<String>,
    pub(super) cgroup_parent: Option<String>,
    pub(super) init: Option<bool>,
    pub(super) no_new_privileges: Option<bool>,
    pub(super) seccomp_profile: Option<String>,
    pub(super) dns: Vec<String>,
    pub(super) dns_opts: Vec<String>,
    pub(super) dns_search: Vec<String>,
    pub(super) host_gateway_ip: Option<String>,
    pub(super) host_gateway_ips: Vec<String>,
    pub(super) max_concurrent_downloads: Option<i64>,
    pub(super) max_download_attempts: Option<i64>,
    pub(super) live_restore: Option<bool>,
    pub(super) shutdown_timeout: Option<i64>,
    pub(super) experimental: Option<bool>,
    pub(super) default_runtime: Option<String>,
    pub(super) runtimes: BTreeMap<String, Value>,
    pub(super) min_api_version: Option<String>,
    pub(super) authorization_plugins: Vec<String>,
    #[serde(flatten)]
    pub(super) network: NetworkSaid,
    pub(super) default_network_opts: DriverOptions,
    pub(super) storage_opts: Vec<String>,
    pub(super) max_concurrent_uploads: Option<i64>,
    pub(super) proxies: ProxiesSaid,
    pub(super) cpu_rt_period: Option<i64>,
    pub(super) cpu_rt_runtime: Option<i64>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
}

/// One of `default-ulimits`, by its name; dockerd wants the name once more inside.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UlimitKey {
    pub(super) name: Option<String>,
    pub(super) soft: i64,
    pub(super) hard: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pool {
    pub(super) base: String,
    pub(super) size: u8,
}

/// The file with its meanings, and as it is written. A named file must be there; the default one need not.
pub(super) fn read_file(named: Option<&Path>) -> anyhow::Result<(File, Map<String, Value>)> {
    let path = named.unwrap_or(Path::new(CONFIG_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Default::default());
        }
        Err(error) => {
            return Err(error).with_context(|| not_with(path));
        }
    };
    // As dockerd: an empty file says nothing, and a mark of the byte order is none of its words.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Ok(Default::default());
    }
    let parsed = || -> serde_json::Result<_> {
        Ok((serde_json::from_str(text)?, serde_json::from_str(text)?))
    };
    parsed().with_context(|| not_with(path))
}

/// What an error of the file begins with, as dockerd's.
pub(super) fn not_with(path: &Path) -> String {
    format!(
        "unable to configure the engine with file {}",
        path.display()
    )
}
