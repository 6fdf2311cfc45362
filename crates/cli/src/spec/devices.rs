//! `--device`, `--gpus` and the block IO limits per device.

use serde_json::{Map, Value, json};

use super::values::bytes;
use super::volumes::fields;
use super::{InvalidFlag, invalid};

/// A device of the host, or the name of a CDI device.
#[derive(Debug, PartialEq)]
pub(super) enum Device {
    /// A `DeviceMapping`.
    Mapping(Value),
    /// `vendor.com/class=name`.
    Cdi(String),
}

pub(super) fn device(text: &str) -> Result<Device, InvalidFlag> {
    let wrong = |detail: &str| invalid("--device", text, detail);
    if !text.starts_with('/') {
        return match text.split_once('=') {
            Some((kind, name)) if kind.contains('/') && !name.is_empty() => {
                Ok(Device::Cdi(text.to_owned()))
            }
            _ => Err(wrong(
                "expected /dev/HOST[:/dev/CONTAINER][:rwm] or a CDI name",
            )),
        };
    }
    let is_mode = |s: &str| !s.is_empty() && s.chars().all(|c| "rwm".contains(c));
    let parts: Vec<_> = text.split(':').collect();
    let (host, inside, mode) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, mode] if is_mode(mode) => (host, host, mode),
        [host, inside] => (host, inside, "rwm"),
        [host, inside, mode] if is_mode(mode) => (host, inside, mode),
        [_, _, _] => return Err(wrong("the mode is made of r, w and m")),
        _ => return Err(InvalidFlag::Said(format!("bad format for path: {text}"))),
    };
    Ok(Device::Mapping(json!({
        "PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode,
    })))
}

/// Whether a text is `TYPE MAJOR:MINOR ACCESS` (docker/cli:opts, `deviceCgroupRuleRegexp`).
pub(super) fn is_cgroup_rule(text: &str) -> bool {
    let parts: Vec<_> = text.split(' ').collect();
    let [kind, numbers, access] = parts[..] else {
        return false;
    };
    let number = |text: &str| {
        text == "*" || (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let numbers = numbers.split_once(':');
    ["a", "b", "c"].contains(&kind)
        && numbers.is_some_and(|(major, minor)| number(major) && number(minor))
        && (1..=3).contains(&access.len())
        && access.chars().all(|letter| "rwm".contains(letter))
}

/// `all`, a count, or `device=…,driver=…,capabilities=…`.
pub(super) fn gpus(text: &str) -> Result<Value, InvalidFlag> {
    let mut request = Map::from_iter([
        ("Driver".to_owned(), json!("")),
        ("Count".to_owned(), json!(0)),
        ("Capabilities".to_owned(), json!([["gpu"]])),
    ]);
    for field in fields(text) {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        match key {
            "count" if value == "all" => drop(request.insert("Count".to_owned(), json!(-1))),
            "count" => {
                let count: u32 = value
                    .parse()
                    .map_err(|_| {
                        let detail = format!(
                            "invalid count ({value}): value must be either \"all\" or an integer: invalid syntax"
                        );
                        invalid("--gpus", text, detail)
                    })?;
                request.insert("Count".to_owned(), count.into());
            }
            "driver" => drop(request.insert("Driver".to_owned(), value.into())),
            "device" => {
                let ids: Vec<_> = value.split(',').collect();
                request.insert("DeviceIDs".to_owned(), ids.into());
            }
            "capabilities" => {
                let mut wanted: Vec<_> = value.split(',').collect();
                if !wanted.contains(&"gpu") {
                    wanted.push("gpu");
                }
                request.insert("Capabilities".to_owned(), json!([wanted]));
            }
            other => return Err(invalid("--gpus", text, format!("unknown field {other:?}"))),
        }
    }
    Ok(request.into())
}

/// `PATH:RATE` with the rate in bytes or in operations per second.
pub(super) fn throttle(flag: &str, text: &str, in_bytes: bool) -> Result<Value, InvalidFlag> {
    let (path, rate) = text
        .rsplit_once(':')
        .filter(|(path, _)| path.starts_with("/dev/"))
        .ok_or_else(|| invalid(flag, text, format!("bad format: {text}")))?;
    let rate = if in_bytes {
        bytes(flag, rate)?
    } else {
        rate.parse::<i64>()
            .map_err(|_| invalid(flag, text, "the rate is a number"))?
    };
    if rate < 0 {
        return Err(invalid(flag, text, "the rate is not negative"));
    }
    Ok(json!({"Path": path, "Rate": rate}))
}

/// `PATH:WEIGHT`.
pub(super) fn weight(text: &str) -> Result<Value, InvalidFlag> {
    let flag = "--blkio-weight-device";
    let (path, weight) = text
        .rsplit_once(':')
        .filter(|(path, _)| path.starts_with("/dev/"))
        .ok_or_else(|| invalid(flag, text, format!("bad format: {text}")))?;
    let weight: u16 = weight
        .parse()
        .ok()
        .filter(|w| *w == 0 || (10..=1000).contains(w))
        .ok_or_else(|| invalid(flag, text, "the weight is 10 to 1000, or 0"))?;
    Ok(json!({"Path": path, "Weight": weight}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_their_modes() {
        let mapping = |host, inside, mode| {
            Ok(Device::Mapping(json!({
                "PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": mode,
            })))
        };
        assert_eq!(
            device("/dev/fuse"),
            mapping("/dev/fuse", "/dev/fuse", "rwm")
        );
        assert_eq!(device("/dev/a:r"), mapping("/dev/a", "/dev/a", "r"));
        assert_eq!(
            device("/dev/a:/dev/b:rw"),
            mapping("/dev/a", "/dev/b", "rw")
        );
        assert_eq!(
            device("acme.com/gpu=0"),
            Ok(Device::Cdi("acme.com/gpu=0".to_owned()))
        );
        for bad in ["", "fuse", "/dev/a:/dev/b:x", "/a:/b:r:w"] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_and_graphics() {
        assert_eq!(
            throttle("x", "/dev/sda:1m", true).unwrap(),
            json!({"Path": "/dev/sda", "Rate": 1 << 20})
        );
        assert!(
            throttle("x", "sda:1m", true).is_err() && throttle("x", "/dev/sda:1m", false).is_err()
        );
        assert!(weight("/dev/sda:5").is_err());
        assert_eq!(gpus("all").unwrap()["Count"], -1);
        assert_eq!(
            gpus("\"device=0,1\"").unwrap()["DeviceIDs"],
            json!(["0", "1"])
        );
    }
}
