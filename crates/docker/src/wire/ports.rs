//! Ports, both ways: `ExposedPorts`, `PortBindings`, `NetworkSettings.Ports` and the list's `Ports`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hoist_model::container::{PortKey, PortMapping, PortRequest};
use serde::Serialize;

use super::create_body::PortBindingBody;
use crate::error::ApiError;

/// Reads the keys of `ExposedPorts`: `80/tcp`, `53`, `8000-8010/udp`.
pub(crate) fn parse_exposed<'a>(
    keys: impl Iterator<Item = &'a str>,
) -> Result<Vec<PortKey>, ApiError> {
    let mut ports = BTreeSet::new();
    for key in keys {
        ports.extend(parse_keys(key)?);
    }
    Ok(ports.into_iter().collect())
}

/// Reads `PortBindings`. `backfill` is what clients before API 1.53 get for an empty list: an ephemeral port.
pub(crate) fn parse_bindings(
    bindings: &BTreeMap<String, Option<Vec<PortBindingBody>>>,
    backfill: bool,
) -> Result<Vec<PortRequest>, ApiError> {
    let mut requests = Vec::new();
    for (key, list) in bindings {
        let containers = parse_keys(key)?;
        let mut list = list.clone().unwrap_or_default();
        if list.is_empty() && backfill {
            list.push(PortBindingBody::default());
        }
        for binding in &list {
            let host_ip = parse_host_ip(binding.host_ip.as_deref().unwrap_or_default())?;
            let host = parse_host_ports(binding.host_port.as_deref().unwrap_or_default())?;
            // A range onto a range of the same length pairs them up; onto one port it is a choice.
            let width = usize::from(host.1 - host.0) + 1;
            let paired = containers.len() > 1 && host != (0, 0);
            if paired && width != containers.len() {
                return Err(ApiError::invalid(format!(
                    "invalid ranges specified for container and host Ports: {key} and {}",
                    binding.host_port.as_deref().unwrap_or_default()
                )));
            }
            for (offset, container) in (0u16..).zip(&containers) {
                requests.push(PortRequest {
                    container: *container,
                    host_ip,
                    host_ports: if paired {
                        (host.0 + offset, host.0 + offset)
                    } else {
                        host
                    },
                });
            }
        }
    }
    Ok(requests)
}

fn parse_keys(key: &str) -> Result<Vec<PortKey>, ApiError> {
    let (range, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
    let Some((first, last)) = range.split_once('-') else {
        return Ok(vec![
            key.parse::<PortKey>()
                .map_err(|error| ApiError::invalid(error.to_string()))?,
        ]);
    };
    let single = |port: &str| {
        format!("{port}/{protocol}")
            .parse::<PortKey>()
            .map_err(|_| ApiError::invalid(format!("invalid port range {key:?}")))
    };
    let (first, last) = (single(first)?, single(last)?);
    if last.port < first.port {
        return Err(ApiError::invalid(format!("invalid port range {key:?}")));
    }
    Ok((first.port..=last.port)
        .map(|port| PortKey { port, ..first })
        .collect())
}

fn parse_host_ip(text: &str) -> Result<Option<IpAddr>, ApiError> {
    let text = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text);
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| ApiError::invalid(format!("invalid host IP address {text:?}")))
}

fn parse_host_ports(text: &str) -> Result<(u16, u16), ApiError> {
    let invalid = || ApiError::invalid(format!("invalid host port {text:?}"));
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (
        first.parse().map_err(|_| invalid())?,
        last.parse().map_err(|_| invalid())?,
    );
    if last < first || (first == 0 && last != 0) {
        return Err(invalid());
    }
    Ok((first, last))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PortBinding {
    pub(crate) host_ip: String,
    pub(crate) host_port: String,
}

/// `HostConfig.PortBindings` as asked for.
pub(crate) fn bindings_to_wire(requests: &[PortRequest]) -> BTreeMap<String, Vec<PortBinding>> {
    let mut wire: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for request in requests {
        wire.entry(request.container.to_string())
            .or_default()
            .push(PortBinding {
                host_ip: request
                    .host_ip
                    .map_or_else(String::new, |ip| ip.to_string()),
                host_port: match request.host_ports {
                    (0, 0) => String::new(),
                    (first, last) if first == last => first.to_string(),
                    (first, last) => format!("{first}-{last}"),
                },
            });
    }
    wire
}

/// `NetworkSettings.Ports`: what is published, and `null` for what is merely exposed.
pub(crate) fn published_to_wire(
    exposed: &[PortKey],
    published: &[PortMapping],
) -> BTreeMap<String, Option<Vec<PortBinding>>> {
    let mut wire: BTreeMap<String, Option<Vec<PortBinding>>> =
        exposed.iter().map(|key| (key.to_string(), None)).collect();
    for mapping in published {
        wire.entry(mapping.container.to_string())
            .or_default()
            .get_or_insert_default()
            .push(PortBinding {
                host_ip: mapping.host_ip.to_string(),
                host_port: mapping.host_port.to_string(),
            });
    }
    wire
}

/// One line of the list's `Ports`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct PortSummary {
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    ip: String,
    private_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_port: Option<u16>,
    #[serde(rename = "Type")]
    protocol: &'static str,
}

/// The list's `Ports`: every mapping, and a line without a public port for what is merely exposed.
pub(crate) fn summaries(exposed: &[PortKey], published: &[PortMapping]) -> Vec<PortSummary> {
    let mut lines: Vec<PortSummary> = published
        .iter()
        .map(|mapping| PortSummary {
            ip: mapping.host_ip.to_string(),
            private_port: mapping.container.port,
            public_port: Some(mapping.host_port),
            protocol: mapping.container.protocol.as_str(),
        })
        .collect();
    lines.extend(
        exposed
            .iter()
            .filter(|key| published.iter().all(|mapping| mapping.container != **key))
            .map(|key| PortSummary {
                ip: String::new(),
                private_port: key.port,
                public_port: None,
                protocol: key.protocol.as_str(),
            }),
    );
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bindings(text: &str, backfill: bool) -> String {
        match parse_bindings(&serde_json::from_str(text).unwrap(), backfill) {
            Ok(requests) => requests
                .iter()
                .map(|r| format!("{}<-{:?}:{:?}", r.container, r.host_ip, r.host_ports))
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.message,
        }
    }

    #[test]
    fn bindings_are_read() {
        for (text, expected) in [
            (
                r#"{"80/tcp":[{"HostPort":"8080"}]}"#,
                "80/tcp<-None:(8080, 8080)",
            ),
            (
                r#"{"53/udp":[{"HostIp":"127.0.0.1","HostPort":""},{"HostIp":"[::1]"}]}"#,
                "53/udp<-Some(127.0.0.1):(0, 0) 53/udp<-Some(::1):(0, 0)",
            ),
            (
                r#"{"80":[{"HostPort":"8000-8010"}]}"#,
                "80/tcp<-None:(8000, 8010)",
            ),
            (
                r#"{"80-81/tcp":[{"HostPort":"8000-8001"}]}"#,
                "80/tcp<-None:(8000, 8000) 81/tcp<-None:(8001, 8001)",
            ),
            (
                r#"{"80-82/tcp":[{"HostPort":"8000-8001"}]}"#,
                "invalid ranges specified for container and host Ports: 80-82/tcp and 8000-8001",
            ),
            (
                r#"{"80/tcp":[{"HostPort":"x"}]}"#,
                "invalid host port \"x\"",
            ),
            (
                r#"{"80/tcp":[{"HostIp":"1.2.3"}]}"#,
                "invalid host IP address \"1.2.3\"",
            ),
            (r#"{"9-8/tcp":[]}"#, "invalid port range \"9-8/tcp\""),
        ] {
            assert_eq!(bindings(text, false), expected, "{text}");
        }
        let long = bindings(r#"{"99999/tcp":[]}"#, false);
        assert!(long.starts_with("invalid port \"99999/tcp\""), "{long}");
    }

    #[test]
    fn an_empty_list_means_an_ephemeral_port_to_old_clients_only() {
        assert_eq!(bindings(r#"{"80/tcp":null}"#, true), "80/tcp<-None:(0, 0)");
        assert_eq!(bindings(r#"{"80/tcp":[]}"#, false), "");
    }

    #[test]
    fn exposed_ports_are_listed_once() {
        let exposed = parse_exposed(["80/tcp", "80", "90-91/udp"].into_iter()).unwrap();
        let mapping = PortMapping {
            container: exposed[0],
            host_ip: "0.0.0.0".parse().unwrap(),
            host_port: 8080,
        };
        let lines = summaries(&exposed, std::slice::from_ref(&mapping));
        assert_eq!(
            serde_json::to_string(&lines).unwrap(),
            r#"[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":90,"Type":"udp"},{"PrivatePort":91,"Type":"udp"}]"#
        );
        assert_eq!(
            serde_json::to_string(&published_to_wire(&exposed, &[mapping])).unwrap(),
            r#"{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}],"90/udp":null,"91/udp":null}"#
        );
    }
}
