//! What is left out of a container's limits because the kernel cannot do it, and what is refused.

use hoist_model::container::{IoThrottleKind, Resources};

use super::{LEAST_MEMORY, Purpose};
use crate::error::ApiError;
use crate::{LimitSupport, Node};

/// Takes out what this kernel cannot limit.
pub(super) fn discard(resources: &mut Resources, limits: LimitSupport, warnings: &mut Vec<String>) {
    let mut warn = |text: &str| warnings.push(format!("Your kernel does not support {text}"));
    if resources.memory > 0 && !limits.memory {
        warn("memory limit capabilities or the cgroup is not mounted. Limitation discarded.");
        (resources.memory, resources.memory_swap) = (0, -1);
    }
    if resources.memory > 0 && resources.memory_swap != -1 && !limits.swap {
        warn("swap limit capabilities or the cgroup is not mounted. Memory limited without swap.");
        resources.memory_swap = -1;
    }
    if resources.memory_swappiness.is_some() && !limits.memory_swappiness {
        warn(
            "memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded.",
        );
        resources.memory_swappiness = None;
    }
    if resources.memory_reservation > 0 && !limits.memory {
        warn("memory soft limit capabilities or the cgroup is not mounted. Limitation discarded.");
        resources.memory_reservation = 0;
    }
    if resources.oom_kill_disable && !limits.oom_kill_disable {
        warn("OomKillDisable. OomKillDisable discarded.");
        resources.oom_kill_disable = false;
    }
    if resources.pids_limit.is_some_and(|limit| limit > 0) && !limits.pids {
        warn("PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.");
        resources.pids_limit = None;
    }
    if resources.cpu_shares > 0 && !limits.cpu_shares {
        warn("CPU shares or the cgroup is not mounted. Shares discarded.");
        resources.cpu_shares = 0;
    }
    if (resources.cpu_period != 0 || resources.cpu_quota != 0) && !limits.cpu_quota {
        warn("CPU CFS scheduler. CPU period/quota discarded.");
        (resources.cpu_period, resources.cpu_quota) = (0, 0);
    }
    let sets = !resources.cpuset_cpus.is_empty() || !resources.cpuset_mems.is_empty();
    if sets && !limits.cpuset {
        warn("cpuset or the cgroup is not mounted. Cpuset discarded.");
        resources.cpuset_cpus.clear();
        resources.cpuset_mems.clear();
    }
    if resources.blkio_weight > 0 && !limits.blkio_weight {
        warn("Block I/O weight or the cgroup is not mounted. Weight discarded.");
        resources.blkio_weight = 0;
    }
    if !resources.io_weights.is_empty() && !limits.blkio_weight_device {
        warn("Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.");
        resources.io_weights.clear();
    }
    for (kind, limit, what) in [
        (
            IoThrottleKind::ReadBytes,
            "BPS Block I/O read",
            "Block I/O BPS read",
        ),
        (
            IoThrottleKind::WriteBytes,
            "BPS Block I/O write",
            "Block I/O BPS write",
        ),
        (
            IoThrottleKind::ReadOperations,
            "IOPS Block read",
            "Block I/O IOPS read",
        ),
        (
            IoThrottleKind::WriteOperations,
            "IOPS Block write",
            "Block I/O IOPS write",
        ),
    ] {
        let mut throttles = resources.io_throttles.iter();
        if !limits.blkio && throttles.any(|throttle| throttle.kind == kind) {
            warn(&format!(
                "{limit} limit or the cgroup is not mounted. {what} limit discarded."
            ));
            resources
                .io_throttles
                .retain(|throttle| throttle.kind != kind);
        }
    }
}

pub(super) fn check(resources: &Resources, cpus: usize, purpose: Purpose) -> Result<(), ApiError> {
    let Resources {
        memory,
        memory_swap,
        memory_reservation,
        nano_cpus,
        cpu_period,
        cpu_quota,
        ..
    } = *resources;
    let refuse = |message: &str| Err(ApiError::invalid(message));
    if memory != 0 && memory < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if memory > 0 && memory_swap > 0 && memory_swap < memory {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if memory == 0 && memory_swap > 0 && purpose == Purpose::Create {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = resources.memory_swappiness
        && !(0..=100).contains(&swappiness)
    {
        return refuse(&format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        ));
    }
    if memory_reservation != 0 && memory_reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if memory > 0 && memory_reservation > memory {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    if nano_cpus != 0 && cpu_period != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set.");
    }
    if nano_cpus != 0 && cpu_quota != 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set.");
    }
    let most = i64::try_from(cpus)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000_000_000);
    if nano_cpus != 0 && !(10_000_000..=most).contains(&nano_cpus) {
        return refuse(&format!(
            "range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        ));
    }
    if cpu_period != 0 && !(1_000..=1_000_000).contains(&cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if cpu_quota > 0 && cpu_quota < 1_000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if resources.cpu_shares < 0 {
        return refuse(&format!(
            "invalid CPU shares ({}): value must be a positive integer",
            resources.cpu_shares
        ));
    }
    if resources.blkio_weight != 0 && !(10..=1000).contains(&resources.blkio_weight) {
        return refuse("Range of blkio weight is from 10 to 1000");
    }
    for device in &resources.io_weights {
        if device.weight != 0 && !(10..=1000).contains(&device.weight) {
            return refuse(&format!(
                "Range of blkio weight is from 10 to 1000: {} for {}",
                device.weight, device.path
            ));
        }
    }
    for limit in &resources.ulimits {
        if limit.hard != -1 && (limit.soft > limit.hard || limit.soft == -1) {
            return refuse(&format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            ));
        }
    }
    for device in &resources.devices {
        if !device
            .permissions
            .bytes()
            .all(|b| matches!(b, b'r' | b'w' | b'm'))
        {
            return refuse(&format!(
                "invalid device mode {:?} for {}",
                device.permissions, device.path_on_host
            ));
        }
    }
    Ok(())
}

/// Refuses CPUs and memory nodes that this node does not have.
pub(crate) fn check_sets(resources: &Resources, node: &Node) -> Result<(), ApiError> {
    for (what, name, wanted, available) in [
        ("CPUs", "cpus", &resources.cpuset_cpus, &node.online_cpus),
        (
            "memory nodes",
            "mems",
            &resources.cpuset_mems,
            &node.memory_nodes,
        ),
    ] {
        if wanted.is_empty() {
            continue;
        }
        let ranges = set_of(wanted).ok_or_else(|| {
            ApiError::invalid(format!("Invalid value {wanted} for cpuset {name}"))
        })?;
        let there = set_of(available).unwrap_or_default();
        let is_there = |number: u32| {
            let mut ranges = there.iter();
            ranges.any(|(first, last)| (*first..=*last).contains(&number))
        };
        let all = ranges
            .iter()
            .all(|(first, last)| (*first..=*last).all(is_there));
        if !all {
            return Err(ApiError::invalid(format!(
                "Requested {what} are not available - requested {wanted}, available: {available}"
            )));
        }
    }
    Ok(())
}

/// The most a kernel numbers; a list beyond is none.
const MOST_NUMBERED: u32 = 8192;

/// A list as the kernel writes it, `0-3,8`, as ranges.
fn set_of(text: &str) -> Option<Vec<(u32, u32)>> {
    let number = |text: &str| {
        let number = text.trim().parse::<u32>().ok();
        number.filter(|number| *number <= 100_000_000)
    };
    text.split(',')
        .map(|part| match part.split_once('-') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last && last - first <= MOST_NUMBERED).then_some((first, last))
            }
            None => number(part).map(|number| (number, number)),
        })
        .collect()
}
