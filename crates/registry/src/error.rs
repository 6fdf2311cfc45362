//! Why a pull or a push failed, in the words Docker's clients match on.
//!
//! The texts follow moby `daemon/internal/distribution/errors.go` and docker/distribution `registry/api/errcode`;
//! they carry the registry's own words, so some repeat their cause on purpose.

use std::fmt;

use hoist_http::client::ClientError;
use hoist_http::tls::TlsError;
use hoist_image::document::DocumentError;
use hoist_image::{ContentError, LayerError};
use hoist_model::{Digest, ErrorClass, Platform};

/// What a registry said: the first entry of its `errors`, as `code: message` in errcode's spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// `manifest unknown`, `unauthorized`, …
    pub code: String,
    /// The registry's sentence.
    pub message: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// Why an image was not pulled or pushed, or a login not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// No such tag or digest.
    #[error("manifest for {reference} not found: {said}")]
    ManifestUnknown {
        /// The reference, as people type it.
        reference: String,
        /// The registry's words.
        said: Said,
    },
    /// Not there, or not for us: registries do not say which.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require 'docker login': {said}"
    )]
    Denied {
        /// The repository, as people type it.
        repository: String,
        /// The registry's words.
        said: Said,
    },
    /// No such repository.
    #[error("repository {repository} not found: {said}")]
    RepositoryUnknown {
        /// The repository, as people type it.
        repository: String,
        /// The registry's words.
        said: Said,
    },
    /// The credentials are wrong or missing.
    #[error("{0}")]
    Unauthorized(Said),
    /// The registry wants a login and none was given.
    #[error("Get {url:?}: no basic auth credentials")]
    NoCredentials {
        /// What was asked for.
        url: String,
    },
    /// Too many pulls (Docker Hub's limit, among others).
    #[error("{0}")]
    TooManyRequests(Said),
    /// What was asked about is not there, in the registry's words alone.
    #[error("{0}")]
    Absent(Said),
    /// It is not for us, in the registry's words alone.
    #[error("{0}")]
    Forbidden(Said),
    /// A search server's reply that is none.
    #[error("Unexpected status code {0}")]
    Search(u16),
    /// A server that is to be searched cannot be: in Docker's words.
    #[error("{0}")]
    SearchEndpoint(String),
    /// A file of the web could not be had.
    #[error("failed to GET {url} with status {status}: {said}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// The reply's status.
        status: http::StatusCode,
        /// The beginning of its body.
        said: String,
    },
    /// No address of a file of the web.
    #[error("invalid URL {0:?}: expected http://host/path or https://host/path")]
    InvalidUrl(String),
    /// Any other refusal that the registry explained.
    #[error("{0}")]
    Refused(Said),
    /// A reply that makes no sense here.
    #[error("Get {url:?}: received unexpected HTTP status: {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The reply's status.
        status: http::StatusCode,
    },
    /// No connection, or it broke.
    #[error("{verb} {url:?}: {}", in_words(.cause))]
    Connection {
        /// How it was asked, as Go's client spells it: `Get`, `Post`.
        verb: &'static str,
        /// What was asked for.
        url: String,
        /// What happened; its words are in the text.
        cause: ClientError,
    },
    /// A TLS file of this host cannot be used.
    #[error("TLS for registry {host}")]
    Tls {
        /// The registry.
        host: String,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// A reply that breaks the protocol or a rule of ours.
    #[error("registry {host}: {reason}")]
    Protocol {
        /// The registry or realm.
        host: String,
        /// The rule, or what was missing.
        reason: String,
    },
    /// The index has no image for this platform.
    #[error("no matching manifest for {0} in the manifest list entries")]
    NoMatchingPlatform(Platform),
    /// An image of a format that nobody makes any more.
    #[error(
        "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed. Suggest the author of {0} to upgrade the image to the OCI Format or Docker Image manifest v2, schema 2. More information at https://docs.docker.com/go/deprecated-image-specs/"
    )]
    Schema1(String),
    /// A layer Hoist cannot unpack, or a manifest it cannot read.
    #[error("unsupported media type {0}")]
    UnsupportedMediaType(String),
    /// Something other than an image: a plugin, a chart, a model.
    #[error("Encountered remote {media_type:?}({kind}) when fetching")]
    NotAnImage {
        /// The config's media type.
        media_type: String,
        /// `plugin` or `unknown`.
        kind: &'static str,
    },
    /// The bytes are not those the digest names.
    #[error("{what} verification failed for digest {wanted}: the content is {found}")]
    Mismatch {
        /// `manifest`, `image config` or `filesystem layer`.
        what: &'static str,
        /// The digest that was promised.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// More or fewer bytes than the manifest promised.
    #[error("{what} {digest}: {found} bytes came where the manifest says {wanted}")]
    Size {
        /// `image config` or `layer`.
        what: &'static str,
        /// Which.
        digest: Digest,
        /// Bytes promised.
        wanted: u64,
        /// Bytes that came, or were announced.
        found: u64,
    },
    /// More bytes than such a document may have.
    #[error("the {what} has more than the {limit} bytes allowed")]
    TooLarge {
        /// `manifest`, `image config`, `token`.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// A document is malformed.
    #[error("{what} of {reference}")]
    Document {
        /// `manifest` or `image config`.
        what: &'static str,
        /// The image, as people type it.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// The config and the manifest disagree about the layers.
    #[error("layers from manifest don't match image configuration: {manifest} and {config}")]
    LayerCount {
        /// Layers the manifest lists.
        manifest: usize,
        /// Layers the config lists.
        config: usize,
    },
    /// A layer cannot be read or stored.
    #[error("failed to register layer {digest}: {}", hoist_model::chain(.cause))]
    Layer {
        /// The layer, as the manifest names it.
        digest: Digest,
        /// Why; its words are in the text.
        cause: LayerError,
    },
    /// A layer that is here cannot be read.
    #[error("reading layer {digest}")]
    ReadLayer {
        /// Its diff id.
        digest: Digest,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A document cannot be stored.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The registry failed, and the mirrors that were asked before it had failed, too.
    #[error("{last} (asked before: {})", .mirrors.join("; "))]
    AfterMirrors {
        /// The registry's failure.
        last: Box<PullError>,
        /// Each mirror and what it met.
        mirrors: Vec<String>,
    },
    /// All attempts failed.
    #[error("download failed after attempts={attempts}: {last}")]
    Attempts {
        /// How many.
        attempts: u32,
        /// The last failure.
        last: Box<PullError>,
    },
    /// A worker thread ended without an answer.
    #[error("the worker for layer {0} ended unexpectedly")]
    Worker(Digest),
}

impl PullError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::ManifestUnknown { .. }
            | Self::Denied { .. }
            | Self::RepositoryUnknown { .. }
            | Self::Absent(_)
            | Self::NoMatchingPlatform(_) => ErrorClass::NotFound,
            Self::Forbidden(_) => ErrorClass::Forbidden,
            Self::SearchEndpoint(_) | Self::InvalidUrl(_) => ErrorClass::InvalidArgument,
            Self::Fetch { status, .. } => match status.as_u16() {
                404 => ErrorClass::NotFound,
                400 => ErrorClass::InvalidArgument,
                401 => ErrorClass::Unauthorized,
                403 => ErrorClass::Forbidden,
                _ => ErrorClass::Internal,
            },
            Self::Unauthorized(_) | Self::NoCredentials { .. } => ErrorClass::Unauthorized,
            Self::TooManyRequests(_) => ErrorClass::Unavailable,
            Self::Tls { .. }
            | Self::Schema1(_)
            | Self::UnsupportedMediaType(_)
            | Self::NotAnImage { .. }
            | Self::Document { .. } => ErrorClass::InvalidArgument,
            Self::Layer { cause, .. } => cause.class(),
            Self::Content(source) => source.class(),
            Self::Attempts { last, .. } | Self::AfterMirrors { last, .. } => last.class(),
            // Docker answers 500 to what a registry or the network did (errdefs.Unknown).
            Self::Refused(_)
            | Self::Search(_)
            | Self::Status { .. }
            | Self::Connection { .. }
            | Self::Protocol { .. }
            | Self::Mismatch { .. }
            | Self::Size { .. }
            | Self::TooLarge { .. }
            | Self::LayerCount { .. }
            | Self::ReadLayer { .. }
            | Self::Worker(_) => ErrorClass::Internal,
        }
    }

    /// Without the words that a pull puts around the registry's own.
    pub(crate) fn in_its_own_words(self) -> Self {
        match self {
            Self::ManifestUnknown { said, .. } | Self::RepositoryUnknown { said, .. } => {
                Self::Absent(said)
            }
            Self::Denied { said, .. } => Self::Forbidden(said),
            other => other,
        }
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connection { cause, .. } => match cause {
                ClientError::Talk { .. } | ClientError::Timeout { .. } => true,
                ClientError::Lookup { .. }
                | ClientError::Dial { .. }
                | ClientError::Proxy { .. }
                | ClientError::Handshake { .. } => false,
            },
            Self::Status { status, .. } => {
                matches!(status.as_u16(), 408 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }
}

/// What happened to a connection, in the words of Go's net packages: people search for them.
fn in_words(cause: &ClientError) -> String {
    use std::io::ErrorKind;
    match cause {
        ClientError::Lookup { host, source } if source.kind() == ErrorKind::NotFound => {
            format!("dial tcp: lookup {host}: no such host")
        }
        ClientError::Lookup { host, source } => format!("dial tcp: lookup {host}: {source}"),
        ClientError::Dial { address, source } => {
            let what = match source.kind() {
                ErrorKind::ConnectionRefused => "connection refused".to_owned(),
                ErrorKind::ConnectionReset => "connection reset by peer".to_owned(),
                ErrorKind::HostUnreachable => "no route to host".to_owned(),
                ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
                ErrorKind::TimedOut => "i/o timeout".to_owned(),
                _ => source.to_string(),
            };
            format!("dial tcp {address}: connect: {what}")
        }
        // Go says the status alone, as if it were the server's.
        ClientError::Proxy { .. } => cause.to_string(),
        ClientError::Handshake { host, source } => handshake_in_words(host, source),
        ClientError::Talk { source, .. } => hoist_model::chain(source),
        ClientError::Timeout { address, what } => match *what {
            "connection" => format!("dial tcp {address}: i/o timeout"),
            "response" => format!("{address}: timeout awaiting response headers"),
            _ => format!("{address}: timeout awaiting {what}"),
        },
    }
}

fn handshake_in_words(host: &str, source: &std::io::Error) -> String {
    use rustls::{CertificateError, Error, InvalidMessage};
    let tls = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    let x509 = |what: String| format!("tls: failed to verify certificate: x509: {what}");
    match tls {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        Some(Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::UnknownIssuer => {
                x509(format!("certificate of {host} signed by unknown authority"))
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => x509(format!(
                "certificate of {host} has expired or is not yet valid"
            )),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                x509(format!("certificate is not valid for {host}"))
            }
            other => x509(format!("certificate of {host}: {other}")),
        },
        _ => format!("TLS handshake with {host}: {source}"),
    }
}
