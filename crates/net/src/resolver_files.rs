//! The texts of a container's /etc/hosts, /etc/resolv.conf and /etc/hostname. Pure.
//!
//! Rules as Docker's (moby: daemon/libnetwork/internal/resolvconf, daemon/libnetwork/etchosts), for networks
//! without a name server of ours.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where systemd-resolved keeps the real upstream servers; read it when `needs_resolved_file` says so.
pub const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// Name servers of last resort: Google's, as in Docker.
const FALLBACK_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(8, 8, 8, 8), Ipv4Addr::new(8, 8, 4, 4)];
const FALLBACK_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888),
    Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8844),
];

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
pub fn needs_resolved_file(host: &str) -> bool {
    let stub = IpAddr::from([127, 0, 0, 53]);
    let servers: Vec<&str> = values(host, "nameserver").collect();
    !servers.is_empty() && servers.iter().all(|text| text.parse() == Ok(stub))
}

/// The name servers of a resolv.conf; those with a zone are left out.
#[must_use]
pub(crate) fn name_servers(text: &str) -> Vec<IpAddr> {
    values(text, "nameserver")
        .filter_map(|server| server.parse().ok())
        .collect()
}

/// A container's resolv.conf from the host's.
#[must_use]
pub fn render_resolv_conf(host: &str, options: &ResolverOptions) -> String {
    let mut servers: Vec<String> = if options.servers.is_empty() {
        values(host, "nameserver")
            .filter(|text| is_usable(text, options.ipv6))
            .map(str::to_owned)
            .collect()
    } else {
        options.servers.iter().map(IpAddr::to_string).collect()
    };
    if servers.is_empty() {
        servers.extend(FALLBACK_V4.iter().map(ToString::to_string));
        if options.ipv6 {
            servers.extend(FALLBACK_V6.iter().map(ToString::to_string));
        }
    }
    // The last `search` or `domain` line counts (man 5 resolv.conf); options of all lines add up.
    let search: Vec<&str> = if options.search.is_empty() {
        host.lines()
            .filter_map(|line| directive(line, "search").or_else(|| directive(line, "domain")))
            .next_back()
            .map(|rest| rest.split_whitespace().collect())
            .unwrap_or_default()
    } else {
        options.search.iter().map(String::as_str).collect()
    };
    let settings: Vec<&str> = if options.options.is_empty() {
        host.lines()
            .filter_map(|line| directive(line, "options"))
            .flat_map(str::split_whitespace)
            .collect()
    } else {
        options.options.iter().map(String::as_str).collect()
    };
    let mut text = String::new();
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !search.is_empty() && search != ["."] {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !settings.is_empty() {
        let _ = writeln!(text, "options {}", settings.join(" "));
    }
    text
}

/// Whether a container can reach the host's name server: no loopback, no zone, no IPv6 without IPv6.
fn is_usable(text: &str, ipv6: bool) -> bool {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => !address.is_loopback() && !address.is_unspecified(),
        Ok(IpAddr::V6(address)) => ipv6 && !address.is_loopback() && !address.is_unspecified(),
        Err(_) => false,
    }
}

/// What follows a keyword on its line, comments and blanks aside.
pub(crate) fn directive<'a>(line: &'a str, keyword: &str) -> Option<&'a str> {
    let rest = line.trim().strip_prefix(keyword)?;
    rest.starts_with([' ', '\t']).then(|| rest.trim())
}

/// The first words that follow a keyword, line by line.
pub(crate) fn values<'a>(text: &'a str, keyword: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines()
        .filter_map(move |line| directive(line, keyword))
        .filter_map(|rest| rest.split_whitespace().next())
}

/// A container's /etc/hosts: loopback lines, `extra` (`--add-host`, resolved), then its own addresses.
#[must_use]
pub fn render_hosts(
    hostname: &str,
    domainname: &str,
    addresses: &[IpAddr],
    extra: &[(String, IpAddr)],
) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for (name, address) in extra {
        let _ = writeln!(text, "{address}\t{name}");
    }
    let names = if domainname.is_empty() {
        hostname.to_owned()
    } else {
        format!("{hostname}.{domainname} {hostname}")
    };
    for address in addresses {
        let _ = writeln!(text, "{address}\t{names}");
    }
    text
}

/// A container's /etc/hostname.
#[must_use]
pub fn render_hostname(hostname: &str) -> String {
    format!("{hostname}\n")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(host: &str, options: &ResolverOptions, expected: Expect) {
        expected.assert_eq(&render_resolv_conf(host, options));
    }

    #[test]
    fn the_hosts_servers_are_copied_without_those_a_container_cannot_reach() {
        let host = "# made by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.2\nnameserver fd00::53\n\
                    nameserver fe80::1%eth0\ndomain old\nsearch example.com lan\noptions ndots:2 timeout:1\n\
                    nameservers 1.2.3.4\noptions rotate\n";
        check(
            host,
            &ResolverOptions::default(),
            expect![[r#"
                nameserver 10.0.0.2
                search example.com lan
                options ndots:2 timeout:1 rotate
            "#]],
        );
        check(
            host,
            &ResolverOptions {
                ipv6: true,
                search: vec![".".to_owned()],
                options: vec!["ndots:0".to_owned()],
                ..ResolverOptions::default()
            },
            expect![[r#"
                nameserver 10.0.0.2
                nameserver fd00::53
                options ndots:0
            "#]],
        );
    }

    #[test]
    fn a_host_without_usable_servers_gets_the_fallback() {
        check(
            "nameserver 127.0.0.53\n",
            &ResolverOptions::default(),
            expect![[r#"
                nameserver 8.8.8.8
                nameserver 8.8.4.4
            "#]],
        );
        check(
            "",
            &ResolverOptions {
                servers: vec!["1.1.1.1".parse().unwrap()],
                search: vec!["corp".to_owned()],
                ..ResolverOptions::default()
            },
            expect![[r#"
                nameserver 1.1.1.1
                search corp
            "#]],
        );
    }

    #[test]
    fn the_stub_resolver_is_recognised_only_when_it_is_alone() {
        assert!(needs_resolved_file(
            "nameserver 127.0.0.53\noptions edns0\n"
        ));
        assert!(!needs_resolved_file(
            "nameserver 127.0.0.53\nnameserver 10.0.0.2\n"
        ));
        assert!(!needs_resolved_file(""));
    }

    #[test]
    fn hosts_names_the_container_last() {
        expect![[r#"
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::	ip6-localnet
            ff00::	ip6-mcastprefix
            ff02::1	ip6-allnodes
            ff02::2	ip6-allrouters
            10.1.1.1	db
            172.18.0.2	web.example.com web
        "#]]
        .assert_eq(&render_hosts(
            "web",
            "example.com",
            &["172.18.0.2".parse().unwrap()],
            &[("db".to_owned(), "10.1.1.1".parse().unwrap())],
        ));
        assert_eq!(render_hostname("web"), "web\n");
    }
}
