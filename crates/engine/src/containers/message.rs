//! What a container's actor can be told, and by whom it is answered.

use std::time::Duration;

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hoist_model::container::{EndpointSpec, ProbeResult};
use hoist_model::{Signal, Timestamp};
use tokio::sync::oneshot;

use super::{AttachRequest, Outcome, Undelivered, UpdateRequest, WaitCondition, WaitOutcome};
use crate::error::ContainerError;
use crate::ports::ExitNotice;
use crate::records::NetworkRecord;

/// Where an answer goes. A caller that went away is no error.
pub(super) type Reply<T> = oneshot::Sender<Result<T, ContainerError>>;

/// What a container can be told.
pub(super) enum Message {
    Start(Reply<Outcome>),
    /// Send a signal; `asked` when a person wants the container stopped.
    Signal {
        signal: Signal,
        asked: bool,
        reply: Reply<()>,
    },
    /// What comes next is a restart.
    RestartAsked(Reply<()>),
    /// The machine is going down.
    Suspend(Reply<()>),
    Pause(Reply<()>),
    Unpause(Reply<()>),
    Rename {
        name: String,
        reply: Reply<()>,
    },
    /// Put it on one more network.
    Connect {
        network: Arc<NetworkRecord>,
        endpoint: Box<EndpointSpec>,
        reply: Reply<()>,
    },
    /// Take it from a network.
    Disconnect {
        network: Arc<NetworkRecord>,
        reply: Reply<()>,
    },
    /// Take a link to another container away.
    Unlink {
        alias: String,
        reply: Reply<()>,
    },
    Remove {
        volumes: bool,
        reply: Reply<()>,
    },
    Update {
        request: Box<UpdateRequest>,
        reply: Reply<()>,
    },
    Wait {
        condition: WaitCondition,
        reply: oneshot::Sender<WaitOutcome>,
    },
    Attach {
        request: AttachRequest,
        reply: Reply<(UnixStream, Undelivered)>,
    },
    Resize {
        rows: u16,
        columns: u16,
        reply: Reply<()>,
    },
    /// A probe of the run that began at this instant, and had lasted for `ran`.
    Probed {
        run: Timestamp,
        ran: Duration,
        result: ProbeResult,
        reply: Reply<()>,
    },
    OomKilled,
    Ended(ExitNotice),
}
