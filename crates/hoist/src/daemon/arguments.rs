//! The words after `dockerd` or `hoist daemon`.
//!
//! Flags that have a meaning here are parsed by clap; those of dockerd that have none are taken out first, from a
//! table, and named in one log line each, so that scripts written for dockerd run.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory, FromArgMatches, Parser};

use super::settings::{NetworkSaid, ProxiesSaid};

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
    #[arg(short = 'D', long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) debug: Option<bool>,
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
    /// Serve a registry on this address, 127.0.0.1:5000, with the engine's images in it
    #[arg(long = "registry", value_name = "ADDRESS:PORT")]
    pub(crate) registry: Option<SocketAddr>,
    /// Users of that registry and their passwords, as `htpasswd -B` writes them; read again at SIGHUP
    #[arg(long, value_name = "FILE", requires = "registry")]
    pub(crate) registry_users: Option<PathBuf>,
    /// What they, and others, may do there
    #[arg(long, value_name = "FILE", requires = "registry_users")]
    pub(crate) registry_rights: Option<PathBuf>,
    /// Certificate to serve that registry with
    #[arg(long, value_name = "FILE", requires_all = ["registry", "registry_tls_key"])]
    pub(crate) registry_tls_cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "registry_tls_cert")]
    pub(crate) registry_tls_key: Option<PathBuf>,
    /// Speak TLS on TCP sockets; clients need no certificate
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) tls: Option<bool>,
    /// Speak TLS on TCP sockets, to clients whose certificate the authority signed
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) tlsverify: Option<bool>,
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
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    pub(crate) log_format: Option<String>,
    /// No colours in the log, even on a terminal
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) raw_logs: Option<bool>,
    /// Limit of processes in containers that do not say, nofile=1024:4096; may be repeated
    #[arg(long = "default-ulimit", value_name = "LIMIT")]
    pub(crate) default_ulimits: Vec<String>,
    /// Size of /dev/shm in containers that do not say [default: 64MiB]
    #[arg(long, value_name = "BYTES")]
    pub(crate) default_shm_size: Option<String>,
    /// IPC namespace of containers that do not say: private or shareable
    #[arg(long, value_name = "MODE")]
    pub(crate) default_ipc_mode: Option<String>,
    /// Cgroup namespace of containers that do not say: private or host
    #[arg(long, value_name = "MODE")]
    pub(crate) default_cgroupns_mode: Option<String>,
    /// Parent cgroup, or slice, of containers that do not say
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<String>,
    /// Run an init as the first process of containers that do not say
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) init: Option<bool>,
    /// No container that does not say otherwise may gain privileges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) no_new_privileges: Option<bool>,
    /// System calls that containers may do: builtin, unconfined or a profile's file
    #[arg(long, value_name = "FILE")]
    pub(crate) seccomp_profile: Option<String>,
    /// DNS server of containers that do not say; may be repeated
    #[arg(long = "dns", value_name = "ADDRESS")]
    pub(crate) dns: Vec<String>,
    /// Option of their resolver; may be repeated
    #[arg(long = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_opts: Vec<String>,
    /// Domain that they look names up in; may be repeated
    #[arg(long = "dns-search", value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,
    /// What host-gateway means in --add-host; once for IPv4, once for IPv6
    #[arg(long = "host-gateway-ip", value_name = "ADDRESS")]
    pub(crate) host_gateway_ips: Vec<String>,
    /// Layers downloaded at a time, over all pulls [default: 3]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) max_concurrent_downloads: Option<i64>,
    /// Attempts for each download [default: 5]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) max_download_attempts: Option<i64>,
    /// Containers go on when the engine ends [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) live_restore: Option<bool>,
    /// Seconds for containers to end with the engine, if they do; -1 for as long as it takes [default: 15]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) shutdown_timeout: Option<i64>,
    /// Say that experimental features are on
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = yes_or_no, value_name = "BOOL")]
    pub(crate) experimental: Option<bool>,
    /// Runtime of containers that do not say: hoist, or runc by another name
    #[arg(long, value_name = "NAME")]
    pub(crate) default_runtime: Option<String>,
    /// Whose subordinate ids the users of containers get: default, or user[:group] by name or number
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) userns_remap: Option<String>,
    /// Directory of passwd, group, subuid and subgid, as /etc
    #[arg(long, value_name = "PATH", hide = true)]
    pub(crate) accounts: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) network: NetworkSaid,
    /// Option of networks of a driver that do not say, bridge=com.docker.network.driver.mtu=1400; may be repeated
    #[arg(long = "default-network-opt", value_name = "DRIVER=NAME=VALUE")]
    pub(crate) default_network_opts: Vec<String>,
    /// Option of the storage driver: there is none with a meaning
    #[arg(long = "storage-opt", value_name = "OPTION")]
    pub(crate) storage_opts: Vec<String>,
    /// Layers uploaded at a time [default: 5]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) max_concurrent_uploads: Option<i64>,
    #[command(flatten)]
    pub(crate) proxies: ProxiesSaid,
    /// Check the configuration and exit
    #[arg(long)]
    pub(crate) validate: bool,
    /// Serve the default engine's sockets only if nobody else does; set when a client starts the engine
    #[arg(long, hide = true)]
    pub(crate) started_by_client: bool,
    /// Which of dockerd's flags were given, those without a meaning here among them
    #[arg(skip)]
    pub(crate) given: Vec<Given>,
}

/// A flag as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// Without its dashes.
    pub(crate) flag: String,
    pub(crate) values: Vec<String>,
    /// Whether it may be given more than once.
    pub(crate) is_list: bool,
}

/// Flags of dockerd without a meaning here, and whether each takes a value.
const WITHOUT_MEANING: &[(&str, bool)] = &[
    ("--add-runtime", true),
    ("--allow-direct-routing", false),
    ("--allow-nondistributable-artifacts", true),
    ("--api-cors-header", true),
    ("--bridge-accept-fwmark", true),
    ("--cdi-spec-dir", true),
    ("--containerd", true),
    ("--containerd-namespace", true),
    ("--containerd-plugins-namespace", true),
    ("--cri-containerd", false),
    ("--feature", true),
    ("--firewall-backend", true),
    ("--init-path", true),
    ("--network-control-plane-mtu", true),
    ("--node-generic-resource", true),
    ("--oom-score-adjust", true),
    ("--rootless", false),
    ("--selinux-enabled", false),
    ("--swarm-default-advertise-addr", true),
    ("--userland-proxy", true),
    ("--userland-proxy-path", true),
];

/// Booleans as dockerd's flags take them (Go's `strconv.ParseBool`).
pub(crate) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

/// Parses; answers the arguments and the flags that were taken out.
pub(crate) fn parse(
    words: impl IntoIterator<Item = OsString>,
) -> Result<(Arguments, Vec<String>), clap::Error> {
    let mut kept = vec![OsString::from("hoist daemon")];
    let mut ignored = Vec::new();
    let mut given: Vec<Given> = Vec::new();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let text = word.to_string_lossy().into_owned();
        let name = text.split('=').next().unwrap_or_default();
        match WITHOUT_MEANING.iter().find(|(flag, _)| *flag == name) {
            Some((_, takes_value)) => {
                // dockerd takes `--userland-proxy=false` and bare `--userland-proxy` alike for booleans it gives a value here.
                let value = match text.split_once('=') {
                    Some((_, value)) => Some(value.to_owned()),
                    None if *takes_value => {
                        let next = words.next_if(|next| !next.to_string_lossy().starts_with('-'));
                        next.map(|next| next.to_string_lossy().into_owned())
                    }
                    None => None,
                };
                given.push(Given {
                    flag: name.trim_start_matches('-').to_owned(),
                    values: vec![value.unwrap_or_else(|| "true".to_owned())],
                    is_list: false,
                });
                ignored.push(text);
            }
            None => kept.push(word),
        }
    }
    let command = Arguments::command();
    let flags: Vec<(String, String, bool)> = command
        .get_arguments()
        .filter_map(|flag| {
            let is_list = matches!(flag.get_action(), ArgAction::Append);
            Some((
                flag.get_id().to_string(),
                flag.get_long()?.to_owned(),
                is_list,
            ))
        })
        .collect();
    let matches = command.try_get_matches_from(kept)?;
    for (id, flag, is_list) in flags {
        if matches.value_source(&id) == Some(ValueSource::CommandLine) {
            let values = matches.get_raw(&id).into_iter().flatten();
            given.push(Given {
                flag,
                values: values
                    .map(|value| value.to_string_lossy().into_owned())
                    .collect(),
                is_list,
            });
        }
    }
    given.sort_by(|one, other| one.flag.cmp(&other.flag));
    let arguments = Arguments::from_arg_matches(&matches)?;
    Ok((Arguments { given, ..arguments }, ignored))
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
            "--live-restore=false",
            "--containerd",
            "/c.sock",
            "-H",
            "unix:///a",
            "--iptables=false",
            "--userland-proxy=false",
            "-b",
            "none",
            "-D",
        ]);
        assert_eq!(arguments.data_root.unwrap().to_str(), Some("/d"));
        assert_eq!(arguments.hosts, ["unix:///a"]);
        assert_eq!(arguments.debug, Some(true));
        assert_eq!(arguments.live_restore, Some(false));
        assert_eq!(arguments.network.iptables, Some(false));
        assert_eq!(arguments.network.bridge.as_deref(), Some("none"));
        assert_eq!(ignored, ["--containerd", "--userland-proxy=false"]);
    }

    #[test]
    fn an_unknown_flag_is_named() {
        let error = parse([OsString::from("--no-such-flag")]).unwrap_err();
        assert!(error.to_string().contains("--no-such-flag"));
    }
}
