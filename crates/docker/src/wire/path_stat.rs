//! What `docker cp` wants to know of a path: the header `X-Docker-Container-Path-Stat`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_image::files::PathStat;
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Header<'a> {
    name: &'a str,
    size: i64,
    mode: u32,
    mtime: String,
    link_target: &'a str,
}

/// The header's value: JSON in base64.
pub(crate) fn header(stat: &PathStat) -> serde_json::Result<String> {
    let json = serde_json::to_vec(&Header {
        name: &stat.name,
        size: stat.size,
        mode: go_mode(stat.mode),
        mtime: stat.modified.to_string(),
        link_target: &stat.link_target,
    })?;
    Ok(STANDARD.encode(json))
}

/// `st_mode` in the bits of Go's `os.FileMode`, which is what clients read.
fn go_mode(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => 1 << 31,
        0o120_000 => 1 << 27,
        0o060_000 => 1 << 26,
        0o020_000 => 1 << 26 | 1 << 21,
        0o010_000 => 1 << 25,
        0o140_000 => 1 << 24,
        _ => 0,
    };
    let mut bits = mode & 0o777 | kind;
    for (unix, go) in [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)] {
        if mode & unix != 0 {
            bits |= go;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_gos() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o041_777, 1 << 31 | 1 << 20 | 0o777),
            (0o120_777, 1 << 27 | 0o777),
            (0o020_666, 1 << 26 | 1 << 21 | 0o666),
            (0o106_755, 1 << 23 | 1 << 22 | 0o755),
        ] {
            assert_eq!(go_mode(unix), go, "{unix:o}");
        }
    }
}
