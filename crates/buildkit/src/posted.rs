//! Builds of the classic endpoint that are told of in BuildKit's words (`POST /build?version=2`): the context is in the request, or in the session.

use std::collections::HashMap;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use hoist_build::ports::PortError;
use hoist_engine::images::Intake;
use hoist_model::{Digest, ErrorClass, chain};
use prost::Message as _;

use crate::caches::CacheTerms;
use crate::door::BuildKit;
use crate::session::store_archive;
use crate::{export, frontend};

/// What is to be built.
#[derive(Debug)]
pub struct Posted {
    /// The session whose logins, secrets and directories are of use.
    pub session: String,
    /// As those of the Dockerfile's frontend.
    pub attributes: HashMap<String, String>,
    /// What the image will be called, as written.
    pub tags: Vec<String>,
    /// What came in the request; nothing: the session has it.
    pub context: Option<PostedContext>,
}

/// A context that came in a request.
#[derive(Debug)]
pub struct PostedContext {
    pub(crate) layer: Digest,
    /// Keeps it from being collected.
    pub(crate) intake: Intake,
}

/// What is told of a build.
#[derive(Clone, Debug)]
pub enum Telling {
    /// Encoded: `moby.buildkit.v1.StatusResponse`.
    Status(Vec<u8>),
    /// The image's id. Nothing comes behind it.
    Image(String),
    /// Why there is none. Nothing comes behind it.
    Failure(String),
}

impl BuildKit {
    /// Keeps a context that comes in a request, compressed or not.
    ///
    /// # Errors
    /// It cannot be read or kept.
    pub async fn keep_posted(
        &self,
        body: impl Read + Send + 'static,
    ) -> Result<PostedContext, PortError> {
        let intake = self.images().intake().await;
        let (_, snapshotter) = self.images().stores();
        let storing =
            tokio::task::spawn_blocking(move || store_archive(body, snapshotter.as_ref()));
        let stored = storing.await.map_err(|error| PortError {
            message: error.to_string(),
            class: ErrorClass::Internal,
        })?;
        let layer = stored.map_err(|error| PortError {
            message: format!("reading the build context: {}", chain(&error)),
            class: error.class(),
        })?;
        Ok(PostedContext { layer, intake })
    }

    /// Builds, and tells of it. Dropping the stream ends the build.
    #[must_use]
    pub fn post(&self, posted: Posted) -> BoxStream<'static, Telling> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let name = format!("posted-{}", LAST.fetch_add(1, Ordering::Relaxed));
        let running = match self
            .builds()
            .begin(&name, &posted.session, CacheTerms::default())
        {
            Ok((running, _)) => running,
            Err(status) => {
                let failure = Telling::Failure(status.message().to_owned());
                return stream::iter([failure]).boxed();
            }
        };
        let log = running.build().log.read().fuse();
        let door = self.clone();
        let work = Box::pin(async move {
            let build = running.build();
            let mut request = SolveRequest {
                exporters: vec![Exporter {
                    r#type: "moby".to_owned(),
                    attrs: HashMap::from([("name".to_owned(), posted.tags.join(","))]),
                }],
                ..SolveRequest::default()
            };
            let built = async {
                let exports = export::read(&mut request)?;
                let (attributes, inputs) = (&posted.attributes, HashMap::new());
                let solving = frontend::solve(&door, build, attributes, &inputs, posted.context);
                export::export(&door, build, solving.await?.image(), &exports).await
            };
            match built.await {
                Ok(told) => {
                    let id = told.get("containerimage.digest").cloned();
                    Telling::Image(id.unwrap_or_default())
                }
                Err(status) => Telling::Failure(format!("failed to solve: {}", status.message())),
            }
        });
        // The end of the work closes the log, and the log comes first.
        let state = (log, Some(work), None);
        stream::unfold(state, |(mut log, mut work, mut end)| async move {
            loop {
                let Some(running) = work.as_mut() else {
                    let told = match log.next().await {
                        Some(status) => Telling::Status(status.encode_to_vec()),
                        None => end.take()?,
                    };
                    return Some((told, (log, work, end)));
                };
                tokio::select! {
                    biased;
                    Some(status) = log.next() => {
                        let told = Telling::Status(status.encode_to_vec());
                        return Some((told, (log, work, end)));
                    }
                    ended = running => {
                        work = None;
                        end = Some(ended);
                    }
                }
            }
        })
        .boxed()
    }
}
