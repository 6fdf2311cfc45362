//! Building images.
pub mod dockerfile;
pub mod ignore;
