//! The engines that are measured.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use hoist_testkit::TemporaryDirectory;

use super::Options;

/// Builds it.
pub(super) fn release_binary(root: &Path) -> anyhow::Result<PathBuf> {
    let mut build = Command::new("cargo");
    build.args([
        "build",
        "--release",
        "--package",
        "hoist",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let output = build
        .current_dir(root)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    ensure!(
        output.status.success(),
        "cargo build --release --package hoist"
    );
    let told = String::from_utf8_lossy(&output.stdout);
    let binary = told
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    binary.context("cargo named no executable")
}

/// A script that starts Debian's dockerd with the arguments `hoist daemon` takes.
pub(super) fn docker_binary(
    options: &Options,
    scripts: &TemporaryDirectory,
) -> anyhow::Result<PathBuf> {
    let unpacked = match &options.docker {
        Some(directory) => directory.clone(),
        None => hoist_testkit::unpacked("docker-debian", &hoist_testkit::DOCKER)
            .map_err(anyhow::Error::msg)?,
    };
    let script = scripts.join("dockerd");
    let path = unpacked.display();
    // The first argument is `daemon`. Debian's dockerd starts a containerd of its own on private paths.
    let text = format!(
        "#!/bin/sh\nshift\nPATH={path}/usr/sbin:{path}/usr/bin:$PATH\nexport PATH\nexec dockerd \"$@\"\n"
    );
    std::fs::write(&script, text)?;
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
    Ok(script)
}
