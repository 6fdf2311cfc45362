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
fn flags_and_file_add_up_and_private_roots_stay_together() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        r#"{"debug":true,"labels":["x=y"],"live-restore":false,"icc":false,"builder":{}}"#,
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
        (&["--userns-remap=7"], Some("7")),
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
        "ipv6": true, "fixed-cidr": "10.5.3.7/25", "fixed-cidr-v6": "2001:db8::/64", "ip": "127.0.0.1",
        "default-gateway": "10.5.3.9", "default-gateway-v6": "2001:db8::9", "ip-forward": false, "bip6": "2001:db8::1/64",
        "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300", "a": "b"}}
    }"#;
    std::fs::write(file.path(), text).unwrap();
    let path = file.path().to_str().unwrap();
    let settings = check(&["--config-file", path, "--icc", "--ip-masq=false"]).unwrap();
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

#[test]
fn what_is_said_twice_is_refused_as_dockerd_refuses_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let refused = |text: &str, words: &[&str]| {
        std::fs::write(file.path(), text).unwrap();
        let words = [&["--config-file", path], words].concat();
        format!("{:#}", check(&words).unwrap_err())
    };
    // As dockerd 20.10 says it of the same flags and the same file, but for what begins the sentence.
    let text = r#"{"hosts":["tcp://127.0.0.1:1"],"debug":true,"mtu":1300,"log-opts":{"max-size":"1m"},"labels":["a=1"],
        "default-ulimits":{"nofile":{"Name":"nofile","Soft":1,"Hard":2}},"dns":["1.1.1.1"],"bridge":"none","icc":false,
        "insecure-registries":["a","b"],"userland-proxy":false}"#;
    let words = "-H unix:///s -H fd:// --debug --mtu 1400 --log-opt max-size=2m --log-opt max-file=3 --label c=d \
        --default-ulimit nofile=3:4 --dns 8.8.8.8 -b docker9 --icc=true --insecure-registry q --userland-proxy=true";
    let words: Vec<&str> = words.split_whitespace().collect();
    let expected = format!(
        "unable to configure the engine with file {path}: the following directives are specified both as a flag and in the \
         configuration file: bridge: (from flag: docker9, from file: none), debug: (from flag: true, from file: true), \
         default-ulimits: (from flag: [nofile=3:4], from file: map[nofile:map[Hard:2 Name:nofile Soft:1]]), \
         dns: (from flag: [8.8.8.8], from file: [1.1.1.1]), \
         hosts: (from flag: [unix:///s fd://], from file: [tcp://127.0.0.1:1]), icc: (from flag: true, from file: false), \
         insecure-registries: (from flag: [q], from file: [a b]), labels: (from flag: [c=d], from file: [a=1]), \
         log-opts: (from flag: map[max-file:3 max-size:2m], from file: map[max-size:1m]), \
         mtu: (from flag: 1400, from file: 1300), userland-proxy: (from flag: true, from file: false)"
    );
    assert_eq!(refused(text, &words), expected);
    let secret = r#"{"proxies":{"http-proxy":"http://ann:secret@proxy:3128","no-proxy":"a"}}"#;
    let told = refused(secret, &["--http-proxy", "http://bob:word@other:1"]);
    assert!(
        told.ends_with(
            "http-proxy: (from flag: http://xxxxx:xxxxx@other:1, from file: http://xxxxx:xxxxx@proxy:3128)"
        ),
        "{told}"
    );
    // Runtimes add up, as in dockerd.
    std::fs::write(file.path(), r#"{"runtimes":{"runc":{}}}"#).unwrap();
    check(&["--config-file", path, "--add-runtime", "a=b"]).unwrap();
}

#[test]
fn labels_are_told_once_and_with_their_sign() {
    let settings = check(&["--label", "b", "--label", "a=1", "--label", "a=1"]).unwrap();
    assert_eq!(settings.labels, ["a=1", "b="]);
    for (label, told) in [
        ("=x", "invalid label '=x': empty name"),
        ("a b=c", "label 'a b=c' contains whitespaces"),
    ] {
        assert_eq!(check(&["--label", label]).unwrap_err().to_string(), told);
    }
}
