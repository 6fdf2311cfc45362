//! A registry that answers as Docker Hub: TLS, under Hub's names, with tokens for anyone.

use super::{LocalRegistry, Login, RegistryOptions};

/// The names by which clients and engines know Docker Hub; the second is its token realm's.
const NAMES: [&str; 4] = [
    "registry-1.docker.io",
    "auth.docker.io",
    "index.docker.io",
    "docker.io",
];

impl LocalRegistry {
    /// Starts it empty, with the daemon's flags that send Hub's names here and trust it; `None` where
    /// docker-registry is not installed. Official images live under `library/`.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use]
    pub fn hub() -> Option<(Self, Vec<String>)> {
        let registry = Self::start(&RegistryOptions {
            tls: true,
            login: Login::AnonymousToken,
            names: NAMES.map(str::to_owned).to_vec(),
            realm_host: Some("auth.docker.io".to_owned()),
        })?;
        let authority = registry.authority()?;
        let certificates = authority.parent()?.join("certificates");
        let mut flags = vec![
            "--registry-certificates".to_owned(),
            certificates.display().to_string(),
        ];
        for name in NAMES {
            let directory = certificates.join(name);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::copy(authority, directory.join("ca.crt")).unwrap();
            let address = if name == "auth.docker.io" {
                registry.realm_address()?
            } else {
                registry.address()
            };
            flags.push("--registry-host-override".to_owned());
            flags.push(format!("{name}={address}"));
        }
        Some((registry, flags))
    }
}
