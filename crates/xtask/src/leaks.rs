//! The leak check that closes a test run: what the kernel holds after it and did not before.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hoist_testkit::KernelState;

/// Veth pairs, namespaces and cgroups are removed in the background, in batches.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes the machine's present state to `file`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn save(file: &Path) -> anyhow::Result<()> {
    std::fs::write(file, KernelState::now().to_text())
        .with_context(|| format!("writing {}", file.display()))
}

/// What has come since `file` was written and has not gone within ten seconds.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn compare(file: &Path) -> anyhow::Result<Vec<String>> {
    let before =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(KernelState::leaked_since(
        &KernelState::from_text(&before),
        PATIENCE,
    ))
}
