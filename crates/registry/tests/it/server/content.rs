//! What is there, and taking it away: "Content Discovery" and "Content Management".

use serde_json::json;

use super::refused;
use crate::server_support::{OCI_INDEX, OCI_MANIFEST, Served, sha256};

/// "Listing Tags" (end-8a, end-8b).
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

/// "Listing Referrers" and "Pushing Manifests with Subject" (end-12a, end-12b, end-7).
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

/// No section of the specification: the catalog, as Docker's registry has it.
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

/// "Deleting tags" and "Deleting Manifests" (end-9).
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

/// "Deleting Blobs" (end-10).
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

/// No section of the specification: collecting while serving.
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

/// No section of the specification.
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
