//! Host names to addresses: the configured ones first, then /etc/hosts and DNS by hickory.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hoist_http::{Resolve, Resolving};

/// For one DNS server's answer.
const QUERY_DEADLINE: Duration = Duration::from_secs(5);

/// One pull's view of names. resolv.conf and hosts are read when first needed, so that a change of network is
/// seen by the next pull.
#[derive(Default)]
pub(crate) struct Names {
    hosts: HashMap<String, SocketAddr>,
    resolver: OnceLock<Option<Arc<TokioResolver>>>,
}

impl Names {
    pub(crate) fn new(hosts: HashMap<String, SocketAddr>) -> Self {
        Self {
            hosts,
            resolver: OnceLock::new(),
        }
    }

    /// The addresses of a host as the world sees it: without the configured ones. None on any failure.
    pub(crate) async fn public(&self, host: &str) -> Vec<IpAddr> {
        if let Some(known) = literal(host) {
            return known;
        }
        lookup(self.resolver(), host.to_owned())
            .await
            .unwrap_or_default()
    }

    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        let build = || {
            let mut builder = TokioResolver::builder_tokio().unwrap_or_else(|_| {
                // Without resolv.conf there is still /etc/hosts.
                TokioResolver::builder_with_config(
                    ResolverConfig::default(),
                    TokioRuntimeProvider::default(),
                )
            });
            builder.options_mut().timeout = QUERY_DEADLINE;
            builder.build().ok().map(Arc::new)
        };
        self.resolver.get_or_init(build).clone()
    }
}

/// The first address of a host by /etc/hosts and DNS; `NotFound` where there is none. Cancel-safe.
pub async fn address_of(host: &str) -> io::Result<IpAddr> {
    let found = match literal(host) {
        Some(known) => known,
        None => lookup(Names::default().resolver(), host.to_owned()).await?,
    };
    let nobody = || io::Error::new(io::ErrorKind::NotFound, "no such host");
    found.first().copied().ok_or_else(nobody)
}

fn literal(host: &str) -> Option<Vec<IpAddr>> {
    if host == "localhost" {
        return Some(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    host.parse().ok().map(|address| vec![address])
}

async fn lookup(resolver: Option<Arc<TokioResolver>>, host: String) -> io::Result<Vec<IpAddr>> {
    let nobody = || io::Error::new(io::ErrorKind::NotFound, "no such host");
    let resolver = resolver.ok_or_else(nobody)?;
    match resolver.lookup_ip(host).await {
        Ok(found) => {
            let mut addresses: Vec<IpAddr> = found.iter().collect();
            // IPv4 first: a broken IPv6 route would cost a connection deadline each time.
            addresses.sort_by_key(IpAddr::is_ipv6);
            Ok(addresses)
        }
        Err(e) if e.is_nx_domain() || e.is_no_records_found() => Err(nobody()),
        Err(e) => Err(io::Error::other(e)),
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        let configured = self
            .hosts
            .get(&format!("{host}:{port}"))
            .or_else(|| self.hosts.get(host));
        if let Some(address) = configured {
            let address = *address;
            return Box::pin(async move { Ok(vec![address]) });
        }
        if let Some(known) = literal(host) {
            return Box::pin(async move { Ok(with_port(known, port)) });
        }
        let (resolver, host) = (self.resolver(), host.to_owned());
        Box::pin(async move { Ok(with_port(lookup(resolver, host).await?, port)) })
    }
}

fn with_port(addresses: Vec<IpAddr>, port: u16) -> Vec<SocketAddr> {
    addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect()
}
