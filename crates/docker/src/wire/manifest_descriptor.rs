//! The manifest that a container's image came by (API 1.48, `ImageManifestDescriptor`, an OCI descriptor).

use hoist_model::{Digest, Platform};
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ManifestDescriptor {
    media_type: String,
    digest: String,
    size: usize,
    platform: Platform,
}

impl ManifestDescriptor {
    /// Of a manifest's own bytes; one that does not name its type is what the OCI image specification lets go without.
    pub(crate) fn of(digest: &Digest, bytes: &[u8], platform: &Platform) -> Self {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Named {
            media_type: Option<String>,
        }
        let named: Option<Named> = serde_json::from_slice(bytes).ok();
        let media_type = named.and_then(|named| named.media_type);
        Self {
            media_type: media_type
                .unwrap_or_else(|| hoist_image::document::media_type::OCI_MANIFEST.to_owned()),
            digest: digest.to_string(),
            size: bytes.len(),
            platform: platform.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_tells_type_digest_size_and_platform() {
        let platform: Platform = "linux/arm64/v8".parse().unwrap();
        let digest = Digest::from_sha256(&[7; 32]);
        let bytes = br#"{"mediaType":"application/vnd.docker.distribution.manifest.v2+json"}"#;
        let told = ManifestDescriptor::of(&digest, bytes, &platform);
        let told = serde_json::to_value(told).unwrap();
        assert_eq!(
            told["mediaType"],
            "application/vnd.docker.distribution.manifest.v2+json"
        );
        assert_eq!(told["digest"], digest.to_string());
        assert_eq!(told["size"], bytes.len());
        assert_eq!(told["platform"]["architecture"], "arm64");
        assert_eq!(told["platform"]["variant"], "v8");
        let silent = ManifestDescriptor::of(&digest, b"{}", &platform);
        let silent = serde_json::to_value(silent).unwrap();
        assert_eq!(
            silent["mediaType"],
            "application/vnd.oci.image.manifest.v1+json"
        );
    }
}
