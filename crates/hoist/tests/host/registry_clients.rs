//! Clients that others wrote against `hoist registry`: skopeo, podman and crane.

use std::path::{Path, PathBuf};
use std::process::Command;

use hoist_testkit::{Certificates, ImageBuilder, TarBuilder, TemporaryDirectory, sha256};

use crate::registry_served::Served;
use crate::world::{Seen, seen};

/// bcrypt of `wonderland`.
const USERS: &str = "alice:$2y$04$SAs2IzJT0mu1KE6jqPSI/.WZRNGSjbWHcKEunt8.Ir6FpHsR3Bp2e\n";
const RIGHTS: &str = "@anyone pull public/**\nalice all **\n";

/// A registry with a user, and an archive to be pushed.
struct Shelf {
    directory: TemporaryDirectory,
    served: Served,
}

impl Shelf {
    fn new(flags: &[&str]) -> Self {
        Self::at(TemporaryDirectory::new("registry-clients"), flags)
    }

    fn at(directory: TemporaryDirectory, flags: &[&str]) -> Self {
        let users = directory.path().join("users");
        let rights = directory.path().join("rights");
        std::fs::write(&users, USERS).unwrap();
        std::fs::write(&rights, RIGHTS).unwrap();
        std::fs::write(directory.path().join("auth.json"), "{}").unwrap();
        let layer = |name: &str, length: usize| {
            TarBuilder::new()
                .file(name, 0o644, "x".repeat(length))
                .finish()
        };
        let image = ImageBuilder::new()
            .layer(layer("one", 10))
            .layer(layer("two", 3_000_000))
            .name("shelf:1");
        std::fs::write(directory.path().join("image.tar"), image.docker_archive()).unwrap();
        let mut all = vec![
            "--users",
            users.to_str().unwrap(),
            "--rights",
            rights.to_str().unwrap(),
        ];
        all.extend(flags);
        let served = Served::start(&directory.path().join("images"), &all);
        Self { directory, served }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Runs a program without a configuration of the user's; `HERE` in its words is the registry.
    fn run(&self, program: &Path, words: &str) -> Seen {
        let here = self.served.address.to_string();
        let words = words
            .replace("HERE", &here)
            .replace("FILES", &self.path(""));
        let mut command = Command::new(program);
        command
            .args(words.split_whitespace())
            .env("HOME", self.path("home"))
            .env("DOCKER_CONFIG", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("home"))
            .env("REGISTRY_AUTH_FILE", self.path("auth.json"));
        seen(&mut command)
    }
}

/// A program in PATH, or beside what `scripts/test` builds; a skip where it is in neither.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    places.push(target.join("tools"));
    let found = places
        .into_iter()
        .map(|place| place.join(name))
        .find(|path| path.exists());
    if found.is_none() {
        hoist_testkit::skip(&format!("{name} is not installed"));
    }
    found
}

#[test]
fn skopeo_copies_there_and_back() {
    let Some(skopeo) = program("skopeo") else {
        return;
    };
    for flags in [&[][..], &["--tokens"]] {
        let shelf = Shelf::new(flags);
        let to = "copy --insecure-policy --dest-tls-verify=false docker-archive:FILES/image.tar docker://HERE/public/app:1";
        shelf.run(&skopeo, to).refused(1);
        shelf
            .run(&skopeo, &format!("{to} --dest-creds alice:wrong"))
            .refused(1);
        shelf
            .run(&skopeo, &format!("{to} --dest-creds alice:wonderland"))
            .ok();
        // Anybody may have it; it is what it was.
        let back = "copy --insecure-policy --src-tls-verify=false docker://HERE/public/app:1 dir:FILES/back";
        shelf.run(&skopeo, back).ok();
        let inspect = "inspect --tls-verify=false docker://HERE/public/app:1";
        let digest = |text: String| {
            let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
            parsed["Digest"].as_str().unwrap().to_owned()
        };
        let first = digest(shelf.run(&skopeo, inspect).ok());
        let copy = "copy --insecure-policy --src-tls-verify=false --dest-tls-verify=false --dest-creds alice:wonderland docker://HERE/public/app:1 docker://HERE/team/app:2";
        shelf.run(&skopeo, copy).ok();
        let private = "inspect --tls-verify=false docker://HERE/team/app:2";
        shelf.run(&skopeo, private).refused(1);
        assert_eq!(
            digest(
                shelf
                    .run(&skopeo, &format!("{private} --creds alice:wonderland"))
                    .ok()
            ),
            first
        );
        let tags = shelf
            .run(
                &skopeo,
                "list-tags --tls-verify=false docker://HERE/public/app",
            )
            .ok();
        assert!(tags.contains("\"1\""), "{tags}");
        let delete = "delete --tls-verify=false --creds alice:wonderland docker://HERE/team/app:2";
        shelf.run(&skopeo, delete).ok();
        shelf
            .run(&skopeo, &format!("{private} --creds alice:wonderland"))
            .refused(1);
    }
}

#[test]
fn podman_pulls_and_pushes() {
    let (Some(podman), Some(skopeo)) = (program("podman"), program("skopeo")) else {
        return;
    };
    let shelf = Shelf::new(&["--tokens"]);
    let to = "copy --insecure-policy --dest-tls-verify=false --dest-creds alice:wonderland docker-archive:FILES/image.tar docker://HERE/public/app:1";
    shelf.run(&skopeo, to).ok();
    std::fs::write(
        shelf.path("policy.json"),
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .unwrap();
    let own = "--root FILES/store --runroot FILES/run --storage-driver vfs";
    let pull = format!(
        "{own} pull --signature-policy FILES/policy.json --tls-verify=false HERE/public/app:1"
    );
    shelf.run(&podman, &pull).ok();
    let push = format!(
        "{own} push --signature-policy FILES/policy.json --tls-verify=false HERE/public/app:1 docker://HERE/team/app:1"
    );
    shelf.run(&podman, &push).refused(125);
    shelf
        .run(
            &podman,
            &format!("{own} login --tls-verify=false -u alice -p wrong HERE"),
        )
        .refused(125);
    shelf
        .run(
            &podman,
            &format!("{own} login --tls-verify=false -u alice -p wonderland HERE"),
        )
        .ok();
    shelf.run(&podman, &push).ok();
    shelf
        .run(&podman, &pull.replace("public/app", "team/app"))
        .ok();
}

#[test]
fn crane_does_all_it_can() {
    let Some(crane) = program("crane") else {
        return;
    };
    for flags in [&[][..], &["--tokens"]] {
        let shelf = Shelf::new(flags);
        shelf
            .run(&crane, "push FILES/image.tar HERE/public/app:1")
            .refused(1);
        shelf
            .run(&crane, "auth login HERE -u alice -p wonderland")
            .ok();
        shelf
            .run(&crane, "push FILES/image.tar HERE/public/app:1")
            .ok();
        shelf
            .run(&crane, "validate --remote HERE/public/app:1")
            .ok();
        shelf
            .run(&crane, "copy HERE/public/app:1 HERE/team/app:2")
            .ok();
        shelf.run(&crane, "tag HERE/team/app:2 also").ok();
        assert_eq!(shelf.run(&crane, "ls HERE/team/app").ok(), "2\nalso\n");
        assert_eq!(
            shelf.run(&crane, "catalog HERE").ok(),
            "public/app\nteam/app\n"
        );
        let digest = shelf.run(&crane, "digest HERE/team/app:2").ok();
        assert_eq!(shelf.run(&crane, "digest HERE/public/app:1").ok(), digest);
        shelf
            .run(&crane, &format!("delete HERE/team/app@{}", digest.trim()))
            .ok();
        assert_eq!(shelf.run(&crane, "ls HERE/team/app").ok(), "");
        shelf
            .run(&crane, "pull HERE/public/app:1 FILES/pulled.tar")
            .ok();
        shelf.run(&crane, "auth logout HERE").ok();
        shelf.run(&crane, "manifest HERE/public/app:1").ok();
        shelf.run(&crane, "manifest HERE/team/app:2").refused(1);
    }
}

#[test]
fn tls_is_spoken_in_both_versions_of_http() {
    let (Some(skopeo), Some(curl)) = (program("skopeo"), program("curl")) else {
        return;
    };
    let directory = TemporaryDirectory::new("registry-tls");
    let trust = directory.path().join("trust");
    std::fs::create_dir(&trust).unwrap();
    let certificates = Certificates::new(directory.path(), &["127.0.0.1"]);
    std::fs::copy(&certificates.authority, trust.join("ca.crt")).unwrap();
    let flags = [
        "--tls-cert",
        certificates.certificate.to_str().unwrap(),
        "--tls-key",
        certificates.key.to_str().unwrap(),
        "--tokens",
    ];
    let shelf = Shelf::at(directory, &flags);
    let to = "copy --insecure-policy --dest-cert-dir FILES/trust --dest-creds alice:wonderland docker-archive:FILES/image.tar docker://HERE/public/app:1";
    shelf.run(&skopeo, to).ok();
    let manifest = shelf
        .run(
            &skopeo,
            "inspect --raw --cert-dir FILES/trust docker://HERE/public/app:1",
        )
        .ok();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    // A blob comes by name and password; by 1.1 and by 2.
    for layer in manifest["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        for version in ["1.1", "2"] {
            let words = format!(
                "--silent --fail --http{version} --user alice:wonderland --cacert FILES/trust/ca.crt --output FILES/blob --write-out %{{http_version}} https://HERE/v2/public/app/blobs/{digest}"
            );
            assert_eq!(shelf.run(&curl, &words).ok(), version);
            assert_eq!(sha256(&std::fs::read(shelf.path("blob")).unwrap()), digest);
        }
    }
    let plain = shelf.run(&curl, "--silent --fail http://HERE/v2/");
    assert_ne!(plain.status, Some(0), "{plain:?}");
}
