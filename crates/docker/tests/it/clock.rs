//! The time of day is set while the engine runs: what lasts lasts as long as before, and what is asked for by time is found.
//!
//! The clock is a thread's own, and each test and all that it serves are on one thread.

use std::time::Duration;

use hoist_engine::clock::{now, shift};
use http::Method;
use serde_json::{Value, json};

use crate::support::{Server, start};

const HOUR: i64 = 3600;

async fn until(what: &str, mut probe: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if probe().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A container whose probe always fails, and runs every few milliseconds.
async fn failing(server: &Server, name: &str, start_period: Duration) {
    let often = 5_000_000;
    let period = u64::try_from(start_period.as_nanos()).unwrap();
    let health = json!({ "Test": ["CMD", "exit", "1"], "Interval": often, "Retries": 2,
        "StartPeriod": period, "StartInterval": often });
    let body = json!({ "Cmd": ["sleep"], "Healthcheck": health });
    server.create(name, body).await;
    let started = server
        .post(&format!("/containers/{name}/start"), Value::Null)
        .await;
    assert_eq!(started.0, 204);
}

async fn health(server: &Server, name: &str) -> Value {
    let (_, seen) = server.get(&format!("/containers/{name}/json")).await;
    seen["State"]["Health"].clone()
}

async fn end(server: &Server, name: &str) {
    let path = format!("/containers/{name}?force=1");
    assert_eq!(server.ask(Method::DELETE, &path, None).await.0, 204);
}

#[tokio::test]
async fn a_start_period_does_not_get_longer_when_the_clock_goes_back() {
    let Some(server) = start().await else { return };
    failing(&server, "web", Duration::from_millis(300)).await;
    shift(-HOUR);
    until("its failures count", async || {
        health(&server, "web").await["Status"] == "unhealthy"
    })
    .await;
    end(&server, "web").await;
}

#[tokio::test]
async fn a_start_period_does_not_end_when_the_clock_goes_forward() {
    let Some(server) = start().await else { return };
    failing(&server, "web", Duration::from_secs(1000)).await;
    shift(2 * HOUR);
    let from = now().to_string();
    until("five probes of after the jump", async || {
        let health = health(&server, "web").await;
        let log = health["Log"].as_array().cloned().unwrap_or_default();
        log.len() == 5
            && log
                .iter()
                .all(|probe| probe["Start"].as_str() > Some(from.as_str()))
    })
    .await;
    let health = health(&server, "web").await;
    assert_eq!(health["Status"], "starting", "{health}");
    assert_eq!(health["FailingStreak"], 0);
    end(&server, "web").await;
}

/// The names of the containers whose start is told of, in order.
async fn told(server: &Server, since: i64, until: i64) -> Vec<String> {
    let path = format!(
        "/events?since={since}&until={until}&filters=%7B%22event%22%3A%5B%22start%22%5D%7D"
    );
    let (status, text) = server.ask(Method::GET, &path, None).await;
    assert_eq!(status, 200, "{text}");
    let events = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    events
        .map(|event| {
            event["Actor"]["Attributes"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn events_are_found_by_their_own_time_when_the_clock_went_back() {
    let Some(server) = start().await else { return };
    let true_now = now().as_seconds();
    for name in ["first", "earlier", "last"] {
        server.create(name, json!({ "Cmd": ["sleep"] })).await;
    }
    let begin = async |name: &str| {
        let path = format!("/containers/{name}/start");
        assert_eq!(server.post(&path, Value::Null).await.0, 204);
    };
    begin("first").await;
    shift(-2 * HOUR);
    begin("earlier").await;
    shift(0);
    begin("last").await;
    let soon = now().as_seconds() + 1;
    assert_eq!(
        told(&server, true_now - 3 * HOUR, soon).await,
        ["first", "earlier", "last"]
    );
    assert_eq!(
        told(&server, true_now - HOUR, soon).await,
        ["first", "last"]
    );
    assert_eq!(
        told(&server, true_now - 3 * HOUR, true_now - HOUR).await,
        ["earlier"]
    );
    for name in ["first", "earlier", "last"] {
        end(&server, name).await;
    }
}

#[tokio::test]
async fn a_stream_of_events_ends_after_the_time_it_was_asked_for() {
    let Some(server) = start().await else { return };
    let until = now().as_seconds() + 2;
    let path = format!("/events?until={until}");
    let streaming = server.ask(Method::GET, &path, None);
    let jump = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // It was asked for two seconds; by the new clock it would be an hour.
        shift(-HOUR);
    };
    let both = async { tokio::join!(streaming, jump) };
    let ended = tokio::time::timeout(Duration::from_secs(30), both).await;
    assert_eq!(ended.expect("the stream goes on").0.0, 200);
}

#[tokio::test]
async fn what_is_pruned_by_age_is_as_old_as_the_clock_says() {
    let Some(server) = start().await else { return };
    for name in ["old", "new"] {
        if name == "old" {
            shift(-2 * HOUR);
        }
        server.create(name, json!({ "Cmd": ["exit", "0"] })).await;
        shift(0);
    }
    let prune = "/containers/prune?filters=%7B%22until%22%3A%5B%221h%22%5D%7D";
    let listed = async || {
        let (_, listed) = server.get("/containers/json?all=1").await;
        let names = listed.as_array().unwrap().iter();
        let mut names: Vec<String> = names
            .map(|c| c["Names"][0].as_str().unwrap().to_owned())
            .collect();
        names.sort();
        names
    };
    // A clock that went back makes nothing older than it is.
    shift(-3 * HOUR);
    assert_eq!(server.post(prune, Value::Null).await.0, 200);
    assert_eq!(listed().await, ["/new", "/old"]);
    shift(0);
    assert_eq!(server.post(prune, Value::Null).await.0, 200);
    assert_eq!(listed().await, ["/new"]);
    shift(2 * HOUR);
    assert_eq!(server.post(prune, Value::Null).await.0, 200);
    assert!(listed().await.is_empty());
}
