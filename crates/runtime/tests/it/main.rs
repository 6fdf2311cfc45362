//! What the runtime's parts do to a real kernel. Needs root; says so and passes where it is not.

mod cgroup;
