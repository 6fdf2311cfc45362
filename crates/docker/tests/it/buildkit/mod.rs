//! BuildKit's clients: a session whose files are ours to answer for, and the requests that ask for a build, over a real socket.

mod private;
mod refused;

use std::collections::HashMap;

use bollard_buildkit_proto::fsutil::types::Stat;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::llb_bridge_client::LlbBridgeClient;
use bollard_buildkit_proto::moby::buildkit::v1::frontend::{self, PingRequest, ReturnRequest};
use bollard_buildkit_proto::moby::buildkit::v1::{Exporter, SolveRequest, StatusRequest};
use tonic::{Code, Request};

use crate::session::{Directory, Session, Shared, control, directory, file, link};
use crate::support::{Server, start};

const DIRECTORY: u32 = 1 << 31;
const SYMLINK: u32 = 1 << 27;

fn solve(name: &str, session: &Session) -> SolveRequest {
    SolveRequest {
        r#ref: name.to_owned(),
        session: session.id.clone(),
        frontend: "dockerfile.v0".to_owned(),
        exporters: vec![Exporter {
            r#type: "moby".to_owned(),
            attrs: HashMap::from([("name".to_owned(), format!("built:{name}"))]),
        }],
        ..SolveRequest::default()
    }
}

async fn session(server: &Server, dockerfile: &str, context: Vec<(Stat, Vec<u8>)>) -> Session {
    let dockerfile = Directory::of(vec![file("Dockerfile", dockerfile)]);
    Session::start(server, dockerfile, Directory::of(context)).await
}

#[tokio::test]
async fn a_dockerfile_and_its_context_become_an_image() {
    let Some(server) = start().await else { return };
    let context = vec![
        directory("d"),
        file("d/a", "one"),
        link("l", "d/a"),
        file("not-copied", "two"),
    ];
    let session = session(&server, "FROM busybox\nCOPY d l /x/\nRUN true\n", context).await;
    let solved = control(&server)
        .await
        .solve(solve("1", &session))
        .await
        .unwrap();
    let told = solved.into_inner().exporter_response;
    let (_, image) = server.get("/images/built:1/json").await;
    assert_eq!(told["containerimage.digest"], image["Id"].as_str().unwrap());
    assert_eq!(told["image.name"], "docker.io/library/built:1");
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    // What the COPY names is what is asked for.
    assert_eq!(session.followed("context"), ["d", "l"]);

    let status = StatusRequest {
        r#ref: "1".to_owned(),
    };
    let mut told = control(&server)
        .await
        .status(status)
        .await
        .unwrap()
        .into_inner();
    let mut done = Vec::new();
    while let Some(response) = told.message().await.unwrap() {
        let vertexes = response.vertexes.into_iter();
        done.extend(vertexes.filter(|v| v.completed.is_some()).map(|v| v.name));
    }
    done.sort();
    assert_eq!(
        done,
        [
            "[1/3] FROM busybox",
            "[2/3] COPY d l /x/",
            "[3/3] RUN true",
            "[internal] load .dockerignore",
            "[internal] load build context",
            "[internal] load build definition from Dockerfile",
            "exporting to image",
        ]
    );
}

#[tokio::test]
async fn of_a_context_only_what_is_new_is_sent() {
    let Some(server) = start().await else { return };
    let text = "FROM scratch\nCOPY . /\n";
    let mut context: Vec<_> = (0..300)
        .map(|n| file(&format!("f{n:03}"), &format!("{n}")))
        .collect();
    context.push(file("large", &"0123456789abcdef".repeat(200_000)));
    let first = session(&server, text, context.clone()).await;
    control(&server)
        .await
        .solve(solve("1", &first))
        .await
        .unwrap();
    assert_eq!(first.sent("context"), 301);

    let second = session(&server, text, context.clone()).await;
    control(&server)
        .await
        .solve(solve("2", &second))
        .await
        .unwrap();
    assert_eq!(second.sent("context"), 0);
    let id = |n: &str| format!("/images/built:{n}/json");
    let (_, one) = server.get(&id("1")).await;
    let (_, two) = server.get(&id("2")).await;
    assert_eq!(one["Id"], two["Id"]);

    context[7] = file("f007", "other");
    context[7].0.mod_time += 1;
    let third = session(&server, text, context).await;
    control(&server)
        .await
        .solve(solve("3", &third))
        .await
        .unwrap();
    assert_eq!(third.sent("context"), 1);
    let (_, three) = server.get(&id("3")).await;
    assert_ne!(one["RootFS"], three["RootFS"]);
}

#[tokio::test]
async fn a_context_that_no_step_reads_is_not_asked_for() {
    let Some(server) = start().await else { return };
    let session = session(&server, "FROM busybox\nENV A=b\n", vec![file("x", "x")]).await;
    control(&server)
        .await
        .solve(solve("1", &session))
        .await
        .unwrap();
    assert_eq!(session.asked("context"), 0);
}

#[tokio::test]
async fn a_failed_program_is_told_of_with_the_lines_of_the_dockerfile() {
    let Some(server) = start().await else { return };
    let session = session(&server, "FROM busybox\n\nRUN false\n", Vec::new()).await;
    let failed = control(&server).await.solve(solve("1", &session)).await;
    let status = failed.unwrap_err();
    assert_eq!(status.code(), Code::Unknown);
    assert_eq!(
        status.message(),
        "process \"/bin/sh -c false\" did not complete successfully: exit code: 1"
    );
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(
        details.contains("github.com/moby/buildkit/errdefs.Source+json"),
        "{details}"
    );
    assert!(details.contains(r#""start":{"line":3}"#), "{details}");
    assert_eq!(server.get("/images/built:1/json").await.0, 404);
}

#[tokio::test]
async fn a_frontend_at_the_clients_hands_the_work_to_ours() {
    let Some(server) = start().await else { return };
    let session = session(&server, "FROM busybox\nCOPY a /\n", vec![file("a", "a")]).await;
    let whole = SolveRequest {
        frontend: String::new(),
        ..solve("1", &session)
    };
    let mut waiting = control(&server).await;
    let waiting = tokio::spawn(async move { waiting.solve(whole).await });
    let channel = crate::session::channel(&server).await;
    let mut bridge = LlbBridgeClient::with_interceptor(channel, |mut request: Request<()>| {
        let key = "buildkit-controlapi-buildid";
        request.metadata_mut().insert(key, "1".parse().unwrap());
        Ok(request)
    });
    let pong = bridge.ping(PingRequest {}).await.unwrap().into_inner();
    assert!(pong.frontend_api_caps.iter().any(|cap| cap.id == "return"));
    let asked = frontend::SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        ..frontend::SolveRequest::default()
    };
    let solved = bridge.solve(asked).await.unwrap().into_inner();
    let returned = ReturnRequest {
        result: solved.result,
        error: None,
    };
    bridge.r#return(returned.clone()).await.unwrap();
    let told = waiting.await.unwrap().unwrap().into_inner();
    let (_, image) = server.get("/images/built:1/json").await;
    let digest = &told.exporter_response["containerimage.digest"];
    assert_eq!(image["Id"], digest.as_str());
    let again = bridge.r#return(returned).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn connections_are_taken_for_h2c_alone_and_sessions_have_names() {
    let Some(server) = start().await else { return };
    let (response, _) = server.upgrade("/grpc", None).await;
    assert_eq!(response.status(), 400);
    let (status, text) = server.ask(http::Method::POST, "/session", None).await;
    assert_eq!(status, 400);
    assert!(text.contains("X-Docker-Expose-Session-Uuid"), "{text}");
}

fn with_output(kind: &str, request: SolveRequest) -> SolveRequest {
    SolveRequest {
        exporters: vec![Exporter {
            r#type: kind.to_owned(),
            attrs: HashMap::from([("name".to_owned(), "sent:1".to_owned())]),
        }],
        ..request
    }
}

#[tokio::test]
async fn what_was_built_goes_to_the_client_as_archive_tar_or_directory() {
    let Some(server) = start().await else { return };
    let text = "FROM busybox\nCOPY a /d/a\nCOPY large /\n";
    let large = "0123456789abcdef".repeat(20_000);
    let context = vec![file("a", "one"), file("large", &large)];
    for kind in ["docker", "tar", "local"] {
        let files = (kind == "local").then(Default::default);
        let shared = Shared {
            files: files.clone(),
            ..Shared::default()
        };
        let dockerfile = Directory::of(vec![file("Dockerfile", text)]);
        let context = Directory::of(context.clone());
        let session = Session::sharing(&server, dockerfile, context, shared.clone()).await;
        let request = with_output(kind, solve(kind, &session));
        let told = control(&server).await.solve(request).await.unwrap();
        let told = told.into_inner().exporter_response;
        assert!(told["containerimage.digest"].starts_with("sha256:"));
        assert_eq!(server.get("/images/sent:1/json").await.0, 404, "{kind}");
        let output = shared.output.lock().unwrap().clone();
        if kind == "docker" {
            let (status, loaded) = server
                .ask(
                    http::Method::POST,
                    "/images/load?quiet=1",
                    Some(output.into()),
                )
                .await;
            assert_eq!(status, 200, "{loaded}");
            let (_, image) = server.get("/images/sent:1/json").await;
            assert_eq!(image["Id"], told["containerimage.digest"].as_str());
            server
                .ask(http::Method::DELETE, "/images/sent:1", None)
                .await;
        } else if kind == "tar" {
            let has = |name: &str| output.windows(name.len()).any(|w| w == name.as_bytes());
            assert!(has("d/a") && has("hello") && has(&large));
        } else {
            let files = files.unwrap();
            let mut files = files.lock().unwrap().clone();
            files.retain(|(stat, _)| ["d", "d/a", "hello", "large"].contains(&stat.path.as_str()));
            let paths: Vec<_> = files.iter().map(|(stat, _)| stat.path.as_str()).collect();
            assert_eq!(paths, ["d", "d/a", "hello", "large"]);
            assert_eq!(files[1].1, b"one");
            assert_eq!(files[3].1, large.as_bytes());
        }
    }
}

#[tokio::test]
async fn a_context_can_be_an_archive_of_the_session() {
    let Some(server) = start().await else { return };
    let archive = hoist_testkit::TarBuilder::new()
        .file(
            "sub/Dockerfile",
            0o644,
            b"FROM busybox\nCOPY x /\n".to_vec(),
        )
        .file("x", 0o644, b"x".to_vec())
        .finish();
    let shared = Shared {
        archive: archive.clone(),
        ..Shared::default()
    };
    let nothing = || Directory::of(Vec::new());
    let session = Session::sharing(&server, nothing(), nothing(), shared).await;
    let mut request = solve("1", &session);
    let address = "http://buildkit-session/archive".to_owned();
    request
        .frontend_attrs
        .insert("context".to_owned(), address.clone());
    let missing = control(&server)
        .await
        .solve(request.clone())
        .await
        .unwrap_err();
    assert!(
        missing.message().contains("open Dockerfile: no such file"),
        "{missing}"
    );
    request
        .frontend_attrs
        .insert("filename".to_owned(), "sub/Dockerfile".to_owned());
    control(&server).await.solve(request.clone()).await.unwrap();
    assert_eq!(server.get("/images/built:1/json").await.0, 200);

    let shared = Shared {
        archive: archive[..520].to_vec(),
        ..Shared::default()
    };
    let session = Session::sharing(&server, nothing(), nothing(), shared).await;
    request.session = session.id.clone();
    let cut = control(&server).await.solve(request).await.unwrap_err();
    assert!(
        cut.message().contains("failed to read the build context"),
        "{cut}"
    );
}

#[tokio::test]
async fn a_posted_build_of_version_2_is_told_of_in_buildkits_words() {
    let Some(server) = start().await else { return };
    let session = session(&server, "FROM busybox\nCOPY x /\n", vec![file("x", "x")]).await;
    let context = hoist_testkit::TarBuilder::new()
        .file(
            "Dockerfile",
            0o644,
            b"FROM busybox\nARG A\nLABEL a=$A\nCOPY x /\n".to_vec(),
        )
        .file("x", 0o644, b"x".to_vec())
        .finish();
    let path = format!(
        "/build?version=2&session={}&t=posted:1&buildargs={{%22A%22:%22b%22}}",
        session.id
    );
    let (status, text) = server
        .ask(http::Method::POST, &path, Some(context.into()))
        .await;
    assert_eq!(status, 200, "{text}");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(lines.iter().any(|line| line["id"] == "moby.buildkit.trace"));
    let (_, image) = server.get("/images/posted:1/json").await;
    assert_eq!(image["Config"]["Labels"]["a"], "b");
    let last = lines.last().unwrap();
    assert_eq!(last["id"], "moby.image.id");
    assert_eq!(last["aux"]["ID"], image["Id"]);

    let path = format!(
        "/build?version=2&session={}&t=posted:2&remote=client-session&target=nowhere",
        session.id
    );
    let (status, text) = server.ask(http::Method::POST, &path, None).await;
    assert_eq!(status, 200, "{text}");
    assert!(
        text.contains("target stage \\\"nowhere\\\" could not be found"),
        "{text}"
    );
    let (status, text) = server
        .ask(http::Method::POST, "/build?version=2", None)
        .await;
    assert_eq!(status, 400);
    assert!(text.contains("needs a session"), "{text}");
}

/// A client that goes takes its build along: its name is free again, and its results are nobody's.
#[tokio::test]
async fn a_build_is_gone_with_its_client() {
    let Some(server) = start().await else { return };
    let session = session(&server, "FROM busybox\n", Vec::new()).await;
    let whole = SolveRequest {
        frontend: String::new(),
        ..solve("1", &session)
    };
    let mut client = control(&server).await;
    let (first, request) = (
        whole.clone(),
        StatusRequest {
            r#ref: "1".to_owned(),
        },
    );
    let waiting = tokio::spawn(async move { client.solve(first).await });
    let mut told = control(&server)
        .await
        .status(request)
        .await
        .unwrap()
        .into_inner();
    waiting.abort();
    // The log of a build that is over ends.
    while told.message().await.unwrap().is_some() {}
    let again = SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        ..whole
    };
    control(&server).await.solve(again).await.unwrap();
}

#[tokio::test]
async fn names_stand_for_images_directories_and_results_of_other_builds() {
    let Some(server) = start().await else { return };
    let text = "FROM base\nCOPY --from=src x /copied\n";
    let session = session(&server, text, vec![file("x", "x")]).await;
    let with = |mut request: SolveRequest, names: &[(&str, &str)]| {
        for (name, source) in names {
            let key = format!("context:{name}");
            request.frontend_attrs.insert(key, (*source).to_owned());
        }
        request
    };
    let names = [("base", "docker-image://busybox"), ("src", "local:context")];
    let first = with(solve("1", &session), &names);
    control(&server).await.solve(first).await.unwrap();
    let (_, image) = server.get("/images/built:1/json").await;
    assert_eq!(
        image["Config"]["Cmd"],
        serde_json::json!(["echo", "from the image"])
    );

    // A frontend at the client's gets a result, and hands it to another build as its input.
    let whole = SolveRequest {
        frontend: String::new(),
        ..solve("2", &session)
    };
    let mut waiting = control(&server).await;
    let waiting = tokio::spawn(async move { waiting.solve(whole).await });
    let channel = crate::session::channel(&server).await;
    let mut bridge = LlbBridgeClient::with_interceptor(channel, |mut request: Request<()>| {
        let key = "buildkit-controlapi-buildid";
        request.metadata_mut().insert(key, "2".parse().unwrap());
        Ok(request)
    });
    let asked = frontend::SolveRequest {
        frontend: "dockerfile.v0".to_owned(),
        frontend_opt: with(SolveRequest::default(), &names).frontend_attrs,
        ..frontend::SolveRequest::default()
    };
    let solved = bridge.solve(asked).await.unwrap().into_inner();
    let Some(frontend::result::Result::Ref(one)) = solved.result.clone().unwrap().result else {
        panic!("a result is a ref");
    };
    let mut linked = with(
        solve("3", &session),
        &[("base", "input:base"), ("src", "local:context")],
    );
    linked
        .frontend_inputs
        .insert("base".to_owned(), one.def.unwrap());
    let told = control(&server).await.solve(linked).await.unwrap();
    assert!(
        told.into_inner()
            .exporter_response
            .contains_key("containerimage.digest")
    );
    let (_, image) = server.get("/images/built:3/json").await;
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 3);
    drop(bridge);
    waiting.abort();
}

#[tokio::test]
async fn a_session_can_be_a_stream_of_the_services() {
    let Some(server) = start().await else { return };
    let dockerfile = Directory::of(vec![file("Dockerfile", "FROM busybox\nCOPY x /\n")]);
    let context = Directory::of(vec![file("x", &"x".repeat(300_000))]);
    let session = Session::inside(&server, dockerfile, context).await;
    control(&server)
        .await
        .solve(solve("1", &session))
        .await
        .unwrap();
    assert_eq!(session.sent("context"), 1);
    assert_eq!(server.get("/images/built:1/json").await.0, 200);
}
