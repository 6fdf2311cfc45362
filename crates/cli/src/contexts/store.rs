//! Contexts on disk, where the stock client keeps them (docker/cli:cli/context/store):
//!
//! ```text
//! <config>/contexts/meta/<sha256 of the name>/meta.json       {"Name", "Metadata", "Endpoints"}
//! <config>/contexts/tls/<sha256 of the name>/docker/*.pem     ca, cert and key, mode 0600
//! <config>/config.json                                        currentContext, of the program docker
//! <config>/hoist-context                                      the same of the program hoist
//! ```
//!
//! `hoist` has a choice of its own because it has an engine of its own: what `docker context use` chose is no answer
//! to `hoist ps`, and the stock client forgets fields of config.json that it does not know.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::Failure;

/// The endpoint of the engine's API.
const DOCKER: &str = "docker";
/// The most that is read of one file.
const LIMIT: u64 = 10 << 20;

/// A PEM file of a context: its name and content.
pub(crate) type Pem = (String, Vec<u8>);

/// Where an engine is and how TLS to it is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// As `-H` takes it.
    pub(crate) host: String,
    /// Whether the engine's certificate is taken as it is.
    pub(crate) skip_verify: bool,
    /// Its PEM files.
    pub(crate) pems: Vec<PathBuf>,
}

/// The contexts of one user.
pub(crate) struct Store {
    root: PathBuf,
}

/// Whether a text can be a context's name.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let reserved = name == "default";
    let first = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    let rest = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(&b));
    if reserved {
        return Err(Failure::new("\"default\" is a reserved context name"));
    }
    if first && rest && name.len() > 1 {
        return Ok(());
    }
    Err(Failure::new(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    )))
}

fn id(name: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(name.as_bytes())
        .iter()
        .fold(String::new(), |mut hex, byte| {
            // Writing into a text does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// Reads a file that is not too long.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let size = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(format!(
            "open {}: no such file or directory",
            path.display()
        )),
        _ => failed(path, &error),
    })?;
    if size.len() > LIMIT {
        return Err(Failure::new(format!("{}: too long", path.display())));
    }
    fs::read(path).map_err(|error| failed(path, &error))
}

fn private_directory(path: &Path) -> Result<(), Failure> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(path).map_err(|error| failed(path, &error))
}

/// Writes a file beside the old one and moves it over it.
fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let next = path.with_extension(format!("next.{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&next)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&next, path)
    };
    write().map_err(|error| failed(path, &error))
}

impl Store {
    /// The contexts of a configuration directory.
    pub(crate) fn new(config: &Path) -> Self {
        Self {
            root: config.join("contexts"),
        }
    }

    /// The directory of a context's metadata.
    pub(crate) fn meta_directory(&self, name: &str) -> PathBuf {
        self.root.join("meta").join(id(name))
    }

    /// The directory of a context's TLS files.
    pub(crate) fn tls_directory(&self, name: &str) -> PathBuf {
        self.root.join("tls").join(id(name))
    }

    /// A directory for what is not a context yet.
    pub(crate) fn workshop(&self) -> Result<PathBuf, Failure> {
        let path = self.root.join(format!(".work-{}", std::process::id()));
        private_directory(&path)?;
        Ok(path)
    }

    /// A context's metadata.
    pub(crate) fn read(&self, name: &str) -> Result<Value, Failure> {
        let path = self.meta_directory(name).join("meta.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| Failure::new(format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::new(format!(
                "context {name:?}: context not found: open {}: no such file or directory",
                path.display()
            ))),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// The names of all contexts, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("meta"));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let bytes = fs::read(entry.path().join("meta.json")).ok()?;
                let meta: Value = serde_json::from_slice(&bytes).ok()?;
                meta["Name"].as_str().map(str::to_owned)
            })
            .collect();
        names.sort_unstable();
        names
    }

    /// The PEM files of a context.
    pub(crate) fn pems(&self, name: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.tls_directory(name).join(DOCKER));
        let mut files: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        files.sort_unstable();
        files
    }

    /// How the engine of a context is reached.
    pub(crate) fn endpoint(&self, name: &str) -> Result<Endpoint, Failure> {
        let meta = self.read(name)?;
        let docker = &meta["Endpoints"][DOCKER];
        let host = docker["Host"].as_str().unwrap_or_default();
        if host.is_empty() {
            return Err(Failure::new(format!("context {name:?} names no engine")));
        }
        Ok(Endpoint {
            host: host.to_owned(),
            skip_verify: docker["SkipTLSVerify"].as_bool().unwrap_or(false),
            pems: self.pems(name),
        })
    }

    /// Writes a context; its TLS files, too, if there are new ones.
    pub(crate) fn write(
        &self,
        name: &str,
        description: Option<&str>,
        endpoint: &Endpoint,
        pems: Option<&[Pem]>,
    ) -> Result<(), Failure> {
        let mut metadata = json!({});
        if let Some(description) = description.filter(|text| !text.is_empty()) {
            metadata["Description"] = description.into();
        }
        let meta = json!({
            "Name": name,
            "Metadata": metadata,
            "Endpoints": {DOCKER: {
                "Host": endpoint.host, "SkipTLSVerify": endpoint.skip_verify,
            }},
        });
        if let Some(pems) = pems {
            let directory = self.tls_directory(name);
            drop(fs::remove_dir_all(&directory));
            for (file, content) in pems {
                let place = directory.join(DOCKER);
                private_directory(&place)?;
                write_file(&place.join(file), content, 0o600)?;
            }
        }
        self.write_meta(name, &meta)
    }

    /// Writes a context's metadata as it is.
    pub(crate) fn write_meta(&self, name: &str, meta: &Value) -> Result<(), Failure> {
        let directory = self.meta_directory(name);
        fs::create_dir_all(&directory).map_err(|error| failed(&directory, &error))?;
        let text = meta.to_string();
        write_file(&directory.join("meta.json"), text.as_bytes(), 0o644)
    }

    /// Removes a context.
    pub(crate) fn remove(&self, name: &str) -> Result<(), Failure> {
        for directory in [self.tls_directory(name), self.meta_directory(name)] {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed(&directory, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_where_the_stock_client_looks_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        let endpoint = Endpoint {
            host: "tcp://engine:2376".to_owned(),
            ..Endpoint::default()
        };
        let pems = [("ca.pem".to_owned(), b"x".to_vec())];
        store
            .write("away", Some("far"), &endpoint, Some(&pems))
            .unwrap();
        let id = "8cd4b9dde5a3dd8a4d4ba4e2b1d9b0f7";
        assert_ne!(super::id("away"), id);
        assert_eq!(store.names(), ["away"]);
        let text = fs::read_to_string(store.meta_directory("away").join("meta.json")).unwrap();
        assert_eq!(
            text,
            r#"{"Name":"away","Metadata":{"Description":"far"},"Endpoints":{"docker":{"Host":"tcp://engine:2376","SkipTLSVerify":false}}}"#
        );
        let read = store.endpoint("away").unwrap();
        assert_eq!((read.host, read.pems.len()), (endpoint.host, 1));
        store.remove("away").unwrap();
        let failure = store.read("away").unwrap_err();
        assert!(
            failure
                .message
                .starts_with("context \"away\": context not found: open /"),
            "{failure:?}"
        );
    }

    #[test]
    fn names_are_checked() {
        for (name, good) in [
            ("ab", true),
            ("a", false),
            ("default", false),
            ("a b", false),
            ("-a", false),
            ("a.b_c+d-e", true),
        ] {
            assert_eq!(check_name(name).is_ok(), good, "{name}");
        }
    }
}
