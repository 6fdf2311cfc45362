//! Hoist runtime.
pub mod capabilities;
pub mod cgroup;
pub mod defaults;
pub mod devices;
pub mod seccomp;
pub mod users;
