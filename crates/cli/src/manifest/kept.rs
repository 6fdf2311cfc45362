//! Lists of manifests that are being put together, in files beside the client's configuration: the same as the stock client's, so that
//! each goes on with what the other began (docker/cli `cli/manifest/store`).
//!
//! ```text
//! ~/.docker/manifests/<list>/<manifest>    JSON; in names : is written as -, and / as _
//! ```

use std::fs;
use std::io;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hoist_image::document::Descriptor;
use hoist_model::{Digest, ImageReference};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Context, Failure};

/// Bytes that a file of a list is read of at most: a manifest of 4 MiB is in it twice, once in base64.
const FILE_LIMIT: u64 = 16 << 20;

/// A manifest with what is said of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct KeptManifest {
    /// Where it was found.
    #[serde(rename = "Ref")]
    pub(super) reference: String,
    /// What it is and runs on.
    #[serde(rename = "Descriptor")]
    pub(super) descriptor: Descriptor,
    /// Its bytes, in base64; older clients kept none.
    #[serde(rename = "Raw", default, skip_serializing_if = "String::is_empty")]
    pub(super) raw: String,
    /// Itself, if it is of Docker's kind.
    #[serde(
        rename = "SchemaV2Manifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) docker: Option<Value>,
    /// Itself, if it is of OCI's.
    #[serde(
        rename = "OCIManifest",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub(super) oci: Option<Value>,
}

impl KeptManifest {
    /// Its reference, read.
    pub(super) fn named(&self) -> Result<ImageReference, Failure> {
        crate::reference::parse(&self.reference)
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, Failure> {
        let broken = |why: String| {
            Failure::new(format!(
                "the manifest of {} is broken: {why}",
                self.reference
            ))
        };
        if self.raw.is_empty() {
            return Err(broken("it has no bytes".to_owned()));
        }
        let decoded = STANDARD.decode(&self.raw);
        decoded.map_err(|error| broken(error.to_string()))
    }

    /// The blobs that it names.
    pub(super) fn blobs(&self) -> Vec<Digest> {
        let Some(document) = self.docker.as_ref().or(self.oci.as_ref()) else {
            return Vec::new();
        };
        let layers = document["layers"].as_array().into_iter().flatten();
        let named = std::iter::once(&document["config"]).chain(layers);
        let digests = named.filter_map(|descriptor| descriptor["digest"].as_str()?.parse().ok());
        digests.collect()
    }
}

/// The lists.
pub(super) struct Lists {
    root: PathBuf,
}

impl Lists {
    pub(super) fn of(context: &Context) -> Self {
        let root = context.config_directory().join("manifests");
        Self { root }
    }

    fn directory(&self, list: &ImageReference) -> PathBuf {
        self.root.join(file_name(list))
    }

    /// All manifests of a list, in order of their files' names; nothing where there is no such list.
    pub(super) fn all(&self, list: &ImageReference) -> Result<Option<Vec<KeptManifest>>, Failure> {
        let directory = self.directory(list);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names: Vec<_> = names.collect::<io::Result<_>>()?;
        if names.is_empty() {
            return Ok(None);
        }
        names.sort();
        let read = |name| {
            let manifest = read(&directory.join(name))?;
            manifest.ok_or_else(|| no_such(&list.to_string()))
        };
        names.iter().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// One manifest of a list.
    pub(super) fn get(
        &self,
        list: &ImageReference,
        name: &ImageReference,
    ) -> Result<Option<KeptManifest>, Failure> {
        read(&self.directory(list).join(file_name(name)))
    }

    pub(super) fn save(
        &self,
        list: &ImageReference,
        name: &ImageReference,
        kept: &KeptManifest,
    ) -> Result<(), Failure> {
        let directory = self.directory(list);
        fs::create_dir_all(&directory)?;
        let text = serde_json::to_vec(kept).expect("a manifest is serialised into memory");
        Ok(fs::write(directory.join(file_name(name)), text)?)
    }

    pub(super) fn remove(&self, list: &ImageReference) -> Result<(), Failure> {
        match fs::remove_dir_all(self.directory(list)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => Ok(done?),
        }
    }
}

/// A reference as the name of a file.
fn file_name(reference: &ImageReference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

fn read(path: &std::path::Path) -> Result<Option<KeptManifest>, Failure> {
    let broken = |why: String| Failure::new(format!("{}: {why}", path.display()));
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(|error| broken(error.to_string()))?,
    };
    let read = serde_json::from_reader(io::BufReader::new(io::Read::take(file, FILE_LIMIT)));
    read.map(Some).map_err(|error| broken(error.to_string()))
}

/// What is said of what is not here.
pub(super) fn no_such(name: &str) -> Failure {
    Failure::new(format!("No such manifest: {name}"))
}
