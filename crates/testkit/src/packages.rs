//! Programs of Debian's packages, downloaded and unpacked: nothing is installed, nothing of the machine changes.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian's own build of Docker's daemon, and what it starts.
pub const DOCKER: [&str; 4] = ["docker.io", "containerd", "runc", "tini"];

/// The directory that packages are unpacked in, below the build's `target/tools`: downloaded once, then there for all. An
/// error says which command failed.
pub fn unpacked(name: &str, packages: &[&str]) -> Result<PathBuf, String> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"),
        PathBuf::from,
    );
    let tools = target.join("tools");
    std::fs::create_dir_all(&tools)
        .map_err(|error| format!("make {}: {error}", tools.display()))?;
    let tools = tools
        .canonicalize()
        .map_err(|error| format!("find {}: {error}", tools.display()))?;
    // Other tests may want the same at this moment.
    let lock = std::fs::File::create(tools.join(format!("{name}.lock")))
        .map_err(|error| format!("make a lock in {}: {error}", tools.display()))?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)
        .map_err(|error| format!("lock {name}: {error}"))?;
    let whole = tools.join(name);
    if whole.exists() {
        return Ok(whole);
    }
    let part = tools.join(format!("{name}.part"));
    let list = packages.join(" ");
    let script = format!(
        "rm -rf '{part}'; mkdir '{part}'; cd '{part}'
         apt-get download -q {list} || {{ apt-get update -q; apt-get download -q {list}; }}
         for one in ./*.deb; do dpkg -x \"$one\" .; done; rm ./*.deb; mv '{part}' '{whole}'",
        part = part.display(),
        whole = whole.display()
    );
    // In the network of the process: who asks may be a thread in a namespace that leads nowhere.
    let output = Command::new("nsenter")
        .arg(format!("--net=/proc/{}/ns/net", std::process::id()))
        .args(["sh", "-ec", &script])
        .output()
        .map_err(|error| format!("start nsenter: {error}"))?;
    if output.status.success() {
        return Ok(whole);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "apt-get download {list}: {}: {}",
        output.status,
        said.trim()
    ))
}
