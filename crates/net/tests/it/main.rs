//! Networks on machines made for the test: see `world`.
#![allow(
    clippy::unwrap_used,
    reason = "a world that cannot be made must stop the test, with the place"
)]

mod attacks;
mod beside;
mod claims;
mod default_bridge;
mod endpoints;
mod faults;
mod firewalls;
mod life;
mod matrix;
mod names;
mod parents;
mod pools;
mod publishing;
mod reach;
mod relayed;
mod removal;
mod segments;
mod world;
