//! Where the API listens, and what the service manager is told.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context, bail};
use hoist_http::{ListenError, Listener, UnixSocket, tls};

use super::settings::{self, DOCKER_SOCKET, Host, Settings};

/// The first descriptor that systemd hands over (sd_listen_fds(3)).
const FIRST_INHERITED: i32 = 3;

/// What is open when the engine begins.
pub(super) struct Opened {
    /// The API's sockets, by the host they were asked for as.
    pub(super) hosts: Vec<(Host, Vec<Listener>)>,
    pub(super) metrics: Option<Listener>,
}

/// Opens every socket. Of the default ones, docker.sock is left to a live engine that answers there.
pub(super) fn listen(settings: &Settings) -> anyhow::Result<Opened> {
    let mut hosts = Vec::with_capacity(settings.hosts.len());
    for host in &settings.hosts {
        hosts.push((host.clone(), open(host, settings)?));
    }
    let metrics = settings.metrics.map(super::metrics::listen).transpose()?;
    Ok(Opened { hosts, metrics })
}

/// Opens one host: several sockets where they were handed over, none where it is a live engine's.
pub(super) fn open(host: &Host, settings: &Settings) -> anyhow::Result<Vec<Listener>> {
    let group = settings.group.as_deref().unwrap_or("docker");
    let group_id = group_id(group);
    if group_id.is_none() && settings.group.is_some() {
        bail!("group {group:?} does not exist");
    }
    let options = UnixSocket {
        mode: 0o660,
        group: group_id,
    };
    let listener = match host {
        Host::Unix(path) => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)
                    .with_context(|| format!("mkdir {}", parent.display()))?;
            }
            Listener::unix(path, options)
        }
        Host::Tcp(address) => {
            let configuration = match &settings.tls {
                Some(files) => Some(tls::server_config(
                    &files.certificate,
                    &files.key,
                    files.client_authority.as_deref(),
                )?),
                None => {
                    tracing::warn!(%host, "the API is open to whoever reaches this address: it has no TLS");
                    None
                }
            };
            Listener::tcp(*address, configuration)
        }
        Host::Inherited => {
            let taken = inherited()?.into_iter();
            return Ok(taken.map(Listener::inherited).collect::<Result<_, _>>()?);
        }
    };
    match listener {
        Ok(listener) => Ok(vec![listener]),
        Err(ListenError::Taken { path })
            if settings.default_hosts && path == Path::new(DOCKER_SOCKET) =>
        {
            tracing::info!(
                "another engine answers on {DOCKER_SOCKET}; to use this one: docker context create hoist --docker host=unix://{}",
                settings::SOCKET
            );
            Ok(Vec::new())
        }
        Err(error) => Err(error.into()),
    }
}

/// The sockets of sd_listen_fds(3), if they are meant for this process.
fn inherited() -> anyhow::Result<Vec<std::os::fd::OwnedFd>> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let count = match (number("LISTEN_PID"), number("LISTEN_FDS")) {
        (Some(pid), Some(count)) if pid == std::process::id() && count > 0 => count,
        _ => bail!(
            "host fd://: no socket was handed over (LISTEN_PID and LISTEN_FDS do not name one)"
        ),
    };
    hoist_sys::process::take_inherited(FIRST_INHERITED, count)
        .with_context(|| format!("host fd://: take {count} sockets over"))
}

/// Says how it stands to whoever asked to be told (sd_notify(3)); nobody asked is no error.
pub(super) fn tell_service_manager(state: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let told = UnixDatagram::unbound().and_then(|socket| {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        match address.as_bytes().strip_prefix(b"@") {
            Some(name) => {
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(state.as_bytes(), &address)
            }
            None => socket.send_to(state.as_bytes(), &address),
        }
    });
    if let Err(error) = told {
        tracing::warn!(%error, state, "the service manager was not told");
    }
}

/// Looks a group up in /etc/group: the static binary has no name service.
fn group_id(name: &str) -> Option<u32> {
    let text = fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}
