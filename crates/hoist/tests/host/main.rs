//! The engine as a whole on a real kernel: attacks that must fail closed, disks that fill, syncs that are counted.
//!
//! Each test has a daemon of its own on private paths and drives it with our own client. What the machine
//! lacks is a skip with a reason.
#![expect(
    clippy::unwrap_used,
    reason = "a fixture that cannot be made must stop the test, with the place"
)]

mod archives;
mod attack_api;
mod attack_copy;
mod attack_image;
mod attack_process;
mod attack_state;
mod broken_disk;

mod build_faults;
mod build_outputs;
mod chance;
mod collected;
mod crowd;
mod defaults;
mod disk_usage;
mod docker_builds;
mod docker_io;
mod exits;
mod fsck;
mod full_disk;
mod kept_mount;
mod killed_images;
mod killed_start;
mod large_pull;
mod logs;
mod memory_pressure;
mod metrics;
mod networks;
mod no_inodes;
mod own_build;
mod random_life;
mod registry_clients;
mod registry_crash;
mod registry_served;
mod registry_shelf;
mod reloaded;
mod remapped;
mod service;
mod stuck;
mod syncs;
mod world;
