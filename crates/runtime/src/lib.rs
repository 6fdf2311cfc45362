//! From a container's specification to a process, and what becomes of it.
//!
//! ```text
//! Runtime (daemon)     ── Order: plan and descriptors ──►  zygote ── fork ──►  monitor ── clone ──►  child ── execve
//!    one epoll thread  ◄─ Started, Failed, Ended ─────────────────────────────────┘
//! ```
//!
//! Everything is resolved before the clone: [`spec`] says what is to be started, `plan` turns it into steps, `child` carries
//! them out. Monitors outlive the daemon; [`Runtime::adopt`] finds them again. Beside this, the parts a specification is
//! made of: [`seccomp`], [`capabilities`], [`users`] and Docker's [`defaults`]; and what can be read of what runs, [`observe`].
//!
//! Knows no images, networks or wire protocol, runs no async runtime, and executes no helper program.

mod below_root;
pub mod capabilities;
mod child;
pub mod defaults;
mod exit_record;
#[cfg(any(test, feature = "testing"))]
pub mod fuzzing;
mod handle;
mod init;
mod message;
mod monitor;
pub mod observe;
mod plan;
mod reaper;
mod seal;
pub mod seccomp;
mod seed;
mod spare;
pub mod spec;
pub mod sysctl;
mod user_namespace;
pub mod users;
mod zygote;

pub use exit_record::ExitRecord;
pub use handle::{
    Adoption, Ears, ExitNotice, Keeper, LaunchError, Launched, Runtime, RuntimeError, Settings,
};
pub use seed::Seed;
pub use user_namespace::{UserNamespace, is_keeper, keeper_main};
pub use zygote::{MARKER, is_zygote, zygote_main};
