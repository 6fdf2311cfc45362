//! Which endpoint a request is for (OCI distribution 1.1, "Endpoints"), from its path alone.

use http::Method;

use super::failure::{Code, Failure};
use super::names::{ContentDigest, Reference, RepositoryName, Tag};

/// An endpoint and what its path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/manifests/<reference>`
    Manifest(RepositoryName, Reference),
    /// `/v2/<name>/blobs/<digest>`
    Blob(RepositoryName, ContentDigest),
    /// `/v2/<name>/blobs/uploads/`
    Uploads(RepositoryName),
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload(RepositoryName, String),
    /// `/v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `/v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, ContentDigest),
}

impl Route {
    /// What [`Self::name`] answers.
    pub(crate) const KINDS: [&str; 8] = [
        "base",
        "catalog",
        "manifest",
        "blob",
        "uploads",
        "upload",
        "tags",
        "referrers",
    ];

    /// `Ok(None)` where no endpoint has such a path.
    pub(crate) fn parse(path: &str) -> Result<Option<Self>, Failure> {
        let Some(rest) = path.strip_prefix("/v2") else {
            return Ok(None);
        };
        let rest = match rest {
            "" | "/" => return Ok(Some(Self::Base)),
            "/_catalog" => return Ok(Some(Self::Catalog)),
            rest => rest.strip_prefix('/').unwrap_or(""),
        };
        let (before, last) = rest.rsplit_once('/').unwrap_or(("", rest));
        let (name, kind) = before.rsplit_once('/').unwrap_or(("", before));
        let route = match (kind, last) {
            ("manifests", reference) => {
                Self::Manifest(repository(name)?, parse_reference(reference)?)
            }
            ("tags", "list") => Self::Tags(repository(name)?),
            ("referrers", text) => Self::Referrers(repository(name)?, digest(text)?),
            ("blobs", "uploads") => Self::Uploads(repository(name)?),
            ("uploads", id) if name.ends_with("/blobs") => {
                let name = repository(name.trim_end_matches("blobs").trim_end_matches('/'))?;
                match id {
                    "" => Self::Uploads(name),
                    id => Self::Upload(name, id.to_owned()),
                }
            }
            ("blobs", text) => Self::Blob(repository(name)?, digest(text)?),
            _ => return Ok(None),
        };
        Ok(Some(route))
    }

    /// What the endpoint answers to, for logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Catalog => "catalog",
            Self::Manifest(..) => "manifest",
            Self::Blob(..) => "blob",
            Self::Uploads(_) => "uploads",
            Self::Upload(..) => "upload",
            Self::Tags(_) => "tags",
            Self::Referrers(..) => "referrers",
        }
    }

    /// The repository it is about.
    pub(crate) fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Base | Self::Catalog => None,
            Self::Manifest(name, _)
            | Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
        }
    }

    /// The methods it answers to.
    pub(crate) fn methods(&self) -> &'static [Method] {
        const READ: &[Method] = &[Method::GET, Method::HEAD];
        match self {
            Self::Base | Self::Catalog | Self::Tags(_) | Self::Referrers(..) => READ,
            Self::Manifest(..) => &[Method::GET, Method::HEAD, Method::PUT, Method::DELETE],
            Self::Blob(..) => &[Method::GET, Method::HEAD, Method::DELETE],
            Self::Uploads(_) => &[Method::POST],
            Self::Upload(..) => &[Method::GET, Method::PATCH, Method::PUT, Method::DELETE],
        }
    }
}

/// A repository's name that a client gave.
pub(crate) fn repository(text: &str) -> Result<RepositoryName, Failure> {
    RepositoryName::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(300).collect();
        Failure::new(
            Code::NameInvalid,
            format!("invalid repository name {shown:?}"),
        )
    })
}

/// A digest that a client gave.
pub(crate) fn digest(text: &str) -> Result<ContentDigest, Failure> {
    text.parse()
        .map_err(|error| Failure::new(Code::DigestInvalid, format!("{error}")))
}

fn parse_reference(text: &str) -> Result<Reference, Failure> {
    if text.contains(':') {
        return Ok(Reference::Digest(digest(text)?));
    }
    let tag = Tag::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(200).collect();
        Failure::new(Code::TagInvalid, format!("invalid tag {shown:?}"))
    });
    Ok(Reference::Tag(tag?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        RepositoryName::parse(text).unwrap()
    }

    #[test]
    fn every_endpoint_has_its_path() {
        let hex = format!("sha256:{}", "0f".repeat(32));
        let digest: ContentDigest = hex.parse().unwrap();
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalog),
            ("/v2/a/b/tags/list", Route::Tags(name("a/b"))),
            (
                "/v2/a/manifests/latest",
                Route::Manifest(name("a"), Reference::Tag(Tag::parse("latest").unwrap())),
            ),
            (
                &format!("/v2/a/manifests/{hex}"),
                Route::Manifest(name("a"), Reference::Digest(digest.clone())),
            ),
            (
                &format!("/v2/blobs/uploads/blobs/{hex}"),
                Route::Blob(name("blobs/uploads"), digest.clone()),
            ),
            ("/v2/a/blobs/uploads/", Route::Uploads(name("a"))),
            ("/v2/a/blobs/uploads", Route::Uploads(name("a"))),
            (
                "/v2/a/b/blobs/uploads/77",
                Route::Upload(name("a/b"), "77".into()),
            ),
            (
                &format!("/v2/a/referrers/{hex}"),
                Route::Referrers(name("a"), digest),
            ),
            (
                "/v2/manifests/manifests/tags",
                Route::Manifest(
                    name("manifests"),
                    Reference::Tag(Tag::parse("tags").unwrap()),
                ),
            ),
        ] {
            assert_eq!(Route::parse(path).unwrap(), Some(route), "{path}");
        }
        for path in [
            "/",
            "/v1/",
            "/v2x",
            "/v2/a",
            "/v2/a/tags",
            "/v2/a/tags/all",
            "/v2//",
        ] {
            assert_eq!(Route::parse(path).ok().flatten(), None, "{path}");
        }
    }

    #[test]
    fn tricks_are_named() {
        for (path, code) in [
            ("/v2/../manifests/a", Code::NameInvalid),
            ("/v2/a/../b/manifests/a", Code::NameInvalid),
            ("/v2/A/manifests/a", Code::NameInvalid),
            ("/v2/a/manifests/..", Code::TagInvalid),
            ("/v2/a/manifests/", Code::TagInvalid),
            ("/v2/a/manifests/sha256:..", Code::DigestInvalid),
            ("/v2/a/blobs/sha256:00", Code::DigestInvalid),
            ("/v2//manifests/a", Code::NameInvalid),
            ("/v2/_layers/manifests/a", Code::NameInvalid),
        ] {
            assert_eq!(Route::parse(path).unwrap_err().code(), code, "{path}");
        }
    }
}
