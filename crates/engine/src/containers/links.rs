//! Links of the default bridge (`--link name:alias`, API `HostConfig.Links`): names in /etc/hosts that follow the other
//! container's restarts, environment variables that tell of its ports, and names of its own in the list. Texts and order
//! are Docker's (moby `daemon/links`, `daemon/links.go`).

use std::collections::HashMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use hoist_model::ContainerId;
use hoist_model::container::{ContainerSpec, NetworkMode, PortKey, Protocol};

use super::Containers;
use super::actor::Actor;
use super::etc_files::hostname;
use super::message::Message;
use crate::error::ContainerError;
use crate::records::{ContainerRecord, Link};

/// All names containers go by.
pub struct Names {
    linked: HashMap<ContainerId, Vec<String>>,
}

impl Names {
    /// Every name of a container with its slash, in order: its own, and those that links give it.
    #[must_use]
    pub fn of(&self, record: &ContainerRecord) -> Vec<String> {
        let mut names = vec![format!("/{}", record.name)];
        names.extend(self.linked.get(&record.id).into_iter().flatten().cloned());
        names.sort();
        names
    }
}

/// `name:alias` in two; a name alone is its own alias.
fn parse(link: &str) -> Result<(&str, &str), String> {
    if link.is_empty() {
        return Err("empty string specified for links".to_owned());
    }
    let parts: Vec<&str> = link.split(':').collect();
    match *parts.as_slice() {
        [name] => Ok((name, name)),
        // As inspect shows it: "/name:/container/alias".
        [name, alias] if name.starts_with('/') => {
            let alias = alias.rsplit('/').next().unwrap_or(alias);
            Ok((&name[1..], alias))
        }
        [name, alias] => Ok((name, alias)),
        _ => Err(format!("bad format for links: {link}")),
    }
}

impl Containers {
    /// The containers that a new one is linked to. Refusals are Docker's; none is a 404, which clients take to mean that an
    /// image is missing.
    pub(super) fn resolve_links(&self, spec: &ContainerSpec) -> Result<Vec<Link>, ContainerError> {
        let mut links: Vec<Link> = Vec::new();
        if matches!(spec.network.mode, NetworkMode::Network(_)) {
            return Ok(links);
        }
        for link in &spec.network.links {
            let (name, alias) = parse(link).map_err(ContainerError::Invalid)?;
            let missing = |error: ContainerError| match error {
                ContainerError::NotFound(_) => {
                    ContainerError::Invalid(format!("could not get container for {name}: {error}"))
                }
                error => error,
            };
            let mut other = self.resolve(name).map_err(missing)?;
            while let NetworkMode::Container(donor) = &other.spec.network.mode {
                other = self.resolve(donor).map_err(missing)?;
            }
            if other.spec.network.mode == NetworkMode::Host {
                return Err(ContainerError::Invalid(
                    "conflicting options: host type networking can't be used with links. This would result in undefined behavior".to_owned(),
                ));
            }
            // The first that takes an alias has it.
            if links.iter().all(|known| known.alias != alias) {
                links.push(Link {
                    alias: alias.to_owned(),
                    target: other.id.clone(),
                });
            }
        }
        Ok(links)
    }

    /// What a container is linked to and still is there.
    fn linked(&self, record: &ContainerRecord) -> Vec<(String, Arc<ContainerRecord>)> {
        let snapshot = self.inner.parts.store.snapshot();
        let links = record.links.iter();
        links
            .filter_map(|link| Some((link.alias.clone(), snapshot.get(link.target.as_str())?)))
            .collect()
    }

    /// Links as inspect shows them, `/target:/container/alias`.
    #[must_use]
    pub fn links(&self, record: &ContainerRecord) -> Vec<String> {
        let linked = self.linked(record).into_iter();
        linked
            .map(|(alias, other)| format!("/{}:/{}/{alias}", other.name, record.name))
            .collect()
    }

    /// The names of all containers.
    #[must_use]
    pub fn names(&self) -> Names {
        let mut linked: HashMap<ContainerId, Vec<String>> = HashMap::new();
        for record in self.inner.parts.store.snapshot().list::<ContainerRecord>() {
            for link in &record.links {
                let name = format!("/{}/{}", record.name, link.alias);
                linked.entry(link.target.clone()).or_default().push(name);
            }
        }
        Names { linked }
    }

    /// What a link's name (`container/alias`) stands for.
    pub(super) fn by_link(&self, name: &str) -> Option<Arc<ContainerRecord>> {
        let (container, alias) = name.split_once('/')?;
        let snapshot = self.inner.parts.store.snapshot();
        let all = snapshot.list::<ContainerRecord>();
        let holder = all.iter().find(|record| record.name == container)?;
        let link = holder.links.iter().find(|link| link.alias == alias)?;
        snapshot.get(link.target.as_str())
    }

    /// Takes a link away, by the name it gives (`container/alias`).
    pub async fn unlink(&self, name: &str) -> Result<(), ContainerError> {
        let bare = name.strip_prefix('/').unwrap_or(name);
        let Some((container, alias)) = bare.rsplit_once('/') else {
            self.resolve(bare)?;
            return Err(ContainerError::Conflict(
                "Conflict, cannot remove the default link name of the container".to_owned(),
            ));
        };
        let holder = self.resolve(container).map_err(|_| {
            ContainerError::NotFound(format!(
                "{name}: Cannot get parent /{container} for link name /{bare}"
            ))
        })?;
        if holder.links.iter().all(|link| link.alias != alias) {
            return Err(ContainerError::NotFound(name.to_owned()));
        }
        let alias = alias.to_owned();
        self.ask(&holder.id, |reply| Message::Unlink { alias, reply })
            .await
    }

    /// Variables that tell a container of what it is linked to.
    pub(crate) fn link_environment(
        &self,
        record: &ContainerRecord,
    ) -> Result<Vec<String>, ContainerError> {
        let mut variables = Vec::new();
        if record.spec.network.mode != NetworkMode::Bridge {
            return Ok(variables);
        }
        for (alias, other) in self.linked(record) {
            let name = format!("/{}/{alias}", record.name);
            if other.state.running().is_none() {
                return Err(ContainerError::Invalid(format!(
                    "Cannot link to a non running container: /{} AS {name}",
                    other.name
                )));
            }
            variables.extend(environment(&name, &alias, address(&other)?, &other));
        }
        Ok(variables)
    }

    /// Lines of /etc/hosts for what a container is linked to.
    pub(super) fn link_hosts(&self, record: &ContainerRecord) -> Result<String, ContainerError> {
        let mut text = String::new();
        if record.spec.network.mode != NetworkMode::Bridge {
            return Ok(text);
        }
        for (alias, other) in self.linked(record) {
            let _ = write!(text, "{}\t{alias} {}", address(&other)?, hostname(&other));
            if alias != other.name {
                let _ = write!(text, " {}", other.name);
            }
            text.push('\n');
        }
        Ok(text)
    }
}

fn address(other: &ContainerRecord) -> Result<Ipv4Addr, ContainerError> {
    let place = other.place_on("bridge");
    place.and_then(|place| place.ipv4).ok_or_else(|| {
        ContainerError::Invalid(format!(
            "Cannot link to /{}, as it does not belong to the default network",
            other.name
        ))
    })
}

impl Actor {
    /// Containers that are linked to this one learn its address: it may be another than at their own start.
    pub(super) fn tell_linked(&self) {
        let place = self.record.place_on("bridge");
        let Some(address) = place.and_then(|place| place.ipv4) else {
            return;
        };
        let snapshot = self.containers.inner.parts.store.snapshot();
        for other in snapshot.list::<ContainerRecord>() {
            let own = other
                .links
                .iter()
                .filter(|link| link.target == self.record.id);
            for link in own.filter(|_| other.state.running().is_some()) {
                let path = self.containers.etc_directory(&other.id).join("hosts");
                // Written in place: the file is mounted.
                let rewritten = std::fs::read_to_string(&path)
                    .map(|text| with_address(&text, &link.alias, address))
                    .and_then(|text| std::fs::write(&path, text));
                if let Err(error) = rewritten {
                    tracing::warn!(container = %other.id, %error, "its hosts file is out of date");
                }
            }
        }
    }

    pub(super) async fn unlink(&mut self, alias: &str) -> Result<(), ContainerError> {
        self.change(|record| record.links.retain(|link| link.alias != alias));
        if self.life.state.running().is_some() {
            let path = self.containers.etc_directory(&self.record.id).join("hosts");
            let rewritten = std::fs::read_to_string(&path).and_then(|text| {
                let kept = text.lines().filter(|line| !names_first(line, alias));
                let text: String = kept.map(|line| format!("{line}\n")).collect();
                std::fs::write(&path, text)
            });
            if let Err(error) = rewritten {
                tracing::warn!(container = %self.record.id, %error, "its hosts file names a link that is gone");
            }
        }
        self.persist = true;
        self.write_all(hoist_store::Class::Disk).await
    }
}

/// Whether a line of /etc/hosts tells of this name first of all.
fn names_first(line: &str, name: &str) -> bool {
    let rest = line.split_once('\t').map_or("", |(_, rest)| rest);
    rest.split([' ', '.']).next() == Some(name)
}

/// The text of /etc/hosts with another address for a name.
fn with_address(text: &str, name: &str, address: Ipv4Addr) -> String {
    let mut changed = String::with_capacity(text.len());
    for line in text.lines() {
        match line.split_once('\t') {
            Some((_, rest)) if names_first(line, name) => {
                let _ = write!(changed, "{address}\t{rest}");
            }
            _ => changed.push_str(line),
        }
        changed.push('\n');
    }
    changed
}

/// `ALIAS_PORT…`, `ALIAS_NAME` and `ALIAS_ENV_…` as programs of Docker's first years look for them.
fn environment(name: &str, alias: &str, address: Ipv4Addr, other: &ContainerRecord) -> Vec<String> {
    let alias = alias.to_uppercase().replace('-', "_");
    let mut ports: Vec<PortKey> = other.spec.exposed_ports.clone();
    ports.sort_by_key(|port| (port.port, port.protocol != Protocol::Tcp));
    let mut variables = Vec::new();
    let word = |port: &PortKey| port.protocol.as_str().to_owned();
    let upper = |port: &PortKey| word(port).to_uppercase();
    let url = |port: &PortKey| format!("{}://{address}:{}", word(port), port.port);
    if let Some(first) = ports.first() {
        variables.push(format!("{alias}_PORT={}", url(first)));
    }
    let mut at = 0;
    while at < ports.len() {
        let last = last_in_row(&ports, at);
        if last > at + 1 {
            let (first, end) = (&ports[at], &ports[last]);
            let prefix = format!("{alias}_PORT_{}_{}", first.port, upper(first));
            variables.push(format!("{prefix}_START={}", url(first)));
            variables.push(format!("{prefix}_ADDR={address}"));
            variables.push(format!("{prefix}_PROTO={}", word(first)));
            variables.push(format!("{prefix}_PORT_START={}", first.port));
            let prefix = format!("{alias}_PORT_{}_{}", first.port, upper(end));
            variables.push(format!("{prefix}_END={}", url(end)));
            variables.push(format!("{prefix}_PORT_END={}", end.port));
            at = last + 1;
        } else {
            at += 1;
        }
    }
    for port in &ports {
        let prefix = format!("{alias}_PORT_{}_{}", port.port, upper(port));
        variables.push(format!("{prefix}={}", url(port)));
        variables.push(format!("{prefix}_ADDR={address}"));
        variables.push(format!("{prefix}_PORT={}", port.port));
        variables.push(format!("{prefix}_PROTO={}", word(port)));
    }
    variables.push(format!("{alias}_NAME={name}"));
    for variable in &other.spec.process.environment {
        if let Some((name, value)) = variable.split_once('=')
            && !matches!(name, "HOME" | "PATH")
        {
            variables.push(format!("{alias}_ENV_{name}={value}"));
        }
    }
    variables
}

/// The last of the ports that follow each other without a gap.
fn last_in_row(ports: &[PortKey], first: usize) -> usize {
    let follows = |(at, port): &(usize, &PortKey)| {
        usize::from(port.port) <= usize::from(ports[first].port) + at - first
    };
    let after = ports.iter().enumerate().skip(first + 1);
    after.take_while(follows).last().map_or(first, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn links_are_read_as_docker_reads_them() {
        assert_eq!(parse("db:alias"), Ok(("db", "alias")));
        assert_eq!(parse("db"), Ok(("db", "db")));
        assert_eq!(parse("/db:/web/alias"), Ok(("db", "alias")));
        assert_eq!(parse("a:b:c").unwrap_err(), "bad format for links: a:b:c");
        assert!(parse("").is_err());
    }

    #[test]
    fn variables_are_dockers() {
        let mut other = crate::containers::testing::record();
        let port = |port, protocol| PortKey { port, protocol };
        other.spec.exposed_ports = vec![
            port(6379, Protocol::Udp),
            port(6379, Protocol::Tcp),
            port(80, Protocol::Tcp),
        ];
        other.spec.process.environment = vec!["A=1".into(), "PATH=/x".into(), "B".into()];
        let found = environment("/web/my-db", "my-db", Ipv4Addr::new(10, 0, 0, 7), &other);
        expect![[r#"
            MY_DB_PORT=tcp://10.0.0.7:80
            MY_DB_PORT_80_TCP=tcp://10.0.0.7:80
            MY_DB_PORT_80_TCP_ADDR=10.0.0.7
            MY_DB_PORT_80_TCP_PORT=80
            MY_DB_PORT_80_TCP_PROTO=tcp
            MY_DB_PORT_6379_TCP=tcp://10.0.0.7:6379
            MY_DB_PORT_6379_TCP_ADDR=10.0.0.7
            MY_DB_PORT_6379_TCP_PORT=6379
            MY_DB_PORT_6379_TCP_PROTO=tcp
            MY_DB_PORT_6379_UDP=udp://10.0.0.7:6379
            MY_DB_PORT_6379_UDP_ADDR=10.0.0.7
            MY_DB_PORT_6379_UDP_PORT=6379
            MY_DB_PORT_6379_UDP_PROTO=udp
            MY_DB_NAME=/web/my-db
            MY_DB_ENV_A=1"#]]
        .assert_eq(&found.join("\n"));
    }

    #[test]
    fn an_address_follows_its_name_and_no_other() {
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tdb abc target\n10.0.0.3\tdb2 db\n";
        assert_eq!(
            with_address(text, "db", Ipv4Addr::new(10, 9, 9, 9)),
            "127.0.0.1\tlocalhost\n10.9.9.9\tdb abc target\n10.0.0.3\tdb2 db\n"
        );
    }
}
