//! Living with other firewalls, and turning forwarding on without opening the machine.

use crate::error::NetError;
use crate::nft::forward_drops;
use crate::shared::{Firewall, Shared, lock};
use crate::sysctl;

const FORWARD_V4: &str = "ipv4/ip_forward";
const FORWARD_V6: &str = "ipv6/conf/all/forwarding";

impl Firewall {
    /// Finds chains of others that drop what we forward, puts our accepts there, and notes what cannot be helped.
    pub(crate) fn look_around(&mut self, default: &str) {
        self.warnings.clear();
        let places = match forward_drops(&self.tables, "hoist") {
            Ok(places) => places,
            Err(error) => {
                tracing::warn!(%error, "cannot look at other firewalls");
                return;
            }
        };
        let bridges = self.bridges(default);
        for place in places {
            let accepted = bridges
                .iter()
                .try_for_each(|bridge| self.tables.accept_in(&place, bridge, &tag(bridge)));
            if let Err(error) = accepted {
                self.warnings.push(format!(
                    "WARNING: chain {} of table {} drops forwarded packets and cannot be changed ({error}): \
                     published ports and traffic of containers may be blocked",
                    place.chain, place.table
                ));
            }
        }
        // The legacy interface has rules that nf_tables cannot see; this file names its tables.
        let legacy = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names");
        if legacy.is_ok_and(|names| names.lines().any(|name| name == "filter")) {
            self.warnings.push(
                "WARNING: legacy iptables rules are in use; if their FORWARD chain drops, published ports and \
                 traffic of containers are blocked"
                    .to_owned(),
            );
        }
    }

    /// Our bridges as rules name them: those of our own naming by what their names begin with, so that a thousand
    /// networks are two rules, and each that a person named.
    fn bridges(&self, default: &str) -> Vec<String> {
        let named = self.ruleset.bridges.iter().map(|bridge| &bridge.name);
        let named = named.filter(|name| !name.starts_with(default)).cloned();
        named.chain([format!("{default}*")]).collect()
    }

    /// Takes our accepts out of the chains of others.
    pub(crate) fn leave_others(&mut self, default: &str) -> Result<(), NetError> {
        for bridge in self.bridges(default) {
            self.leave_for(&bridge)?;
        }
        Ok(())
    }

    /// Takes our accepts of one bridge out of the chains of others.
    pub(crate) fn leave_for(&self, bridge: &str) -> Result<(), NetError> {
        for place in forward_drops(&self.tables, "hoist")? {
            self.tables.remove_accepts(&place, &tag(bridge))?;
        }
        Ok(())
    }
}

/// The comment our rules in foreign chains carry.
fn tag(bridge: &str) -> String {
    format!("hoist: traffic of {bridge}")
}

impl Shared {
    /// Turns forwarding on if it is off; then our table keeps everybody else's packets from being forwarded.
    pub(crate) fn ensure_forwarding(&self, v6: bool) -> Result<(), NetError> {
        let mut wanted = vec![FORWARD_V4];
        if v6 {
            wanted.push(FORWARD_V6);
        }
        wanted.retain(|name| sysctl::read(name).is_ok_and(|value| value == "0"));
        if wanted.is_empty() || !self.settings.ip_forward {
            return Ok(());
        }
        let mut firewall = lock(&self.tables);
        if !firewall.ruleset.guard {
            firewall.ruleset.guard = true;
            self.write_table(&mut firewall)?;
        }
        for name in wanted {
            sysctl::write(name, "1")?;
            tracing::info!(sysctl = name, "turned forwarding on");
        }
        Ok(())
    }

    /// What an operator should know.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = lock(&self.tables).warnings.clone();
        if !self.settings.ip_forward && sysctl::read(FORWARD_V4).is_ok_and(|value| value == "0") {
            warnings.push("WARNING: IPv4 forwarding is disabled".to_owned());
        }
        warnings
    }

    /// Undoes `ensure_forwarding`, where it was this instance and nobody else's bridge needs it.
    pub(crate) fn restore_forwarding(&self) -> Result<(), NetError> {
        if !lock(&self.tables).ruleset.guard {
            return Ok(());
        }
        let needed = lock(&self.links).links()?.iter().any(|link| {
            link.name != self.bridge.name
                && ["hoist0", "hst-", "docker", "br-", "virbr", "cni", "podman"]
                    .iter()
                    .any(|prefix| link.name.starts_with(prefix))
        });
        if needed {
            return Ok(());
        }
        sysctl::write(FORWARD_V4, "0")?;
        if self.bridge.address_v6.is_some() {
            sysctl::write(FORWARD_V6, "0")?;
        }
        Ok(())
    }
}
