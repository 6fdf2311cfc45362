//! The units of systemd's that make the engine a service, as text.
//!
//! ```text
//! hoist.socket            the API's sockets; opened early at boot, so that clients wait instead of failing
//! hoist.service           the engine; containers and monitors are in scopes of their own and outlive it
//! hoist-shutdown.service  does nothing until it is stopped: then it stops the containers, while engine and network are up
//! ```
//!
//! No unit here names a scope: systemd keeps what a file names, and then refuses to make it a second time. Scopes say
//! themselves that they come before `hoist-shutdown.service`, and so go after it (`hoist_cgroup::systemd`).

use std::path::Path;

/// The engine.
pub(super) const SERVICE: &str = "hoist.service";
/// Its sockets.
pub(super) const SOCKET: &str = "hoist.socket";
/// What stops containers at shutdown.
pub(super) const SHUTDOWN: &str = "hoist-shutdown.service";

/// How each file begins.
const HEAD: &str = "\
# Written by `hoist system install`, which writes it anew; changes belong in a drop-in: systemctl edit NAME.
";

/// What the units depend on.
#[derive(Clone, Debug)]
pub(super) struct Facts<'a> {
    /// The engine's program.
    pub(super) program: &'a Path,
    /// Whether docker.sock is ours to listen on.
    pub(super) docker_socket: bool,
    /// Whether there is a group docker.
    pub(super) docker_group: bool,
}

/// The files: name and text.
pub(super) fn files(facts: &Facts<'_>) -> [(&'static str, String); 3] {
    let program = facts.program.display();
    let service = format!(
        "{HEAD}\
[Unit]
Description=Hoist container engine
Wants=network-online.target
Requires={SOCKET}
After={SOCKET} network-online.target nss-lookup.target firewalld.service nftables.service apparmor.service time-set.target

[Service]
Type=notify
ExecStartPre=-\"{program}\" system load-profile
ExecStart=\"{program}\" daemon -H fd://
ExecReload=/bin/kill -s HUP $MAINPID
Restart=always
RestartSec=2
TimeoutStartSec=infinity
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-500
# Containers outlive the engine: only its own process is ended, and its control groups are its own business.
Delegate=yes
KillMode=process

[Install]
WantedBy=multi-user.target
Also={SOCKET} {SHUTDOWN}
"
    );
    let docker = if facts.docker_socket {
        "ListenStream=/run/docker.sock\n"
    } else {
        ""
    };
    let group = if facts.docker_group {
        "SocketGroup=docker\n"
    } else {
        ""
    };
    let socket = format!(
        "{HEAD}\
[Unit]
Description=Sockets of the Hoist container engine

[Socket]
ListenStream=/run/hoist.sock
{docker}SocketMode=0660
{group}
[Install]
WantedBy=sockets.target
"
    );
    let shutdown = format!(
        "{HEAD}\
[Unit]
Description=Orderly stop of containers before the machine goes down
After={SERVICE} {SOCKET} network.target network-online.target remote-fs.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=\"{program}\" --host unix:///run/hoist.sock system stop-all
# Every container has its own time to stop.
TimeoutStopSec=15min

[Install]
WantedBy=multi-user.target
"
    );
    [(SERVICE, service), (SOCKET, socket), (SHUTDOWN, shutdown)]
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn facts(docker: bool) -> Facts<'static> {
        Facts {
            program: Path::new("/usr/local/bin/hoist"),
            docker_socket: docker,
            docker_group: docker,
        }
    }

    #[test]
    fn docker_sock_and_its_group_are_there_or_not() {
        let [_, (_, with), _] = files(&facts(true));
        let [_, (_, without), _] = files(&facts(false));
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.contains('='));
            lines.map(str::to_owned).collect()
        };
        expect![[r#"
            [
                "Description=Sockets of the Hoist container engine",
                "ListenStream=/run/hoist.sock",
                "ListenStream=/run/docker.sock",
                "SocketMode=0660",
                "SocketGroup=docker",
                "WantedBy=sockets.target",
            ]
        "#]]
        .assert_debug_eq(&lines(&with));
        assert!(!without.contains("docker"), "{without}");
    }

    #[test]
    fn the_shutdown_unit_comes_down_before_what_it_needs() {
        let [(_, service), _, (_, shutdown)] = files(&facts(true));
        for needed in [SERVICE, SOCKET, "network.target"] {
            let after = shutdown.lines().find(|line| line.starts_with("After="));
            assert!(after.is_some_and(|line| line.contains(needed)), "{needed}");
        }
        for rule in ["Type=notify", "KillMode=process", "Delegate=yes"] {
            assert!(service.lines().any(|line| line == rule), "{rule}");
        }
    }
}
