//! Create, start, wait, inspect, list, stop, rename, remove; volumes, networks, execs, events.

use http::Method;
use serde_json::{Value, json};

use crate::support::start;

#[tokio::test]
async fn a_container_lives_and_is_told_of() {
    let Some(server) = start().await else { return };
    let id = server
        .create(
            "web",
            json!({ "Cmd": ["sleep"], "Labels": { "a": "b" },
                "HostConfig": { "Binds": ["data:/data"], "PortBindings": { "80/tcp": [{ "HostPort": "8080" }] } } }),
        )
        .await;
    let (_, before) = server.get("/containers/web/json").await;
    assert_eq!(before["State"]["Status"], "created");
    assert_eq!(
        server.post("/containers/web/start", Value::Null).await.0,
        204
    );
    assert_eq!(
        server.post("/containers/web/start", Value::Null).await.0,
        304
    );

    let (_, inspected) = server
        .get(&format!("/v1.44/containers/{}/json", &id[..12]))
        .await;
    assert_eq!(inspected["State"]["Running"], true);
    assert_eq!(inspected["Name"], "/web");
    assert_eq!(inspected["NetworkSettings"]["IPAddress"], "172.30.0.2");
    assert_eq!(
        inspected["NetworkSettings"]["Ports"]["80/tcp"],
        json!([{ "HostIp": "0.0.0.0", "HostPort": "8080" }])
    );
    assert_eq!(inspected["Mounts"][0]["Name"], "data");

    let (_, listed) = server
        .get("/containers/json?filters={%22label%22:[%22a=b%22]}")
        .await;
    assert_eq!(listed[0]["Names"], json!(["/web"]));
    assert_eq!(listed[0]["Image"], "busybox");
    assert!(
        listed[0]["Status"].as_str().unwrap().starts_with("Up "),
        "{listed}"
    );

    assert_eq!(
        server
            .post("/containers/web/rename?name=site", Value::Null)
            .await
            .0,
        204
    );
    assert_eq!(
        server.ask(Method::DELETE, "/containers/site", None).await.0,
        409
    );
    assert_eq!(
        server
            .post("/containers/site/stop?t=1", Value::Null)
            .await
            .0,
        204
    );
    assert_eq!(
        server.post("/containers/site/stop", Value::Null).await.0,
        304
    );
    let (_, waited) = server.post("/containers/site/wait", Value::Null).await;
    assert_eq!(waited, json!({ "StatusCode": 143 }));
    assert_eq!(server.get("/containers/json").await.1, json!([]));
    let (_, all) = server.get("/containers/json?all=1").await;
    assert!(
        all[0]["Status"]
            .as_str()
            .unwrap()
            .starts_with("Exited (143) "),
        "{all}"
    );

    let (status, text) = server.ask(Method::DELETE, "/volumes/data", None).await;
    assert_eq!(status, 409, "{text}");
    assert_eq!(
        server.ask(Method::DELETE, "/containers/site", None).await.0,
        204
    );
    assert_eq!(
        server.ask(Method::DELETE, "/volumes/data", None).await.0,
        204
    );
    assert_eq!(server.get("/containers/site/json").await.0, 404);

    let until = crate::fake::now().as_seconds() + 1;
    let (_, events) = server
        .ask(Method::GET, &format!("/events?since=1&until={until}"), None)
        .await;
    let actions: Vec<String> = events
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["Type"] == "container")
        .map(|event| event["Action"].as_str().unwrap().to_owned())
        .collect();
    for action in [
        "create", "start", "rename", "kill", "die", "stop", "destroy",
    ] {
        assert!(
            actions.iter().any(|seen| seen == action),
            "{action} in {actions:?}"
        );
    }
}

#[tokio::test]
async fn waits_answer_their_head_at_once() {
    let Some(server) = start().await else { return };
    let id = server.create("one", json!({ "Cmd": ["exit", "7"] })).await;
    let request = http::Request::post(format!("/containers/{id}/wait?condition=next-exit"))
        .body(hoist_http::client::empty())
        .unwrap();
    let mut waiting = server.client.send(request).await.unwrap();
    assert_eq!(waiting.status(), 200);
    assert_eq!(
        server.post("/containers/one/start", Value::Null).await.0,
        204
    );
    let body = waiting
        .body_mut()
        .collect_within(1000)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&body[..], b"{\"StatusCode\":7}\n");
    let (status, error) = server
        .post("/containers/one/wait?condition=never", Value::Null)
        .await;
    assert_eq!(
        (status, &error["message"]),
        (400, &json!("invalid condition: \"never\""))
    );
}

#[tokio::test]
async fn a_failed_start_is_told_in_words_the_cli_knows() {
    let Some(server) = start().await else { return };
    server.create("bad", json!({ "Cmd": ["nosuch"] })).await;
    let (status, error) = server.post("/containers/bad/start", Value::Null).await;
    assert_eq!(status, 400);
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("executable file not found"), "{message}");
    let (_, inspected) = server.get("/containers/bad/json").await;
    assert_eq!(inspected["State"]["ExitCode"], 127);
}

#[tokio::test]
async fn what_every_node_has() {
    let Some(server) = start().await else { return };
    let (_, networks) = server.get("/networks").await;
    let mut names: Vec<&str> = networks
        .as_array()
        .unwrap()
        .iter()
        .map(|network| network["Name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["bridge", "host", "none"]);
    assert_eq!(
        server.get("/networks/bridge").await.1["Containers"],
        json!({})
    );
    assert_eq!(server.get("/networks/nope").await.0, 404);
    assert_eq!(server.get("/plugins").await.1, json!([]));
    let (_, info) = server.get("/info").await;
    assert_eq!(info["Images"], 1);
    assert_eq!(info["Warnings"], json!(["the network is not real"]));
    let (_, version) = server.get("/v1.24/version").await;
    assert_eq!(version["ApiVersion"], "1.55");

    let (status, volume) = server
        .post(
            "/volumes/create",
            json!({ "Name": "keep", "Labels": { "x": "y" } }),
        )
        .await;
    assert_eq!((status, &volume["Name"]), (201, &json!("keep")));
    let (_, anonymous) = server.post("/volumes/create", json!({})).await;
    assert_eq!(anonymous["Name"].as_str().unwrap().len(), 64);
    let (_, volumes) = server
        .get("/volumes?filters={%22dangling%22:[%22true%22]}")
        .await;
    assert_eq!(volumes["Volumes"].as_array().unwrap().len(), 2);
    let (_, pruned) = server.post("/volumes/prune", Value::Null).await;
    assert_eq!(pruned["VolumesDeleted"], json!([anonymous["Name"]]));
    assert_eq!(
        server.get("/volumes/keep").await.1["Labels"],
        json!({ "x": "y" })
    );
}
