//! A registry that is killed at any moment of pushes, deletes and collections keeps all that it acknowledged, and nothing that is not whole.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hoist_testkit::{TemporaryDirectory, sha256};
use serde_json::{Value, json};

use crate::registry_served::{Served, ask};

const ROUNDS: u64 = 15;
const PUSHERS: u64 = 3;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Numbers that differ from run to run of the loop and not from test to test.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length)
            .map(|_| self.next(256).to_le_bytes()[0])
            .collect()
    }
}

/// Pushes a blob in a way chosen by chance; `None` when the server died.
fn push_blob(address: SocketAddr, random: &mut Random, content: &[u8]) -> Option<String> {
    let digest = sha256(content);
    let octets = "application/octet-stream";
    let done = if random.next(2) == 0 {
        let path = format!("/v2/app/blobs/uploads/?digest={digest}");
        ask(address, "POST", &path, octets, content)?
    } else {
        let begun = ask(address, "POST", "/v2/app/blobs/uploads/", octets, b"")?;
        assert_eq!(begun.status, 202);
        let (first, second) = content.split_at(content.len() / 2);
        let taken = ask(address, "PATCH", begun.header("location"), octets, first)?;
        assert_eq!(taken.status, 202);
        let path = format!("{}?digest={digest}", taken.header("location"));
        ask(address, "PUT", &path, octets, second)?
    };
    assert_eq!(done.status, 201, "{}", String::from_utf8_lossy(&done.body));
    Some(digest)
}

/// Pushes an image under its own tag and one that all share; its tag and digest when that was acknowledged.
fn push_image(address: SocketAddr, random: &mut Random, tag: &str) -> Option<(String, String)> {
    let config = random.bytes(100);
    let mut layers = Vec::new();
    for _ in 0..=random.next(3) {
        let length = 1 + random.next(200_000);
        let content = random.bytes(length);
        let digest = push_blob(address, random, &content)?;
        layers.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": content.len()}));
    }
    let digest = push_blob(address, random, &config)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "layers": layers,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
    })
    .to_string();
    for tag in ["latest", tag] {
        let path = format!("/v2/app/manifests/{tag}");
        let put = ask(address, "PUT", &path, MANIFEST, manifest.as_bytes())?;
        assert_eq!(put.status, 201, "{}", String::from_utf8_lossy(&put.body));
    }
    Some((tag.to_owned(), sha256(manifest.as_bytes())))
}

/// The digests of an image and all its parts, every one of them read and found right.
fn read_image(address: SocketAddr, reference: &str) -> Vec<String> {
    let manifest = ask(
        address,
        "GET",
        &format!("/v2/app/manifests/{reference}"),
        "",
        b"",
    )
    .unwrap();
    assert_eq!(manifest.status, 200, "{reference}");
    let mut digests = vec![sha256(&manifest.body)];
    let parsed: Value = serde_json::from_slice(&manifest.body).unwrap();
    let layers = parsed["layers"].as_array().unwrap().iter();
    for part in layers.chain([&parsed["config"]]) {
        let digest = part["digest"].as_str().unwrap();
        let blob = ask(address, "GET", &format!("/v2/app/blobs/{digest}"), "", b"").unwrap();
        assert_eq!(
            (blob.status, sha256(&blob.body).as_str()),
            (200, digest),
            "{reference}"
        );
        digests.push(digest.to_owned());
    }
    digests
}

fn tags(address: SocketAddr) -> Vec<String> {
    let answer = ask(address, "GET", "/v2/app/tags/list", "", b"").unwrap();
    let parsed: Value = serde_json::from_slice(&answer.body).unwrap();
    let tags = parsed["tags"].as_array().cloned().unwrap_or_default();
    tags.iter()
        .map(|tag| tag.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn what_was_acknowledged_outlives_a_kill_at_any_moment() {
    let directory = TemporaryDirectory::new("registry-crash");
    let root = directory.path().join("images");
    let mut random = Random(0x5eed_1234_9abc_def1);
    // Tags that were acknowledged, with what they name.
    let acknowledged = Mutex::new(Vec::<(String, String)>::new());
    for round in 0..ROUNDS {
        // A collection all the time, which may take no more than what nobody needs and nobody is pushing.
        let served = Served::start(
            &root,
            &["--gc-every=1s", "--log-level=warn,hoist::registry=info"],
        );
        let address = served.address;
        let over = AtomicBool::new(false);
        let pause = Duration::from_millis(5 + random.next(300));
        std::thread::scope(|scope| {
            for pusher in 0..PUSHERS {
                let (acknowledged, over) = (&acknowledged, &over);
                let mut random = Random(random.next(u64::MAX) | 1);
                scope.spawn(move || {
                    for number in 0.. {
                        let tag = format!("r{round}-p{pusher}-{number}");
                        match push_image(address, &mut random, &tag) {
                            Some(image) => acknowledged.lock().unwrap().push(image),
                            None => break,
                        }
                        if over.load(Ordering::Relaxed) {
                            break;
                        }
                    }
                });
            }
            std::thread::sleep(pause);
            served.kill();
            over.store(true, Ordering::Relaxed);
        });
        let served = Served::start(&root, &["--log-level=warn,hoist::registry=info"]);
        for (tag, digest) in acknowledged.lock().unwrap().iter() {
            let digests = read_image(served.address, tag);
            assert_eq!(digests[0], *digest, "{tag}");
        }
        // Also what was not acknowledged is whole, if it is there.
        for tag in tags(served.address) {
            read_image(served.address, &tag);
        }
        served.stop();
    }
    let kept = acknowledged.into_inner().unwrap();
    assert!(!kept.is_empty(), "nothing was ever pushed whole");
    // What the kills left behind goes, and nothing else.
    let collected = crate::world::seen(
        std::process::Command::new(crate::world::binary())
            .args(["registry", "gc", "--blob-age=0", "--upload-age=0", "--root"])
            .arg(&root),
    );
    collected.ok();
    let served = Served::start(&root, &["--log-level=warn,hoist::registry=info"]);
    let mut needed: Vec<String> = Vec::new();
    for tag in tags(served.address) {
        needed.extend(read_image(served.address, &tag));
    }
    for (tag, digest) in &kept {
        assert_eq!(read_image(served.address, tag)[0], *digest);
    }
    needed.sort();
    needed.dedup();
    served.stop();
    let mut there = Vec::new();
    for part in std::fs::read_dir(root.join("blobs/sha256")).unwrap() {
        for blob in std::fs::read_dir(part.unwrap().path()).unwrap() {
            there.push(format!(
                "sha256:{}",
                blob.unwrap().file_name().into_string().unwrap()
            ));
        }
    }
    there.sort();
    // A manifest that was put and whose tag was not is kept, with its parts: so all that is needed is there, and what else there is
    // belongs to such a manifest.
    for digest in &needed {
        assert!(there.contains(digest), "{digest} is gone");
    }
    assert_eq!(
        std::fs::read_dir(root.join("uploads")).unwrap().count(),
        0,
        "uploads are left"
    );
}
