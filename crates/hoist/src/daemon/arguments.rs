//! The words after `dockerd` or `hoist daemon`.
//!
//! Flags that have a meaning here are parsed by clap; those of dockerd that have none are taken out first, from a
//! table, and named in one log line each, so that scripts written for dockerd run.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;

/// What the engine can be told at its start.
#[derive(Debug, Default, Parser)]
#[command(
    name = "hoist daemon",
    disable_version_flag = true,
    about = "Run the engine"
)]
pub(crate) struct Arguments {
    /// Directory of everything that outlives the machine's uptime
    #[arg(long, value_name = "PATH")]
    pub(crate) data_root: Option<PathBuf>,
    /// Directory of what lives as long as processes do
    #[arg(long, value_name = "PATH")]
    pub(crate) exec_root: Option<PathBuf>,
    /// Where to listen: unix:///path, tcp://address:port or fd:// (systemd's sockets); may be repeated
    #[arg(short = 'H', long = "host", value_name = "ADDRESS")]
    pub(crate) hosts: Vec<String>,
    /// File to write the process id to
    #[arg(short = 'p', long, value_name = "FILE")]
    pub(crate) pidfile: Option<PathBuf>,
    /// Configuration file, in the format of dockerd's daemon.json
    #[arg(long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,
    /// Log what a developer wants to see
    #[arg(short = 'D', long)]
    pub(crate) debug: bool,
    /// debug, info, warn, error or fatal
    #[arg(short = 'l', long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
    /// Where containers log that do not say: json-file, local or none
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Option of that driver, max-size=10m; may be repeated
    #[arg(long = "log-opt", value_name = "NAME=VALUE")]
    pub(crate) log_opts: Vec<String>,
    /// Address of the default bridge, 172.30.0.1/16
    #[arg(long, value_name = "CIDR")]
    pub(crate) bip: Option<String>,
    /// Where automatic subnets are cut from, base=10.10.0.0/16,size=24; may be repeated
    #[arg(long = "default-address-pool", value_name = "POOL")]
    pub(crate) default_address_pools: Vec<String>,
    /// Registry that may be spoken to without verified TLS; may be repeated
    #[arg(long = "insecure-registry", value_name = "HOST")]
    pub(crate) insecure_registries: Vec<String>,
    /// Mirror of Docker Hub, a URL; may be repeated
    #[arg(long = "registry-mirror", value_name = "URL")]
    pub(crate) registry_mirrors: Vec<String>,
    /// Address to use for a registry in place of asking DNS, name=address:port; may be repeated
    #[arg(long = "registry-host-override", value_name = "NAME=ADDRESS")]
    pub(crate) registry_host_overrides: Vec<String>,
    /// Directory of one directory per registry with its ca.crt, as /etc/docker/certs.d
    #[arg(long, value_name = "PATH")]
    pub(crate) registry_certificates: Option<PathBuf>,
    /// erofs or directory (also known as overlay2); tried out where not given
    #[arg(short = 's', long, value_name = "KIND")]
    pub(crate) storage_driver: Option<String>,
    /// Group that may use the unix socket
    #[arg(short = 'G', long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Largest packet of the default bridge, in bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) mtu: Option<u32>,
    /// key=value shown by info; may be repeated
    #[arg(long = "label", value_name = "LABEL")]
    pub(crate) labels: Vec<String>,
    /// Address to serve Prometheus metrics on, 127.0.0.1:9323
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics_addr: Option<String>,
    /// Speak TLS on TCP sockets; clients need no certificate
    #[arg(long)]
    pub(crate) tls: bool,
    /// Speak TLS on TCP sockets, to clients whose certificate the authority signed
    #[arg(long)]
    pub(crate) tlsverify: bool,
    /// Authority of clients' certificates
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscacert: Option<PathBuf>,
    /// The engine's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) tlscert: Option<PathBuf>,
    /// The engine's key
    #[arg(long, value_name = "FILE")]
    pub(crate) tlskey: Option<PathBuf>,
    /// native.cgroupdriver=cgroupfs or native.cgroupdriver=systemd
    #[arg(long = "exec-opt", value_name = "OPTION")]
    pub(crate) exec_opts: Vec<String>,
    /// Check the configuration and exit
    #[arg(long)]
    pub(crate) validate: bool,
    /// Serve the default engine's sockets only if nobody else does; set when a client starts the engine
    #[arg(long, hide = true)]
    pub(crate) started_by_client: bool,
}

/// Flags of dockerd without a meaning here, and whether each takes a value.
const WITHOUT_MEANING: &[(&str, bool)] = &[
    ("--add-runtime", true),
    ("--allow-nondistributable-artifacts", true),
    ("--api-cors-header", true),
    ("--authorization-plugin", true),
    ("--bridge", true),
    ("-b", true),
    ("--cgroup-parent", true),
    ("--containerd", true),
    ("--containerd-namespace", true),
    ("--containerd-plugins-namespace", true),
    ("--cpu-rt-period", true),
    ("--cpu-rt-runtime", true),
    ("--cri-containerd", false),
    ("--default-cgroupns-mode", true),
    ("--default-gateway", true),
    ("--default-gateway-v6", true),
    ("--default-ipc-mode", true),
    ("--default-runtime", true),
    ("--default-shm-size", true),
    ("--default-ulimit", true),
    ("--dns", true),
    ("--dns-opt", true),
    ("--dns-search", true),
    ("--experimental", false),
    ("--firewall-backend", true),
    ("--host-gateway-ip", true),
    ("--init", false),
    ("--init-path", true),
    ("--ip6tables", true),
    ("--iptables", true),
    ("--live-restore", false),
    ("--log-format", true),
    ("--max-concurrent-downloads", true),
    ("--max-concurrent-uploads", true),
    ("--max-download-attempts", true),
    ("--network-control-plane-mtu", true),
    ("--no-new-privileges", false),
    ("--node-generic-resource", true),
    ("--oom-score-adjust", true),
    ("--raw-logs", false),
    ("--rootless", false),
    ("--seccomp-profile", true),
    ("--selinux-enabled", false),
    ("--shutdown-timeout", true),
    ("--storage-opt", true),
    ("--swarm-default-advertise-addr", true),
    ("--userland-proxy", true),
    ("--userland-proxy-path", true),
    ("--userns-remap", true),
];

/// Parses; answers the arguments and the flags that were taken out.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
) -> Result<(Arguments, Vec<String>), clap::Error> {
    let mut kept = vec![OsString::from("hoist daemon")];
    let mut ignored = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let name = text.split('=').next().unwrap_or_default();
        match WITHOUT_MEANING.iter().find(|(flag, _)| *flag == name) {
            Some((_, takes_value)) => {
                // dockerd takes `--iptables=false` and bare `--iptables` alike for booleans it gives a value here.
                let bare = !text.contains('=');
                if bare
                    && *takes_value
                    && words
                        .peek()
                        .is_some_and(|next| !next.to_string_lossy().starts_with('-'))
                {
                    words.next();
                }
                ignored.push(text);
            }
            None => kept.push(word),
        }
    }
    Ok((Arguments::try_parse_from(kept)?, ignored))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[&str]) -> (Arguments, Vec<String>) {
        parse(words.iter().map(OsString::from)).unwrap()
    }

    #[test]
    fn flags_of_dockerd_are_taken_or_named() {
        let (arguments, ignored) = check(&[
            "--data-root",
            "/d",
            "--live-restore",
            "--containerd",
            "/c.sock",
            "-H",
            "unix:///a",
            "--iptables=false",
            "-D",
        ]);
        assert_eq!(arguments.data_root.unwrap().to_str(), Some("/d"));
        assert_eq!(arguments.hosts, ["unix:///a"]);
        assert!(arguments.debug);
        assert_eq!(
            ignored,
            ["--live-restore", "--containerd", "--iptables=false"]
        );
    }

    #[test]
    fn an_unknown_flag_is_named() {
        let error = parse([OsString::from("--no-such-flag")]).unwrap_err();
        assert!(error.to_string().contains("--no-such-flag"));
    }
}
