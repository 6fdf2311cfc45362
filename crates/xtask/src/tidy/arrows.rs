//! Which crate may lean on which, and why; who may run tokio.
//!
//! An arrow that is not in the list below is a decision nobody made. Cargo already refuses cycles; this
//! refuses shortcuts.

use super::{Finding, House};

/// Every allowed arrow between crates, with its reason.
const ARROWS: &[(&str, &str, &str)] = &[
    ("store", "model", "tables hold the vocabulary's objects"),
    ("http", "model", "errors are rendered by their class"),
    ("http", "sys", "whether a client has read a reply's head"),
    ("git", "model", "error classes"),
    ("image", "model", "digests, references, platforms, progress"),
    ("image", "sys", "EROFS and overlay mounts, openat2"),
    ("net", "model", "port requests, network ids"),
    ("net", "sys", "netlink sockets, namespaces"),
    ("cgroup", "model", "resources to limit, ids of groups"),
    ("cgroup", "sys", "device programs, watches"),
    (
        "runtime",
        "cgroup",
        "a child joins its group, a device is made",
    ),
    ("runtime", "model", "container specs and states"),
    (
        "runtime",
        "sys",
        "clone3, mounts, pidfds, seccomp, descriptor passing",
    ),
    ("registry", "http", "TLS connectors and client connections"),
    (
        "registry",
        "image",
        "a pulled layer streams into the layer store",
    ),
    (
        "registry",
        "model",
        "references, digests, platforms, progress",
    ),
    (
        "registry",
        "sys",
        "uploads are on their way to disk as they come",
    ),
    ("engine", "image", "images resolve to layers and snapshots"),
    ("engine", "model", "specs, states, events"),
    ("engine", "net", "containers are attached to networks"),
    ("engine", "runtime", "containers are launched"),
    ("engine", "store", "every object lives in the store"),
    (
        "engine",
        "sys",
        "volumes and bind mounts are opened as descriptors",
    ),
    ("build", "image", "steps make layers of layers"),
    ("build", "model", "digests, references, platforms"),
    (
        "build",
        "runtime",
        "owners of copied files are users of the image",
    ),
    ("build", "store", "the cache's entries live in the store"),
    ("buildkit", "build", "its requests are builds"),
    (
        "buildkit",
        "engine",
        "base images come from it, images go to it",
    ),
    (
        "buildkit",
        "http",
        "its tasks belong to connections of the server",
    ),
    ("buildkit", "image", "contexts become layers"),
    ("buildkit", "model", "references, digests, error classes"),
    ("docker", "build", "images are built of Dockerfiles"),
    (
        "docker",
        "buildkit",
        "BuildKit's clients come in by the same door",
    ),
    ("docker", "engine", "the API's verbs act on the engine"),
    ("docker", "http", "the API is spoken over it"),
    ("docker", "image", "load, save and import stream archives"),
    (
        "docker",
        "model",
        "wire types are translated to the vocabulary",
    ),
    ("docker", "registry", "pull and login"),
    ("render", "model", "times and sizes are shown for people"),
    (
        "cli",
        "build",
        "what .dockerignore leaves out of a context that is sent",
    ),
    (
        "cli",
        "docker",
        "its client is what verbs call the API with",
    ),
    ("cli", "http", "streams, and the certificates of contexts"),
    ("cli", "image", "`cp` and contexts pack and unpack archives"),
    ("cli", "model", "names, references, times"),
    (
        "cli",
        "registry",
        "`manifest` speaks to registries itself, as the stock client's does",
    ),
    ("cli", "render", "what verbs show"),
    ("hoist", "build", "composition root"),
    ("hoist", "buildkit", "opens the caches that registries have"),
    ("hoist", "cgroup", "composition root"),
    ("hoist", "cli", "one binary: client and engine"),
    ("hoist", "docker", "serves the API"),
    ("hoist", "engine", "composition root"),
    ("hoist", "git", "what ADD fetches is fetched here"),
    ("hoist", "http", "composition root"),
    ("hoist", "image", "composition root"),
    ("hoist", "model", "composition root"),
    ("hoist", "net", "composition root"),
    ("hoist", "registry", "composition root"),
    (
        "hoist",
        "runtime",
        "composition root; the zygote is this binary",
    ),
    ("hoist", "store", "composition root"),
    (
        "hoist",
        "sys",
        "signals, descriptors of the service manager",
    ),
];

/// Crates that tests and tasks are made of: anyone may use testkit as a dev-dependency.
const DEVELOPMENT: &[&str] = &["testkit", "xtask"];

/// Arrows of tests alone, each with its reason.
const OF_TESTS: &[(&str, &str, &str)] = &[(
    "docker",
    "store",
    "its contract tests ask a whole engine over a real socket",
)];

/// Crates that may run tokio; the others may use the runtime-agnostic `tokio::sync` only.
const TOKIO: &[&str] = &[
    "http", "registry", "engine", "build", "buildkit", "docker", "cli", "hoist",
];

pub(super) fn check(house: &House) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in &house.crates {
        for (section, dependency) in dependencies(&one.manifest) {
            let from = one.name.as_str();
            let development = section == "dev-dependencies"
                && (dependency == "testkit"
                    || ARROWS
                        .iter()
                        .chain(OF_TESTS)
                        .any(|(f, t, _)| (*f, *t) == (from, dependency)));
            let allowed = ARROWS
                .iter()
                .any(|(f, t, _)| (*f, *t) == (from, dependency))
                || DEVELOPMENT.contains(&from);
            if !allowed && !development {
                findings.push(Finding::Failure(format!(
                    "crates/{from} leans on {dependency} ({section}): not in the list of arrows (crates/xtask/src/tidy/arrows.rs)"
                )));
            }
        }
        if !TOKIO.contains(&one.name.as_str()) && !DEVELOPMENT.contains(&one.name.as_str()) {
            findings.extend(tokio_uses(house, one));
        }
    }
    findings
}

/// The house's own crates that a manifest names, with the section they stand in.
fn dependencies(manifest: &str) -> Vec<(&str, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section.ends_with("dependencies")
            && let Some(rest) = line.strip_prefix("hoist-")
        {
            let end = rest.find([' ', '.', '=']).unwrap_or(rest.len());
            found.push((section, &rest[..end]));
        }
    }
    found
}

fn tokio_uses(house: &House, one: &super::Crate) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &one.sources {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let foreign = code
                .match_indices("tokio::")
                .any(|(at, _)| !code[at..].starts_with("tokio::sync"));
            if foreign {
                findings.push(Finding::Failure(format!(
                    "{}:{}: {} may not run tokio (only tokio::sync)",
                    house.relative(path),
                    number + 1,
                    one.name
                )));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_crates_are_found_in_their_sections() {
        let manifest = "[package]\nname = \"hoist-a\"\n[dependencies]\nhoist-model = { workspace = true }\nserde.workspace = true\n[dev-dependencies]\nhoist-testkit.workspace = true\n";
        assert_eq!(
            dependencies(manifest),
            [("dependencies", "model"), ("dev-dependencies", "testkit")]
        );
    }

    #[test]
    fn no_arrow_is_listed_twice_and_each_has_a_reason() {
        for (index, (from, to, reason)) in ARROWS.iter().enumerate() {
            assert!(!reason.is_empty());
            assert!(
                !ARROWS[..index].iter().any(|(f, t, _)| (f, t) == (from, to)),
                "{from} {to}"
            );
        }
    }
}
