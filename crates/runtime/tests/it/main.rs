//! What the runtime's parts do to a real kernel. Needs root; says so and passes where it is not.

#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test must name its place"
)]

mod adoption;
mod attacks;
mod exec;
mod life;
mod logs;
mod machine;
mod seccomp;
mod succession;
#[allow(unreachable_pub, reason = "the module is shared with the zygote")]
mod support;
