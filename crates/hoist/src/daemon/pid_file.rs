//! The file that names the engine's process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The file with our process id; goes away with us.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// Writes it; refused where it names another process that runs.
    pub(super) fn write(path: &Path) -> anyhow::Result<Self> {
        if let Ok(text) = fs::read_to_string(path)
            && let Ok(pid) = text.trim().parse::<u32>()
            && pid != std::process::id()
            && is_alive(pid)
        {
            bail!(
                "pid file {} names process {pid}, which is running",
                path.display()
            );
        }
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("mkdir {}", parent.display()))?;
        }
        fs::write(path, format!("{}", std::process::id()))
            .with_context(|| format!("write pid file {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }
}

/// Whether a process runs; one that ended and was not waited for does not.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
