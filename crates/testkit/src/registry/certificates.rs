//! A certificate authority for one test, and what it signs.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A private authority and one server certificate of it, as PEM files in a directory.
#[derive(Debug)]
pub struct Certificates {
    /// What clients must trust.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's private key.
    pub key: PathBuf,
    /// The server's certificate, DER.
    pub(crate) certificate_der: Vec<u8>,
    /// The server's private key, PKCS#8 DER.
    pub(crate) key_der: Vec<u8>,
}

impl Certificates {
    /// Makes them for a server that answers to `names` (DNS names and addresses); good for a client too.
    ///
    /// # Panics
    /// When they cannot be made or written.
    #[must_use]
    pub fn new(directory: &Path, names: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test authority");
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = Issuer::new(params, authority_key);

        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params
            .distinguished_name
            .push(DnType::CommonName, "test registry");
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();

        let own = Self {
            authority: directory.join("authority.pem"),
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
            certificate_der: certificate.der().to_vec(),
            key_der: key.serialize_der(),
        };
        std::fs::write(&own.authority, authority.pem()).unwrap();
        std::fs::write(&own.certificate, certificate.pem()).unwrap();
        std::fs::write(&own.key, key.serialize_pem()).unwrap();
        own
    }
}
