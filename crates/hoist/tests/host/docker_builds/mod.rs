//! The same Dockerfiles built by Docker and by us: files and configs are what one of Docker's two builders makes of them.
//!
//! Debian's daemon has both, the classic one and BuildKit. Where they agree there is one right answer; where they do not (who owns a
//! WORKDIR, which permissions a copied directory has) ours is BuildKit's or the classic one's, and never a third. Ours builds
//! every case twice, by the door of our own client and by `POST /build`, to the same image.
//!
//! `HOIST_BUILD_CASE` names the only case to build, by a part of its name.

mod cases;
mod compare;
mod context;
mod saved;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hoist_testkit::{ImageBuilder, TarBuilder, TemporaryDirectory};
use serde_json::json;

use crate::docker_io::{Docker, apart};
use crate::world::{World, able, binary, image, seen};
use cases::Case;
use saved::Archive;

/// Cases that are under way at once: Docker waits for its disk most of the time.
const AT_ONCE: usize = 3;

/// Who builds.
const BUILDERS: [&str; 3] = ["classic", "buildkit", "hoist"];

#[test]
fn what_is_built_is_what_docker_builds() {
    if able() {
        apart(built_by_all);
    }
}

fn built_by_all() {
    let Some(docker) = Docker::start() else {
        return;
    };
    let world = World::empty(&[]).unwrap();
    let files = TemporaryDirectory::new("builds");
    for base in bases() {
        let archive = files.join("base.tar");
        std::fs::write(&archive, base.docker_archive()).unwrap();
        let load = ["load", "-q", "-i", archive.to_str().unwrap()];
        world.docker(&load).ok();
        docker.run(&load).ok();
    }
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let cases = cases::all();
    let builds = Builds {
        docker: &docker,
        world: &world,
        files: files.path(),
    };
    let next = AtomicUsize::new(0);
    // Held for one entry.
    let ended = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcomes = builds.build(case);
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    ended.push((case, outcomes));
                }
            });
        }
    });
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(ended.len(), cases.len());
    let archives = BUILDERS.map(|builder| builds.saved(builder, &ended));

    let mut wrong = Vec::new();
    for (case, outcomes) in &ended {
        let mut said = Vec::new();
        let images = BUILDERS.iter().zip(outcomes).zip(&archives);
        let images = images.map(|((builder, outcome), archive)| match outcome {
            Ok(()) => Ok(archive.image(&tag(case, builder))),
            Err(error) => Err(error.as_str()),
        });
        let images: Vec<_> = images.collect();
        let [classic, buildkit, ours] = images.as_slice() else {
            unreachable!("there are three builders");
        };
        compare::outcomes(classic, buildkit, ours, began.as_secs(), &mut said);
        if !said.is_empty() {
            wrong.push(format!("## {}\n{}", case.name, said.join("\n")));
        }
    }
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} of {} cases:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
    let left = docker.finish();
    assert!(left.is_empty(), "{left:?}");
    let left = world.daemon.finish();
    assert!(left.is_empty(), "{left:?}");
}

/// What cases begin with: some files that are in the way, and an image with triggers.
fn bases() -> [ImageBuilder; 3] {
    let files = TarBuilder::new()
        .modified(context::MODIFIED)
        .directory("there")
        .file("there/old", 0o600, "old")
        .directory("there/in")
        .symlink("to-there", "there")
        .symlink("to-old", "/there/old")
        .symlink("to-nowhere", "/not/there")
        .owner(5, 6)
        .entry("owned/", 0o2750, &hoist_testkit::EntryKind::Directory, &[])
        .file("owned/f", 0o4711, "set")
        .finish();
    let base = image().layer(files).named("base:1");
    let triggers = [
        "COPY a.txt /triggered/",
        "ENV TRIGGERED=1",
        "ARG GIVEN=none",
        "RUN echo $GIVEN >/triggered/given",
    ];
    let with_triggers = image()
        .config("OnBuild", json!(triggers))
        .config("User", json!("www-data"))
        .config("Entrypoint", json!(["/bin/env"]))
        .config("Labels", json!({ "inherited": "yes" }))
        .config("ExposedPorts", json!({ "1/tcp": {} }))
        .named("triggers:1");
    let without_path = image().config("Env", json!(null)).named("pathless:1");
    [base, with_triggers, without_path]
}

fn tag(case: &Case, builder: &str) -> String {
    format!("{}:{builder}", case.name)
}

struct Builds<'a> {
    docker: &'a Docker,
    world: &'a World,
    files: &'a Path,
}

type Outcome = Result<(), String>;

impl Builds<'_> {
    /// Builds a case by every builder.
    fn build(&self, case: &Case) -> [Outcome; 3] {
        let directory = self.files.join(&case.name);
        std::fs::create_dir(&directory).unwrap();
        context::write(&directory, &case.dockerfile, &case.ignored);
        BUILDERS.map(|builder| {
            let (mut command, version) = match builder {
                "classic" => (self.docker.client(), Some("0")),
                "buildkit" => (self.docker.client(), Some("1")),
                _ => (self.ours(), None),
            };
            let first = built(&mut command, case, &tag(case, builder), &directory, version)?;
            if builder == "hoist" {
                // The other door, and that the first is no cause for the second to differ.
                let other = tag(case, "door");
                let second = built(&mut self.ours(), case, &other, &directory, Some("0"))?;
                if first != second {
                    return Err(format!("{first} by one door and {second} by the other"));
                }
            }
            Ok(())
        })
    }

    fn ours(&self) -> Command {
        let link = self.files.join("hoist");
        // Another case may have made it.
        let _ = std::os::unix::fs::symlink(binary(), &link);
        self.world.daemon.client(link)
    }

    /// All that a builder made, in one archive.
    fn saved(&self, builder: &str, ended: &[(&Case, [Outcome; 3])]) -> Archive {
        let at = BUILDERS.iter().position(|one| *one == builder).unwrap();
        let whole = ended.iter().filter(|(_, outcomes)| outcomes[at].is_ok());
        let tags: Vec<String> = whole.map(|(case, _)| tag(case, builder)).collect();
        let path = self.files.join(format!("{builder}.tar"));
        let mut command = match builder {
            "hoist" => self.world.daemon.client(binary()),
            _ => self.docker.client(),
        };
        command.args(["save", "-o"]).arg(&path).args(tags);
        seen(&mut command).ok();
        Archive::read(&path)
    }
}

/// Builds, and answers the image's id or what was said last.
fn built(
    command: &mut Command,
    case: &Case,
    tag: &str,
    directory: &PathBuf,
    buildkit: Option<&str>,
) -> Result<String, String> {
    command.env_remove("DOCKER_BUILDKIT");
    if let Some(version) = buildkit {
        command.env("DOCKER_BUILDKIT", version);
    }
    command
        .args(["build", "-q", "--network=none", "-t", tag])
        .args(&case.flags);
    if case.is_archive {
        let path = directory.with_extension("tar");
        std::fs::write(&path, context::archive(&case.dockerfile)).unwrap();
        command
            .arg("-")
            .stdin(Stdio::from(std::fs::File::open(path).unwrap()));
    } else {
        command.arg(directory);
    }
    let seen = seen(command);
    let last = |text: &str| text.lines().last().unwrap_or_default().to_owned();
    match seen.status {
        Some(0) => Ok(last(&seen.out)),
        _ => Err(last(&seen.err)),
    }
}
