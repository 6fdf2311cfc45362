//! A real registry (Debian's docker-registry) on a loopback port of its own.
//!
//! Images are put into its storage directory, not pushed: a fixture that needs a working push to exist tests
//! two things at once.

mod certificates;
mod hub;
mod token;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use certificates::Certificates;
use token::TokenRealm;

use crate::{ImageBlobs, ImageBuilder, TemporaryDirectory, sha256};

/// The user that registries with a login know.
pub const USER: &str = "alice";
/// That user's password.
pub const PASSWORD: &str = "wonderland";
/// bcrypt of the password, as htpasswd writes it.
pub const HTPASSWD: &str = "alice:$2y$04$SAs2IzJT0mu1KE6jqPSI/.WZRNGSjbWHcKEunt8.Ir6FpHsR3Bp2e\n";

/// How a registry asks who is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Login {
    /// It does not.
    #[default]
    None,
    /// HTTP basic authentication.
    Basic,
    /// Bearer tokens from a realm that gives them to anyone, as Docker Hub does for public images.
    AnonymousToken,
    /// Bearer tokens from a realm that gives them to [`USER`] only.
    Token,
}

/// What kind of registry to start.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Serve HTTPS, with a certificate of a private authority for `localhost`, `127.0.0.1` and `names`.
    pub tls: bool,
    /// Who may read.
    pub login: Login,
    /// More DNS names in the certificate, such as `registry-1.docker.io`.
    pub names: Vec<String>,
    /// The host (and port) that the realm's URL names in place of its own address, such as `auth.docker.io`.
    pub realm_host: Option<String>,
}

/// A running registry; stopped, and its storage removed, on drop.
#[derive(Debug)]
pub struct LocalRegistry {
    address: SocketAddr,
    process: Child,
    certificates: Option<Certificates>,
    realm: Option<TokenRealm>,
    directory: TemporaryDirectory,
}

impl LocalRegistry {
    /// Starts one; `None` where docker-registry is not installed.
    ///
    /// # Panics
    /// When it does not listen within ten seconds; the message carries its log.
    #[must_use]
    pub fn start(options: &RegistryOptions) -> Option<Self> {
        let binary = ["/usr/bin/docker-registry", "/usr/local/bin/docker-registry"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let directory = TemporaryDirectory::new("registry");
        let mut names = vec!["localhost", "127.0.0.1"];
        names.extend(options.names.iter().map(String::as_str));
        let certificates = options
            .tls
            .then(|| Certificates::new(directory.path(), &names));
        let realm = matches!(options.login, Login::Token | Login::AnonymousToken).then(|| {
            let login = options.login == Login::Token;
            TokenRealm::start(directory.path(), certificates.as_ref(), login)
        });
        let address = free_address();
        let configuration = configuration(
            options,
            address,
            certificates.as_ref(),
            realm.as_ref(),
            &directory,
        );
        let file = directory.join("config.yml");
        std::fs::write(&file, configuration).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let process = Command::new(binary)
            .args(["serve".as_ref(), file.as_os_str()])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut own = Self {
            address,
            process,
            certificates,
            realm,
            directory,
        };
        own.wait_until_it_listens();
        Some(own)
    }

    /// Where it listens, `127.0.0.1:<port>`: the first part of its images' references.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its token realm listens, if it has one.
    #[must_use]
    pub fn realm_address(&self) -> Option<SocketAddr> {
        self.realm.as_ref().map(|realm| realm.address)
    }

    /// The request targets that its token realm has seen.
    #[must_use]
    pub fn realm_requests(&self) -> Vec<String> {
        self.realm
            .as_ref()
            .map_or_else(Vec::new, TokenRealm::requests)
    }

    /// The PEM file that a client must trust, if it serves HTTPS.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.certificates
            .as_ref()
            .map(|certificates| certificates.authority.as_path())
    }

    /// What it has logged: a line for each request, among others.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Puts an image under `repository:tag` and returns its manifest's digest.
    ///
    /// # Panics
    /// When its storage cannot be written.
    pub fn put(&self, repository: &str, tag: &str, image: &ImageBuilder) -> String {
        let ImageBlobs {
            config,
            manifest,
            layers,
        } = image.blobs();
        self.put_blob(repository, &config);
        for layer in &layers {
            self.put_blob(repository, &layer.bytes);
        }
        self.put_manifest(repository, tag, &manifest)
    }

    /// Puts a blob into a repository and returns its digest.
    ///
    /// # Panics
    /// When its storage cannot be written.
    pub fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        write(&self.blob_path(&digest), bytes);
        let hex = digest.trim_start_matches("sha256:");
        let links = self.repository(repository).join("_layers/sha256").join(hex);
        write(&links.join("link"), digest.as_bytes());
        digest
    }

    /// Puts a manifest or an index under `repository:tag` and returns its digest.
    ///
    /// # Panics
    /// When its storage cannot be written.
    pub fn put_manifest(&self, repository: &str, tag: &str, manifest: &[u8]) -> String {
        let digest = sha256(manifest);
        write(&self.blob_path(&digest), manifest);
        let hex = digest.trim_start_matches("sha256:");
        let manifests = self.repository(repository).join("_manifests");
        for place in [
            manifests.join("revisions/sha256").join(hex),
            manifests.join("tags").join(tag).join("current"),
            manifests
                .join("tags")
                .join(tag)
                .join("index/sha256")
                .join(hex),
        ] {
            write(&place.join("link"), digest.as_bytes());
        }
        digest
    }

    /// The file that holds a blob's bytes: a test may corrupt, truncate or remove it.
    #[must_use]
    pub fn blob_path(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.storage()
            .join("blobs/sha256")
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }

    fn storage(&self) -> PathBuf {
        self.directory.join("storage/docker/registry/v2")
    }

    fn repository(&self, name: &str) -> PathBuf {
        self.storage().join("repositories").join(name)
    }

    fn wait_until_it_listens(&mut self) {
        let end = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            let gone = self.process.try_wait().unwrap();
            assert!(
                gone.is_none() && Instant::now() < end,
                "docker-registry does not listen ({gone:?}):\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for LocalRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address that was free a moment ago; nothing else on the loopback takes it so soon again.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn configuration(
    options: &RegistryOptions,
    address: SocketAddr,
    certificates: Option<&Certificates>,
    realm: Option<&TokenRealm>,
    directory: &TemporaryDirectory,
) -> String {
    let storage = directory.join("storage");
    let mut text = format!(
        "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n",
        storage.display()
    );
    if let Some(Certificates {
        certificate, key, ..
    }) = certificates
    {
        let (certificate, key) = (certificate.display(), key.display());
        write!(
            text,
            "  tls:\n    certificate: {certificate}\n    key: {key}\n"
        )
        .unwrap();
    }
    if options.login == Login::Basic {
        let path = directory.join("htpasswd");
        std::fs::write(&path, HTPASSWD).unwrap();
        write!(
            text,
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            path.display()
        )
        .unwrap();
    }
    if let Some(realm) = realm {
        let scheme = if certificates.is_some() {
            "https"
        } else {
            "http"
        };
        let own = format!("localhost:{}", realm.address.port());
        let host = options.realm_host.as_deref().unwrap_or(&own);
        write!(
            text,
            "auth:\n  token:\n    realm: {scheme}://{host}/token\n    service: {}\n    issuer: {}\n    rootcertbundle: {}\n",
            token::SERVICE,
            token::ISSUER,
            realm.bundle.display()
        )
        .unwrap();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skopeo(arguments: &[&str]) -> Option<String> {
        let output = Command::new("skopeo").args(arguments).output().ok()?;
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    }

    #[test]
    fn skopeo_reads_what_was_put_over_every_kind_of_registry() {
        let image = ImageBuilder::new()
            .layer(crate::TarBuilder::new().file("a", 0o644, "a").finish())
            .compression(crate::Compression::Gzip);
        for (tls, login) in [
            (false, Login::None),
            (true, Login::None),
            (false, Login::Basic),
            (false, Login::AnonymousToken),
            (true, Login::Token),
        ] {
            let options = RegistryOptions {
                tls,
                login: login.clone(),
                ..RegistryOptions::default()
            };
            let Some(registry) = LocalRegistry::start(&options) else {
                crate::skip("docker-registry is not installed");
                return;
            };
            let digest = registry.put("library/thing", "1", &image);
            let name = format!(
                "docker://localhost:{}/library/thing:1",
                registry.address().port()
            );
            let mut arguments = vec!["inspect", "--tls-verify=false", "--format={{.Digest}}"];
            let credentials = format!("--creds={USER}:{PASSWORD}");
            if matches!(login, Login::Basic | Login::Token) {
                arguments.push(&credentials);
            }
            arguments.push(&name);
            let Some(told) = skopeo(&arguments) else {
                crate::skip("skopeo is not installed");
                return;
            };
            assert_eq!(told.trim(), digest, "tls {tls}, {login:?}");
            let realm = matches!(login, Login::Token | Login::AnonymousToken);
            assert_eq!(
                !registry.realm_requests().is_empty(),
                realm,
                "tls {tls}, {login:?}"
            );
        }
    }
}
