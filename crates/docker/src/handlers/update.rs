//! `POST /containers/{id}/update`.

use hoist_engine::containers::UpdateRequest;

use crate::call::{Call, ok};
use crate::error::{ApiError, Reply};
use crate::wire::create_body::UpdateBody;
use crate::wire::resources::{Capacity, Purpose, check_sets, resources_from_wire};
use crate::wire::restart_policy::restart_policy_from_wire;

/// Changes limits and the restart policy; what the body leaves out stays.
pub(crate) async fn update(mut call: Call) -> Reply {
    let body: UpdateBody = call.json().await?;
    let container = call.engine().containers.resolve(call.name())?;
    let mut warnings = Vec::new();
    let given = |list: Option<usize>| list.is_some_and(|length| length > 0);
    let resources = &body.resources;
    for (list, what) in [
        (resources.devices.as_ref().map(Vec::len), "Devices"),
        (
            resources.device_cgroup_rules.as_ref().map(Vec::len),
            "DeviceCgroupRules",
        ),
        (
            resources.device_requests.as_ref().map(Vec::len),
            "DeviceRequests",
        ),
        (resources.ulimits.as_ref().map(Vec::len), "Ulimits"),
    ] {
        // Docker takes these and does nothing.
        if given(list) {
            return Err(ApiError::invalid(format!(
                "Cannot update container {}: {what} cannot be changed after create",
                container.id.as_str()
            )));
        }
    }
    let capacity = Capacity::of(&call.facade.node);
    let limits = resources_from_wire(body.resources, capacity, Purpose::Update, &mut warnings)?;
    check_sets(&limits, &call.facade.node)?;
    let restart_policy = match body.restart_policy {
        Some(policy) if policy.name.as_deref().is_some_and(|name| !name.is_empty()) => {
            Some(restart_policy_from_wire(Some(policy))?)
        }
        _ => None,
    };
    let request = UpdateRequest {
        limits,
        restart_policy,
    };
    call.engine()
        .containers
        .update(&container.id, request)
        .await?;
    ok(&serde_json::json!({ "Warnings": warnings }))
}
