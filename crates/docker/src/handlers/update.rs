//! `POST /containers/{id}/update`.

use hoist_engine::containers::UpdateRequest;

use crate::call::{Call, ok};
use crate::error::{ApiError, Reply};
use crate::wire::create_body::UpdateBody;
use crate::wire::resources::{Purpose, check_sets, resources_from_wire, restart_policy_from_wire};

/// Changes limits and the restart policy; what the body leaves out stays.
pub(crate) async fn update(mut call: Call) -> Reply {
    let body: UpdateBody = call.json().await?;
    let container = call.engine().containers.resolve(call.name())?;
    let mut warnings = Vec::new();
    let cpus = call.facade.node.cpus;
    if body
        .resources
        .devices
        .as_ref()
        .is_some_and(|list| !list.is_empty())
    {
        return Err(ApiError::missing(
            "changing the devices of a container is not implemented",
        ));
    }
    let limits = resources_from_wire(body.resources, cpus, Purpose::Update, &mut warnings)?;
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
