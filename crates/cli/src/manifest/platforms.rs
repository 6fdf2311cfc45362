//! The platforms that a manifest may be said to be for: Go's, as the stock client has them (docker/cli
//! `cli/command/manifest/util.go`).

const PLATFORMS: &[(&str, &[&str])] = &[
    ("darwin", &["386", "amd64", "arm", "arm64"]),
    ("dragonfly", &["amd64"]),
    ("freebsd", &["386", "amd64", "arm"]),
    (
        "linux",
        &[
            "386", "amd64", "arm", "arm64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x",
        ],
    ),
    ("netbsd", &["386", "amd64", "arm"]),
    ("openbsd", &["386", "amd64", "arm"]),
    ("plan9", &["386", "amd64"]),
    ("solaris", &["amd64"]),
    ("windows", &["386", "amd64"]),
];

/// Whether it is one.
pub(super) fn is_known(os: &str, architecture: &str) -> bool {
    PLATFORMS
        .iter()
        .any(|(name, architectures)| *name == os && architectures.contains(&architecture))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_is_one_of_its_system() {
        assert!(is_known("linux", "riscv64"));
        assert!(!is_known("windows", "riscv64"));
        assert!(!is_known("", "amd64"));
    }
}
