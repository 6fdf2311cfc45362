//! `HostConfig.Binds`: `[source:]target[:mode,…]` (moby `daemon/volume/mounts/linux_parser.go`).

use hoist_model::container::{MountSource, MountSpec, Propagation};
use hoist_model::path::clean;

use crate::error::ApiError;

/// What one bind means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    /// Something is mounted.
    Mount(MountSpec),
    /// A target alone: an anonymous volume.
    Anonymous(String),
}

/// Reads one bind.
pub(crate) fn parse_bind(text: &str) -> Result<Bind, ApiError> {
    let malformed = || ApiError::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(malformed());
    }
    let (source, target, mode) = match parts.as_slice() {
        [target] => return Ok(Bind::Anonymous(clean_target(target, text, "volume")?)),
        // A mode needs something it can be the mode of.
        [_, mode] if Mode::parse(mode).is_some() => return Err(malformed()),
        [source, target] => (*source, *target, ""),
        [source, target, mode] => (*source, *target, *mode),
        _ => return Err(malformed()),
    };
    let parsed =
        Mode::parse(mode).ok_or_else(|| ApiError::invalid(format!("invalid mode: {mode}")))?;
    let kind = if source.starts_with('/') {
        "bind"
    } else {
        "volume"
    };
    let target = clean_target(target, text, kind)?;
    let mount = if kind == "bind" {
        MountSource::Bind {
            path: clean(source),
            create_missing: true,
            propagation: parsed.propagation.unwrap_or_default(),
            recursive: true,
            writable_below: false,
        }
    } else {
        check_volume_name(source)?;
        if parsed.propagation.is_some() {
            return Err(ApiError::invalid(format!("invalid mode: {mode}")));
        }
        MountSource::Volume {
            name: Some(source.to_owned()),
            no_copy: parsed.no_copy,
            subpath: String::new(),
            driver: String::new(),
            options: Vec::new(),
            labels: Vec::new(),
        }
    };
    Ok(Bind::Mount(MountSpec {
        target,
        source: mount,
        read_only: parsed.read_only,
        from_bind: true,
        mode: mode.to_owned(),
    }))
}

/// Docker's rule for a volume's name.
pub(crate) fn check_volume_name(name: &str) -> Result<(), ApiError> {
    if hoist_model::container::is_container_name(name) {
        return Ok(());
    }
    if name.len() == 1 {
        return Err(ApiError::invalid(format!(
            "create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )));
    }
    Err(ApiError::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

/// A target as it is kept: absolute, without `.`, `..` and doubled slashes.
fn clean_target(target: &str, spec: &str, kind: &str) -> Result<String, ApiError> {
    let target = check_target(target, kind).map_err(|error| {
        ApiError::invalid(format!(
            "invalid volume specification: '{spec}': {}",
            error.message
        ))
    })?;
    Ok(target)
}

/// As [`clean_target`], in the words for `HostConfig.Mounts`.
pub(crate) fn check_target(target: &str, kind: &str) -> Result<String, ApiError> {
    let invalid =
        |what: String| ApiError::invalid(format!("invalid mount config for type {kind:?}: {what}"));
    if target.is_empty() {
        return Err(invalid("field Target must not be empty".to_owned()));
    }
    if !target.starts_with('/') {
        return Err(invalid(format!(
            "invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    let target = clean(target);
    if target == "/" {
        return Err(invalid(
            "invalid specification: destination can't be '/'".to_owned(),
        ));
    }
    Ok(target)
}

/// The words behind the second colon.
#[derive(Debug, Default)]
struct Mode {
    read_only: bool,
    no_copy: bool,
    propagation: Option<Propagation>,
}

impl Mode {
    /// At most one word of each kind.
    fn parse(text: &str) -> Option<Self> {
        let mut mode = Self::default();
        let mut seen = [false; 5];
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let kind = match word {
                "rw" => 0,
                "ro" => {
                    mode.read_only = true;
                    0
                }
                "z" | "Z" => 1,
                "nocopy" => {
                    mode.no_copy = true;
                    2
                }
                "consistent" | "cached" | "delegated" | "default" => 3,
                word => {
                    mode.propagation = Some(Propagation::from_name(word)?);
                    4
                }
            };
            if std::mem::replace(&mut seen[kind], true) {
                return None;
            }
        }
        Some(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse_bind(text) {
            Ok(Bind::Anonymous(target)) => format!("anonymous {target}"),
            Ok(Bind::Mount(mount)) => {
                let what = match mount.source {
                    MountSource::Bind {
                        path, propagation, ..
                    } => format!("bind {path} {}", propagation.as_str()),
                    MountSource::Volume { name, no_copy, .. } => {
                        format!("volume {} {no_copy}", name.unwrap_or_default())
                    }
                    other => format!("{other:?}"),
                };
                format!("{what} {} ro={}", mount.target, mount.read_only)
            }
            Err(error) => error.message,
        }
    }

    #[test]
    fn binds_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("/data", "anonymous /data"),
            ("/a/../b:/c/", "bind /b rprivate /c ro=false"),
            ("/a:/b:ro", "bind /a rprivate /b ro=true"),
            ("/a:/b:ro,z,rshared", "bind /a rshared /b ro=true"),
            ("vol:/b", "volume vol false /b ro=false"),
            ("vol:/b:nocopy,ro", "volume vol true /b ro=true"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:what", "invalid mode: what"),
            ("vol:/b:shared", "invalid mode: shared"),
            ("/a:ro", "invalid volume specification: '/a:ro'"),
            ("/a:", "invalid volume specification: '/a:'"),
            (":/a", "invalid volume specification: ':/a'"),
            ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
            (
                "/a:/",
                "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
            ),
            (
                "vol:data",
                "invalid volume specification: 'vol:data': invalid mount config for type \"volume\": invalid mount path: 'data' mount path must be absolute",
            ),
            (
                "./x:/b",
                "create ./x: \"./x\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
            ),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }
}
