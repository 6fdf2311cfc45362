//! What the engine was told: flags over daemon.json over defaults. Plain data; every crate gets its part.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use hoist_image::SnapshotterChoice;
use hoist_model::container::LogConfig;
use hoist_net::AddressPool;
use hoist_runtime::cgroup::CgroupDriver;
use serde::Deserialize;
use serde_json::Value;

use super::arguments::Arguments;
use super::keys;

/// The default engine's directories and sockets.
pub(crate) const DATA_ROOT: &str = "/var/lib/hoist";
const EXEC_ROOT: &str = "/run/hoist";
/// The socket Hoist's own client asks first.
pub(crate) const SOCKET: &str = "/run/hoist.sock";
/// The socket everybody else's clients ask.
pub(crate) const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const CONFIG_FILE: &str = "/etc/hoist/daemon.json";

/// Everything, checked.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) data_root: PathBuf,
    pub(crate) exec_root: PathBuf,
    pub(crate) hosts: Vec<Host>,
    /// Whether the hosts are the default ones, of which docker.sock is given up to a live engine.
    pub(crate) default_hosts: bool,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) debug: bool,
    pub(crate) log_level: String,
    pub(crate) bip: Option<ipnet::Ipv4Net>,
    pub(crate) pools: Vec<AddressPool>,
    pub(crate) insecure_registries: Vec<String>,
    pub(crate) registry_mirrors: Vec<String>,
    pub(crate) registry_host_overrides: BTreeMap<String, SocketAddr>,
    pub(crate) registry_certificates: PathBuf,
    pub(crate) storage: SnapshotterChoice,
    pub(crate) group: Option<String>,
    pub(crate) mtu: u32,
    /// Where containers log that do not say.
    pub(crate) log: LogConfig,
    pub(crate) labels: Vec<String>,
    /// Where metrics are served, if anywhere.
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) cgroup_driver: CgroupDriver,
    /// Flags and keys that have no meaning here, to be named in the log.
    pub(crate) ignored: Vec<String>,
}

/// What TCP sockets prove themselves with, and whom they believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Whoever wants in shows a certificate of this authority.
    pub(crate) client_authority: Option<PathBuf>,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    Unix(PathBuf),
    Tcp(SocketAddr),
    /// The sockets that whoever started us had opened (systemd.socket(5)).
    Inherited,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Inherited => f.write_str("fd://"),
        }
    }
}

/// The keys of daemon.json that have a meaning here (dockerd(8), "Daemon configuration file").
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct File {
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    hosts: Vec<String>,
    pidfile: Option<PathBuf>,
    debug: bool,
    log_level: Option<String>,
    bip: Option<String>,
    default_address_pools: Vec<Pool>,
    insecure_registries: Vec<String>,
    registry_mirrors: Vec<String>,
    registry_host_overrides: BTreeMap<String, String>,
    registry_certificates: Option<PathBuf>,
    storage_driver: Option<String>,
    group: Option<String>,
    mtu: Option<u32>,
    log_driver: Option<String>,
    log_opts: BTreeMap<String, String>,
    labels: Vec<String>,
    metrics_addr: Option<String>,
    tls: bool,
    tlsverify: bool,
    tlscacert: Option<PathBuf>,
    tlscert: Option<PathBuf>,
    tlskey: Option<PathBuf>,
    exec_opts: Vec<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Pool {
    base: String,
    size: u8,
}

impl Settings {
    /// The level of what is logged.
    pub(crate) fn log_filter(&self) -> &str {
        if self.debug { "debug" } else { &self.log_level }
    }

    /// Takes those of `new` that can change while the engine runs.
    pub(crate) fn take_reloadable(&mut self, new: Self) {
        self.debug = new.debug;
        self.log_level = new.log_level;
        self.labels = new.labels;
        self.log = new.log;
        self.insecure_registries = new.insecure_registries;
        self.registry_mirrors = new.registry_mirrors;
        self.registry_host_overrides = new.registry_host_overrides;
        self.registry_certificates = new.registry_certificates;
        self.hosts = new.hosts;
        self.default_hosts = new.default_hosts;
        self.metrics = new.metrics;
        self.tls = new.tls;
    }
}

/// Reads the file, lays the flags over it and checks every value; errors name the flag or key and its value.
pub(crate) fn settle(arguments: Arguments, mut ignored: Vec<String>) -> anyhow::Result<Settings> {
    let file = read_file(arguments.config_file.as_deref())?;
    let strange: Vec<&str> = file.unknown.keys().map(String::as_str).collect();
    let strange: Vec<&str> = strange
        .into_iter()
        .filter(|key| !keys::is_known(key))
        .collect();
    if !strange.is_empty() {
        let path = arguments
            .config_file
            .as_deref()
            .unwrap_or(Path::new(CONFIG_FILE));
        // dockerd's sentence (moby daemon/config/config.go, findConfigurationConflicts).
        bail!(
            "unable to configure the engine with file {}: the following directives don't match any configuration option: {}",
            path.display(),
            strange.join(", ")
        );
    }
    ignored.extend(
        file.unknown
            .keys()
            .map(|key| format!("daemon.json {key:?}")),
    );
    if let Some(remap) = ignored.iter().find(|name| name.contains("userns-remap")) {
        // Who asks for it relies on it: to go on without would make root of containers root of the host.
        anyhow::bail!("{remap}: remapping the users of containers is not supported");
    }
    let pick = |flags: Vec<String>, keys: Vec<String>| if flags.is_empty() { keys } else { flags };
    let data_root = arguments.data_root.or(file.data_root);
    let is_default = data_root
        .as_deref()
        .is_none_or(|root| root == Path::new(DATA_ROOT));
    let data_root = absolute("data-root", data_root.unwrap_or_else(|| DATA_ROOT.into()))?;
    let exec_root = match arguments.exec_root.or(file.exec_root) {
        Some(root) => absolute("exec-root", root)?,
        None if is_default => EXEC_ROOT.into(),
        None => data_root.join("exec"),
    };
    let hosts = pick(arguments.hosts, file.hosts);
    let default_hosts = hosts.is_empty();
    let hosts = if default_hosts {
        vec![Host::Unix(SOCKET.into()), Host::Unix(DOCKER_SOCKET.into())]
    } else {
        hosts
            .iter()
            .map(|host| parse_host(host))
            .collect::<anyhow::Result<_>>()?
    };
    let mut pools: Vec<Pool> = Vec::new();
    for text in &arguments.default_address_pools {
        pools.push(parse_pool(text)?);
    }
    if pools.is_empty() {
        pools = file.default_address_pools;
    }
    let overrides = if arguments.registry_host_overrides.is_empty() {
        file.registry_host_overrides
    } else {
        let pair = |text: &String| {
            let (name, address) = text.split_once('=').with_context(|| {
                format!("invalid registry-host-override {text:?}: expected name=address:port")
            })?;
            Ok((name.to_owned(), address.to_owned()))
        };
        arguments
            .registry_host_overrides
            .iter()
            .map(pair)
            .collect::<anyhow::Result<_>>()?
    };
    let tls = tls_files(
        arguments.tls || file.tls,
        arguments.tlsverify || file.tlsverify,
        [
            (
                "tlscacert",
                arguments.tlscacert.or(file.tlscacert),
                "ca.pem",
            ),
            ("tlscert", arguments.tlscert.or(file.tlscert), "cert.pem"),
            ("tlskey", arguments.tlskey.or(file.tlskey), "key.pem"),
        ],
    )?;
    Ok(Settings {
        data_root,
        exec_root,
        hosts,
        default_hosts,
        pidfile: arguments.pidfile.or(file.pidfile),
        debug: arguments.debug || file.debug,
        log_level: log_level(arguments.log_level.or(file.log_level))?,
        bip: arguments
            .bip
            .or(file.bip)
            .map(|text| parse_net("bip", &text))
            .transpose()?,
        pools: pools
            .iter()
            .map(check_pool)
            .collect::<anyhow::Result<_>>()?,
        insecure_registries: pick(arguments.insecure_registries, file.insecure_registries),
        registry_mirrors: pick(arguments.registry_mirrors, file.registry_mirrors),
        registry_host_overrides: overrides
            .into_iter()
            .map(|(name, address)| {
                let parsed = address.parse().with_context(|| {
                    format!(
                        "invalid registry-host-override {name}={address}: expected address:port"
                    )
                })?;
                Ok((name, parsed))
            })
            .collect::<anyhow::Result<_>>()?,
        registry_certificates: arguments
            .registry_certificates
            .or(file.registry_certificates)
            .unwrap_or_else(|| "/etc/docker/certs.d".into()),
        storage: storage(arguments.storage_driver.or(file.storage_driver))?,
        group: arguments.group.or(file.group),
        mtu: arguments.mtu.or(file.mtu).unwrap_or(1500),
        log: log(
            arguments.log_driver.or(file.log_driver),
            &arguments.log_opts,
            file.log_opts,
        )?,
        labels: pick(arguments.labels, file.labels),
        metrics: arguments
            .metrics_addr
            .or(file.metrics_addr)
            .map(|text| {
                text.replace("localhost:", "127.0.0.1:")
                    .parse()
                    .with_context(|| {
                        format!("invalid metrics-addr {text:?}: expected address:port")
                    })
            })
            .transpose()?,
        tls,
        cgroup_driver: cgroup_driver(&pick(arguments.exec_opts, file.exec_opts))?,
        ignored,
    })
}

/// The one option of execution there is (dockerd(8), "native.cgroupdriver").
fn cgroup_driver(options: &[String]) -> anyhow::Result<CgroupDriver> {
    let mut driver = CgroupDriver::Cgroupfs;
    for option in options {
        driver = match option.split_once('=') {
            Some(("native.cgroupdriver", "cgroupfs")) => CgroupDriver::Cgroupfs,
            Some(("native.cgroupdriver", "systemd")) => CgroupDriver::Systemd,
            _ => bail!(
                "invalid exec-opt {option:?}: expected native.cgroupdriver=cgroupfs or native.cgroupdriver=systemd"
            ),
        };
    }
    Ok(driver)
}

/// Files as dockerd looks for them: those named, else those of the usual names in `$DOCKER_CERT_PATH` or `~/.docker`.
fn tls_files(
    tls: bool,
    verify: bool,
    files: [(&str, Option<PathBuf>, &str); 3],
) -> anyhow::Result<Option<TlsFiles>> {
    if !tls && !verify {
        return Ok(None);
    }
    let usual = std::env::var_os("DOCKER_CERT_PATH").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
        PathBuf::from,
    );
    let [authority, certificate, key] = files.map(|(flag, named, name)| {
        let path = named.unwrap_or_else(|| usual.join(name));
        (flag, path)
    });
    let there = |(flag, path): (&str, PathBuf)| {
        if path.is_file() {
            Ok(path)
        } else {
            bail!(
                "could not load TLS files: {flag} {}: no such file",
                path.display()
            )
        }
    };
    Ok(Some(TlsFiles {
        certificate: there(certificate)?,
        key: there(key)?,
        client_authority: verify.then(|| there(authority)).transpose()?,
    }))
}

/// A named file must be there; the default one need not.
fn read_file(named: Option<&Path>) -> anyhow::Result<File> {
    let path = named.unwrap_or(Path::new(CONFIG_FILE));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(File::default());
        }
        Err(error) => {
            return Err(error).with_context(|| {
                format!(
                    "unable to configure the engine with file {}",
                    path.display()
                )
            });
        }
    };
    serde_json::from_str(&text).with_context(|| {
        format!(
            "unable to configure the engine with file {}",
            path.display()
        )
    })
}

fn absolute(name: &str, path: PathBuf) -> anyhow::Result<PathBuf> {
    if path.is_absolute() {
        Ok(path)
    } else {
        bail!(
            "invalid {name} {}: the path must be absolute",
            path.display()
        )
    }
}

fn parse_host(text: &str) -> anyhow::Result<Host> {
    if let Some(path) = text.strip_prefix("unix://") {
        let path = if path.is_empty() { DOCKER_SOCKET } else { path };
        return Ok(Host::Unix(absolute("host", path.into())?));
    }
    if let Some(address) = text.strip_prefix("tcp://") {
        let address = address
            .trim_end_matches('/')
            .replace("localhost:", "127.0.0.1:");
        return address
            .parse()
            .map(Host::Tcp)
            .with_context(|| format!("invalid host {text:?}: expected tcp://address:port"));
    }
    if text == "fd://" {
        return Ok(Host::Inherited);
    }
    bail!("invalid host {text:?}: expected unix:///path, tcp://address:port or fd://")
}

fn parse_pool(text: &str) -> anyhow::Result<Pool> {
    let invalid =
        || format!("invalid default-address-pool {text:?}: expected base=10.10.0.0/16,size=24");
    let (mut base, mut size) = (None, None);
    for part in text.split(',') {
        match part.split_once('=').with_context(invalid)? {
            ("base", value) => base = Some(value.to_owned()),
            ("size", value) => size = Some(value.parse().with_context(invalid)?),
            _ => bail!(invalid()),
        }
    }
    Ok(Pool {
        base: base.with_context(invalid)?,
        size: size.with_context(invalid)?,
    })
}

fn check_pool(pool: &Pool) -> anyhow::Result<AddressPool> {
    let base = parse_net("default-address-pool", &pool.base)?;
    if pool.size < base.prefix_len() || pool.size > 30 {
        bail!(
            "invalid default-address-pool base={},size={}: the size must be from {} to 30",
            pool.base,
            pool.size,
            base.prefix_len()
        );
    }
    Ok(AddressPool {
        base,
        size: pool.size,
    })
}

fn parse_net(name: &str, text: &str) -> anyhow::Result<ipnet::Ipv4Net> {
    text.parse().with_context(|| {
        format!("invalid {name} {text:?}: expected an address with prefix, 10.0.0.1/24")
    })
}

fn log_level(level: Option<String>) -> anyhow::Result<String> {
    match level.as_deref() {
        None => Ok("info".to_owned()),
        Some(known @ ("debug" | "info" | "warn" | "error")) => Ok(known.to_owned()),
        Some("fatal") => Ok("error".to_owned()),
        Some(other) => bail!("invalid logging level: {other}"),
    }
}

/// Options of flags win over those of the file, one by one.
fn log(
    driver: Option<String>,
    flags: &[String],
    mut options: BTreeMap<String, String>,
) -> anyhow::Result<LogConfig> {
    for flag in flags {
        let (name, value) = flag
            .split_once('=')
            .with_context(|| format!("invalid log-opt {flag:?}: expected name=value"))?;
        options.insert(name.to_owned(), value.to_owned());
    }
    let driver = driver.unwrap_or_else(|| LogConfig::default().driver);
    if !matches!(driver.as_str(), "json-file" | "local" | "none") {
        bail!("invalid log-driver {driver:?}: known are json-file, local and none");
    }
    let log = LogConfig { driver, options };
    hoist_engine::containers::check_log_options(&log).context("failed to set log opts")?;
    Ok(log)
}

fn storage(driver: Option<String>) -> anyhow::Result<SnapshotterChoice> {
    match driver.as_deref() {
        None | Some("") => Ok(SnapshotterChoice::Auto),
        Some("erofs") => Ok(SnapshotterChoice::Erofs),
        Some("directory" | "overlay2" | "overlayfs" | "overlay") => {
            Ok(SnapshotterChoice::Directory)
        }
        Some(other) => {
            bail!("unknown storage driver {other:?}: known are erofs and directory (overlay2)")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    fn check(words: &[&str]) -> anyhow::Result<Settings> {
        let words = words.iter().map(OsString::from);
        let (arguments, ignored) = super::super::arguments::parse(words)?;
        settle(arguments, ignored)
    }

    #[test]
    fn flags_win_over_the_file_and_private_roots_stay_together() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            r#"{"debug":true,"data-root":"/a","labels":["x=y"],"live-restore":true}"#,
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        let settings = check(&["--config-file", path, "--data-root", "/b"]).unwrap();
        assert!(settings.debug);
        assert_eq!(settings.data_root, Path::new("/b"));
        assert_eq!(settings.exec_root, Path::new("/b/exec"));
        assert_eq!(settings.labels, ["x=y"]);
        assert_eq!(settings.ignored, ["daemon.json \"live-restore\""]);
    }

    #[test]
    fn a_key_that_nobody_knows_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            r#"{"debug":true,"live-restor":true,"icc":false}"#,
        )
        .unwrap();
        let error = check(&["--config-file", file.path().to_str().unwrap()]).unwrap_err();
        let error = error.to_string();
        assert!(
            error.ends_with("any configuration option: live-restor"),
            "{error}"
        );
    }

    #[test]
    fn wrong_values_are_named() {
        for (words, operand) in [
            (&["--bip", "10.0.0.300/8"][..], "10.0.0.300/8"),
            (
                &["--default-address-pool", "base=10.0.0.0/16"],
                "base=10.0.0.0/16",
            ),
            (
                &["--default-address-pool", "base=10.0.0.0/16,size=8"],
                "size=8",
            ),
            (&["-H", "ftp://x"], "ftp://x"),
            (&["--tlsverify", "--tlscert", "/no/cert"], "/no/cert"),
            (&["--storage-driver", "zfs"], "zfs"),
            (&["--exec-opt", "native.cgroupdriver=x"], "driver=x"),
            (&["--log-level", "loud"], "loud"),
            (&["--log-driver", "syslog"], "syslog"),
            (&["--log-opt", "max-size"], "max-size"),
            (&["--log-opt", "nope=1"], "unknown log opt 'nope'"),
            (&["--config-file", "/no/such/file"], "/no/such/file"),
            (&["--data-root", "relative"], "relative"),
            (&["--userns-remap=default"], "userns-remap"),
        ] {
            let error = format!("{:#}", check(words).unwrap_err());
            assert!(error.contains(operand), "{error}");
        }
    }
}
