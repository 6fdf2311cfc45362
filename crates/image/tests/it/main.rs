//! Host tests of the image crate: real tars, real mounts. They need root and skip with a reason without it.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests stop the test, with the place"
)]

mod contract;
mod crafted;
mod files;
mod fsck;
mod layers;
mod listing;
mod load;
mod real_tree;
mod recovery;
mod remapped;
mod save;
mod scatter;
