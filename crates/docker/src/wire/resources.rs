//! Limits: `HostConfig`'s resource members to the model, with Docker's checks and sentences
//! (moby `daemon/daemon_unix.go`, `verifyPlatformContainerResources`).

use hoist_model::container::{
    DeviceMapping, IoThrottle, IoThrottleKind, IoWeight, Resources, RestartPolicy, Ulimit,
};

use super::create_body::{ResourcesBody, RestartPolicyBody, ThrottleBody};
use crate::error::ApiError;
use crate::{LimitSupport, Node};

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
    if let Some(request) = body.device_requests.unwrap_or_default().into_iter().next() {
        return Err(ApiError::invalid(format!(
            "could not select device driver {:?} with capabilities: {}",
            request.driver.unwrap_or_default(),
            shown(&request.capabilities.unwrap_or_default())
        )));
    }
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

fn shown(sets: &[Vec<String>]) -> String {
    let sets: Vec<String> = sets
        .iter()
        .map(|set| format!("[{}]", set.join(" ")))
        .collect();
    format!("[{}]", sets.join(" "))
}

/// Takes out what this kernel cannot limit.
fn discard(resources: &mut Resources, limits: LimitSupport, warnings: &mut Vec<String>) {
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

fn check(resources: &Resources, cpus: usize, purpose: Purpose) -> Result<(), ApiError> {
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

/// Reads a restart policy (moby `daemon/container.go`, `validateRestartPolicy`).
pub(crate) fn restart_policy_from_wire(
    body: Option<RestartPolicyBody>,
) -> Result<RestartPolicy, ApiError> {
    let Some(body) = body else {
        return Ok(RestartPolicy::No);
    };
    let retries = body.maximum_retry_count.unwrap_or_default();
    let name = body.name.unwrap_or_default();
    let refuse = |what: String| Err(ApiError::invalid(format!("invalid restart policy: {what}")));
    let policy = match name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => {
            let Ok(maximum_retries) = u32::try_from(retries) else {
                return refuse("maximum retry count cannot be negative".to_owned());
            };
            return Ok(RestartPolicy::OnFailure { maximum_retries });
        }
        other => {
            return refuse(format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    if retries < 0 {
        return refuse(
            "maximum retry count can only be used with 'on-failure' and cannot be negative"
                .to_owned(),
        );
    }
    if retries != 0 && policy != RestartPolicy::No {
        return refuse("maximum retry count can only be used with 'on-failure'".to_owned());
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::node;

    fn refusal(text: &str) -> String {
        let body = serde_json::from_str(text).unwrap();
        match resources_from_wire(
            body,
            Capacity::of(&node()),
            Purpose::Create,
            &mut Vec::new(),
        ) {
            Ok(resources) => format!("{resources:?}"),
            Err(error) => error.message,
        }
    }

    #[test]
    fn sets_of_cpus_are_those_there_are() {
        let node = crate::wire::testing::node();
        let check = |cpus: &str, mems: &str| {
            let resources = Resources {
                cpuset_cpus: cpus.to_owned(),
                cpuset_mems: mems.to_owned(),
                ..Resources::default()
            };
            check_sets(&resources, &node).map_err(|error| error.message)
        };
        assert_eq!(check("", ""), Ok(()));
        assert_eq!(check("0,1", "0"), Ok(()));
        assert_eq!(check("0-1", ""), Ok(()));
        let gone = "Requested CPUs are not available - requested 0-2, available: 0-1";
        assert_eq!(check("0-2", ""), Err(gone.to_owned()));
        let gone = "Requested memory nodes are not available - requested 1, available: 0";
        assert_eq!(check("", "1"), Err(gone.to_owned()));
        for bad in ["x", "1-0", "0,,1", "0-4000000000", "-1"] {
            let refused = format!("Invalid value {bad} for cpuset cpus");
            assert_eq!(check(bad, ""), Err(refused), "{bad}");
        }
    }

    #[test]
    fn limits_that_cannot_be_are_refused_in_dockers_words() {
        for (text, expected) in [
            (r#"{"Memory":1}"#, "Minimum memory limit allowed is 6MB"),
            (
                r#"{"Memory":10000000,"MemorySwap":9000000}"#,
                "Minimum memoryswap limit should be larger than memory limit, see usage",
            ),
            (
                r#"{"MemorySwap":9000000}"#,
                "You should always set the Memory limit when using Memoryswap limit, see usage",
            ),
            (
                r#"{"MemorySwappiness":101}"#,
                "Invalid value: 101, valid memory swappiness range is 0-100",
            ),
            (
                r#"{"NanoCpus":3000000000}"#,
                "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
            ),
            (
                r#"{"NanoCpus":1000000000,"CpuQuota":5}"#,
                "Conflicting options: Nano CPUs and CPU Quota cannot both be set.",
            ),
            (
                r#"{"IOMaximumIOps":5}"#,
                "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps",
            ),
            (
                r#"{"BlkioWeightDevice":[{"Path":"/dev/sda","Weight":5}]}"#,
                "Range of blkio weight is from 10 to 1000: 5 for /dev/sda",
            ),
            (
                r#"{"BlkioWeight":5}"#,
                "Range of blkio weight is from 10 to 1000",
            ),
            (
                r#"{"Ulimits":[{"Name":"nofile","Soft":3,"Hard":2}]}"#,
                "ulimit soft limit must be less than or equal to hard limit: 3 > 2",
            ),
            (
                r#"{"DeviceRequests":[{"Driver":"","Count":-1,"Capabilities":[["gpu"]]}]}"#,
                "could not select device driver \"\" with capabilities: [[gpu]]",
            ),
        ] {
            assert_eq!(refusal(text), expected, "{text}");
        }
    }

    #[test]
    fn what_the_kernel_lacks_is_left_out_and_told() {
        let text = r#"{"Memory":10000000,"MemorySwappiness":60,"OomKillDisable":true,
            "BlkioWeightDevice":[{"Path":"/dev/sda","Weight":300}],"KernelMemory":5,"CpuPercent":3,
            "BlkioDeviceReadIOps":[{"Path":"/dev/sda","Rate":5}]}"#;
        let body = serde_json::from_str(text).unwrap();
        let mut node = node();
        node.limits.swap = false;
        node.limits.memory_swappiness = false;
        node.limits.oom_kill_disable = false;
        node.limits.blkio = false;
        node.limits.blkio_weight_device = false;
        let mut warnings = Vec::new();
        let capacity = Capacity::of(&node);
        let resources =
            resources_from_wire(body, capacity, Purpose::Create, &mut warnings).unwrap();
        assert_eq!(resources.memory_swap, -1);
        assert_eq!(resources.memory_swappiness, None);
        assert!(!resources.oom_kill_disable);
        assert!(resources.io_weights.is_empty() && resources.io_throttles.is_empty());
        assert_eq!(warnings.len(), 7, "{warnings:#?}");
        for part in [
            "kernel memory",
            "CPU percent",
            "without swap",
            "IOPS Block read",
        ] {
            assert!(
                warnings.iter().any(|warning| warning.contains(part)),
                "{part}"
            );
        }
    }

    #[test]
    fn a_device_without_more_words_is_itself_and_fully_open() {
        let body = serde_json::from_str(r#"{"Devices":[{"PathOnHost":"/dev/fuse"}]}"#).unwrap();
        let resources = resources_from_wire(
            body,
            Capacity::of(&node()),
            Purpose::Create,
            &mut Vec::new(),
        )
        .unwrap();
        assert_eq!(resources.devices[0].path_in_container, "/dev/fuse");
        assert_eq!(resources.devices[0].permissions, "rwm");
    }

    #[test]
    fn restart_policies() {
        let read = |text: &str| {
            restart_policy_from_wire(serde_json::from_str(text).unwrap())
                .map_err(|error| error.message)
        };
        assert_eq!(read("null"), Ok(RestartPolicy::No));
        assert_eq!(
            read(r#"{"Name":"on-failure","MaximumRetryCount":3}"#),
            Ok(RestartPolicy::OnFailure { maximum_retries: 3 })
        );
        for (text, expected) in [
            (
                r#"{"Name":"x"}"#,
                "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
            (
                r#"{"Name":"always","MaximumRetryCount":1}"#,
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ),
            (
                r#"{"Name":"on-failure","MaximumRetryCount":-1}"#,
                "invalid restart policy: maximum retry count cannot be negative",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
    }
}
