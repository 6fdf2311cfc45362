//! Why a message was not obeyed, in Docker's words.

use hoist_model::chain;

use super::actor::Actor;
use super::step::Refusal;
use crate::error::ContainerError;

impl Actor {
    /// A refusal in Docker's words.
    pub(super) fn explain(&self, verb: &str, failure: Failure) -> ContainerError {
        let id = self.record.id.as_str();
        match failure {
            Failure::Broken(error) => error,
            Failure::Refused(Refusal::NotRunning) => {
                ContainerError::NotRunning(self.record.id.clone())
            }
            Failure::Refused(refusal) => ContainerError::Conflict(match refusal {
                Refusal::Running if verb == "remove" && self.record_is_paused() => format!(
                    "cannot remove container \"/{}\": container is paused and must be unpaused first",
                    self.record.name
                ),
                Refusal::Running if verb == "remove" => format!(
                    "cannot remove container \"/{}\": container is running: stop the container before removing or force remove",
                    self.record.name
                ),
                Refusal::Restarting if verb == "remove" => format!(
                    "cannot remove container \"/{}\": container is restarting: stop the container before removing or force remove",
                    self.record.name
                ),
                Refusal::Restarting => restarting(id),
                Refusal::Removing if verb == "remove" => {
                    format!(
                        "removal of container {} is already in progress",
                        self.record.name
                    )
                }
                Refusal::Removing => {
                    format!("container is marked for removal and cannot be {verb}ed")
                }
                Refusal::Paused if verb == "start" => {
                    "cannot start a paused container, try unpause instead".to_owned()
                }
                Refusal::Paused => format!("Container {id} is already paused"),
                Refusal::NotPaused => format!("Container {id} is not paused"),
                Refusal::Starting => format!("container {id} is being started"),
                Refusal::AlreadySo | Refusal::Running | Refusal::NotRunning => {
                    format!("cannot {verb} container {id} as it is")
                }
            }),
        }
    }

    fn record_is_paused(&self) -> bool {
        self.life
            .state
            .running()
            .is_some_and(|running| running.paused)
    }
}

/// What Docker says of everything that needs a process while there is none for the moment.
pub(crate) fn restarting(id: &str) -> String {
    format!("Container {id} is restarting, wait until the container is running")
}

/// Why a message was not obeyed.
pub(super) enum Failure {
    Refused(Refusal),
    Broken(ContainerError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{refusal:?}"),
            Self::Broken(error) => f.write_str(&chain(error)),
        }
    }
}
