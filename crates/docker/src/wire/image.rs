//! Images: list, inspect, history (API 1.55, `ImageSummary`, `ImageInspect`, `ImageHistoryResponseItem`).

use std::collections::BTreeMap;

use hoist_engine::records::ImageRecord;
use hoist_image::document::ImageConfig;
use hoist_model::{Digest, ImageReference, Timestamp, ZERO_TIME};
use serde::Serialize;
use serde_json::Value;

use super::Empty;
use super::container::GraphDriver;
use super::shape::{Member, shape, since, until};
use crate::ApiVersion;

/// Which members of inspect came and went.
const MEMBERS: &[Member] = &[
    until(44, "VirtualSize"),
    until(45, "Container"),
    until(45, "ContainerConfig"),
    until(52, "GraphDriver"),
    until(52, "Parent"),
    until(52, "DockerVersion"),
    since(48, "Descriptor"),
];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageSummary<'a> {
    containers: i64,
    created: i64,
    id: &'a str,
    labels: Option<&'a BTreeMap<String, String>>,
    parent_id: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    descriptor: Option<Descriptor<'a>>,
    repo_digests: Vec<String>,
    repo_tags: Vec<String>,
    shared_size: i64,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_size: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    manifests: Vec<Value>,
}

impl ImageSummary<'_> {
    /// Tells of its manifests, too.
    pub(crate) fn with_manifests(&mut self, manifests: Vec<Value>) {
        self.manifests = manifests;
    }

    /// Says how many of its bytes another image has, too; -1 is not known.
    pub(crate) fn shared(&mut self, bytes: Option<u64>) {
        self.shared_size = bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Says another size than that of its files: what it occupies on disk.
    pub(crate) fn size(&mut self, bytes: u64) {
        self.size = bytes;
        self.virtual_size = self.virtual_size.map(|_| bytes);
    }
}

/// A manifest, as far as it is known (OCI descriptor).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor<'a> {
    media_type: &'static str,
    digest: &'a str,
    size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImageInspect<'a> {
    id: &'a str,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    parent: &'static str,
    comment: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    container: &'static str,
    container_config: Option<Empty>,
    docker_version: &'a str,
    author: &'a str,
    config: Option<Config<'a>>,
    architecture: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    os_version: Option<&'a str>,
    size: u64,
    virtual_size: u64,
    graph_driver: GraphDriver<'a>,
    #[serde(rename = "RootFS")]
    rootfs: RootFs<'a>,
    metadata: Metadata,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: &'a BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    env: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    entrypoint: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmd: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<&'a hoist_image::document::Healthcheck>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    volumes: &'a BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "str::is_empty")]
    working_dir: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shell: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_build: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_escaped: Option<bool>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RootFs<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    layers: Vec<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    last_tag_time: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HistoryItem {
    id: String,
    created: i64,
    created_by: String,
    tags: Option<Vec<String>>,
    size: u64,
    comment: String,
}

/// Tags and repository digests apart, familiar and sorted.
pub(crate) fn names(references: &[ImageReference]) -> (Vec<String>, Vec<String>) {
    let (mut digests, mut tags): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for reference in references {
        match (reference.tag(), reference.digest()) {
            (Some(_), None) => tags.push(reference.familiar()),
            (_, Some(digest)) => digests.push(reference.with_digest(digest).familiar()),
            (None, None) => {}
        }
    }
    for list in [&mut tags, &mut digests] {
        list.sort();
        list.dedup();
    }
    (tags, digests)
}

/// One line of the list; `containers` is how many use it.
pub(crate) fn summary<'a>(
    record: &'a ImageRecord,
    references: &[ImageReference],
    containers: i64,
    version: ApiVersion,
) -> ImageSummary<'a> {
    let (repo_tags, repo_digests) = names(references);
    ImageSummary {
        containers,
        created: record.created.map_or(0, Timestamp::as_seconds),
        id: record.id.as_str(),
        labels: (!record.labels.is_empty()).then_some(&record.labels),
        parent_id: "",
        descriptor: None,
        repo_digests,
        repo_tags,
        shared_size: -1,
        size: record.size,
        virtual_size: (!version.at_least(44)).then_some(record.size),
        manifests: Vec::new(),
    }
}

/// The whole of inspect.
pub(crate) fn inspect(
    record: &ImageRecord,
    references: &[ImageReference],
    config: &ImageConfig,
    driver: &str,
    version: ApiVersion,
) -> Value {
    let (repo_tags, repo_digests) = names(references);
    let runtime = &config.config;
    let comment = config
        .history
        .last()
        .and_then(|entry| entry.comment.as_deref())
        .unwrap_or_default();
    let zero = || ZERO_TIME.to_owned();
    let created = record.created.map(|at| at.to_string());
    let inspect = ImageInspect {
        id: record.id.as_str(),
        repo_tags,
        repo_digests,
        parent: "",
        comment,
        // Before API 1.44 the time that was never set.
        created: created.or_else(|| (!version.at_least(44)).then(zero)),
        container: "",
        container_config: None,
        docker_version: config
            .extra
            .get("docker_version")
            .and_then(Value::as_str)
            .unwrap_or_default(),
        author: config.author.as_deref().unwrap_or_default(),
        config: Some(Config {
            user: &runtime.user,
            exposed_ports: &runtime.exposed_ports,
            env: &runtime.env,
            entrypoint: runtime.entrypoint.as_deref(),
            cmd: runtime.cmd.as_deref(),
            healthcheck: runtime.healthcheck.as_ref(),
            volumes: &runtime.volumes,
            working_dir: &runtime.working_dir,
            labels: &runtime.labels,
            stop_signal: runtime.stop_signal.as_deref(),
            shell: runtime.shell.as_deref(),
            on_build: runtime.on_build.as_deref(),
            args_escaped: runtime.args_escaped,
        }),
        architecture: &record.platform.architecture,
        variant: record.platform.variant.as_deref(),
        os: &record.platform.os,
        os_version: record.platform.os_version.as_deref(),
        size: record.size,
        virtual_size: record.size,
        graph_driver: GraphDriver {
            data: None,
            name: driver,
        },
        rootfs: RootFs {
            kind: "layers",
            layers: record.layers.iter().map(Digest::as_str).collect(),
        },
        metadata: Metadata {
            last_tag_time: record.tagged_at.map_or_else(zero, |at| at.to_string()),
        },
    };
    let mut value = serde_json::to_value(inspect).expect("a struct of plain members is JSON");
    shape(&mut value, version, MEMBERS);
    value
}

/// The history, newest first. Sizes are of layers, of which each entry that is not empty has one, bottom first.
pub(crate) fn history(
    record: &ImageRecord,
    references: &[ImageReference],
    config: &ImageConfig,
    layer_sizes: &[u64],
) -> Vec<HistoryItem> {
    let mut sizes = layer_sizes.iter();
    let mut items: Vec<HistoryItem> = config
        .history
        .iter()
        .map(|entry| HistoryItem {
            id: "<missing>".to_owned(),
            created: entry
                .created
                .as_deref()
                .and_then(|text| text.parse::<Timestamp>().ok())
                .map_or(0, Timestamp::as_seconds),
            created_by: entry.created_by.clone().unwrap_or_default(),
            tags: None,
            size: if entry.empty_layer {
                0
            } else {
                sizes.next().copied().unwrap_or(0)
            },
            comment: entry.comment.clone().unwrap_or_default(),
        })
        .collect();
    // Images without a history still have their layers.
    items.extend(sizes.map(|size| HistoryItem {
        id: "<missing>".to_owned(),
        created: record.created.map_or(0, Timestamp::as_seconds),
        created_by: String::new(),
        tags: None,
        size: *size,
        comment: String::new(),
    }));
    items.reverse();
    if let Some(newest) = items.first_mut() {
        record.id.as_str().clone_into(&mut newest.id);
        let (tags, _) = names(references);
        newest.tags = (!tags.is_empty()).then_some(tags);
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use hoist_model::Platform;

    fn image() -> (ImageRecord, Vec<ImageReference>, ImageConfig) {
        let layer = Digest::from_sha256(&[1; 32]);
        let record = ImageRecord {
            id: Digest::from_sha256(&[2; 32]),
            manifest: None,
            layers: vec![layer.clone()],
            size: 4096,
            created: Some(Timestamp::from_seconds(1_700_000_000)),
            platform: "linux/arm64/v8".parse::<Platform>().unwrap(),
            labels: BTreeMap::from([("l".to_owned(), "v".to_owned())]),
            tagged_at: None,
        };
        let repository = ImageReference::parse("busybox:1").unwrap();
        let references = vec![
            repository.with_digest(&Digest::from_sha256(&[3; 32])),
            repository,
            ImageReference::parse("r.example/a/b:2").unwrap(),
        ];
        let config: ImageConfig = serde_json::from_value(serde_json::json!({
            "architecture": "arm64", "os": "linux", "author": "me",
            "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"], "ExposedPorts": { "80/tcp": {} }, "Labels": { "l": "v" } },
            "rootfs": { "type": "layers", "diff_ids": [layer.as_str()] },
            "history": [
                { "created": "2023-11-14T22:13:20Z", "created_by": "ADD rootfs /" },
                { "created": "2023-11-14T22:13:20Z", "created_by": "CMD [\"sh\"]", "empty_layer": true, "comment": "note" },
            ],
        }))
        .unwrap();
        (record, references, config)
    }

    #[test]
    fn a_line_of_the_list() {
        let (record, references, _) = image();
        let line = summary(&record, &references, 1, ApiVersion::NEWEST);
        expect![[r#"
            {
              "Containers": 1,
              "Created": 1700000000,
              "Id": "sha256:0202020202020202020202020202020202020202020202020202020202020202",
              "Labels": {
                "l": "v"
              },
              "ParentId": "",
              "RepoDigests": [
                "busybox@sha256:0303030303030303030303030303030303030303030303030303030303030303"
              ],
              "RepoTags": [
                "busybox:1",
                "r.example/a/b:2"
              ],
              "SharedSize": -1,
              "Size": 4096
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&line).unwrap());
        let old = serde_json::to_value(summary(&record, &[], 0, ApiVersion::minor(43))).unwrap();
        assert_eq!(old["VirtualSize"], 4096);
        assert_eq!(old["RepoTags"], serde_json::json!([]));
    }

    #[test]
    fn inspect_in_the_newest_shape_and_an_old_one() {
        let (record, references, config) = image();
        let value = inspect(&record, &references, &config, "erofs", ApiVersion::NEWEST);
        expect![[r#"
            {
              "Id": "sha256:0202020202020202020202020202020202020202020202020202020202020202",
              "RepoTags": [
                "busybox:1",
                "r.example/a/b:2"
              ],
              "RepoDigests": [
                "busybox@sha256:0303030303030303030303030303030303030303030303030303030303030303"
              ],
              "Comment": "note",
              "Created": "2023-11-14T22:13:20Z",
              "Author": "me",
              "Config": {
                "ExposedPorts": {
                  "80/tcp": {}
                },
                "Env": [
                  "PATH=/bin"
                ],
                "Cmd": [
                  "sh"
                ],
                "Labels": {
                  "l": "v"
                }
              },
              "Architecture": "arm64",
              "Variant": "v8",
              "Os": "linux",
              "Size": 4096,
              "RootFS": {
                "Type": "layers",
                "Layers": [
                  "sha256:0101010101010101010101010101010101010101010101010101010101010101"
                ]
              },
              "Metadata": {
                "LastTagTime": "0001-01-01T00:00:00Z"
              }
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&value).unwrap());
        let old = inspect(
            &record,
            &references,
            &config,
            "erofs",
            ApiVersion::minor(43),
        );
        assert_eq!(old["VirtualSize"], 4096);
        assert_eq!(old["GraphDriver"]["Name"], "erofs");
    }

    #[test]
    fn history_is_newest_first_and_pairs_layers_with_steps() {
        let (record, references, config) = image();
        let items = history(&record, &references, &config, &[4096]);
        expect![[r#"[{"Id":"sha256:0202020202020202020202020202020202020202020202020202020202020202","Created":1700000000,"CreatedBy":"CMD [\"sh\"]","Tags":["busybox:1","r.example/a/b:2"],"Size":0,"Comment":"note"},{"Id":"<missing>","Created":1700000000,"CreatedBy":"ADD rootfs /","Tags":null,"Size":4096,"Comment":""}]"#]].assert_eq(&serde_json::to_string(&items).unwrap());
    }
}
