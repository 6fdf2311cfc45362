//! SIGHUP: the configuration is read again, compared with the running one, and what can change while the engine runs changes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use hoist_docker::{Api, Node};
use hoist_engine::events::Events;
use hoist_model::{Event, EventKind, chain};

use super::doors::Doors;
use super::registry::RegistrySource;
use super::settings::Settings;
use super::{arguments, settings, wire};

/// Sets the log level.
pub(super) type LogLevel = Box<dyn Fn(&str) + Send + Sync>;

/// What a reload needs to read the configuration again, and what it changes.
pub(super) struct Reload {
    /// The words the engine was started with: they still win over the file.
    pub(super) words: Vec<OsString>,
    pub(super) settings: Settings,
    pub(super) log_level: LogLevel,
    pub(super) node: Node,
    pub(super) api: Api,
    pub(super) registry: Arc<RegistrySource>,
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
        let new = match read(&self.words) {
            Ok(new) => new,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "reload: nothing was changed");
                return;
            }
        };
        let registry = match wire::registry_client(&new) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "reload: nothing was changed");
                return;
            }
        };
        let found = differences(&self.settings, &new);
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
        (self.log_level)(settings.log_filter());
        self.registry.renew(registry);
        self.node.debug = settings.debug;
        self.node.labels.clone_from(&settings.labels);
        self.node.log.clone_from(&settings.log);
        self.node
            .insecure_registries
            .clone_from(&settings.insecure_registries);
        self.node
            .registry_mirrors
            .clone_from(&settings.registry_mirrors);
        self.api.renew(self.node.clone());
        if let Err(error) = self.events.tell(self.event()).await {
            tracing::warn!(error = chain(&error), "the reload is in no journal");
        }
    }

    /// As dockerd tells it: an event of the daemon's, with the settings that a reload can change.
    fn event(&self) -> Event {
        let settings = &self.settings;
        let list = |items: &[String]| serde_json::json!(items).to_string();
        let attributes = [
            ("name", self.node.name.clone()),
            ("debug", settings.debug.to_string()),
            ("log-level", settings.log_level.clone()),
            ("labels", list(&settings.labels)),
            ("insecure-registries", list(&settings.insecure_registries)),
            ("registry-mirrors", list(&settings.registry_mirrors)),
        ];
        Event {
            at: super::now(),
            kind: EventKind::Daemon,
            action: "reload".to_owned(),
            actor: self.node.id.clone(),
            attributes: attributes
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<BTreeMap<_, _>>(),
        }
    }
}

fn read(words: &[OsString]) -> anyhow::Result<Settings> {
    let (arguments, ignored) = arguments::parse(words.iter().cloned())?;
    settings::settle(arguments, ignored)
}

/// How one setting reads.
type Reading = fn(&Settings) -> String;

/// Every setting, whether it can change while the engine runs, and how it reads.
const SETTINGS: &[(&str, bool, Reading)] = &[
    ("debug", true, |s| s.debug.to_string()),
    ("log-level", true, |s| s.log_level.clone()),
    ("labels", true, |s| s.labels.join(" ")),
    ("log-driver", true, |s| s.log.driver.clone()),
    ("log-opts", true, |s| format!("{:?}", s.log.options)),
    ("insecure-registries", true, |s| {
        s.insecure_registries.join(" ")
    }),
    ("registry-mirrors", true, |s| s.registry_mirrors.join(" ")),
    ("registry-host-overrides", true, |s| {
        format!("{:?}", s.registry_host_overrides)
    }),
    ("registry-certificates", true, |s| {
        s.registry_certificates.display().to_string()
    }),
    ("data-root", false, |s| s.data_root.display().to_string()),
    ("exec-root", false, |s| s.exec_root.display().to_string()),
    ("hosts", true, |s| {
        let hosts: Vec<String> = s.hosts.iter().map(ToString::to_string).collect();
        hosts.join(" ")
    }),
    ("pidfile", false, |s| format!("{:?}", s.pidfile)),
    ("bip", false, |s| format!("{:?}", s.bip)),
    ("default-address-pools", false, |s| format!("{:?}", s.pools)),
    ("storage-driver", false, |s| format!("{:?}", s.storage)),
    ("group", false, |s| format!("{:?}", s.group)),
    ("mtu", false, |s| s.mtu.to_string()),
    ("metrics-addr", true, |s| format!("{:?}", s.metrics)),
    ("exec-opts", false, |s| format!("{:?}", s.cgroup_driver)),
    ("tls", true, |s| format!("{:?}", s.tls)),
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
        read(&[
            "--config-file".into(),
            path,
            "--bip".into(),
            "10.9.0.1/16".into(),
        ])
    }

    #[test]
    fn what_changed_is_told_apart_from_what_has_to_wait() {
        let mut old = settings(r#"{"labels": ["a=1"], "mtu": 1400}"#).unwrap();
        let text = r#"{"labels": ["a=2"], "debug": true, "mtu": 1300, "bip": "10.8.0.1/16"}"#;
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
                ("labels", "a=1", "a=2", true),
                // The flag wins over the file, before and after.
                ("mtu", "1400", "1300", false),
            ]
        );
        old.take_reloadable(new);
        assert!(old.debug);
        assert_eq!(old.labels, ["a=2"]);
        assert_eq!(
            old.mtu, 1400,
            "what has to wait is compared again the next time"
        );
    }

    #[test]
    fn a_wrong_value_is_refused_whole() {
        let error = settings(r#"{"labels": ["a=2"], "log-level": "loud"}"#).unwrap_err();
        assert!(error.to_string().contains("loud"));
    }
}
