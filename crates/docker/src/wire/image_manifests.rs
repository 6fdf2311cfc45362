//! The manifests of an image (API 1.55, `ImageManifestSummary`).

use hoist_engine::images::{ManifestKind, ManifestSummary};
use hoist_engine::records::ImageRecord;
use serde_json::{Value, json};

/// One line per manifest; `containers` are the ids of those that use the image.
pub(crate) fn manifests(
    image: &ImageRecord,
    all: &[ManifestSummary],
    containers: &[String],
) -> Vec<Value> {
    let lines = all.iter().map(|one| line(image, one, containers));
    lines.collect()
}

fn line(image: &ImageRecord, one: &ManifestSummary, containers: &[String]) -> Value {
    let mut descriptor = json!({
        "mediaType": one.media_type,
        "digest": one.digest,
        "size": one.size,
    });
    let (mut content, mut unpacked, mut users) = (0, 0, &[][..]);
    let (kind, platform) = match &one.kind {
        ManifestKind::Here {
            platform,
            content: bytes,
        } => {
            (content, unpacked, users) = (*bytes, image.size, containers);
            ("image", Some(platform))
        }
        ManifestKind::Elsewhere(platform) => ("image", Some(platform)),
        ManifestKind::Attestation(_) => ("attestation", None),
        ManifestKind::Unknown => ("unknown", None),
    };
    if let Some(platform) = platform {
        descriptor["platform"] = json!(platform);
    }
    let mut line = json!({
        "ID": one.digest,
        "Descriptor": descriptor,
        "Available": matches!(one.kind, ManifestKind::Here { .. }),
        "Size": { "Content": content, "Total": content + unpacked },
        "Kind": kind,
    });
    if let Some(platform) = platform {
        line["ImageData"] = json!({
            "Platform": platform,
            "Containers": users,
            "Size": { "Unpacked": unpacked },
        });
    }
    if let ManifestKind::Attestation(of) = &one.kind {
        line["AttestationData"] = json!({ "For": of });
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_model::{Digest, Platform};

    #[test]
    fn what_is_here_and_what_is_not() {
        let digest = |n| Digest::from_sha256(&[n; 32]);
        let image = ImageRecord {
            id: digest(1),
            manifest: Some(digest(2)),
            layers: Vec::new(),
            size: 1000,
            created: None,
            platform: "linux/amd64".parse::<Platform>().unwrap(),
            labels: std::collections::BTreeMap::new(),
            tagged_at: None,
        };
        let one = |n, kind| ManifestSummary {
            media_type: "m".to_owned(),
            digest: digest(n),
            size: 7,
            kind,
        };
        let platform = image.platform.clone();
        let all = [
            one(
                2,
                ManifestKind::Here {
                    platform,
                    content: 30,
                },
            ),
            one(3, ManifestKind::Elsewhere("linux/arm64".parse().unwrap())),
            one(4, ManifestKind::Attestation(digest(2))),
        ];
        let told = manifests(&image, &all, &["c".to_owned()]);
        assert_eq!(told[0]["Available"], true);
        assert_eq!(told[0]["Size"], json!({"Content": 30, "Total": 1030}));
        assert_eq!(told[0]["ImageData"]["Containers"], json!(["c"]));
        assert_eq!(told[0]["Descriptor"]["platform"]["architecture"], "amd64");
        assert_eq!(told[1]["Available"], false);
        assert_eq!(told[1]["ImageData"]["Size"]["Unpacked"], 0);
        assert_eq!(told[2]["Kind"], "attestation");
        assert_eq!(told[2]["AttestationData"]["For"], digest(2).as_str());
        assert_eq!(told[2].get("ImageData"), None);
    }
}
