//! Pushes: what is sent, what is not sent again, and what registries do wrong.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hoist_image::{KnownManifest, LayerCompression, OutgoingImage, PushedImage, StoredImage};
use hoist_model::{Digest, ImageReference, Progress, UploadPhase};
use hoist_registry::{Client, Credentials, PullError, push};
use hoist_testkit::{LocalRegistry, RegistryOptions, TemporaryDirectory, skip};

use crate::fake::{Asked, Fake, Said, reply};
use crate::server_support::Served;
use crate::support::{House, client, image, settings};

impl House {
    /// Pushes what a pull brought here, as the engine would.
    async fn push(
        &self,
        client: &Client,
        stored: &StoredImage,
        manifest: Option<Digest>,
        reference: &str,
    ) -> Result<PushedImage, PullError> {
        self.push_as(None, client, stored, manifest, reference)
            .await
    }

    async fn push_as(
        &self,
        credentials: Option<Credentials>,
        client: &Client,
        stored: &StoredImage,
        manifest: Option<Digest>,
        reference: &str,
    ) -> Result<PushedImage, PullError> {
        let repositories = stored.references.iter();
        let repositories: Vec<_> = repositories.map(|name| name.repository().clone()).collect();
        let known = manifest.iter().map(|manifest| KnownManifest {
            manifest: manifest.clone(),
            layers: stored.layers.clone(),
            repositories: repositories.clone(),
        });
        let outgoing = OutgoingImage {
            id: stored.id.clone(),
            layers: stored.layers.clone(),
            known: known.collect(),
            manifest: manifest.clone(),
            compression: self.compression,
        };
        let reports = Arc::clone(&self.reports);
        let reference = ImageReference::parse(reference).unwrap();
        let pushing = push(
            client,
            &self.content,
            &self.snapshotter,
            &outgoing,
            &reference,
            credentials,
            Arc::new(move |progress| reports.lock().unwrap().push(progress)),
        );
        tokio::time::timeout(Duration::from_secs(60), pushing)
            .await
            .expect("the push hangs")
    }

    /// How often layers reached a phase.
    fn reached(&self, wanted: impl Fn(&UploadPhase) -> bool) -> usize {
        let reports = self.reports.lock().unwrap();
        let phases = reports
            .iter()
            .filter(|report| matches!(report, Progress::Upload { phase, .. } if wanted(phase)));
        phases.count()
    }

    /// A house that has the image of two layers, by a loaded archive: nobody knows it elsewhere.
    fn with_image() -> (Self, StoredImage) {
        let house = Self::new();
        let archive = image().name("made:1").docker_archive();
        let mut stored = hoist_image::load_archive(
            Box::new(std::io::Cursor::new(archive)),
            &house.content,
            &*house.snapshotter,
            &[],
            &|_| {},
        )
        .unwrap();
        (house, stored.remove(0))
    }
}

#[tokio::test]
async fn what_was_pushed_is_pulled_and_not_sent_again() {
    let Some(registry) = LocalRegistry::start(&RegistryOptions::default()) else {
        skip("docker-registry is not installed");
        return;
    };
    let (house, stored) = House::with_image();
    let name = format!("{}/pushed/made:1", registry.address());
    let pushed = house.push(&client(), &stored, None, &name).await.unwrap();
    assert_eq!(house.reached(|phase| *phase == UploadPhase::Pushed), 2);
    // The manifest stays here, so that its layers are known from now on.
    assert_eq!(
        house.content.get(&pushed.digest, 1 << 20).unwrap().len() as u64,
        pushed.size
    );

    let other = House::new();
    let pulled = other.pull(&client(), &name, None).await.unwrap();
    assert_eq!((&pulled.id, &pulled.layers), (&stored.id, &stored.layers));
    assert_eq!(pulled.manifest.as_ref(), Some(&pushed.digest));

    // Here again, into the same repository; from there, into another of the same registry; each without a layer.
    let again = other
        .push(&client(), &pulled, pulled.manifest.clone(), &name)
        .await
        .unwrap();
    assert_eq!(again, pushed);
    assert_eq!(
        other.reached(|phase| *phase == UploadPhase::AlreadyExists),
        2
    );
    let elsewhere = format!("{}/elsewhere:2", registry.address());
    let mounted = other
        .push(&client(), &pulled, pulled.manifest.clone(), &elsewhere)
        .await
        .unwrap();
    assert_eq!(mounted, pushed);
    let from = UploadPhase::MountedFrom("pushed/made".to_owned());
    assert_eq!(other.reached(|phase| *phase == from), 2);
    assert_eq!(other.reached(|phase| *phase == UploadPhase::Pushed), 0);

    // Who knows nothing compresses the same bytes.
    let third = format!("{}/third:3", registry.address());
    let made = house.push(&client(), &stored, None, &third).await.unwrap();
    assert_eq!(made, pushed);
}

#[tokio::test]
async fn layers_are_sent_as_zstd_where_that_is_asked_for() {
    let root = TemporaryDirectory::new("zstd");
    let served = Served::on(root.path());
    let (mut house, stored) = House::with_image();
    let name = format!("{}/made:1", served.address);
    let gzip = house.push(&client(), &stored, None, &name).await.unwrap();
    house.compression = LayerCompression::Zstd;
    let known = Some(gzip.digest.clone());
    let pushed = house.push(&client(), &stored, known, &name).await.unwrap();
    // What is there as gzip is not what was asked for.
    assert_eq!(house.reached(|phase| *phase == UploadPhase::Pushed), 4);
    assert_ne!(pushed, gzip);
    let manifest = house.content.get(&pushed.digest, 1 << 20).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let oci = "application/vnd.oci.image";
    assert_eq!(manifest["mediaType"], format!("{oci}.manifest.v1+json"));
    for layer in manifest["layers"].as_array().unwrap() {
        assert_eq!(layer["mediaType"], format!("{oci}.layer.v1.tar+zstd"));
    }

    let mut other = House::new();
    let pulled = other.pull(&client(), &name, None).await.unwrap();
    assert_eq!((&pulled.id, &pulled.layers), (&stored.id, &stored.layers));
    // As it came it goes on: asked for or not, and without a layer.
    for compression in [LayerCompression::Zstd, LayerCompression::Gzip] {
        other.compression = compression;
        let known = pulled.manifest.clone();
        let again = other.push(&client(), &pulled, known, &name).await.unwrap();
        assert_eq!(again, pushed);
    }
    assert_eq!(other.reached(|phase| *phase == UploadPhase::Pushed), 0);
}

/// A registry that takes everything into memory, through a plain request each, except where `twist` answers.
fn taking(twist: impl Fn(&Asked) -> Option<Said> + Send + Sync + 'static) -> Fake {
    Fake::start(move |asked| {
        if let Some(said) = twist(asked) {
            return said;
        }
        match (asked.method.as_str(), asked.target.as_str()) {
            ("GET", "/v2/") => reply("200 OK", &[], b""),
            ("HEAD", _) => reply("404 Not Found", &[], b""),
            ("POST", _) => reply(
                "202 Accepted",
                &[("Location", "/v2/x/blobs/uploads/1?state=a")],
                b"",
            ),
            ("PATCH", _) => reply(
                "202 Accepted",
                &[("Location", "/v2/x/blobs/uploads/1?state=b")],
                b"",
            ),
            ("PUT", _) => reply("201 Created", &[], b""),
            _ => reply("404 Not Found", &[], b""),
        }
    })
}

#[tokio::test]
async fn refusals_are_told_in_the_registrys_words() {
    let denied =
        br#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
    let fake =
        taking(move |asked| (asked.method == "POST").then(|| reply("403 Forbidden", &[], denied)));
    let (house, stored) = House::with_image();
    let name = format!("{}/x:1", fake.address);
    let error = house
        .push(&client(), &stored, None, &name)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "denied: requested access to the resource is denied"
    );
    let fake = taking(|asked| {
        let manifest = asked.method == "PUT" && asked.target.contains("/manifests/");
        manifest.then(|| {
            reply(
                "400 Bad Request",
                &[],
                br#"{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}"#,
            )
        })
    });
    let name = format!("{}/x:1", fake.address);
    let error = house
        .push(&client(), &stored, None, &name)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "manifest invalid: manifest invalid");
}

#[tokio::test]
async fn a_broken_upload_begins_anew_and_the_state_of_the_last_answer_is_used() {
    let broken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let seen = Arc::clone(&broken);
    let fake = taking(move |asked| {
        let first =
            asked.method == "PATCH" && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        first.then(|| Said(Vec::new(), true))
    });
    let (house, stored) = House::with_image();
    let name = format!("{}/x:1", fake.address);
    house.push(&client(), &stored, None, &name).await.unwrap();
    let asked = fake.asked();
    let patches = asked.iter().filter(|asked| asked.method == "PATCH").count();
    assert_eq!(patches, 3, "{asked:?}");
    let of_blobs = asked
        .iter()
        .filter(|asked| asked.method == "PUT" && asked.target.contains("/uploads/"));
    for put in of_blobs.filter(|put| !put.target.contains("state=a")) {
        assert!(
            put.target
                .starts_with("/v2/x/blobs/uploads/1?state=b&digest=sha256%3A"),
            "{put:?}"
        );
    }
}

#[tokio::test]
async fn a_registry_that_takes_nothing_any_more_is_given_up() {
    // Neither read nor answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let fake = taking(move |asked| {
        let place = format!("http://{address}/stuck");
        (asked.method == "POST").then(|| reply("202 Accepted", &[("Location", &place)], b""))
    });
    let (house, stored) = House::with_image();
    let name = format!("{}/x:1", fake.address);
    let mut quick = settings();
    quick.max_attempts = 1;
    quick.idle_deadline = Duration::from_millis(1500);
    let client = Client::new(quick);
    let error = house.push(&client, &stored, None, &name).await.unwrap_err();
    assert!(
        error.to_string().contains("timeout awaiting response"),
        "{error}"
    );
    drop(listener);
}

/// A registry may have uploads sent to another host; what opens the registry stays with the registry, also when that host asks.
#[tokio::test]
async fn an_upload_on_another_host_leaves_the_credentials_behind() {
    for asks in [false, true] {
        let store = taking(move |_| {
            let challenge = [("WWW-Authenticate", "Basic realm=\"r\"")];
            asks.then(|| reply("401 Unauthorized", &challenge, b""))
        });
        let elsewhere = format!("http://localhost:{}/v2/x/there", store.address.port());
        let registry = taking(move |asked| {
            if asked.header("authorization").is_none() {
                let challenge = [("WWW-Authenticate", "Basic realm=\"r\"")];
                return Some(reply("401 Unauthorized", &challenge, b""));
            }
            let is_upload = asked.method == "POST";
            is_upload.then(|| reply("202 Accepted", &[("Location", &elsewhere)], b""))
        });
        let (house, stored) = House::with_image();
        let name = format!("{}/x:1", registry.address);
        let alice = Some(Credentials::basic("alice", "secret"));
        let pushed = house.push_as(alice, &client(), &stored, None, &name).await;
        assert_eq!(pushed.is_ok(), !asks, "{pushed:?}");
        assert!(!store.asked().is_empty());
        for asked in store.asked() {
            assert_eq!(asked.header("authorization"), None);
        }
    }
}

#[tokio::test]
async fn a_layer_that_rotted_here_is_not_sent() {
    let fake = taking(|_| None);
    let (house, stored) = House::with_image();
    let layer = stored.layers.last().unwrap();
    let tar = house.directory.join(format!("layers/{}.tar", layer.hex()));
    let mut bytes = std::fs::read(&tar).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::remove_file(&tar).unwrap();
    std::fs::write(&tar, bytes).unwrap();
    let name = format!("{}/x:1", fake.address);
    let error = house
        .push(&client(), &stored, None, &name)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PullError::Mismatch { wanted, .. } if wanted == layer),
        "{error}"
    );
    let named = fake
        .asked()
        .iter()
        .any(|asked| asked.target.contains("/manifests/"));
    assert!(!named);
}

/// Passes connections on to a registry; the first upload that comes by is cut off after so many bytes.
fn cutting(registry: SocketAddr, after: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let passed = Arc::new(AtomicUsize::new(0));
    let (counted, cut) = (Arc::clone(&passed), Arc::new(AtomicBool::new(false)));
    // Ends with the test's process: it holds nothing.
    std::thread::spawn(move || {
        for mut asker in listener.incoming().flatten() {
            let (counted, cut) = (Arc::clone(&counted), Arc::clone(&cut));
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut server = TcpStream::connect(registry)?;
                let (mut from, mut to) = (server.try_clone()?, asker.try_clone()?);
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let mut buffer = vec![0; 64 << 10];
                let mut uploaded = None;
                loop {
                    let count = asker.read(&mut buffer)?;
                    if buffer[..count].starts_with(b"PATCH ") {
                        uploaded = Some(0);
                    }
                    server.write_all(&buffer[..count])?;
                    counted.fetch_add(count, Ordering::Relaxed);
                    if let Some(uploaded) = &mut uploaded {
                        *uploaded += count;
                        if *uploaded >= after && !cut.swap(true, Ordering::Relaxed) {
                            return server.shutdown(Shutdown::Both);
                        }
                    }
                    if count == 0 {
                        return server.shutdown(Shutdown::Write);
                    }
                }
            });
        }
    });
    (address, passed)
}

#[tokio::test]
async fn an_upload_that_was_cut_off_goes_on_where_the_registry_has_it_to() {
    let root = TemporaryDirectory::new("served");
    let registry = Served::on(root.path());
    let sent = cut_off_push(registry.address).await;
    // What was on its way when it was cut comes again, and no more.
    assert!(sent < LAYER + LAYER / 2, "{sent} bytes");
}

#[tokio::test]
async fn a_registry_that_forgot_an_upload_gets_it_once_more() {
    let Some(registry) = LocalRegistry::start(&RegistryOptions::default()) else {
        skip("docker-registry is not installed");
        return;
    };
    // Debian's docker-registry ends an upload that is not gone on with from where its last answer was.
    let sent = cut_off_push(registry.address()).await;
    assert!(sent < 2 * LAYER + LAYER / 2, "{sent} bytes");
}

/// Bytes of the larger layer.
const LAYER: usize = 4 << 20;

/// A push whose upload is cut off near its end, and that has to succeed all the same: the bytes that were sent.
async fn cut_off_push(registry: SocketAddr) -> usize {
    let (house, stored) = House::with_image();
    let (proxy, passed) = cutting(registry, LAYER - (256 << 10));
    let name = format!("{proxy}/cut:1");
    let pushed = house.push(&client(), &stored, None, &name).await.unwrap();
    let sent = passed.load(Ordering::Relaxed);
    assert!(sent > LAYER, "nothing was cut off");
    let other = House::new();
    let there = format!("{registry}/cut:1");
    let pulled = other.pull(&client(), &there, None).await.unwrap();
    assert_eq!((pulled.id, pulled.layers), (stored.id, stored.layers));
    assert_eq!(pulled.manifest, Some(pushed.digest));
    sent
}
