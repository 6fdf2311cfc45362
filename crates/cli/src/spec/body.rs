//! The body of `POST /containers/create`: only what was asked for, the engine knows the defaults.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::flags::ContainerFlags;
use super::values::{bytes, duration, key_values, lines_of, strict_key_values};
use super::volumes::{self, Volume};
use super::{InvalidFlag, invalid, ports};

mod isolation;
mod limits;

/// What the translation may know of the machine the command line runs on.
pub(crate) struct Host<'a> {
    /// The environment.
    pub(crate) variable: &'a dyn Fn(&str) -> Option<String>,
    /// The files that flags name.
    pub(crate) read: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
    /// Where relative paths begin.
    pub(crate) directory: &'a Path,
    /// Rows and columns of the terminal.
    pub(crate) console: Option<(u16, u16)>,
}

/// An object under construction: fields are only there if they were asked for.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.set(name, true);
        }
    }

    fn list(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.set(name, values.to_vec());
        }
    }

    fn map(&mut self, name: &str, values: Map<String, Value>) {
        if !values.is_empty() {
            self.set(name, values);
        }
    }

    fn each(
        &mut self,
        name: &str,
        values: &[String],
        read: impl Fn(&str) -> Result<Value, InvalidFlag>,
    ) -> Result<(), InvalidFlag> {
        if !values.is_empty() {
            let values: Result<Vec<_>, _> = values.iter().map(|v| read(v)).collect();
            self.set(name, values?);
        }
        Ok(())
    }
}

/// Translates the flags. `detach`: nothing is attached, whatever `-a` says.
pub(crate) fn create_body(
    flags: &ContainerFlags,
    detach: bool,
    host: &Host<'_>,
) -> Result<Value, InvalidFlag> {
    refuse_what_is_not_here(flags)?;
    let ports = ports::parse(&flags.publish, &flags.expose)?;
    let mut body = Fields::default();
    config(&mut body, flags, detach, host)?;
    body.map("ExposedPorts", ports.exposed);
    let mut host_config = Fields::default();
    host_config.map("PortBindings", ports.bindings);
    host_config.flag("PublishAllPorts", flags.publish_all);
    storage(&mut body, &mut host_config, flags, host)?;
    limits::limits(&mut host_config, flags)?;
    isolation::isolation(&mut host_config, flags, host)?;
    network(&mut body, &mut host_config, flags)?;
    if flags.tty
        && let Some((rows, columns)) = host.console
    {
        host_config.set("ConsoleSize", vec![rows, columns]);
    }
    body.map("HostConfig", host_config.0);
    Ok(body.0.into())
}

/// Flags of the stock client that a Linux engine has no use for, refused by their names.
fn refuse_what_is_not_here(flags: &ContainerFlags) -> Result<(), InvalidFlag> {
    for (flag, set) in [
        ("--cpu-count", flags.cpu_count.is_some()),
        ("--cpu-percent", flags.cpu_percent.is_some()),
        ("--io-maxbandwidth", flags.io_maxbandwidth.is_some()),
        ("--io-maxiops", flags.io_maxiops.is_some()),
    ] {
        if set {
            return Err(InvalidFlag::NotHere(format!(
                "\"{flag}\" is only supported on a Docker daemon running on windows, but the Docker daemon is running on linux"
            )));
        }
    }
    if flags.use_api_socket {
        return Err(InvalidFlag::NotHere(
            "--use-api-socket is not supported: mount the engine's socket with -v SOCKET:/var/run/docker.sock".to_owned(),
        ));
    }
    Ok(())
}

fn environment(flags: &ContainerFlags, host: &Host<'_>) -> Result<Vec<String>, InvalidFlag> {
    let mut wanted = from_files("--env-file", &flags.env_file, host)?;
    wanted.extend(flags.env.iter().cloned());
    let mut environment = Vec::with_capacity(wanted.len());
    for variable in wanted {
        if variable.is_empty() || variable.starts_with('=') {
            let detail = format!("invalid environment variable: {variable}");
            return Err(invalid("--env", &variable, detail));
        }
        if variable.contains('=') {
            environment.push(variable);
        } else if let Some(value) = (host.variable)(&variable) {
            environment.push(format!("{variable}={value}"));
        }
    }
    Ok(environment)
}

fn from_files(flag: &str, files: &[String], host: &Host<'_>) -> Result<Vec<String>, InvalidFlag> {
    let mut lines = Vec::new();
    for path in files {
        let content = (host.read)(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                InvalidFlag::Said(format!("open {path}: no such file or directory"))
            }
            _ => InvalidFlag::Said(format!("{flag} {path}: {error}")),
        })?;
        lines.extend(lines_of(flag, path, &content)?);
    }
    Ok(lines)
}

fn config(
    body: &mut Fields,
    flags: &ContainerFlags,
    detach: bool,
    host: &Host<'_>,
) -> Result<(), InvalidFlag> {
    if let Some(bad) = flags
        .attach
        .iter()
        .find(|a| !["stdin", "stdout", "stderr"].contains(&a.to_ascii_lowercase().as_str()))
    {
        let detail = "valid streams are STDIN, STDOUT and STDERR";
        return Err(invalid("--attach", bad, detail));
    }
    body.set("Image", flags.image());
    body.some("Hostname", flags.hostname.clone());
    body.some("Domainname", flags.domainname.clone());
    body.some("User", flags.user.clone());
    body.flag("AttachStdin", !detach && flags.attaches("stdin"));
    body.flag("AttachStdout", !detach && flags.attaches("stdout"));
    body.flag("AttachStderr", !detach && flags.attaches("stderr"));
    body.flag("Tty", flags.tty);
    body.flag("OpenStdin", flags.interactive);
    body.flag(
        "StdinOnce",
        !detach && flags.interactive && flags.attaches("stdin"),
    );
    body.list("Env", &environment(flags, host)?);
    body.list("Cmd", flags.command());
    if let Some(entrypoint) = &flags.entrypoint {
        // An empty one removes the image's.
        body.set("Entrypoint", vec![entrypoint.clone()]);
    }
    body.some("WorkingDir", flags.workdir.clone());
    let mut labels = from_files("--label-file", &flags.label_file, host)?;
    // A name alone has no value to take here, as in the stock client.
    labels.retain(|label| label.contains('='));
    labels.extend(flags.label.iter().cloned());
    body.map("Labels", key_values(labels));
    body.some("StopSignal", flags.stop_signal.clone());
    body.some("StopTimeout", flags.stop_timeout);
    health(body, flags)
}

fn health(body: &mut Fields, flags: &ContainerFlags) -> Result<(), InvalidFlag> {
    let mut health = Fields::default();
    if flags.no_healthcheck {
        if flags.health_cmd.is_some() {
            return Err(InvalidFlag::Said(
                "--no-healthcheck conflicts with --health-* options".to_owned(),
            ));
        }
        health.set("Test", vec!["NONE"]);
    } else if let Some(command) = &flags.health_cmd {
        health.set("Test", vec!["CMD-SHELL", command]);
    }
    for (name, flag, value) in [
        ("Interval", "--health-interval", &flags.health_interval),
        ("Timeout", "--health-timeout", &flags.health_timeout),
        (
            "StartPeriod",
            "--health-start-period",
            &flags.health_start_period,
        ),
        (
            "StartInterval",
            "--health-start-interval",
            &flags.health_start_interval,
        ),
    ] {
        let nanoseconds = value.as_ref().map(|v| duration(flag, v)).transpose()?;
        health.some(name, nanoseconds);
    }
    health.some("Retries", flags.health_retries);
    body.map("Healthcheck", health.0);
    Ok(())
}

fn storage(
    body: &mut Fields,
    host_config: &mut Fields,
    flags: &ContainerFlags,
    host: &Host<'_>,
) -> Result<(), InvalidFlag> {
    let mut binds = Vec::new();
    let mut anonymous = Map::new();
    for text in &flags.volume {
        match volumes::volume(text, host.directory)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(target) => drop(anonymous.insert(target, json!({}))),
        }
    }
    host_config.list("Binds", &binds);
    body.map("Volumes", anonymous);
    host_config.each("Mounts", &flags.mount, |m| {
        volumes::mount(m, host.directory)
    })?;
    let tmpfs = flags.tmpfs.iter().map(|text| {
        let (path, options) = text.split_once(':').unwrap_or((text, ""));
        (path.to_owned(), options.into())
    });
    host_config.map("Tmpfs", tmpfs.collect());
    host_config.list("VolumesFrom", &flags.volumes_from);
    host_config.some("VolumeDriver", flags.volume_driver.clone());
    host_config.flag("ReadonlyRootfs", flags.read_only);
    let shm = flags.shm_size.as_ref().map(|s| bytes("--shm-size", s));
    host_config.some("ShmSize", shm.transpose()?);
    let options = strict_key_values("--storage-opt", &flags.storage_opt)?;
    host_config.map("StorageOpt", options);
    Ok(())
}

fn network(
    body: &mut Fields,
    host_config: &mut Fields,
    flags: &ContainerFlags,
) -> Result<(), InvalidFlag> {
    for server in &flags.dns {
        if server.parse::<std::net::IpAddr>().is_err() {
            let detail = format!("IP address is not correctly formatted: {server}");
            return Err(invalid("--dns", server, detail));
        }
    }
    if let Some(bad) = flags.link.iter().find(|link| link.split(':').count() > 2) {
        return Err(invalid(
            "--link",
            bad,
            format!("bad format for links: {bad}"),
        ));
    }
    if let Some(address) = &flags.mac_address
        && !super::values::is_mac_address(address.trim())
    {
        let said = format!("{address} is not a valid mac address");
        return Err(InvalidFlag::Said(said));
    }
    host_config.list("Dns", &flags.dns);
    host_config.list("DnsOptions", &flags.dns_option);
    host_config.list("DnsSearch", &flags.dns_search);
    let hosts = super::values::extra_hosts(&flags.add_host)?;
    host_config.list("ExtraHosts", &hosts);
    let mut endpoints = Map::new();
    for (number, text) in flags.network.iter().enumerate() {
        let (name, mut endpoint) = endpoint(text)?;
        if number == 0 {
            host_config.set("NetworkMode", name.clone());
            shared_endpoint(&mut endpoint, flags);
            if is_users(&name) {
                // A name that it alone sees there; on the default bridge it is a link of the older kind.
                endpoint.list("Links", &flags.link);
            }
        }
        if number > 0 || !endpoint.0.is_empty() {
            endpoints.insert(name, endpoint.0.into());
        }
    }
    if flags.network.is_empty() {
        let mut endpoint = Fields::default();
        shared_endpoint(&mut endpoint, flags);
        if !endpoint.0.is_empty() {
            endpoints.insert("default".to_owned(), endpoint.0.into());
        }
    } else if let Some(mode) = host_config.0.get("NetworkMode").and_then(Value::as_str)
        && flags.network.len() > 1
        && !endpoints.contains_key(mode)
    {
        let mode = mode.to_owned();
        endpoints.insert(mode, json!({}));
    }
    if flags.network.len() <= 1 {
        host_config.list("Links", &flags.link);
    }
    if !endpoints.is_empty() {
        body.set("NetworkingConfig", json!({"EndpointsConfig": endpoints}));
    }
    Ok(())
}

/// Whether a network mode names a user's network.
fn is_users(mode: &str) -> bool {
    let shares = mode.starts_with("container:");
    !shares && !matches!(mode, "" | "default" | "bridge" | "host" | "none")
}

/// The single flags about networking speak of the first network.
fn shared_endpoint(endpoint: &mut Fields, flags: &ContainerFlags) {
    endpoint.list("Aliases", &flags.network_alias);
    endpoint.some("MacAddress", flags.mac_address.clone());
    let mut addresses = Fields::default();
    addresses.some("IPv4Address", flags.ip.clone());
    addresses.some("IPv6Address", flags.ip6.clone());
    addresses.list("LinkLocalIPs", &flags.link_local_ip);
    endpoint.map("IPAMConfig", addresses.0);
}

/// `NAME` or `name=NAME,alias=…,ip=…,ip6=…,mac-address=…,driver-opt=…,gw-priority=…`.
fn endpoint(text: &str) -> Result<(String, Fields), InvalidFlag> {
    let mut endpoint = Fields::default();
    if !text.contains('=') {
        return Ok((text.to_owned(), endpoint));
    }
    let (mut name, mut aliases, mut addresses) = (None, Vec::new(), Fields::default());
    let mut options = Map::new();
    for field in volumes::fields(text) {
        match field.split_once('=') {
            Some(("name", value)) => name = Some(value.to_owned()),
            Some(("alias", value)) => aliases.push(value.to_owned()),
            Some(("ip", value)) => addresses.set("IPv4Address", value),
            Some(("ip6", value)) => addresses.set("IPv6Address", value),
            Some(("mac-address", value)) => endpoint.set("MacAddress", value),
            Some(("driver-opt", value)) if value.contains('=') => {
                options.extend(key_values([value]));
            }
            Some(("driver-opt", _)) => {
                return Err(invalid(
                    "--network",
                    text,
                    "invalid key value pair format in driver options",
                ));
            }
            Some(("gw-priority", value)) => {
                let priority: i64 = value
                    .parse()
                    .map_err(|_| invalid("--network", text, "gw-priority is a number"))?;
                endpoint.set("GwPriority", priority);
            }
            _ => {
                return Err(invalid(
                    "--network",
                    text,
                    format!("unknown field {field:?}"),
                ));
            }
        }
    }
    endpoint.list("Aliases", &aliases);
    endpoint.map("IPAMConfig", addresses.0);
    endpoint.map("DriverOpts", options);
    let name = name.ok_or_else(|| invalid("--network", text, "name= is missing"))?;
    Ok((name, endpoint))
}

#[cfg(test)]
mod tests;
