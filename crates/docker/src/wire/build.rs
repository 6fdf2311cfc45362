//! Builds as Hoist's own operation has them: `POST /hoist/build`.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_build::plan::{BuildNetwork, PlanOptions};
use hoist_build::ports::Surroundings;
use hoist_build::{BuildRequest, ContextName, Secrets};
use hoist_model::container::{Resources, Ulimit};
use hoist_model::{ImageReference, Platform};
use serde::{Deserialize, Serialize};

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

/// One line of the answer: something that happened. Times are seconds since the request came.
#[derive(Debug, Serialize)]
#[serde(tag = "Kind", rename_all = "camelCase")]
pub(crate) enum BuildReport<'a> {
    /// What will be done, in the order of the file.
    #[serde(rename_all = "PascalCase")]
    Planned {
        at: f64,
        vertices: Vec<VertexBody>,
        warnings: Vec<String>,
    },
    /// The plan's text, where nothing else was asked for.
    #[serde(rename_all = "PascalCase")]
    Plan { text: String },
    /// Something about a base image.
    #[serde(rename_all = "PascalCase")]
    Said { at: f64, text: &'a str },
    /// A step is being done.
    #[serde(rename_all = "PascalCase")]
    Began { at: f64, step: usize },
    /// Its program wrote something: 1 on standard output, 2 on standard error.
    #[serde(rename_all = "PascalCase")]
    Wrote {
        at: f64,
        step: usize,
        stream: u8,
        text: &'a str,
    },
    /// It is done, or was before.
    #[serde(rename_all = "PascalCase")]
    Done { at: f64, step: usize, cached: bool },
    /// The image is there, under these names.
    #[serde(rename_all = "PascalCase")]
    Image {
        at: f64,
        id: String,
        names: Vec<String>,
    },
    /// There is none.
    #[serde(rename_all = "PascalCase")]
    Failed {
        at: f64,
        message: String,
        step: Option<usize>,
        /// The lines of the Dockerfile that are to blame, with those around them.
        excerpt: Option<String>,
        line: Option<usize>,
        exit_code: Option<i32>,
        status: u16,
    },
}

/// Something that is shown from its beginning to its end.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VertexBody {
    name: String,
    /// Nothing for a base image.
    step: Option<usize>,
}

impl From<hoist_build::Vertex> for VertexBody {
    fn from(vertex: hoist_build::Vertex) -> Self {
        Self {
            name: vertex.name,
            step: vertex.step,
        }
    }
}

impl BuildReport<'_> {
    /// As a line.
    pub(crate) fn to_bytes(&self) -> bytes::Bytes {
        let mut text = serde_json::to_vec(self).expect("a struct of plain members is JSON");
        text.push(b'\n');
        text.into()
    }
}
