//! Images come and go: load, import, tag, remove; pulls that fail before and after the first line.

use hoist_testkit::TarBuilder;
use http::Method;
use serde_json::{Value, json};

use crate::support::start;

#[tokio::test]
async fn a_loaded_image_is_listed_inspected_tagged_and_removed() {
    let Some(server) = start().await else { return };
    let (_, images) = server.get("/images/json").await;
    assert_eq!(images[0]["RepoTags"], json!(["busybox:latest"]));
    let (_, image) = server.get("/images/busybox/json").await;
    assert_eq!(image["Config"]["Cmd"], json!(["echo", "from the image"]));
    let id = image["Id"].as_str().unwrap().to_owned();
    let (status, _) = server
        .post(
            "/images/busybox/tag?repo=localhost:5000/team/app&tag=v1",
            Value::Null,
        )
        .await;
    assert_eq!(status, 201);
    let (_, by_name) = server.get("/images/localhost:5000/team/app:v1/json").await;
    assert_eq!(by_name["Id"], id.as_str());
    let (_, filtered) = server
        .get("/images/json?filters={%22reference%22:[%22busy*%22]}")
        .await;
    assert_eq!(filtered[0]["RepoTags"], json!(["busybox:latest"]));
    let (_, history) = server.get("/images/busybox/history").await;
    assert_eq!(history[0]["Id"], id.as_str());

    let (status, error) = server
        .ask(Method::DELETE, &format!("/images/{id}"), None)
        .await;
    assert_eq!(status, 409, "{error}");
    let (_, changes) = server.ask(Method::DELETE, "/images/busybox", None).await;
    assert_eq!(changes, "[{\"Untagged\":\"busybox:latest\"}]\n");
    let (status, changes) = server
        .ask(Method::DELETE, "/images/localhost:5000/team/app:v1", None)
        .await;
    assert_eq!(status, 200);
    assert!(
        changes.contains(&format!("{{\"Deleted\":\"{id}\"}}")),
        "{changes}"
    );
    assert_eq!(server.get("/images/busybox/json").await.0, 404);
}

#[tokio::test]
async fn a_root_file_system_is_imported_with_changes() {
    let Some(server) = start().await else { return };
    let tar = TarBuilder::new()
        .file("etc/x", 0o644, b"x".to_vec())
        .finish();
    let path = "/images/create?fromSrc=-&repo=made&tag=here&message=by+hand&changes=CMD+echo+hi&changes=ENV+A=b";
    let (status, text) = server.ask(Method::POST, path, Some(tar.into())).await;
    assert_eq!(status, 200, "{text}");
    assert!(text.starts_with("{\"status\":\"sha256:"), "{text}");
    let (_, image) = server.get("/images/made:here/json").await;
    assert_eq!(image["Config"]["Env"], json!(["A=b"]));
    assert_eq!(image["Comment"], "by hand");
}

#[tokio::test]
async fn a_broken_archive_is_an_error_and_leaves_nothing() {
    let Some(server) = start().await else { return };
    let (status, text) = server
        .ask(Method::POST, "/images/load", Some("no tar at all".into()))
        .await;
    // In the stream, as Docker says it: docker-py makes its ImageLoadError of that.
    assert_eq!(status, 200, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert!(line["errorDetail"]["message"].is_string(), "{text}");
    assert_eq!(line["error"], line["errorDetail"]["message"]);
    assert_eq!(
        server.get("/images/json").await.1.as_array().unwrap().len(),
        1
    );
}

#[tokio::test]
async fn a_pull_that_fails_says_so_where_it_still_can() {
    let Some(server) = start().await else { return };
    let (status, error) = server
        .post("/images/create?fromImage=nobody&tag=1", Value::Null)
        .await;
    assert_eq!(status, 404);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .starts_with("pull access denied for nobody, ")
    );
    // Without a tag all of them are meant.
    let (status, text) = server
        .ask(Method::POST, "/images/create?fromImage=late", None)
        .await;
    assert_eq!(status, 200);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines[0],
        json!({ "status": "Pulling from library/late", "id": "one" })
    );
    assert_eq!(lines[1]["error"], lines[1]["errorDetail"]["message"]);
    for path in [
        "/images/create",
        "/images/create?fromImage=UPPER",
        "/images/create?fromImage=a&platform=//",
    ] {
        assert_eq!(server.post(path, Value::Null).await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn a_login_is_tried() {
    let Some(server) = start().await else { return };
    let (status, answer) = server
        .post("/auth", json!({ "username": "u", "password": "good" }))
        .await;
    assert_eq!(
        (status, &answer["Status"]),
        (200, &json!("Login Succeeded"))
    );
    let (status, answer) = server
        .post("/auth", json!({ "username": "u", "password": "bad" }))
        .await;
    assert_eq!(status, 401, "{answer}");
}

#[tokio::test]
async fn what_registries_say_is_passed_on_and_filtered() {
    let Some(server) = start().await else { return };
    let (status, found) = server.get("/distribution/r.example/known:1/json").await;
    assert_eq!(status, 200, "{found}");
    assert_eq!(found["Descriptor"]["size"], 700);
    assert_eq!(
        found["Platforms"],
        json!([{"architecture": "arm64", "os": "linux", "variant": "v8"}])
    );
    let (status, error) = server.get("/distribution/r.example/other:1/json").await;
    assert_eq!(status, 404, "{error}");

    let names = |hits: Value| -> Vec<String> {
        let hits = hits.as_array().unwrap().iter();
        hits.map(|hit| format!("{} {}", hit["name"].as_str().unwrap(), hit["star_count"]))
            .collect()
    };
    for (query, expected) in [
        ("term=box", vec!["box25 9", "box25 3"]),
        ("term=box&limit=7", vec!["box7 9", "box7 3"]),
        ("term=box&filters={%22stars%22:[%225%22]}", vec!["box25 9"]),
        (
            "term=box&filters={%22is-official%22:[%22false%22]}",
            vec!["box25 3"],
        ),
        (
            "term=box&filters={%22is-automated%22:[%22true%22]}",
            Vec::new(),
        ),
    ] {
        let (status, hits) = server.get(&format!("/images/search?{query}")).await;
        assert_eq!(
            (status, names(hits)),
            (200, expected.iter().map(|s| (*s).to_owned()).collect()),
            "{query}"
        );
    }
    for query in ["term=box&limit=-1", "term=box&limit=101"] {
        let (status, _) = server.get(&format!("/images/search?{query}")).await;
        assert_eq!(status, 400, "{query}");
    }
}

#[tokio::test]
async fn a_pull_whose_client_reads_nothing_goes_on() {
    use tokio::io::AsyncWriteExt;
    let Some(server) = start().await else { return };
    let mut stuck = tokio::net::UnixStream::connect(&server.socket)
        .await
        .unwrap();
    let request = "POST /images/create?fromImage=talkative&tag=1 HTTP/1.1\r\nHost: d\r\n\r\n";
    stuck.write_all(request.as_bytes()).await.unwrap();
    let patience = std::time::Duration::from_secs(60);
    tokio::time::timeout(patience, crate::fake::TALKED.notified())
        .await
        .expect("the pull waits for its client");
}
