//! What the handle and the worker share, each part behind a lock of its own.
//!
//! Order where two are needed: `tables`, then `state`. The kernel is never spoken to under `state` or `pool`.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hoist_model::ContainerId;
use hoist_model::container::PortMapping;

use crate::attachment::AttachmentRecord;
use crate::build::{BridgePlan, Prepared};
use crate::demand::Demand;
use crate::error::NetError;
use crate::ipam::Addresses;
use crate::names::NameBoard;
use crate::nft::{self, Element, Ruleset, Tables};
use crate::ports::PortTable;
use crate::rtnl::{Link, Links};
use crate::settings::Settings;
use crate::worker::unpoison;

/// Namespaces with `lo` alone that are kept ready.
const ISOLATED: usize = 2;

/// Takes a lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    unpoison(mutex.lock())
}

/// Everything that outlives one call.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) bridge: BridgePlan,
    /// Port id of `tables`' socket: tells our own changes from others'.
    pub(crate) firewall_port: u32,
    /// The nf_tables socket, and with it the right to change our table.
    pub(crate) tables: Mutex<Firewall>,
    /// The rtnetlink socket of the host's namespace.
    pub(crate) links: Mutex<Links>,
    /// Addresses, ports and attachments.
    pub(crate) state: Mutex<State>,
    /// What is ready.
    pub(crate) pool: Mutex<Pool>,
    /// Whom containers find by name.
    pub(crate) names: NameBoard,
}

/// Our table as it should be, and the socket to make it so.
pub(crate) struct Firewall {
    pub(crate) tables: Tables,
    pub(crate) ruleset: Ruleset,
    /// Whether the table was written by this process; until then an earlier life's stands.
    pub(crate) written: bool,
    pub(crate) warnings: Vec<String>,
}

/// Addresses, ports and attachments.
pub(crate) struct State {
    pub(crate) addresses: Addresses,
    pub(crate) ports: PortTable,
    pub(crate) live: HashMap<ContainerId, Live>,
    /// Veths whose namespace was let go, with the address to release once they are gone.
    pub(crate) leaving: HashMap<String, (Ipv4Addr, Instant)>,
}

/// An attached container.
pub(crate) struct Live {
    pub(crate) record: AttachmentRecord,
    pub(crate) netns: OwnedFd,
}

/// Namespaces that are ready.
#[derive(Default)]
pub(crate) struct Pool {
    pub(crate) ready: VecDeque<Prepared>,
    pub(crate) isolated: VecDeque<OwnedFd>,
    pub(crate) demand: Demand,
    /// Whether the worker fills it: not before leftovers were swept, nor after the end.
    pub(crate) open: bool,
}

/// What the pool lacks.
pub(crate) struct PoolWish {
    /// When to build the next namespace on the bridge.
    pub(crate) bridged: Option<Duration>,
    /// Whether to build one with `lo` alone.
    pub(crate) isolated: bool,
}

impl Shared {
    pub(crate) fn pool_wish(&self, now: Instant) -> PoolWish {
        let pool = lock(&self.pool);
        if !pool.open || self.settings.pool_size == 0 {
            return PoolWish {
                bridged: None,
                isolated: false,
            };
        }
        PoolWish {
            bridged: pool
                .demand
                .wait(now, pool.ready.len(), self.settings.pool_size),
            isolated: pool.isolated.len() < ISOLATED,
        }
    }

    pub(crate) fn take_address(&self) -> Result<Ipv4Addr, NetError> {
        lock(&self.state)
            .addresses
            .take_next()
            .ok_or_else(|| NetError::AddressesExhausted(self.bridge.address.trunc().to_string()))
    }

    pub(crate) fn release_address(&self, ip: Ipv4Addr) {
        lock(&self.state).addresses.release(ip);
    }

    /// A veth is gone: its address is free.
    pub(crate) fn link_gone(&self, name: &str) {
        let mut state = lock(&self.state);
        if let Some((ip, _)) = state.leaving.remove(name) {
            state.addresses.release(ip);
        }
    }

    /// Only these links are left.
    pub(crate) fn links_left(&self, links: &[Link]) {
        let mut state = lock(&self.state);
        let State {
            addresses, leaving, ..
        } = &mut *state;
        leaving.retain(|name, (ip, _)| {
            let left = links.iter().any(|link| link.name == *name);
            if !left {
                addresses.release(*ip);
            }
            left
        });
    }

    /// The elements that every attached container's ports need.
    fn wanted(&self) -> Vec<Element> {
        lock(&self.state)
            .live
            .values()
            .flat_map(|live| elements(&live.record))
            .collect()
    }

    /// Compares the table with what it should be and writes it again where it differs; true if it did.
    pub(crate) fn verify_and_reapply(&self) -> Result<bool, NetError> {
        let mut firewall = lock(&self.tables);
        if !firewall.written {
            return Ok(false);
        }
        firewall.look_around(&self.bridge.name);
        if firewall
            .ruleset
            .is_intact(&firewall.tables, &self.wanted())?
        {
            return Ok(false);
        }
        tracing::warn!(
            table = firewall.ruleset.table,
            "the firewall table was changed: writing it again"
        );
        self.write_table(&mut firewall)?;
        Ok(true)
    }

    /// Writes the whole table; the caller holds it, so that no publishing falls between.
    pub(crate) fn write_table(&self, firewall: &mut Firewall) -> Result<(), NetError> {
        let transaction = firewall.ruleset.write(&self.wanted());
        firewall.tables.commit(transaction)?;
        firewall.written = true;
        Ok(())
    }

    /// Publishes ports whose container is in `state` already.
    pub(crate) fn publish(&self, elements: &[Element]) -> Result<(), NetError> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut firewall = lock(&self.tables);
        let mut transaction = nft::Transaction::new();
        transaction.add(&firewall.ruleset.table, elements);
        match firewall.tables.commit(transaction) {
            Ok(()) => Ok(()),
            // Somebody removed table or map: all of it is wanted back.
            Err(error) if crate::rtnl::is_errno(&error, libc::ENOENT) => {
                self.write_table(&mut firewall)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes ports back whose container is in `state` no longer.
    pub(crate) fn unpublish(&self, elements: &[Element]) -> Result<(), NetError> {
        if elements.is_empty() {
            return Ok(());
        }
        let mut firewall = lock(&self.tables);
        let mut transaction = nft::Transaction::new();
        transaction.remove(&firewall.ruleset.table, elements);
        match firewall.tables.commit(transaction) {
            // One of them is missing, so none was removed: write what should be.
            Err(error) if crate::rtnl::is_errno(&error, libc::ENOENT) => {
                self.write_table(&mut firewall)
            }
            other => other,
        }
    }
}

/// The elements that a container's ports need: of those the kernel can translate.
pub(crate) fn elements(record: &AttachmentRecord) -> Vec<Element> {
    record
        .ports
        .iter()
        .filter_map(|port| {
            let container = kernel_target(record, port)?;
            Some(nft::element(
                port.host_ip,
                port.container.protocol,
                port.host_port,
                container,
            ))
        })
        .collect()
}

/// Where the kernel sends a published port: to the address of the same family, if the container has one. What is
/// for `::1` it sends nowhere.
fn kernel_target(record: &AttachmentRecord, port: &PortMapping) -> Option<SocketAddr> {
    if port.host_ip.is_ipv6() && port.host_ip.is_loopback() {
        return None;
    }
    let ip = if port.host_ip.is_ipv4() {
        record.ipv4.into()
    } else {
        record.ipv6?.address.into()
    };
    Some(SocketAddr::new(ip, port.container.port))
}
