//! Collections while others push, pull and delete: no section of the specification.

use std::collections::BTreeSet;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::refused;
use crate::server_support::{OCI_MANIFEST, Served, sha256};

const PUSHERS: usize = 3;
const IMAGES: usize = 30;

/// All that an image is, read and found right.
fn parts(served: &Served, name: &str, digest: &str) -> Vec<String> {
    let manifest = served.get(&format!("/v2/{name}/manifests/{digest}"));
    assert_eq!(manifest.status, 200, "{}", manifest.text());
    assert_eq!(sha256(&manifest.body), digest);
    let mut digests = vec![digest.to_owned()];
    let manifest = manifest.json();
    let layers = manifest["layers"].as_array().unwrap();
    for part in layers.iter().chain([&manifest["config"]]) {
        let digest = part["digest"].as_str().unwrap();
        let blob = served.get(&format!("/v2/{name}/blobs/{digest}"));
        assert_eq!(blob.status, 200, "{digest}: {}", blob.text());
        assert_eq!(sha256(&blob.body), digest);
        digests.push(digest.to_owned());
    }
    digests
}

/// Pushes images that are much alike and deletes every third again; those that stay. What was acknowledged is read at once.
fn push(served: &Served, pusher: usize, told: &Sender<()>) -> Vec<(String, String)> {
    let mut kept = Vec::new();
    for number in 0..IMAGES {
        let name = ["app".to_owned(), format!("team/p{pusher}")][number % 2].clone();
        let layer = match number % 5 {
            0 => "what all push".to_owned(),
            _ => format!("{pusher} {number}"),
        };
        let digest = loop {
            let manifest = served.image(&name, layer.as_bytes());
            let path = format!("/v2/{name}/manifests/{}", sha256(&manifest));
            let put = served.ask("PUT", &path, &[("Content-Type", OCI_MANIFEST)], &manifest);
            // Blobs that nothing names yet may go at any age here: then they are pushed again.
            if put.status == 201 {
                break sha256(&manifest);
            }
            assert_eq!(put.refusal(), refused(404, "MANIFEST_BLOB_UNKNOWN"));
        };
        parts(served, &name, &digest);
        if number % 3 == 0 && number % 5 != 0 {
            let path = format!("/v2/{name}/manifests/{digest}");
            assert_eq!(served.ask("DELETE", &path, &[], b"").status, 202);
            assert_eq!(served.get(&path).status, 404);
        } else {
            kept.push((name, digest));
        }
        told.send(()).unwrap();
    }
    kept
}

#[test]
fn collections_take_nothing_that_is_needed_however_often_they_come() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = hoist_registry::server::ServerSettings::new(root.path().to_owned());
    settings.blob_age = Duration::ZERO;
    settings.upload_age = Duration::ZERO;
    let served = Served::with(settings);
    let (told, acknowledged) = channel();
    let kept = std::thread::scope(|scope| {
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                let (served, told) = (&served, told.clone());
                scope.spawn(move || push(served, pusher, &told))
            })
            .collect();
        drop(told);
        let mut collections = 0;
        // After each image, or, where the last took what the next needs, soon: somebody has to get through.
        loop {
            served.server.collect().unwrap();
            collections += 1;
            let next = acknowledged.recv_timeout(Duration::from_millis(50));
            if next == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
                break;
            }
        }
        assert!(collections >= PUSHERS * IMAGES);
        let kept = pushers.into_iter().map(|pusher| pusher.join().unwrap());
        kept.collect::<Vec<_>>().concat()
    });
    served.server.collect().unwrap();
    let needed: BTreeSet<String> = kept
        .iter()
        .flat_map(|(name, digest)| parts(&served, name, digest))
        .collect();
    // And what nothing needs is gone.
    let mut there = BTreeSet::new();
    for part in std::fs::read_dir(root.path().join("blobs/sha256")).unwrap() {
        for blob in std::fs::read_dir(part.unwrap().path()).unwrap() {
            let hex = blob.unwrap().file_name().into_string().unwrap();
            there.insert(format!("sha256:{hex}"));
        }
    }
    assert_eq!(there, needed);
}
