//! Pushing: "Push", from blobs to manifests.

use serde_json::json;

use super::refused;
use crate::server_support::{OCI_INDEX, OCI_MANIFEST, Served, sha256, sha512};

/// "Pushing a blob monolithically", "POST then PUT" (end-4a, end-6).
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

/// "Pushing a blob monolithically", "Single POST" (end-4b).
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

/// "Pushing a blob in chunks" (end-4a, end-5, end-13, end-6).
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

/// "Pushing a blob in chunks" (end-5), without a length.
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

/// "Pushing a blob in chunks" (end-5, end-13): going on after a break.
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

/// "Pushing a blob in chunks" (end-5, end-13): going on with another process.
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

/// "Pushing blobs", "Error Codes": DIGEST_INVALID (end-6).
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

/// No section of the specification: DELETE of an upload, as Docker's registry has it.
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

/// "Mounting a blob from another repository" (end-11).
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

/// "Pushing Manifests", "Error Codes" (end-7).
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

/// "Pushing Manifests" (end-7): indexes.
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

/// "Pushing Manifests" (end-7), by digest; "Digests" of the image specification.
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

/// "Pulling manifests": what a name and a tag may be.
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

/// "Pushing Manifests" (end-7): of pushes of one tag at once, one wins, and whoever asks sees one of them whole.
#[test]
fn end_7_of_pushes_of_one_tag_at_once_one_wins_whole() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let root = tempfile::tempdir().unwrap();
    let served = Served::on(root.path());
    let images: Vec<Vec<u8>> = (0..4)
        .map(|number| served.image("a", format!("layer {number}").as_bytes()))
        .collect();
    let is_whole = |served: &Served| {
        let found = served.get("/v2/a/manifests/1");
        if found.status == 404 {
            return None;
        }
        assert_eq!(found.status, 200, "{}", found.text());
        assert_eq!(found.header("docker-content-digest"), sha256(&found.body));
        let winner = images.iter().position(|manifest| *manifest == found.body);
        Some(winner.expect("the tag is none of those pushed"))
    };
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let push = |manifest: &[u8]| {
            for _ in 0..25 {
                let kind = [("Content-Type", OCI_MANIFEST)];
                let put = served.ask("PUT", "/v2/a/manifests/1", &kind, manifest);
                assert_eq!(put.status, 201, "{}", put.text());
            }
        };
        let pushes: Vec<_> = images
            .iter()
            .map(|manifest| scope.spawn(move || push(manifest)))
            .collect();
        let reader = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                is_whole(&served);
            }
        });
        let pushed: Vec<_> = pushes.into_iter().map(|push| push.join()).collect();
        ended.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        assert!(pushed.iter().all(Result::is_ok));
    });
    let winner = is_whole(&served);
    assert!(winner.is_some());
    assert_eq!(served.get("/v2/a/tags/list").json()["tags"], json!(["1"]));
    // Those that lost are there by their digests, with all that is theirs; and what is told is what is on disk.
    for manifest in &images {
        let path = format!("/v2/a/manifests/{}", sha256(manifest));
        assert_eq!(served.get(&path).body, *manifest);
    }
    drop(served);
    assert_eq!(is_whole(&Served::on(root.path())), winner);
}
