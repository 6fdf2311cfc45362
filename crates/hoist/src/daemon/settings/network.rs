//! Addresses of networks.

use anyhow::{Context, bail};
use hoist_net::AddressPool;

use super::file::Pool;

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
