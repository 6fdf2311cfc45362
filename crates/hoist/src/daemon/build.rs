//! The builder's Executor port over the engine: a build's programs run as its containers do, without being any.

use hoist_build::plan::{BuildNetwork, DEFAULT_PATH};
use hoist_build::ports::{
    BoxFuture, Executor, OutputFn, PortError, RunOutcome, RunRequest, Stream,
};
use hoist_build::{Builder, Parts};
use hoist_engine::Engine;
use hoist_engine::containers::{Containers, StepRequest};
use hoist_engine::error::ContainerError;
use hoist_http::mux::{self, Demux};
use hoist_model::container::{
    AttachFlags, ContainerSpec, LogConfig, NetworkMode, NetworkSpec, ProcessSpec, SeccompChoice,
    SecuritySpec,
};
use hoist_model::{ErrorClass, chain};
use hoist_store::Store;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

use super::fetch::Fetches;
use super::registry::RegistrySource;
use super::settings::Settings;

/// Joins a builder to an engine.
pub(crate) fn builder(
    settings: &Settings,
    store: &Store,
    engine: &Engine,
    source: Arc<RegistrySource>,
) -> Builder {
    let (content, snapshotter) = engine.images.stores();
    let fetch = Fetches {
        source,
        snapshotter: snapshotter.clone(),
        scratch: settings.data_root.join("build/fetched"),
    };
    Builder::new(Parts {
        store: store.clone(),
        content,
        snapshotter,
        executor: Arc::new(Steps(engine.containers.clone())),
        fetch: Arc::new(fetch),
        cache_mounts: settings.data_root.join("build"),
        scratch: settings.exec_root.join("build"),
        clock: super::now,
    })
}

struct Steps(Containers);

impl Executor for Steps {
    fn run(
        &self,
        request: RunRequest,
        output: OutputFn,
    ) -> BoxFuture<'static, Result<RunOutcome, PortError>> {
        let containers = self.0.clone();
        Box::pin(async move { run(&containers, request, output).await.map_err(refused) })
    }
}

fn refused(error: ContainerError) -> PortError {
    // A program that cannot be started is the Dockerfile's author's to mend.
    let class = match &error {
        ContainerError::Start { .. } => ErrorClass::InvalidArgument,
        error => error.class(),
    };
    PortError {
        message: chain(&error),
        class,
    }
}

async fn run(
    containers: &Containers,
    request: RunRequest,
    output: OutputFn,
) -> Result<RunOutcome, ContainerError> {
    let mut step = containers.run_step(step(request)).await?;
    if let Some(stream) = step.output() {
        let failed = |source| ContainerError::Io {
            context: "reading the output of a build step".to_owned(),
            source,
        };
        stream.set_nonblocking(true).map_err(failed)?;
        let mut stream = tokio::net::UnixStream::from_std(stream).map_err(failed)?;
        let mut demux = Demux::default();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = stream.read(&mut buffer).await.map_err(failed)?;
            if read == 0 {
                break;
            }
            demux.push(&buffer[..read]);
            while let Ok(Some((stream, bytes))) = demux.next_frame() {
                let stream = match stream {
                    mux::Stream::Stderr => Stream::Error,
                    _ => Stream::Output,
                };
                output(stream, &bytes);
            }
        }
    }
    let ended = step.ended().await?;
    let layer = if ended.exit_code == 0 {
        step.into_layer().await?
    } else {
        None
    };
    Ok(RunOutcome {
        exit_code: ended.exit_code,
        out_of_memory: ended.oom_killed,
        layer: layer.map(|layer| layer.diff_id),
    })
}

fn step(request: RunRequest) -> StepRequest {
    let surroundings = request.surroundings;
    let mode = match request.network {
        BuildNetwork::Default => NetworkMode::Bridge,
        BuildNetwork::None => NetworkMode::None,
        BuildNetwork::Host => NetworkMode::Host,
        BuildNetwork::Named(name) => match name.strip_prefix("container:") {
            Some(other) => NetworkMode::Container(other.to_owned()),
            None => NetworkMode::Network(name),
        },
    };
    let mut environment = request.environment;
    let is_path = |text: &String| text.starts_with("PATH=");
    if !environment.iter().any(is_path) {
        environment.push(format!("PATH={DEFAULT_PATH}"));
    }
    let spec = ContainerSpec {
        process: ProcessSpec {
            command: Some(request.words),
            environment,
            working_directory: request.working_directory,
            user: request.user,
            ..ProcessSpec::default()
        },
        hostname: "buildkitsandbox".to_owned(),
        resources: surroundings.resources,
        network: NetworkSpec {
            mode,
            extra_hosts: surroundings.extra_hosts,
            ..NetworkSpec::default()
        },
        security: SecuritySpec {
            privileged: request.insecure,
            seccomp: if request.insecure {
                SeccompChoice::Unconfined
            } else {
                SeccompChoice::Default
            },
            ..SecuritySpec::default()
        },
        auto_remove: true,
        shm_size: surroundings.shm_size,
        log: LogConfig {
            driver: "none".to_owned(),
            ..LogConfig::default()
        },
        attach: AttachFlags {
            stdout: true,
            stderr: true,
            ..AttachFlags::default()
        },
        cgroup_parent: surroundings.cgroup_parent,
        ..ContainerSpec::default()
    };
    StepRequest {
        layers: request.layers,
        directories: request.directories,
        spec,
        mounts: request.mounts,
    }
}
