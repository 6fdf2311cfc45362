//! Documents and layers that mean something else than they seem to.

use hoist_testkit::{ImageBlobs, sha256};
use serde_json::{Value, json};

use crate::fake::{Asked, Fake, Said, honest, reply};
use crate::support::{House, client, image};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A pull of `latest` from a registry that answers these documents for it and by their digests, and else what is in `blobs`.
async fn refused(
    blobs: ImageBlobs,
    latest: (&'static str, Vec<u8>),
    more: Vec<(&'static str, Vec<u8>)>,
) -> (String, Vec<Asked>) {
    let fake = Fake::start(move |asked| {
        let answer = |(kind, bytes): &(&str, Vec<u8>)| -> Said {
            reply("200 OK", &[("Content-Type", kind)], bytes)
        };
        if asked.target.ends_with("/manifests/latest") {
            return answer(&latest);
        }
        let found = more
            .iter()
            .find(|one| asked.target.ends_with(&sha256(&one.1)));
        found.map_or_else(|| honest(&blobs, asked), answer)
    });
    let house = House::new();
    let reference = format!("{}/a", fake.address);
    let error = house.pull(&client(), &reference, None).await.unwrap_err();
    assert!(house.is_empty(), "something is left: {error}");
    (error.to_string(), fake.asked())
}

fn manifest_with(change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut manifest = serde_json::from_slice(&image().blobs().manifest).unwrap();
    change(&mut manifest);
    manifest.to_string().into_bytes()
}

#[tokio::test]
async fn layers_that_are_elsewhere_or_unreadable_are_refused_by_their_type() {
    for kind in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/vnd.in-toto+json",
    ] {
        let manifest = manifest_with(|manifest| {
            manifest["layers"][1]["mediaType"] = kind.into();
            manifest["layers"][1]["urls"] = json!(["http://127.0.0.1:1/elsewhere"]);
        });
        let blobs = image().blobs();
        let layers: Vec<String> = blobs.layers.iter().map(|l| l.digest.clone()).collect();
        let (error, asked) = refused(blobs, (OCI_MANIFEST, manifest), Vec::new()).await;
        assert_eq!(error, format!("unsupported media type {kind}"));
        // Before any layer is fetched.
        assert!(
            !asked
                .iter()
                .any(|asked| layers.iter().any(|l| asked.is_blob(l)))
        );
    }
}

#[tokio::test]
async fn a_document_is_what_its_header_and_its_body_agree_on() {
    let says = |kind: &'static str| manifest_with(|manifest| manifest["mediaType"] = kind.into());
    let child = json!({"mediaType": OCI_MANIFEST, "digest": sha256(b"x"), "size": 1});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]});
    let index = index.to_string().into_bytes();
    for (header, body) in [
        (OCI_MANIFEST, says(OCI_INDEX)),
        (
            OCI_MANIFEST,
            says("application/vnd.docker.distribution.manifest.v2+json"),
        ),
        (OCI_INDEX, says(OCI_MANIFEST)),
        (OCI_MANIFEST, index.clone()),
        (DOCKER_INDEX, index),
    ] {
        let (error, _) = refused(image().blobs(), (header, body), Vec::new()).await;
        assert!(error.starts_with("manifest of "), "{header}: {error}");
    }
}

#[tokio::test]
async fn indexes_are_not_followed_for_ever() {
    let platform =
        json!({"os": "linux", "architecture": hoist_model::Platform::host().architecture});
    let around = |inner: &[u8], kind: &str| {
        let child = json!({"mediaType": kind, "digest": sha256(inner), "size": inner.len(), "platform": platform});
        let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]});
        index.to_string().into_bytes()
    };
    let mut documents = vec![around(&image().blobs().manifest, OCI_MANIFEST)];
    for _ in 0..8 {
        let outer = around(documents.last().unwrap(), OCI_INDEX);
        documents.push(outer);
    }
    let top = documents.pop().unwrap();
    let inner = documents.into_iter().map(|bytes| (OCI_INDEX, bytes));
    let (error, asked) = refused(image().blobs(), (OCI_INDEX, top), inner.collect()).await;
    assert!(error.starts_with("no matching manifest for "), "{error}");
    let manifests = asked
        .iter()
        .filter(|asked| asked.target.contains("/manifests/"));
    assert!(manifests.count() <= 3, "{asked:?}");
}
