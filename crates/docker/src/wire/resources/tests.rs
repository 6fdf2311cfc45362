//! Limits as clients send them: what is refused in which words, and what the kernel cannot do.

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
    let resources = resources_from_wire(body, capacity, Purpose::Create, &mut warnings).unwrap();
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
