//! `GET /containers/json` (API 1.55, `ContainerSummary`): one line per container, and which lines are asked for.

use std::collections::BTreeMap;

use hoist_engine::records::ContainerRecord;
use hoist_model::Timestamp;
use hoist_model::container::ContainerState;
use serde::Serialize;

use super::container::{Mounted, mounts};
use super::duration::status;
use super::filters::Filters;
use super::network_settings::{Endpoint, endpoints};
use super::ports::{PortSummary, parse_exposed, summaries};
use super::security::network_mode_text;
use crate::error::ApiError;

/// Every filter there is (moby `daemon/list.go`).
pub(crate) const FILTERS: [&str; 16] = [
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
    "label!",
];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ContainerSummary<'a> {
    id: &'a str,
    names: Vec<String>,
    image: &'a str,
    #[serde(rename = "ImageID")]
    image_id: &'a str,
    command: String,
    created: i64,
    ports: Vec<PortSummary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    labels: &'a BTreeMap<String, String>,
    state: &'static str,
    status: String,
    host_config: HostConfigSummary<'a>,
    network_settings: NetworkSettingsSummary,
    mounts: Vec<Mounted<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthSummary>,
}

/// Since API 1.52.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HealthSummary {
    status: &'static str,
    failing_streak: u32,
}

/// The health of what runs and is probed, else `none`.
pub(crate) fn health_summary(record: &ContainerRecord) -> HealthSummary {
    let running = record.state.running().is_some();
    match record.health.as_ref().filter(|_| running) {
        Some(health) => HealthSummary {
            status: health.status.as_str(),
            failing_streak: health.failing_streak,
        },
        None => HealthSummary {
            status: "none",
            failing_streak: 0,
        },
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct HostConfigSummary<'a> {
    network_mode: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettingsSummary {
    networks: BTreeMap<String, Endpoint>,
}

/// One line. `names_image` is whether the image's name still names the container's image.
pub(crate) fn summary<'a>(
    record: &'a ContainerRecord,
    names: Vec<String>,
    now: Timestamp,
    names_image: bool,
    sizes: Option<(u64, u64)>,
    health: Option<HealthSummary>,
    network_id: &dyn Fn(&str) -> String,
) -> ContainerSummary<'a> {
    let spec = &record.spec;
    let image_id = spec.image_id.as_ref().map_or("", |id| id.as_str());
    let published = match record.state.running() {
        Some(_) => record.published(),
        None => &[],
    };
    let ports = if record.state.running().is_some() {
        summaries(&spec.exposed_ports, published)
    } else {
        Vec::new()
    };
    ContainerSummary {
        id: record.id.as_str(),
        names,
        image: if names_image { &spec.image } else { image_id },
        image_id,
        command: command(&spec.process.arguments()),
        created: record.created_at.as_seconds(),
        ports,
        size_rw: sizes.map(|(writable, _)| writable),
        size_root_fs: sizes.map(|(_, whole)| whole),
        labels: &spec.labels,
        state: record.state.status(),
        status: status(record, now),
        host_config: HostConfigSummary {
            network_mode: network_mode_text(&spec.network.mode),
            annotations: &spec.annotations,
        },
        network_settings: NetworkSettingsSummary {
            networks: endpoints(record, network_id),
        },
        mounts: mounts(record),
        health,
    }
}

fn command(arguments: &[String]) -> String {
    let mut words = arguments.iter();
    let mut text = words.next().cloned().unwrap_or_default();
    for word in words {
        text.push(' ');
        if word.contains(' ') {
            text.push_str(&format!("'{word}'"));
        } else {
            text.push_str(word);
        }
    }
    text
}

/// Refuses filter values that cannot be.
pub(crate) fn check_filters(filters: &Filters) -> Result<(), ApiError> {
    filters.check(
        "status",
        &[
            "created",
            "restarting",
            "running",
            "removing",
            "paused",
            "exited",
            "dead",
        ],
    )?;
    filters.check("health", &["starting", "healthy", "unhealthy", "none"])?;
    if let Some(code) = filters
        .values("exited")
        .iter()
        .find(|code| code.parse::<i32>().is_err())
    {
        return Err(ApiError::invalid(format!("invalid filter 'exited={code}'")));
    }
    filters.boolean("is-task")?;
    for key in ["publish", "expose"] {
        for value in filters.values(key) {
            parse_exposed([value.as_str()].into_iter())
                .map_err(|_| ApiError::invalid(format!("invalid filter '{key}={value}'")))?;
        }
    }
    Ok(())
}

/// What of the filters is not in the record itself.
pub(crate) struct Bounds<'a> {
    /// Only what is older than this container.
    pub(crate) before: Option<&'a ContainerRecord>,
    /// Only what is younger than this container.
    pub(crate) since: Option<&'a ContainerRecord>,
    /// Layers of the images asked for; a container of an image built on one of them counts too.
    pub(crate) ancestors: Option<&'a [Vec<hoist_model::Digest>]>,
}

/// Whether a container is asked for.
pub(crate) fn included(record: &ContainerRecord, filters: &Filters, bounds: &Bounds<'_>) -> bool {
    let slashed = format!("/{}", record.name);
    let older = |other: &ContainerRecord| record.created_at < other.created_at;
    let younger = |other: &ContainerRecord| record.created_at > other.created_at;
    filters.matches("name", &[&record.name, &slashed])
        && filters.matches("id", &[record.id.as_str()])
        && filters.exact("status", record.state.status())
        && filters.exact(
            "health",
            record
                .health
                .as_ref()
                .map_or("none", |health| health.status.as_str()),
        )
        && filters.labels(&record.spec.labels)
        && filters
            .boolean("is-task")
            .is_ok_and(|task| task != Some(true))
        && filters.any("exited", |code| match &record.state {
            ContainerState::Exited(exited) => code.parse() == Ok(exited.exit_code),
            _ => false,
        })
        && filters.any("volume", |wanted| {
            record.mounts.iter().any(|mount| {
                mount.destination == *wanted || mount.name == *wanted || mount.source == *wanted
            })
        })
        && filters.any("network", |wanted| on_network(record, wanted))
        && filters.any("publish", |wanted| {
            // As asked for, whether it runs or not; and as it came with publish-all.
            let asked = record.spec.network.ports.iter().map(|port| port.container);
            let published = record.published().iter().map(|port| port.container);
            names_port(wanted, asked.chain(published))
        })
        && filters.any("expose", |wanted| {
            names_port(wanted, record.spec.exposed_ports.iter().copied())
        })
        && bounds.before.is_none_or(older)
        && bounds.since.is_none_or(younger)
        && bounds.ancestors.is_none_or(|ancestors| {
            ancestors
                .iter()
                .any(|layers| !layers.is_empty() && record.layers.starts_with(layers))
        })
}

fn on_network(record: &ContainerRecord, wanted: &str) -> bool {
    let attached = record
        .attachments
        .iter()
        .any(|place| place.network_name == wanted || place.network_id.as_str().starts_with(wanted));
    attached
        || network_mode_text(&record.spec.network.mode) == wanted
        || record.spec.network.endpoints.contains_key(wanted)
}

fn names_port(
    wanted: &str,
    mut ports: impl Iterator<Item = hoist_model::container::PortKey>,
) -> bool {
    parse_exposed([wanted].into_iter()).is_ok_and(|wanted| ports.any(|port| wanted.contains(&port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Query;
    use crate::wire::testing::{NOW, record};
    use expect_test::expect;

    const WEB: &str = r#"{"Image":"busybox","Cmd":["sh","-c","sleep 1"],"Labels":{"l":"v"},"ExposedPorts":{"443/tcp":{}},
        "HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"8080"}]}}}"#;

    #[test]
    fn a_line() {
        let record = record(WEB);
        let line = summary(
            &record,
            vec!["/web".to_owned()],
            Timestamp::from_seconds(NOW),
            true,
            Some((1, 2)),
            Some(health_summary(&record)),
            &|_| String::new(),
        );
        expect![[r#"
            {
              "Id": "abababababababababababababababababababababababababababababababab",
              "Names": [
                "/web"
              ],
              "Image": "busybox",
              "ImageID": "sha256:cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd",
              "Command": "sh -c 'sleep 1'",
              "Created": 1732399940,
              "Ports": [
                {
                  "IP": "0.0.0.0",
                  "PrivatePort": 80,
                  "PublicPort": 8080,
                  "Type": "tcp"
                },
                {
                  "PrivatePort": 443,
                  "Type": "tcp"
                }
              ],
              "SizeRw": 1,
              "SizeRootFs": 2,
              "Labels": {
                "l": "v"
              },
              "State": "running",
              "Status": "Up 3 seconds",
              "HostConfig": {
                "NetworkMode": "bridge"
              },
              "NetworkSettings": {
                "Networks": {
                  "bridge": {
                    "IPAMConfig": null,
                    "Links": null,
                    "Aliases": null,
                    "DriverOpts": null,
                    "GwPriority": 0,
                    "NetworkID": "0202020202020202020202020202020202020202020202020202020202020202",
                    "EndpointID": "0303030303030303030303030303030303030303030303030303030303030303",
                    "Gateway": "172.18.0.1",
                    "IPAddress": "172.18.0.2",
                    "MacAddress": "02:42:ac:12:00:02",
                    "IPPrefixLen": 16,
                    "IPv6Gateway": "",
                    "GlobalIPv6Address": "",
                    "GlobalIPv6PrefixLen": 0,
                    "DNSNames": null
                  }
                }
              },
              "Mounts": [
                {
                  "Type": "volume",
                  "Name": "data",
                  "Source": "/volumes/data/_data",
                  "Destination": "/data",
                  "Driver": "local",
                  "Mode": "z",
                  "RW": true,
                  "Propagation": ""
                }
              ],
              "Health": {
                "Status": "none",
                "FailingStreak": 0
              }
            }"#]].assert_eq(&serde_json::to_string_pretty(&line).unwrap());
    }

    #[test]
    fn an_image_whose_name_moved_on_is_shown_by_id() {
        let record = record(WEB);
        let line = summary(
            &record,
            Vec::new(),
            Timestamp::default(),
            false,
            None,
            None,
            &|_| String::new(),
        );
        assert!(line.image.starts_with("sha256:cdcd"));
    }

    #[test]
    fn every_filter() {
        let record = record(WEB);
        let holds = |json: &str| {
            let text: String = form_urlencoded::byte_serialize(json.as_bytes()).collect();
            let query = Query::parse(Some(&format!("filters={text}")));
            let filters = Filters::from_query(&query, &FILTERS)?;
            check_filters(&filters)?;
            let bounds = Bounds {
                before: None,
                since: None,
                ancestors: None,
            };
            Ok::<bool, ApiError>(included(&record, &filters, &bounds))
        };
        for (json, expected) in [
            (r#"{"name":["^/web$"]}"#, true),
            (r#"{"name":["eb"]}"#, true),
            (r#"{"name":["db"]}"#, false),
            (r#"{"id":["^abab"]}"#, true),
            (r#"{"id":["^cd"]}"#, false),
            (r#"{"status":["running","exited"]}"#, true),
            (r#"{"status":["exited"]}"#, false),
            (r#"{"exited":["0"]}"#, false),
            (r#"{"health":["none"]}"#, true),
            (r#"{"health":["healthy"]}"#, false),
            (r#"{"label":["l=v"]}"#, true),
            (r#"{"label":["l=w"]}"#, false),
            (r#"{"volume":["data"]}"#, true),
            (r#"{"volume":["/data"]}"#, true),
            (r#"{"volume":["other"]}"#, false),
            (r#"{"network":["bridge"]}"#, true),
            (r#"{"network":["host"]}"#, false),
            (r#"{"publish":["80"]}"#, true),
            (r#"{"publish":["443/tcp"]}"#, false),
            (r#"{"expose":["440-450/tcp"]}"#, true),
            (r#"{"is-task":["false"]}"#, true),
            (r#"{"is-task":["true"]}"#, false),
        ] {
            assert_eq!(holds(json).unwrap(), expected, "{json}");
        }
        for (json, expected) in [
            (r#"{"status":["up"]}"#, "invalid filter 'status=up'"),
            (r#"{"exited":["x"]}"#, "invalid filter 'exited=x'"),
            (r#"{"health":["ok"]}"#, "invalid filter 'health=ok'"),
            (r#"{"publish":["x"]}"#, "invalid filter 'publish=x'"),
            (r#"{"nope":["x"]}"#, "invalid filter 'nope'"),
        ] {
            assert_eq!(holds(json).unwrap_err().message, expected);
        }
    }

    #[test]
    fn bounds() {
        let (older, mut newer) = (record(WEB), record(WEB));
        newer.created_at = Timestamp::from_seconds(NOW);
        let none = || Bounds {
            before: None,
            since: None,
            ancestors: None,
        };
        let filters = Filters::default();
        let before = Bounds {
            before: Some(&newer),
            ..none()
        };
        let since = Bounds {
            since: Some(&older),
            ..none()
        };
        assert!(included(&older, &filters, &before) && !included(&newer, &filters, &before));
        assert!(included(&newer, &filters, &since) && !included(&older, &filters, &since));
        let layers = [older.layers.clone()];
        let ours = Bounds {
            ancestors: Some(&layers),
            ..none()
        };
        let nobodys = Bounds {
            ancestors: Some(&[]),
            ..none()
        };
        assert!(included(&older, &filters, &ours) && !included(&older, &filters, &nobodys));
    }
}
