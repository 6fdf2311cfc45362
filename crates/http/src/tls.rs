//! TLS configurations, with ring.
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file holds no usable certificate or key.
    #[error("{} holds no usable {what}", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// rustls refuses them.
    #[error("TLS configuration")]
    Rejected(#[source] rustls::Error),
}

/// What a client trusts and shows.
#[derive(Clone, Debug, Default)]
pub struct ClientTrust {
    /// Extra CA files, PEM.
    pub authorities: Vec<PathBuf>,
    /// Whether the system's roots count too.
    pub system_roots: bool,
    /// Certificate and key files of the client itself.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Takes any certificate (`--insecure`).
    pub insecure_skip_verify: bool,
}

/// A server's configuration; with `client_authority`, clients must show a certificate it signed (`--tlsverify`).
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(
    _certificate: &Path,
    _key: &Path,
    _client_authority: Option<&Path>,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    unimplemented!()
}

/// A client's configuration.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(_trust: &ClientTrust) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    unimplemented!()
}
