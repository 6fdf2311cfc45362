//! What a client asks of the Dockerfile's frontend, in its attributes (buildkit `frontend/dockerui/config.go`, `attr.go`).

use std::collections::{BTreeMap, HashMap};

use hoist_build::BuildRequest;
use hoist_build::plan::{BuildNetwork, PlanOptions};
use hoist_build::ports::Surroundings;
use hoist_model::Platform;
use hoist_model::container::{Resources, Ulimit};
use tonic::Status;

use crate::error::missing;
use crate::session::is_upload;

/// A build as it is asked for, but for its files.
#[derive(Debug)]
pub(crate) struct Attributes {
    /// All but Dockerfile and contexts.
    pub(crate) request: BuildRequest,
    /// The Dockerfile's path in its directory.
    pub(crate) filename: String,
    /// What the client calls the directory of the Dockerfile, and that of the build.
    pub(crate) dockerfile: String,
    pub(crate) context: String,
    /// The address of the context, where it is an archive of the session's; then the Dockerfile is in it unless the client has a directory for that.
    pub(crate) upload: Option<String>,
    /// Whether the client has a directory for the Dockerfile.
    pub(crate) has_dockerfile: bool,
    /// Sessions that share a directory, where it is another than the build's.
    sessions: HashMap<String, String>,
    /// A question about the Dockerfile in place of a build: `outline`, `targets`, `lint`.
    pub(crate) question: Option<String>,
}

impl Attributes {
    pub(crate) fn read(given: &HashMap<String, String>) -> Result<Self, Status> {
        let text = |key: &str| {
            given
                .get(key)
                .map(String::as_str)
                .filter(|text| !text.is_empty())
        };
        refuse_missing(given)?;
        let platform = match text("platform") {
            None => Platform::host(),
            Some(several) if several.contains(',') => {
                return Err(missing("building for several platforms at once"));
            }
            Some(one) => one
                .parse()
                .map_err(|error: hoist_model::InvalidPlatform| invalid(error.to_string()))?,
        };
        let network = match text("force-network-mode") {
            None | Some("default" | "sandbox") => BuildNetwork::Default,
            Some("host") => BuildNetwork::Host,
            Some("none") => BuildNetwork::None,
            Some(other) => return Err(invalid(format!("invalid network mode {other:?}"))),
        };
        let shm_size = match text("shm-size") {
            None => 0,
            Some(size) => number(size, "shm size")?,
        };
        let arguments = prefixed(given, "build-arg:").map(|(name, value)| (name, Some(value)));
        let request = BuildRequest {
            options: PlanOptions {
                target: text("target").map(str::to_owned),
                arguments: arguments.collect(),
                labels: prefixed(given, "label:").collect(),
                platform,
                network,
                ..PlanOptions::default()
            },
            no_cache: given.get("no-cache").is_some_and(String::is_empty),
            no_cache_stages: {
                let stages = text("no-cache").unwrap_or_default().split(',');
                stages
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect()
            },
            pull: text("image-resolve-mode") == Some("pull"),
            surroundings: Surroundings {
                extra_hosts: extra_hosts(text("add-hosts").unwrap_or_default())?,
                shm_size,
                resources: Resources {
                    ulimits: ulimits(text("ulimit").unwrap_or_default())?,
                    ..Resources::default()
                },
                cgroup_parent: text("cgroup-parent").unwrap_or_default().to_owned(),
            },
            ..BuildRequest::default()
        };
        let question = text("requestid").map(|id| id.trim_start_matches("frontend.").to_owned());
        Ok(Self {
            request,
            filename: text("filename").unwrap_or("Dockerfile").to_owned(),
            dockerfile: text("dockerfilekey").unwrap_or("dockerfile").to_owned(),
            context: text("contextkey").unwrap_or("context").to_owned(),
            upload: text("context").map(str::to_owned),
            has_dockerfile: text("dockerfilekey").is_some(),
            sessions: prefixed(given, "local-sessionid:").collect(),
            question,
        })
    }

    /// The session that shares a directory.
    pub(crate) fn session<'s>(&'s self, directory: &str, build: &'s str) -> &'s str {
        self.sessions.get(directory).map_or(build, String::as_str)
    }
}

/// What is asked for that there is not.
fn refuse_missing(given: &HashMap<String, String>) -> Result<(), Status> {
    if let Some(address) = given.get("context").filter(|text| !text.is_empty())
        && !is_upload(address)
    {
        return Err(missing("a build context by address"));
    }
    if given
        .get("contextsubdir")
        .is_some_and(|text| !text.is_empty())
    {
        return Err(missing("a directory inside of a build context by address"));
    }
    if given.keys().any(|key| key.starts_with("attest:")) {
        return Err(missing("attestations"));
    }
    if given
        .get("multi-platform")
        .is_some_and(|text| text == "true")
    {
        return Err(missing("an index of images"));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

fn prefixed(
    given: &HashMap<String, String>,
    prefix: &str,
) -> impl Iterator<Item = (String, String)> {
    let with = given.iter().filter_map(move |(key, value)| {
        let name = key.strip_prefix(prefix)?;
        Some((name.to_owned(), value.clone()))
    });
    with.collect::<BTreeMap<_, _>>().into_iter()
}

fn number(text: &str, what: &str) -> Result<i64, Status> {
    text.parse()
        .map_err(|_| invalid(format!("failed to parse {what}: {text:?} is no number")))
}

/// `name=address` with commas between, as `name:address`.
fn extra_hosts(text: &str) -> Result<Vec<String>, Status> {
    let given = text.split(',').filter(|text| !text.is_empty());
    let read = given.map(|given| {
        let (name, address) = given
            .split_once('=')
            .ok_or_else(|| invalid(format!("invalid additional host {given:?}")))?;
        Ok(format!("{name}:{address}"))
    });
    read.collect()
}

/// `name=soft[:hard]` with commas between.
fn ulimits(text: &str) -> Result<Vec<Ulimit>, Status> {
    let given = text.split(',').filter(|text| !text.is_empty());
    let read = given.map(|given| {
        let wrong = || invalid(format!("invalid ulimit {given:?}"));
        let (name, limits) = given.split_once('=').ok_or_else(wrong)?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        Ok(Ulimit {
            name: name.to_owned(),
            soft: soft.parse().map_err(|_| wrong())?,
            hard: hard.parse().map_err(|_| wrong())?,
        })
    });
    read.collect()
}
