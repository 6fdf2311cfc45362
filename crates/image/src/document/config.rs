//! Image configs (OCI image spec, config.md, and the fields Docker adds).

use std::collections::BTreeMap;

use hoist_model::{Digest, Platform};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{CONFIG_LIMIT, DocumentError};
use crate::snapshot::MAX_LAYERS;

/// The document whose digest is the image's id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// `amd64`, `arm64`, …; old images leave it empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `linux`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Only of Windows images.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// What containers of this image begin with.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ImageRuntimeConfig,
    /// The layers.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// How the layers came to be.
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub history: Vec<HistoryEntry>,
    /// Fields this version does not know (`container_config`, `docker_version`, …).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `config` object: the defaults of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageRuntimeConfig {
    /// `user[:group]`, names or numbers; empty is root.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub user: String,
    /// Keys `80/tcp`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub exposed_ports: BTreeMap<String, Value>,
    /// `NAME=value`, in order.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub env: Vec<String>,
    /// What runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its default arguments, or what runs without an entrypoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that get an anonymous volume.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub volumes: BTreeMap<String, Value>,
    /// Where it runs; empty is `/`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "String::is_empty"
    )]
    pub working_dir: String,
    /// Labels.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops it, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How its health is probed (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// The shell of shell-form instructions (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Instructions for images built on this one (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Only of Windows images (Docker).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Docker's health probe. Durations are nanoseconds; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", …]`.
    #[serde(
        deserialize_with = "null_is_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub test: Vec<String>,
    /// Between probes, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Of one probe, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Grace at the start, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between probes during the grace, ns.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures until unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Digests of the uncompressed tars, bottom first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// A note.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Environment variables, labels, ports or volumes one config may have.
const ITEMS_LIMIT: usize = 4096;

impl ImageConfig {
    /// Reads a config within the limits of this module.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        const WHAT: &str = "image config";
        let size = bytes.len() as u64;
        if size > CONFIG_LIMIT {
            return Err(DocumentError::TooLarge {
                what: WHAT,
                size,
                limit: CONFIG_LIMIT,
            });
        }
        let parsed: Self = serde_json::from_slice(bytes)
            .map_err(|source| DocumentError::Malformed { what: WHAT, source })?;
        let invalid = |reason: String| Err(DocumentError::Invalid { what: WHAT, reason });
        let layers = parsed.rootfs.diff_ids.len();
        if layers > MAX_LAYERS {
            return invalid(format!("it has {layers} layers, more than {MAX_LAYERS}"));
        }
        if !matches!(parsed.rootfs.kind.as_str(), "layers" | "") {
            return invalid(format!("its rootfs is of type {:?}", parsed.rootfs.kind));
        }
        let config = &parsed.config;
        for (name, count) in [
            ("Env", config.env.len()),
            ("Labels", config.labels.len()),
            ("ExposedPorts", config.exposed_ports.len()),
            ("Volumes", config.volumes.len()),
            ("history", parsed.history.len()),
        ] {
            if count > ITEMS_LIMIT {
                return invalid(format!("{name} has {count} items, more than {ITEMS_LIMIT}"));
            }
        }
        let texts = config.env.iter().chain(config.cmd.iter().flatten());
        let mut texts = texts.chain(config.entrypoint.iter().flatten());
        if texts.any(|text| text.contains('\0'))
            || config.user.contains('\0')
            || config.working_dir.contains('\0')
        {
            return invalid("a text in it has a NUL".into());
        }
        Ok(parsed)
    }

    /// What the image runs on. An image that does not say is for the host, as Docker takes it.
    #[must_use]
    pub fn platform(&self) -> Platform {
        let host = Platform::host();
        let or = |text: &str, default: String| {
            if text.is_empty() {
                default
            } else {
                text.to_owned()
            }
        };
        Platform {
            architecture: or(&self.architecture, host.architecture),
            os: or(&self.os, host.os),
            os_version: self.os_version.clone(),
            variant: self.variant.clone(),
            ..Platform::default()
        }
    }
}

/// Go writes nil maps and slices as `null`.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_s_fields_and_go_s_nulls() {
        let text = r#"{"architecture":"amd64","os":"linux","docker_version":"29.0",
            "config":{"User":"","Env":["A=b"],"Cmd":["sh"],"Entrypoint":null,"Volumes":null,"Labels":null,"OnBuild":null,
              "ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT","Shell":["/bin/bash","-c"],"ArgsEscaped":true,
              "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000},"Future":{"x":1}},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(config.config.env, ["A=b"]);
        assert_eq!(
            config.config.healthcheck.as_ref().unwrap().interval,
            5_000_000_000
        );
        assert_eq!(config.config.extra["Future"]["x"], 1);
        assert_eq!(config.extra["docker_version"], "29.0");
        let back = serde_json::to_vec(&config).unwrap();
        assert_eq!(ImageConfig::parse(&back).unwrap(), config);
        assert_eq!(config.platform().to_string(), "linux/amd64");
    }

    #[test]
    fn hostile_configs_are_refused() {
        let many = format!(r#"{{"config":{{"Env":[{}"x"]}}}}"#, r#""x","#.repeat(5000));
        for bad in [
            "",
            "null",
            "[]",
            r#"{"config":{"Env":"A=b"}}"#,
            r#"{"config":{"Cmd":["a\u0000b"]}}"#,
            r#"{"rootfs":{"type":"windows"}}"#,
            r#"{"rootfs":{"diff_ids":["sha256:00"]}}"#,
            &many,
        ] {
            assert!(ImageConfig::parse(bad.as_bytes()).is_err(), "{bad:.100}");
        }
    }
}
