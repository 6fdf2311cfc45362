//! `--cache-from` and `--cache-to`: what a client says of caches elsewhere, and what is told of them.
//!
//! A cache that cannot be read is told of and done without; one that cannot be written fails the build, unless `ignore-error` says otherwise.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::moby::buildkit::v1::{CacheOptionsEntry, SolveRequest};
use hoist_build::ports::{CacheStore, PortError};
use hoist_build::{CacheExport, CacheMode, RemoteCache};
use hoist_engine::ports::Credentials;
use hoist_model::{Digest, ErrorClass, ImageReference, Platform};
use serde_json::json;
use tonic::Status;

use crate::bases::Logins as _;
use crate::builds::Build;
use crate::door::BuildKit;
use crate::error;
use crate::session::{ClientStore, Session, SessionLogins};

/// Caches of one build.
const MOST: usize = 32;

/// What is to be done with a cache of a registry's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheAccess {
    /// It is read.
    Read,
    /// It is written.
    Write,
}

/// Opens caches that registries have.
pub trait CacheRegistries: Send + Sync {
    /// The cache of this name, which has a tag or a digest. Nothing is asked of the registry yet.
    fn open(
        &self,
        reference: ImageReference,
        login: Option<Credentials>,
        access: CacheAccess,
    ) -> Arc<dyn CacheStore>;
}

/// Where a cache is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CachePlace {
    /// A registry has it under this name.
    Registry(ImageReference),
    /// A directory of the client's, and the manifest that is to be read.
    Local {
        /// As the client names it.
        directory: String,
        /// None where it is written.
        manifest: Option<Digest>,
    },
}

/// A cache that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheTarget {
    /// Where to.
    pub place: CachePlace,
    /// How much of the build.
    pub mode: CacheMode,
    /// Whether the build goes on where it cannot be written.
    pub ignore_error: bool,
}

/// What a client says of caches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CacheTerms {
    /// Where something may have been done before.
    pub imports: Vec<CachePlace>,
    /// Where it is to be told.
    pub exports: Vec<CacheTarget>,
    /// Whether the image itself is to tell it.
    pub inline: bool,
}

fn refused(message: String, class: ErrorClass) -> PortError {
    PortError { message, class }
}

fn invalid(message: impl Into<String>) -> PortError {
    refused(message.into(), ErrorClass::InvalidArgument)
}

/// One cache as it is said: `type=…` and the rest.
struct Said<'a> {
    kind: &'a str,
    attributes: &'a HashMap<String, String>,
}

impl Said<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        let text = self.attributes.get(key).map(String::as_str);
        text.filter(|text| !text.is_empty())
    }

    /// Refuses what would be left out without a word.
    fn check(&self, known: &[&str]) -> Result<(), PortError> {
        let sorted: BTreeMap<_, _> = self.attributes.iter().collect();
        for (key, value) in sorted {
            let is_default = match key.as_str() {
                "image-manifest" | "oci-mediatypes" => value == "true",
                "compression" => value == "gzip",
                "force-compression" | "registry.insecure" => value == "false",
                key => known.contains(&key),
            };
            if !is_default {
                let what = format!("a cache of type {} with {key}={value}", self.kind);
                let message = format!("{what} is not implemented by Hoist yet");
                return Err(refused(message, ErrorClass::NotImplemented));
            }
        }
        Ok(())
    }

    fn registry(&self) -> Result<CachePlace, PortError> {
        let name = self.text("ref");
        let name = name.ok_or_else(|| invalid("a cache of type registry needs its ref"))?;
        let reference = ImageReference::parse(name);
        let reference = reference.map_err(|error| invalid(error.to_string()))?;
        Ok(CachePlace::Registry(reference))
    }

    fn missing(&self) -> PortError {
        let kind = self.kind;
        let message = format!("a cache of type {kind:?} is not implemented by Hoist yet");
        refused(message, ErrorClass::NotImplemented)
    }

    fn import(&self) -> Result<CachePlace, PortError> {
        match self.kind {
            "registry" => {
                self.check(&["ref"])?;
                self.registry()
            }
            "local" => {
                self.check(&["src", "digest", "tag"])?;
                let (directory, digest) = (self.text("src"), self.text("digest"));
                let directory = directory.ok_or_else(|| invalid("a local cache needs its src"))?;
                let digest = digest.ok_or_else(|| invalid("a local cache needs its digest"))?;
                let manifest = digest.parse();
                let manifest = manifest
                    .map_err(|_| invalid(format!("a local cache: invalid digest {digest:?}")))?;
                Ok(CachePlace::Local {
                    directory: directory.to_owned(),
                    manifest: Some(manifest),
                })
            }
            _ => Err(self.missing()),
        }
    }

    /// None: the image is to have it.
    fn export(&self) -> Result<Option<CacheTarget>, PortError> {
        let place = match self.kind {
            "inline" => {
                self.check(&["mode"])?;
                return Ok(None);
            }
            "registry" => {
                self.check(&["ref", "mode", "ignore-error"])?;
                self.registry()?
            }
            "local" => {
                self.check(&["dest", "tag", "mode", "ignore-error"])?;
                let directory = self.text("dest");
                let directory = directory.ok_or_else(|| invalid("a local cache needs its dest"))?;
                CachePlace::Local {
                    directory: directory.to_owned(),
                    manifest: None,
                }
            }
            _ => return Err(self.missing()),
        };
        Ok(Some(CacheTarget {
            place,
            mode: match self.text("mode") {
                None | Some("min") => CacheMode::Min,
                Some("max") => CacheMode::Max,
                Some(other) => {
                    return Err(invalid(format!(
                        "invalid mode {other:?} of a cache: min or max"
                    )));
                }
            },
            ignore_error: matches!(self.text("ignore-error"), Some("true" | "1")),
        }))
    }
}

impl CacheTerms {
    /// Reads what is said, each as its type and its attributes.
    ///
    /// # Errors
    /// It means nothing, or is of a kind that there is not.
    pub fn read<'a>(
        imports: impl IntoIterator<Item = (&'a str, &'a HashMap<String, String>)>,
        exports: impl IntoIterator<Item = (&'a str, &'a HashMap<String, String>)>,
    ) -> Result<Self, PortError> {
        let mut terms = Self::default();
        for (kind, attributes) in imports {
            terms.imports.push(Said { kind, attributes }.import()?);
        }
        for (kind, attributes) in exports {
            match (Said { kind, attributes }).export()? {
                Some(target) => terms.exports.push(target),
                None => terms.inline = true,
            }
        }
        if terms.imports.len() > MOST || terms.exports.len() > MOST {
            return Err(invalid(format!("more than {MOST} caches")));
        }
        Ok(terms)
    }

    /// Those of a request.
    pub(crate) fn of(request: &SolveRequest) -> Result<Self, Status> {
        let Some(cache) = &request.cache else {
            return Ok(Self::default());
        };
        if !cache.export_ref_deprecated.is_empty() || !cache.import_refs_deprecated.is_empty() {
            return Err(error::missing(
                "a cache as clients before BuildKit 0.4 name it",
            ));
        }
        fn said(entry: &CacheOptionsEntry) -> (&str, &HashMap<String, String>) {
            (entry.r#type.as_str(), &entry.attrs)
        }
        let (imports, exports) = (
            cache.imports.iter().map(said),
            cache.exports.iter().map(said),
        );
        Self::read(imports, exports).map_err(|error| status(&error))
    }
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Registry(reference) => write!(f, "{reference}"),
            Self::Local {
                manifest: Some(manifest),
                ..
            } => write!(f, "local:{manifest}"),
            Self::Local { directory, .. } => write!(f, "local:{directory}"),
        }
    }
}

pub(crate) fn status(error: &PortError) -> Status {
    Status::new(error::code(error.class), error.message.clone())
}

async fn open(
    door: &BuildKit,
    session: Option<Session>,
    place: &CachePlace,
    access: CacheAccess,
) -> Result<Arc<dyn CacheStore>, Status> {
    match place {
        CachePlace::Registry(reference) => {
            let logins = SessionLogins(session);
            let login = logins.find(reference.repository().host()).await;
            Ok(door.registries().open(reference.clone(), login, access))
        }
        CachePlace::Local {
            directory,
            manifest,
        } => {
            let session = session
                .ok_or_else(|| Status::failed_precondition("a local cache needs a session"))?;
            let (_, snapshotter) = door.images().stores();
            let store = ClientStore::new(session, directory, manifest.clone(), snapshotter)?;
            Ok(Arc::new(store))
        }
    }
}

async fn session(door: &BuildKit, build: &Build) -> Option<Session> {
    match build.session.as_str() {
        "" => None,
        id => door.sessions().find(id).await,
    }
}

/// Reads the caches that a build names, once for all that is built in it.
pub(crate) async fn imported(
    door: &BuildKit,
    build: &Build,
    platform: &Platform,
) -> Vec<Arc<RemoteCache>> {
    let import = async |place: &CachePlace| {
        let shown = build
            .log
            .begin(&format!("importing cache manifest from {place}"));
        let read = async {
            let session = session(door, build).await;
            let store = open(door, session, place, CacheAccess::Read).await?;
            let imported = RemoteCache::import(store, platform).await;
            imported.map_err(|error| status(&error))
        };
        let read = read.await;
        shown.ended(read.as_ref().err().map(Status::message));
        read.ok().map(Arc::new)
    };
    let import_all = async || {
        let imports = build.caches.imports.iter().map(import);
        let imported = futures_util::future::join_all(imports).await;
        imported.into_iter().flatten().collect::<Vec<_>>()
    };
    build.imported.get_or_init(import_all).await.clone()
}

/// Writes the caches that a build names; answers what clients are told of it.
pub(crate) async fn export(
    door: &BuildKit,
    build: &Build,
    cache: &CacheExport,
) -> Result<HashMap<String, String>, Status> {
    let mut told = HashMap::new();
    for target in &build.caches.exports {
        let title = match target.place {
            CachePlace::Registry(_) => "exporting cache to registry",
            CachePlace::Local { .. } => "exporting cache to client directory",
        };
        let shown = build.log.begin(title);
        let write = async {
            let session = session(door, build).await;
            let store = open(door, session, &target.place, CacheAccess::Write).await?;
            let written = cache.export(store.as_ref(), target.mode).await;
            written.map_err(|error| status(&error))
        };
        match write.await {
            Ok((_, manifest)) => {
                let line = format!("writing cache image manifest {}", manifest.digest);
                shown.progress(&line, 0, true);
                shown.ended(None::<&str>);
                let described = json!({
                    "mediaType": manifest.media_type,
                    "digest": manifest.digest.as_str(),
                    "size": manifest.size,
                });
                told.insert("cache.manifest".to_owned(), described.to_string());
            }
            Err(failed) => {
                shown.ended(Some(failed.message()));
                if !target.ignore_error {
                    return Err(failed);
                }
            }
        }
    }
    Ok(told)
}
