//! `GET /containers/{id}/stats` (API 1.55, `ContainerStatsResponse`).

use std::collections::BTreeMap;

use hoist_engine::records::ContainerRecord;
use hoist_model::ZERO_TIME;
use hoist_model::container::{BlkioEntry, ContainerStats, CpuStats as Cpu, InterfaceStats};
use serde::Serialize;

use crate::ApiVersion;

#[derive(Debug, Serialize)]
pub(crate) struct Stats<'a> {
    name: String,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    os_type: Option<&'static str>,
    read: String,
    preread: String,
    pids_stats: PidsStats,
    blkio_stats: BlkioStats,
    num_procs: u32,
    storage_stats: super::Empty,
    cpu_stats: CpuStats,
    precpu_stats: CpuStats,
    memory_stats: MemoryStats<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: BTreeMap<&'a str, NetworkStats>,
}

#[derive(Debug, Default, Serialize)]
struct PidsStats {
    #[serde(skip_serializing_if = "is_zero")]
    current: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

/// Lists that the kernel does not tell are null, as Go writes an empty one.
#[derive(Debug, Default, Serialize)]
struct BlkioStats {
    io_service_bytes_recursive: Option<Vec<BlkioLine>>,
    io_serviced_recursive: Option<Vec<BlkioLine>>,
    io_queue_recursive: Option<()>,
    io_service_time_recursive: Option<()>,
    io_wait_time_recursive: Option<()>,
    io_merged_recursive: Option<()>,
    io_time_recursive: Option<()>,
    sectors_recursive: Option<()>,
}

#[derive(Debug, Serialize)]
struct BlkioLine {
    major: u64,
    minor: u64,
    op: String,
    value: u64,
}

#[derive(Debug, Default, Serialize)]
struct CpuStats {
    cpu_usage: CpuUsage,
    #[serde(skip_serializing_if = "is_zero")]
    system_cpu_usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    online_cpus: u64,
    throttling_data: ThrottlingData,
}

#[derive(Debug, Default, Serialize)]
struct CpuUsage {
    total_usage: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    percpu_usage: Vec<u64>,
    usage_in_kernelmode: u64,
    usage_in_usermode: u64,
}

#[derive(Debug, Default, Serialize)]
struct ThrottlingData {
    periods: u64,
    throttled_periods: u64,
    throttled_time: u64,
}

#[derive(Debug, Default, Serialize)]
struct MemoryStats<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_usage: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<&'a BTreeMap<String, u64>>,
    #[serde(skip_serializing_if = "is_zero")]
    failcnt: u64,
    #[serde(skip_serializing_if = "is_zero")]
    limit: u64,
}

#[derive(Debug, Serialize)]
struct NetworkStats {
    rx_bytes: u64,
    rx_packets: u64,
    rx_errors: u64,
    rx_dropped: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errors: u64,
    tx_dropped: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// What a reply needs beyond the readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) version: ApiVersion,
    /// How Docker says that there is no limit: nothing with control groups of version 1, the largest number with 2.
    pub(crate) no_limit: u64,
}

/// One reading beside the one before it; a container that does not run has neither.
pub(crate) fn stats<'a>(
    record: &'a ContainerRecord,
    around: Around,
    reading: Option<&'a ContainerStats>,
    before: Option<&'a ContainerStats>,
) -> Stats<'a> {
    let instant = |reading: Option<&ContainerStats>| {
        reading.map_or_else(|| ZERO_TIME.to_owned(), |reading| reading.at.to_string())
    };
    let groups = reading.map(|reading| &reading.groups);
    Stats {
        name: format!("/{}", record.name),
        id: record.id.as_str(),
        os_type: around.version.at_least(52).then_some("linux"),
        read: instant(reading),
        preread: instant(before),
        pids_stats: groups.map_or_else(PidsStats::default, |groups| PidsStats {
            current: groups.pids.current,
            limit: groups.pids.limit.unwrap_or(around.no_limit),
        }),
        blkio_stats: groups.map_or_else(BlkioStats::default, |groups| BlkioStats {
            io_service_bytes_recursive: lines(&groups.blkio_bytes),
            io_serviced_recursive: lines(&groups.blkio_operations),
            ..BlkioStats::default()
        }),
        num_procs: 0,
        storage_stats: super::Empty {},
        cpu_stats: reading.map(cpu).unwrap_or_default(),
        precpu_stats: before.map(cpu).unwrap_or_default(),
        memory_stats: reading.map(memory).unwrap_or_default(),
        networks: reading
            .map(|reading| reading.interfaces.iter().map(network).collect())
            .unwrap_or_default(),
    }
}

fn lines(entries: &[BlkioEntry]) -> Option<Vec<BlkioLine>> {
    (!entries.is_empty()).then(|| {
        entries
            .iter()
            .map(|entry| BlkioLine {
                major: entry.major,
                minor: entry.minor,
                op: entry.operation.clone(),
                value: entry.value,
            })
            .collect()
    })
}

fn cpu(reading: &ContainerStats) -> CpuStats {
    let Cpu {
        total,
        user,
        system,
        per_cpu,
        periods,
        throttled_periods,
        throttled,
    } = &reading.groups.cpu;
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: *total,
            percpu_usage: per_cpu.clone(),
            usage_in_kernelmode: *system,
            usage_in_usermode: *user,
        },
        system_cpu_usage: reading.machine_cpu,
        online_cpus: u64::from(reading.online_cpus),
        throttling_data: ThrottlingData {
            periods: *periods,
            throttled_periods: *throttled_periods,
            throttled_time: *throttled,
        },
    }
}

fn memory(reading: &ContainerStats) -> MemoryStats<'_> {
    let memory = &reading.groups.memory;
    let machine = reading.machine_memory;
    MemoryStats {
        usage: memory.usage,
        max_usage: memory.max_usage,
        stats: Some(&memory.details),
        failcnt: memory.failures,
        limit: memory.limit.map_or(machine, |limit| limit.min(machine)),
    }
}

fn network(interface: &InterfaceStats) -> (&str, NetworkStats) {
    let (received, sent) = (interface.received, interface.sent);
    let stats = NetworkStats {
        rx_bytes: received.bytes,
        rx_packets: received.packets,
        rx_errors: received.errors,
        rx_dropped: received.dropped,
        tx_bytes: sent.bytes,
        tx_packets: sent.packets,
        tx_errors: sent.errors,
        tx_dropped: sent.dropped,
    };
    (&interface.name, stats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::record;
    use expect_test::expect;
    use hoist_model::Timestamp;
    use hoist_model::container::{CgroupStats, InterfaceCounters, MemoryStats, PidsStats};

    #[test]
    fn a_reading_and_none() {
        let reading = ContainerStats {
            at: Timestamp::from_seconds(2),
            groups: CgroupStats {
                memory: MemoryStats {
                    usage: 4096,
                    details: BTreeMap::from([("inactive_file".to_owned(), 7)]),
                    ..MemoryStats::default()
                },
                cpu: Cpu {
                    total: 30,
                    user: 20,
                    system: 10,
                    ..Cpu::default()
                },
                pids: PidsStats {
                    current: 1,
                    limit: None,
                },
                blkio_bytes: vec![BlkioEntry {
                    major: 8,
                    minor: 0,
                    operation: "read".to_owned(),
                    value: 5,
                }],
                ..CgroupStats::default()
            },
            interfaces: vec![InterfaceStats {
                name: "eth0".to_owned(),
                received: InterfaceCounters {
                    bytes: 9,
                    ..InterfaceCounters::default()
                },
                ..InterfaceStats::default()
            }],
            machine_cpu: 100,
            online_cpus: 2,
            machine_memory: 1 << 30,
        };
        let record = record(r#"{"Image":"busybox"}"#);
        let text = |version, reading| {
            let around = Around {
                version: ApiVersion::minor(version),
                no_limit: u64::MAX,
            };
            let stats = stats(&record, around, reading, None);
            serde_json::to_string(&stats).unwrap()
        };
        expect![[r#"{"name":"/web","id":"abababababababababababababababababababababababababababababababab","os_type":"linux","read":"1970-01-01T00:00:02Z","preread":"0001-01-01T00:00:00Z","pids_stats":{"current":1,"limit":18446744073709551615},"blkio_stats":{"io_service_bytes_recursive":[{"major":8,"minor":0,"op":"read","value":5}],"io_serviced_recursive":null,"io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,"io_time_recursive":null,"sectors_recursive":null},"num_procs":0,"storage_stats":{},"cpu_stats":{"cpu_usage":{"total_usage":30,"usage_in_kernelmode":10,"usage_in_usermode":20},"system_cpu_usage":100,"online_cpus":2,"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"precpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"memory_stats":{"usage":4096,"stats":{"inactive_file":7},"limit":1073741824},"networks":{"eth0":{"rx_bytes":9,"rx_packets":0,"rx_errors":0,"rx_dropped":0,"tx_bytes":0,"tx_packets":0,"tx_errors":0,"tx_dropped":0}}}"#]]
        .assert_eq(&text(55, Some(&reading)));
        expect![[r#"{"name":"/web","id":"abababababababababababababababababababababababababababababababab","read":"0001-01-01T00:00:00Z","preread":"0001-01-01T00:00:00Z","pids_stats":{},"blkio_stats":{"io_service_bytes_recursive":null,"io_serviced_recursive":null,"io_queue_recursive":null,"io_service_time_recursive":null,"io_wait_time_recursive":null,"io_merged_recursive":null,"io_time_recursive":null,"sectors_recursive":null},"num_procs":0,"storage_stats":{},"cpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"precpu_stats":{"cpu_usage":{"total_usage":0,"usage_in_kernelmode":0,"usage_in_usermode":0},"throttling_data":{"periods":0,"throttled_periods":0,"throttled_time":0}},"memory_stats":{}}"#]]
        .assert_eq(&text(51, None));
    }
}
