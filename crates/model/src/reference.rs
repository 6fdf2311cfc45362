//! Image references: `[host[:port]/]path[:tag][@digest]`.
//!
//! Grammar and normalisation follow the distribution project's `reference` rules as the Docker CLI applies
//! them: no host means `docker.io`, a one-word path on it lives under `library/`, no tag means `latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, ImageId};

/// Why a text is not an image reference. Texts follow Docker's, because clients show them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The overall shape is wrong.
    #[error("invalid reference format: {0:?}")]
    Format(String),
    /// The repository has upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    UpperCase(String),
    /// Longer than 255 characters.
    #[error("repository name must not be more than 255 characters: {0:?}")]
    TooLong(String),
}

/// The registry and path of an image, fully qualified, without tag or digest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Repository {
    host: String,
    path: String,
}

impl Repository {
    /// The registry, `docker.io` for Docker Hub, with its port if one was given.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The path on the registry, `library/debian`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The short form people type and Docker prints: `debian`, `me/app`, `host:5000/app`.
    #[must_use]
    pub fn familiar(&self) -> String {
        let official = self.path.strip_prefix("library/");
        let official = official.filter(|name| !name.contains('/') && !is_id(name));
        let first = self.path.split('/').next().unwrap_or_default();
        match official {
            Some(name) if self.host == DOCKER_HUB => name.to_owned(),
            // Where the first part reads as a host, the short form would mean another repository.
            _ if self.host == DOCKER_HUB && !is_host(first) => self.path.clone(),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// The host that a reference without one means.
pub const DOCKER_HUB: &str = "docker.io";

/// A parsed, fully qualified reference. A tag, a digest, or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Parses and gives the tag `latest` where neither tag nor digest is named.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        let mut reference = Self::parse_exact(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some("latest".to_owned());
        }
        Ok(reference)
    }

    /// Parses without inventing a tag.
    pub fn parse_exact(text: &str) -> Result<Self, InvalidReference> {
        let invalid = || InvalidReference::Format(text.to_owned());
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rfind(':') {
            Some(colon) if !rest[colon..].contains('/') => {
                (&rest[..colon], Some(&rest[colon + 1..]))
            }
            _ => (rest, None),
        };
        // The repository first: what is wrong with both is told of it, as Docker does.
        let repository = parse_repository(name, text)?;
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(invalid());
        }
        Ok(Self {
            repository,
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// The repository, fully qualified.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The tag, if one was named or supplied by [`ImageReference::parse`].
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was named.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository with a tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Self, InvalidReference> {
        if !is_tag(tag) {
            return Err(InvalidReference::Format(format!(
                "{}:{tag}",
                self.repository.familiar()
            )));
        }
        Ok(Self {
            repository: self.repository.clone(),
            tag: Some(tag.to_owned()),
            digest: None,
        })
    }

    /// The same repository with a digest and no tag: what `RepoDigests` lists.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self {
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }

    /// What follows the repository on the registry's wire: the digest if there is one, else the tag.
    #[must_use]
    pub fn manifest_selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => "latest",
        }
    }

    /// The short form people type and Docker prints: `debian:latest`.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.suffixed(self.repository.familiar())
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest.as_str());
        }
        text
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(self.repository.to_string()))
    }
}

impl FromStr for ImageReference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        Self::parse_exact(text)
    }
}

impl TryFrom<String> for ImageReference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> Self {
        reference.to_string()
    }
}

/// What a user may name where an image is wanted: an id, a prefix of one, or a reference.
///
/// Docker tries the id first when the text could be one, then the reference; the caller holds the image table,
/// so both readings are offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSelector {
    /// The text as given, for error messages.
    pub text: String,
    /// The whole id, when `sha256:` or 64 hexadecimal digits were given.
    pub id: Option<ImageId>,
    /// The hexadecimal prefix, when the text could be a short id.
    pub id_prefix: Option<String>,
    /// The reference, when the text could be one.
    pub reference: Option<ImageReference>,
}

impl ImageSelector {
    /// Reads a text in every way it may be meant.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = !hex.is_empty()
            && hex.len() <= 64
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let id = if is_hex {
            format!("sha256:{hex}").parse().ok()
        } else {
            None
        };
        Self {
            text: text.to_owned(),
            id,
            id_prefix: is_hex.then(|| hex.to_owned()),
            reference: ImageReference::parse(text).ok(),
        }
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !tag.is_empty()
        && tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn parse_repository(name: &str, whole: &str) -> Result<Repository, InvalidReference> {
    let invalid = || InvalidReference::Format(whole.to_owned());
    if is_id(name) {
        return Err(invalid());
    }
    let (host, path) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest.to_owned()),
        Some(_) => (DOCKER_HUB, name.to_owned()),
        None => (DOCKER_HUB, name.to_owned()),
    };
    let host = if host == "index.docker.io" {
        DOCKER_HUB
    } else {
        host
    };
    let path = if host == DOCKER_HUB && !path.contains('/') && !path.is_empty() {
        format!("library/{path}")
    } else {
        path
    };
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        let end = path.find(':').unwrap_or(path.len());
        return Err(InvalidReference::UpperCase(path[..end].to_owned()));
    }
    if host.len() + path.len() > 255 {
        return Err(InvalidReference::TooLong(name.to_owned()));
    }
    if !is_host_name(host) || !path.split('/').all(is_path_component) {
        return Err(invalid());
    }
    Ok(Repository {
        host: host.to_owned(),
        path,
    })
}

/// Whether a name could be taken for an image's id.
fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A first component is a host when it could not be a path component's ordinary name.
fn is_host(first: &str) -> bool {
    first == "localhost"
        || first.contains(['.', ':'])
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_host_name(host: &str) -> bool {
    let (name, port) = if host.starts_with('[') {
        match host.split_once(']') {
            Some((name, rest)) => (
                &name[1..],
                if rest.is_empty() {
                    None
                } else {
                    Some(rest.strip_prefix(':').unwrap_or("x"))
                },
            ),
            None => return false,
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };
    let port_fits = port.is_none_or(|port| {
        !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
    });
    let name_fits = if host.starts_with('[') {
        name.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        !name.is_empty()
            && name.split('.').all(|label| {
                !label.is_empty()
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-')
            })
    };
    port_fits && name_fits
}

/// `[a-z0-9]+` groups joined by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let alphanumeric = |b: &u8| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'g'..=b'z');
    if !bytes.first().is_some_and(alphanumeric) || !bytes.last().is_some_and(alphanumeric) {
        return false;
    }
    let mut at = 0;
    while at < bytes.len() {
        if alphanumeric(&bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && !alphanumeric(&bytes[at]) {
            at += 1;
        }
        let separator = &component[start..at];
        let fits = matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-');
        if !fits {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, full: &str, familiar: &str) {
        let reference = ImageReference::parse(text).unwrap();
        assert_eq!(reference.to_string(), full, "{text}");
        assert_eq!(reference.familiar(), familiar, "{text}");
    }

    #[test]
    fn short_names_are_qualified_as_docker_does() {
        check("debian", "docker.io/library/debian:latest", "debian:latest");
        check("me/app:1", "docker.io/me/app:1", "me/app:1");
        check(
            "index.docker.io/library/a",
            "docker.io/library/a:latest",
            "a:latest",
        );
        // The short form never means another repository.
        for text in ["docker.io/library/a/b:1", "docker.io/a.b/c:1"] {
            let reference = ImageReference::parse(text).unwrap();
            let again = ImageReference::parse(&reference.familiar()).unwrap();
            assert_eq!(again, reference);
        }
        check(
            "localhost/app",
            "localhost/app:latest",
            "localhost/app:latest",
        );
        check(
            "127.0.0.1:5000/a/b:x",
            "127.0.0.1:5000/a/b:x",
            "127.0.0.1:5000/a/b:x",
        );
        check("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest");
        let digest = format!("sha256:{}", "a1".repeat(32));
        check(
            &format!("debian@{digest}"),
            &format!("docker.io/library/debian@{digest}"),
            &format!("debian@{digest}"),
        );
        check(
            &format!("debian:12@{digest}"),
            &format!("docker.io/library/debian:12@{digest}"),
            &format!("debian:12@{digest}"),
        );
    }

    #[test]
    fn malformed_references_are_refused() {
        for bad in [
            "",
            ":",
            "a:",
            "a::b",
            "-a",
            "a-",
            "a//b",
            "a/../b",
            "a___b",
            "a b",
            "A",
            "host:99999/a",
            "a@sha256:00",
            &"ab".repeat(32),
            "a:/b",
            "/a",
            "http://a/b",
        ] {
            assert!(ImageReference::parse(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_selector_offers_both_readings() {
        let both = ImageSelector::parse("beef");
        assert_eq!(both.id_prefix.as_deref(), Some("beef"));
        assert_eq!(both.reference.unwrap().familiar(), "beef:latest");
        let id = ImageSelector::parse(&format!("sha256:{}", "00".repeat(32)));
        assert!(id.id.is_some());
        assert!(ImageSelector::parse("sha256:beef").id_prefix.is_some());
    }

    proptest::proptest! {
        #[test]
        fn what_parses_parses_again_to_itself(text in "[a-zA-Z0-9./:@_-]{0,40}") {
            if let Ok(reference) = ImageReference::parse(&text) {
                proptest::prop_assert_eq!(
                    &ImageReference::parse(&reference.to_string()).unwrap(), &reference);
                proptest::prop_assert_eq!(
                    &ImageReference::parse(&reference.familiar()).unwrap(), &reference);
            }
        }
    }
}
