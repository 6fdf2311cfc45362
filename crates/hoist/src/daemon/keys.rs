//! The keys of daemon.json that have no meaning here, so that a file written for dockerd is taken, and one with a slip of the
//! pen is not.

/// dockerd's own (dockerd(8), "Daemon configuration file"; moby `daemon/config/config.go`).
const WITHOUT_MEANING: &[&str] = &[
    "allow-direct-routing",
    "allow-nondistributable-artifacts",
    "api-cors-header",
    "bip6",
    "bridge",
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
    "default-gateway",
    "default-gateway-v6",
    "default-network-opts",
    "features",
    "firewall-backend",
    "fixed-cidr",
    "fixed-cidr-v6",
    "http-proxy",
    "https-proxy",
    "icc",
    "init-path",
    "ip",
    "ip-forward",
    "ip-forward-no-drop",
    "ip-masq",
    "ip6tables",
    "iptables",
    "ipv6",
    "max-concurrent-uploads",
    "network-control-plane-mtu",
    "no-proxy",
    "node-generic-resources",
    "oom-score-adjust",
    "proxies",
    "rootless",
    "selinux-enabled",
    "storage-opts",
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
}
