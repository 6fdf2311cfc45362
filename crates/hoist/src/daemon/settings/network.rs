//! Networks: the default bridge as dockerd's settings have it, and addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, bail};
use clap::Args;
use hoist_engine::networks::DriverOptions;
use hoist_net::{AddressPool, BridgeChoice};
use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::daemon::arguments::yes_or_no;

use super::file::Pool;

/// What flags or the file say of networks, as written (dockerd(8)).
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct NetworkSaid {
    /// Bridge to use as the default one, which has to be there; none for no default bridge
    #[arg(short = 'b', long, value_name = "NAME")]
    pub(crate) bridge: Option<String>,
    /// IPv6 address of the default bridge, fd00::1/64
    #[arg(long, value_name = "CIDR")]
    pub(crate) bip6: Option<String>,
    /// Part of the default bridge's subnet that containers get addresses from
    #[arg(long, value_name = "CIDR")]
    pub(crate) fixed_cidr: Option<String>,
    /// The same for IPv6
    #[arg(long, value_name = "CIDR")]
    pub(crate) fixed_cidr_v6: Option<String>,
    /// Way out of the containers on the default bridge
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) default_gateway: Option<String>,
    /// Their way out by IPv6
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) default_gateway_v6: Option<String>,
    /// Host address of ports that containers on the default bridge publish without one
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<String>,
    /// Containers on the default bridge reach each other [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) icc: Option<bool>,
    /// Turn IP forwarding on when it is off [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) ip_forward: Option<bool>,
    /// Then leave other interfaces' packets to be forwarded as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) ip_forward_no_drop: Option<bool>,
    /// What leaves the default bridge takes the host's address [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) ip_masq: Option<bool>,
    /// Containers on the default bridge have IPv6
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) ipv6: Option<bool>,
    /// Have firewall rules for IPv4; without, the engine itself relays to published ports [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) iptables: Option<bool>,
    /// Have firewall rules for IPv6 [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) ip6tables: Option<bool>,
}

impl NetworkSaid {
    /// These, and where they say nothing, those.
    pub(super) fn over(self, file: Self) -> Self {
        Self {
            bridge: self.bridge.or(file.bridge),
            bip6: self.bip6.or(file.bip6),
            fixed_cidr: self.fixed_cidr.or(file.fixed_cidr),
            fixed_cidr_v6: self.fixed_cidr_v6.or(file.fixed_cidr_v6),
            default_gateway: self.default_gateway.or(file.default_gateway),
            default_gateway_v6: self.default_gateway_v6.or(file.default_gateway_v6),
            ip: self.ip.or(file.ip),
            icc: self.icc.or(file.icc),
            ip_forward: self.ip_forward.or(file.ip_forward),
            ip_forward_no_drop: self.ip_forward_no_drop.or(file.ip_forward_no_drop),
            ip_masq: self.ip_masq.or(file.ip_masq),
            ipv6: self.ipv6.or(file.ipv6),
            iptables: self.iptables.or(file.iptables),
            ip6tables: self.ip6tables.or(file.ip6tables),
        }
    }
}

/// The same, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkSettings {
    pub(crate) bridge: BridgeChoice,
    pub(crate) bip6: Option<Ipv6Net>,
    pub(crate) fixed_cidr: Option<Ipv4Net>,
    pub(crate) fixed_cidr_v6: Option<Ipv6Net>,
    pub(crate) default_gateway: Option<Ipv4Addr>,
    pub(crate) default_gateway_v6: Option<Ipv6Addr>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) icc: bool,
    pub(crate) ip_forward: bool,
    pub(crate) ip_forward_no_drop: bool,
    pub(crate) ip_masq: bool,
    pub(crate) ipv6: bool,
    pub(crate) iptables: bool,
    pub(crate) ip6tables: bool,
    pub(crate) default_network_opts: DriverOptions,
}

/// Checks, in dockerd's words (moby `daemon/daemon_unix.go`, `verifyDaemonSettings`).
pub(super) fn settle(
    said: NetworkSaid,
    has_bip: bool,
    flags: &[String],
    file: DriverOptions,
) -> anyhow::Result<NetworkSettings> {
    let bridge = said.bridge.filter(|name| !name.is_empty());
    if bridge.is_some() && has_bip {
        bail!("You specified -b & --bip, mutually exclusive options. Please specify only one");
    }
    if bridge.is_some() && said.bip6.is_some() {
        bail!("You specified -b & --bip6, mutually exclusive options. Please specify only one");
    }
    let on = |said: Option<bool>| said.unwrap_or(true);
    let (icc, iptables, ip6tables) = (on(said.icc), on(said.iptables), on(said.ip6tables));
    let ipv6 = said.ipv6.unwrap_or_default();
    for (rules, v6, name) in [
        (iptables, false, "iptables"),
        (ip6tables, true, "ip6tables"),
    ] {
        if !icc && !rules && (!v6 || ipv6) {
            bail!(
                "You specified --{name}=false with --icc=false. ICC=false uses {name} to function. Please set --icc or --{name} to true"
            );
        }
    }
    Ok(NetworkSettings {
        bridge: match bridge {
            None => BridgeChoice::Own,
            Some(name) if name == "none" => BridgeChoice::Absent,
            Some(name) => BridgeChoice::Named(name),
        },
        bip6: parse_some(said.bip6, |text| parse_net_v6("bip6", text))?,
        fixed_cidr: parse_some(said.fixed_cidr, |text| {
            Ok(parse_net("fixed-cidr", text)?.trunc())
        })?,
        fixed_cidr_v6: parse_some(said.fixed_cidr_v6, fixed_cidr_v6)?,
        default_gateway: parse_some(said.default_gateway, |text| {
            let parsed = text.parse();
            parsed.with_context(|| {
                format!("invalid default-gateway {text:?}: expected an IPv4 address")
            })
        })?,
        default_gateway_v6: parse_some(said.default_gateway_v6, |text| {
            let parsed = text.parse();
            parsed.with_context(|| {
                format!("invalid default-gateway-v6 {text:?}: expected an IPv6 address")
            })
        })?,
        ip: parse_some(said.ip, |text| {
            let parsed = text.parse::<IpAddr>();
            parsed.with_context(|| format!("invalid ip {text:?}: expected an address"))
        })?
        // dockerd's default, which stands for IPv6 as well.
        .filter(|ip| *ip != IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        icc,
        ip_forward: on(said.ip_forward),
        ip_forward_no_drop: said.ip_forward_no_drop.unwrap_or_default(),
        // Without rules there is nothing to do it with.
        ip_masq: on(said.ip_masq) && iptables,
        ipv6,
        iptables,
        ip6tables,
        default_network_opts: default_network_opts(flags, file)?,
    })
}

fn parse_some<T>(
    text: Option<String>,
    parse: impl FnOnce(&str) -> anyhow::Result<T>,
) -> anyhow::Result<Option<T>> {
    text.filter(|text| !text.is_empty())
        .map(|text| parse(&text))
        .transpose()
}

/// One that overlaps the link-local prefix has to be it (moby: drivers/bridge, `validateIPv6Subnet`).
fn fixed_cidr_v6(text: &str) -> anyhow::Result<Ipv6Net> {
    let net = parse_net_v6("fixed-cidr-v6", text)?.trunc();
    let link_local = Ipv6Net::new_assert([0xfe80, 0, 0, 0, 0, 0, 0, 0].into(), 64);
    if net != link_local && (net.contains(&link_local) || link_local.contains(&net)) {
        bail!("invalid fixed-cidr-v6: '{net}' clashes with the Link-Local prefix 'fe80::/64'");
    }
    Ok(net)
}

/// Options of flags win over those of the file, one by one.
fn default_network_opts(
    flags: &[String],
    mut options: DriverOptions,
) -> anyhow::Result<DriverOptions> {
    for flag in flags {
        let parts = flag
            .split_once('=')
            .and_then(|(driver, option)| Some((driver, option.split_once('=')?)));
        let Some((driver, (name, value))) = parts.filter(|(driver, _)| !driver.is_empty()) else {
            bail!("invalid default-network-opt {flag:?}: expected driver=name=value");
        };
        let of_driver = options.entry(driver.to_owned()).or_default();
        of_driver.insert(name.to_owned(), value.to_owned());
    }
    Ok(options)
}

fn parse_net_v6(name: &str, text: &str) -> anyhow::Result<Ipv6Net> {
    text.parse().with_context(|| {
        format!("invalid {name} {text:?}: expected an IPv6 address with prefix, fd00::1/64")
    })
}

pub(super) fn parse_pool(text: &str) -> anyhow::Result<Pool> {
    let invalid =
        || format!("invalid default-address-pool {text:?}: expected base=10.10.0.0/16,size=24");
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=').with_context(invalid)? {
            ("base", value) => base = Some(value.to_owned()),
            ("size", value) => size = Some(value.parse().with_context(invalid)?),
            _ => bail!(invalid()),
        }
    }
    Ok(Pool {
        base: base.with_context(invalid)?,
        size: size.with_context(invalid)?,
    })
}

pub(super) fn check_pool(pool: &Pool) -> anyhow::Result<AddressPool> {
    let base: ipnet::IpNet = pool.base.parse().with_context(|| {
        format!(
            "invalid default-address-pool {:?}: expected an address with prefix, 10.0.0.0/16 or fd00::/48",
            pool.base
        )
    })?;
    // A network has an address of its own, its router's, and one of a container at least.
    let most = base.max_prefix_len() - 2;
    if pool.size < base.prefix_len() || pool.size > most {
        bail!(
            "invalid default-address-pool base={},size={}: the size must be from {} to {most}",
            pool.base,
            pool.size,
            base.prefix_len()
        );
    }
    Ok(AddressPool {
        base,
        size: pool.size,
    })
}

pub(super) fn parse_net(name: &str, text: &str) -> anyhow::Result<ipnet::Ipv4Net> {
    text.parse().with_context(|| {
        format!("invalid {name} {text:?}: expected an address with prefix, 10.0.0.1/24")
    })
}
