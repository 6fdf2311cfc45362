//! What the command line shows: tables, templates, human numbers, progress.

pub(crate) mod human;
pub(crate) mod listing;
pub(crate) mod progress;
pub(crate) mod table;
pub(crate) mod template;
