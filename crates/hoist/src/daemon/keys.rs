//! The keys of daemon.json that have no meaning here, so that a file written for dockerd is taken, and one with a slip of the
//! pen is not.

/// dockerd's own (dockerd(8), "Daemon configuration file"; moby `daemon/config/config.go`).
const WITHOUT_MEANING: &[&str] = &[
    "allow-direct-routing",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "bridge-accept-fwmark",
    "builder",
    "cdi-spec-dirs",
    "cluster-advertise",
    "cluster-store",
    "cluster-store-opts",
    "containerd",
    "containerd-namespace",
    "containerd-plugin-namespace",
    "default-address-pool",
    "features",
    "firewall-backend",
    "http-proxy",
    "https-proxy",
    "init-path",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resources",
    "oom-score-adjust",
    "rootless",
    "selinux-enabled",
    "swarm-default-advertise-addr",
    "userland-proxy",
    "userland-proxy-path",
];

/// Whether dockerd knows this key.
pub(super) fn is_known(key: &str) -> bool {
    WITHOUT_MEANING.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_order() {
        assert!(WITHOUT_MEANING.is_sorted());
        assert!(is_known("containerd") && !is_known("containerdd"));
    }

    #[test]
    fn each_is_named_where_users_look() {
        let page = include_str!("../../../../docs/service.md");
        let named = |key: &&&str| page.contains(&format!("`{key}`"));
        let missing: Vec<_> = WITHOUT_MEANING.iter().filter(|key| !named(key)).collect();
        assert!(
            missing.is_empty(),
            "docs/service.md does not name {missing:?}"
        );
    }
}
