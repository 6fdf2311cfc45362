//! What one node can do: containers, images, networks, volumes, execs, events.
//!
//! [`Engine`] is a struct of handles. Each owns its table and its ports; whoever serves a request takes the one it
//! needs. Knows no wire protocol and no registry: those meet it in the binary's composition root.

pub mod clock;
pub mod containers;
pub mod error;
pub mod events;
pub mod execs;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
pub mod health;
pub mod images;
mod logs;
mod names;
pub mod networks;
mod paced;
pub mod ports;
pub mod records;
pub mod volumes;

pub use logs::LogLost;

/// The handles of one node.
#[derive(Clone)]
pub struct Engine {
    /// Containers.
    pub containers: containers::Containers,
    /// Images.
    pub images: images::Images,
    /// Networks.
    pub networks: networks::Networks,
    /// Volumes.
    pub volumes: volumes::Volumes,
    /// Execs.
    pub execs: execs::Execs,
    /// Events.
    pub events: events::Events,
}
