//! Builds as Hoist's own operation has them: `POST /hoist/build`.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_build::plan::{BuildNetwork, PlanOptions};
use hoist_build::ports::Surroundings;
use hoist_build::{BuildRequest, ContextName, Secrets};
use hoist_buildkit::CacheTerms;
use hoist_model::build::Report;
use hoist_model::container::{Resources, Ulimit};
use hoist_model::{ImageReference, Platform};
use serde::Deserialize;

use crate::error::ApiError;

/// What is asked for. A member that is not known is refused: it would be a flag that does nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(crate) struct BuildBody {
    /// The Dockerfile's text; else it is read from the main context.
    pub(crate) dockerfile: Option<String>,
    /// Its name, in the main context and in what is said.
    pub(crate) dockerfile_name: Option<String>,
    /// By name; the main one's is empty.
    pub(crate) contexts: BTreeMap<String, ContextBody>,
    target: Option<String>,
    arguments: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, String>,
    platform: Option<String>,
    network: String,
    no_cache: bool,
    no_cache_stages: Vec<String>,
    pull: bool,
    tags: Vec<String>,
    extra_hosts: Vec<String>,
    ulimits: Vec<UlimitBody>,
    shm_size: i64,
    memory: i64,
    memory_swap: i64,
    cpu_shares: i64,
    cpu_period: i64,
    cpu_quota: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    cgroup_parent: String,
    /// Base64, by id.
    secrets: HashMap<String, String>,
    /// Say what would be done, and do nothing.
    pub(crate) plan_only: bool,
    /// A question about the Dockerfile in place of a build: `lint`, `outline`, `targets`.
    pub(crate) question: Option<String>,
    /// Where else something may have been built before, and where it is to be told.
    cache_from: Vec<TypedBody>,
    cache_to: Vec<TypedBody>,
    /// What becomes of it; nothing said: an image here, under the tags.
    pub(crate) outputs: Vec<TypedBody>,
    /// Images that names stand for.
    pub(crate) images: BTreeMap<String, String>,
}

/// `type=…` and what goes with it, as flags have it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(crate) struct TypedBody {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) attributes: HashMap<String, String>,
}

/// Where a context comes from: one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(crate) struct ContextBody {
    /// One that was put here before (`PUT /hoist/build/contexts/{slot}`).
    pub(crate) kept: Option<KeptBody>,
    /// An address that the engine asks.
    pub(crate) remote: Option<String>,
}

/// The state of a place.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(crate) struct KeptBody {
    slot: String,
    key: String,
    /// Whether this is all that it was put here for.
    #[serde(default)]
    pub(crate) once: bool,
}

impl From<KeptBody> for ContextName {
    fn from(body: KeptBody) -> Self {
        Self {
            slot: body.slot,
            key: body.key,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UlimitBody {
    name: String,
    soft: i64,
    hard: i64,
}

impl BuildBody {
    /// What is said of caches elsewhere.
    pub(crate) fn caches(&self) -> Result<CacheTerms, ApiError> {
        fn said(body: &TypedBody) -> (&str, &HashMap<String, String>) {
            (body.kind.as_str(), &body.attributes)
        }
        let (from, to) = (
            self.cache_from.iter().map(said),
            self.cache_to.iter().map(said),
        );
        CacheTerms::read(from, to).map_err(|error| ApiError::new(error.class, error.message))
    }

    /// The builder's words for it, Dockerfile and contexts left out. Fails for what cannot be read.
    pub(crate) fn request(&self) -> Result<BuildRequest, ApiError> {
        let platform = self.platform.as_deref().filter(|text| !text.is_empty());
        let platform = platform.map(str::parse::<Platform>).transpose();
        let platform = platform.map_err(|error| ApiError::invalid(error.to_string()))?;
        let mut tags = Vec::new();
        for text in &self.tags {
            let reference = ImageReference::parse(text);
            tags.push(reference.map_err(|error| ApiError::invalid(error.to_string()))?);
        }
        let mut secrets = BTreeMap::new();
        for (id, value) in &self.secrets {
            // The value is not shown.
            let value = STANDARD
                .decode(value)
                .map_err(|_| ApiError::invalid(format!("secret {id} is not base64")))?;
            secrets.insert(id.clone(), value);
        }
        let ulimits = self.ulimits.iter().map(|limit| Ulimit {
            name: limit.name.clone(),
            soft: limit.soft,
            hard: limit.hard,
        });
        Ok(BuildRequest {
            options: PlanOptions {
                target: self.target.clone().filter(|target| !target.is_empty()),
                arguments: self.arguments.clone(),
                labels: self.labels.clone(),
                platform: platform.unwrap_or_else(Platform::host),
                network: network(&self.network),
                ..PlanOptions::default()
            },
            no_cache: self.no_cache,
            no_cache_stages: self.no_cache_stages.clone(),
            pull: self.pull,
            tags,
            surroundings: Surroundings {
                extra_hosts: self.extra_hosts.clone(),
                shm_size: self.shm_size,
                resources: Resources {
                    memory: self.memory,
                    memory_swap: self.memory_swap,
                    cpu_shares: self.cpu_shares,
                    cpu_period: self.cpu_period,
                    cpu_quota: self.cpu_quota,
                    cpuset_cpus: self.cpuset_cpus.clone(),
                    cpuset_mems: self.cpuset_mems.clone(),
                    ulimits: ulimits.collect(),
                    ..Resources::default()
                },
                cgroup_parent: self.cgroup_parent.clone(),
            },
            secrets: Secrets(secrets),
            ..BuildRequest::default()
        })
    }
}

/// The network that a flag or a parameter names.
pub(crate) fn network(name: &str) -> BuildNetwork {
    match name {
        "" | "default" | "bridge" => BuildNetwork::Default,
        "none" => BuildNetwork::None,
        "host" => BuildNetwork::Host,
        other => BuildNetwork::Named(other.to_owned()),
    }
}

/// A line of the answer.
pub(crate) fn line(report: &Report) -> bytes::Bytes {
    let mut text = serde_json::to_vec(report).expect("a struct of plain members is JSON");
    text.push(b'\n');
    text.into()
}
