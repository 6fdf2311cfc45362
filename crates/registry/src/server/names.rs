//! What a request may name: repositories, tags and digests (OCI distribution 1.1, "Pulling manifests"). They become file
//! names, so nothing that this module lets through can leave a directory.

use std::fmt;
use std::str::FromStr;

use ring::digest::{Context, SHA256, SHA512};

/// Characters a repository's name may have (as Docker's registry; the specification leaves it open).
const LONGEST_NAME: usize = 255;
/// Characters a tag may have.
const LONGEST_TAG: usize = 128;

/// A repository's name: lower-case components divided by `/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RepositoryName(String);

impl RepositoryName {
    /// `None` for what is no name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= LONGEST_NAME;
        (fits && text.split('/').all(is_component)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_word(*first) || !is_word(*last) {
        return false;
    }
    bytes.split(|byte| is_word(*byte)).all(|between| {
        matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|b| *b == b'-')
    })
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Tag(String);

impl Tag {
    /// `None` for what is no tag.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let begins = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let fits = text.len() <= LONGEST_TAG
            && text.bytes().next().is_some_and(|byte| begins(&byte))
            && text
                .bytes()
                .all(|byte| begins(&byte) || matches!(byte, b'.' | b'-'));
        fits.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// How content is digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// The digest of some content, by either algorithm that the specification registers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ContentDigest {
    algorithm: Algorithm,
    hex: Box<str>,
}

impl ContentDigest {
    /// Of some bytes.
    pub(crate) fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    /// As a file of its own is called: `sha256-<hex>`.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{}", self.algorithm.name(), self.hex)
    }

    /// What [`Self::file_name`] wrote.
    pub(crate) fn of_file_name(name: &str) -> Option<Self> {
        let (algorithm, hex) = name.split_once('-')?;
        format!("{algorithm}:{hex}").parse().ok()
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

/// A text that is no digest we can verify.
#[derive(Debug, thiserror::Error)]
#[error(
    "invalid digest {0:?}: expected sha256: and 64 lowercase hexadecimal digits, or sha512: and 128"
)]
pub(crate) struct InvalidContentDigest(String);

impl FromStr for ContentDigest {
    type Err = InvalidContentDigest;

    fn from_str(text: &str) -> Result<Self, InvalidContentDigest> {
        let found = text.split_once(':').and_then(|(name, hex)| {
            let algorithm = Algorithm::ALL.into_iter().find(|one| one.name() == name)?;
            let is_hex = hex.len() == algorithm.digits()
                && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            is_hex.then(|| Self {
                algorithm,
                hex: hex.into(),
            })
        });
        found.ok_or_else(|| InvalidContentDigest(text.chars().take(200).collect()))
    }
}

impl TryFrom<String> for ContentDigest {
    type Error = InvalidContentDigest;

    fn try_from(text: String) -> Result<Self, InvalidContentDigest> {
        text.parse()
    }
}

impl<'de> serde::Deserialize<'de> for ContentDigest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Digests what passes.
#[derive(Clone)]
pub(crate) struct Hasher {
    algorithm: Algorithm,
    context: Context,
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let context = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        });
        Self { algorithm, context }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
    }

    pub(crate) fn finish(self) -> ContentDigest {
        ContentDigest {
            algorithm: self.algorithm,
            hex: hex(self.context.finish().as_ref()).into(),
        }
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    Tag(Tag),
    Digest(ContentDigest),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_specification() {
        for good in [
            "a",
            "library/busybox",
            "a/b/c",
            "a.b_c__d---e/f0",
            &"a".repeat(255),
        ] {
            assert!(RepositoryName::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            ".",
            "A",
            "a/B",
            "a..b",
            "a___b",
            "a._b",
            "-a",
            "a-",
            "_a",
            "a b",
            "a\0",
            "a%2fb",
            "ä",
            &"a".repeat(256),
        ] {
            assert!(RepositoryName::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn tags_are_those_of_the_specification() {
        for good in ["1", "latest", "_", "V1.0-rc.1_x", &"t".repeat(128)] {
            assert!(Tag::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "-a",
            "a/b",
            "a b",
            "a:b",
            "a@b",
            &"t".repeat(129),
        ] {
            assert!(Tag::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn digests_of_both_algorithms_are_read_and_written() {
        for (algorithm, known) in [
            (
                Algorithm::Sha256,
                "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                Algorithm::Sha512,
                "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
        ] {
            let digest = ContentDigest::of(algorithm, b"abc");
            assert_eq!(digest.to_string(), known);
            assert_eq!(known.parse::<ContentDigest>().unwrap(), digest);
            assert_eq!(
                ContentDigest::of_file_name(&digest.file_name()),
                Some(digest)
            );
        }
        for bad in [
            "",
            "sha256:",
            "sha256:00",
            "md5:00",
            "sha256:../../etc/passwd",
            &format!("sha256:{}", "A".repeat(64)),
        ] {
            assert!(bad.parse::<ContentDigest>().is_err(), "{bad}");
        }
    }
}
