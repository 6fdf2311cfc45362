//! What a container uses, as read from its control groups.

use std::collections::BTreeMap;

use hoist_model::container::{BlkioEntry, CgroupStats, CpuStats, MemoryStats, PidsStats};

use super::directory::Directory;
use super::layout::Controller;
use super::{CgroupError, Group};

/// v1's way to say no limit: the largest multiple of a page below 2^63.
const V1_NO_LIMIT: u64 = 0x7fff_ffff_ffff_0000;

fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

fn value_of(text: &str, key: &str) -> u64 {
    pairs(text)
        .find(|(name, _)| *name == key)
        .map_or(0, |(_, value)| value)
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Reads a file that may be missing on this kernel.
fn optional(directory: &Directory, file: &str) -> String {
    directory.read(file).unwrap_or_default()
}

/// Reads everything; a controller without a directory leaves its part at zero.
pub(super) fn read(group: &Group) -> Result<CgroupStats, CgroupError> {
    let unified = |controller| group.hierarchies().is_unified(controller);
    let mut stats = CgroupStats::default();
    if let Some(directory) = group.directory(Controller::Memory)? {
        stats.memory = if unified(Controller::Memory) {
            MemoryStats {
                usage: number(&directory.read("memory.current")?).unwrap_or(0),
                max_usage: number(&optional(&directory, "memory.peak")).unwrap_or(0),
                limit: number(&directory.read("memory.max")?),
                failures: value_of(&directory.read("memory.events")?, "max"),
                details: details(&directory.read("memory.stat")?),
            }
        } else {
            MemoryStats {
                usage: number(&directory.read("memory.usage_in_bytes")?).unwrap_or(0),
                max_usage: number(&directory.read("memory.max_usage_in_bytes")?).unwrap_or(0),
                limit: number(&directory.read("memory.limit_in_bytes")?)
                    .filter(|limit| *limit < V1_NO_LIMIT),
                failures: number(&directory.read("memory.failcnt")?).unwrap_or(0),
                details: details(&directory.read("memory.stat")?),
            }
        };
    }
    if let Some(directory) = group.directory(Controller::Cpuacct)? {
        stats.cpu = if unified(Controller::Cpuacct) {
            cpu_v2(&directory.read("cpu.stat")?)
        } else {
            // In ns since 4.7; cpuacct.stat has the same in ticks of 10 ms.
            let nanoseconds = |file| directory.read(file).map(|text| number(&text).unwrap_or(0));
            CpuStats {
                total: nanoseconds("cpuacct.usage")?,
                user: nanoseconds("cpuacct.usage_user")?,
                system: nanoseconds("cpuacct.usage_sys")?,
                per_cpu: optional(&directory, "cpuacct.usage_percpu")
                    .split_whitespace()
                    .filter_map(|word| word.parse().ok())
                    .collect(),
                ..CpuStats::default()
            }
        };
    }
    if let Some(directory) = group.directory(Controller::Cpu)?
        && !unified(Controller::Cpu)
    {
        let text = directory.read("cpu.stat")?;
        stats.cpu.periods = value_of(&text, "nr_periods");
        stats.cpu.throttled_periods = value_of(&text, "nr_throttled");
        stats.cpu.throttled = value_of(&text, "throttled_time");
    }
    if let Some(directory) = group.directory(Controller::Pids)? {
        stats.pids = PidsStats {
            current: number(&directory.read("pids.current")?).unwrap_or(0),
            limit: number(&directory.read("pids.max")?),
        };
    }
    if let Some(directory) = group.directory(Controller::Blkio)? {
        if unified(Controller::Blkio) {
            (stats.blkio_bytes, stats.blkio_operations) =
                blkio_v2(&optional(&directory, "io.stat"));
        } else {
            let read = |recursive, plain| {
                let text = optional(&directory, recursive);
                blkio_v1(&if text.is_empty() {
                    optional(&directory, plain)
                } else {
                    text
                })
            };
            stats.blkio_bytes = read(
                "blkio.throttle.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes",
            );
            stats.blkio_operations = read(
                "blkio.throttle.io_serviced_recursive",
                "blkio.throttle.io_serviced",
            );
        }
    }
    Ok(stats)
}

fn details(text: &str) -> BTreeMap<String, u64> {
    pairs(text)
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn cpu_v2(text: &str) -> CpuStats {
    let nanoseconds = |key| value_of(text, key).saturating_mul(1000);
    CpuStats {
        total: nanoseconds("usage_usec"),
        user: nanoseconds("user_usec"),
        system: nanoseconds("system_usec"),
        per_cpu: Vec::new(),
        periods: value_of(text, "nr_periods"),
        throttled_periods: value_of(text, "nr_throttled"),
        throttled: nanoseconds("throttled_usec"),
    }
}

fn device_numbers(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 Read 4096` per line; the sum over all devices at the end has no device and is left out.
fn blkio_v1(text: &str) -> Vec<BlkioEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (major, minor) = device_numbers(words.next()?)?;
            let operation = words.next()?.to_ascii_lowercase();
            Some(BlkioEntry {
                major,
                minor,
                operation,
                value: words.next()?.parse().ok()?,
            })
        })
        .collect()
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0` per line.
fn blkio_v2(text: &str) -> (Vec<BlkioEntry>, Vec<BlkioEntry>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(device_numbers) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "read"),
                "wbytes" => (&mut bytes, "write"),
                "rios" => (&mut operations, "read"),
                "wios" => (&mut operations, "write"),
                _ => continue,
            };
            if let Ok(value) = value.parse() {
                list.push(BlkioEntry {
                    major,
                    minor,
                    operation: operation.to_owned(),
                    value,
                });
            }
        }
    }
    (bytes, operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_of_v2_is_turned_into_nanoseconds() {
        let text = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 7\nnr_throttled 2\nthrottled_usec 30\n";
        let cpu = cpu_v2(text);
        assert_eq!(
            (cpu.total, cpu.user, cpu.system),
            (1_500_000, 1_000_000, 500_000)
        );
        assert_eq!(
            (cpu.periods, cpu.throttled_periods, cpu.throttled),
            (7, 2, 30_000)
        );
    }

    #[test]
    fn block_io_of_both_versions_has_one_shape() {
        let v1 = blkio_v1("8:0 Read 4096\n8:0 Write 0\n8:0 Total 4096\nTotal 4096\n");
        assert_eq!(v1.len(), 3);
        assert_eq!(
            v1[0],
            BlkioEntry {
                major: 8,
                minor: 0,
                operation: "read".to_owned(),
                value: 4096
            }
        );
        let (bytes, operations) =
            blkio_v2("8:0 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0\n7:0 \n");
        assert_eq!(bytes[0], v1[0]);
        assert_eq!(
            operations.iter().map(|e| e.value).collect::<Vec<_>>(),
            [2, 3]
        );
    }
}
