//! Registries that break, lie or ask too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hoist_model::{ErrorClass, LayerPhase};
use hoist_registry::{Client, PullError, Settings};
use hoist_testkit::{ImageBlobs, sha256};
use serde_json::json;

use crate::fake::{Asked, Fake, Said, blob, honest, manifest, reply};
use crate::support::{House, client, image, settings};

/// A pull from an honest registry, but for what `twist` answers instead.
async fn pull_twisted(
    twist: impl Fn(&ImageBlobs, &Asked) -> Option<Said> + Send + Sync + 'static,
) -> (House, Fake, Result<hoist_image::StoredImage, PullError>) {
    pull_twisted_with(settings(), twist).await
}

async fn pull_twisted_with(
    settings: Settings,
    twist: impl Fn(&ImageBlobs, &Asked) -> Option<Said> + Send + Sync + 'static,
) -> (House, Fake, Result<hoist_image::StoredImage, PullError>) {
    let blobs = image().blobs();
    let fake =
        Fake::start(move |asked| twist(&blobs, asked).unwrap_or_else(|| honest(&blobs, asked)));
    let house = House::new();
    let reference = format!("{}/some/thing:latest", fake.address);
    let pulled = house.pull(&Client::new(settings), &reference, None).await;
    (house, fake, pulled)
}

/// The second layer, the big one.
fn is_big(blobs: &ImageBlobs, asked: &Asked) -> bool {
    asked.is_blob(&blobs.layers[1].digest)
}

#[tokio::test]
async fn an_honest_plain_registry_on_the_loopback_needs_no_configuration() {
    let (house, fake, pulled) = pull_twisted(|_, _| None).await;
    let pulled = pulled.unwrap();
    let built = image();
    assert_eq!(pulled.id.to_string(), built.id());
    assert_eq!(pulled.size, 5 + (4 << 20));
    let digest = sha256(&built.blobs().manifest);
    let repository = format!("{}/some/thing", fake.address);
    let names: Vec<String> = pulled.references.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            format!("{repository}:latest"),
            format!("{repository}@{digest}")
        ]
    );
    assert_eq!(
        house.messages(),
        [
            "Pulling from some/thing".to_owned(),
            format!("Digest: {digest}")
        ]
    );
    assert!(house.content.has(&digest.parse().unwrap()));
    assert!(house.content.has(&pulled.id));
    assert_eq!(
        house
            .phases()
            .iter()
            .filter(|phase| **phase == LayerPhase::Complete)
            .count(),
        2
    );
    // A second pull fetches the documents only.
    let before = fake.asked().len();
    house
        .pull(&client(), &format!("{repository}@{digest}"), None)
        .await
        .unwrap();
    let after = fake.asked();
    assert!(
        after[before..]
            .iter()
            .all(|asked| !asked.is_blob(&built.blobs().layers[1].digest))
    );
    assert!(house.phases().contains(&LayerPhase::AlreadyExists));
}

#[tokio::test]
async fn a_wrong_layer_is_never_stored() {
    let (house, _, pulled) = pull_twisted(|blobs, asked| {
        is_big(blobs, asked).then(|| {
            let mut bytes = blobs.layers[1].bytes.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            blob(&bytes)
        })
    })
    .await;
    let error = pulled.unwrap_err();
    assert!(
        matches!(
            error,
            PullError::Mismatch {
                what: "filesystem layer",
                ..
            }
        ),
        "{error}"
    );
    let big = image().blobs().layers[1].diff_id.parse().unwrap();
    assert!(!house.snapshotter.has_layer(&big));
    assert!(house.content.list().unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_config_and_a_wrong_manifest_are_refused() {
    let (house, _, pulled) = pull_twisted(|blobs, asked| {
        asked
            .is_blob(&sha256(&blobs.config))
            .then(|| blob(b"{\"os\":\"linux\"}"))
    })
    .await;
    let error = pulled.unwrap_err();
    assert!(
        matches!(
            error,
            PullError::Mismatch {
                what: "image config",
                ..
            }
        ),
        "{error}"
    );
    assert!(house.is_empty());
    let fake = Fake::start(|asked| match asked.target.as_str() {
        "/v2/" => reply("200 OK", &[], b""),
        _ => manifest(b"{}"),
    });
    let wanted = format!("sha256:{}", "ab".repeat(32));
    let reference = format!("{}/a@{wanted}", fake.address);
    let error = house.pull(&client(), &reference, None).await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("manifest verification failed for digest {wanted}")),
        "{error}"
    );
}

#[tokio::test]
async fn a_broken_connection_is_resumed_by_range() {
    let (_, fake, pulled) = pull_twisted(|blobs, asked| {
        if !is_big(blobs, asked) {
            return None;
        }
        let bytes = &blobs.layers[1].bytes;
        let start: usize = match asked.header("range") {
            None => 0,
            Some(range) => range
                .strip_prefix("bytes=")
                .and_then(|range| range.strip_suffix('-'))
                .unwrap()
                .parse()
                .unwrap(),
        };
        // A third at a time, then silence and a closed socket.
        let end = bytes.len().min(start + bytes.len() / 3);
        let head = if start == 0 {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len())
        } else {
            format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n\r\n",
                bytes.len() - start,
                bytes.len() - 1,
                bytes.len()
            )
        };
        Some(Said([head.as_bytes(), &bytes[start..end]].concat(), true))
    })
    .await;
    pulled.unwrap();
    let ranges: Vec<Asked> = fake
        .asked()
        .into_iter()
        .filter(|asked| asked.header("range").is_some())
        .collect();
    assert!(ranges.len() >= 2, "{ranges:?}");
}

#[tokio::test]
async fn a_registry_without_ranges_is_read_from_the_start_again() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let (_, _, pulled) = pull_twisted(move |blobs, asked| {
        if !is_big(blobs, asked) || counted.fetch_add(1, Ordering::Relaxed) > 0 {
            return None;
        }
        let Said(mut bytes, _) = blob(&blobs.layers[1].bytes);
        bytes.truncate(1 << 20);
        Some(Said(bytes, true))
    })
    .await;
    pulled.unwrap();
    assert_eq!(tries.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn silence_ends_at_the_idle_deadline_and_attempts_are_counted() {
    let impatient = Settings {
        idle_deadline: Duration::from_millis(1500),
        ..settings()
    };
    let (house, fake, pulled) = pull_twisted_with(impatient, |blobs, asked| {
        let layer = &blobs.layers[0];
        asked.is_blob(&layer.digest).then(|| {
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                layer.bytes.len()
            );
            // The head and nothing more, ever.
            Said(head.into_bytes(), false)
        })
    })
    .await;
    let error = pulled.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("download failed after attempts=3: Get \"http://127.0.0.1:"),
        "{error}"
    );
    assert!(
        error.to_string().ends_with("timeout awaiting data"),
        "{error}"
    );
    let small = &image().blobs().layers[0].digest;
    let tries = fake
        .asked()
        .iter()
        .filter(|asked| asked.is_blob(small))
        .count();
    assert_eq!(tries, 3);
    assert!(house.content.list().unwrap().is_empty());
}

#[tokio::test]
async fn lengths_that_lie_are_found_out() {
    let short: fn(&ImageBlobs, &Asked) -> Option<Said> =
        |blobs, asked| is_big(blobs, asked).then(|| blob(&blobs.layers[1].bytes[..1000]));
    let long: fn(&ImageBlobs, &Asked) -> Option<Said> = |blobs, asked| {
        is_big(blobs, asked).then(|| {
            let more = [&blobs.layers[1].bytes[..], b"more"].concat();
            // Chunked, so that nothing is announced.
            let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            bytes.extend_from_slice(format!("{:x}\r\n", more.len()).as_bytes());
            bytes.extend_from_slice(&more);
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            Said(bytes, false)
        })
    };
    let cut: fn(&ImageBlobs, &Asked) -> Option<Said> = |blobs, asked| {
        is_big(blobs, asked).then(|| {
            if asked.header("range").is_some() {
                return reply("416 Range Not Satisfiable", &[], b"");
            }
            let mut bytes =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n".to_vec();
            bytes.extend_from_slice(&blobs.layers[1].bytes[..1000]);
            bytes.extend_from_slice(b"\r\n0\r\n\r\n");
            Said(bytes, false)
        })
    };
    let size = image().blobs().layers[1].bytes.len() as u64;
    for (twist, length) in [(short, 1000), (long, size + 4), (cut, 1000)] {
        let (house, _, pulled) = pull_twisted(twist).await;
        match pulled.unwrap_err() {
            PullError::Size { wanted, found, .. } => assert_eq!((wanted, found), (size, length)),
            other => panic!("{other}"),
        }
        assert!(house.content.list().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_layer_that_is_no_layer_is_named() {
    let mut blobs = image().blobs();
    let nonsense = b"this is neither a tar nor compressed".to_vec();
    let mut document: serde_json::Value = serde_json::from_slice(&blobs.manifest).unwrap();
    document["layers"][0]["digest"] = json!(sha256(&nonsense));
    document["layers"][0]["size"] = json!(nonsense.len());
    blobs.manifest = serde_json::to_vec(&document).unwrap();
    blobs.layers[0].digest = sha256(&nonsense);
    blobs.layers[0].bytes = nonsense;
    let fake = Fake::start(move |asked| honest(&blobs, asked));
    let house = House::new();
    let error = house
        .pull(&client(), &format!("{}/a", fake.address), None)
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("failed to register layer sha256:"),
        "{error}"
    );
    assert_eq!(error.class(), ErrorClass::InvalidArgument);
}

#[tokio::test]
async fn documents_that_are_not_one_image_are_refused() {
    let house = House::new();
    let long = vec![b' '; (4 << 20) + 1];
    let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(b"{}"), "size": 2});
    let both = json!({"schemaVersion": 2, "config": config, "layers": [], "manifests": []});
    let plugin = json!({"schemaVersion": 2, "layers": [], "config":
        {"mediaType": "application/vnd.docker.plugin.v1+json", "digest": sha256(b"{}"), "size": 2}});
    let foreign = json!({"schemaVersion": 2, "config": config, "layers":
        [{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": sha256(b""), "size": 0}]});
    let oci = "application/vnd.oci.image.manifest.v1+json";
    for (media_type, bytes, text) in [
        (
            oci,
            long,
            "the manifest has more than the 4194304 bytes allowed",
        ),
        (oci, both.to_string().into_bytes(), "manifest of "),
        (oci, b"{".to_vec(), "manifest of "),
        (
            oci,
            plugin.to_string().into_bytes(),
            "Encountered remote \"application/vnd.docker.plugin.v1+json\"(plugin) when fetching",
        ),
        (
            oci,
            foreign.to_string().into_bytes(),
            "layers from manifest don't match image configuration: 1 and 0",
        ),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            b"{}".to_vec(),
            "Docker Image Format v1 and Docker Image manifest version 2, schema 1 support has been removed.",
        ),
        (
            "text/html",
            b"<html>".to_vec(),
            "unsupported media type text/html",
        ),
    ] {
        let fake = Fake::start(move |asked| match asked.target.as_str() {
            "/v2/" => reply("200 OK", &[], b""),
            target if target.contains("/blobs/") => blob(b"{}"),
            _ => reply("200 OK", &[("Content-Type", media_type)], &bytes),
        });
        let reference = format!("{}/a", fake.address);
        let error = house.pull(&client(), &reference, None).await.unwrap_err();
        assert!(error.to_string().starts_with(text), "{text}: {error}");
    }
    assert!(house.is_empty());
}

#[tokio::test]
async fn an_index_is_searched_for_the_platform() {
    let blobs = image().blobs();
    let entry = |architecture: &str| {
        json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&blobs.manifest),
            "size": blobs.manifest.len(), "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry("s390x"), entry("riscv64")]})
    .to_string();
    let digest = sha256(index.as_bytes());
    let (held, served) = (blobs.clone(), index.clone());
    let fake = Fake::start(move |asked| {
        if asked.target.ends_with("/manifests/multi") {
            let kind = [("Content-Type", "application/vnd.oci.image.index.v1+json")];
            return reply("200 OK", &kind, served.as_bytes());
        }
        honest(&held, asked)
    });
    let house = House::new();
    let reference = format!("{}/a:multi", fake.address);
    let wanted = "linux/riscv64".parse().unwrap();
    let pulled = house
        .pull_for(&client(), &reference, Some(&wanted), None)
        .await
        .unwrap();
    assert_eq!(
        pulled.manifest.unwrap().to_string(),
        sha256(&blobs.manifest)
    );
    assert_eq!(pulled.references[1].digest().unwrap().to_string(), digest);
    assert!(house.content.has(&digest.parse().unwrap()));
    let wanted = "linux/arm64".parse().unwrap();
    let error = house
        .pull_for(&client(), &reference, Some(&wanted), None)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no matching manifest for linux/arm64 in the manifest list entries"
    );
    assert_eq!(error.class(), ErrorClass::NotFound);
}

#[tokio::test]
async fn hiccups_are_waited_out() {
    let tries = Arc::new(AtomicUsize::new(0));
    let (_, _, pulled) = pull_twisted(move |_, _| {
        let odd = tries.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
        odd.then(|| reply("503 Service Unavailable", &[], b"later"))
    })
    .await;
    pulled.unwrap();
    let (_, _, pulled) =
        pull_twisted(|_, asked| (asked.target != "/v2/").then(|| reply("500 Oops", &[], b"")))
            .await;
    let error = pulled.unwrap_err().to_string();
    assert!(
        error.ends_with("/v2/some/thing/manifests/latest\": received unexpected HTTP status: 500 Internal Server Error"),
        "{error}"
    );
}

#[tokio::test]
async fn a_dropped_pull_leaves_nothing() {
    let blobs = image().blobs();
    let big = blobs.layers[1].digest.clone();
    let fake = Fake::start(move |asked| {
        if !asked.is_blob(&blobs.layers[1].digest) {
            return honest(&blobs, asked);
        }
        let Said(mut bytes, _) = blob(&blobs.layers[1].bytes);
        bytes.truncate(2 << 20);
        Said(bytes, false)
    });
    let house = House::new();
    let client = client();
    let reference = format!("{}/a", fake.address);
    {
        let pulling = house.pull(&client, &reference, None);
        tokio::pin!(pulling);
        let begun = async {
            while !fake.asked().iter().any(|asked| asked.is_blob(&big)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            ended = &mut pulling => panic!("{ended:?}"),
            () = begun => {}
        }
    }
    let diff_id = image().blobs().layers[1].diff_id.parse().unwrap();
    for _ in 0..3000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if leftovers(house.directory.path()) == 0 {
            break;
        }
    }
    assert_eq!(leftovers(house.directory.path()), 0);
    assert!(!house.snapshotter.has_layer(&diff_id));
    assert!(house.content.list().unwrap().is_empty());
}

/// Files of more than a mebibyte: a layer in the making is one.
fn leftovers(directory: &std::path::Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            count += leftovers(&entry.path());
        } else if entry.metadata().is_ok_and(|meta| meta.len() > 1 << 20) {
            count += 1;
        }
    }
    count
}
