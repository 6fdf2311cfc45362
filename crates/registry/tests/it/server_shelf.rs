//! A server beside images that somebody else keeps.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hoist_model::Digest;
use hoist_registry::server::{HeldImage, ServerSettings, Shelf};
use serde_json::json;

use crate::server_support::{OCI_MANIFEST, Served, sha256};

/// Images made up, their layers in a directory.
struct Made {
    directory: PathBuf,
    images: Mutex<HashMap<(String, String), HeldImage>>,
}

impl Made {
    fn new(directory: &Path) -> Arc<Self> {
        std::fs::create_dir(directory).unwrap();
        Arc::new(Self {
            directory: directory.to_owned(),
            images: Mutex::default(),
        })
    }

    fn put(&self, name: &str, tag: &str, config: &str, layer: &[u8]) {
        let digest: Digest = sha256(layer).parse().unwrap();
        std::fs::write(self.directory.join(digest.hex()), layer).unwrap();
        let image = HeldImage {
            config: config.to_owned().into(),
            layers: vec![(digest, layer.len() as u64)],
        };
        self.images
            .lock()
            .unwrap()
            .insert((name.to_owned(), tag.to_owned()), image);
    }
}

impl Shelf for Made {
    fn repositories(&self) -> Vec<(String, Vec<String>)> {
        let mut found = HashMap::<String, Vec<String>>::new();
        for (name, tag) in self.images.lock().unwrap().keys() {
            found.entry(name.clone()).or_default().push(tag.clone());
        }
        found.into_iter().collect()
    }

    fn image(&self, repository: &str, tag: &str) -> Option<HeldImage> {
        let images = self.images.lock().unwrap();
        images
            .get(&(repository.to_owned(), tag.to_owned()))
            .cloned()
    }

    fn layer(&self, digest: &Digest) -> Option<File> {
        File::open(self.directory.join(digest.hex())).ok()
    }
}

fn served(root: &Path, shelf: Arc<Made>) -> Served {
    let mut settings = ServerSettings::new(root.join("images"));
    settings.shelf = Some(shelf);
    Served::with(settings)
}

#[test]
fn images_of_a_shelf_are_given_without_a_copy() {
    let root = tempfile::tempdir().unwrap();
    let shelf = Made::new(&root.path().join("shelf"));
    shelf.put("app", "1", "{\"config\":1}", b"layer");
    shelf.put("team/app", "2", "{}", b"other");
    let served = served(root.path(), shelf);
    served.push_image("pushed", "1", b"pushed");
    assert_eq!(
        served.get("/v2/_catalog").json()["repositories"],
        json!(["app", "pushed", "team/app"])
    );
    let page = served.get("/v2/_catalog?n=2");
    assert_eq!(page.json()["repositories"], json!(["app", "pushed"]));
    assert_eq!(
        page.header("link"),
        "</v2/_catalog?n=2&last=pushed>; rel=\"next\""
    );
    // As itself, and as clients of a mirror of Docker Hub call it.
    for name in ["app", "library/app"] {
        assert_eq!(
            served.get(&format!("/v2/{name}/tags/list")).json()["tags"],
            json!(["1"])
        );
        let manifest = served.get(&format!("/v2/{name}/manifests/1"));
        let digest = sha256(&manifest.body);
        assert_eq!(
            (manifest.status, manifest.header("docker-content-digest")),
            (200, digest.as_str())
        );
        assert_eq!(manifest.header("content-type"), OCI_MANIFEST);
        assert!(served.get(&format!("/v2/{name}/manifests/{digest}")).body == manifest.body);
        let config = manifest.json()["config"]["digest"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            served.get(&format!("/v2/{name}/blobs/{config}")).body,
            b"{\"config\":1}"
        );
        let layer = format!("/v2/{name}/blobs/{}", sha256(b"layer"));
        assert_eq!(served.get(&layer).body, b"layer");
        let head = served.ask("HEAD", &layer, &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, "5"));
        let part = served.ask("GET", &layer, &[("Range", "bytes=1-2")], b"");
        assert_eq!((part.status, part.body.as_slice()), (206, &b"ay"[..]));
    }
    // What is another repository's is not this one's, and nothing of the shelf's is deleted here.
    assert_eq!(
        served
            .get(&format!("/v2/app/blobs/{}", sha256(b"other")))
            .status,
        404
    );
    assert_eq!(served.get("/v2/app/manifests/2").status, 404);
    assert_eq!(
        served.ask("DELETE", "/v2/app/manifests/1", &[], b"").status,
        405
    );
    assert!(!root.path().join("images/repositories/app").exists());
}

#[test]
fn what_was_pushed_comes_first_and_keeps_what_it_stands_on() {
    let root = tempfile::tempdir().unwrap();
    let shelf = Made::new(&root.path().join("shelf"));
    shelf.put("app", "1", "{}", b"base");
    let served = served(root.path(), Arc::clone(&shelf));
    let held = served
        .get("/v2/app/manifests/1")
        .header("docker-content-digest")
        .to_owned();
    // A manifest over a layer of the shelf that, being there, was not pushed.
    let config = served.push_blob("app", b"{\"new\":true}");
    let layer = |content: &[u8]| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": sha256(content), "size": content.len()});
    served.push_blob("app", b"top");
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 12},
        "layers": [layer(b"base"), layer(b"top")],
    })
    .to_string();
    let put = served.ask(
        "PUT",
        "/v2/app/manifests/1",
        &[("Content-Type", OCI_MANIFEST)],
        manifest.as_bytes(),
    );
    assert_eq!(put.status, 201, "{}", put.text());
    assert!(served.get("/v2/app/manifests/1").body == manifest.as_bytes());
    assert_eq!(served.get(&format!("/v2/app/manifests/{held}")).status, 200);
    // It stays when the shelf has it no more.
    shelf.images.lock().unwrap().clear();
    let digest = sha256(b"base");
    std::fs::remove_file(shelf.directory.join(digest.trim_start_matches("sha256:"))).unwrap();
    assert_eq!(served.get(&format!("/v2/app/blobs/{digest}")).body, b"base");
    assert_eq!(served.get("/v2/app/tags/list").json()["tags"], json!(["1"]));
}
