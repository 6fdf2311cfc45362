//! `GET /metrics` of a registry.

use axum::response::IntoResponse;
use axum::routing::get;
use hoist_registry::server::{Counts, Server};
use http::header::CONTENT_TYPE;

use crate::daemon::metrics::{TEXT, of_the_process};
use crate::exposition::{Exposition, Kind};

/// The service: `/metrics` and nothing else.
pub(super) fn router(server: Server) -> axum::Router {
    let metrics = move || {
        let own = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let text = render(&server.counts(), &own);
        async move { ([(CONTENT_TYPE, TEXT)], text).into_response() }
    };
    axum::Router::new().route("/metrics", get(metrics))
}

fn render(counts: &Counts, own: &str) -> String {
    let mut text = Exposition::default();
    let mut requests = text.family(
        "hoist_registry_requests_total",
        Kind::Counter,
        "Requests answered, by endpoint and class of status.",
    );
    for (endpoint, class, count) in &counts.requests {
        requests.sample(&[("endpoint", endpoint), ("status", class)], count);
    }
    for (name, kind, help, value) in [
        (
            "hoist_registry_received_bytes_total",
            Kind::Counter,
            "Bytes of blobs that came.",
            counts.received_bytes,
        ),
        (
            "hoist_registry_answered_bytes_total",
            Kind::Counter,
            "Bytes of blobs that were answered with.",
            counts.answered_bytes,
        ),
        (
            "hoist_registry_collected_bytes_total",
            Kind::Counter,
            "Bytes that collections freed.",
            counts.collected_bytes,
        ),
        (
            "hoist_registry_collections_total",
            Kind::Counter,
            "Collections that came to their end.",
            counts.collections,
        ),
        (
            "hoist_registry_uploads",
            Kind::Gauge,
            "Uploads that are known now.",
            counts.uploads,
        ),
    ] {
        text.family(name, kind, help).sample(&[], value);
    }
    of_the_process(&mut text, own);
    text.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn counts_are_told() {
        let counts = Counts {
            requests: vec![("blob", "2xx", 7), ("manifest", "4xx", 1)],
            received_bytes: 5,
            ..Counts::default()
        };
        let text = render(&counts, "");
        let samples: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("hoist_"))
            .collect();
        expect![[r#"
            hoist_registry_requests_total{endpoint="blob",status="2xx"} 7
            hoist_registry_requests_total{endpoint="manifest",status="4xx"} 1
            hoist_registry_received_bytes_total 5
            hoist_registry_answered_bytes_total 0
            hoist_registry_collected_bytes_total 0
            hoist_registry_collections_total 0
            hoist_registry_uploads 0"#]]
        .assert_eq(&samples.join("\n"));
    }
}
