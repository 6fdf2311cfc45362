//! Host tests of the image crate: real tars, real mounts. They need root and skip with a reason without it.

mod listing;
mod real_tree;
