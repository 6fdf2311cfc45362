//! One function per operation: reads the request, asks the engine, answers in the shape of the version asked.

pub(crate) mod archive;
pub(crate) mod attach;
mod body_reader;
mod body_writer;
mod bridge;
pub(crate) mod build;
pub(crate) mod build_cache;
pub(crate) mod buildkit;
pub(crate) mod changes;
pub(crate) mod containers;
pub(crate) mod events;
pub(crate) mod execs;
pub(crate) mod fsck;
pub(crate) mod images;
pub(crate) mod logs;
pub(crate) mod networks;
pub(crate) mod observe;
pub(crate) mod registry;
pub(crate) mod save;
pub(crate) mod system;
pub(crate) mod transfer;
pub(crate) mod update;
pub(crate) mod usage;
pub(crate) mod volumes;
pub(crate) mod websocket;
