//! Public keys of who gives tokens: PEM of a SubjectPublicKeyInfo (RFC 5280 §4.1), as `openssl pkey -pubout` writes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

/// A key, and the one algorithm (RFC 7518 §3.1) whose signatures it verifies.
pub(crate) struct PublicKey {
    algorithm: &'static str,
    key: UnparsedPublicKey<Vec<u8>>,
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

impl PublicKey {
    /// Reads a PEM file's text.
    pub(crate) fn parse(pem: &str) -> Result<Self, String> {
        const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
        let wrong =
            || "expected a PEM file with a PUBLIC KEY: RSA, P-256, P-384 or Ed25519".to_owned();
        let (_, rest) = pem.split_once(BEGIN).ok_or_else(wrong)?;
        let (text, _) = rest
            .split_once("-----END PUBLIC KEY-----")
            .ok_or_else(wrong)?;
        let text: String = text.split_whitespace().collect();
        let der = STANDARD.decode(text).map_err(|_| wrong())?;
        Self::of_der(&der).ok_or_else(wrong)
    }

    fn of_der(der: &[u8]) -> Option<Self> {
        let (whole, _) = element(der, 0x30)?;
        let (identifier, rest) = element(whole, 0x30)?;
        let (bits, _) = element(rest, 0x03)?;
        // The first byte says how many bits of the last are unused: none.
        let key = bits.strip_prefix(&[0])?.to_vec();
        let (kind, parameters) = element(identifier, 0x06)?;
        let curve = || element(parameters, 0x06).map(|(curve, _)| curve);
        let (algorithm, verifies): (_, &'static dyn VerificationAlgorithm) = match kind {
            RSA => ("RS256", &signature::RSA_PKCS1_2048_8192_SHA256),
            ED25519 => ("EdDSA", &signature::ED25519),
            ELLIPTIC if curve()? == P256 => ("ES256", &signature::ECDSA_P256_SHA256_FIXED),
            ELLIPTIC if curve()? == P384 => ("ES384", &signature::ECDSA_P384_SHA384_FIXED),
            _ => return None,
        };
        Some(Self {
            algorithm,
            key: UnparsedPublicKey::new(verifies, key),
        })
    }

    /// Whether the key's owner signed this, with the key's own algorithm and no other.
    pub(crate) fn verify(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        algorithm == self.algorithm && self.key.verify(signed, signature).is_ok()
    }
}

/// The content of a DER element of this kind, and what follows it.
fn element(der: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => (usize::from(*rest.first()?), &rest[1..]),
        0x82 => (
            usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?])),
            &rest[2..],
        ),
        _ => return None,
    };
    (found == kind && length <= rest.len()).then(|| rest.split_at(length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{
        KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKeyData,
    };

    fn pem(der: &[u8]) -> String {
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            STANDARD.encode(der)
        )
    }

    #[test]
    fn keys_of_each_kind_verify_their_own() {
        for (kind, algorithm) in [
            (&PKCS_ECDSA_P256_SHA256, "ES256"),
            (&PKCS_ECDSA_P384_SHA384, "ES384"),
            (&PKCS_ED25519, "EdDSA"),
        ] {
            let pair = KeyPair::generate_for(kind).unwrap();
            let key = PublicKey::parse(&pem(&pair.subject_public_key_info())).unwrap();
            assert_eq!(key.algorithm, algorithm);
            if algorithm == "EdDSA" {
                let signature = rcgen::SigningKey::sign(&pair, b"signed").unwrap();
                assert!(key.verify(algorithm, b"signed", &signature));
                assert!(!key.verify(algorithm, b"other", &signature));
                assert!(!key.verify("HS256", b"signed", &signature));
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let pair = KeyPair::generate().unwrap();
        let der = pair.subject_public_key_info();
        for cut in 0..der.len() {
            assert!(PublicKey::parse(&pem(&der[..cut])).is_err(), "{cut}");
        }
        assert!(PublicKey::parse("").is_err());
        assert!(
            PublicKey::parse(&pair.serialize_pem()).is_err(),
            "a private key is not taken"
        );
    }
}
