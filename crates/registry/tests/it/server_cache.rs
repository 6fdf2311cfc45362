//! A server that is a cache of another.

use std::path::Path;
use std::time::Duration;

use hoist_registry::Credentials;
use hoist_registry::server::{AccessSettings, CacheSettings, ServerSettings};

use crate::server_support::{OCI_MANIFEST, Served, sha256};

fn cache_of(upstream: &str, root: &Path, fresh: Duration) -> ServerSettings {
    let client = hoist_registry::Settings {
        max_attempts: 1,
        ..hoist_registry::Settings::default()
    };
    let mut settings = ServerSettings::new(root.to_owned());
    settings.cache = Some(CacheSettings {
        url: upstream.to_owned(),
        credentials: None,
        fresh,
        keep: Duration::from_secs(3600),
        client,
    });
    settings
}

/// How often a server was asked for the bytes of blobs, and gave them.
fn blobs_given(served: &Served) -> u64 {
    let counts = served.server.counts().requests;
    counts
        .iter()
        .filter(|(endpoint, class, _)| (*endpoint, *class) == ("blob", "2xx"))
        .map(|(_, _, count)| count)
        .sum()
}

const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn what_was_pulled_once_needs_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let upstream = Served::on(&root.path().join("upstream"));
    let (manifest, digest) = upstream.push_image("library/app", "1", b"layer");
    let url = format!("http://{}", upstream.address);
    let mut settings = cache_of(&url, &root.path().join("cache"), NEVER);
    let cache = Served::with(settings.clone());
    let layer = format!("/v2/library/app/blobs/{}", sha256(b"layer"));
    assert_eq!(
        cache.ask("HEAD", &layer, &[], b"").header("content-length"),
        "5"
    );
    let pull = |cache: &Served| {
        for reference in ["1", digest.as_str()] {
            let answer = cache.get(&format!("/v2/library/app/manifests/{reference}"));
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (200, OCI_MANIFEST),
                "{}",
                answer.text()
            );
            assert!(answer.body == manifest);
        }
        assert_eq!(cache.get(&layer).body, b"layer");
    };
    pull(&cache);
    assert_eq!(
        cache.get("/v2/library/app/tags/list").json()["tags"],
        serde_json::json!(["1"])
    );
    assert_eq!(
        cache.get("/v2/library/app/manifests/2").refusal(),
        (404, "MANIFEST_UNKNOWN".into())
    );
    assert_eq!(
        cache
            .get(&format!("/v2/a/blobs/{}", sha256(b"x")))
            .refusal(),
        (404, "BLOB_UNKNOWN".into())
    );
    let push = cache.ask("POST", "/v2/library/app/blobs/uploads/", &[], b"");
    assert_eq!(push.refusal(), (405, "UNSUPPORTED".into()));
    drop(upstream);
    pull(&cache);
    // A tag that is not believed any more is given as it was, and what is not here cannot be had.
    drop(cache);
    settings.cache.as_mut().unwrap().fresh = Duration::ZERO;
    let cache = Served::with(settings);
    pull(&cache);
    assert_eq!(
        cache.get("/v2/library/app/manifests/2").refusal(),
        (503, "UNAVAILABLE".into())
    );
}

#[test]
fn a_tag_that_moved_is_seen_when_it_is_believed_no_more() {
    let root = tempfile::tempdir().unwrap();
    let upstream = Served::on(&root.path().join("upstream"));
    let url = format!("http://{}", upstream.address);
    let digest = |cache: &Served| {
        cache
            .get("/v2/app/manifests/1")
            .header("docker-content-digest")
            .to_owned()
    };
    let (_, first) = upstream.push_image("app", "1", b"first");
    let believing = Served::with(cache_of(&url, &root.path().join("believing"), NEVER));
    let doubting = Served::with(cache_of(
        &url,
        &root.path().join("doubting"),
        Duration::ZERO,
    ));
    assert_eq!(
        (digest(&believing), digest(&doubting)),
        (first.clone(), first.clone())
    );
    let (_, second) = upstream.push_image("app", "1", b"second");
    assert_eq!((digest(&believing), digest(&doubting)), (first, second));
    let path = format!("/v2/app/blobs/{}", sha256(b"second"));
    assert_eq!(doubting.get(&path).body, b"second");
}

#[test]
fn many_who_want_a_blob_share_one_fetch() {
    let root = tempfile::tempdir().unwrap();
    let upstream = Served::on(&root.path().join("upstream"));
    let content: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let digest = upstream.push_blob("app", &content);
    let cache = Served::with(cache_of(
        &format!("http://{}", upstream.address),
        &root.path().join("cache"),
        NEVER,
    ));
    let path = format!("/v2/app/blobs/{digest}");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(cache.get(&path).body == content));
        }
    });
    assert_eq!(blobs_given(&upstream), 1);
    let part = cache.ask("GET", &path, &[("Range", "bytes=4-7")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, &content[4..8]));
    // Another repository's is not fetched again, and not given unless it has it there.
    let other = path.replace("app", "other");
    assert_eq!(cache.get(&other).status, 404);
    upstream.push_blob("other", &content);
    assert!(cache.get(&other).body == content);
    assert_eq!(blobs_given(&upstream), 2, "a HEAD, and no second GET");
}

#[test]
fn what_is_corrupt_there_is_never_given_whole() {
    let root = tempfile::tempdir().unwrap();
    let upstream = Served::on(&root.path().join("upstream"));
    let content = vec![7; 1_000_000];
    let digest = upstream.push_blob("app", &content);
    let hex = digest.trim_start_matches("sha256:");
    let file = root
        .path()
        .join("upstream/blobs/sha256")
        .join(&hex[..2])
        .join(hex);
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, vec![8; 1_000_000]).unwrap();
    let cache = Served::with(cache_of(
        &format!("http://{}", upstream.address),
        &root.path().join("cache"),
        NEVER,
    ));
    let path = format!("/v2/app/blobs/{digest}");
    for _ in 0..2 {
        assert!(cache.get(&path).body.len() < content.len());
    }
    assert_eq!(
        std::fs::read_dir(root.path().join("cache/uploads"))
            .unwrap()
            .count(),
        0
    );
    // Healed there, it is given here.
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, &content).unwrap();
    assert!(cache.get(&path).body == content);
}

#[test]
fn a_cache_asks_with_its_own_name() {
    let root = tempfile::tempdir().unwrap();
    let users = root.path().join("users");
    std::fs::write(
        &users,
        "alice:$2y$04$SAs2IzJT0mu1KE6jqPSI/.WZRNGSjbWHcKEunt8.Ir6FpHsR3Bp2e\n",
    )
    .unwrap();
    let plain = Served::on(&root.path().join("upstream"));
    plain.push_image("app", "1", b"layer");
    drop(plain);
    for tokens in [false, true] {
        let mut settings = ServerSettings::new(root.path().join("upstream"));
        settings.access = AccessSettings::Users {
            users: users.clone(),
            rights: None,
            tokens,
        };
        let upstream = Served::with(settings);
        let url = format!("http://{}", upstream.address);
        let path = root.path().join(format!("cache-{tokens}"));
        let nobody = Served::with(cache_of(&url, &path, NEVER));
        assert_eq!(
            nobody.get("/v2/app/manifests/1").refusal(),
            (403, "DENIED".into())
        );
        drop(nobody);
        let mut settings = cache_of(&url, &path, NEVER);
        settings.cache.as_mut().unwrap().credentials =
            Some(Credentials::basic("alice", "wonderland"));
        let cache = Served::with(settings);
        assert_eq!(cache.get("/v2/app/manifests/1").status, 200);
        assert_eq!(
            cache
                .get(&format!("/v2/app/blobs/{}", sha256(b"layer")))
                .body,
            b"layer"
        );
    }
}

#[test]
fn what_nobody_asks_for_goes() {
    let root = tempfile::tempdir().unwrap();
    let upstream = Served::on(&root.path().join("upstream"));
    let (_, digest) = upstream.push_image("app", "1", b"layer");
    let mut settings = cache_of(
        &format!("http://{}", upstream.address),
        &root.path().join("cache"),
        NEVER,
    );
    settings.blob_age = Duration::ZERO;
    let cache = Served::with(settings);
    let layer = format!("/v2/app/blobs/{}", sha256(b"layer"));
    assert_eq!(cache.get("/v2/app/manifests/1").status, 200);
    assert_eq!(cache.get(&layer).status, 200);
    cache.server.collect().unwrap();
    let link = root
        .path()
        .join("cache/repositories/app/_manifests")
        .join(digest.replace(':', "-"));
    let long_ago = std::time::SystemTime::now() - 2 * NEVER;
    std::fs::File::open(&link)
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    cache.server.collect().unwrap();
    assert!(!link.exists());
    let left = walk(&root.path().join("cache/blobs"));
    assert_eq!(left, 0, "blobs are left");
    assert_eq!(cache.get(&layer).body, b"layer");
}

fn walk(path: &Path) -> usize {
    let entries = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { walk(&path) } else { 1 })
        .sum()
}
