//! Contexts by name (`--build-context`, `additional_contexts`): what `FROM name` and `COPY --from=name` mean in place of an image of that name.
//!
//! Whoever plans a build asks for images; those that are named otherwise are answered here. A stage of the file that has the name of a context stays the stage,
//! unlike in BuildKit, where the context takes its place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bollard_buildkit_proto::pb;
use hoist_build::plan::{Base, BaseName};
use hoist_build::ports::{BaseImages, BoxFuture, OutputFn, PortError};
use hoist_model::{Digest, ErrorClass, ImageReference, chain};
use tonic::Status;

use crate::bases::base_of;
use crate::builds::Build;
use crate::definition;
use crate::door::BuildKit;
use crate::error::missing;
use crate::session::{Asked, SyncError, fetch_files, fetch_layer};

/// Bytes of a `.dockerignore`.
const IGNORE_LIMIT: u64 = 8 << 20;

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// Another image.
    Image(String),
    /// A directory of the client's, as it calls it, and the session that shares it.
    Directory(String, String),
    /// What another build came to: its image's id.
    Result(Digest),
}

/// The names of one build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named(BTreeMap<String, Source>);

impl Named {
    /// Reads `context:NAME` of a build's attributes; `session` is the build's.
    pub(crate) fn read(
        given: &HashMap<String, String>,
        inputs: &HashMap<String, pb::Definition>,
        session: &str,
    ) -> Result<Self, Status> {
        let mut named = BTreeMap::new();
        for (key, value) in given {
            let Some(name) = key.strip_prefix("context:") else {
                continue;
            };
            let name = name.split("::").next().unwrap_or(name);
            let source = if let Some(image) = value.strip_prefix("docker-image://") {
                Source::Image(image.to_owned())
            } else if let Some(directory) = value.strip_prefix("local:") {
                let shares = given.get(&format!("local-sessionid:{directory}"));
                let shares = shares.map_or(session, String::as_str);
                Source::Directory(directory.to_owned(), shares.to_owned())
            } else if let Some(input) = value.strip_prefix("input:") {
                let input = inputs.get(input).ok_or_else(|| {
                    Status::invalid_argument(format!(
                        "the input {input:?} of the context {name:?} is missing"
                    ))
                })?;
                Source::Result(definition::result(input)?)
            } else {
                let shown: String = value.chars().take(200).collect();
                return Err(missing(format!(
                    "the build context {name:?} from {shown:?}"
                )));
            };
            named.insert(normal_name(name), source);
        }
        Ok(Self(named))
    }
}

/// A name as all that mean the same: `busybox` and `docker.io/library/busybox:latest`.
#[must_use]
pub fn normal_name(name: &str) -> String {
    match ImageReference::parse(name) {
        Ok(reference) => {
            let familiar = reference.familiar();
            familiar
                .strip_suffix(":latest")
                .unwrap_or(&familiar)
                .to_owned()
        }
        Err(_) => name.to_owned(),
    }
}

/// Images, but for those names that stand for something else.
pub(crate) struct NamedBases<B> {
    pub(crate) door: BuildKit,
    pub(crate) build: Arc<Build>,
    pub(crate) named: Named,
    pub(crate) source: B,
}

impl<B: BaseImages> BaseImages for NamedBases<B> {
    fn find<'a>(
        &'a self,
        name: &'a BaseName,
        pull: bool,
        output: OutputFn,
    ) -> BoxFuture<'a, Result<Base, PortError>> {
        Box::pin(async move {
            match self.named.0.get(&normal_name(&name.reference)) {
                None => self.source.find(name, pull, output).await,
                Some(Source::Image(image)) => {
                    let name = BaseName {
                        reference: image.clone(),
                        platform: name.platform.clone(),
                    };
                    self.source.find(&name, pull, output).await
                }
                Some(Source::Directory(directory, session)) => {
                    self.directory(&name.reference, directory, session).await
                }
                Some(Source::Result(id)) => self.result(id),
            }
        })
    }
}

impl<B> NamedBases<B> {
    async fn directory(
        &self,
        name: &str,
        directory: &str,
        session: &str,
    ) -> Result<Base, PortError> {
        let shown = self
            .build
            .log
            .begin(&format!("[context {name}] load from client"));
        let layer = self.fetch(directory, session).await;
        shown.ended(layer.as_ref().err());
        Ok(Base::of_files(vec![layer?]))
    }

    async fn fetch(&self, directory: &str, session: &str) -> Result<Digest, PortError> {
        let failed = |error: SyncError| PortError {
            message: format!("failed to read the build context: {}", chain(&error)),
            class: error.class(),
        };
        let found = self.door.sessions().find(session).await;
        let session = found.ok_or_else(|| PortError {
            message: format!("no active session for {session}"),
            class: ErrorClass::NotFound,
        })?;
        let asked = Asked {
            name: directory.to_owned(),
            follow: vec![".dockerignore".to_owned()],
            ..Asked::default()
        };
        let files = fetch_files(&session, &asked, IGNORE_LIMIT)
            .await
            .map_err(failed)?;
        let text = files.read(".dockerignore").map(String::from_utf8_lossy);
        let exclude = hoist_build::ignore::lines(&text.unwrap_or_default());
        let exclude = exclude.map_err(|error| PortError {
            message: format!(".dockerignore: {error}"),
            class: error.class(),
        })?;
        let contexts = self.door.contexts();
        let key = contexts.key(&session.shared_key, directory, &[&exclude]);
        let before = key.as_deref().and_then(|key| contexts.get(key));
        let asked = Asked {
            name: directory.to_owned(),
            exclude,
            ..Asked::default()
        };
        let (_, snapshotter) = self.door.images().stores();
        let received = fetch_layer(&session, &asked, snapshotter, before, &|_| ()).await;
        let received = received.map_err(failed)?;
        let layer = received.layer.clone();
        if let Some(key) = key {
            contexts.keep(key, received).await;
        }
        Ok(layer)
    }

    /// What a build under way came to, or an image that is here.
    fn result(&self, id: &Digest) -> Result<Base, PortError> {
        if let Some(image) = self.door.builds().result(id) {
            return Ok(Base {
                id: image.id.to_string(),
                config: image.config,
                layers: image.layers,
            });
        }
        let record = self.door.images().resolve(id.as_str());
        let record = record.map_err(|error| PortError {
            message: chain(&error),
            class: error.class(),
        })?;
        base_of(self.door.images(), &record)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::{Named, Source, definition, normal_name};

    fn read(pairs: &[(&str, &str)]) -> Result<Named, tonic::Status> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let given = pairs.iter().map(owned).collect();
        let id = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let inputs = HashMap::from([("base".to_owned(), definition::of_result(&id))]);
        Named::read(&given, &inputs, "s")
    }

    #[test]
    fn names_stand_for_images_directories_and_results() {
        let named = read(&[
            (
                "context:docker.io/library/busybox:latest",
                "docker-image://alpine",
            ),
            ("context:src", "local:src"),
            ("local-sessionid:src", "other"),
            ("context:base", "input:base"),
            ("filename", "Dockerfile"),
        ]);
        let named = named.unwrap().0;
        assert_eq!(named["busybox"], Source::Image("alpine".to_owned()));
        let src = Source::Directory("src".to_owned(), "other".to_owned());
        assert_eq!(named["src"], src);
        assert!(matches!(&named["base"], Source::Result(id) if id.as_str().ends_with("aaa")));
        assert_eq!(normal_name("busybox"), "busybox");
        assert_eq!(normal_name("docker.io/library/busybox"), "busybox");
    }

    #[test]
    fn what_a_name_cannot_stand_for_is_refused() {
        for (value, said) in [
            (
                "https://example.com/x.git",
                "from \"https://example.com/x.git\"",
            ),
            ("oci-layout://x", "from \"oci-layout://x\""),
            ("input:nowhere", "\"nowhere\""),
        ] {
            let status = read(&[("context:x", value)]).unwrap_err();
            assert!(status.message().contains(said), "{status}");
        }
    }
}
