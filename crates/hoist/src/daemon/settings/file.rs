//! daemon.json: its keys, and how it is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use super::CONFIG_FILE;

/// The keys of daemon.json that have a meaning here (dockerd(8), "Daemon configuration file").
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) data_root: Option<PathBuf>,
    pub(super) exec_root: Option<PathBuf>,
    pub(super) hosts: Vec<String>,
    pub(super) pidfile: Option<PathBuf>,
    pub(super) debug: bool,
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
    pub(super) tls: bool,
    pub(super) tlsverify: bool,
    pub(super) tlscacert: Option<PathBuf>,
    pub(super) tlscert: Option<PathBuf>,
    pub(super) tlskey: Option<PathBuf>,
    pub(super) exec_opts: Vec<String>,
    #[serde(flatten)]
    pub(super) unknown: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pool {
    pub(super) base: String,
    pub(super) size: u8,
}

/// A named file must be there; the default one need not.
pub(super) fn read_file(named: Option<&Path>) -> anyhow::Result<File> {
    let path = named.unwrap_or(Path::new(CONFIG_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(File::default());
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "unable to configure the engine with file {}",
                    path.display()
                )
            });
        }
    };
    serde_json::from_str(&text).with_context(|| {
        format!(
            "unable to configure the engine with file {}",
            path.display()
        )
    })
}
