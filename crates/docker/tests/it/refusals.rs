//! What is not there, not served or not well-formed, and the headers every reply carries.

use hoist_docker::operations::{OPERATIONS, Support};
use http::Method;
use serde_json::{Value, json};

use crate::support::start;

#[tokio::test]
async fn every_operation_is_answered_as_the_table_says() {
    let Some(server) = start().await else { return };
    for operation in OPERATIONS {
        let path = operation
            .path
            .replace("{id}", "nobody")
            .replace("{name}", "nobody/at/all")
            .replace("{checkpoint}", "none");
        let method: Method = operation.method.parse().unwrap();
        let (status, answer) = match operation.support {
            Support::Served | Support::Partly(_) => continue,
            _ => server.ask(method.clone(), &path, None).await,
        };
        let expected: &[u16] = match operation.support {
            Support::Absent(_) => &[501],
            _ if operation.id == "PluginList" => &[200],
            _ if operation.id.starts_with("Plugin") => &[404],
            _ => &[503],
        };
        assert!(
            expected.contains(&status),
            "{}: {status} {answer}",
            operation.id
        );
        if let Support::Absent(what) = operation.support
            && method != Method::HEAD
        {
            let message: Value = serde_json::from_str(&answer).unwrap();
            let text = message["message"].as_str().unwrap();
            assert!(text.contains(operation.id) && text.contains(what), "{text}");
        }
    }
}

#[tokio::test]
async fn every_reply_carries_what_clients_read() {
    let Some(server) = start().await else { return };
    for (method, path, status) in [
        (Method::HEAD, "/_ping", 200),
        (Method::GET, "/v1.30/_ping", 200),
        (Method::GET, "/nothing/here", 404),
        (Method::GET, "/v1.99/info", 400),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .body(hoist_http::client::empty())
            .unwrap();
        let response = server.client.send(request).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(header("api-version"), "1.55");
        assert_eq!(header("ostype"), "linux");
        assert_eq!(header("docker-experimental"), "false");
        assert!(header("server").starts_with("Docker/29."));
        if status == 200 {
            assert_eq!(header("builder-version"), "1");
            assert_eq!(header("swarm"), "inactive");
        }
    }
    assert_eq!(server.get("/_ping").await.1, json!("OK"));
    assert_eq!(
        server.get("/nothing").await.1,
        json!({ "message": "page not found" })
    );
}

#[tokio::test]
async fn what_is_malformed_is_refused_by_name() {
    let Some(server) = start().await else { return };
    let create = "/containers/create";
    for (body, expected) in [
        (
            r#"{"Image":"busybox""#,
            "invalid JSON: got EOF while reading request body",
        ),
        (r#"{"Image":"busybox"} x"#, "unexpected content after JSON"),
        (
            r#"{"Image":3}"#,
            "invalid JSON: Image: invalid type: integer `3`, expected a string",
        ),
        (
            "{}",
            "config cannot be empty in order to create a container",
        ),
        (
            r#"{"Image":"busybox","HostConfig":{"Memory":1}}"#,
            "Minimum memory limit allowed is 6MB",
        ),
    ] {
        let (status, text) = server
            .ask(Method::POST, create, Some(body.to_owned().into()))
            .await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (status, &answer["message"]),
            (400, &json!(expected)),
            "{body}"
        );
    }
    let (status, error) = server.post(create, json!({ "Image": "nobody" })).await;
    assert_eq!(
        (status, &error["message"]),
        (404, &json!("No such image: nobody:latest"))
    );
    // An unknown network is told at the start, as Docker does.
    let lost = json!({ "HostConfig": { "NetworkMode": "nowhere" } });
    server.create("lost", lost).await;
    let (status, error) = server.post("/containers/lost/start", Value::Null).await;
    assert_eq!(
        (status, &error["message"]),
        (
            404,
            &json!("failed to set up container networking: network nowhere not found")
        )
    );
    let (status, error) = server
        .post(&format!("{create}?name=-x"), json!({ "Image": "busybox" }))
        .await;
    assert_eq!(status, 400, "{error}");
    server.create("taken", json!({})).await;
    let (status, error) = server
        .post(
            &format!("{create}?name=taken"),
            json!({ "Image": "busybox" }),
        )
        .await;
    assert_eq!(status, 409);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("is already in use by container")
    );

    for (path, status, message) in [
        ("/containers/nobody/start", 404, "No such container: nobody"),
        ("/commit", 400, "invalid name or ID supplied: \"\""),
        (
            "/containers/taken/start?checkpoint=one",
            400,
            "checkpoint is only supported in experimental mode",
        ),
        (
            "/containers/taken/kill?signal=NOPE",
            400,
            "invalid signal: NOPE",
        ),
        (
            "/containers/taken/stop?t=x",
            400,
            "invalid value \"x\" for parameter t",
        ),
        (
            "/containers/taken/rename?name=",
            400,
            "Neither old nor new names may be empty",
        ),
    ] {
        let (got, error) = server.post(path, Value::Null).await;
        assert_eq!(
            (got, &error["message"]),
            (status, &json!(message)),
            "{path}"
        );
    }
    let (status, error) = server.post("/containers/taken/kill", Value::Null).await;
    assert_eq!(status, 409, "{error}");
    let (status, error) = server.get("/containers/json?filters={%22x%22:[]}").await;
    assert_eq!(
        (status, &error["message"]),
        (400, &json!("invalid filter 'x'"))
    );
}

#[tokio::test]
async fn volumes_of_a_swarm_are_refused_as_without_one() {
    let Some(server) = start().await else { return };
    let body = json!({"Name": "shared", "ClusterVolumeSpec": {"Group": "g"}});
    let (status, answer) = server.post("/v1.42/volumes/create", body.clone()).await;
    assert_eq!(status, 503, "{answer}");
    let text = answer["message"].as_str().unwrap();
    assert!(
        text.starts_with("This node is not a swarm manager."),
        "{text}"
    );
    assert_eq!(server.get("/volumes/shared").await.0, 404);
    // Before 1.42 there is no such member.
    let (status, answer) = server.post("/v1.41/volumes/create", body).await;
    assert_eq!((status, answer["Driver"].as_str()), (201, Some("local")));
    let (status, answer) = server
        .ask(Method::PUT, "/volumes/shared?version=1", None)
        .await;
    assert_eq!(status, 503, "{answer}");
    assert!(
        answer.contains("volume update only valid for cluster volumes, but swarm is unavailable")
    );
}
