//! Reading a path: the version in front, the operation it names, the parameters in it.

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::ApiVersion;
use crate::error::ApiError;
use crate::operations::{OPERATIONS, Operation};

/// Takes `/v1.NN` off a path; without it the newest version is meant. `oldest` is the oldest that is served.
///
/// # Errors
/// 400 with Docker's sentences, which scripts look for (moby `daemon/server/middleware/version.go`).
pub(super) fn split_version(
    path: &str,
    oldest: ApiVersion,
) -> Result<(ApiVersion, &str), ApiError> {
    let unversioned = Ok((ApiVersion::NEWEST, path));
    let Some(rest) = path.strip_prefix("/v") else {
        return unversioned;
    };
    let (version, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return unversioned;
    }
    let numbers = version.split_once('.').unwrap_or((version, "0"));
    let (Ok(major), Ok(minor)) = (numbers.0.parse::<u16>(), numbers.1.parse::<u16>()) else {
        return Err(ApiError::invalid(format!("invalid API version: {version}")));
    };
    let asked = ApiVersion::minor(minor);
    if major < 1 || (major == 1 && asked < oldest) {
        return Err(ApiError::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            oldest
        )));
    }
    if major > 1 || asked > ApiVersion::NEWEST {
        return Err(ApiError::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::NEWEST
        )));
    }
    Ok((asked, rest))
}

/// The same path and query with single slashes, if there were others.
pub(super) fn without_doubled_slashes(uri: &Uri) -> Option<String> {
    let path = uri.path();
    if !path.contains("//") {
        return None;
    }
    let mut clean = String::with_capacity(path.len());
    for letter in path.chars() {
        if letter != '/' || !clean.ends_with('/') {
            clean.push(letter);
        }
    }
    if let Some(query) = uri.query() {
        clean.push('?');
        clean.push_str(query);
    }
    Some(clean)
}

/// The operation a method and an unversioned path name, and what stands in place of its braces, decoded.
pub(super) fn find(method: &Method, path: &str) -> Option<(&'static Operation, Vec<String>)> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let segments: Vec<&str> = path.split('/').collect();
    let mut best: Option<(&Operation, Vec<String>, usize)> = None;
    for operation in OPERATIONS.iter().filter(|o| method == o.method) {
        if let Some((parameters, literal)) = match_path(operation.path, &segments)
            && best.as_ref().is_none_or(|(_, _, most)| literal > *most)
        {
            best = Some((operation, parameters, literal));
        }
    }
    best.map(|(operation, parameters, _)| (operation, parameters))
}

/// The parameters, and how many segments matched literally; more is the better match (`/images/json` is the list,
/// not the image called json).
fn match_path(template: &str, segments: &[&str]) -> Option<(Vec<String>, usize)> {
    let template: Vec<&str> = template.trim_start_matches('/').split('/').collect();
    if segments.len() < template.len() {
        return None;
    }
    // Names of images have slashes, and links give containers such names, too.
    let containers = template.first() == Some(&"containers");
    let is_greedy = |part: &&str| *part == "{name}" || (containers && *part == "{id}");
    let greedy = template.iter().position(is_greedy);
    let spare = segments.len() - template.len();
    if spare > 0 && greedy.is_none() {
        return None;
    }
    let mut rest = segments;
    let mut parameters = Vec::new();
    let mut literal = 0;
    for (index, part) in template.iter().enumerate() {
        let take = if Some(index) == greedy { 1 + spare } else { 1 };
        let (taken, left) = rest.split_at(take);
        rest = left;
        if part.starts_with('{') {
            let text = taken.join("/");
            if text.is_empty() {
                return None;
            }
            parameters.push(percent_decode_str(&text).decode_utf8().ok()?.into_owned());
        } else if taken == [*part] {
            literal += 1;
        } else {
            return None;
        }
    }
    Some((parameters, literal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: Method, path: &str) -> String {
        match find(&method, path) {
            Some((operation, parameters)) => format!("{} {parameters:?}", operation.id),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn paths_name_operations() {
        for (method, path, expected) in [
            (Method::GET, "/_ping", "SystemPing []"),
            (Method::HEAD, "/_ping", "SystemPingHead []"),
            (Method::GET, "/containers/json", "ContainerList []"),
            (
                Method::GET,
                "/containers/json/json",
                r#"ContainerInspect ["json"]"#,
            ),
            (Method::POST, "/containers/create", "ContainerCreate []"),
            (Method::GET, "/images/json", "ImageList []"),
            (Method::GET, "/images/json/json", r#"ImageInspect ["json"]"#),
            (
                Method::GET,
                "/images/localhost:5000/a/b:1/json",
                r#"ImageInspect ["localhost:5000/a/b:1"]"#,
            ),
            (
                Method::GET,
                "/images/localhost%3A5000%2Fa/history",
                r#"ImageHistory ["localhost:5000/a"]"#,
            ),
            (
                Method::DELETE,
                "/images/a/b@sha256:0",
                r#"ImageDelete ["a/b@sha256:0"]"#,
            ),
            (Method::GET, "/networks/", "NetworkList []"),
            (
                Method::GET,
                "/containers/a/b/json",
                r#"ContainerInspect ["a/b"]"#,
            ),
            (
                Method::DELETE,
                "/containers/a/b",
                r#"ContainerDelete ["a/b"]"#,
            ),
            (Method::GET, "/exec/a/b/json", "nothing"),
            (Method::PATCH, "/containers/json", "nothing"),
            (Method::GET, "/", "nothing"),
            (Method::GET, "/containers//json", "nothing"),
        ] {
            assert_eq!(found(method, path), expected, "{path}");
        }
    }

    #[test]
    fn versions_are_gated_with_dockers_sentences() {
        let split = |path| match split_version(path, ApiVersion::OLDEST) {
            Ok((version, rest)) => format!("{version} {rest}"),
            Err(error) => format!("{} {}", error.status.as_u16(), error.message),
        };
        for (path, expected) in [
            ("/info", "1.55 /info"),
            ("/v1.24/info", "1.24 /info"),
            ("/v1.55/images/v1.2/json", "1.55 /images/v1.2/json"),
            ("/version", "1.55 /version"),
            ("/volumes", "1.55 /volumes"),
            (
                "/v1.23/info",
                "400 client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
            ),
            (
                "/v1.56/info",
                "400 client version 1.56 is too new. Maximum supported API version is 1.55",
            ),
            (
                "/v2/info",
                "400 client version 2 is too new. Maximum supported API version is 1.55",
            ),
            ("/v1.2.3/info", "400 invalid API version: 1.2.3"),
        ] {
            assert_eq!(split(path), expected);
        }
    }

    #[test]
    fn doubled_slashes_lead_to_single_ones() {
        for (asked, clean) in [
            (
                "//v1.41//containers///json?all=1",
                Some("/v1.41/containers/json?all=1"),
            ),
            ("//", Some("/")),
            ("/containers/json?name=a//b", None),
        ] {
            let uri: Uri = asked.parse().unwrap();
            assert_eq!(without_doubled_slashes(&uri).as_deref(), clean);
        }
    }
}
