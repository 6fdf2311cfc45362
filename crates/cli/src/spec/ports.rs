//! `-p [ip:][host[-last]:]container[-last][/protocol]` and `--expose`.

use serde_json::{Map, Value, json};

use super::{InvalidFlag, invalid};

/// What `-p` and `--expose` ask for together.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ports {
    /// `ExposedPorts` of the configuration.
    pub(super) exposed: Map<String, Value>,
    /// `PortBindings` of the host configuration.
    pub(super) bindings: Map<String, Value>,
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// The long form, `target=80,published=8080,protocol=tcp`, as the short one.
fn short_form(text: &str) -> Result<String, InvalidFlag> {
    let (mut target, mut published, mut protocol) = (None, None, "tcp");
    for pair in text.split(',') {
        match pair.split_once('=') {
            Some(("target", v)) => target = Some(v),
            Some(("published", v)) => published = Some(v),
            Some(("protocol", v)) => protocol = v,
            Some(("mode", "host" | "ingress")) => {}
            _ => {
                return Err(invalid(
                    "--publish",
                    text,
                    format!("unknown field {pair:?}"),
                ));
            }
        }
    }
    let target = target.ok_or_else(|| invalid("--publish", text, "target= is missing"))?;
    Ok(match published {
        Some(published) => format!("{published}:{target}/{protocol}"),
        None => format!("{target}/{protocol}"),
    })
}

pub(super) fn parse(publish: &[String], expose: &[String]) -> Result<Ports, InvalidFlag> {
    let mut ports = Ports::default();
    for text in expose {
        let wrong = || {
            InvalidFlag::Said(format!(
                "invalid range format for --expose: {text}, error: strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        };
        let (range_text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = range(range_text).ok_or_else(wrong)?;
        check_protocol(protocol)?;
        for port in first..=last {
            ports
                .exposed
                .insert(format!("{port}/{protocol}"), json!({}));
        }
    }
    for text in publish {
        let short = if text.contains('=') {
            short_form(text)?
        } else {
            text.clone()
        };
        one(&mut ports, text, &short)?;
    }
    Ok(ports)
}

/// As the library says it that the stock client reads ports with.
fn said(what: &str, text: &str) -> InvalidFlag {
    InvalidFlag::Said(format!("invalid {what}: {text}"))
}

fn check_protocol(protocol: &str) -> Result<(), InvalidFlag> {
    if ["tcp", "udp", "sctp"].contains(&protocol) {
        return Ok(());
    }
    Err(said("proto", protocol))
}

fn one(ports: &mut Ports, text: &str, short: &str) -> Result<(), InvalidFlag> {
    let wrong = |detail: &str| invalid("--publish", text, detail);
    let (rest, protocol) = short.rsplit_once('/').unwrap_or((short, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    check_protocol(&protocol)?;
    let (host_part, container) = rest
        .rsplit_once(':')
        .map_or((None, rest), |(h, c)| (Some(h), c));
    let (first, last) = range(container)
        .filter(|(first, _)| *first != 0)
        .ok_or_else(|| said("containerPort", container))?;
    let (address, host) = match host_part {
        None => ("", ""),
        Some(part) if part.starts_with('[') => {
            let (address, host) = part[1..]
                .split_once(']')
                .ok_or_else(|| wrong("\"[\" is not closed"))?;
            (address, host.trim_start_matches(':'))
        }
        Some(part) => part.rsplit_once(':').unwrap_or(("", part)),
    };
    if !address.is_empty() && address.parse::<std::net::IpAddr>().is_err() {
        return Err(said("IP address", address));
    }
    let host = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| said("hostPort", host))?),
    };
    if let Some((low, high)) = host
        && high - low != last - first
        && first != last
    {
        return Err(wrong("the ranges differ in length"));
    }
    for (offset, port) in (first..=last).enumerate() {
        let host_port = match host {
            None => String::new(),
            // One container port may take any free port of a range.
            Some((low, high)) if first == last && low != high => format!("{low}-{high}"),
            Some((low, _)) => (usize::from(low) + offset).to_string(),
        };
        let key = format!("{port}/{protocol}");
        ports.exposed.insert(key.clone(), json!({}));
        let binding = json!({"HostIp": address, "HostPort": host_port});
        if let Some(list) = ports
            .bindings
            .entry(key)
            .or_insert_with(|| json!([]))
            .as_array_mut()
        {
            list.push(binding);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(publish: &[&str], expected: Expect) {
        let publish: Vec<_> = publish.iter().map(|p| (*p).to_owned()).collect();
        let shown = match parse(&publish, &[]) {
            Ok(ports) => Value::Object(ports.bindings).to_string(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn every_form_of_publish() {
        check(
            &["80"],
            expect![[r#"{"80/tcp":[{"HostIp":"","HostPort":""}]}"#]],
        );
        check(
            &["8080:80", "8081:80"],
            expect![[
                r#"{"80/tcp":[{"HostIp":"","HostPort":"8080"},{"HostIp":"","HostPort":"8081"}]}"#
            ]],
        );
        check(
            &["127.0.0.1::53/udp"],
            expect![[r#"{"53/udp":[{"HostIp":"127.0.0.1","HostPort":""}]}"#]],
        );
        check(
            &["[::1]:8080:80"],
            expect![[r#"{"80/tcp":[{"HostIp":"::1","HostPort":"8080"}]}"#]],
        );
        check(
            &["8000-8001:80-81"],
            expect![[
                r#"{"80/tcp":[{"HostIp":"","HostPort":"8000"}],"81/tcp":[{"HostIp":"","HostPort":"8001"}]}"#
            ]],
        );
        check(
            &["8000-8010:80"],
            expect![[r#"{"80/tcp":[{"HostIp":"","HostPort":"8000-8010"}]}"#]],
        );
        check(
            &["target=80,published=8080,protocol=udp"],
            expect![[r#"{"80/udp":[{"HostIp":"","HostPort":"8080"}]}"#]],
        );
    }

    #[test]
    fn what_is_no_port_is_refused() {
        check(&["80:x"], expect!["invalid containerPort: x"]);
        check(&["0"], expect!["invalid containerPort: 0"]);
        check(&["99999:80"], expect!["invalid hostPort: 99999"]);
        check(&["80/icmp"], expect!["invalid proto: icmp"]);
        check(&["nohost:80:80"], expect!["invalid IP address: nohost"]);
        check(
            &["80-81:90-95"],
            expect![[
                r#"invalid argument "80-81:90-95" for "--publish" flag: the ranges differ in length"#
            ]],
        );
    }
}
