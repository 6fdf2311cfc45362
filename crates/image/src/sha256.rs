//! The digest of content: SHA-256 as ring has it, in assembly. Layers are digested as they come and go, and where a processor has
//! instructions for it, sha2 (0.11) takes twice as long: it calls a function for each sixteen bytes that it loads.

use hoist_model::Digest;
use ring::digest::{Context, SHA256};

/// The digest of a stream, so far.
#[derive(Clone)]
pub struct Sha256(Context);

impl Sha256 {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Of some bytes.
    #[must_use]
    pub fn digest(bytes: impl AsRef<[u8]>) -> Digest {
        let mut hasher = Self::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Goes on.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.update(bytes.as_ref());
    }

    /// Of all of it.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest::from_sha256(&self.bytes())
    }

    /// The same, as it is computed.
    #[must_use]
    pub fn bytes(self) -> [u8; 32] {
        let digest = self.0.finish();
        digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sha256").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest as _;

    use super::*;

    #[test]
    fn another_implementation_agrees() {
        let bytes: Vec<u8> = (0..1000u32).map(|n| (n % 251) as u8).collect();
        for length in [0, 1, 55, 56, 63, 64, 65, 1000] {
            let wanted = Digest::from_sha256(&sha2::Sha256::digest(&bytes[..length]).into());
            let mut hasher = Sha256::new();
            bytes[..length]
                .chunks(7)
                .for_each(|chunk| hasher.update(chunk));
            assert_eq!(hasher.finish(), wanted, "{length}");
            assert_eq!(Sha256::digest(&bytes[..length]), wanted, "{length}");
        }
    }
}
