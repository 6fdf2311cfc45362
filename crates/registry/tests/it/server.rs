//! The requirements of OCI distribution 1.1, each case named by the endpoint's number in its table ("Endpoints", end-1 to
//! end-13); what belongs to none of them is named by its section.

use serde_json::json;

use crate::server_support::{OCI_INDEX, OCI_MANIFEST, Served, sha256, sha512};

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

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

#[test]
fn end_4a_and_6_take_a_blob_in_one_piece() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    for content in [&b"content"[..], b""] {
        let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
        assert_eq!(begun.status, 202);
        let digest = sha256(content);
        let path = format!("{}?digest={digest}", begun.header("location"));
        let done = served.ask(
            "PUT",
            &path,
            &[("Content-Type", "application/octet-stream")],
            content,
        );
        assert_eq!(done.status, 201, "{}", done.text());
        assert_eq!(done.header("location"), format!("/v2/a/blobs/{digest}"));
        assert_eq!(done.header("docker-content-digest"), digest);
        assert_eq!(served.get(done.header("location")).body, content);
        // The upload is over.
        let again = served.get(begun.header("location"));
        assert_eq!(again.refusal(), refused(404, "BLOB_UPLOAD_UNKNOWN"));
    }
}

#[test]
fn end_4b_takes_a_blob_with_its_first_request() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    for digest in [sha256(b"content"), sha512(b"content")] {
        let path = format!("/v2/a/blobs/uploads/?digest={digest}");
        let done = served.ask("POST", &path, &[], b"content");
        assert_eq!(done.status, 201, "{}", done.text());
        assert_eq!(served.get(done.header("location")).body, b"content");
    }
}

#[test]
fn end_5_6_and_13_take_a_blob_in_pieces_in_their_order() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    let mut place = begun.header("location").to_owned();
    let cuts = [0, 1, 600_000, 1_000_000];
    for pair in cuts.windows(2) {
        let piece = &content[pair[0]..pair[1]];
        let range = format!("{}-{}", pair[0], pair[1] - 1);
        let wrong = served.ask("PATCH", &place, &[("Content-Range", "7-9")], b"abc");
        assert_eq!(wrong.status, 416);
        let told = served.get(&place);
        assert_eq!(told.status, 204);
        assert_eq!(
            told.header("range"),
            format!("0-{}", pair[0].saturating_sub(1))
        );
        let taken = served.ask("PATCH", &place, &[("Content-Range", &range)], piece);
        assert_eq!(
            (taken.status, taken.header("range")),
            (202, format!("0-{}", pair[1] - 1).as_str())
        );
        place = taken.header("location").to_owned();
    }
    // One that says no range goes on where the upload ends; the last piece comes with the end.
    let taken = served.ask("PATCH", &place, &[], &content[1_000_000..1_100_000]);
    assert_eq!(taken.status, 202);
    let digest = sha256(&content);
    let path = format!("{place}?digest={digest}");
    let range = format!("1100000-{}", content.len() - 1);
    let done = served.ask(
        "PUT",
        &path,
        &[("Content-Range", &range)],
        &content[1_100_000..],
    );
    assert_eq!(done.status, 201, "{}", done.text());
    assert!(served.get(done.header("location")).body == content);
}

#[test]
fn end_5_takes_chunked_transfer_too() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    let place = begun.header("location");
    let chunked = [("Transfer-Encoding", "chunked")];
    let taken = served.send(
        "PATCH",
        place,
        &chunked,
        b"4\r\nabcd\r\n3\r\nefg\r\n0\r\n\r\n",
    );
    assert_eq!((taken.status, taken.header("range")), (202, "0-6"));
    let path = format!("{place}?digest={}", sha256(b"abcdefg"));
    assert_eq!(served.ask("PUT", &path, &[], b"").status, 201);
}

#[test]
fn end_5_counts_what_came_of_a_piece_that_broke() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    let place = begun.header("location");
    let mut stream = std::net::TcpStream::connect(served.address).unwrap();
    let head = format!("PATCH {place} HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabcd");
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    drop(stream);
    // The server learns of it in its own time; what it took then counts.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let told = served.get(place);
        if (told.status, told.header("range")) == (204, "0-3") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{told:?}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let path = format!("{place}?digest={}", sha256(b"abcdefg"));
    assert_eq!(
        served
            .ask("PUT", &path, &[("Content-Range", "4-6")], b"efg")
            .status,
        201
    );
}

#[test]
fn end_5_goes_on_after_the_server_was_killed() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    let place = begun.header("location").to_owned();
    assert_eq!(served.ask("PATCH", &place, &[], b"abcd").status, 202);
    drop(served);
    let served = Served::on(root.path());
    let other = place.replace("/a/", "/b/");
    assert_eq!(served.get(&other).status, 404);
    assert_eq!(served.get(&place).header("range"), "0-3");
    let path = format!("{place}?digest={}", sha256(b"abcdefg"));
    assert_eq!(served.ask("PUT", &path, &[], b"efg").status, 201);
}

#[test]
fn end_6_refuses_content_of_another_digest() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    let place = begun.header("location");
    for (digest, code) in [
        ("", "DIGEST_INVALID"),
        ("sha256:00", "DIGEST_INVALID"),
        ("md5:00", "DIGEST_INVALID"),
    ] {
        let answer = served.ask("PUT", &format!("{place}?digest={digest}"), &[], b"");
        assert_eq!(answer.refusal(), refused(400, code), "{digest}");
    }
    let digest = sha256(b"wanted");
    let answer = served.ask("PUT", &format!("{place}?digest={digest}"), &[], b"came");
    assert_eq!(answer.refusal(), refused(400, "DIGEST_INVALID"));
    assert_eq!(served.get(&format!("/v2/a/blobs/{digest}")).status, 404);
    assert_eq!(
        served
            .get(&format!("/v2/a/blobs/{}", sha256(b"came")))
            .status,
        404
    );
    let left = std::fs::read_dir(root.path().join("uploads"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "the upload's file stayed");
}

#[test]
fn cancelling_an_upload_ends_it() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
    let place = begun.header("location");
    assert_eq!(served.ask("PATCH", place, &[], b"abc").status, 202);
    assert_eq!(served.ask("DELETE", place, &[], b"").status, 204);
    for method in ["GET", "PATCH", "DELETE"] {
        let answer = served.ask(method, place, &[], b"");
        assert_eq!(answer.refusal(), refused(404, "BLOB_UPLOAD_UNKNOWN"));
    }
    assert_eq!(
        std::fs::read_dir(root.path().join("uploads"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn end_7_refuses_what_is_no_whole_manifest() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let manifest = served.image("a", b"layer");
    let put = |kind: &str, bytes: &[u8]| {
        served
            .ask("PUT", "/v2/a/manifests/1", &[("Content-Type", kind)], bytes)
            .refusal()
    };
    let text = String::from_utf8(manifest.clone()).unwrap();
    let missing = text.replace(&sha256(b"layer"), &sha256(b"other"));
    assert_eq!(
        put(OCI_MANIFEST, missing.as_bytes()),
        refused(404, "MANIFEST_BLOB_UNKNOWN")
    );
    let size = text.replace("\"size\":5", "\"size\":6");
    assert_eq!(
        put(OCI_MANIFEST, size.as_bytes()),
        refused(400, "MANIFEST_INVALID")
    );
    assert_eq!(put(OCI_MANIFEST, b"{"), refused(400, "MANIFEST_INVALID"));
    assert_eq!(put(OCI_INDEX, &manifest), refused(400, "MANIFEST_INVALID"));
    let both = text.replace("\"layers\"", "\"manifests\":[],\"layers\"");
    assert_eq!(
        put(OCI_MANIFEST, both.as_bytes()),
        refused(400, "MANIFEST_INVALID")
    );
    let old = "application/vnd.docker.distribution.manifest.v1+json";
    assert_eq!(
        put(old, br#"{"schemaVersion":2}"#),
        refused(415, "MANIFEST_INVALID")
    );
    let large = vec![b' '; (4 << 20) + 1];
    assert_eq!(put(OCI_MANIFEST, &large), refused(413, "SIZE_INVALID"));
    let other = format!("/v2/a/manifests/{}", sha256(b"other"));
    let answer = served.ask("PUT", &other, &[("Content-Type", OCI_MANIFEST)], &manifest);
    assert_eq!(answer.refusal(), refused(400, "DIGEST_INVALID"));
    // Blobs of another repository are not this one's.
    let answer = served.ask(
        "PUT",
        "/v2/b/manifests/1",
        &[("Content-Type", OCI_MANIFEST)],
        &manifest,
    );
    assert_eq!(answer.refusal(), refused(404, "MANIFEST_BLOB_UNKNOWN"));
    assert_eq!(served.get("/v2/a/tags/list").json()["tags"], json!([]));
}

#[test]
fn end_7_takes_indexes_of_what_is_there_not_nested_deep() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let (manifest, digest) = served.push_image("a", "1", b"layer");
    let index = |digest: &str, size: usize| {
        let of = json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size});
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [of]}).to_string()
    };
    let put = |text: &str| {
        served.ask(
            "PUT",
            "/v2/a/manifests/index",
            &[("Content-Type", OCI_INDEX)],
            text.as_bytes(),
        )
    };
    let missing = put(&index(&sha256(b"other"), 5));
    assert_eq!(missing.refusal(), refused(404, "MANIFEST_BLOB_UNKNOWN"));
    let (mut digest, mut size) = (digest, manifest.len());
    for _ in 0..4 {
        let text = index(&digest, size);
        assert_eq!(put(&text).status, 201);
        (digest, size) = (sha256(text.as_bytes()), text.len());
    }
    assert_eq!(
        put(&index(&digest, size)).refusal(),
        refused(400, "MANIFEST_INVALID")
    );
    assert_eq!(
        served.get("/v2/a/manifests/index").header("content-type"),
        OCI_INDEX
    );
}

#[test]
fn end_7_takes_manifests_by_either_algorithm() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let manifest = served.image("a", b"layer");
    let digest = sha512(&manifest);
    let path = format!("/v2/a/manifests/{digest}");
    let put = served.ask("PUT", &path, &[("Content-Type", OCI_MANIFEST)], &manifest);
    assert_eq!(
        (put.status, put.header("docker-content-digest")),
        (201, digest.as_str())
    );
    assert!(served.get(&path).body == manifest);
}

#[test]
fn end_8_lists_tags_in_pages() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    assert_eq!(
        served.get("/v2/a/tags/list").refusal(),
        refused(404, "NAME_UNKNOWN")
    );
    for tag in ["v2", "1", "latest", "V3", "_"] {
        served.push_image("a", tag, b"layer");
    }
    let tags = |path: &str| {
        let answer = served.get(path);
        let link = answer.header("link").to_owned();
        (answer.json()["tags"].clone(), link)
    };
    let all = json!(["1", "V3", "_", "latest", "v2"]);
    assert_eq!(tags("/v2/a/tags/list"), (all.clone(), String::new()));
    let next = "</v2/a/tags/list?n=2&last=V3>; rel=\"next\"";
    assert_eq!(
        tags("/v2/a/tags/list?n=2"),
        (json!(["1", "V3"]), next.into())
    );
    assert_eq!(
        tags("/v2/a/tags/list?n=3&last=V3"),
        (json!(["_", "latest", "v2"]), String::new())
    );
    assert_eq!(tags("/v2/a/tags/list?n=0"), (json!([]), String::new()));
    assert_eq!(tags("/v2/a/tags/list?n=9"), (all, String::new()));
    assert_eq!(
        served.get("/v2/a/tags/list?n=x").refusal(),
        refused(400, "PAGINATION_NUMBER_INVALID")
    );
}

#[test]
fn end_9_deletes_tags_and_manifests() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let (_, first) = served.push_image("a", "1", b"layer");
    served.push_image("a", "also", b"layer");
    let (_, second) = served.push_image("a", "2", b"other");
    assert_eq!(
        served.ask("DELETE", "/v2/a/manifests/1", &[], b"").status,
        202
    );
    assert_eq!(served.get("/v2/a/manifests/1").status, 404);
    assert_eq!(served.get(&format!("/v2/a/manifests/{first}")).status, 200);
    let path = format!("/v2/a/manifests/{first}");
    assert_eq!(served.ask("DELETE", &path, &[], b"").status, 202);
    assert_eq!(
        served.ask("DELETE", &path, &[], b"").refusal(),
        refused(404, "MANIFEST_UNKNOWN")
    );
    assert_eq!(served.get("/v2/a/manifests/also").status, 404);
    assert_eq!(served.get("/v2/a/tags/list").json()["tags"], json!(["2"]));
    assert_eq!(served.get(&format!("/v2/a/manifests/{second}")).status, 200);
}

#[test]
fn end_10_deletes_blobs_of_one_repository() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let digest = served.push_blob("a", b"content");
    served.push_blob("b", b"content");
    let path = format!("/v2/a/blobs/{digest}");
    assert_eq!(served.ask("DELETE", &path, &[], b"").status, 202);
    assert_eq!(served.get(&path).status, 404);
    assert_eq!(
        served.ask("DELETE", &path, &[], b"").refusal(),
        refused(404, "BLOB_UNKNOWN")
    );
    assert_eq!(
        served.get(&format!("/v2/b/blobs/{digest}")).body,
        b"content"
    );
}

#[test]
fn end_11_mounts_blobs_of_other_repositories() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let digest = served.push_blob("a", b"content");
    let path = format!("/v2/b/blobs/uploads/?mount={digest}&from=a");
    let mounted = served.ask("POST", &path, &[], b"");
    assert_eq!(mounted.status, 201);
    assert_eq!(served.get(mounted.header("location")).body, b"content");
    // What cannot be mounted becomes an upload.
    for path in [
        format!("/v2/c/blobs/uploads/?mount={digest}&from=unknown"),
        format!("/v2/c/blobs/uploads/?mount={}&from=a", sha256(b"other")),
        format!("/v2/c/blobs/uploads/?mount={digest}"),
    ] {
        let begun = served.ask("POST", &path, &[], b"");
        assert_eq!(begun.status, 202);
        assert!(begun.header("location").starts_with("/v2/c/blobs/uploads/"));
    }
}

#[test]
fn end_12_lists_what_refers_to_a_manifest() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let (subject, digest) = served.push_image("a", "1", b"layer");
    let path = format!("/v2/a/referrers/{digest}");
    let none = served.get(&path);
    assert_eq!((none.status, none.header("content-type")), (200, OCI_INDEX));
    assert_eq!(none.json()["manifests"], json!([]));
    let empty = served.push_blob("a", b"{}");
    let artifact = |kind: Option<&str>, config: &str, note: &str| {
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": config, "digest": empty, "size": 2}, "layers": [],
            "subject": {"mediaType": OCI_MANIFEST, "digest": digest, "size": subject.len()},
            "annotations": {"note": note},
        });
        if let Some(kind) = kind {
            manifest["artifactType"] = json!(kind);
        }
        let text = manifest.to_string();
        let path = format!("/v2/a/manifests/{}", sha256(text.as_bytes()));
        let put = served.ask(
            "PUT",
            &path,
            &[("Content-Type", OCI_MANIFEST)],
            text.as_bytes(),
        );
        assert_eq!(
            (put.status, put.header("oci-subject")),
            (201, digest.as_str())
        );
        sha256(text.as_bytes())
    };
    let signature = artifact(
        Some("application/x.signature"),
        "application/vnd.oci.empty.v1+json",
        "one",
    );
    let bill = artifact(None, "application/x.bill", "two");
    let all = served.get(&path).json();
    assert_eq!(all["manifests"].as_array().unwrap().len(), 2);
    for (kind, wanted, note) in [
        ("application/x.signature", &signature, "one"),
        ("application/x.bill", &bill, "two"),
    ] {
        let answer = served.get(&format!("{path}?artifactType={kind}"));
        assert_eq!(answer.header("oci-filters-applied"), "artifactType");
        let found = answer.json()["manifests"].clone();
        assert_eq!(found[0]["digest"], json!(wanted));
        assert_eq!(found[0]["artifactType"], json!(kind));
        assert_eq!(found[0]["annotations"]["note"], json!(note));
        assert_eq!(found.as_array().unwrap().len(), 1);
    }
    assert_eq!(
        served
            .ask("DELETE", &format!("/v2/a/manifests/{bill}"), &[], b"")
            .status,
        202
    );
    assert_eq!(
        served.get(&path).json()["manifests"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    // A subject need not be there ("Pushing Manifests with Subject").
    let later = format!("/v2/a/referrers/{}", sha256(b"later"));
    assert_eq!(served.get(&later).status, 200);
    assert_eq!(
        served.get("/v2/a/referrers/sha256:00").refusal(),
        refused(400, "DIGEST_INVALID")
    );
}

#[test]
fn names_with_tricks_are_refused_and_touch_nothing() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let long = "a".repeat(256);
    for name in ["..", "a/../b", "A", "a//b", "_layers", "a%2F..%2Fb", &long] {
        let answer = served.ask("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"");
        assert_eq!(answer.refusal(), refused(400, "NAME_INVALID"), "{name}");
    }
    for tag in ["..", ".a", "a%20b", &"t".repeat(129)] {
        let answer = served.ask("PUT", &format!("/v2/a/manifests/{tag}"), &[], b"{}");
        assert_eq!(answer.refusal(), refused(400, "TAG_INVALID"), "{tag}");
    }
    for id in ["..", "1", &"0".repeat(32), &"g".repeat(32)] {
        let answer = served.get(&format!("/v2/a/blobs/uploads/{id}"));
        assert_eq!(
            answer.refusal(),
            refused(404, "BLOB_UPLOAD_UNKNOWN"),
            "{id}"
        );
    }
    assert_eq!(
        std::fs::read_dir(root.path().join("repositories"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn the_catalog_lists_repositories_in_pages() {
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    for name in ["b", "a/c", "a-b", "a"] {
        served.push_image(name, "1", b"layer");
    }
    served.push_blob("without/manifest", b"content");
    let answer = served.get("/v2/_catalog");
    assert_eq!(
        answer.json(),
        json!({"repositories": ["a", "a-b", "a/c", "b"]})
    );
    let answer = served.get("/v2/_catalog?n=2");
    assert_eq!(answer.json(), json!({"repositories": ["a", "a-b"]}));
    assert_eq!(
        answer.header("link"),
        "</v2/_catalog?n=2&last=a-b>; rel=\"next\""
    );
    let answer = served.get("/v2/_catalog?n=2&last=a-b");
    assert_eq!(
        (answer.json(), answer.header("link")),
        (json!({"repositories": ["a/c", "b"]}), "")
    );
}

#[test]
fn what_nothing_needs_goes_and_what_is_young_stays() {
    let root = tempfile::tempdir().unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let mut settings = hoist_registry::server::ServerSettings::new(root.path().to_owned());
    let (manifest, kept, dropped) = {
        let served = Served::with(settings.clone());
        let (manifest, _) = served.push_image("a", "1", b"layer");
        let dropped = served.push_blob("a", b"nobody needs it");
        served.push_image("b", "1", b"deleted");
        let digest = served
            .get("/v2/b/manifests/1")
            .header("docker-content-digest")
            .to_owned();
        served.ask("DELETE", &format!("/v2/b/manifests/{digest}"), &[], b"");
        let begun = served.ask("POST", "/v2/a/blobs/uploads/", &[], b"");
        assert_eq!(
            served
                .ask("PATCH", begun.header("location"), &[], b"abandoned")
                .status,
            202
        );
        let done = served.server.collect().unwrap();
        assert_eq!((done.blobs, done.uploads), (0, 0), "all of it is young");
        (manifest, sha256(b"layer"), dropped)
    };
    settings.blob_age = std::time::Duration::ZERO;
    settings.upload_age = std::time::Duration::ZERO;
    let served = Served::with(settings.clone());
    let done = served.server.collect().unwrap();
    // The blob that nobody needs, and the image that was deleted, with its layer.
    assert_eq!((done.blobs, done.uploads), (3, 1));
    assert_eq!(served.get(&format!("/v2/a/blobs/{dropped}")).status, 404);
    assert_eq!(served.get(&format!("/v2/a/blobs/{kept}")).body, b"layer");
    assert!(served.get("/v2/a/manifests/1").body == manifest);
    assert_eq!(served.server.collect().unwrap().bytes, 0);
    drop(served);
    // What was asked for is young again, however long ago it came.
    settings.blob_age = hour;
    let served = Served::with(settings);
    let spare = served.push_blob("a", b"spare");
    let long_ago = std::time::SystemTime::now() - 2 * hour;
    let mark = root
        .path()
        .join("repositories/a/_layers")
        .join(spare.replace(':', "-"));
    let age = || {
        std::fs::File::open(&mark)
            .unwrap()
            .set_modified(long_ago)
            .unwrap()
    };
    age();
    assert_eq!(
        served
            .ask("HEAD", &format!("/v2/a/blobs/{spare}"), &[], b"")
            .status,
        200
    );
    served.server.collect().unwrap();
    assert!(mark.exists());
    age();
    served.server.collect().unwrap();
    assert!(!mark.exists());
}

#[test]
fn one_process_has_a_directory() {
    let root = tempfile::tempdir().unwrap();
    let _served = Served::on(root.path());
    let settings = hoist_registry::server::ServerSettings::new(root.path().to_owned());
    let error = hoist_registry::server::Server::open(settings).unwrap_err();
    assert!(
        error.to_string().contains("used by another process"),
        "{error}"
    );
}

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
