//! `POST /containers/{id}/update`.

use hoist_engine::containers::UpdateRequest;
use hoist_model::container::Resources;

use crate::call::{Call, ok};
use crate::error::Reply;
use crate::wire::create_body::UpdateBody;
use crate::wire::resources::{Capacity, Purpose, check_sets, resources_from_wire};
use crate::wire::restart_policy::restart_policy_from_wire;

/// Changes limits and the restart policy; what the body leaves out stays.
pub(crate) async fn update(mut call: Call) -> Reply {
    let body: UpdateBody = call.json().await?;
    let container = call.engine().containers.resolve(call.name())?;
    let mut warnings = Vec::new();
    let capacity = Capacity::of(&call.facade.node);
    let limits = resources_from_wire(body.resources, capacity, Purpose::Update, &mut warnings)?;
    check_sets(&limits, &call.facade.node)?;
    warnings.extend(fixed(&container.spec.resources, &limits));
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

/// What of an update has no effect, since it holds from create on. Docker takes it without a word; what is only what the container
/// has, as a client sends that changes one member of what inspect told it, is no change.
fn fixed(old: &Resources, new: &Resources) -> Vec<String> {
    let changes = [
        (
            "Devices",
            !new.devices.is_empty() && new.devices != old.devices,
        ),
        (
            "DeviceCgroupRules",
            !new.device_cgroup_rules.is_empty()
                && new.device_cgroup_rules != old.device_cgroup_rules,
        ),
        (
            "DeviceRequests",
            !new.device_requests.is_empty() && new.device_requests != old.device_requests,
        ),
        (
            "Ulimits",
            !new.ulimits.is_empty() && new.ulimits != old.ulimits,
        ),
    ];
    let changed = changes.iter().filter(|(_, changed)| *changed);
    changed
        .map(|(what, _)| format!("{what} cannot be changed after create. {what} discarded."))
        .collect()
}

#[cfg(test)]
mod tests {
    use hoist_model::container::{DeviceRequest, Ulimit};

    use super::*;

    #[test]
    fn only_what_differs_from_what_the_container_has_is_told() {
        let limit = |soft| Ulimit {
            name: "nofile".into(),
            soft,
            hard: 9,
        };
        let old = Resources {
            ulimits: vec![limit(1)],
            ..Resources::default()
        };
        assert!(fixed(&old, &Resources::default()).is_empty());
        assert!(fixed(&old, &old).is_empty());
        let new = Resources {
            ulimits: vec![limit(2)],
            device_requests: vec![DeviceRequest::default()],
            ..Resources::default()
        };
        assert_eq!(
            fixed(&old, &new),
            [
                "DeviceRequests cannot be changed after create. DeviceRequests discarded.",
                "Ulimits cannot be changed after create. Ulimits discarded.",
            ]
        );
    }
}
