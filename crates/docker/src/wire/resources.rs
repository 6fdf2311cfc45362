//! Limits: `HostConfig`'s resource members to the model, with Docker's checks and sentences
//! (moby `daemon/daemon_unix.go`, `verifyPlatformContainerResources`).

use hoist_model::container::{
    DeviceMapping, DeviceRequest, IoThrottle, IoThrottleKind, IoWeight, Resources, Ulimit,
};

use super::create_body::{ResourcesBody, ThrottleBody};
use crate::error::ApiError;
use crate::{LimitSupport, Node};

mod checks;

pub(crate) use checks::check_sets;
use checks::{check, discard};

/// The least memory a container may be limited to.
const LEAST_MEMORY: i64 = 6 << 20;

/// What limits are read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A new container.
    Create,
    /// A change of one: what is absent stays.
    Update,
}

/// What this node has, and what its kernel can limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capacity {
    pub(crate) cpus: usize,
    pub(crate) limits: LimitSupport,
}

impl Capacity {
    pub(crate) fn of(node: &Node) -> Self {
        Self {
            cpus: node.cpus,
            limits: node.limits,
        }
    }
}

/// Reads and checks the limits; what the kernel cannot do is left out with a warning, as in Docker.
pub(crate) fn resources_from_wire(
    body: ResourcesBody,
    capacity: Capacity,
    purpose: Purpose,
    warnings: &mut Vec<String>,
) -> Result<Resources, ApiError> {
    if body.cpu_realtime_period.unwrap_or_default() != 0
        || body.cpu_realtime_runtime.unwrap_or_default() != 0
    {
        return Err(ApiError::invalid(
            "kernel does not support CPU real-time scheduler",
        ));
    }
    if body.io_maximum_bandwidth.unwrap_or_default() != 0
        || body.io_maximum_iops.unwrap_or_default() != 0
    {
        return Err(ApiError::invalid(
            "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
        ));
    }
    for (given, what) in [(body.cpu_count, "count"), (body.cpu_percent, "percent")] {
        if given.unwrap_or_default() != 0 {
            let upper = if what == "count" { "Count" } else { "Percent" };
            warnings.push(format!(
                "linux does not support CPU {what}. {upper} discarded."
            ));
        }
    }
    if body.kernel_memory.unwrap_or_default() != 0
        || body.kernel_memory_tcp.unwrap_or_default() != 0
    {
        warnings.push("Specifying a kernel memory limit is deprecated and has no effect: the kernel counts that memory with the rest. Limit discarded.".to_owned());
    }
    let throttles = [
        (body.blkio_device_read_bps, IoThrottleKind::ReadBytes),
        (body.blkio_device_write_bps, IoThrottleKind::WriteBytes),
        (body.blkio_device_read_iops, IoThrottleKind::ReadOperations),
        (
            body.blkio_device_write_iops,
            IoThrottleKind::WriteOperations,
        ),
    ];
    let mut resources = Resources {
        memory: body.memory.unwrap_or_default(),
        memory_swap: body.memory_swap.unwrap_or_default(),
        memory_reservation: body.memory_reservation.unwrap_or_default(),
        // -1 is how old clients say that nothing was said.
        memory_swappiness: body.memory_swappiness.filter(|value| *value != -1),
        oom_kill_disable: body.oom_kill_disable.unwrap_or_default(),
        nano_cpus: body.nano_cpus.unwrap_or_default(),
        cpu_shares: body.cpu_shares.unwrap_or_default(),
        cpu_period: body.cpu_period.unwrap_or_default(),
        cpu_quota: body.cpu_quota.unwrap_or_default(),
        cpuset_cpus: body.cpuset_cpus.unwrap_or_default(),
        cpuset_mems: body.cpuset_mems.unwrap_or_default(),
        pids_limit: body.pids_limit,
        blkio_weight: body.blkio_weight.unwrap_or_default(),
        io_weights: body
            .blkio_weight_device
            .unwrap_or_default()
            .into_iter()
            .map(|device| IoWeight {
                path: device.path.unwrap_or_default(),
                weight: device.weight.unwrap_or_default(),
            })
            .collect(),
        io_throttles: throttles
            .into_iter()
            .flat_map(|(list, kind)| {
                list.unwrap_or_default()
                    .into_iter()
                    .map(move |ThrottleBody { path, rate }| IoThrottle {
                        path: path.unwrap_or_default(),
                        kind,
                        rate: rate.unwrap_or_default(),
                    })
            })
            .collect(),
        devices: body
            .devices
            .unwrap_or_default()
            .into_iter()
            .map(|device| {
                let path_on_host = device.path_on_host.unwrap_or_default();
                let or = |text: Option<String>, other: &str| {
                    text.filter(|t| !t.is_empty())
                        .unwrap_or_else(|| other.to_owned())
                };
                DeviceMapping {
                    path_in_container: or(device.path_in_container, &path_on_host),
                    permissions: or(device.cgroup_permissions, "rwm"),
                    path_on_host,
                }
            })
            .collect(),
        device_cgroup_rules: body.device_cgroup_rules.unwrap_or_default(),
        ulimits: body
            .ulimits
            .unwrap_or_default()
            .into_iter()
            .map(|limit| Ulimit {
                name: limit.name.unwrap_or_default(),
                soft: limit.soft.unwrap_or_default(),
                hard: limit.hard.unwrap_or_default(),
            })
            .collect(),
        device_requests: body
            .device_requests
            .unwrap_or_default()
            .into_iter()
            .map(|request| DeviceRequest {
                driver: request.driver.unwrap_or_default(),
                count: request.count.unwrap_or_default(),
                device_ids: request.device_ids.unwrap_or_default(),
                capabilities: request.capabilities.unwrap_or_default(),
                options: request.options.unwrap_or_default(),
            })
            .collect(),
    };
    discard(&mut resources, capacity.limits, warnings);
    check(&resources, capacity.cpus, purpose)?;
    if purpose == Purpose::Create && resources.memory > 0 && resources.memory_swap == 0 {
        // Docker's default, and inspect tells it.
        resources.memory_swap = resources.memory.saturating_mul(2);
    }
    if resources.oom_kill_disable && resources.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".to_owned());
    }
    Ok(resources)
}

#[cfg(test)]
mod tests;
