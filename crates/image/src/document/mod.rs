//! Manifests, indexes and image configs, OCI and Docker schema 2, read as the hostile input they are.
//!
//! Unknown fields survive. Every read is bounded: bytes before parsing, depth while parsing (serde_json's 128),
//! counts after. A document is dispatched on its media type, never on its shape, and one that has both `manifests`
//! and `layers` is refused (CVE-2021-41190).

mod config;
mod manifest;

use hoist_model::ErrorClass;

pub use config::{Healthcheck, HistoryEntry, ImageConfig, ImageRuntimeConfig, RootFs};
pub use manifest::{Descriptor, Document, Index, Manifest, media_type};

/// Bytes a manifest or index may have (what registries and Docker allow).
pub const MANIFEST_LIMIT: u64 = 4 << 20;
/// Bytes an image config may have.
pub const CONFIG_LIMIT: u64 = 8 << 20;

/// Why a document was refused.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// More bytes than allowed.
    #[error("the {what} has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Which kind of document.
        what: &'static str,
        /// Its bytes.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// Not the JSON it should be.
    #[error("the {what} is malformed")]
    Malformed {
        /// Which kind of document.
        what: &'static str,
        /// What the parser met.
        #[source]
        source: serde_json::Error,
    },
    /// A media type Hoist does not take here.
    #[error("unsupported media type {0:?}")]
    MediaType(String),
    /// Readable and wrong.
    #[error("the {what} is invalid: {reason}")]
    Invalid {
        /// Which kind of document.
        what: &'static str,
        /// The rule it breaks.
        reason: String,
    },
}

impl DocumentError {
    /// The class of this failure.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}
