//! Building images: from a Dockerfile to a graph of content-addressed steps, and from there to an image.
//!
//! Knows no HTTP, no engine and no registry: whoever asks for a build hands in where base images come from and who runs
//! programs.

pub mod dockerfile;
pub mod ignore;
pub mod plan;
