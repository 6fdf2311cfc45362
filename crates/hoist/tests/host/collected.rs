//! Images come and go from all sides at once: what somebody names is never taken away, and what nobody names never stays.
//!
//! `HOIST_COLLECT_SECONDS` is how long each snapshotter is tried (5), `HOIST_COLLECT_SEED` with which numbers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hoist_testkit::{Compression, ImageBuilder, LocalRegistry, RegistryOptions, TarBuilder};
use serde_json::Value;

use crate::chance::Chance;
use crate::world::{World, image, wait_for};

/// Images that everybody pulls and removes.
const SHARED: usize = 4;
/// Who pulls an image of their own, uses it and removes it.
const KEEPERS: usize = 2;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A layer that does not compress, the same for the same number.
fn layer(number: u64) -> Vec<u8> {
    let mut chance = Chance::new(number);
    let bytes: Vec<u8> = (0..200_000)
        .map(|_| u8::try_from(chance.below(256)).unwrap())
        .collect();
    TarBuilder::new()
        .file(&format!("part-{number}"), 0o644, bytes)
        .finish()
}

/// Busybox, two layers that others have too, and one of its own.
fn composed(number: usize) -> ImageBuilder {
    let own = TarBuilder::new()
        .file("content", 0o644, format!("content {number}"))
        .finish();
    let number = number as u64;
    image()
        .layer(layer(number % 3))
        .layer(layer(10 + number % 2))
        .layer(own)
        .compression(Compression::Gzip)
}

struct Crowd<'a> {
    world: &'a World,
    registry: String,
    seed: u64,
    end: Instant,
    done: [AtomicUsize; 6],
}

impl Crowd<'_> {
    fn ask(&self, method: &str, target: &str, body: Option<&str>) -> (u16, String) {
        self.world.daemon.request(method, target, body).unwrap()
    }

    /// Whether a pull brought the image.
    fn pull(&self, tag: &str) -> Result<(), String> {
        let target = format!("/images/create?fromImage={}/app&tag={tag}", self.registry);
        let (status, text) = self.ask("POST", &target, None);
        match status == 200 && !text.contains("errorDetail") {
            true => Ok(()),
            false => Err(text),
        }
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/app:{tag}", self.registry)
    }

    /// Removes a name, which may be gone or in use.
    fn remove(&self, name: &str, force: bool) -> u16 {
        let (status, text) = self.ask("DELETE", &format!("/images/{name}?force={force}"), None);
        assert!(
            matches!(status, 200 | 404 | 409),
            "rmi {name}: {status} {text}"
        );
        status
    }

    fn create(&self, image: &str) -> Result<String, (u16, String)> {
        let body = format!(r#"{{"Image":"{image}","Cmd":["cat","/content"]}}"#);
        let (status, text) = self.ask("POST", "/containers/create", Some(&body));
        if status != 201 {
            return Err((status, text));
        }
        let made: Value = serde_json::from_str(&text).unwrap();
        Ok(made["Id"].as_str().unwrap().to_owned())
    }

    fn remove_container(&self, id: &str) {
        let (status, text) = self.ask("DELETE", &format!("/containers/{id}?force=1"), None);
        assert_eq!(status, 204, "rm: {text}");
    }

    fn go(&self, part: usize, mut once: impl FnMut(&mut Chance)) {
        let mut chance = Chance::new(self.seed.wrapping_mul(1000) + part as u64);
        while Instant::now() < self.end {
            once(&mut chance);
            self.done[part % 6].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An image that nobody else removes is whole from the end of its pull to its removal.
    fn keep(&self, number: usize) {
        let tag = format!("own{number}");
        let name = self.name(&tag);
        self.go(number, |chance| {
            self.pull(&tag).unwrap();
            if chance.once_in(3) {
                let said = self
                    .world
                    .docker(&["run", "--rm", &name, "cat", "/content"]);
                assert_eq!(said.ok(), format!("content {}", 100 + number));
            } else {
                let id = self.create(&name).unwrap();
                self.remove_container(&id);
            }
            assert_eq!(self.remove(&name, false), 200);
        });
    }

    /// Pulls, tags and removes what others pull, tag and remove.
    fn churn(&self) {
        self.go(2, |chance| {
            let tag = format!("shared{}", chance.below(SHARED));
            let name = self.name(&tag);
            match chance.below(4) {
                0 | 1 => self.pull(&tag).unwrap(),
                2 => {
                    let target = format!("/images/{name}/tag?repo=other&tag={tag}");
                    let (status, text) = self.ask("POST", &target, None);
                    assert!(matches!(status, 201 | 404), "tag: {status} {text}");
                }
                _ => {
                    self.remove(&name, chance.once_in(2));
                    self.remove(&format!("other:{tag}"), true);
                }
            }
        });
    }

    /// Loads what others pull, and removes it.
    fn load(&self, archive: &str) {
        self.go(3, |chance| {
            let loaded = self.world.docker(&["load", "-q", "-i", archive]);
            assert_eq!(loaded.status, Some(0), "{loaded:?}");
            if chance.once_in(2) {
                self.remove("loaded:1", true);
            }
            let filters = "filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D";
            let (status, text) = self.ask("POST", &format!("/images/prune?{filters}"), None);
            assert_eq!(status, 200, "{text}");
        });
    }

    /// Makes containers and images of what may be going.
    fn use_up(&self) {
        self.go(4, |chance| {
            let tag = format!("shared{}", chance.below(SHARED));
            match self.create(&self.name(&tag)) {
                Ok(id) => {
                    if chance.once_in(2) {
                        let target = format!("/commit?container={id}&repo=made&tag={tag}");
                        let (status, text) = self.ask("POST", &target, None);
                        assert_eq!(status, 201, "commit: {text}");
                    }
                    self.remove_container(&id);
                    self.remove(&format!("made:{tag}"), true);
                }
                Err((status, text)) => assert_eq!(status, 404, "create: {text}"),
            }
        });
    }

    /// Gives pulls up in the middle.
    fn give_up(&self) {
        self.go(5, |chance| {
            let tag = format!("shared{}", chance.below(SHARED));
            let mut stream = UnixStream::connect(self.world.daemon.socket()).unwrap();
            write!(
                stream,
                "POST /images/create?fromImage={}/app&tag={tag} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
                self.registry
            )
            .unwrap();
            let mut some = vec![0; 1 + chance.below(2000)];
            let _ = stream.read(&mut some);
        });
    }
}

/// What is in the image root, by name.
fn stored(root: &Path) -> BTreeSet<String> {
    let listed = ["blobs/sha256", "layers"].iter().flat_map(|directory| {
        let entries = fs::read_dir(root.join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
    });
    listed.collect()
}

fn crowd(flags: &[&str]) {
    let Some(mut world) = World::start_with(flags) else {
        return;
    };
    let Some(registry) = LocalRegistry::start(&RegistryOptions::default()) else {
        return hoist_testkit::skip("docker-registry is not installed");
    };
    for number in 0..SHARED {
        registry.put("app", &format!("shared{number}"), &composed(number));
    }
    for number in 0..KEEPERS {
        registry.put("app", &format!("own{number}"), &composed(100 + number));
    }
    let root = world.daemon.directory().join("data/image");
    let before = stored(&root);
    let archive = world.path("loaded.tar");
    fs::write(&archive, composed(1).named("loaded:1").docker_archive()).unwrap();
    let seconds = setting("HOIST_COLLECT_SECONDS").unwrap_or(5);
    let crowd = Crowd {
        world: &world,
        registry: registry.address().to_string(),
        seed: setting("HOIST_COLLECT_SEED").unwrap_or(1),
        end: Instant::now() + Duration::from_secs(seconds),
        done: Default::default(),
    };
    std::thread::scope(|scope| {
        for number in 0..KEEPERS {
            let crowd = &crowd;
            scope.spawn(move || crowd.keep(number));
        }
        scope.spawn(|| crowd.churn());
        scope.spawn(|| crowd.load(&archive));
        scope.spawn(|| crowd.use_up());
        scope.spawn(|| crowd.give_up());
    });
    let done = crowd.done.map(AtomicUsize::into_inner);
    assert!(
        done.iter().all(|done| *done > 0),
        "somebody did nothing: {done:?}"
    );

    // Pulls that were given up may be storing something still: then what nobody names cannot be looked for.
    let checked = wait_for("a whole check", || {
        let checked = world.docker(&["fsck"]);
        (!checked.out.contains("note: ")).then_some(checked)
    });
    let text = checked.ok();
    assert!(text.ends_with("nothing is wrong\n"), "{text}");
    for line in world.docker(&["images", "-q", "--no-trunc"]).ok().lines() {
        let shown = world.docker(&["run", "--rm", line, "cat", "/content"]);
        let is_busybox = shown.err.contains("can't open '/content'");
        assert!(is_busybox || shown.ok().starts_with("content "));
    }
    let names = world
        .docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
        .ok();
    for name in names.lines().filter(|name| *name != "busybox:latest") {
        world.docker(&["rmi", "-f", name]).ok();
    }
    world.docker(&["image", "prune", "-f"]).ok();
    // What is removed is deleted behind the answer.
    wait_for("nothing but what was there before", || {
        (stored(&root) == before).then_some(())
    });
    world.docker(&["fsck"]).ok();
    assert!(world.daemon.stop().success());
    let at_rest = crate::fsck::at_rest(&world.daemon, &[]).ok();
    assert!(at_rest.ends_with("nothing is wrong\n"), "{at_rest}");
    world.daemon.launch();
    world.finish();
}

#[test]
fn what_is_named_stays_and_what_is_not_goes() {
    crowd(&[]);
}

#[test]
fn what_is_named_stays_and_what_is_not_goes_in_directories() {
    crowd(&["--storage-driver", "overlay2"]);
}
