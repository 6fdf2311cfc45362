//! `Control`: what a client asks of who builds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bollard_buildkit_proto::health::health_check_response::ServingStatus;
use bollard_buildkit_proto::health::health_server::Health;
use bollard_buildkit_proto::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use bollard_buildkit_proto::moby::buildkit::v1::control_server::Control;
use bollard_buildkit_proto::moby::buildkit::v1::{
    BuildHistoryEvent, BuildHistoryRequest, BytesMessage, DiskUsageRequest, DiskUsageResponse,
    InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, PruneRequest, SolveRequest,
    SolveResponse, StatusRequest, StatusResponse, UpdateBuildHistoryRequest,
    UpdateBuildHistoryResponse, UsageRecord,
};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use hoist_build::{Budget, CacheRecord};
use hoist_engine::clock;
use hoist_http::Connection;
use hoist_model::{Digest, chain};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use crate::builds::{Build, Built, Returned};
use crate::caches::{self, CacheTerms};
use crate::door::BuildKit;
use crate::error::{self, missing};
use crate::export;
use crate::filters::{self, Filters};
use crate::session::SessionHead;
use crate::{definition, frontend, gateway, status, worker};

type Answer<T> = Result<Response<T>, Status>;
/// Bytes on their way in a session that is a stream, in each direction.
const SESSION_BUFFER: usize = 64 << 10;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

impl BuildKit {
    /// What the client's build comes to: by a frontend of ours, or by what the gateway's client returns.
    async fn built(
        &self,
        build: &Arc<Build>,
        request: &SolveRequest,
        returned: oneshot::Receiver<Returned>,
    ) -> Result<Option<Built>, Status> {
        if let Some(definition) = &request.definition {
            return Err(definition::refuse(Some(definition)));
        }
        if !request.frontend.is_empty() {
            gateway::check_frontend(&request.frontend, &request.frontend_attrs)?;
            let (attributes, inputs) = (&request.frontend_attrs, &request.frontend_inputs);
            let solved = frontend::solve(self, build, attributes, inputs, None).await?;
            return Ok(solved.image());
        }
        let returned = returned.await;
        let result = returned.map_err(|_| Status::cancelled("the build is over"))??;
        let Some(name) = gateway::only_result(result)? else {
            return Ok(None);
        };
        let built = build.take(&name);
        built
            .map(Some)
            .ok_or_else(|| Status::not_found(format!("no such ref: {name}")))
    }
}

fn usage(record: &CacheRecord, shared: &HashSet<Digest>) -> UsageRecord {
    UsageRecord {
        id: record.key.clone(),
        size: i64::try_from(record.size).unwrap_or(i64::MAX),
        created_at: Some(status::timestamp(record.created)),
        last_used_at: Some(status::timestamp(record.used)),
        usage_count: i64::try_from(record.uses).unwrap_or(i64::MAX),
        description: record.description.clone(),
        record_type: record.kind().to_owned(),
        shared: filters::is_shared(record, shared),
        ..UsageRecord::default()
    }
}

#[async_trait]
impl Control for BuildKit {
    async fn solve(&self, request: Request<SolveRequest>) -> Answer<SolveResponse> {
        let mut request = request.into_inner();
        let exports = export::read(&mut request)?;
        let caches = CacheTerms::of(&request)?;
        let (name, session) = (&request.r#ref, &request.session);
        let (running, returned) = self.builds().begin(name, session, caches)?;
        let build = running.build();
        let built = self.built(build, &request, returned).await;
        if built.is_err() {
            // Contexts, and what a failed step left, are nobody's.
            self.images().collect_soon();
        }
        let built = built?;
        let mut cached = HashMap::new();
        if let Some(built) = &built {
            // Before the image: what was built is held until that is taken note of.
            cached = caches::export(self, build, &built.cache).await?;
        }
        let mut told = export::export(self, build, built, &exports).await?;
        told.extend(cached);
        Ok(Response::new(SolveResponse {
            exporter_response: told,
        }))
    }

    type StatusStream = Answers<StatusResponse>;

    async fn status(&self, request: Request<StatusRequest>) -> Answer<Self::StatusStream> {
        let build = self.builds().find(&request.get_ref().r#ref).await?;
        Ok(Response::new(build.log.read().map(Ok).boxed()))
    }

    async fn info(&self, _: Request<InfoRequest>) -> Answer<InfoResponse> {
        Ok(Response::new(InfoResponse {
            buildkit_version: Some(worker::version()),
        }))
    }

    async fn list_workers(&self, _: Request<ListWorkersRequest>) -> Answer<ListWorkersResponse> {
        Ok(Response::new(ListWorkersResponse {
            record: vec![worker::record()],
        }))
    }

    async fn disk_usage(&self, request: Request<DiskUsageRequest>) -> Answer<DiskUsageResponse> {
        let request = request.into_inner();
        let filters = Filters::read(&request.filter)?;
        let old = clock::now().as_nanos().saturating_sub(request.age_limit);
        let shared = self.images().layers();
        let mut records = self.builder().cached();
        records.retain(|record| filters.fit(record, &shared) && record.used.as_nanos() <= old);
        records.sort_by_key(|record| std::cmp::Reverse(record.used));
        let record = records
            .iter()
            .map(|record| usage(record, &shared))
            .collect();
        Ok(Response::new(DiskUsageResponse { record }))
    }

    type PruneStream = Answers<UsageRecord>;

    async fn prune(&self, request: Request<PruneRequest>) -> Answer<Self::PruneStream> {
        let request = request.into_inner();
        let filters = Filters::read(&request.filter)?;
        let old = clock::now()
            .as_nanos()
            .saturating_sub(request.keep_duration);
        let bytes = |given: i64| u64::try_from(given).unwrap_or(0);
        let budget = Budget {
            max_used: bytes(request.max_used_space),
            reserved: bytes(request.reserved_space),
            min_free: bytes(request.min_free_space),
        };
        let shared = self.images().layers();
        let is_wanted =
            |record: &CacheRecord| record.used.as_nanos() <= old && filters.fit(record, &shared);
        let before = self.builder().cached();
        let pruned = self.builder().prune_to(&budget, is_wanted).await;
        let pruned =
            pruned.map_err(|failed| Status::new(error::code(failed.class()), chain(&failed)))?;
        self.images().collect_soon();
        let keys: HashSet<_> = pruned.keys.into_iter().collect();
        let gone = before
            .into_iter()
            .filter(|record| keys.contains(&record.key));
        let gone: Vec<_> = gone.map(|record| Ok(usage(&record, &shared))).collect();
        Ok(Response::new(stream::iter(gone).boxed()))
    }

    type SessionStream = Answers<BytesMessage>;

    /// A session whose connection is this stream: several builds of one client share it (bake).
    async fn session(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Answer<Self::SessionStream> {
        let owner = request.extensions().get::<Connection>().cloned();
        let owner = owner.ok_or_else(|| Status::internal("a request without a connection"))?;
        let (metadata, _, mut messages) = request.into_parts();
        let head = SessionHead::read(&metadata.into_headers());
        let head = head.ok_or_else(|| {
            Status::invalid_argument(
                "x-docker-expose-session-uuid is missing: whose session is this?",
            )
        })?;
        let (ours, theirs) = tokio::io::duplex(SESSION_BUFFER);
        let (read, mut write) = tokio::io::split(ours);
        let (door, tasks) = (self.clone(), owner.clone());
        owner.spawn(async move { door.sessions().serve(head, &tasks, theirs).await });
        owner.spawn(async move {
            while let Ok(Some(message)) = messages.message().await {
                if write.write_all(&message.data).await.is_err() {
                    return;
                }
            }
            let _ = write.shutdown().await;
        });
        let answers = stream::unfold(read, |mut read| async move {
            let mut data = vec![0; SESSION_BUFFER / 2];
            let count = read.read(&mut data).await.ok().filter(|count| *count > 0)?;
            data.truncate(count);
            Some((Ok(BytesMessage { data }), read))
        });
        Ok(Response::new(answers.boxed()))
    }

    type ListenBuildHistoryStream = Answers<BuildHistoryEvent>;

    async fn listen_build_history(
        &self,
        _: Request<BuildHistoryRequest>,
    ) -> Answer<Self::ListenBuildHistoryStream> {
        Err(missing("the history of builds"))
    }

    async fn update_build_history(
        &self,
        _: Request<UpdateBuildHistoryRequest>,
    ) -> Answer<UpdateBuildHistoryResponse> {
        Err(missing("the history of builds"))
    }
}

#[async_trait]
impl Health for BuildKit {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Answer<HealthCheckResponse> {
        Ok(Response::new(serving()))
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Answer<HealthListResponse> {
        Err(missing("a list of services"))
    }

    type WatchStream = Answers<HealthCheckResponse>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Answer<Self::WatchStream> {
        // It serves for as long as the connection is there.
        let once = stream::once(std::future::ready(Ok(serving())));
        Ok(Response::new(once.chain(stream::pending()).boxed()))
    }
}

fn serving() -> HealthCheckResponse {
    HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    }
}
