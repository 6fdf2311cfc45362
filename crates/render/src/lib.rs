//! What the command line shows: tables, templates, human numbers, progress.

pub mod build;
pub mod human;
pub mod listing;
pub mod progress;
pub mod table;
pub mod template;
