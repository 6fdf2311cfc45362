//! Other settings while the engine runs.
//!
//! What the default bridge is changes as it would at a restart: while containers are on it, its name and its addresses stay
//! (`OccupiedBridge`), and their ports, rules and the settings of those that come later change. Whoever joins or leaves the
//! bridge meanwhile waits; what was ready for the next is made anew. If the new bridge cannot be had, the old one is made again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ipnet::IpNet;

use crate::bridge;
use crate::build::BridgePlan;
use crate::claim::Claim;
use crate::error::NetError;
use crate::networks::{Networks, bridge_rules};
use crate::nft::BridgeRules;
use crate::rtnl::Links;
use crate::settings::{OccupiedBridge, Settings};
use crate::shared::{DefaultBridge, Shared, lock};
use crate::subnets;
use crate::worker::{Job, unpoison};

impl Networks {
    /// Takes other settings; of those of a start alone (instance, pool, name servers' file, namespaces) nothing is read. Blocking,
    /// milliseconds; to be called for one change at a time. Of an error nothing has changed.
    pub fn change(&self, new: Settings) -> Result<(), NetError> {
        subnets::check_pools(&new.pools)?;
        let shared = self.shared();
        let changeable = new.changeable();
        let now = shared.default();
        // What had to stay for the sake of containers may be had by now.
        if new.differs_in_bridge(&now.settings) || now.settings.occupied.is_some() {
            let settings = Settings {
                instance: shared.settings.instance.clone(),
                pool_size: shared.settings.pool_size,
                resolv_conf: shared.settings.resolv_conf.clone(),
                make_namespace: shared.settings.make_namespace.clone(),
                ..new
            };
            self.change_bridge(settings)?;
        }
        *lock(&shared.changeable) = changeable;
        Ok(())
    }

    fn change_bridge(&self, new: Settings) -> Result<(), NetError> {
        let shared = Arc::clone(self.shared());
        // Nobody is on the way to the bridge or from it until this is done.
        let _nobody = unpoison(shared.joining.write());
        lock(&shared.pool).open = false;
        // The worker builds nothing meanwhile, and mends nothing.
        let changed = self
            .worker()
            .call(|reply| Job::Change(Box::new(new), reply));
        lock(&shared.pool).open = true;
        // A bridge with IPv6 wants that forwarded, too.
        self.forwarding().store(false, Ordering::Relaxed);
        self.worker().send(Job::Refill);
        changed
    }
}

impl Shared {
    /// Takes from the default bridge what is on it without being a container's.
    pub(crate) fn clear_default(&self, links: &Links) -> Result<(), NetError> {
        while self.give_up_ready(links)? {}
        while self.free_port(links, None)? {}
        Ok(())
    }

    /// Makes the default bridge another, once it was cleared and nothing of that is still to be heard: on another subnet the same
    /// names are others'.
    pub(crate) fn change_default(&self, links: &Links, new: Settings) -> Result<(), NetError> {
        let old = self.default();
        let is_occupied = !self.places_on(None).is_empty();
        let occupied = old.plan.as_ref().filter(|_| is_occupied);
        let settings = Settings {
            occupied: occupied.map(|plan| OccupiedBridge {
                name: plan.name.clone(),
                address: plan.address,
                address_v6: plan.address_v6,
            }),
            ..new
        };
        let choosing = Claim::take();
        let found = bridge::ensure(links, &settings).and_then(|plan| {
            plan.iter().try_for_each(|plan| self.check_apart(plan))?;
            Ok(plan)
        });
        drop(choosing);
        let plan = match found {
            Ok(plan) => plan.map(Arc::new),
            Err(error) => {
                self.put_back_default(links, &old);
                return Err(error);
            }
        };
        {
            let mut state = lock(&self.state);
            let mut addresses = plan.as_deref().map(BridgePlan::addresses);
            let places = state.live.values().flat_map(|live| &live.record.places);
            let on_it = places.filter(|place| place.network.is_none());
            for ip in on_it.filter_map(|place| place.ipv4) {
                if let Some(all) = &mut addresses {
                    all.take(ip.address);
                }
            }
            state.addresses = addresses;
        }
        lock(&self.pool).crowded.remove(&None);
        let rules = plan.as_deref().map(|plan| bridge_rules(plan, &settings));
        let families = [settings.firewall_v4, settings.firewall_v6];
        *lock(&self.default) = Arc::new(DefaultBridge { plan, settings });
        if let Err(error) = self.change_rules(&old, rules, families) {
            // The next change of anybody's firewall has it compared and written again.
            tracing::error!(
                error = hoist_model::chain(&error),
                "the firewall table is behind"
            );
        }
        if let Err(error) = self.put_on_bridges(links, &self.places_on(None)) {
            let error = hoist_model::chain(&error);
            tracing::error!(error, "ports of the default bridge are as they were");
        }
        Ok(())
    }

    /// Other rules for the default bridge, and for the families.
    fn change_rules(
        &self,
        old: &DefaultBridge,
        rules: Option<BridgeRules>,
        families: [bool; 2],
    ) -> Result<(), NetError> {
        let mut firewall = lock(&self.tables);
        let former = old.plan.as_ref().map(|plan| &plan.name);
        let ruleset = &mut firewall.ruleset;
        ruleset
            .bridges
            .retain(|bridge| Some(&bridge.name) != former);
        ruleset.bridges.extend(rules);
        ruleset.families = families;
        firewall.look_around(&self.settings.instance.bridge());
        self.write_table(&mut firewall)
    }

    /// A bridge's subnets are to be no users' network's.
    fn check_apart(&self, plan: &BridgePlan) -> Result<(), NetError> {
        let state = lock(&self.state);
        for made in state.segments.values() {
            for subnet in &made.segment.subnets {
                let is_taken = |net: &IpNet| subnets::overlap(*net, subnet.subnet);
                if let Some(net) = plan.subnets().find(is_taken) {
                    return Err(NetError::InvalidSetting(format!(
                        "the default bridge's subnet {net} overlaps with {} of network {}",
                        subnet.subnet, made.segment.name
                    )));
                }
            }
        }
        Ok(())
    }

    /// Makes the default bridge again as it was.
    fn put_back_default(&self, links: &Links, old: &DefaultBridge) {
        let own = self.settings.instance.bridge();
        let again = match &old.plan {
            Some(plan) => bridge::ensure(links, &plan.settings(&old.settings)),
            None => bridge::remove(links, &own).map(|()| None),
        };
        match (&old.plan, again) {
            (Some(plan), Ok(Some(again))) => {
                plan.renumber(again.index());
                let places = self.places_on(None);
                if let Err(error) = self.put_on_bridges(links, &places) {
                    tracing::error!(%error, "containers are not back on the default bridge");
                }
            }
            (None, Ok(None)) => {}
            (_, Ok(_)) => tracing::error!("the default bridge is not as it was"),
            (_, Err(error)) => {
                let error = hoist_model::chain(&error);
                tracing::error!(error, "the default bridge is not as it was");
            }
        }
    }
}
