//! Platforms: `os[/architecture[/variant]]` in the words of the OCI image index (Go's GOOS and GOARCH).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What an image was built for. Fields and their JSON names are those of the OCI image index.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64`, …
    pub architecture: String,
    /// `linux`, …
    pub os: String,
    /// Only of Windows images.
    #[serde(
        rename = "os.version",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub os_version: Option<String>,
    /// Only of Windows images.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// `v7`, `v8`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// A text was not a platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is an invalid OS or architecture component: expected os[/architecture[/variant]]")]
pub struct InvalidPlatform(pub String);

impl Platform {
    /// The platform this binary runs on.
    #[must_use]
    pub fn host() -> Self {
        Self {
            os: "linux".into(),
            architecture: normal_architecture(std::env::consts::ARCH).0.into(),
            ..Self::default()
        }
    }

    /// Whether an image for `self` serves a request for `wanted`: same os and architecture, and the same
    /// variant where both name one (`v8` is what arm64 without a variant means).
    #[must_use]
    pub fn satisfies(&self, wanted: &Self) -> bool {
        let variant = |p: &Self| match (&p.variant, p.architecture.as_str()) {
            (Some(v), _) => Some(v.clone()),
            (None, "arm64") => Some("v8".to_owned()),
            (None, _) => None,
        };
        let own = self.normalized();
        let wanted = wanted.normalized();
        own.os == wanted.os
            && own.architecture == wanted.architecture
            && match (variant(&own), variant(&wanted)) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
    }

    fn normalized(&self) -> Self {
        let (architecture, variant) = normal_architecture(&self.architecture);
        Self {
            os: self.os.to_ascii_lowercase(),
            architecture: architecture.to_owned(),
            variant: self.variant.clone().or(variant.map(str::to_owned)),
            ..Self::default()
        }
    }
}

fn normal_architecture(name: &str) -> (&str, Option<&'static str>) {
    match name {
        "x86_64" | "x86-64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "armhf" => ("arm", Some("v7")),
        "armel" => ("arm", Some("v6")),
        "i386" | "x86" => ("386", None),
        other => (other, None),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    fn from_str(text: &str) -> Result<Self, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.to_owned());
        let parts: Vec<&str> = text.split('/').collect();
        let sound = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if parts.len() > 3 || !parts.iter().all(sound) {
            return Err(invalid());
        }
        let host = Self::host();
        let (os, architecture, variant) = match parts.as_slice() {
            [one] if matches!(*one, "linux" | "windows" | "darwin" | "freebsd") => {
                (*one, host.architecture.as_str(), None)
            }
            [one] => (host.os.as_str(), *one, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some((*variant).to_owned())),
            _ => return Err(invalid()),
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant,
            ..Self::default()
        }
        .normalized())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_normal_platforms() {
        for (text, shown) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("aarch64", "linux/arm64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), shown);
        }
        for bad in ["", "/", "a/b/c/d", "li nux/amd64"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad}");
        }
    }

    #[test]
    fn arm64_means_variant_eight() {
        let wanted: Platform = "linux/arm64/v8".parse().unwrap();
        assert!(
            "linux/arm64"
                .parse::<Platform>()
                .unwrap()
                .satisfies(&wanted)
        );
        assert!(
            !"linux/arm64/v9"
                .parse::<Platform>()
                .unwrap()
                .satisfies(&wanted)
        );
        assert!(
            !"linux/amd64"
                .parse::<Platform>()
                .unwrap()
                .satisfies(&wanted)
        );
    }
}
