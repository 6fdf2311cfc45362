//! SIGHUP: the configuration is read again, compared with the running one, and what can change while the engine runs changes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use hoist_docker::{Api, Node};
use hoist_engine::events::Events;
use hoist_engine::networks::Networks;
use hoist_image::Snapshotter;
use hoist_model::container::NamespaceMode;
use hoist_model::{Event, EventKind, chain};
use hoist_net::BridgeChoice;
use serde_json::json;

use super::doors::Doors;
use super::logging::Log;
use super::network::HostNetwork;
use super::node::Confinement;
use super::pid_file::PidFile;
use super::registry::RegistrySource;
use super::settings::{Settings, told};
use super::zygote::ZygoteRuntime;
use super::{arguments, node, settings, wire};

/// What a reload needs to read the configuration again, and what it changes.
pub(super) struct Reload {
    /// The words the engine was started with, which hold on.
    pub(super) words: Vec<OsString>,
    pub(super) settings: Settings,
    pub(super) log: Log,
    /// Ours as long as the engine runs, if there is one.
    pub(super) pidfile: Option<PidFile>,
    pub(super) node: Node,
    pub(super) api: Api,
    pub(super) registry: Arc<RegistrySource>,
    pub(super) runtime: Arc<ZygoteRuntime>,
    pub(super) network: Arc<HostNetwork>,
    pub(super) networks: Networks,
    pub(super) snapshotter: Arc<dyn Snapshotter>,
    /// How this machine confines containers, for `/info`.
    pub(super) confinement: Confinement,
    pub(super) events: Events,
}

/// One setting that reads differently now.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    name: &'static str,
    from: String,
    to: String,
    /// Whether it changes while the engine runs.
    applies: bool,
}

impl Reload {
    /// Reads, compares, applies. A configuration that is wrong in any value changes nothing.
    pub(super) async fn run(&mut self, doors: &mut Doors) {
        self.apply(doors).await;
        tracing::info!("reload: done");
    }

    async fn apply(&mut self, doors: &mut Doors) {
        let read = read(&self.words).and_then(|new| {
            let registry = wire::registry_client(&new)?;
            Ok((new, registry))
        });
        let (new, registry) = match read {
            Ok(read) => read,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "reload: nothing was changed");
                return;
            }
        };
        let found = differences(&self.settings, &new);
        // Whatever can be refused comes first, and is undone if something later is.
        if let Err((setting, error)) = self.prepare(&new, &found) {
            let error = format!("{error:#}");
            tracing::error!(setting, error, "reload: nothing was changed");
            return;
        }
        if found.is_empty() {
            tracing::info!("reload: nothing changed in the configuration");
        }
        for difference in &found {
            let Difference { name, from, to, .. } = difference;
            if difference.applies {
                tracing::info!(setting = name, from, to, "reloaded");
            } else {
                tracing::warn!(
                    setting = name,
                    from,
                    to,
                    "stays until the engine is started again"
                );
            }
        }
        doors.change(&self.settings, &new).await;
        self.settings.take_reloadable(new);
        let settings = &self.settings;
        self.log.renew(settings);
        self.registry.renew(registry);
        self.runtime.renew(settings.start.clone());
        let options = settings.network.default_network_opts.clone();
        if let Err(error) = self.networks.renew(options).await {
            tracing::error!(
                error = chain(&error),
                "the default bridge is recorded as it was"
            );
        }
        self.network
            .name_bridge(wire::default_bridge(&self.networks));
        self.tell_node();
        if let Err(error) = self.events.tell(self.event()).await {
            tracing::warn!(error = chain(&error), "the reload is in no journal");
        }
    }

    /// Changes what may be refused; if one thing is, all of it is as it was, and the answer names the setting. Blocks for some
    /// milliseconds, as long as a namespace and a probe of layers take.
    fn prepare(
        &mut self,
        new: &Settings,
        found: &[Difference],
    ) -> Result<(), (String, anyhow::Error)> {
        let old = &self.settings;
        let pidfile = if old.pidfile == new.pidfile {
            None
        } else {
            let written = new.pidfile.as_deref().map(PidFile::write).transpose();
            // Dropped, if something else is refused, it goes again.
            Some(written.map_err(|error| ("pidfile".to_owned(), error))?)
        };
        tokio::task::block_in_place(|| {
            if old.storage != new.storage {
                let chosen = self.snapshotter.choose(new.storage);
                chosen.map_err(|error| ("storage-driver".to_owned(), error.into()))?;
            }
            let back = |error: anyhow::Error| {
                // What it was it can be again; if not, that is said by whoever makes the next layer.
                if old.storage != new.storage
                    && let Err(error) = self.snapshotter.choose(old.storage)
                {
                    tracing::error!(error = chain(&error), "the storage driver stays changed");
                }
                error
            };
            let chosen = self.runtime.choose_driver(new.cgroup_driver);
            chosen.map_err(|error| ("exec-opts".to_owned(), back(error.into())))?;
            self.network.renew(new).map_err(|error| {
                // The driver was this one until now.
                let _ = self.runtime.choose_driver(old.cgroup_driver);
                let of_networks = found.iter().map(|difference| difference.name);
                let of_networks = of_networks.filter(|name| NETWORKS.contains(name));
                let settings: Vec<_> = of_networks.collect();
                (settings.join(", "), back(error.into()))
            })
        })?;
        if let Some(written) = pidfile {
            self.pidfile = written;
        }
        Ok(())
    }

    /// What clients are told of this engine.
    fn tell_node(&mut self) {
        let settings = &self.settings;
        self.node.security_options = node::security_options(settings, self.confinement);
        self.node.defaults = settings.containers.clone();
        self.node.experimental = settings.experimental;
        self.node.min_api_version = settings.min_api_version;
        self.node.debug = settings.debug;
        self.node.labels.clone_from(&settings.labels);
        self.node.log.clone_from(&settings.log);
        self.node
            .insecure_registries
            .clone_from(&settings.insecure_registries);
        self.node
            .registry_mirrors
            .clone_from(&settings.registry_mirrors);
        self.node.proxies = node::proxies(settings);
        node::driver_name(settings.cgroup_driver).clone_into(&mut self.node.cgroup_driver);
        let storage = self.snapshotter.kind().as_str();
        storage.clone_into(&mut self.node.storage_driver);
        self.api.renew(self.node.clone());
    }

    /// As dockerd tells it: an event of the daemon's, with every setting as it is now (moby `daemon/reload.go`).
    fn event(&self) -> Event {
        let settings = SETTINGS.iter();
        let settings = settings.map(|(name, _, reading)| (*name, reading(&self.settings)));
        let attributes = [("name", self.node.name.clone())]
            .into_iter()
            .chain(settings);
        Event {
            at: super::now(),
            kind: EventKind::Daemon,
            action: "reload".to_owned(),
            actor: self.node.id.clone(),
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        }
    }
}

fn read(words: &[OsString]) -> anyhow::Result<Settings> {
    let (arguments, ignored) = arguments::parse(words.iter().cloned())?;
    settings::settle(arguments, ignored)
}

/// A list as Docker's event has it: JSON.
fn list<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    json!(items).to_string()
}

fn some<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn mode(mode: Option<&NamespaceMode>) -> String {
    match mode {
        None => String::new(),
        Some(NamespaceMode::Host) => "host".to_owned(),
        Some(NamespaceMode::Shareable) => "shareable".to_owned(),
        Some(_) => "private".to_owned(),
    }
}

/// How one setting reads.
type Reading = fn(&Settings) -> String;

/// Every setting, whether it can change while the engine runs, and how it reads. Three cannot: where the engine's state is, where
/// its monitors listen, and as whom containers' users own files there (`docs/service.md` says why).
const SETTINGS: &[(&str, bool, Reading)] = &[
    ("debug", true, |s| s.debug.to_string()),
    ("log-level", true, |s| s.log_level.clone()),
    ("labels", true, |s| list(&s.labels)),
    ("log-driver", true, |s| s.log.driver.clone()),
    ("log-opts", true, |s| json!(s.log.options).to_string()),
    ("insecure-registries", true, |s| {
        list(&s.insecure_registries)
    }),
    ("registry-mirrors", true, |s| list(&s.registry_mirrors)),
    ("registry-host-overrides", true, |s| {
        json!(s.registry_host_overrides).to_string()
    }),
    ("registry-certificates", true, |s| {
        s.registry_certificates.display().to_string()
    }),
    ("data-root", false, |s| s.data_root.display().to_string()),
    ("exec-root", false, |s| s.exec_root.display().to_string()),
    ("hosts", true, |s| list(&s.hosts)),
    ("pidfile", true, |s| {
        let path = s.pidfile.as_deref();
        path.map_or_else(String::new, |path| path.display().to_string())
    }),
    ("bip", true, |s| some(s.bip)),
    ("bridge", true, |s| match &s.network.bridge {
        BridgeChoice::Own => String::new(),
        BridgeChoice::Absent => "none".to_owned(),
        BridgeChoice::Named(name) => name.clone(),
    }),
    ("bip6", true, |s| some(s.network.bip6)),
    ("fixed-cidr", true, |s| some(s.network.fixed_cidr)),
    ("fixed-cidr-v6", true, |s| some(s.network.fixed_cidr_v6)),
    ("default-gateway", true, |s| some(s.network.default_gateway)),
    ("default-gateway-v6", true, |s| {
        some(s.network.default_gateway_v6)
    }),
    ("ip", true, |s| some(s.network.ip)),
    ("icc", true, |s| s.network.icc.to_string()),
    ("ip-forward", true, |s| s.network.ip_forward.to_string()),
    ("ip-forward-no-drop", true, |s| {
        s.network.ip_forward_no_drop.to_string()
    }),
    ("ip-masq", true, |s| s.network.ip_masq.to_string()),
    ("ipv6", true, |s| s.network.ipv6.to_string()),
    ("iptables", true, |s| s.network.iptables.to_string()),
    ("ip6tables", true, |s| s.network.ip6tables.to_string()),
    ("default-network-opts", true, |s| {
        json!(s.network.default_network_opts).to_string()
    }),
    ("proxies", true, |s| told(&s.proxies)),
    ("default-address-pools", true, |s| format!("{:?}", s.pools)),
    ("storage-driver", true, |s| format!("{:?}", s.storage)),
    ("group", true, |s| some(s.group.as_ref())),
    ("mtu", true, |s| s.mtu.to_string()),
    ("metrics-addr", true, |s| some(s.metrics)),
    ("exec-opts", true, |s| format!("{:?}", s.cgroup_driver)),
    ("userns-remap", false, |s| some(s.userns_remap.as_ref())),
    ("tls", true, |s| some(s.tls.as_ref())),
    ("log-format", true, |s| {
        format!("{:?}", s.log_format).to_lowercase()
    }),
    ("raw-logs", true, |s| s.raw_logs.to_string()),
    ("default-ulimits", true, |s| {
        let limits = s.start.ulimits.iter();
        let limits = limits.map(|u| format!("{}={}:{}", u.name, u.soft, u.hard));
        list(&limits.collect::<Vec<_>>())
    }),
    ("init", true, |s| s.start.init.to_string()),
    ("seccomp-profile", true, |s| s.start.seccomp.to_string()),
    ("default-shm-size", true, |s| match s.containers.shm_size {
        0 => (64 << 20).to_string(),
        size => size.to_string(),
    }),
    ("default-ipc-mode", true, |s| mode(Some(&s.containers.ipc))),
    ("default-cgroupns-mode", true, |s| {
        mode(s.containers.cgroup.as_ref())
    }),
    ("cgroup-parent", true, |s| {
        s.containers.cgroup_parent.clone()
    }),
    ("no-new-privileges", true, |s| {
        s.containers.no_new_privileges.to_string()
    }),
    ("dns", true, |s| list(&s.dns.servers)),
    ("dns-opts", true, |s| list(&s.dns.options)),
    ("dns-search", true, |s| list(&s.dns.search)),
    ("host-gateway-ips", true, |s| list(&s.host_gateways)),
    ("max-concurrent-downloads", true, |s| {
        s.max_concurrent_downloads.to_string()
    }),
    ("max-download-attempts", true, |s| {
        s.max_download_attempts.to_string()
    }),
    ("max-concurrent-uploads", true, |s| {
        s.max_concurrent_uploads.to_string()
    }),
    ("live-restore", true, |s| s.live_restore.to_string()),
    ("shutdown-timeout", true, |s| {
        s.shutdown_timeout
            .map_or_else(|| "-1".to_owned(), |limit| limit.as_secs().to_string())
    }),
    ("experimental", true, |s| s.experimental.to_string()),
    ("min-api-version", true, |s| s.min_api_version.to_string()),
];

/// Those that only together say what the host's networks are.
const NETWORKS: &[&str] = &[
    "bip",
    "bridge",
    "bip6",
    "fixed-cidr",
    "fixed-cidr-v6",
    "default-gateway",
    "default-gateway-v6",
    "icc",
    "ip-masq",
    "ipv6",
    "iptables",
    "ip6tables",
    "default-address-pools",
    "mtu",
];

fn differences(old: &Settings, new: &Settings) -> Vec<Difference> {
    let differing = SETTINGS.iter().filter_map(|(name, applies, reading)| {
        let (from, to) = (reading(old), reading(new));
        (from != to).then_some(Difference {
            name,
            from,
            to,
            applies: *applies,
        })
    });
    differing.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(file: &str) -> anyhow::Result<Settings> {
        let path = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(path.path(), file).unwrap();
        let path = path.path().as_os_str().to_owned();
        read(&["--config-file".into(), path])
    }

    #[test]
    fn what_changed_is_told_apart_from_what_has_to_wait() {
        let mut old = settings(r#"{"labels": ["a=1"], "exec-root": "/a"}"#).unwrap();
        let text = r#"{"labels": ["a=2"], "debug": true, "mtu": 1300, "exec-root": "/b"}"#;
        let new = settings(text).unwrap();
        let found = differences(&old, &new);
        let told: Vec<_> = found
            .iter()
            .map(|d| (d.name, d.from.as_str(), d.to.as_str(), d.applies))
            .collect();
        assert_eq!(
            told,
            [
                ("debug", "false", "true", true),
                ("labels", r#"["a=1"]"#, r#"["a=2"]"#, true),
                ("exec-root", "/a", "/b", false),
                ("mtu", "1500", "1300", true),
            ]
        );
        old.take_reloadable(new);
        assert!(old.debug);
        assert_eq!((old.mtu, &*old.labels), (1300, &["a=2".to_owned()][..]));
        let stayed = old.exec_root.display().to_string();
        assert_eq!(
            stayed, "/a",
            "what has to wait is compared again the next time"
        );
    }

    #[test]
    fn all_but_where_the_engine_is_can_change() {
        let waiting = SETTINGS.iter().filter(|(_, applies, _)| !applies);
        let waiting: Vec<_> = waiting.map(|(name, ..)| *name).collect();
        assert_eq!(waiting, ["data-root", "exec-root", "userns-remap"]);
    }

    #[test]
    fn a_wrong_value_is_refused_whole() {
        let error = settings(r#"{"labels": ["a=2"], "log-level": "loud"}"#).unwrap_err();
        assert!(error.to_string().contains("loud"));
    }
}
