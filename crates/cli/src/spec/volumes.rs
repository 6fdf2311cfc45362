//! `-v`, `--mount` and `--tmpfs`.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value, json};

use super::values::bytes;
use super::{InvalidFlag, invalid};

/// What `-v` asks for: binds and named volumes, or an anonymous volume.
#[derive(Debug, PartialEq)]
pub(super) enum Volume {
    /// `source:target[:options]` for `HostConfig.Binds`.
    Bind(String),
    /// A path for `Config.Volumes`.
    Anonymous(String),
}

/// Makes a path absolute without looking at the file system: `.` and `..` are resolved by name.
fn absolute(path: &str, base: &Path) -> String {
    let mut out = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_string_lossy().into_owned()
}

/// Reads one `-v`; what may be mounted where, the engine decides. A source that begins with a dot is a path relative to `base`, as in Docker.
pub(super) fn volume(text: &str, base: &Path) -> Result<Volume, InvalidFlag> {
    let wrong = |detail: &str| invalid("--volume", text, detail);
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => (None, target, None),
        [source, target] => (Some(source), target, None),
        [source, target, options] => (Some(source), target, Some(options)),
        _ => return Err(wrong("expected [SOURCE:]TARGET[:OPTIONS]")),
    };
    if source == Some("") || target.is_empty() {
        let detail = format!("invalid spec: {text}: empty section between colons");
        return Err(InvalidFlag::Said(detail));
    }
    let Some(source) = source else {
        return Ok(Volume::Anonymous(target.to_owned()));
    };
    let source = if source.starts_with('.') {
        absolute(source, base)
    } else {
        source.to_owned()
    };
    Ok(Volume::Bind(match options {
        Some(options) => format!("{source}:{target}:{options}"),
        None => format!("{source}:{target}"),
    }))
}

/// Splits a `--mount` or `--gpus` at commas, except inside double quotes.
pub(crate) fn fields(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            letter => {
                if let Some(field) = fields.last_mut() {
                    field.push(letter);
                }
            }
        }
    }
    fields
}

/// Reads one `--mount` into a `Mount` of the API.
pub(super) fn mount(text: &str, base: &Path) -> Result<Value, InvalidFlag> {
    let wrong = |detail: String| invalid("--mount", text, detail);
    let mut mount = Map::from_iter([("Type".to_owned(), json!("volume"))]);
    let (mut bind, mut volume, mut tmpfs, mut image) =
        (Map::new(), Map::new(), Map::new(), Map::new());
    for field in fields(text) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(wrong(format!("{key} wants true or false, not {other:?}"))),
        };
        let value = || value.ok_or_else(|| wrong(format!("{key} wants a value")));
        match key.as_str() {
            "type" => drop(mount.insert("Type".to_owned(), value()?.to_ascii_lowercase().into())),
            "source" | "src" => drop(mount.insert("Source".to_owned(), value()?.into())),
            "target" | "dst" | "destination" => {
                mount.insert("Target".to_owned(), value()?.into());
            }
            "readonly" | "ro" => drop(mount.insert("ReadOnly".to_owned(), flag()?.into())),
            "consistency" => drop(mount.insert("Consistency".to_owned(), value()?.into())),
            "bind-propagation" => drop(bind.insert("Propagation".to_owned(), value()?.into())),
            "bind-nonrecursive" => drop(bind.insert("NonRecursive".to_owned(), flag()?.into())),
            "bind-recursive" => match value()? {
                "enabled" => {}
                "disabled" => drop(bind.insert("NonRecursive".to_owned(), true.into())),
                "writable" => drop(bind.insert("ReadOnlyNonRecursive".to_owned(), true.into())),
                "readonly" => drop(bind.insert("ReadOnlyForceRecursive".to_owned(), true.into())),
                other => return Err(wrong(format!("unknown bind-recursive {other:?}"))),
            },
            "volume-subpath" => drop(volume.insert("Subpath".to_owned(), value()?.into())),
            "volume-nocopy" => drop(volume.insert("NoCopy".to_owned(), flag()?.into())),
            "volume-label" => put(&mut volume, "Labels", value()?),
            "volume-driver" => {
                let config = volume.entry("DriverConfig").or_insert_with(|| json!({}));
                config["Name"] = value()?.into();
            }
            "volume-opt" => {
                let config = volume.entry("DriverConfig").or_insert_with(|| json!({}));
                if let Some(config) = config.as_object_mut() {
                    put(config, "Options", value()?);
                }
            }
            "tmpfs-size" => {
                tmpfs.insert("SizeBytes".to_owned(), bytes("--mount", value()?)?.into());
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value()?, 8)
                    .map_err(|_| wrong("tmpfs-mode wants an octal number".to_owned()))?;
                tmpfs.insert("Mode".to_owned(), mode.into());
            }
            "image-subpath" => drop(image.insert("Subpath".to_owned(), value()?.into())),
            other if value().is_err() => {
                let detail = format!("invalid field '{other}' must be a key=value pair");
                return Err(wrong(detail));
            }
            other => {
                return Err(wrong(format!("unexpected key '{other}' in '{field}'")));
            }
        }
    }
    let kind = mount["Type"].as_str().unwrap_or_default().to_owned();
    if !mount.contains_key("Target") {
        return Err(wrong("target is required".to_owned()));
    }
    if kind == "bind" {
        let Some(source) = mount.get("Source").and_then(Value::as_str) else {
            return Err(wrong("source is required".to_owned()));
        };
        mount.insert("Source".to_owned(), absolute(source, base).into());
    }
    for (name, of, options) in [
        ("BindOptions", "bind", bind),
        ("VolumeOptions", "volume", volume),
        ("TmpfsOptions", "tmpfs", tmpfs),
        ("ImageOptions", "image", image),
    ] {
        if options.is_empty() {
            continue;
        }
        if kind != of {
            return Err(wrong(format!("options of {of} on a mount of type {kind}")));
        }
        mount.insert(name.to_owned(), options.into());
    }
    Ok(mount.into())
}

fn put(map: &mut Map<String, Value>, field: &str, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    let inner = map.entry(field).or_insert_with(|| json!({}));
    inner[key] = value.into();
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check_mount(text: &str, expected: Expect) {
        let shown = match mount(text, Path::new("/home/me")) {
            Ok(mount) => mount.to_string(),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn every_form_of_volume() {
        let read = |text| volume(text, Path::new("/home/me"));
        let bind = |text: &str| Ok(Volume::Bind(text.to_owned()));
        assert_eq!(read("/data"), Ok(Volume::Anonymous("/data".to_owned())));
        assert_eq!(read("v:/data"), bind("v:/data"));
        assert_eq!(read(".:/src:ro"), bind("/home/me:/src:ro"));
        assert_eq!(read("../x/./y:/src"), bind("/home/x/y:/src"));
        for bad in ["", "v:", ":/x", "a:/b:c:d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_kind_of_mount() {
        check_mount(
            "type=bind,src=./x,dst=/y,readonly",
            expect![[r#"{"Type":"bind","Source":"/home/me/x","Target":"/y","ReadOnly":true}"#]],
        );
        check_mount(
            "source=v,target=/y,volume-nocopy,volume-opt=type=nfs",
            expect![[
                r#"{"Type":"volume","Source":"v","Target":"/y","VolumeOptions":{"NoCopy":true,"DriverConfig":{"Options":{"type":"nfs"}}}}"#
            ]],
        );
        check_mount(
            "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777",
            expect![[
                r#"{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"SizeBytes":1048576,"Mode":1023}}"#
            ]],
        );
        check_mount(
            "type=bind,dst=/y",
            expect![[
                r#"invalid argument "type=bind,dst=/y" for "--mount" flag: source is required"#
            ]],
        );
        check_mount(
            "type=tmpfs,dst=/y,volume-nocopy",
            expect![[
                r#"invalid argument "type=tmpfs,dst=/y,volume-nocopy" for "--mount" flag: options of volume on a mount of type tmpfs"#
            ]],
        );
        check_mount(
            "type=bind,src=/a,dst=/y,color=red",
            expect![[
                r#"invalid argument "type=bind,src=/a,dst=/y,color=red" for "--mount" flag: unexpected key 'color' in 'color=red'"#
            ]],
        );
    }
}
