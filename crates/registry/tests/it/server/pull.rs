//! Pulling: "Determining Support", "Pull" and what of "Error Codes" and "Warnings" goes with it.

use super::refused;
use crate::server_support::{OCI_MANIFEST, Served, sha256};

/// "Determining Support" (end-1).
#[test]
fn end_1_says_that_the_api_is_here() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    for path in ["/v2/", "/v2"] {
        let answer = served.get(path);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("docker-distribution-api-version"),
            "registry/2.0"
        );
    }
    assert_eq!(
        served.ask("POST", "/v2/", &[], b"").refusal(),
        refused(405, "UNSUPPORTED")
    );
    assert_eq!(served.get("/v1/").status, 404);
}

/// "Pull", "Pulling blobs" and "Checking if content exists in the registry" (end-2); ranges are RFC 9110 §14.
#[test]
fn end_2_gives_blobs_whole_in_parts_and_by_their_head() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let content: Vec<u8> = (0..700_001_u32).flat_map(u32::to_le_bytes).collect();
    let digest = served.push_blob("a/b", &content);
    let path = format!("/v2/a/b/blobs/{digest}");
    let answer = served.get(&path);
    assert_eq!(
        (answer.status, answer.header("docker-content-digest")),
        (200, digest.as_str())
    );
    assert!(answer.body == content);
    let head = served.ask("HEAD", &path, &[], b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), content.len().to_string());
    for (range, wanted) in [
        ("bytes=0-0", &content[..1]),
        ("bytes=1000000-2000000", &content[1_000_000..=2_000_000]),
        ("bytes=2800000-", &content[2_800_000..]),
        ("bytes=-4", &content[2_800_000..]),
    ] {
        let answer = served.ask("GET", &path, &[("Range", range)], b"");
        assert_eq!(answer.status, 206, "{range}");
        assert!(
            answer.body == wanted,
            "{range}: {} bytes",
            answer.body.len()
        );
        let length = format!("/{}", content.len());
        assert!(answer.header("content-range").ends_with(&length));
    }
    let outside = served.ask("GET", &path, &[("Range", "bytes=2800004-")], b"");
    assert_eq!(
        (outside.status, outside.header("content-range")),
        (416, "bytes */2800004")
    );
}

/// "Pulling blobs", "Error Codes": 404 for what the repository does not have (end-2).
#[test]
fn end_2_keeps_blobs_of_other_repositories_to_itself() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let digest = served.push_blob("a", b"content");
    for path in [
        format!("/v2/b/blobs/{digest}"),
        format!("/v2/a/blobs/{}", sha256(b"other")),
    ] {
        assert_eq!(served.get(&path).refusal(), refused(404, "BLOB_UNKNOWN"));
        assert_eq!(served.ask("HEAD", &path, &[], b"").status, 404);
    }
}

/// "Pulling manifests" and "Checking if content exists in the registry" (end-3).
#[test]
fn end_3_gives_manifests_by_tag_and_by_digest() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let (manifest, digest) = served.push_image("a", "1", b"layer");
    for reference in ["1", digest.as_str()] {
        let path = format!("/v2/a/manifests/{reference}");
        let answer = served.get(&path);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), OCI_MANIFEST);
        assert_eq!(answer.header("docker-content-digest"), digest);
        assert!(answer.body == manifest);
        let head = served.ask("HEAD", &path, &[], b"");
        assert_eq!((head.status, head.body.len()), (200, 0));
        assert_eq!(head.header("content-length"), manifest.len().to_string());
        assert_eq!(head.header("docker-content-digest"), digest);
        let etag = head.header("etag").to_owned();
        assert_eq!(
            served
                .ask("GET", &path, &[("If-None-Match", &etag)], b"")
                .status,
            304
        );
    }
    for reference in ["2", &sha256(b"other")] {
        let answer = served.get(&format!("/v2/a/manifests/{reference}"));
        assert_eq!(answer.refusal(), refused(404, "MANIFEST_UNKNOWN"));
    }
}

/// "Pulling blobs" (end-2), with requests that do not wait for replies (RFC 9112 §9.3.2).
#[test]
fn blobs_that_are_asked_for_at_once_on_one_connection_come_in_order() {
    use std::io::{Read, Write};
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let contents: Vec<Vec<u8>> = (1..=3_u8).map(|byte| vec![byte; 3_000_000]).collect();
    let mut asked = String::new();
    for (number, content) in contents.iter().enumerate() {
        let digest = served.push_blob("a", content);
        let close = if number == 2 {
            "Connection: close\r\n"
        } else {
            ""
        };
        asked += &format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: a\r\n{close}\r\n");
    }
    let mut stream = std::net::TcpStream::connect(served.address).unwrap();
    stream.write_all(asked.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let mut rest = &all[..];
    for content in &contents {
        let end = rest
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4;
        assert!(
            rest[end..].starts_with(content),
            "a blob's bytes are another's"
        );
        rest = &rest[end + content.len()..];
    }
    assert!(rest.is_empty());
}

/// "Warnings".
#[test]
fn every_reply_warns_of_what_it_was_told_to() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = hoist_registry::server::ServerSettings::new(root.path().to_owned());
    settings.warning = Some("this registry \"moves\" on Friday\r\n".to_owned());
    let served = Served::with(settings);
    let wanted = "299 - \"this registry \\\"moves\\\" on Friday\"";
    for path in ["/v2/", "/v2/a/manifests/1"] {
        assert_eq!(served.get(path).header("warning"), wanted);
    }
}
