//! Looking into running containers: their processes and what they use.

use hoist_model::ContainerId;
use hoist_model::container::{ContainerState, ContainerStats, NetworkMode, ProcessFacts};

use super::Containers;
use crate::error::ContainerError;

impl Containers {
    /// Its processes, oldest id first; it has to run. Tells of it, as Docker does (event `top`).
    pub async fn processes(
        &self,
        id: &ContainerId,
        threads: bool,
    ) -> Result<Vec<ProcessFacts>, ContainerError> {
        let record = self.resolve(id.as_str())?;
        match record.state {
            ContainerState::Running(_) => {}
            ContainerState::Restarting(_) => {
                return Err(ContainerError::Conflict(super::restarting(id.as_str())));
            }
            _ => return Err(ContainerError::NotRunning(record.id.clone())),
        }
        let (runtime, key) = (self.inner.parts.runtime.clone(), record.id.clone());
        let read = tokio::task::spawn_blocking(move || runtime.processes(&key, threads)).await;
        let processes = match read {
            Ok(Ok(processes)) => processes,
            // It ended while it was looked at.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(ContainerError::NotRunning(record.id.clone()));
            }
            Ok(Err(source)) => {
                return Err(ContainerError::Io {
                    context: format!("read the processes of container {}", id.as_str()),
                    source,
                });
            }
            Err(error) => return Err(ContainerError::Internal(error.to_string())),
        };
        self.tell(id, "top").await;
        Ok(processes)
    }

    /// What it uses now; `None` while it does not run.
    pub async fn stats(&self, id: &ContainerId) -> Result<Option<ContainerStats>, ContainerError> {
        let record = self.resolve(id.as_str())?;
        let Some(running) = record.state.running() else {
            return Ok(None);
        };
        let pid = running.pid;
        let interfaces = record.spec.network.mode != NetworkMode::Host;
        let (runtime, key) = (self.inner.parts.runtime.clone(), record.id.clone());
        let read = tokio::task::spawn_blocking(move || runtime.stats(&key, pid, interfaces)).await;
        match read {
            Ok(Ok(stats)) => Ok(Some(stats)),
            // It ended while it was looked at.
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Ok(Err(source)) => Err(ContainerError::Io {
                context: format!("read what container {} uses", id.as_str()),
                source,
            }),
            Err(error) => Err(ContainerError::Internal(error.to_string())),
        }
    }
}
