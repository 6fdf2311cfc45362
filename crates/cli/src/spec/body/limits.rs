//! Flags about how much a container may have.

use super::Fields;
use crate::spec::InvalidFlag;
use crate::spec::devices;
use crate::spec::flags::ContainerFlags;
use crate::spec::values::{bytes, nano_cpus, ulimit};

pub(super) fn limits(host_config: &mut Fields, flags: &ContainerFlags) -> Result<(), InvalidFlag> {
    for (name, flag, value) in [
        ("Memory", "--memory", &flags.memory),
        (
            "MemoryReservation",
            "--memory-reservation",
            &flags.memory_reservation,
        ),
        ("MemorySwap", "--memory-swap", &flags.memory_swap),
    ] {
        let value = value.as_ref().map(|v| bytes(flag, v)).transpose()?;
        host_config.some(name, value);
    }
    // Checked, and then without effect, as with Docker on the kernels of today.
    let kernel = flags.kernel_memory.as_ref();
    kernel.map(|v| bytes("--kernel-memory", v)).transpose()?;
    if let Some(swappiness) = flags.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(InvalidFlag::Said(format!(
            "invalid value: {swappiness}. Valid memory swappiness range is 0-100"
        )));
    }
    host_config.some("MemorySwappiness", flags.memory_swappiness);
    host_config.some("CpuPeriod", flags.cpu_period);
    host_config.some("CpuQuota", flags.cpu_quota);
    host_config.some("CpuRealtimePeriod", flags.cpu_rt_period);
    host_config.some("CpuRealtimeRuntime", flags.cpu_rt_runtime);
    host_config.some("CpuShares", flags.cpu_shares);
    let cpus = flags.cpus.as_ref().map(|c| nano_cpus(c)).transpose()?;
    host_config.some("NanoCpus", cpus);
    host_config.some("CpusetCpus", flags.cpuset_cpus.clone());
    host_config.some("CpusetMems", flags.cpuset_mems.clone());
    host_config.some("PidsLimit", flags.pids_limit);
    host_config.flag("OomKillDisable", flags.oom_kill_disable);
    host_config.some("OomScoreAdj", flags.oom_score_adj);
    host_config.some("BlkioWeight", flags.blkio_weight);
    host_config.each(
        "BlkioWeightDevice",
        &flags.blkio_weight_device,
        devices::weight,
    )?;
    for (name, flag, values, in_bytes) in [
        (
            "BlkioDeviceReadBps",
            "--device-read-bps",
            &flags.device_read_bps,
            true,
        ),
        (
            "BlkioDeviceWriteBps",
            "--device-write-bps",
            &flags.device_write_bps,
            true,
        ),
        (
            "BlkioDeviceReadIOps",
            "--device-read-iops",
            &flags.device_read_iops,
            false,
        ),
        (
            "BlkioDeviceWriteIOps",
            "--device-write-iops",
            &flags.device_write_iops,
            false,
        ),
    ] {
        host_config.each(name, values, |v| devices::throttle(flag, v, in_bytes))?;
    }
    host_config.each("Ulimits", &flags.ulimit, ulimit)
}
