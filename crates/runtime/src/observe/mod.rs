//! Readings of what runs: the processes of a container, its interfaces, the machine's CPU time.
//!
//! Everything comes from procfs as the daemon sees it; what a container wrote (a command line, a process name) is data
//! and is never parsed beyond its delimiters. A process that ends while it is read is left out.

mod counters;
mod hearing;
mod processes;

pub use counters::{MachineCpu, interfaces, machine_cpu, machine_memory};
pub use hearing::is_deaf;
pub use processes::processes;
