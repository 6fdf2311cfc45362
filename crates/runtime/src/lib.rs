//! Hoist runtime.
pub mod capabilities;
pub mod cgroup;
mod child;
pub mod defaults;
pub mod devices;
mod exit_record;
mod handle;
mod message;
mod monitor;
mod plan;
mod seal;
pub mod seccomp;
pub mod spec;
pub mod users;
mod zygote;

pub use exit_record::ExitRecord;
pub use handle::{Adoption, ExitNotice, LaunchError, Launched, Runtime, RuntimeError, Settings};
pub use zygote::{MARKER, is_zygote, zygote_main};
