//! Networks on machines made for the test: see `world`.

mod reach;
mod world;
