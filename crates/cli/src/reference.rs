//! Image references as the API wants them.

use hoist_model::ImageReference;

use super::failure::Failure;

/// Reads a reference; without tag and digest it means `latest`.
pub(crate) fn parse(text: &str) -> Result<ImageReference, Failure> {
    ImageReference::parse(text).map_err(|e| Failure::new(e.to_string()))
}

/// The platform a flag, or else `DOCKER_DEFAULT_PLATFORM`, names.
pub(crate) fn platform(flag: Option<&str>) -> Option<String> {
    let variable = || std::env::var("DOCKER_DEFAULT_PLATFORM").ok();
    flag.map(str::to_owned)
        .or_else(variable)
        .filter(|p| !p.is_empty())
}

/// A platform as the API's JSON object, from `os[/arch[/variant]]`.
pub(crate) fn platform_json(text: &str) -> Result<String, Failure> {
    let parts: Vec<_> = text.split('/').collect();
    let well = parts.iter().all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-()".contains(&b))
    });
    if !well || parts.len() > 4 {
        return Err(Failure::new(format!(
            "invalid platform {text:?}: expected os[/arch[/variant]]"
        )));
    }
    let mut platform = serde_json::Map::new();
    for (name, part) in ["os", "architecture", "variant"].into_iter().zip(parts) {
        platform.insert(name.to_owned(), part.into());
    }
    Ok(serde_json::Value::Object(platform).to_string())
}

/// A name as part of a request's path: everything but letters, digits and `-._~/:@` is escaped.
pub(crate) fn segment(name: &str) -> String {
    use std::fmt::Write;
    name.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/:@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// The short form of an id: twelve digits without the algorithm.
pub(crate) fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_paths_and_short_ids() {
        assert_eq!(segment("host:5000/a@sha256:0"), "host:5000/a@sha256:0");
        assert_eq!(segment("a b?c#é"), "a%20b%3Fc%23%C3%A9");
        assert_eq!(
            short(&format!("sha256:{}", "ab".repeat(32))),
            "abababababab"
        );
        assert_eq!(short("abc"), "abc");
    }
}
