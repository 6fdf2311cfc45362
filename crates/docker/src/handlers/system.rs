//! Ping, version, info, login and the absent plugin subsystem.

use axum::body::Body;
use http::{HeaderValue, StatusCode, header};

use crate::call::{Call, ok, with_type};
use crate::clock::now;
use crate::error::Reply;
use crate::wire::credentials::AuthConfig;
use crate::wire::system::{self as wire, Counts};

/// `GET /_ping`, `HEAD /_ping`.
pub(crate) async fn ping(_call: Call) -> Reply {
    let mut response = with_type(
        "text/plain; charset=utf-8",
        StatusCode::OK,
        Body::from("OK"),
    );
    let headers = response.headers_mut();
    for (name, value) in [
        ("builder-version", "1"),
        ("swarm", "inactive"),
        ("pragma", "no-cache"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-store, must-revalidate"),
    );
    Ok(response)
}

/// `GET /version`.
pub(crate) async fn version(call: Call) -> Reply {
    ok(&wire::version(&call.facade.node))
}

/// `GET /info`.
pub(crate) async fn info(call: Call) -> Reply {
    let engine = call.engine();
    let mut counts = Counts {
        images: engine.images.list().len(),
        files: open_files(),
        now: now().to_string(),
        warnings: engine.networks.warnings(),
        ..Counts::default()
    };
    for container in engine.containers.list() {
        match container.state.status() {
            "running" => counts.running += 1,
            "paused" => counts.paused += 1,
            _ => counts.stopped += 1,
        }
    }
    ok(&wire::info(&call.facade.node, &counts, call.version))
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// `POST /auth`.
pub(crate) async fn authenticate(mut call: Call) -> Reply {
    let config: AuthConfig = call.json().await?;
    let (status, token) = call.engine().images.authenticate(config.into()).await?;
    ok(&serde_json::json!({
        "Status": status,
        "IdentityToken": token.unwrap_or_default(),
    }))
}

/// `POST /hoist/stop-all`: Hoist's own, for the unit that runs before the machine goes down.
pub(crate) async fn stop_all(call: Call) -> Reply {
    let stopped = call.engine().containers.stop_all().await;
    let told: Vec<_> = stopped
        .iter()
        .map(|one| {
            let error = one.exit.as_ref().err().map(ToString::to_string);
            serde_json::json!({
                "Id": one.id.as_str(),
                "Name": one.name,
                "ExitCode": one.exit.as_ref().ok(),
                "Error": error,
            })
        })
        .collect();
    ok(&serde_json::json!({ "Stopped": told }))
}

/// `GET /plugins`: there are none.
pub(crate) async fn plugins(_call: Call) -> Reply {
    ok(&[(); 0])
}
