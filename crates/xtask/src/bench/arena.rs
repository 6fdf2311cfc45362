//! One engine in a network namespace of its own, driven by a thread that lives there.
//!
//! Both engines get the same: an empty namespace with a loopback, a registry on it, private paths, and an exec root on a
//! tmpfs, as /run is on a machine with an init system. The machine's own firewall and bridges are never touched, and
//! neither engine sees the other's rules.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use hoist_testkit::{
    ImageBuilder, LocalRegistry, RegistryOptions, TemporaryDaemon, TemporaryDirectory,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use super::client::Client;

/// Where Hoist tells its metrics: in the arena's namespace nobody else listens.
const METRICS: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9323));

/// What a measure acts on; everything in it lives in the arena's network namespace.
pub(super) struct World {
    pub(super) daemon: TemporaryDaemon,
    pub(super) client: Client,
    pub(super) registry: Option<LocalRegistry>,
    /// Where the engine tells its metrics, if it does.
    pub(super) metrics: Option<SocketAddr>,
    /// Taken down after the daemon.
    exec_root: MemoryDirectory,
}

type Job = Box<dyn FnOnce(&mut World) + Send>;

/// The engine's thread.
pub(super) struct Arena {
    pub(super) name: &'static str,
    namespace: String,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<Vec<String>>>,
}

impl Arena {
    /// Makes the namespace, starts `binary daemon …` in it and loads busybox.
    pub(super) fn start(name: &'static str, binary: &Path) -> anyhow::Result<Self> {
        let namespace = format!("bench-{name}-{}", std::process::id());
        ip(&["netns", "add", &namespace])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        let (jobs, queue) = channel::<Job>();
        let (ready, started) = channel();
        let (binary, file) = (
            binary.to_owned(),
            File::open(format!("/run/netns/{namespace}"))?,
        );
        let thread = std::thread::spawn(move || {
            let metrics = (name == "hoist").then_some(METRICS);
            let mut world = match World::enter(&binary, &file, metrics) {
                Ok(world) => world,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Vec::new();
                }
            };
            let _ = ready.send(Ok(()));
            for job in queue {
                job(&mut world);
            }
            let left = world.daemon.finish();
            drop(world.exec_root);
            left
        });
        let own = Self {
            name,
            namespace,
            jobs: Some(jobs),
            thread: Some(thread),
        };
        started
            .recv()
            .context("the arena's thread ended; its message is above")??;
        Ok(own)
    }

    /// Runs `job` on the engine's thread and returns what it returns.
    pub(super) fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut World) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (sender, receiver) = channel();
        let jobs = self.jobs.as_ref().context("the arena is closed")?;
        jobs.send(Box::new(move |world: &mut World| {
            let _ = sender.send(job(world));
        }))
        .ok()
        .context("the engine's thread ended")?;
        receiver.recv().context("the engine's thread ended")?
    }

    /// Stops the engine: what it left behind.
    pub(super) fn finish(mut self) -> Vec<String> {
        drop(self.jobs.take());
        self.thread
            .take()
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = ip(&["netns", "del", &self.namespace]);
    }
}

impl World {
    fn enter(binary: &Path, namespace: &File, metrics: Option<SocketAddr>) -> anyhow::Result<Self> {
        move_into_link_name_space(
            std::os::fd::AsFd::as_fd(namespace),
            Some(LinkNameSpaceType::Network),
        )?;
        let exec_root = MemoryDirectory::mount()?;
        let data = exec_root.place.join("data");
        // Room for a thousand networks, and for a thousand containers on the default bridge.
        let mut flags = vec!["--default-address-pool", "base=10.0.0.0/8,size=24"];
        flags.extend(["--bip", "172.18.0.1/16"]);
        let address = metrics.map(|address| address.to_string());
        if let Some(address) = &address {
            flags.extend(["--metrics-addr", address]);
        }
        let daemon = TemporaryDaemon::start_on(binary, &data, &exec_root.path, &flags);
        let mut client = Client::connect(&daemon.socket())?;
        let busybox = ImageBuilder::busybox().context("busybox-static is not installed")?;
        client.send(
            "POST",
            "/images/load?quiet=1",
            "application/x-tar",
            &busybox.docker_archive(),
        )?;
        let registry = LocalRegistry::start(&RegistryOptions::default());
        Ok(Self {
            daemon,
            client,
            registry,
            metrics,
            exec_root,
        })
    }

    /// Creates a container and returns its id.
    pub(super) fn create(&mut self, configuration: &Value) -> anyhow::Result<String> {
        let reply = self
            .client
            .call("POST", "/containers/create", configuration)?;
        Ok(reply["Id"].as_str().context("no Id")?.to_owned())
    }

    /// Proportional memory of the engine's own processes, in megabytes of 10^6 bytes; containers excluded.
    pub(super) fn megabytes(&self) -> f64 {
        let kibibytes: u32 = self
            .daemon
            .processes()
            .into_iter()
            .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
            .filter_map(|rollup| {
                let line = rollup
                    .lines()
                    .find_map(|line| line.strip_prefix("Pss:"))?
                    .trim();
                line.strip_suffix(" kB")?.parse::<u32>().ok()
            })
            .sum();
        f64::from(kibibytes) * 1024.0 / 1e6
    }
}

/// A tmpfs in a directory of its own, gone when dropped.
struct MemoryDirectory {
    place: TemporaryDirectory,
    path: PathBuf,
}

impl MemoryDirectory {
    fn mount() -> anyhow::Result<Self> {
        let place = TemporaryDirectory::new("arena");
        let path = place.join("exec");
        std::fs::create_dir(&path)?;
        let target = path.display().to_string();
        run(
            "mount",
            &["-t", "tmpfs", "-o", "mode=0755", "exec", &target],
        )?;
        Ok(Self { place, path })
    }
}

impl Drop for MemoryDirectory {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", &self.path.display().to_string()]);
    }
}

/// Configures links, addresses, routes and namespaces.
pub(super) fn ip(arguments: &[&str]) -> anyhow::Result<()> {
    run("ip", arguments).map(drop)
}

/// Runs a program; answers its output.
pub(super) fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("running {program}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        told.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
