//! Facts taken from elsewhere by a program.

pub(super) mod syscalls;
