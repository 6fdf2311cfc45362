//! What a long operation reports while it runs; drawn by a client, never by the crate that reports it.

use crate::digest::Digest;

/// One report of a pull, load, import or push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A sentence about the whole operation (`Pulling from library/debian`), with the subject it is about.
    Message {
        /// What the sentence is about: a tag, or nothing.
        subject: Option<String>,
        /// The sentence.
        text: String,
    },
    /// A layer passed from one phase to the next or moved within it.
    Layer {
        /// The layer as the manifest names it (compressed digest), shortened for display by the client.
        layer: Digest,
        /// Where it stands.
        phase: LayerPhase,
    },
    /// A layer on its way to a registry.
    Upload {
        /// The layer by its diff id, shortened for display by the client.
        layer: Digest,
        /// Where it stands.
        phase: UploadPhase,
    },
    /// So much of a file of the web was imported.
    Importing {
        /// Bytes so far.
        current: u64,
        /// Bytes in all, if that is known.
        total: Option<u64>,
    },
    /// A tag was pushed.
    Pushed {
        /// The tag.
        tag: String,
        /// The digest of its manifest.
        digest: Digest,
        /// The manifest's bytes.
        size: u64,
    },
}

/// Where a layer stands that is being pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadPhase {
    /// Part of the image, nothing asked yet.
    Preparing,
    /// Waits for its turn.
    Waiting,
    /// `current` of `total` uncompressed bytes sent.
    Pushing {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The registry has it now.
    Pushed,
    /// The repository had it before.
    AlreadyExists,
    /// The registry took it over from this repository of its own (a path).
    MountedFrom(String),
}

/// Where one layer stands. The order of the variants is the order in which a layer passes through them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerPhase {
    /// Named by the manifest, nothing fetched yet.
    Known,
    /// Waits for its turn.
    Waiting,
    /// `current` of `total` bytes fetched.
    Downloading {
        /// Bytes so far.
        current: u64,
        /// Bytes in all, as the manifest says.
        total: u64,
    },
    /// All bytes are here and being compared with the digest.
    Verifying,
    /// Fetched and verified.
    Downloaded,
    /// `current` of `total` compressed bytes turned into the stored layer.
    Extracting {
        /// Bytes so far.
        current: u64,
        /// Bytes in all.
        total: u64,
    },
    /// Ready to be mounted.
    Complete,
    /// Was here before the operation began.
    AlreadyExists,
}

/// Where reports go. Called from any thread; must not block.
pub type ProgressSink<'a> = &'a (dyn Fn(Progress) + Send + Sync);
