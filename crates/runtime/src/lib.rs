//! Hoist runtime: from a container's specification to a process, and what becomes of it.
pub mod capabilities;
pub mod cgroup;
pub mod defaults;
pub mod devices;
mod error;
mod handle;
pub mod seccomp;
pub mod spec;
pub mod users;
mod zygote;

pub use error::{LaunchError, ProcessError, RuntimeError};
pub use handle::{Adoption, ExitNotice, ExitRecord, Launched, ProcessOwner, Runtime, Settings};
pub use zygote::{is_zygote, zygote_main};
