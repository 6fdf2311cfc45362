//! The fence: every raw Linux call that no safe crate offers, as a safe function.
//!
//! All `unsafe` of the house is here. Each block says which conditions
//! it relies on (SAFETY) and why no safe crate does the same (JUSTIFICATION). No policy lives here: a function is one
//! call, or one short sequence that makes no sense in parts.
#![allow(
    unsafe_code,
    reason = "this crate is where the workspace keeps its unsafe code"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::ptr_as_ptr,
    reason = "the kernel's interface has widths of its own"
)]

pub mod bpf;
pub mod children;
pub mod code;
pub mod datagram;
#[cfg(feature = "testing")]
pub mod fault;
pub mod floor;
pub mod mapping;
pub mod mount_attributes;
pub mod mount_namespace;
pub mod netlink;
pub mod netns;
pub mod outgoing;
pub mod process;
pub mod seccomp;
pub mod writeback;
