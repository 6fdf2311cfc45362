//! Living with other firewalls, and turning forwarding on without opening the machine.

use crate::error::NetError;
use crate::nft::{ForeignChain, Place, Survey};
use crate::shared::{Firewall, Shared, lock};
use crate::sysctl;

/// What the names of our tables begin with, whichever engine's.
const OWN_TABLES: &str = "hoist";
const FORWARD_V4: &str = "ipv4/ip_forward";
const FORWARD_V6: &str = "ipv6/conf/all/forwarding";

impl Firewall {
    /// What our rules in foreign chains begin their comments with: the table's name tells engines apart.
    fn tag(&self) -> &str {
        &self.ruleset.table
    }

    /// Chains of others that concern us, with what is ours in them.
    pub(crate) fn survey(&self) -> Result<Survey, NetError> {
        let survey = self.tables.survey(OWN_TABLES, self.tag())?;
        Ok(survey.only(self.ruleset.families))
    }

    /// Finds chains of others that drop what we forward, puts our accepts there, and notes what cannot be helped.
    pub(crate) fn look_around(&mut self, default: &str) {
        self.warnings.clear();
        let survey = match self.survey() {
            Ok(survey) => survey,
            Err(error) => {
                tracing::warn!(%error, "cannot look at other firewalls");
                return;
            }
        };
        let refused = self
            .tables
            .pass(&survey, &self.bridges(default), self.tag());
        self.warnings.extend(
            refused
                .iter()
                .map(|(chain, error)| unchangeable(chain, error)),
        );
        if self.ruleset.is_off() {
            return;
        }
        // The legacy interface has rules that nf_tables cannot see; these files name its tables.
        for (file, program) in [
            ("ip_tables_names", "iptables"),
            ("ip6_tables_names", "ip6tables"),
        ] {
            let names = std::fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            if names.is_ok_and(|names| names.lines().any(|name| name == "filter")) {
                self.warnings.push(format!(
                    "WARNING: legacy {program} rules are in use, which cannot be seen here; if their FORWARD chain drops, \
                     published ports and traffic of containers are blocked"
                ));
            }
        }
    }

    /// Whether everything of ours is in a chain of somebody else.
    pub(crate) fn passes(&self, place: &Place, default: &str) -> bool {
        place.has(&self.bridges(default), self.tag())
    }

    /// Our bridges as rules name them: those of our own naming by what their names begin with, so that a thousand
    /// networks are two rules, and each that a person named.
    fn bridges(&self, default: &str) -> Vec<String> {
        let named = self.ruleset.bridges.iter().map(|bridge| &bridge.name);
        let named = named.filter(|name| !name.starts_with(default)).cloned();
        named.chain([format!("{default}*")]).collect()
    }

    /// Takes our accepts out of the chains of others.
    pub(crate) fn leave_others(&mut self) -> Result<(), NetError> {
        let survey = self.survey()?.left();
        let refused = self.tables.pass(&survey, &[], self.tag());
        refused.into_iter().try_for_each(|(_, error)| Err(error))
    }
}

fn unchangeable(place: &ForeignChain, error: &NetError) -> String {
    format!(
        "WARNING: chain {} of table {} drops forwarded packets and cannot be changed ({}): \
         published ports and traffic of containers may be blocked",
        place.chain,
        place.table(),
        hoist_model::chain(error)
    )
}

impl Shared {
    /// Turns forwarding on if it is off; then our table keeps everybody else's packets from being forwarded.
    pub(crate) fn ensure_forwarding(&self, v6: bool) -> Result<(), NetError> {
        let mut wanted = vec![FORWARD_V4];
        if v6 {
            wanted.push(FORWARD_V6);
        }
        wanted.retain(|name| sysctl::read(name).is_ok_and(|value| value == "0"));
        let (ip_forward, guard) = {
            let changeable = lock(&self.changeable);
            (changeable.ip_forward, changeable.guard)
        };
        if wanted.is_empty() || !ip_forward {
            return Ok(());
        }
        let mut firewall = lock(&self.tables);
        if guard && !firewall.ruleset.guard && !firewall.ruleset.is_off() {
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
        let mut firewall = lock(&self.tables);
        if !firewall.warnings.is_empty() {
            // Nobody is told when a table goes with its owner.
            firewall.look_around(&self.settings.instance.bridge());
        }
        let mut warnings = firewall.warnings.clone();
        drop(firewall);
        let ip_forward = lock(&self.changeable).ip_forward;
        if !ip_forward && sysctl::read(FORWARD_V4).is_ok_and(|value| value == "0") {
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
            link.name != self.settings.instance.bridge()
                && ["hoist0", "hst-", "docker", "br-", "virbr", "cni", "podman"]
                    .iter()
                    .any(|prefix| link.name.starts_with(prefix))
        });
        if needed {
            return Ok(());
        }
        sysctl::write(FORWARD_V4, "0")?;
        if self.has_ipv6() {
            sysctl::write(FORWARD_V6, "0")?;
        }
        Ok(())
    }
}
