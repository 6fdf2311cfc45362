//! Networks: the three every node has, and those of users, which the host makes of a `Segment`.
//!
//! ```text
//! create ── check (pure) ──► plan (pure) ──► host makes it ──► record and event in one transaction
//! start  ── every record ──► host finds or makes it again
//! ```

mod builtin;
mod check;
mod configuration;
mod plan;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hoist_model::network::SubnetUsage;
use hoist_model::{Event, EventKind, NetworkId};
use hoist_store::{Class, Store, StoreError};

use crate::clock::{now, random_bytes};
use crate::error::NetworkError;
use crate::ports::Network;
use crate::records::{ContainerRecord, NetworkRecord};
use hoist_model::chain;

/// The networks of this node.
#[derive(Clone)]
pub struct Networks {
    store: Store,
    host: Arc<dyn Network>,
    /// Locked for single looks and changes.
    defaults: Arc<RwLock<DriverOptions>>,
}

/// Options of networks, by driver (daemon.json `default-network-opts`).
pub type DriverOptions = BTreeMap<String, BTreeMap<String, String>>;

/// A wish for a network (API `NetworkCreateRequest`).
#[derive(Clone, Debug, Default)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// `bridge`, `macvlan` or `ipvlan`; others are refused.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
    /// User's key/value pairs.
    pub labels: BTreeMap<String, String>,
    /// Whether containers get IPv4 addresses; `None` is yes.
    pub ipv4: Option<bool>,
    /// Whether they get IPv6 addresses; `None` is no.
    pub ipv6: Option<bool>,
    /// Whether nothing leaves or enters it.
    pub internal: bool,
    /// Whether it is meant for containers that are started by hand.
    pub attachable: bool,
    /// `default`, `null` or empty.
    pub ipam_driver: String,
    /// Options of the address management.
    pub ipam_options: Option<BTreeMap<String, String>>,
    /// Subnets as written.
    pub pools: Vec<PoolRequest>,
    /// Empty, `local` or `swarm`.
    pub scope: String,
    /// Whether it is to be Swarm's routing mesh.
    pub ingress: bool,
    /// Whether nothing is made of it but other networks.
    pub config_only: bool,
    /// The network that has the configuration of this one; empty is none.
    pub config_from: String,
}

impl NetworkRequest {
    /// Takes the options of its driver that it does not say; those that its body says as a member are not among its options,
    /// where they would look as if they counted (moby `daemon/network.go`).
    fn take_defaults(&mut self, defaults: &DriverOptions) {
        for (name, value) in defaults.get(&self.driver).into_iter().flatten() {
            let option = self.options.entry(name.clone());
            option.or_insert_with(|| value.clone());
        }
        for (said, name) in [
            (self.ipv4, "com.docker.network.enable_ipv4"),
            (self.ipv6, "com.docker.network.enable_ipv6"),
        ] {
            if said.is_some() {
                self.options.remove(name);
            }
        }
    }
}

/// A subnet as written (API `IPAMConfig`).
#[derive(Clone, Debug, Default)]
pub struct PoolRequest {
    /// `10.0.0.0/24`.
    pub subnet: String,
    /// Where addresses are taken from; empty is all of it.
    pub range: String,
    /// The way out; empty is the first address.
    pub gateway: String,
    /// Addresses that nobody gets, by what they are for.
    pub auxiliary: BTreeMap<String, String>,
}

/// An event about a network.
fn network_event(action: &str, network: &NetworkRecord) -> Event {
    Event {
        at: now(),
        kind: EventKind::Network,
        action: action.to_owned(),
        actor: network.id.as_str().to_owned(),
        attributes: [("name", &network.name), ("type", &network.driver)]
            .map(|(name, value)| (name.to_owned(), value.clone()))
            .into(),
    }
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
    /// Makes sure that the networks every node has are recorded: of the default bridge, if there is one. `defaults` are
    /// options, by driver, that a network gets which does not say.
    pub async fn open(
        store: Store,
        host: Arc<dyn Network>,
        defaults: DriverOptions,
    ) -> Result<Self, NetworkError> {
        let known = store.snapshot().list::<NetworkRecord>();
        let networks = Self {
            store,
            host,
            defaults: Arc::new(RwLock::new(defaults)),
        };
        networks.record_builtin().await?;
        for network in known {
            let Some(segment) = &network.segment else {
                continue;
            };
            if let Err(error) = networks.host.make(segment.clone()).await {
                tracing::error!(network = network.name, %error, "a network could not be made again");
            }
        }
        Ok(networks)
    }

    /// Networks that are made from now on get these options, by driver, where they do not say; the default bridge is recorded
    /// as the host has it now.
    pub async fn renew(&self, defaults: DriverOptions) -> Result<(), NetworkError> {
        *self
            .defaults
            .write()
            .unwrap_or_else(PoisonError::into_inner) = defaults;
        self.record_builtin().await
    }

    /// Records the networks that every node has, where they are not so recorded, and forgets those that are no more.
    async fn record_builtin(&self) -> Result<(), NetworkError> {
        let known = self.store.snapshot().list::<NetworkRecord>();
        let wanted = builtin::wanted(&known, self.host.bridge().as_ref());
        let gone: Vec<_> = known
            .iter()
            .filter(|old| old.is_builtin() && !wanted.iter().any(|network| network.id == old.id))
            .map(|old| old.id.clone())
            .collect();
        self.store
            .transaction(Class::Disk, move |tx| {
                for network in wanted {
                    tx.put(Arc::new(network));
                }
                for id in gone {
                    tx.delete::<NetworkRecord>(id.as_str());
                }
                Ok::<_, NetworkError>(())
            })
            .await?;
        Ok(())
    }

    /// Makes a network.
    pub async fn create(
        &self,
        mut request: NetworkRequest,
    ) -> Result<Arc<NetworkRecord>, NetworkError> {
        if request.config_from.is_empty() {
            let defaults = self.defaults.read();
            request.take_defaults(&defaults.unwrap_or_else(PoisonError::into_inner));
        }
        check::check(&request)?;
        if self.list().iter().any(|other| other.name == request.name) {
            return Err(NetworkError::NameTaken(request.name));
        }
        if !request.config_from.is_empty() {
            let named = self
                .list()
                .into_iter()
                .find(|other| other.configuration.is_some() && other.name == request.config_from);
            let configuration = named.ok_or_else(|| {
                check::refused(
                    hoist_model::ErrorClass::NotFound,
                    format!(
                        "configuration network {:?} does not exist",
                        request.config_from
                    ),
                )
            })?;
            configuration::apply(&configuration, &mut request);
        }
        let wanted = plan::plan(&request, NetworkId::from_bytes(&random_bytes()))?;
        let record = if request.config_only {
            configuration::record(request, wanted)
        } else {
            let segment = self.host.make(wanted).await?;
            NetworkRecord {
                id: segment.id.clone(),
                name: request.name,
                driver: request.driver,
                created_at: now(),
                subnets: segment.subnets.clone(),
                segment: Some(segment),
                attachable: request.attachable,
                ipam_options: request.ipam_options,
                options: request.options,
                labels: request.labels,
                configuration: None,
                config_from: request.config_from,
            }
        };
        let record = Arc::new(record);
        let draft = record.clone();
        let written = self
            .store
            .transaction(Class::Disk, move |tx| {
                let others = tx.list::<NetworkRecord>();
                if others.iter().any(|other| other.name == draft.name) {
                    return Err(NetworkError::NameTaken(draft.name.clone()));
                }
                tx.event(network_event("create", &draft));
                tx.put(draft);
                Ok(())
            })
            .await;
        if let Err(error) = written {
            if let Err(error) = self.host.unmake(&record.id).await {
                tracing::warn!(network = record.name, %error, "what was made of it stays");
            }
            return Err(error);
        }
        Ok(record)
    }

    /// Removes a network that no container runs on.
    pub async fn remove(&self, name: &str) -> Result<Arc<NetworkRecord>, NetworkError> {
        let network = self.resolve(name)?;
        if network.is_builtin() {
            return Err(NetworkError::Permanent(network.name.clone()));
        }
        let is_of_it = |other: &Arc<NetworkRecord>| other.config_from == network.name;
        if network.configuration.is_some() && self.list().iter().any(is_of_it) {
            return Err(check::refused(
                hoist_model::ErrorClass::Forbidden,
                format!("configuration network {:?} is in use", network.name),
            ));
        }
        let users = self.endpoints(&network);
        if !users.is_empty() {
            let endpoints = users
                .iter()
                .map(|user| format!("name:\"{}\" id:\"{}\"", user.name, user.id.short()))
                .collect::<Vec<_>>();
            return Err(NetworkError::InUse {
                name: network.name.clone(),
                endpoints: endpoints.join(", "),
            });
        }
        // The host knows who is just joining, and refuses. Should we be ended before the record goes, the next engine makes
        // the network again.
        self.host.unmake(&network.id).await?;
        let gone = network.clone();
        self.store
            .transaction(Class::Disk, move |tx| {
                tx.delete::<NetworkRecord>(gone.id.as_str());
                tx.event(network_event("destroy", &gone));
                Ok::<_, NetworkError>(())
            })
            .await?;
        Ok(network)
    }

    /// Removes the networks that no container runs on, but for those that `keep` says; answers their names.
    pub async fn prune(
        &self,
        keep: &(dyn Fn(&NetworkRecord) -> bool + Sync),
    ) -> Result<Vec<String>, NetworkError> {
        let mut names = Vec::new();
        let mut all = self.list();
        all.sort_by_key(|network| network.created_at);
        for network in all {
            // A configuration is no network that anything could run on.
            let unmade = network.is_builtin() || network.configuration.is_some();
            let spared = unmade || keep(&network);
            if spared || !self.endpoints(&network).is_empty() {
                continue;
            }
            match self.remove(network.id.as_str()).await {
                Ok(_) => names.push(network.name.clone()),
                // Joined in the meantime: that is what prune leaves alone.
                Err(error) if error.class() == hoist_model::ErrorClass::Forbidden => {}
                Err(NetworkError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let event = crate::containers::prune_event(EventKind::Network, 0);
        self.store
            .transaction(Class::Process, move |tx| {
                tx.event(event);
                Ok::<_, NetworkError>(())
            })
            .await?;
        Ok(names)
    }

    /// The containers that are on a network now.
    #[must_use]
    pub fn endpoints(&self, network: &NetworkRecord) -> Vec<Arc<ContainerRecord>> {
        let on_it = |record: &Arc<ContainerRecord>| {
            let mut places = record.attachments.iter();
            places.any(|place| place.network_id == network.id)
        };
        let containers = self.store.snapshot().list::<ContainerRecord>();
        containers.into_iter().filter(on_it).collect()
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
            (Some(_), Some(_)) => Err(NetworkError::Ambiguous {
                name: name.to_owned(),
                matches: 2 + prefixed.count(),
            }),
            _ => Err(NetworkError::NotFound(name.to_owned())),
        }
    }

    /// All networks.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<NetworkRecord>> {
        self.store.snapshot().list()
    }

    /// How much of a user's network's subnets is in use.
    #[must_use]
    pub fn usage(&self, network: &NetworkRecord) -> Vec<SubnetUsage> {
        self.host.usage(&network.id)
    }

    /// What an operator should know about the host's firewall and forwarding.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.host.warnings()
    }
}
