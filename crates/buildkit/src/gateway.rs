//! `LLBBridge`: a frontend that runs at the client's, which hands the work to ours (buildx and Compose do).
//!
//! ```text
//!  Control.Solve(ref) … waits ─────────────────────────────────────▶ exports
//!  Ping ─▶ Solve(dockerfile.v0, attributes) ─▶ a result's name ─▶ Return(it) ┘
//! ```

use std::collections::HashMap;

use async_trait::async_trait;
use bollard_buildkit_proto::moby::buildkit::v1::VertexWarning;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{
    self, EvaluateRequest, EvaluateResponse, ExecMessage, InputsRequest, InputsResponse,
    NewContainerRequest, NewContainerResponse, PingRequest, PongResponse, ReadDirRequest,
    ReadDirResponse, ReadFileRequest, ReadFileResponse, Ref, ReleaseContainerRequest,
    ReleaseContainerResponse, ResolveImageConfigRequest, ResolveImageConfigResponse,
    ResolveSourceMetaRequest, ResolveSourceMetaResponse, ReturnRequest, ReturnResponse,
    SolveRequest, SolveResponse, StatFileRequest, StatFileResponse, WarnRequest, WarnResponse,
    llb_bridge_server::LlbBridge, result,
};
use futures_util::stream::BoxStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use crate::builds::Build;
use crate::door::BuildKit;
use crate::error::{self, missing};
use crate::frontend::Solved;
use crate::{definition, frontend as dockerfile, worker};

/// Which build a request is for, in its metadata (buildkit `client/buildid`).
const BUILD: &str = "buildkit-controlapi-buildid";

type Answer<T> = Result<Response<T>, Status>;

impl BuildKit {
    async fn build_of(&self, metadata: &MetadataMap) -> Result<std::sync::Arc<Build>, Status> {
        let name = metadata.get(BUILD).and_then(|name| name.to_str().ok());
        let name = name.ok_or_else(|| Status::invalid_argument("no buildid found in context"))?;
        self.builds().find(name).await
    }
}

/// The frontends that are served: the Dockerfile's, by itself or as an image of it.
pub(crate) fn check_frontend(
    frontend: &str,
    attributes: &HashMap<String, String>,
) -> Result<(), Status> {
    match frontend {
        "dockerfile.v0" => Ok(()),
        "gateway.v0" => {
            let source = attributes.get("source").map_or("", String::as_str);
            let name = source.strip_prefix("docker.io/").unwrap_or(source);
            let name = name.split([':', '@']).next().unwrap_or_default();
            if matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream") {
                return Ok(());
            }
            Err(missing(format!("the frontend of the image {source:?}")))
        }
        other => Err(missing(format!("the frontend {other:?}"))),
    }
}

/// The name of the one result that was returned; `None`: there is none.
pub(crate) fn only_result(result: frontend::Result) -> Result<Option<String>, Status> {
    let several = || missing("a build with several results");
    let only = |mut names: Vec<String>| match names.len() {
        0 | 1 => Ok(names.pop()),
        _ => Err(several()),
    };
    let name = match result.result {
        None => None,
        Some(result::Result::RefDeprecated(name)) => Some(name),
        Some(result::Result::Ref(one)) => Some(one.id),
        Some(result::Result::RefsDeprecated(all)) => only(all.refs.into_values().collect())?,
        Some(result::Result::Refs(all)) => {
            only(all.refs.into_values().map(|one| one.id).collect())?
        }
    };
    Ok(name.filter(|name| !name.is_empty()))
}

#[async_trait]
impl LlbBridge for BuildKit {
    async fn ping(&self, request: Request<PingRequest>) -> Answer<PongResponse> {
        self.build_of(request.metadata()).await?;
        Ok(Response::new(PongResponse {
            frontend_api_caps: worker::frontend_capabilities(),
            llb_caps: worker::llb_capabilities(),
            workers: vec![worker::record()],
        }))
    }

    async fn solve(&self, request: Request<SolveRequest>) -> Answer<SolveResponse> {
        let build = self.build_of(request.metadata()).await?;
        let request = request.into_inner();
        if request.frontend.is_empty() {
            return Err(definition::refuse(request.definition.as_ref()));
        }
        check_frontend(&request.frontend, &request.frontend_opt)?;
        let solved = tokio::select! {
            solved = dockerfile::solve(self, &build, &request.frontend_opt, &request.frontend_inputs, None) => solved?,
            () = build.over.cancelled() => return Err(Status::cancelled("the build is over")),
        };
        let mut def = None;
        let (metadata, id) = match solved {
            Solved::Answer(answer) => (answer, String::new()),
            Solved::Image(built) => {
                let config = serde_json::to_vec(&built.image.config);
                let config = config.map_err(|error| Status::internal(error.to_string()))?;
                let metadata = HashMap::from([("containerimage.config".to_owned(), config)]);
                if let Ok(digest) = built.image.id.as_str().parse() {
                    def = Some(definition::of_result(&digest));
                }
                (metadata, build.keep(*built)?)
            }
        };
        let result = frontend::Result {
            metadata,
            result: Some(result::Result::Ref(Ref { id, def })),
            ..frontend::Result::default()
        };
        Ok(Response::new(SolveResponse {
            r#ref: String::new(),
            result: Some(result),
        }))
    }

    async fn evaluate(&self, request: Request<EvaluateRequest>) -> Answer<EvaluateResponse> {
        let build = self.build_of(request.metadata()).await?;
        let name = &request.get_ref().r#ref;
        // All is done before a result has a name.
        match build.image(name) {
            Some(_) => Ok(Response::new(EvaluateResponse {})),
            None => Err(Status::not_found(format!("no such ref: {name}"))),
        }
    }

    async fn r#return(&self, request: Request<ReturnRequest>) -> Answer<ReturnResponse> {
        let build = self.build_of(request.metadata()).await?;
        let request = request.into_inner();
        build.returns(match request.error {
            Some(status) if status.code != 0 => Err(error::returned(status)),
            _ => Ok(request.result.unwrap_or_default()),
        })?;
        Ok(Response::new(ReturnResponse {}))
    }

    async fn warn(&self, request: Request<WarnRequest>) -> Answer<WarnResponse> {
        let build = self.build_of(request.metadata()).await?;
        let warning = request.into_inner();
        build.log.warn(VertexWarning {
            vertex: warning.digest,
            level: warning.level,
            short: warning.short,
            detail: warning.detail,
            url: warning.url,
            info: warning.info,
            ranges: warning.ranges,
        });
        Ok(Response::new(WarnResponse {}))
    }

    async fn inputs(&self, _: Request<InputsRequest>) -> Answer<InputsResponse> {
        Ok(Response::new(InputsResponse::default()))
    }

    async fn resolve_image_config(
        &self,
        _: Request<ResolveImageConfigRequest>,
    ) -> Answer<ResolveImageConfigResponse> {
        Err(missing("resolving images for a frontend"))
    }

    async fn resolve_source_meta(
        &self,
        _: Request<ResolveSourceMetaRequest>,
    ) -> Answer<ResolveSourceMetaResponse> {
        Err(missing("resolving sources for a frontend"))
    }

    async fn read_file(&self, _: Request<ReadFileRequest>) -> Answer<ReadFileResponse> {
        Err(missing("reading a result's files"))
    }

    async fn read_dir(&self, _: Request<ReadDirRequest>) -> Answer<ReadDirResponse> {
        Err(missing("reading a result's directories"))
    }

    async fn stat_file(&self, _: Request<StatFileRequest>) -> Answer<StatFileResponse> {
        Err(missing("looking at a result's files"))
    }

    async fn new_container(&self, _: Request<NewContainerRequest>) -> Answer<NewContainerResponse> {
        Err(missing("a frontend's container"))
    }

    async fn release_container(
        &self,
        _: Request<ReleaseContainerRequest>,
    ) -> Answer<ReleaseContainerResponse> {
        Err(missing("a frontend's container"))
    }

    type ExecProcessStream = BoxStream<'static, Result<ExecMessage, Status>>;

    async fn exec_process(
        &self,
        _: Request<Streaming<ExecMessage>>,
    ) -> Answer<Self::ExecProcessStream> {
        Err(missing("a frontend's container"))
    }

    async fn read_file_container(&self, _: Request<ReadFileRequest>) -> Answer<ReadFileResponse> {
        Err(missing("a frontend's container"))
    }

    async fn read_dir_container(&self, _: Request<ReadDirRequest>) -> Answer<ReadDirResponse> {
        Err(missing("a frontend's container"))
    }

    async fn stat_file_container(&self, _: Request<StatFileRequest>) -> Answer<StatFileResponse> {
        Err(missing("a frontend's container"))
    }
}
