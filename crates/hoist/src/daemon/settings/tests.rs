//! Flags and files as people write them.

use std::ffi::OsString;

use super::*;

fn check(words: &[&str]) -> anyhow::Result<Settings> {
    let words = words.iter().map(OsString::from);
    let (arguments, ignored) = crate::daemon::arguments::parse(words)?;
    let mut settings = settle(arguments, ignored)?;
    // Whatever variables this machine has.
    settings
        .ignored
        .retain(|name| !name.starts_with("variable "));
    Ok(settings)
}

#[test]
fn flags_win_over_the_file_and_private_roots_stay_together() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        r#"{"debug":true,"data-root":"/a","labels":["x=y"],"live-restore":false,"icc":false,"builder":{}}"#,
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let settings = check(&["--config-file", path, "--data-root", "/b"]).unwrap();
    assert!(settings.debug);
    assert_eq!(settings.data_root, Path::new("/b"));
    assert_eq!(settings.exec_root, Path::new("/b/exec"));
    assert_eq!(settings.labels, ["x=y"]);
    assert!(!settings.live_restore);
    assert!(!settings.network.icc);
    assert_eq!(settings.ignored, ["daemon.json \"builder\""]);
}

#[test]
fn users_are_remapped_by_flag_or_key() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), r#"{"userns-remap":"default"}"#).unwrap();
    let path = file.path().to_str().unwrap();
    for (words, asked) in [
        (&[][..], None),
        (&["--userns-remap", "ann:staff"], Some("ann:staff")),
        (&["--config-file", path], Some("default")),
        (&["--config-file", path, "--userns-remap=7"], Some("7")),
        (&["--userns-remap="], None),
    ] {
        let settings = check(words).unwrap();
        assert_eq!(settings.userns_remap.as_deref(), asked, "{words:?}");
        assert!(settings.ignored.is_empty());
    }
}

#[test]
fn a_key_that_nobody_knows_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        r#"{"debug":true,"live-restor":true,"icc":false}"#,
    )
    .unwrap();
    let error = check(&["--config-file", file.path().to_str().unwrap()]).unwrap_err();
    let error = error.to_string();
    assert!(
        error.ends_with("any configuration option: live-restor"),
        "{error}"
    );
}

#[test]
fn wrong_values_are_named() {
    for (words, operand) in [
        (&["--bip", "10.0.0.300/8"][..], "10.0.0.300/8"),
        (
            &["--default-address-pool", "base=10.0.0.0/16"],
            "base=10.0.0.0/16",
        ),
        (
            &["--default-address-pool", "base=10.0.0.0/16,size=8"],
            "size=8",
        ),
        (
            &["--default-address-pool", "base=fd00:9::/48,size=127"],
            "from 48 to 126",
        ),
        (&["--default-address-pool", "base=fd00,size=64"], "\"fd00\""),
        (&["-H", "ftp://x"], "ftp://x"),
        (&["--tlsverify", "--tlscert", "/no/cert"], "/no/cert"),
        (&["--storage-driver", "zfs"], "zfs"),
        (&["--exec-opt", "native.cgroupdriver=x"], "driver=x"),
        (&["--log-level", "loud"], "loud"),
        (&["--log-driver", "syslog"], "syslog"),
        (&["--log-opt", "max-size"], "max-size"),
        (&["--log-opt", "nope=1"], "unknown log opt 'nope'"),
        (&["--config-file", "/no/such/file"], "/no/such/file"),
        (&["--data-root", "relative"], "relative"),
        (&["--label", "=x"], "'=x': empty name"),
        (
            &["--label", "a=x", "--label", "a=y"],
            "conflict labels for a=y and a=x",
        ),
        (&["--registry-mirror", "ftp://x"], "ftp"),
        (&["--registry-mirror", "https://x/path"], "https://x/path"),
        (&["--log-format", "xml"], "xml"),
        (&["--dns", "1.2.3"], "not correctly formatted: 1.2.3"),
        (
            &["--max-concurrent-downloads", "0"],
            "max concurrent downloads: 0",
        ),
        (
            &["--max-download-attempts", "-1"],
            "max download attempts: -1",
        ),
        (&["--default-ulimit", "nope=1"], "nope"),
        (&["--default-shm-size", "much"], "much"),
        (&["--seccomp-profile", "/no/profile"], "/no/profile"),
        (&["--default-runtime", "kata"], "kata"),
    ] {
        let error = format!("{:#}", check(words).unwrap_err());
        assert!(error.contains(operand), "{error}");
    }
}

#[test]
fn networks_are_as_flags_and_file_say() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = r#"{
        "ipv6": true, "fixed-cidr": "10.5.3.7/25", "fixed-cidr-v6": "2001:db8::/64", "icc": false, "ip": "127.0.0.1",
        "default-gateway": "10.5.3.9", "default-gateway-v6": "2001:db8::9", "ip-forward": false, "bip6": "2001:db8::1/64",
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1400", "a": "b"}}
    }"#;
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let flag = "--default-network-opt=bridge=com.docker.network.driver.mtu=1300";
    let settings = check(&["--config-file", path, "--icc", flag, "--ip-masq=false"]).unwrap();
    let network = &settings.network;
    assert!(settings.ignored.is_empty());
    assert!(network.ipv6 && network.icc && network.iptables && !network.ip_forward);
    assert!(!network.ip_masq);
    assert_eq!(
        network.fixed_cidr.map(|net| net.to_string()).as_deref(),
        Some("10.5.3.0/25")
    );
    assert_eq!(network.ip, Some([127, 0, 0, 1].into()));
    let bridge = &network.default_network_opts["bridge"];
    assert_eq!(bridge["com.docker.network.driver.mtu"], "1300");
    assert_eq!(bridge["a"], "b");
    // Without rules there is nothing to masquerade with.
    let network = check(&["--iptables=false"]).unwrap().network;
    assert!(!network.iptables && network.ip6tables && !network.ip_masq);
    let network = check(&["-b", "none", "--ip", "0.0.0.0"]).unwrap().network;
    assert_eq!(network.bridge, hoist_net::BridgeChoice::Absent);
    assert_eq!(network.ip, None);
}

#[test]
fn networks_that_contradict_themselves_are_refused_in_dockerds_words() {
    for (words, expected) in [
        (
            &["-b", "br9", "--bip=10.0.0.1/24"][..],
            "You specified -b & --bip, mutually exclusive options. Please specify only one",
        ),
        (
            &["--bridge=none", "--bip6=fd00::1/64"],
            "You specified -b & --bip6, mutually exclusive options. Please specify only one",
        ),
        (
            &["--iptables=false", "--icc=false"],
            "You specified --iptables=false with --icc=false. ICC=false uses iptables to function. Please set --icc or --iptables to true",
        ),
        (
            &["--ip6tables=false", "--icc=false", "--ipv6"],
            "You specified --ip6tables=false with --icc=false. ICC=false uses ip6tables to function. Please set --icc or --ip6tables to true",
        ),
        (
            &["--fixed-cidr-v6=fe80::/32"],
            "invalid fixed-cidr-v6: 'fe80::/32' clashes with the Link-Local prefix 'fe80::/64'",
        ),
        (
            &["--ip=here"],
            "invalid ip \"here\": expected an address: invalid IP address syntax",
        ),
        (
            &["--default-network-opt=mtu"],
            "invalid default-network-opt \"mtu\": expected driver=name=value",
        ),
        (
            &["--storage-opt=overlay2.size=1G"],
            "storage-opt \"overlay2.size=1G\": limits on the size of containers are not supported",
        ),
        (
            &["--max-concurrent-uploads=-1"],
            "invalid max concurrent uploads: -1",
        ),
    ] {
        let error = format!("{:#}", check(words).unwrap_err());
        assert_eq!(error.lines().next(), Some(expected), "{words:?}");
    }
    assert!(check(&["--ip6tables=false", "--icc=false"]).is_ok());
    assert!(check(&["--storage-opt=overlay2.override_kernel_check=true"]).is_ok());
}
