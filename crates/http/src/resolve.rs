//! Names to addresses, as a port: this crate never resolves by itself.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;

/// The future of a [`Resolve`].
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Finds the addresses of a host name that is not an address itself.
pub trait Resolve: Send + Sync {
    /// The addresses to try, best first. An empty list or `NotFound` means that there is no such host.
    /// Cancel-safe; the caller sets the deadline.
    fn resolve(&self, host: &str, port: u16) -> Resolving;
}

/// Knows `localhost` and the names it was given, and nothing else.
#[derive(Clone, Debug, Default)]
pub struct StaticNames(pub HashMap<String, Vec<IpAddr>>);

impl Resolve for StaticNames {
    fn resolve(&self, host: &str, port: u16) -> Resolving {
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        let found = match self.0.get(&name) {
            Some(addresses) => addresses.clone(),
            None if name == "localhost" => {
                vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
            }
            None => Vec::new(),
        };
        Box::pin(async move {
            Ok(found
                .into_iter()
                .map(|address| SocketAddr::new(address, port))
                .collect())
        })
    }
}
