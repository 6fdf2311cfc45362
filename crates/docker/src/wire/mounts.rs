//! `HostConfig.Mounts`, both ways (API 1.55, `Mount`; moby `daemon/volume/mounts/linux_parser.go`).

use std::collections::BTreeMap;

use hoist_model::container::{MountSource, MountSpec, Propagation};
use hoist_model::path::clean;
use serde::Serialize;

use super::binds::{check_target, check_volume_name};
use super::create_body::{BindOptionsBody, MountBody};
use crate::error::ApiError;

/// Reads one mount.
pub(crate) fn mount_from_wire(body: MountBody) -> Result<MountSpec, ApiError> {
    let kind = body.kind.unwrap_or_default();
    let kind = if kind.is_empty() {
        "volume"
    } else {
        kind.as_str()
    };
    let invalid =
        |what: &str| ApiError::invalid(format!("invalid mount config for type {kind:?}: {what}"));
    let target = check_target(body.target.as_deref().unwrap_or_default(), kind)?;
    let source = body.source.unwrap_or_default();
    let read_only = body.read_only.unwrap_or_default();
    for (given, allowed, name) in [
        (body.bind_options.is_some(), kind == "bind", "BindOptions"),
        (
            body.volume_options.is_some(),
            kind == "volume",
            "VolumeOptions",
        ),
        (
            body.image_options.is_some(),
            kind == "image",
            "ImageOptions",
        ),
        (
            body.tmpfs_options.is_some(),
            kind == "tmpfs",
            "TmpfsOptions",
        ),
    ] {
        if given && !allowed {
            return Err(invalid(&format!("field {name} must not be specified")));
        }
    }
    let source = match kind {
        "bind" => {
            if source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            if !source.starts_with('/') {
                return Err(invalid(&format!(
                    "invalid mount path: '{source}' mount path must be absolute"
                )));
            }
            let options = body.bind_options.unwrap_or_default();
            let writable_below = writable_below(read_only, &options).map_err(invalid)?;
            let propagation = options.propagation.unwrap_or_default();
            MountSource::Bind {
                path: clean(&source),
                create_missing: options.create_mountpoint.unwrap_or_default(),
                propagation: if propagation.is_empty() {
                    Propagation::default()
                } else {
                    Propagation::from_name(&propagation).ok_or_else(|| {
                        invalid(&format!("invalid propagation mode: {propagation}"))
                    })?
                },
                recursive: !options.non_recursive.unwrap_or_default(),
                writable_below,
            }
        }
        "volume" => {
            let options = body.volume_options.unwrap_or_default();
            let driver = options.driver_config.unwrap_or_default();
            if !source.is_empty() {
                check_volume_name(&source)?;
            }
            let subpath = options.subpath.unwrap_or_default();
            if source.is_empty() && !subpath.is_empty() {
                return Err(invalid("must not set Subpath when using anonymous volumes"));
            }
            check_subpath(&subpath).map_err(invalid)?;
            if source.is_empty() && read_only {
                return Err(invalid(
                    "must not set ReadOnly mode when using anonymous volumes",
                ));
            }
            MountSource::Volume {
                name: Some(source).filter(|name| !name.is_empty()),
                no_copy: options.no_copy.unwrap_or_default(),
                subpath,
                driver: driver.name.unwrap_or_default(),
                options: driver.options.unwrap_or_default().into_iter().collect(),
                labels: options.labels.unwrap_or_default().into_iter().collect(),
            }
        }
        "tmpfs" => {
            if !source.is_empty() {
                return Err(invalid("field Source must not be specified"));
            }
            let options = body.tmpfs_options.unwrap_or_default();
            let words = super::tmpfs::words(options.options.unwrap_or_default());
            MountSource::Tmpfs {
                size: options.size_bytes.unwrap_or_default(),
                mode: options.mode.unwrap_or_default(),
                options: words.map_err(|why| invalid(&why))?,
            }
        }
        "image" => {
            if source.is_empty() {
                return Err(invalid("field Source must not be empty"));
            }
            let options = body.image_options.unwrap_or_default();
            let subpath = options.subpath.unwrap_or_default();
            check_subpath(&subpath).map_err(invalid)?;
            MountSource::Image {
                reference: source,
                subpath,
            }
        }
        _ => return Err(invalid("mount type unknown")),
    };
    Ok(MountSpec {
        target,
        source,
        read_only,
        from_bind: false,
        mode: String::new(),
    })
}

/// Relative and inside, whatever is there (Go's `filepath.IsLocal`).
fn check_subpath(path: &str) -> Result<(), &'static str> {
    let mut depth = 0_i64;
    for part in path.split('/') {
        depth += match part {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        if depth < 0 || path.starts_with('/') {
            return Err("subpath must be a relative path within the volume");
        }
    }
    Ok(())
}

/// Whether mounts below a read-only bind stay writable. That they do not is the rule, so forcing it changes nothing.
fn writable_below(read_only: bool, options: &BindOptionsBody) -> Result<bool, &'static str> {
    let shallow = options.read_only_non_recursive.unwrap_or_default();
    let forced = options.read_only_force_recursive.unwrap_or_default();
    if (shallow || forced) && !read_only {
        return Err("recursive read-only options need a read-only mount");
    }
    if shallow && forced {
        return Err("ReadOnlyNonRecursive and ReadOnlyForceRecursive exclude each other");
    }
    Ok(shallow)
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mount {
    #[serde(rename = "Type")]
    pub(crate) kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) source: String,
    pub(crate) target: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image_options: Option<ImageOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BindOptions {
    #[serde(skip_serializing_if = "str::is_empty")]
    propagation: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    non_recursive: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    create_mountpoint: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    read_only_non_recursive: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeOptions {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_copy: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver_config: Option<DriverConfig>,
    #[serde(skip_serializing_if = "String::is_empty")]
    subpath: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DriverConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    options: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ImageOptions {
    #[serde(skip_serializing_if = "String::is_empty")]
    subpath: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TmpfsOptions {
    #[serde(skip_serializing_if = "is_zero")]
    size_bytes: i64,
    #[serde(skip_serializing_if = "is_zero_mode")]
    mode: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<Vec<String>>,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_zero_mode(number: &u32) -> bool {
    *number == 0
}

/// Tells of one mount.
pub(crate) fn mount_to_wire(spec: &MountSpec) -> Mount {
    let mut mount = Mount {
        target: spec.target.clone(),
        read_only: spec.read_only,
        ..Mount::default()
    };
    match &spec.source {
        MountSource::Bind {
            path,
            create_missing,
            propagation,
            recursive,
            writable_below,
        } => {
            mount.kind = "bind";
            mount.source.clone_from(path);
            let propagation = match propagation {
                Propagation::RPrivate => "",
                other => other.as_str(),
            };
            if !propagation.is_empty() || !recursive || *create_missing || *writable_below {
                mount.bind_options = Some(BindOptions {
                    propagation,
                    non_recursive: !recursive,
                    create_mountpoint: *create_missing,
                    read_only_non_recursive: *writable_below,
                });
            }
        }
        MountSource::Volume {
            name,
            no_copy,
            subpath,
            driver,
            options,
            labels,
        } => {
            mount.kind = "volume";
            mount.source = name.clone().unwrap_or_default();
            let driver_config = (!driver.is_empty() || !options.is_empty()).then(|| DriverConfig {
                name: driver.clone(),
                options: options.iter().cloned().collect(),
            });
            if *no_copy || !subpath.is_empty() || !labels.is_empty() || driver_config.is_some() {
                mount.volume_options = Some(VolumeOptions {
                    no_copy: *no_copy,
                    labels: labels.iter().cloned().collect(),
                    driver_config,
                    subpath: subpath.clone(),
                });
            }
        }
        MountSource::Tmpfs {
            size,
            mode,
            options,
        } => {
            mount.kind = "tmpfs";
            if *size != 0 || *mode != 0 || !options.is_empty() {
                mount.tmpfs_options = Some(TmpfsOptions {
                    size_bytes: *size,
                    mode: *mode,
                    options: options
                        .split(',')
                        .filter(|word| !word.is_empty())
                        .map(|word| word.splitn(2, '=').map(str::to_owned).collect())
                        .collect(),
                });
            }
        }
        MountSource::Image { reference, subpath } => {
            mount.kind = "image";
            mount.source.clone_from(reference);
            if !subpath.is_empty() {
                mount.image_options = Some(ImageOptions {
                    subpath: subpath.clone(),
                });
            }
        }
    }
    mount
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(text: &str) -> String {
        let body: MountBody = serde_json::from_str(text).unwrap();
        match mount_from_wire(body) {
            Ok(spec) => serde_json::to_string(&mount_to_wire(&spec)).unwrap(),
            Err(error) => error.message,
        }
    }

    #[test]
    fn mounts_come_back_as_they_went_in() {
        for text in [
            r#"{"Type":"bind","Source":"/a","Target":"/b"}"#,
            r#"{"Type":"bind","Source":"/a","Target":"/b","ReadOnly":true,"BindOptions":{"Propagation":"rslave","NonRecursive":true}}"#,
            r#"{"Type":"volume","Source":"vol","Target":"/b","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"},"DriverConfig":{"Name":"local","Options":{"type":"tmpfs"}},"Subpath":"x"}}"#,
            r#"{"Type":"volume","Target":"/b"}"#,
            r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1024,"Mode":448,"Options":[["exec"]]}}"#,
            r#"{"Type":"image","Source":"busybox","Target":"/i","ImageOptions":{"Subpath":"bin"}}"#,
        ] {
            assert_eq!(through(text), text);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            (
                r#"{"Type":"bind","Target":"/b"}"#,
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                r#"{"Type":"bind","Source":"/a"}"#,
                "invalid mount config for type \"bind\": field Target must not be empty",
            ),
            (
                r#"{"Type":"npipe","Source":"/a","Target":"/b"}"#,
                "invalid mount config for type \"npipe\": mount type unknown",
            ),
            (
                r#"{"Type":"tmpfs","Target":"/b","BindOptions":{}}"#,
                "invalid mount config for type \"tmpfs\": field BindOptions must not be specified",
            ),
            (
                r#"{"Type":"bind","Source":"a","Target":"/b"}"#,
                "invalid mount config for type \"bind\": invalid mount path: 'a' mount path must be absolute",
            ),
        ] {
            assert_eq!(through(text), expected, "{text}");
        }
    }
}
