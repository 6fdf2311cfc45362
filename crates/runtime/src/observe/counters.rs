//! Counters of interfaces and of the machine.

use std::io;

use hoist_model::container::{InterfaceCounters, InterfaceStats};
use rustix::param::clock_ticks_per_second;

/// CPU time of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineCpu {
    /// Nanoseconds since boot, idle included.
    pub total: u64,
    /// CPUs online.
    pub online: u32,
}

/// Interfaces in the network namespace of a process, loopback left out (proc_pid_net(5)).
pub fn interfaces(pid: i32) -> io::Result<Vec<InterfaceStats>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev"))?;
    Ok(parse_interfaces(&text))
}

fn parse_interfaces(text: &str) -> Vec<InterfaceStats> {
    let counters = |numbers: &[u64]| InterfaceCounters {
        bytes: numbers[0],
        packets: numbers[1],
        errors: numbers[2],
        dropped: numbers[3],
    };
    text.lines()
        .skip(2)
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let numbers: Vec<u64> = rest
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            let name = name.trim();
            (name != "lo" && numbers.len() >= 12).then(|| InterfaceStats {
                name: name.to_owned(),
                received: counters(&numbers),
                sent: counters(&numbers[8..]),
            })
        })
        .collect()
}

/// CPU time of the machine, as Docker sums it: user to softirq (proc_stat(5), the first seven).
pub fn machine_cpu() -> io::Result<MachineCpu> {
    let text = std::fs::read_to_string("/proc/stat")?;
    Ok(parse_machine_cpu(&text, clock_ticks_per_second()))
}

fn parse_machine_cpu(text: &str, ticks_per_second: u64) -> MachineCpu {
    let mut cpu = MachineCpu::default();
    for line in text.lines() {
        let Some(rest) = line.strip_prefix("cpu") else {
            continue;
        };
        let Some(numbers) = rest.strip_prefix(' ') else {
            cpu.online += 1;
            continue;
        };
        let ticks: u64 = numbers
            .split_whitespace()
            .take(7)
            .filter_map(|word| word.parse::<u64>().ok())
            .sum();
        cpu.total = ticks.saturating_mul(1_000_000_000 / ticks_per_second.max(1));
    }
    cpu
}

/// Bytes of memory of the machine.
#[must_use]
pub fn machine_memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    pages
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_both_ways_and_loopback_is_not() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
            lo:       9       9    0    0    0     0          0         0        9       9    0    0    0     0       0          0\n  \
            eth0:    1086      13    1    2    0     0          0         0      126       3    4    5    0     0       0          0\n";
        let read = parse_interfaces(text);
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].name, "eth0");
        let counters = |c: InterfaceCounters| (c.bytes, c.packets, c.errors, c.dropped);
        assert_eq!(counters(read[0].received), (1086, 13, 1, 2));
        assert_eq!(counters(read[0].sent), (126, 3, 4, 5));
    }

    #[test]
    fn the_machines_time_is_the_first_seven_columns() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n";
        assert_eq!(
            parse_machine_cpu(text, 100),
            MachineCpu {
                total: 28 * 10_000_000,
                online: 2
            }
        );
    }
}
