//! The check of images and layers, as Hoist's own operation has it.

use std::collections::BTreeMap;

use hoist_engine::images::fsck::{Finding, FsckOptions, FsckReport, Outcome};
use serde::Deserialize;
use serde_json::{Value, json};

use super::credentials::AuthConfig;

/// What is asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct FsckRequest {
    repair: bool,
    /// By host, as `X-Registry-Config` has them.
    credentials: BTreeMap<String, AuthConfig>,
}

impl From<FsckRequest> for FsckOptions {
    fn from(request: FsckRequest) -> Self {
        let credentials = request.credentials.into_iter();
        Self {
            repair: request.repair,
            credentials: credentials
                .map(|(host, config)| (host, config.into()))
                .collect(),
        }
    }
}

/// The options that a request's body asks for; what is no such body asks for nothing.
#[must_use]
pub fn options(body: &Value) -> FsckOptions {
    let request = serde_json::from_value::<FsckRequest>(body.clone());
    request.unwrap_or_default().into()
}

/// The report, with `ExitCode` as `hoist fsck` has it.
#[must_use]
pub fn report(found: &FsckReport) -> Value {
    json!({
        "Images": found.images,
        "Layers": found.layers,
        "Documents": found.documents,
        "Containers": found.containers,
        "Bytes": found.bytes,
        "Findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
        "Notes": found.notes,
        "ExitCode": found.exit_code(),
    })
}

fn finding(found: &Finding) -> Value {
    let (kind, subject) = found.problem.code();
    let (outcome, detail) = match &found.outcome {
        Outcome::Found => ("found", None),
        Outcome::Repaired(how) => ("repaired", Some(how)),
        Outcome::Kept(why) => ("kept", Some(why)),
    };
    json!({
        "Kind": kind,
        "Subject": subject,
        "Text": found.text,
        "NeededBy": found.needed_by,
        "Outcome": outcome,
        "Detail": detail,
    })
}
