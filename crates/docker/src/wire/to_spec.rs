//! From the body of `POST /containers/create` to the engine's own words, checked as Docker checks it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hoist_model::container::{
    AttachFlags, ContainerSpec, EndpointSpec, Healthcheck, LogConfig, MountSource, MountSpec,
    NamedAlternatives, NamespaceMode, NetworkMode, NetworkSpec, ProcessSpec, RestartPolicy,
    SecuritySpec,
};
use hoist_model::{Platform, Signal};

use super::binds::{Bind, check_target, parse_bind};
use super::create_body::{
    CreateBody, EndpointBody, HealthcheckBody, HostConfigBody, LogConfigBody, MountBody, Words,
};
use super::mounts::mount_from_wire;
use super::ports::{parse_bindings, parse_exposed};
use super::resources::{Capacity, Purpose, resources_from_wire};
use super::restart_policy::restart_policy_from_wire;
use super::security::{network_mode, security_from_wire};
use crate::error::ApiError;
use crate::{ApiVersion, ContainerDefaults};

/// What conversion needs beyond the body.
pub(crate) struct Context {
    pub(crate) version: ApiVersion,
    pub(crate) capacity: Capacity,
    pub(crate) platform: Option<Platform>,
    /// Where output goes when a container does not say.
    pub(crate) log: LogConfig,
    /// What else it gets then.
    pub(crate) defaults: ContainerDefaults,
    /// Whether the machine has cgroup v2 alone.
    pub(crate) private_cgroups: bool,
}

/// Converts a body; the second part is what the caller should be told.
pub(crate) fn spec_from_wire(
    mut body: CreateBody,
    context: &Context,
) -> Result<(ContainerSpec, Vec<String>), ApiError> {
    let mut warnings = Vec::new();
    let mut host = body.host_config.take().unwrap_or_default();
    check_fixed(&host)?;

    let mut anonymous: BTreeSet<String> = BTreeSet::new();
    for target in body.volumes.take().unwrap_or_default().into_keys() {
        anonymous.insert(check_target(&target, "volume")?);
    }
    let binds = host.binds.take().unwrap_or_default();
    let tmpfs = host.tmpfs.take().unwrap_or_default();
    let mounts = mounts(&binds, &tmpfs, &mut host, &mut anonymous, context.version)?;
    check_volume_driver(&host, &mounts, &anonymous)?;
    let asked = asked_modes(&host);
    let mut security = security_from_wire(&mut host, context.defaults.no_new_privileges)?;
    default_modes(&mut security, asked, context);
    let exposed = body.exposed_ports.take().unwrap_or_default();
    let mut exposed_ports = parse_exposed(exposed.keys().map(String::as_str))?;
    let network = network(&mut body, &mut host, context.version)?;
    for request in &network.ports {
        if !exposed_ports.contains(&request.container) {
            exposed_ports.push(request.container);
        }
    }
    exposed_ports.sort();
    if network.mode == NetworkMode::Host && !network.ports.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    let hostname = body.hostname.unwrap_or_default();
    check_conflicts(&network, &security.uts, &hostname)?;
    let restart_policy = restart_policy_from_wire(host.restart_policy.take())?;
    let auto_remove = host.auto_remove.unwrap_or_default();
    if auto_remove && restart_policy != RestartPolicy::No {
        return Err(ApiError::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    let stop_signal_text = body.stop_signal.clone().unwrap_or_default();
    let stop_signal = body
        .stop_signal
        .filter(|signal| !signal.is_empty())
        .map(|signal| {
            signal
                .parse::<Signal>()
                .map_err(|error| ApiError::invalid(error.to_string()))
        })
        .transpose()?;
    let log = host.log_config.take();
    let process = ProcessSpec {
        entrypoint: body.entrypoint.map(Words::into_vec),
        command: body.cmd.map(Words::into_vec),
        environment: check_environment(body.env.unwrap_or_default())?,
        working_directory: check_directory(body.working_dir.unwrap_or_default())?,
        user: body.user.unwrap_or_default(),
        terminal: body.tty.unwrap_or_default(),
        open_stdin: body.open_stdin.unwrap_or_default(),
        stdin_once: body.stdin_once.unwrap_or_default(),
        additional_groups: host.group_add.take().unwrap_or_default(),
    };
    let init = host.resources.init;
    let cgroup_parent = host
        .resources
        .cgroup_parent
        .take()
        .filter(|parent| !parent.is_empty())
        // Noted with the container, unlike in Docker: it is found there again, whatever the engine is told meanwhile.
        .unwrap_or_else(|| context.defaults.cgroup_parent.clone());
    let spec = ContainerSpec {
        image: body.image.unwrap_or_default(),
        image_id: None,
        process,
        hostname,
        domainname: body.domainname.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
        exposed_ports,
        anonymous_volumes: anonymous.into_iter().collect(),
        stop_signal,
        stop_signal_text,
        stop_timeout: body.stop_timeout,
        mounts,
        binds,
        tmpfs,
        volumes_from: host.volumes_from.take().unwrap_or_default(),
        resources: resources_from_wire(
            host.resources,
            context.capacity,
            Purpose::Create,
            &mut warnings,
        )?,
        network,
        security,
        restart_policy,
        auto_remove,
        init,
        shm_size: host
            .shm_size
            .filter(|size| *size != 0)
            .unwrap_or(context.defaults.shm_size),
        log: log_from_wire(log, &context.log),
        attach: AttachFlags {
            stdin: body.attach_stdin.unwrap_or_default(),
            stdout: body.attach_stdout.unwrap_or_default(),
            stderr: body.attach_stderr.unwrap_or_default(),
        },
        console_size: host
            .console_size
            .map(|[rows, columns]| (rows, columns))
            .filter(|size| *size != (0, 0)),
        cgroup_parent,
        healthcheck: body.healthcheck.map(healthcheck).transpose()?,
        annotations: host.annotations.unwrap_or_default(),
        on_build: body.on_build.unwrap_or_default(),
        shell: body.shell.map(Words::into_vec).unwrap_or_default(),
        container_id_file: host.container_id_file.unwrap_or_default(),
        platform: context.platform.as_ref().map(ToString::to_string),
        named: NamedAlternatives {
            runtime: host.runtime.unwrap_or_default(),
            isolation: host.isolation.unwrap_or_default(),
            volume_driver: host.volume_driver.unwrap_or_default(),
        },
    };
    Ok((spec, warnings))
}

/// Which namespaces the caller spoke of: IPC and cgroup.
fn asked_modes(host: &HostConfigBody) -> [bool; 2] {
    let said = |mode: &Option<String>| mode.as_ref().is_some_and(|mode| !mode.is_empty());
    [said(&host.ipc_mode), said(&host.cgroupns_mode)]
}

/// The modes of namespaces that the caller left open, with what clients of older APIs rely on (moby
/// `daemon/daemon_unix.go`, `adaptContainerSettings`, and `container_routes.go`, `postContainersCreate`).
fn default_modes(security: &mut SecuritySpec, [ipc, cgroup]: [bool; 2], context: &Context) {
    if !ipc {
        security.ipc = if context.version.at_least(40) {
            context.defaults.ipc.clone()
        } else {
            NamespaceMode::Shareable
        };
    }
    if !cgroup && let Some(default) = &context.defaults.cgroup {
        let shared =
            !context.private_cgroups && (security.privileged || !context.version.at_least(41));
        security.cgroup = Some(if shared {
            NamespaceMode::Host
        } else {
            default.clone()
        });
    }
}

/// What only ever has one good value here.
fn check_fixed(host: &HostConfigBody) -> Result<(), ApiError> {
    if let Some(isolation) = &host.isolation
        && !matches!(isolation.as_str(), "" | "default")
    {
        return Err(ApiError::invalid(format!(
            "invalid isolation '{isolation}' on linux"
        )));
    }
    if let Some(runtime) = &host.runtime
        && !matches!(
            runtime.as_str(),
            "" | "hoist" | "runc" | "io.containerd.runc.v2"
        )
    {
        return Err(ApiError::invalid(format!(
            "unknown or invalid runtime name: {runtime}"
        )));
    }
    if let Some((option, _)) = host.storage_opt.iter().flatten().next() {
        // What Docker's overlay2 says on any file system without quotas of projects; it knows one option.
        return Err(ApiError::invalid(match option.to_lowercase().as_str() {
            "size" => {
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option"
                    .to_owned()
            }
            _ => format!("unknown option {option}"),
        }));
    }
    if host.shm_size.is_some_and(|size| size < 0) {
        return Err(ApiError::invalid("SHM size can not be less than 0"));
    }
    Ok(())
}

/// `VolumeDriver` matters once a volume is made with it: an anonymous one, or one named in `Binds` (moby `registerMountPoints`).
fn check_volume_driver(
    host: &HostConfigBody,
    mounts: &[MountSpec],
    anonymous: &BTreeSet<String>,
) -> Result<(), ApiError> {
    let driver = host.volume_driver.as_deref().unwrap_or_default();
    let made = mounts
        .iter()
        .any(|mount| mount.from_bind && matches!(mount.source, MountSource::Volume { .. }));
    if matches!(driver, "" | "local") || (!made && anonymous.is_empty()) {
        return Ok(());
    }
    Err(hoist_engine::error::VolumeError::NoDriver(driver.to_owned()).into())
}

fn mounts(
    binds: &[String],
    tmpfs: &BTreeMap<String, String>,
    host: &mut HostConfigBody,
    anonymous: &mut BTreeSet<String>,
    version: ApiVersion,
) -> Result<Vec<MountSpec>, ApiError> {
    let mut mounts = Vec::new();
    for bind in binds {
        match parse_bind(bind)? {
            Bind::Mount(mount) => mounts.push(mount),
            Bind::Anonymous(target) => {
                anonymous.insert(target);
            }
        }
    }
    for mount in host.mounts.take().unwrap_or_default() {
        check_version(&mount, version)?;
        mounts.push(mount_from_wire(mount)?);
    }
    for (target, options) in tmpfs {
        super::tmpfs::check(options)?;
        mounts.push(MountSpec {
            target: check_target(target, "tmpfs")?,
            source: MountSource::Tmpfs {
                size: 0,
                mode: 0,
                options: options.clone(),
            },
            read_only: options.split(',').any(|word| word == "ro"),
            from_bind: true,
            mode: String::new(),
        });
    }
    let mut targets = BTreeSet::new();
    for mount in &mounts {
        if !targets.insert(mount.target.as_str()) {
            return Err(ApiError::invalid(format!(
                "Duplicate mount point: {}",
                mount.target
            )));
        }
    }
    anonymous.retain(|target| !targets.contains(target.as_str()));
    Ok(mounts)
}

/// Refuses what an older API does not have, in Docker's words, rather than to mount something else than was meant.
fn check_version(mount: &MountBody, version: ApiVersion) -> Result<(), ApiError> {
    let bind = mount.bind_options.as_ref();
    let volume = mount.volume_options.as_ref();
    let forced = bind.is_some_and(|options| options.read_only_force_recursive == Some(true));
    let has_subpath = |path: &String| !path.is_empty();
    let subpath = volume.is_some_and(|options| options.subpath.as_ref().is_some_and(has_subpath));
    let image = mount.kind.as_deref() == Some("image");
    for (asked, minor, what) in [
        (forced, 44, "BindOptions.ReadOnlyForceRecursive"),
        (subpath, 45, "VolumeOptions.Subpath"),
        (image, 48, "Mount type \"image\""),
    ] {
        if asked && !version.at_least(minor) {
            return Err(ApiError::invalid(format!(
                "{what} needs API v1.{minor} or newer"
            )));
        }
    }
    Ok(())
}

fn network(
    body: &mut CreateBody,
    host: &mut HostConfigBody,
    version: ApiVersion,
) -> Result<NetworkSpec, ApiError> {
    let disabled = body.network_disabled.unwrap_or_default();
    let mode = if disabled {
        NetworkMode::None
    } else {
        network_mode(host.network_mode.as_deref().unwrap_or_default())?
    };
    let mut endpoints = BTreeMap::new();
    let networking = body.networking_config.take().unwrap_or_default();
    for (name, endpoint) in networking.endpoints_config.unwrap_or_default() {
        let name = if name == "default" {
            "bridge".to_owned()
        } else {
            name
        };
        endpoints.insert(name, endpoint_from_wire(endpoint.unwrap_or_default())?);
    }
    let mut dns = Vec::new();
    for address in host.dns.take().unwrap_or_default() {
        dns.push(address.parse::<IpAddr>().map_err(|_| {
            ApiError::invalid(format!(
                "bad nameserver address: {address} is not an IP address"
            ))
        })?);
    }
    let extra_hosts = host.extra_hosts.take().unwrap_or_default();
    for line in &extra_hosts {
        check_extra_host(line)?;
    }
    let links = host.links.take().unwrap_or_default();
    let mac_address = body
        .mac_address
        .take()
        .filter(|mac| !mac.is_empty())
        .map(check_mac)
        .transpose()?;
    Ok(NetworkSpec {
        mode,
        disabled,
        endpoints,
        left: false,
        ports: parse_bindings(
            &host.port_bindings.take().unwrap_or_default(),
            !version.at_least(53),
        )?,
        publish_all: host.publish_all_ports.unwrap_or_default(),
        dns,
        dns_search: host.dns_search.take().unwrap_or_default(),
        dns_options: host.dns_options.take().unwrap_or_default(),
        extra_hosts,
        links,
        mac_address,
    })
}

pub(crate) fn endpoint_from_wire(body: EndpointBody) -> Result<EndpointSpec, ApiError> {
    let ipam = body.ipam_config.unwrap_or_default();
    let mut link_local_ips = Vec::new();
    for text in ipam.link_local_ips.unwrap_or_default() {
        link_local_ips.push(text.parse().map_err(|_| {
            ApiError::invalid(format!(
                "invalid endpoint settings:\ninvalid link-local IP address: {text}"
            ))
        })?);
    }
    let address = |text: Option<String>, family: &str| {
        text.filter(|text| !text.is_empty())
            .map(|text| {
                text.parse::<IpAddr>()
                    .map_err(|_| ApiError::invalid(format!("invalid {family} address: {text}")))
            })
            .transpose()
    };
    Ok(EndpointSpec {
        aliases: body.aliases.unwrap_or_default(),
        ipv4_address: address(ipam.ipv4_address, "IPv4")?,
        ipv6_address: address(ipam.ipv6_address, "IPv6")?,
        link_local_ips,
        mac_address: body
            .mac_address
            .filter(|mac| !mac.is_empty())
            .map(check_mac)
            .transpose()?,
        links: body.links.unwrap_or_default(),
        driver_options: body.driver_opts.unwrap_or_default(),
        gateway_priority: body.gw_priority.unwrap_or_default(),
    })
}

fn check_mac(mac: String) -> Result<String, ApiError> {
    let bytes: Vec<&str> = mac.split([':', '-']).collect();
    let sound = bytes.len() == 6
        && bytes
            .iter()
            .all(|byte| byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit()));
    if sound {
        Ok(mac.to_ascii_lowercase().replace('-', ":"))
    } else {
        Err(ApiError::invalid(format!("invalid MAC address: {mac}")))
    }
}

fn check_extra_host(line: &str) -> Result<(), ApiError> {
    let (name, address) = line
        .split_once(':')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| ApiError::invalid(format!("bad format for add-host: {line:?}")))?;
    let _ = name;
    let bare = address
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(address);
    if address != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(ApiError::invalid(format!(
            "invalid IP address in add-host: {address:?}"
        )));
    }
    Ok(())
}

/// What the kinds of network exclude (moby `daemon/container.go`, `runconfig/hostconfig_unix.go`).
fn check_conflicts(
    network: &NetworkSpec,
    uts: &NamespaceMode,
    hostname: &str,
) -> Result<(), ApiError> {
    let refuse = |message: &str| Err(ApiError::invalid(format!("conflicting options: {message}")));
    if *uts == NamespaceMode::Host && !hostname.is_empty() {
        return refuse("hostname and the UTS mode");
    }
    if network.mode == NetworkMode::Host && !network.links.is_empty() {
        return refuse(
            "host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    if !matches!(network.mode, NetworkMode::Container(_)) {
        return Ok(());
    }
    if !hostname.is_empty() {
        return refuse("hostname and the network mode");
    }
    if !network.links.is_empty() {
        return refuse(
            "container type network can't be used with links. This would result in undefined behavior",
        );
    }
    if !network.dns.is_empty() {
        return refuse("dns and the network mode");
    }
    if !network.extra_hosts.is_empty() {
        return refuse("custom host-to-IP mapping and the network mode");
    }
    if network.mac_address.is_some() {
        return refuse("mac-address and the network mode");
    }
    if !network.ports.is_empty() || network.publish_all {
        return refuse("port publishing and the container type network mode");
    }
    Ok(())
}

fn check_environment(environment: Vec<String>) -> Result<Vec<String>, ApiError> {
    for entry in &environment {
        if entry.is_empty() || entry.starts_with('=') {
            return Err(ApiError::invalid(format!(
                "invalid environment variable: {entry}"
            )));
        }
    }
    Ok(environment)
}

fn check_directory(directory: String) -> Result<String, ApiError> {
    if directory.is_empty() {
        return Ok(directory);
    }
    if !directory.starts_with('/') {
        return Err(ApiError::invalid(format!(
            "the working directory '{directory}' is invalid, it needs to be an absolute path"
        )));
    }
    Ok(hoist_model::path::clean(&directory))
}

/// The least a probe's durations may be, ns.
const LEAST_DURATION: i64 = 1_000_000;

fn healthcheck(body: HealthcheckBody) -> Result<Healthcheck, ApiError> {
    let health = Healthcheck {
        test: body.test.map(Words::into_vec).unwrap_or_default(),
        interval: body.interval.unwrap_or_default(),
        timeout: body.timeout.unwrap_or_default(),
        retries: body.retries.unwrap_or_default(),
        start_period: body.start_period.unwrap_or_default(),
        start_interval: body.start_interval.unwrap_or_default(),
    };
    for (name, duration) in [
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ] {
        if duration != 0 && duration < LEAST_DURATION {
            return Err(ApiError::invalid(format!(
                "{name} in Healthcheck cannot be less than 1ms"
            )));
        }
    }
    if health.retries < 0 {
        return Err(ApiError::invalid(
            "Retries in Healthcheck cannot be negative",
        ));
    }
    Ok(health)
}

#[cfg(test)]
mod tests;

/// The engine's driver where none is named, and its options where the driver is the engine's (moby `daemon/logs.go`).
fn log_from_wire(asked: Option<LogConfigBody>, default: &LogConfig) -> LogConfig {
    let (kind, options) = asked.map_or((None, None), |log| (log.kind, log.config));
    let mut log = LogConfig {
        driver: kind
            .filter(|kind| !kind.is_empty())
            .unwrap_or_else(|| default.driver.clone()),
        options: options.unwrap_or_default(),
    };
    if log.driver == default.driver {
        for (name, value) in &default.options {
            let option = log.options.entry(name.clone());
            option.or_insert_with(|| value.clone());
        }
    }
    log
}
