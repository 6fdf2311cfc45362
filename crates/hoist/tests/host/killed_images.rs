//! The daemon is killed in the middle of everything that changes images: at each call to the kernel that gives, takes or syncs a name,
//! and at random moments with several things under way. Whatever was answered is true afterwards, what was not is there wholly or
//! not at all, nothing else is left, and it can be done again.
//!
//! `HOIST_CRASH_SECONDS` is how long each of the two goes on (12), `HOIST_CRASH_SEED` where it begins; the seed is printed when it fails.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hoist_testkit::{Compression, ImageBuilder, LocalRegistry, RegistryOptions, TarBuilder};

use crate::chance::Chance;
use crate::world::{World, image, wait_for};

/// Calls after which the disk is another: an engine that is killed at any of them was in the middle of something.
const STEPS: &str = "rename,renameat,renameat2,unlink,unlinkat,fsync,fdatasync,mkdirat";

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// What changes images, each with what is true once it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Pull,
    Load,
    Push,
    Commit,
    Build,
    Tag,
    Remove,
    Prune,
    RemoveContainer,
}

/// All kinds of steps: side by side, over each other, with and without a network.
const DOCKERFILE: &str = "FROM busybox AS one\nWORKDIR /work\nCOPY . .\nRUN --mount=type=cache,target=/cache cat content | tee /cache/last >/made\n\
    FROM busybox AS two\nCOPY content /given\nRUN --network=none cat /given >/made\n\
    FROM busybox\nCOPY --from=one --chown=7 /made /content\nCOPY --from=two /made /second\nRUN --network=none cmp /content /second\n";

const DEEDS: [Deed; 9] = [
    Deed::Pull,
    Deed::Load,
    Deed::Push,
    Deed::Commit,
    Deed::Build,
    Deed::Tag,
    Deed::Remove,
    Deed::Prune,
    Deed::RemoveContainer,
];

/// An image with a layer that takes a while, and its own text.
fn pulled() -> ImageBuilder {
    let mut chance = Chance::new(7);
    let bytes: Vec<u8> = (0..1_500_000)
        .map(|_| u8::try_from(chance.below(256)).unwrap())
        .collect();
    let large = TarBuilder::new().file("large", 0o644, bytes).finish();
    let own = TarBuilder::new().file("content", 0o644, "pulled").finish();
    image()
        .layer(large)
        .layer(own)
        .compression(Compression::Gzip)
}

fn loaded() -> ImageBuilder {
    let own = TarBuilder::new().file("content", 0o644, "loaded").finish();
    image().layer(own).named("loaded:1")
}

/// An engine, a registry, and what was done.
struct Subject {
    world: World,
    registry: LocalRegistry,
    archive: String,
    /// How many contexts there were.
    builds: usize,
    told: Told,
}

/// Says how to have a failed run again.
struct Told {
    seed: u64,
    trace: Vec<String>,
    log: PathBuf,
}

#[expect(clippy::print_stderr, reason = "says how to have a failed run again")]
impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let log = lines[lines.len().saturating_sub(40)..].join("\n");
            let (seed, trace) = (self.seed, self.trace.join("\n"));
            eprintln!("HOIST_CRASH_SEED={seed}\n{trace}\n{log}");
        }
    }
}

impl Subject {
    fn new() -> Option<Self> {
        let world = World::start()?;
        let Some(registry) = LocalRegistry::start(&RegistryOptions::default()) else {
            hoist_testkit::skip("docker-registry is not installed");
            return None;
        };
        registry.put("app", "1", &pulled());
        let archive = world.path("loaded.tar");
        fs::write(&archive, loaded().docker_archive()).unwrap();
        let told = Told {
            seed: 0,
            trace: Vec::new(),
            log: world.daemon.directory().join("log"),
        };
        Some(Self {
            world,
            registry,
            archive,
            builds: 0,
            told,
        })
    }

    fn name(&self, repository: &str) -> String {
        format!("{}/{repository}:1", self.registry.address())
    }

    /// What the last context says.
    fn content(&self) -> String {
        format!("built {}", self.builds)
    }

    fn begin(&mut self, seed: u64) -> Chance {
        self.told.seed = seed;
        self.told.trace.clear();
        Chance::new(seed)
    }

    fn note(&mut self, what: impl Into<String>) {
        self.told.trace.push(what.into());
    }

    /// The words of a deed.
    fn words(&self, deed: Deed) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match deed {
            Deed::Pull => words(&["pull", "-q", &self.name("app")]),
            Deed::Load => words(&["load", "-q", "-i", &self.archive]),
            Deed::Push => words(&["push", "-q", &self.name("sent")]),
            Deed::Commit => words(&["commit", "writer", "committed:1"]),
            Deed::Build => words(&["build", "-q", "-t", "built:1", &self.world.path("app")]),
            Deed::Tag => words(&["tag", "busybox", "tagged:1"]),
            Deed::Remove => words(&["rmi", &self.name("app")]),
            Deed::Prune => words(&["image", "prune", "-a", "-f"]),
            Deed::RemoveContainer => words(&["rm", "writer"]),
        }
    }

    /// Makes what a deed needs, whatever is there.
    fn prepare(&mut self, deed: Deed) {
        if deed == Deed::Build {
            // Of what was built before, nothing is of use for more than its first steps.
            self.builds += 1;
            let app = self.world.files.join("app");
            fs::create_dir_all(&app).unwrap();
            fs::write(app.join("Dockerfile"), DOCKERFILE).unwrap();
            fs::write(app.join("content"), self.content()).unwrap();
        }

        let docker = |words: &[&str]| self.world.docker(words);
        match deed {
            Deed::Pull | Deed::Load | Deed::Tag => {
                // Removed, so that all of it has to come.
                let name = match deed {
                    Deed::Pull => self.name("app"),
                    Deed::Load => "loaded:1".to_owned(),
                    _ => "tagged:1".to_owned(),
                };
                docker(&["rmi", "-f", &name]);
            }
            Deed::Push => {
                docker(&["load", "-q", "-i", &self.archive]).ok();
                docker(&["tag", "loaded:1", &self.name("sent")]).ok();
            }
            Deed::Commit | Deed::RemoveContainer => {
                docker(&["rmi", "-f", "committed:1"]);
                docker(&["rm", "-f", "writer"]);
                let write = ["run", "--name", "writer", "busybox", "sh", "-c"];
                docker(&[&write[..], &["echo -n committed > /content"]].concat()).ok();
                if deed == Deed::RemoveContainer {
                    // Its image goes with it.
                    docker(&["tag", "busybox", "tagged:1"]).ok();
                }
            }
            Deed::Build => {
                docker(&["rmi", "-f", "built:1"]);
            }
            Deed::Remove | Deed::Prune => {
                docker(&["pull", "-q", &self.name("app")]).ok();
                docker(&["load", "-q", "-i", &self.archive]).ok();
            }
        }
    }

    /// The images by name.
    fn images(&self) -> BTreeMap<String, String> {
        let format = "{{.Repository}}:{{.Tag}} {{.ID}}";
        let listed = self
            .world
            .docker(&["images", "--no-trunc", "--format", format]);
        let text = listed.ok();
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines
            .map(|(name, id)| (name.to_owned(), id.to_owned()))
            .collect()
    }

    /// What must hold after a restart, when `deed` was or was not answered.
    fn check(&mut self, deed: Deed, answered: bool, before: &BTreeMap<String, String>) {
        let checked = wait_for("a whole check", || {
            let checked = self.world.docker(&["fsck"]);
            (!checked.out.contains("note: ")).then_some(checked)
        });
        let text = checked.ok();
        assert!(text.ends_with("nothing is wrong\n"), "{deed:?}: {text}");
        let now = self.images();
        let (gone, come): (BTreeSet<String>, BTreeSet<String>) = match deed {
            Deed::Pull => ([].into(), [self.name("app")].into()),
            Deed::Load => ([].into(), ["loaded:1".to_owned()].into()),
            Deed::Commit => ([].into(), ["committed:1".to_owned()].into()),
            Deed::Build => ([].into(), ["built:1".to_owned()].into()),
            Deed::Tag => ([].into(), ["tagged:1".to_owned()].into()),
            Deed::Push | Deed::RemoveContainer => ([].into(), [].into()),
            Deed::Remove => ([self.name("app")].into(), [].into()),
            Deed::Prune => (before.keys().cloned().collect(), [].into()),
        };
        for (name, id) in before {
            let same = now.get(name) == Some(id);
            let may = gone.contains(name) || come.contains(name);
            assert!(same || may, "{deed:?} took {name} away: {now:?}");
        }
        for name in now.keys() {
            let may = before.contains_key(name) || come.contains(name);
            assert!(may, "{deed:?} brought {name}: {now:?}");
        }
        if answered {
            for name in &come {
                assert!(now.contains_key(name), "{deed:?} lost {name}: {now:?}");
            }
            if deed == Deed::Remove {
                assert!(!now.contains_key(&self.name("app")), "{now:?}");
            }
        }
        // What is there is whole.
        for (name, text) in [
            (self.name("app"), "pulled".to_owned()),
            ("loaded:1".to_owned(), "loaded".to_owned()),
            ("committed:1".to_owned(), "committed".to_owned()),
            ("built:1".to_owned(), self.content()),
        ] {
            if now.contains_key(&name) && come.contains(&name) {
                let said = self
                    .world
                    .docker(&["run", "--rm", &name, "cat", "/content"]);
                assert_eq!(said.ok(), text, "{deed:?}");
            }
        }
    }

    /// The deed again, which must work now.
    fn again(&mut self, deed: Deed) {
        let words = self.words(deed);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = self.world.docker(&words);
        let gone =
            matches!(deed, Deed::Remove | Deed::RemoveContainer) && done.err.contains("No such");
        assert!(done.status == Some(0) || gone, "{deed:?} again: {done:?}");
        if deed == Deed::Build {
            let cat = ["run", "--rm", "built:1", "cat", "/content"];
            assert_eq!(self.world.docker(&cat).ok(), self.content());
        }
        // A tag of busybox's image keeps prune from it.
        if deed == Deed::Prune {
            self.world.load(&image());
        }
    }

    fn client(&self, deed: Deed) -> Child {
        let mut command = self.world.daemon.client(crate::world::binary());
        command.args(self.words(deed));
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Nothing is left when all that was done is undone.
    fn finish(mut self) {
        self.world.docker(&["rm", "-f", "writer"]);
        self.world.docker(&["image", "prune", "-a", "-f"]).ok();
        self.world.docker(&["builder", "prune", "-a", "-f"]).ok();
        let layers = self.world.daemon.directory().join("data/image/layers");
        wait_for("no layer is left", || {
            fs::read_dir(&layers)
                .unwrap()
                .next()
                .is_none()
                .then_some(())
        });
        assert!(self.world.daemon.stop().success());
        let at_rest = crate::fsck::at_rest(&self.world.daemon, &[]).ok();
        assert!(at_rest.ends_with("nothing is wrong\n"), "{at_rest}");
        self.world.daemon.launch();
        self.world.load(&image());
        self.world.finish();
    }
}

/// strace that kills the daemon at its nth step.
struct Assassin(Child);

impl Assassin {
    /// `None` where nothing can be traced. Each thread's steps are counted apart.
    fn hire(world: &World, nth: usize, log: &Path) -> Option<Self> {
        let said = world.files.join("strace");
        let pid = world.daemon.pid().to_string();
        let mut command = Command::new("strace");
        let inject = format!("inject={STEPS}:signal=SIGKILL:when={nth}");
        command.args(["-f", "-q", "-e", &format!("trace={STEPS}"), "-e", &inject]);
        command.args(["-p", &pid]);
        let errors = fs::File::create(&said).unwrap();
        command
            .arg("-o")
            .arg(log)
            .stderr(errors)
            .stdout(Stdio::null());
        let Ok(mut strace) = command.spawn() else {
            hoist_testkit::skip("strace is not installed");
            return None;
        };
        let attached = wait_for("strace is attached", || {
            if matches!(strace.try_wait(), Ok(Some(_))) {
                // Also a step of what the daemon does by itself kills it, and then nobody is left to trace.
                return Some(is_dead(world));
            }
            // Every thread of it is traced.
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
            let traced = tasks.flatten().all(|task| {
                let status = fs::read_to_string(task.path().join("status"));
                status.is_ok_and(|status| {
                    let tracer = status
                        .lines()
                        .find_map(|line| line.strip_prefix("TracerPid:"));
                    tracer.is_none_or(|tracer| tracer.trim() != "0")
                })
            });
            traced.then_some(true)
        });
        if !attached {
            hoist_testkit::skip("strace may not trace here");
            return None;
        }
        Some(Self(strace))
    }

    /// By force: it waits for one that is dead and not waited for. Who was traced and lives goes on.
    fn dismiss(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Whether the daemon ended and was not waited for.
fn is_dead(world: &World) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon.pid()));
    status.is_ok_and(|status| status.contains("State:\tZ"))
}

#[test]
fn killed_at_each_step() {
    let Some(mut subject) = Subject::new() else {
        return;
    };
    let seconds = setting("HOIST_CRASH_SECONDS").unwrap_or(12);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = setting("HOIST_CRASH_SEED").unwrap_or(1);
    let log = subject.world.files.join("steps");
    let mut killed = 0_u32;
    loop {
        let mut chance = subject.begin(seed);
        let deed = DEEDS[usize::try_from(seed).unwrap() % DEEDS.len()];
        subject.prepare(deed);
        let before = subject.images();
        // A build takes more steps than anything else.
        let most = if deed == Deed::Build { 40 } else { 12 };
        let nth = 1 + chance.below(most);
        subject.note(format!("{deed:?}, killed at step {nth}"));
        let Some(assassin) = Assassin::hire(&subject.world, nth, &log) else {
            subject.finish();
            return;
        };
        let mut client = subject.client(deed);
        let answered = client.wait().unwrap().success();
        if !answered {
            // Nobody else makes it fail; one that is killed is dead a moment after its connections are.
            wait_for("the daemon is dead", || {
                is_dead(&subject.world).then_some(())
            });
            killed += 1;
        }
        assassin.dismiss();
        subject.note(format!("answered: {answered}"));
        // Also where it had fewer steps: then behind its answer.
        subject.world.daemon.kill();
        subject.world.daemon.launch();
        subject.check(deed, answered, &before);
        subject.again(deed);
        seed += 1;
        if Instant::now() >= end {
            break;
        }
    }
    assert!(killed > 0, "nobody was killed in the middle");
    subject.finish();
}

#[test]
fn killed_at_any_moment() {
    let Some(mut subject) = Subject::new() else {
        return;
    };
    let seconds = setting("HOIST_CRASH_SECONDS").unwrap_or(12);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seed = setting("HOIST_CRASH_SEED").unwrap_or(1);
    loop {
        let mut chance = subject.begin(seed);
        let count = 1 + chance.below(4);
        let deeds: Vec<Deed> = (0..count).map(|_| chance.pick(&DEEDS)).collect();
        for deed in &deeds {
            subject.prepare(*deed);
        }
        subject.note(format!("{deeds:?}"));
        let clients: Vec<Child> = deeds.iter().map(|deed| subject.client(*deed)).collect();
        std::thread::sleep(Duration::from_millis(chance.below(250) as u64));
        subject.world.daemon.kill();
        let answered: Vec<bool> = clients
            .into_iter()
            .map(|mut client| client.wait().unwrap().success())
            .collect();
        subject.note(format!("answered: {answered:?}"));
        subject.world.daemon.launch();
        let checked = wait_for("a whole check", || {
            let checked = subject.world.docker(&["fsck"]);
            (!checked.out.contains("note: ")).then_some(checked)
        });
        let text = checked.ok();
        assert!(text.ends_with("nothing is wrong\n"), "{text}");
        // Of one alone it is known what has to be true.
        if let ([deed], [true]) = (&deeds[..], &answered[..]) {
            let now = subject.images();
            let name = match deed {
                Deed::Pull => Some(subject.name("app")),
                Deed::Load => Some("loaded:1".to_owned()),
                Deed::Commit => Some("committed:1".to_owned()),
                Deed::Build => Some("built:1".to_owned()),
                Deed::Tag => Some("tagged:1".to_owned()),
                _ => None,
            };
            let kept = name.is_none_or(|name| now.contains_key(&name));
            assert!(kept, "{deed:?} was answered, and is lost: {now:?}");
        }
        subject.world.load(&image());
        for deed in deeds {
            subject.prepare(deed);
            subject.again(deed);
        }
        seed += 1;
        if Instant::now() >= end {
            break;
        }
    }
    subject.finish();
}
