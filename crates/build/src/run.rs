//! What a RUN needs before its program can start: mounts made ready, scripts and secrets written where only it sees them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hoist_model::{Digest, ErrorClass};
use thiserror::Error;

use crate::cache_mounts::{CacheMount, Seed};
use crate::dockerfile::MountKind;
use crate::plan::{Input, RunStep};
use crate::ports::ReadyMount;
use crate::solve::Tools;

/// Secrets of whoever builds, by id. Never shown.
#[derive(Clone, Default)]
pub struct Secrets(pub BTreeMap<String, Vec<u8>>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// ssh agents of whoever builds, by id: sockets on this machine that lead to them, each of this build alone.
#[derive(Clone, Debug, Default)]
pub struct Agents(pub BTreeMap<String, PathBuf>);

/// What tells a program of an agent.
const AGENT: &str = "SSH_AUTH_SOCK=";

/// Why a program cannot be started.
#[derive(Debug, Error)]
pub enum RunError {
    /// A secret that has to be there is not.
    #[error("secret {0}: not found")]
    NoSecret(String),
    /// An ssh agent that has to be there is not.
    #[error("ssh agent {0}: not found")]
    NoAgent(String),
    /// A secret that is to be a variable is no text.
    #[error("secret {0} is not a text: it cannot be a variable")]
    NoText(String),
    /// The host's file system failed.
    #[error("{action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The failure.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NoSecret(_) | Self::NoAgent(_) | Self::NoText(_) => ErrorClass::InvalidArgument,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorClass::Unavailable
            }
            Self::Io { .. } => ErrorClass::Internal,
        }
    }
}

/// A program's surroundings, for as long as it runs.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) words: Vec<String>,
    pub(crate) environment: Vec<String>,
    pub(crate) mounts: Vec<ReadyMount>,
    _caches: Vec<CacheMount>,
    /// Scripts and secrets.
    _directory: Option<tempfile::TempDir>,
}

/// `others` are the layers of those mounts that have an input, in order.
pub(crate) async fn prepare(
    run: &RunStep,
    others: &[Arc<Vec<Digest>>],
    tools: &Tools,
    secrets: &Secrets,
    agents: &Agents,
) -> Result<Prepared, RunError> {
    let mut prepared = Prepared {
        words: run.words.clone(),
        environment: Vec::new(),
        mounts: Vec::new(),
        _caches: Vec::new(),
        _directory: None,
    };
    let mut others = others.iter();
    let (mut files, mut sockets) = (0, 0);
    for step_mount in &run.mounts {
        let mount = &step_mount.mount;
        let target = mount.target.clone();
        let layers = match step_mount.input {
            Input::Nothing => None,
            _ => others.next(),
        };
        match &mount.kind {
            MountKind::Bind => prepared.mounts.push(ReadyMount::Layers {
                layers: layers.map(|layers| layers.to_vec()).unwrap_or_default(),
                source: inside(mount.source.as_deref()),
                target: target.unwrap_or_default(),
                writable: !mount.read_only,
            }),
            MountKind::Cache { sharing } => {
                let seed = layers.map(|layers| Seed {
                    layers: layers.to_vec(),
                    source: inside(mount.source.as_deref()),
                });
                let snapshotter = tools.snapshotter.as_ref();
                let cache = tools.mounts.take(mount, *sharing, seed, snapshotter).await;
                let cache = cache.map_err(|source| RunError::Io {
                    action: "making the directory of a cache mount",
                    source,
                })?;
                prepared.mounts.push(ReadyMount::Host {
                    source: cache.path.clone(),
                    target: target.unwrap_or_default(),
                    writable: !mount.read_only,
                });
                prepared._caches.push(cache);
            }
            MountKind::Tmpfs { size } => prepared.mounts.push(ReadyMount::Memory {
                target: target.unwrap_or_default(),
                size: *size,
            }),
            MountKind::Secret { variable, required } => {
                let id = mount.id.as_ref().or(mount.source.as_ref());
                let id = id.or(target.as_ref()).cloned().unwrap_or_default();
                let id = id.rsplit('/').next().unwrap_or_default().to_owned();
                let Some(secret) = secrets.0.get(&id) else {
                    if *required {
                        return Err(RunError::NoSecret(id));
                    }
                    continue;
                };
                if let Some(name) = variable {
                    let text = std::str::from_utf8(secret);
                    let text = text.map_err(|_| RunError::NoText(id.clone()))?;
                    let name = if name.is_empty() { &id } else { name };
                    prepared.environment.push(format!("{name}={text}"));
                }
                if let Some(target) = target {
                    files += 1;
                    let name = format!("secret-{files}");
                    let owner = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
                    let mode = mount.mode.unwrap_or(0o400);
                    prepared.file(&tools.scratch, &name, secret, mode, owner, target)?;
                }
            }
            MountKind::Ssh { required } => {
                let id = mount.id.clone().unwrap_or_else(|| "default".to_owned());
                let Some(agent) = agents.0.get(&id) else {
                    if *required {
                        return Err(RunError::NoAgent(id));
                    }
                    continue;
                };
                let target = target.unwrap_or_else(|| {
                    let target = format!("/run/buildkit/ssh_agent.{sockets}");
                    sockets += 1;
                    target
                });
                let is_first = !prepared
                    .environment
                    .iter()
                    .any(|one| one.starts_with(AGENT));
                if is_first {
                    prepared.environment.push(format!("{AGENT}{target}"));
                }
                let failed = |source| RunError::Io {
                    action: "giving a build step an ssh agent",
                    source,
                };
                let mode = fs::Permissions::from_mode(mount.mode.unwrap_or(0o600));
                fs::set_permissions(agent, mode).map_err(failed)?;
                let (uid, gid) = (mount.uid.unwrap_or(0), mount.gid.unwrap_or(0));
                chown(agent, Some(uid), Some(gid)).map_err(failed)?;
                prepared.mounts.push(ReadyMount::Host {
                    source: agent.clone(),
                    target,
                    writable: true,
                });
            }
        }
    }
    if let Some(script) = &run.script {
        let target = "/dev/pipes/EOF".to_owned();
        prepared.file(
            &tools.scratch,
            "script",
            script.as_bytes(),
            0o755,
            (0, 0),
            target.clone(),
        )?;
        prepared.words = vec![target];
    }
    Ok(prepared)
}

impl Prepared {
    fn file(
        &mut self,
        scratch: &Path,
        name: &str,
        content: &[u8],
        mode: u32,
        owner: (u32, u32),
        target: String,
    ) -> Result<(), RunError> {
        let failed = |source| RunError::Io {
            action: "writing a file for a build step",
            source,
        };
        let directory = match self._directory.take() {
            Some(directory) => directory,
            None => scratch_directory(scratch).map_err(failed)?,
        };
        let path = directory.path().join(name);
        self._directory = Some(directory);
        fs::write(&path, content).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(failed)?;
        chown(&path, Some(owner.0), Some(owner.1)).map_err(failed)?;
        self.mounts.push(ReadyMount::Host {
            source: path,
            target,
            writable: false,
        });
        Ok(())
    }
}

/// A directory of its own for what is of use for a moment. Only root looks into it.
pub(crate) fn scratch_directory(scratch: &Path) -> io::Result<tempfile::TempDir> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(scratch)?;
    tempfile::tempdir_in(scratch)
}

/// A path inside of layers, relative; nothing of it leads above them.
fn inside(source: Option<&str>) -> String {
    let cleaned = hoist_model::path::clean(&format!("/{}", source.unwrap_or_default()));
    cleaned.trim_start_matches('/').to_owned()
}
