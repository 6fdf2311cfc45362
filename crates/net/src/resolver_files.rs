//! The texts of a container's /etc/hosts, /etc/resolv.conf and /etc/hostname. Pure.

use std::net::IpAddr;

/// Where systemd-resolved keeps the real upstream servers; read it when `needs_resolved_file` says so.
pub const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// What a container's creator said about names (`--dns`, `--dns-search`, `--dns-option`); empty takes the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResolverOptions {
    /// Name servers.
    pub servers: Vec<IpAddr>,
    /// Search domains; a single `.` means none.
    pub search: Vec<String>,
    /// Options.
    pub options: Vec<String>,
    /// Whether the container has IPv6, else IPv6 name servers of the host are left out.
    pub ipv6: bool,
}

/// Whether the host's only name server is systemd-resolved's stub, so that `RESOLVED_FILE` is to be rendered from.
#[must_use]
pub fn needs_resolved_file(_host: &str) -> bool {
    unimplemented!()
}

/// A container's resolv.conf from the host's.
#[must_use]
pub fn render_resolv_conf(_host: &str, _options: &ResolverOptions) -> String {
    unimplemented!()
}

/// A container's /etc/hosts: loopback lines, `extra` (`--add-host`, resolved), then its own addresses.
#[must_use]
pub fn render_hosts(
    _hostname: &str,
    _domainname: &str,
    _addresses: &[IpAddr],
    _extra: &[(String, IpAddr)],
) -> String {
    unimplemented!()
}

/// A container's /etc/hostname.
#[must_use]
pub fn render_hostname(_hostname: &str) -> String {
    unimplemented!()
}
