//! The engine's Runtime port over hoist-runtime.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail};
use hoist_cgroup::systemd::{self, Scope, ScopeError};
use hoist_cgroup::{CgroupDriver, CgroupError, CgroupSettings, Cgroups, Group};
use hoist_engine::containers::AttachRequest;
use hoist_engine::ports::{
    Adoption, BoxFuture, ExecLaunch, ExecUnderWay, ExitNotice, LaunchFailure, LaunchRequest,
    Launched, ProcessOwner, Runtime,
};
use hoist_engine::records::ContainerRecord;
use hoist_model::container::{ContainerStats, NamespaceMode, ProcessFacts, Resources};
use hoist_model::{ContainerId, ErrorClass, Signal, Timestamp, chain};
use hoist_net::Instance;
use hoist_runtime::observe;
use hoist_runtime::seccomp::Seccomp;
use hoist_runtime::spec::{ProcessId, Streams};
use hoist_runtime::{Ears, Seed};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::apparmor::AppArmor;
use super::launch_spec::{Machine, Seeds, exec_spec, launch_spec};
use super::oom::OomWatches;
use super::remap::Remapping;
use super::settings::{Settings, StartDefaults};

/// hoist-runtime and the cgroups and filters that go with it.
pub(crate) struct ZygoteRuntime {
    runtime: hoist_runtime::Runtime,
    machine: Arc<Machine>,
    ooms: OomWatches,
}

impl ZygoteRuntime {
    /// Starts the zygote; `keeper` has what monitors keep for later engines, ends of processes go to `report`, out-of-memory kills to `ooms`.
    pub(crate) fn start(
        settings: &Settings,
        instance: &Instance,
        apparmor: AppArmor,
        remapping: Option<Remapping>,
        keeper: hoist_runtime::Keeper,
        report: mpsc::UnboundedSender<ExitNotice>,
        ooms: mpsc::UnboundedSender<ContainerId>,
    ) -> anyhow::Result<Self> {
        let executable = std::fs::read_link("/proc/self/exe").context("read /proc/self/exe")?;
        let exec_root = settings.exec_root.clone();
        let runtime_root = exec_root.clone();
        let name = instance.table().replace('_', "-");
        let (cgroups, seed) = control_groups(settings, &name, &executable)?;
        let defaults = RwLock::new(Arc::new(settings.start.clone()));
        let settings = hoist_runtime::Settings {
            exec_root,
            executable: executable.clone(),
            groups: cgroups.monitors()?.into(),
            keeper: Some(keeper),
        };
        let (runtime, ears, notices) = hoist_runtime::Runtime::start(settings)?;
        // Ends with the engine's loop.
        tokio::spawn(hear(readiness(&ears)?, ears));
        let machine = Arc::new(Machine {
            cgroups,
            seccomp: Seccomp::new(),
            parents: Mutex::default(),
            apparmor,
            remapping,
            seeds: Seeds {
                executable,
                exec_root: runtime_root,
            },
            defaults,
            _seed: seed,
        });
        // Ends with the runtime, which holds the other side of the channel.
        tokio::spawn(translate(notices, machine.clone(), report));
        Ok(Self {
            runtime,
            machine,
            ooms: OomWatches::new(ooms),
        })
    }

    /// From the next start on, containers that do not say get these.
    pub(crate) fn renew(&self, defaults: StartDefaults) {
        let mut held = self
            .machine
            .defaults
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(defaults);
    }

    /// From the next start on, containers' groups are made by this driver; refused where it cannot be had.
    pub(crate) fn choose_driver(&self, driver: CgroupDriver) -> Result<(), CgroupError> {
        self.machine.cgroups.choose_driver(driver)
    }

    pub(crate) fn cgroups(&self) -> &Cgroups {
        &self.machine.cgroups
    }
}

/// The engine's control groups: where systemd runs, in a scope that it leaves to us and that a seed keeps there; else, or
/// where it makes none, at the root.
fn control_groups(
    settings: &Settings,
    name: &str,
    executable: &Path,
) -> anyhow::Result<(Cgroups, Option<Seed>)> {
    if systemd::is_running() {
        match delegated(settings, name, executable) {
            Ok(found) => return Ok(found),
            Err(error) if settings.cgroup_driver == CgroupDriver::Systemd => {
                return Err(error.context("native.cgroupdriver=systemd"));
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(
                    error,
                    "systemd gives no scope: control groups are at the root"
                );
            }
        }
    } else if settings.cgroup_driver == CgroupDriver::Systemd {
        bail!("exec-opt native.cgroupdriver=systemd: systemd does not run this machine");
    }
    let cgroups = Cgroups::start(&CgroupSettings {
        parent: format!("/{name}"),
        driver: CgroupDriver::Cgroupfs,
        prefix: name.to_owned(),
        seed: None,
    })?;
    Ok((cgroups, None))
}

/// How often it is tried to get into a scope that is about to go, and the pause between.
const TRIES: u32 = 150;
const PAUSE: Duration = Duration::from_millis(20);

fn delegated(
    settings: &Settings,
    name: &str,
    executable: &Path,
) -> anyhow::Result<(Cgroups, Option<Seed>)> {
    let seed = Seed::start(executable, &settings.exec_root).context("start a process for it")?;
    let scope = format!("{name}-containers.scope");
    let mut tries = 0;
    loop {
        tries += 1;
        let started = systemd::start_scope(&Scope {
            name: &scope,
            slice: "system.slice",
            description: "Containers of Hoist and their monitors",
            process: seed.pid(),
        });
        match started {
            // That of an earlier engine, with containers in it.
            Ok(()) | Err(ScopeError::Exists(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let cgroups = Cgroups::start(&CgroupSettings {
            parent: format!("/system.slice/{scope}"),
            driver: settings.cgroup_driver,
            prefix: name.to_owned(),
            seed: Some(seed.pid()),
        });
        match cgroups {
            Ok(cgroups) => return Ok((cgroups, Some(seed))),
            // It goes, with the last process of an earlier engine.
            Err(error) if tries < TRIES => {
                tracing::debug!(%error, "the scope went away");
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[expect(
    deprecated,
    reason = "sound for an OwnedFd, which closes only with the AsyncFd; its successor is unsafe"
)]
fn readiness(ears: &Ears) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(ears.as_fd().try_clone_to_owned()?, Interest::READABLE)
}

/// How long after a start the next ones are prepared: its answer is to be out by then.
const AFTERWARDS: Duration = Duration::from_millis(1);

/// Hears monitors until the runtime is gone.
async fn hear(readiness: AsyncFd<OwnedFd>, ears: Ears) {
    let mut prepare_at: Option<Instant> = None;
    loop {
        let afterwards = async {
            match prepare_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            ready = readiness.readable() => ready.and_then(|mut ready| {
                let heard = ears.hear();
                // What came since is an edge of its own.
                ready.clear_ready();
                heard
            }),
            () = afterwards => {
                prepare_at = None;
                ears.prepare();
                continue;
            }
        };
        match heard {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::error!(%error, "monitors cannot be heard");
                return;
            }
        }
        if ears.has_time_to_prepare() {
            // After what tells of the end.
            tokio::task::yield_now().await;
            prepare_at = None;
            ears.prepare();
        } else if prepare_at.is_none() && ears.wants_to_prepare() {
            prepare_at = Some(Instant::now() + AFTERWARDS);
        }
    }
}

async fn translate(
    mut notices: mpsc::UnboundedReceiver<hoist_runtime::ExitNotice>,
    machine: Arc<Machine>,
    report: mpsc::UnboundedSender<ExitNotice>,
) {
    while let Some(notice) = notices.recv().await {
        let oom_killed = match &notice.of {
            ProcessId::Container(id) => machine.oom_killed(id),
            ProcessId::Exec(_) => false,
        };
        let ended = match notice.record {
            Some(record) => ended(
                owner(notice.of),
                record.exit_code,
                record.finished_at,
                oom_killed,
            ),
            None => ExitNotice {
                error: "exit status unknown: the monitor died before the process".to_owned(),
                ..ended(owner(notice.of), 255, super::now(), oom_killed)
            },
        };
        if report.send(ended).is_err() {
            return;
        }
    }
}

fn ended(of: ProcessOwner, exit_code: i32, finished_at: Timestamp, oom_killed: bool) -> ExitNotice {
    ExitNotice {
        of,
        exit_code,
        oom_killed,
        finished_at,
        error: String::new(),
    }
}

fn owner(id: ProcessId) -> ProcessOwner {
    match id {
        ProcessId::Container(id) => ProcessOwner::Container(id),
        ProcessId::Exec(id) => ProcessOwner::Exec(id),
    }
}

fn process_id(owner: &ProcessOwner) -> ProcessId {
    match owner {
        ProcessOwner::Container(id) => ProcessId::Container(id.clone()),
        ProcessOwner::Exec(id) => ProcessId::Exec(id.clone()),
    }
}

/// With its causes, in one sentence; what is not there keeps its kind.
fn told(error: CgroupError) -> io::Error {
    let kind = match error.class() {
        ErrorClass::NotFound => io::ErrorKind::NotFound,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, chain(&error))
}

pub(super) fn streams(request: AttachRequest) -> Streams {
    Streams {
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    }
}

/// In the words Docker's runtime uses: its clients look for some of them.
fn failure(what: &str, error: &hoist_runtime::LaunchError) -> LaunchFailure {
    LaunchFailure {
        message: format!("{what}: unable to start container process: {error}"),
        exit_code: error.exit_code,
    }
}

async fn answer(
    reply: oneshot::Receiver<Result<hoist_runtime::Launched, hoist_runtime::LaunchError>>,
    what: &str,
) -> Result<i32, LaunchFailure> {
    match reply.await {
        Ok(Ok(launched)) => Ok(launched.pid),
        Ok(Err(error)) => Err(failure(what, &error)),
        Err(_) => Err(LaunchFailure {
            message: "the runtime ended before the start was done".to_owned(),
            exit_code: 128,
        }),
    }
}

/// How often and how long it is looked whether killed processes are gone.
const LOOKS: u32 = 1000;
const LOOK: Duration = Duration::from_millis(2);

/// Kills all processes of a group and waits until it is empty; a group that is not there is.
fn end_all(group: &Group) -> io::Result<()> {
    for look in 0..LOOKS {
        match group.procs() {
            Ok(pids) if !pids.is_empty() => {}
            _ => return Ok(()),
        }
        if look == 0 {
            group.kill().map_err(told)?;
        }
        std::thread::sleep(LOOK);
    }
    Err(io::Error::other("killed processes did not end"))
}

impl Runtime for ZygoteRuntime {
    fn launch(
        &self,
        request: LaunchRequest,
    ) -> BoxFuture<'static, Result<Launched, LaunchFailure>> {
        let (runtime, machine) = (self.runtime.clone(), self.machine.clone());
        let ooms = self.ooms.clone();
        Box::pin(async move {
            let limited = request.record.spec.resources.memory > 0;
            let id = request.record.id.clone();
            let parent = request.record.spec.cgroup_parent.clone();
            let seed = machine.seed(&parent);
            let defaults = machine.defaults();
            let spec = seed.and_then(|seed| {
                let spec = launch_spec(&machine, request, &defaults, seed.as_ref())?;
                Ok((spec, seed))
            });
            let launched = match spec {
                // The seed stays until the container's own process is there.
                Ok((spec, _seed)) => {
                    answer(runtime.launch(spec), "failed to create task for container").await
                }
                Err(failure) => Err(failure),
            };
            if launched.is_err() {
                // Of a start whose monitor was killed in the middle the child may go on.
                let _ = machine.group(&id).kill();
                machine.remove_cgroup(&id, &parent);
                runtime.release(&id);
            } else if limited {
                ooms.watch(&machine, &id, false);
            }
            launched.map(|pid| Launched {
                pid,
                started_with: Some(defaults.to_keep()),
            })
        })
    }

    fn exec(&self, request: ExecLaunch) -> Result<ExecUnderWay, LaunchFailure> {
        let runtime = &self.runtime;
        let container = ProcessId::Container(request.container.id.clone());
        let broken = |error: io::Error| LaunchFailure {
            message: format!(
                "exec in container {}: {error}",
                request.container.id.as_str()
            ),
            exit_code: 128,
        };
        let pidfd = runtime.pidfd(&container).map_err(broken)?;
        let pid = runtime.pid(&container).unwrap_or_default();
        let (stream, theirs) = if request.detached {
            (None, None)
        } else {
            let (ours, theirs) = UnixStream::pair().map_err(broken)?;
            (Some(ours), Some(theirs))
        };
        let started = runtime.exec(exec_spec(&self.machine, &request, pidfd, pid, theirs)?);
        Ok(ExecUnderWay {
            stream,
            started: Box::pin(async move { answer(started, "exec failed").await }),
        })
    }

    fn attach(&self, id: &ContainerId, request: AttachRequest) -> io::Result<UnixStream> {
        self.runtime
            .attach(&ProcessId::Container(id.clone()), streams(request))
    }

    fn signal(&self, owner: &ProcessOwner, signal: Signal) -> io::Result<()> {
        self.runtime.signal(&process_id(owner), signal)
    }

    fn is_deaf(&self, id: &ContainerId, signal: Signal) -> bool {
        let pid = self.runtime.pid(&ProcessId::Container(id.clone()));
        pid.is_some_and(|pid| observe::is_deaf(pid, signal))
    }

    fn resize(&self, owner: &ProcessOwner, rows: u16, columns: u16) -> io::Result<()> {
        self.runtime.resize(&process_id(owner), rows, columns)
    }

    fn pause(&self, id: &ContainerId) -> io::Result<()> {
        self.machine.group(id).freeze().map_err(told)
    }

    fn unpause(&self, id: &ContainerId) -> io::Result<()> {
        self.machine.group(id).thaw().map_err(told)
    }

    fn processes(&self, id: &ContainerId, threads: bool) -> io::Result<Vec<ProcessFacts>> {
        let pids = self.machine.group(id).procs().map_err(told)?;
        Ok(observe::processes(&pids, threads))
    }

    fn stats(&self, id: &ContainerId, pid: i32, interfaces: bool) -> io::Result<ContainerStats> {
        let cpu = observe::machine_cpu()?;
        Ok(ContainerStats {
            at: super::now(),
            groups: self.machine.group(id).stats().map_err(told)?,
            interfaces: if interfaces {
                observe::interfaces(pid)?
            } else {
                Vec::new()
            },
            machine_cpu: cpu.total,
            online_cpus: cpu.online,
            machine_memory: observe::machine_memory(),
        })
    }

    fn update(&self, id: &ContainerId, limits: &Resources) -> io::Result<()> {
        self.machine.group(id).update(limits).map_err(told)?;
        if limits.memory > 0 {
            self.ooms.watch(&self.machine, id, false);
        }
        Ok(())
    }

    fn release(&self, record: &ContainerRecord) {
        if record.spec.security.pid != NamespaceMode::Private {
            // Without a PID namespace of its own the kernel ends only the first process.
            let _ = self.machine.group(&record.id).kill();
        }
        self.machine
            .remove_cgroup(&record.id, &record.spec.cgroup_parent);
    }

    fn forget(&self, id: &ContainerId) {
        self.runtime.release(id);
    }

    fn adopt(&self, record: &ContainerRecord) -> BoxFuture<'static, Adoption> {
        let (runtime, machine) = (self.runtime.clone(), self.machine.clone());
        let ooms = (record.spec.resources.memory > 0).then(|| self.ooms.clone());
        let id = record.id.clone();
        machine.note_parent(&id, &record.spec.cgroup_parent);
        let running = record.state.running();
        let pid = running.map(|running| running.pid);
        let is_told = running.is_some_and(|running| running.oom_killed);
        let find = move || match runtime.adopt(&id, pid.filter(|pid| machine.holds(&id, *pid))) {
            hoist_runtime::Adoption::Running(launched) => {
                if let Some(ooms) = ooms {
                    ooms.watch(&machine, &id, is_told);
                }
                Adoption::Running { pid: launched.pid }
            }
            hoist_runtime::Adoption::Exited(record) => {
                let oom_killed = machine.oom_killed(&id);
                let of = ProcessOwner::Container(id);
                Adoption::Exited(ended(of, record.exit_code, record.finished_at, oom_killed))
            }
            hoist_runtime::Adoption::Unknown => Adoption::Unknown,
        };
        Box::pin(async move {
            tokio::task::spawn_blocking(find)
                .await
                .unwrap_or(Adoption::Unknown)
        })
    }

    fn take_kept(&self, id: &ContainerId) -> Vec<OwnedFd> {
        self.runtime.take_kept(id)
    }

    fn kill_all(&self, record: &ContainerRecord) -> io::Result<()> {
        let cgroups = &self.machine.cgroups;
        end_all(&cgroups.group(&record.id, &record.spec.cgroup_parent))
    }

    fn leftovers(&self) -> Vec<ContainerId> {
        let mut left = self.runtime.leftovers();
        left.extend(self.machine.cgroups.existing().unwrap_or_default());
        left
    }

    fn sweep(&self, id: &ContainerId) {
        if let Err(error) = end_all(&self.machine.group(id)) {
            tracing::warn!(container = %id, %error, "processes of an unknown container stay");
        }
        self.machine.remove_cgroup(id, "");
        self.runtime.release(id);
    }
}
