//! What a client keeps to itself: secrets, and agents that sign for whoever builds.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bollard_buildkit_proto::moby::buildkit::v1::StatusRequest;
use bollard_buildkit_proto::moby::sshforward::v1::ssh_server::Ssh;
use bollard_buildkit_proto::moby::sshforward::v1::{
    BytesMessage, CheckAgentRequest, CheckAgentResponse,
};
use futures_util::stream::{BoxStream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::solve;
use crate::session::{Directory, Session, Shared, control, file};
use crate::support::start;

#[tokio::test]
async fn secrets_are_asked_for_by_the_steps_that_need_them() {
    let Some(server) = start().await else { return };
    let text = "FROM busybox\nRUN --mount=type=secret,id=key,required=true true\n";
    for (name, secrets, works) in [
        (
            "1",
            HashMap::from([("key".to_owned(), b"s".to_vec())]),
            true,
        ),
        ("2", HashMap::new(), false),
    ] {
        let shared = Shared {
            secrets,
            ..Shared::default()
        };
        let dockerfile = Directory::of(vec![file("Dockerfile", text)]);
        let session =
            Session::sharing(&server, dockerfile, Directory::of(Vec::new()), shared).await;
        let mut request = solve(name, &session);
        request
            .frontend_attrs
            .insert("no-cache".to_owned(), String::new());
        let solved = control(&server).await.solve(request).await;
        match solved {
            Ok(_) => assert!(works),
            Err(status) => {
                assert!(
                    !works && status.message() == "secret key: not found",
                    "{status}"
                );
            }
        }
    }
}

/// Agents that say who they are to whatever they are asked.
#[async_trait]
impl Ssh for Shared {
    type ForwardAgentStream = BoxStream<'static, Result<BytesMessage, Status>>;

    async fn check_agent(
        &self,
        request: Request<CheckAgentRequest>,
    ) -> Result<Response<CheckAgentResponse>, Status> {
        let id = &request.get_ref().id;
        match self.agents.contains(id) {
            true => Ok(Response::new(CheckAgentResponse {})),
            // As buildkit's `sshprovider`.
            false => Err(Status::unknown(format!("unset ssh forward key {id}"))),
        }
    }

    async fn forward_agent(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Self::ForwardAgentStream>, Status> {
        let id = request.metadata().get("buildkit.ssh.id").cloned().unwrap();
        let id: Arc<str> = id.to_str().unwrap().into();
        let answers = request.into_inner().map(move |message| {
            let asked = String::from_utf8(message?.data).unwrap();
            let data = format!("{asked} the agent {id}\n").into_bytes();
            Ok(BytesMessage { data })
        });
        Ok(Response::new(answers.boxed()))
    }
}

#[tokio::test]
async fn agents_are_there_for_the_steps_that_ask_for_them() {
    let Some(server) = start().await else { return };
    let text = "FROM busybox\n\
        RUN --mount=type=ssh ask-agent\n\
        RUN --mount=type=ssh,id=other,target=/agent ask-agent\n\
        RUN --mount=type=ssh,id=nobody true\n\
        RUN --mount=type=ssh,id=nobody,required=true true\n";
    let shared = Shared {
        agents: ["default".to_owned(), "other".to_owned()].into(),
        ..Shared::default()
    };
    let dockerfile = Directory::of(vec![file("Dockerfile", text)]);
    let session = Session::sharing(&server, dockerfile, Directory::of(Vec::new()), shared).await;
    let solved = control(&server).await.solve(solve("1", &session)).await;
    assert_eq!(solved.unwrap_err().message(), "ssh agent nobody: not found");
    let request = StatusRequest {
        r#ref: "1".to_owned(),
    };
    let told = control(&server).await.status(request).await;
    let mut told = told.unwrap().into_inner();
    let mut said = String::new();
    while let Some(response) = told.message().await.unwrap() {
        for log in response.logs {
            said.push_str(&String::from_utf8_lossy(&log.msg));
        }
    }
    assert_eq!(said, "who? the agent default\nwho? the agent other\n");
}
