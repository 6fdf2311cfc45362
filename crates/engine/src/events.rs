//! Events: what happened, replayed from the store and followed live without a gap.

use hoist_model::{Event, Timestamp};

/// The event journal of this node.
#[derive(Clone)]
pub struct Events;

impl Events {
    /// Events since an instant (none replayed when `None`), then live ones until `until`, on a bounded channel.
    /// A reader that lags too far sees the channel end.
    pub fn subscribe(
        &self,
        _since: Option<Timestamp>,
        _until: Option<Timestamp>,
    ) -> tokio::sync::mpsc::Receiver<Event> {
        unimplemented!()
    }
}
