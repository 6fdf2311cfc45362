//! Networks: the three every node has. User networks come with their own issue.

use std::collections::BTreeMap;
use std::sync::Arc;

use hoist_model::NetworkId;
use hoist_store::{Class, Store, StoreError};

use crate::clock::{now, random_bytes};
use crate::error::NetworkError;
use crate::ports::Network;
use crate::records::NetworkRecord;
use hoist_model::chain;

/// The networks of this node.
#[derive(Clone)]
pub struct Networks {
    store: Store,
    host: Arc<dyn Network>,
}

impl From<StoreError> for NetworkError {
    fn from(error: StoreError) -> Self {
        Self::Refused {
            message: chain(&error),
            class: hoist_model::ErrorClass::Internal,
        }
    }
}

impl Networks {
    /// Makes sure that the three networks every node has are recorded.
    pub async fn open(store: Store, host: Arc<dyn Network>) -> Result<Self, NetworkError> {
        let known = store.snapshot().list::<NetworkRecord>();
        let bridge = host.bridge();
        let mut wanted = Vec::new();
        for (name, driver) in [("bridge", "bridge"), ("host", "host"), ("none", "null")] {
            let old = known.iter().find(|network| network.name == name);
            let is_bridge = driver == "bridge";
            let options = if is_bridge {
                BTreeMap::from([
                    (
                        "com.docker.network.bridge.default_bridge".to_owned(),
                        "true".to_owned(),
                    ),
                    (
                        "com.docker.network.bridge.enable_icc".to_owned(),
                        "true".to_owned(),
                    ),
                    (
                        "com.docker.network.bridge.enable_ip_masquerade".to_owned(),
                        "true".to_owned(),
                    ),
                    (
                        "com.docker.network.bridge.host_binding_ipv4".to_owned(),
                        "0.0.0.0".to_owned(),
                    ),
                    (
                        "com.docker.network.bridge.name".to_owned(),
                        bridge.name.clone(),
                    ),
                    (
                        "com.docker.network.driver.mtu".to_owned(),
                        bridge.mtu.to_string(),
                    ),
                ])
            } else {
                BTreeMap::new()
            };
            wanted.push(NetworkRecord {
                id: old.map_or_else(|| NetworkId::from_bytes(&random_bytes()), |o| o.id.clone()),
                name: name.to_owned(),
                driver: driver.to_owned(),
                created_at: old.map_or_else(now, |o| o.created_at),
                subnet: is_bridge.then(|| bridge.subnet.to_string()),
                gateway: is_bridge.then_some(bridge.gateway),
                options,
                labels: BTreeMap::new(),
            });
        }
        store
            .transaction(Class::Disk, move |tx| {
                for network in wanted {
                    tx.put(Arc::new(network));
                }
                Ok::<_, NetworkError>(())
            })
            .await?;
        Ok(Self { store, host })
    }

    /// Finds a network by name, full id or unique id prefix.
    pub fn resolve(&self, name: &str) -> Result<Arc<NetworkRecord>, NetworkError> {
        let all = self.list();
        let exact = all
            .iter()
            .find(|network| network.name == name || network.id.as_str() == name);
        if let Some(network) = exact {
            return Ok(network.clone());
        }
        let mut prefixed = all
            .iter()
            .filter(|network| !name.is_empty() && network.id.as_str().starts_with(name));
        match (prefixed.next(), prefixed.next()) {
            (Some(network), None) => Ok(network.clone()),
            _ => Err(NetworkError::NotFound(name.to_owned())),
        }
    }

    /// All networks.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<NetworkRecord>> {
        self.store.snapshot().list()
    }

    /// What an operator should know about the host's firewall and forwarding.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.host.warnings()
    }
}
