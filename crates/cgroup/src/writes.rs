//! Limits as writes to control files: pure, one list per version of the interface.
//!
//! Values and names: Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst. Order matters only where the kernel checks
//! one value against another (memory against memory+swap, quota against period), and which order is right depends on
//! the old values; so a write refused with `EINVAL` is tried once more after the others (see [`super::group`]).

use hoist_model::container::{IoThrottleKind, Resources};

use super::layout::Controller;

/// One write to one control file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LimitWrite {
    pub(super) controller: Controller,
    /// The option a person knows it by.
    pub(super) option: &'static str,
    /// The file, or alternatives of which the first that exists is written.
    pub(super) files: &'static [&'static str],
    pub(super) value: String,
    /// Whether a kernel without the file is fine: Docker drops these limits with a warning.
    pub(super) optional: bool,
}

/// A throttle whose device is known by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceThrottle {
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) kind: IoThrottleKind,
    pub(super) rate: u64,
}

/// A weight whose device is known by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeviceWeight {
    pub(super) major: u32,
    pub(super) minor: u32,
    /// 10 to 1000.
    pub(super) weight: u16,
}

struct Writes(Vec<LimitWrite>);

impl Writes {
    fn push(
        &mut self,
        controller: Controller,
        option: &'static str,
        files: &'static [&'static str],
        value: impl ToString,
    ) {
        let value = value.to_string();
        self.0.push(LimitWrite {
            controller,
            option,
            files,
            value,
            optional: false,
        });
    }

    fn optional(
        &mut self,
        controller: Controller,
        option: &'static str,
        files: &'static [&'static str],
        value: impl ToString,
    ) {
        self.push(controller, option, files, value);
        if let Some(last) = self.0.last_mut() {
            last.optional = true;
        }
    }
}

/// Period and quota in µs: `--cpus` is a quota of a period of 100 ms.
fn quota(resources: &Resources) -> (Option<i64>, Option<i64>) {
    if resources.nano_cpus > 0 {
        // 10^9 billionths of a CPU for 10^5 µs: divide by 10^4.
        return (Some(100_000), Some(resources.nano_cpus / 10_000));
    }
    let period = (resources.cpu_period != 0).then_some(resources.cpu_period);
    let quota = (resources.cpu_quota != 0).then_some(resources.cpu_quota);
    (period, quota)
}

/// `MemorySwap` as asked, or its default of twice the memory.
fn memory_and_swap(resources: &Resources) -> Option<i64> {
    match (resources.memory, resources.memory_swap) {
        (_, swap) if swap != 0 => Some(swap),
        (memory, _) if memory > 0 => Some(memory.saturating_mul(2)),
        _ => None,
    }
}

fn pids(limit: i64) -> String {
    if limit > 0 {
        limit.to_string()
    } else {
        "max".to_owned()
    }
}

/// The writes for v1 hierarchies.
pub(super) fn v1(
    resources: &Resources,
    weights: &[DeviceWeight],
    throttles: &[DeviceThrottle],
) -> Vec<LimitWrite> {
    use Controller::{Blkio, Cpu, Cpuset, Memory, Pids};
    let mut writes = Writes(Vec::new());
    if resources.memory != 0 {
        writes.push(
            Memory,
            "memory limit",
            &["memory.limit_in_bytes"],
            resources.memory,
        );
    }
    if let Some(swap) = memory_and_swap(resources) {
        writes.optional(Memory, "swap limit", &["memory.memsw.limit_in_bytes"], swap);
    }
    if resources.memory_reservation != 0 {
        let value = resources.memory_reservation;
        writes.push(
            Memory,
            "memory reservation",
            &["memory.soft_limit_in_bytes"],
            value,
        );
    }
    if let Some(value) = resources.memory_swappiness.filter(|value| *value >= 0) {
        writes.optional(Memory, "memory swappiness", &["memory.swappiness"], value);
    }
    if resources.oom_kill_disable {
        writes.optional(Memory, "oom kill disable", &["memory.oom_control"], 1);
    }
    if resources.cpu_shares != 0 {
        writes.push(Cpu, "cpu shares", &["cpu.shares"], resources.cpu_shares);
    }
    let (period, quota) = quota(resources);
    if let Some(period) = period {
        writes.push(Cpu, "cpu period", &["cpu.cfs_period_us"], period);
    }
    if let Some(quota) = quota {
        writes.push(Cpu, "cpu quota", &["cpu.cfs_quota_us"], quota);
    }
    if !resources.cpuset_cpus.is_empty() {
        writes.push(
            Cpuset,
            "cpuset cpus",
            &["cpuset.cpus"],
            &resources.cpuset_cpus,
        );
    }
    if !resources.cpuset_mems.is_empty() {
        writes.push(
            Cpuset,
            "cpuset mems",
            &["cpuset.mems"],
            &resources.cpuset_mems,
        );
    }
    if let Some(limit) = resources.pids_limit {
        writes.push(Pids, "pids limit", &["pids.max"], pids(limit));
    }
    if resources.blkio_weight != 0 {
        let files = &["blkio.weight", "blkio.bfq.weight"];
        writes.optional(Blkio, "block io weight", files, resources.blkio_weight);
    }
    for device in weights {
        let files = &["blkio.weight_device", "blkio.bfq.weight_device"];
        let value = format!("{}:{} {}", device.major, device.minor, device.weight);
        writes.optional(Blkio, "block io weight of a device", files, value);
    }
    for throttle in throttles {
        let (option, files): (_, &[&str]) = match throttle.kind {
            IoThrottleKind::ReadBytes => ("device read bps", &["blkio.throttle.read_bps_device"]),
            IoThrottleKind::WriteBytes => {
                ("device write bps", &["blkio.throttle.write_bps_device"])
            }
            IoThrottleKind::ReadOperations => {
                ("device read iops", &["blkio.throttle.read_iops_device"])
            }
            IoThrottleKind::WriteOperations => {
                ("device write iops", &["blkio.throttle.write_iops_device"])
            }
        };
        let value = format!("{}:{} {}", throttle.major, throttle.minor, throttle.rate);
        writes.push(Blkio, option, files, value);
    }
    writes.0
}

/// The writes for the v2 tree. Swappiness and disabling the out-of-memory killer do not exist there; the caller warns.
pub(super) fn v2(
    resources: &Resources,
    weights: &[DeviceWeight],
    throttles: &[DeviceThrottle],
) -> Vec<LimitWrite> {
    use Controller::{Blkio, Cpu, Cpuset, Memory, Pids};
    let mut writes = Writes(Vec::new());
    let bytes = |value: i64| {
        if value < 0 {
            "max".to_owned()
        } else {
            value.to_string()
        }
    };
    if resources.memory != 0 {
        writes.push(
            Memory,
            "memory limit",
            &["memory.max"],
            bytes(resources.memory),
        );
    }
    if let Some(both) = memory_and_swap(resources) {
        // v1 and Docker count memory and swap together, v2 counts swap alone.
        let swap = if both < 0 {
            -1
        } else {
            (both - resources.memory.max(0)).max(0)
        };
        writes.optional(Memory, "swap limit", &["memory.swap.max"], bytes(swap));
    }
    if resources.memory_reservation != 0 {
        writes.push(
            Memory,
            "memory reservation",
            &["memory.low"],
            bytes(resources.memory_reservation),
        );
    }
    if resources.cpu_shares != 0 {
        writes.push(
            Cpu,
            "cpu shares",
            &["cpu.weight"],
            weight_of_shares(resources.cpu_shares),
        );
    }
    match quota(resources) {
        (None, None) => {}
        (period, quota) => {
            let quota = quota
                .filter(|quota| *quota > 0)
                .map_or("max".to_owned(), |q| q.to_string());
            let value = match period {
                Some(period) => format!("{quota} {period}"),
                None => quota,
            };
            writes.push(Cpu, "cpu quota", &["cpu.max"], value);
        }
    }
    if !resources.cpuset_cpus.is_empty() {
        writes.push(
            Cpuset,
            "cpuset cpus",
            &["cpuset.cpus"],
            &resources.cpuset_cpus,
        );
    }
    if !resources.cpuset_mems.is_empty() {
        writes.push(
            Cpuset,
            "cpuset mems",
            &["cpuset.mems"],
            &resources.cpuset_mems,
        );
    }
    if let Some(limit) = resources.pids_limit {
        writes.push(Pids, "pids limit", &["pids.max"], pids(limit));
    }
    if resources.blkio_weight != 0 {
        writes.optional(
            Blkio,
            "block io weight",
            &["io.weight", "io.bfq.weight"],
            weight_of_blkio(resources.blkio_weight),
        );
    }
    for device in weights {
        let weight = weight_of_blkio(device.weight);
        let value = format!("{}:{} {weight}", device.major, device.minor);
        let files = &["io.weight", "io.bfq.weight"];
        writes.optional(Blkio, "block io weight of a device", files, value);
    }
    for throttle in throttles {
        let (option, key) = match throttle.kind {
            IoThrottleKind::ReadBytes => ("device read bps", "rbps"),
            IoThrottleKind::WriteBytes => ("device write bps", "wbps"),
            IoThrottleKind::ReadOperations => ("device read iops", "riops"),
            IoThrottleKind::WriteOperations => ("device write iops", "wiops"),
        };
        // Where v1 lifts a limit with 0, v2 does with "max".
        let rate = match throttle.rate {
            0 => "max".to_owned(),
            rate => rate.to_string(),
        };
        let value = format!("{}:{} {key}={rate}", throttle.major, throttle.minor);
        writes.push(Blkio, option, &["io.max"], value);
    }
    writes.0
}

/// 10..1000 to 1..10000, the conversion every runtime uses.
fn weight_of_blkio(weight: u16) -> u32 {
    1 + (u32::from(weight.max(10)) - 10) * 9999 / 990
}

/// v1 shares (2 to 262144, default 1024) as a v2 weight (1 to 10000, default 100).
///
/// The curve of opencontainers/cgroups since 0.0.5, which meets both ranges' ends and both defaults; the straight line
/// used before made 1024 a weight of 39, so a container got less than a plain process.
fn weight_of_shares(shares: i64) -> u32 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let shares = u32::try_from(shares).unwrap_or(262_144);
    let l = f64::from(shares).log2();
    let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the curve stays within 1 to 10000 for the range checked above"
    )]
    let weight = weight as u32;
    weight.clamp(1, 10_000)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(
        resources: &Resources,
        throttles: &[DeviceThrottle],
        expected_v1: Expect,
        expected_v2: Expect,
    ) {
        for (writes, expected) in [
            (v1(resources, &[], throttles), expected_v1),
            (v2(resources, &[], throttles), expected_v2),
        ] {
            let text: String = writes
                .iter()
                .map(|w| {
                    format!(
                        "{}{} = {}\n",
                        w.files.join("|"),
                        if w.optional { "?" } else { "" },
                        w.value
                    )
                })
                .collect();
            expected.assert_eq(&text);
        }
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        check(&Resources::default(), &[], expect![""], expect![""]);
    }

    #[test]
    fn everything() {
        let resources = Resources {
            memory: 64 << 20,
            memory_reservation: 32 << 20,
            memory_swappiness: Some(10),
            oom_kill_disable: true,
            nano_cpus: 1_500_000_000,
            cpu_shares: 1024,
            cpuset_cpus: "0-1".to_owned(),
            cpuset_mems: "0".to_owned(),
            pids_limit: Some(100),
            blkio_weight: 500,
            ..Resources::default()
        };
        let throttle = DeviceThrottle {
            major: 8,
            minor: 0,
            kind: IoThrottleKind::ReadBytes,
            rate: 1_048_576,
        };
        check(
            &resources,
            &[throttle],
            expect![[r#"
                memory.limit_in_bytes = 67108864
                memory.memsw.limit_in_bytes? = 134217728
                memory.soft_limit_in_bytes = 33554432
                memory.swappiness? = 10
                memory.oom_control? = 1
                cpu.shares = 1024
                cpu.cfs_period_us = 100000
                cpu.cfs_quota_us = 150000
                cpuset.cpus = 0-1
                cpuset.mems = 0
                pids.max = 100
                blkio.weight|blkio.bfq.weight? = 500
                blkio.throttle.read_bps_device = 8:0 1048576
            "#]],
            expect![[r#"
                memory.max = 67108864
                memory.swap.max? = 67108864
                memory.low = 33554432
                cpu.weight = 100
                cpu.max = 150000 100000
                cpuset.cpus = 0-1
                cpuset.mems = 0
                pids.max = 100
                io.weight|io.bfq.weight? = 4950
                io.max = 8:0 rbps=1048576
            "#]],
        );
    }

    #[test]
    fn unlimited_is_said_in_each_versions_word() {
        let resources = Resources {
            memory: 1 << 20,
            memory_swap: -1,
            cpu_quota: -1,
            cpu_period: 50_000,
            pids_limit: Some(-1),
            ..Resources::default()
        };
        check(
            &resources,
            &[],
            expect![[r#"
                memory.limit_in_bytes = 1048576
                memory.memsw.limit_in_bytes? = -1
                cpu.cfs_period_us = 50000
                cpu.cfs_quota_us = -1
                pids.max = max
            "#]],
            expect![[r#"
                memory.max = 1048576
                memory.swap.max? = max
                cpu.max = max 50000
                pids.max = max
            "#]],
        );
    }

    #[test]
    fn swap_equal_to_memory_is_no_swap() {
        let resources = Resources {
            memory: 1 << 20,
            memory_swap: 1 << 20,
            ..Resources::default()
        };
        let writes = v2(&resources, &[], &[]);
        assert_eq!(writes[1].value, "0");
    }

    #[test]
    fn shares_meet_the_ends_and_the_default_and_never_turn_back() {
        assert_eq!([2, 1024, 262_144].map(weight_of_shares), [1, 100, 10_000]);
        let mut last = 0;
        for shares in (2..262_144).step_by(97) {
            let weight = weight_of_shares(shares);
            assert!(weight >= last, "{shares}: {weight} < {last}");
            last = weight;
        }
    }
}
