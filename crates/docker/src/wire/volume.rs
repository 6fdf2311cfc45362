//! Volumes (API 1.55, `Volume`).

use std::collections::BTreeMap;

use hoist_engine::records::VolumeRecord;
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeCreateBody {
    pub(crate) name: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) driver_opts: Option<BTreeMap<String, String>>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) cluster_volume_spec: Option<serde_json::Value>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Volume {
    created_at: String,
    driver: &'static str,
    labels: Option<BTreeMap<String, String>>,
    mountpoint: String,
    name: String,
    options: Option<BTreeMap<String, String>>,
    scope: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_data: Option<UsageData>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    ref_count: usize,
    size: u64,
}

impl Volume {
    /// Says how many containers use it and how many bytes it has.
    pub(crate) fn used(&mut self, ref_count: usize, size: u64) {
        self.usage_data = Some(UsageData { ref_count, size });
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumeList {
    pub(crate) volumes: Vec<Volume>,
    pub(crate) warnings: Option<Vec<String>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct VolumesPruned {
    pub(crate) volumes_deleted: Vec<String>,
    pub(crate) space_reclaimed: u64,
}

/// The label that tells volumes nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// One volume.
pub(crate) fn volume(record: &VolumeRecord, mountpoint: String) -> Volume {
    let mut labels = record.labels.clone();
    if record.anonymous {
        labels.entry(ANONYMOUS.to_owned()).or_default();
    }
    Volume {
        // Docker writes whole seconds here, unlike anywhere else.
        created_at: hoist_model::Timestamp::from_seconds(record.created_at.as_seconds())
            .to_string(),
        driver: "local",
        labels: (!labels.is_empty()).then_some(labels),
        mountpoint,
        name: record.name.clone(),
        options: (!record.options.is_empty()).then(|| record.options.clone()),
        scope: "local",
        usage_data: None,
    }
}
