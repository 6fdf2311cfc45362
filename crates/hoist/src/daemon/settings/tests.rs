//! Flags and files as people write them.

use std::ffi::OsString;

use super::*;

fn check(words: &[&str]) -> anyhow::Result<Settings> {
    let words = words.iter().map(OsString::from);
    let (arguments, ignored) = crate::daemon::arguments::parse(words)?;
    settle(arguments, ignored)
}

#[test]
fn flags_win_over_the_file_and_private_roots_stay_together() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        r#"{"debug":true,"data-root":"/a","labels":["x=y"],"live-restore":false,"icc":false}"#,
    )
    .unwrap();
    let path = file.path().to_str().unwrap();
    let settings = check(&["--config-file", path, "--data-root", "/b"]).unwrap();
    assert!(settings.debug);
    assert_eq!(settings.data_root, Path::new("/b"));
    assert_eq!(settings.exec_root, Path::new("/b/exec"));
    assert_eq!(settings.labels, ["x=y"]);
    assert!(!settings.live_restore);
    assert_eq!(settings.ignored, ["daemon.json \"icc\""]);
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
