//! Removing what does not run (API `ContainerPrune`).

use hoist_model::container::ContainerState;
use hoist_model::{ContainerId, ErrorClass, EventKind};

use super::{Containers, RemoveRequest, prune_event};
use crate::error::ContainerError;
use crate::records::ContainerRecord;

impl Containers {
    /// Removes every container that does not run and that `wanted` names. Answers which, and how many bytes that gave back.
    pub async fn prune(
        &self,
        wanted: &(dyn Fn(&ContainerRecord) -> bool + Sync),
    ) -> Result<(Vec<ContainerId>, u64), ContainerError> {
        let (mut removed, mut freed) = (Vec::new(), 0);
        for record in self.list() {
            let rests = matches!(
                record.state,
                ContainerState::Created { .. } | ContainerState::Exited(_)
            );
            if !rests || !wanted(&record) {
                continue;
            }
            let size = self.writable_size(&record.id).await.unwrap_or(0);
            match self.remove(&record.id, RemoveRequest::default()).await {
                Ok(()) => {
                    freed += size;
                    removed.push(record.id.clone());
                }
                // Started or removed by somebody in the meantime.
                Err(error)
                    if matches!(error.class(), ErrorClass::Conflict | ErrorClass::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let event = prune_event(EventKind::Container, freed);
        self.record_event(event, "prune").await;
        Ok((removed, freed))
    }
}
