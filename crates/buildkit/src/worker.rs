//! What clients are told of who builds here.

use bollard_buildkit_proto::moby::buildkit::v1::apicaps::ApiCap;
use bollard_buildkit_proto::moby::buildkit::v1::types::{BuildkitVersion, WorkerRecord};
use bollard_buildkit_proto::pb;
use hoist_model::Platform;

/// The release of BuildKit whose behaviour this is; clients compare it.
const VERSION: &str = "v0.25.1";

/// What the gateway can do (`frontend/gateway/pb/caps.go`); clients do without the rest.
const FRONTEND: &[&str] = &[
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "reference.output",
    "importcaches",
    "frontend.caps",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.warnings",
];

/// What may be in requests (`solver/pb/caps.go`): exporters and their terms, budgets of prunes; of LLB there is nothing.
const LLB: &[&str] = &["exporter.sourcedateepoch", "gc.freespacefilter"];

/// The one worker.
pub(crate) fn record() -> WorkerRecord {
    let host = Platform::host();
    let platform = pb::Platform {
        architecture: host.architecture.clone(),
        os: host.os.clone(),
        variant: host.variant.clone().unwrap_or_default(),
        ..pb::Platform::default()
    };
    let labels = [
        ("org.mobyproject.buildkit.worker.executor", "hoist"),
        // Without it clients do not ask for archives (buildx `driver/docker/driver.go`).
        ("org.mobyproject.buildkit.worker.snapshotter", "hoist"),
    ];
    WorkerRecord {
        id: "hoist".to_owned(),
        labels: labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        platforms: vec![platform],
        gc_policy: Vec::new(),
        buildkit_version: Some(version()),
        cdi_devices: Vec::new(),
    }
}

/// Which BuildKit this behaves like.
pub(crate) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "github.com/moby/buildkit".to_owned(),
        version: VERSION.to_owned(),
        revision: String::new(),
    }
}

pub(crate) fn frontend_capabilities() -> Vec<ApiCap> {
    capabilities(FRONTEND)
}

pub(crate) fn llb_capabilities() -> Vec<ApiCap> {
    capabilities(LLB)
}

fn capabilities(names: &[&str]) -> Vec<ApiCap> {
    let capability = |name: &&str| ApiCap {
        id: (*name).to_owned(),
        enabled: true,
        ..ApiCap::default()
    };
    names.iter().map(capability).collect()
}
