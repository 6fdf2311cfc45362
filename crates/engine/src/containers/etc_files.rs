//! The three files of /etc that belong to the engine: hostname, hosts, resolv.conf. Written anew at each start, so they live
//! where nothing outlives the machine's uptime.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hoist_model::container::{NetworkMode, default_hostname};

use super::Containers;
use crate::error::ContainerError;
use crate::records::{ContainerRecord, NetworkAttachment};

impl Containers {
    /// Writes the files and answers where each goes: (path in the container, path on the host).
    pub(super) fn write_etc_files(
        &self,
        record: &ContainerRecord,
    ) -> Result<Vec<(String, PathBuf)>, ContainerError> {
        let network = &self.inner.parts.network;
        let directory = self.etc_directory(&record.id);
        let shares_network = matches!(record.spec.network.mode, NetworkMode::Container(_));
        let mut files = vec![("hostname", format!("{}\n", hostname(record)))];
        let mut answers = Vec::with_capacity(3);
        if let (true, NetworkMode::Container(name)) = (shares_network, &record.spec.network.mode) {
            // Whoever shares a network namespace shares the names that go with it.
            let other = self.etc_directory(&self.resolve(name)?.id);
            for file in ["hosts", "resolv.conf"] {
                answers.push((format!("/etc/{file}"), other.join(file)));
            }
        } else {
            let linked = self.link_hosts(record)?;
            files.push(("hosts", hosts(record, network.host_gateway(), &linked)?));
            files.push(("resolv.conf", network.resolv_conf(record)));
        }
        super::create::make_private_directory(&directory)?;
        let mapping = self.mapping(&record.spec);
        let owner = mapping.map(|mapping| mapping.root());
        for (name, text) in files {
            let path = directory.join(name);
            let written = replace(&path, &text).and_then(|()| match owner {
                // The container's root may write to them, as to any file of its own.
                Some((uid, gid)) => std::os::unix::fs::chown(&path, Some(uid), Some(gid)),
                None => Ok(()),
            });
            written.map_err(|source| ContainerError::Io {
                context: format!("write {}", path.display()),
                source,
            })?;
            answers.push((format!("/etc/{name}"), path));
        }
        Ok(answers)
    }
}

/// The name inside the UTS namespace.
pub(crate) fn hostname(record: &ContainerRecord) -> String {
    if record.spec.hostname.is_empty() {
        default_hostname(&record.id)
    } else {
        record.spec.hostname.clone()
    }
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Written in place: the file is bind-mounted, a new inode would not be seen.
    std::fs::write(path, text)
}

/// The text of /etc/hosts, in Docker's order.
fn hosts(
    record: &ContainerRecord,
    gateway: Option<IpAddr>,
    linked: &str,
) -> Result<String, ContainerError> {
    if record.spec.network.mode == NetworkMode::Host {
        let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        append_extra(&mut text, record, gateway)?;
        return Ok(text);
    }
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    append_extra(&mut text, record, gateway)?;
    text.push_str(linked);
    for place in &record.attachments {
        text.push_str(&own_lines(record, place));
    }
    Ok(text)
}

/// The lines of /etc/hosts that tell a container its own address on a network.
pub(super) fn own_lines(record: &ContainerRecord, place: &NetworkAttachment) -> String {
    let name = hostname(record);
    let full = if record.spec.domainname.is_empty() {
        name
    } else {
        format!("{name}.{} {name}", record.spec.domainname)
    };
    let addresses = [place.ipv4.map(IpAddr::V4), place.ipv6.map(IpAddr::V6)];
    addresses
        .into_iter()
        .flatten()
        .map(|address| format!("{address}\t{full}\n"))
        .collect()
}

fn append_extra(
    text: &mut String,
    record: &ContainerRecord,
    gateway: Option<IpAddr>,
) -> Result<(), ContainerError> {
    for entry in &record.spec.network.extra_hosts {
        let invalid = || ContainerError::Invalid(format!("bad format for add-host: {entry:?}"));
        let (name, address) = entry.split_once([':', '=']).ok_or_else(invalid)?;
        let address = match address {
            "host-gateway" => gateway.ok_or_else(|| {
                ContainerError::Invalid("unable to derive the IP value for host-gateway".to_owned())
            })?,
            text => text
                .trim_matches(['[', ']'])
                .parse()
                .map_err(|_| invalid())?,
        };
        let _ = writeln!(text, "{address}\t{name}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_container_and_the_extra_hosts() {
        let mut record = crate::containers::testing::record();
        record.spec.hostname = "web".to_owned();
        record.spec.network.extra_hosts = vec!["db:10.0.0.7".into(), "gw:host-gateway".into()];
        let text = hosts(&record, Some("172.18.0.1".parse().unwrap()), "").unwrap();
        assert!(text.ends_with("10.0.0.7\tdb\n172.18.0.1\tgw\n"), "{text}");
        record.spec.network.extra_hosts = vec!["nothing".into()];
        assert!(
            hosts(&record, None, "")
                .unwrap_err()
                .to_string()
                .contains("nothing")
        );
    }
}
