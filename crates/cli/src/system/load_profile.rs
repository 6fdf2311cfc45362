//! `system load-profile`: docker-default for AppArmor, loaded by its own parser, outside of the engine.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use clap::Args;

use crate::{Context, Failure, Run, output};

/// `system load-profile`.
#[derive(Args, Debug)]
pub(super) struct LoadProfile {
    /// Print the profile, and load nothing
    #[arg(long)]
    print: bool,
}

/// What Docker's profile of this name allows and denies (moby/profiles `apparmor/template.go`): everything but mounting,
/// and writing to what of /proc and /sys belongs to the host.
const PROFILE: &str = "\
#include <tunables/global>

profile docker-default flags=(attach_disconnected,mediate_deleted) {
  #include <abstractions/base>

  network,
  capability,
  file,
  umount,

  # From the engine, and among the processes of containers.
  signal (receive) peer=unconfined,
  signal (send,receive) peer=docker-default,
  ptrace (trace,read,tracedby,readby) peer=docker-default,

  # Of /proc only what belongs to processes, and shared memory's limits.
  deny @{PROC}/* w,
  deny @{PROC}/{[^1-9],[^1-9][^0-9],[^1-9s][^0-9y][^0-9s],[^1-9][^0-9][^0-9][^0-9/]*}/** w,
  deny @{PROC}/sys/[^k]** w,
  deny @{PROC}/sys/kernel/{?,??,[^s][^h][^m]**} w,
  deny @{PROC}/sysrq-trigger rwklx,
  deny @{PROC}/kcore rwklx,

  deny mount,

  # Of /sys only control groups.
  deny /sys/[^f]*/** wklx,
  deny /sys/f[^s]*/** wklx,
  deny /sys/fs/[^c]*/** wklx,
  deny /sys/fs/c[^g]*/** wklx,
  deny /sys/fs/cg[^r]*/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
  deny /sys/kernel/security/** rwklx,
}
";

impl Run for LoadProfile {
    async fn run(self, _context: &Context) -> Result<u8, Failure> {
        if self.print {
            output::text(PROFILE)?;
            return Ok(0);
        }
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        if enabled.is_ok_and(|text| text.trim() == "Y") {
            load()?;
            output::line("AppArmor profile docker-default is loaded")?;
        } else {
            output::line("AppArmor is off: there is nothing to load")?;
        }
        Ok(0)
    }
}

/// Hands the profile to the parser, past its cache, in place of one of the same name.
fn load() -> Result<(), Failure> {
    let failed = |why: String| Failure::new(format!("apparmor_parser: {why}"));
    let mut parser = Command::new("apparmor_parser")
        .args(["--replace", "--skip-cache"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut input) = parser.stdin.take() {
        // What it says of its end is better than that it did not read on.
        let _ = input.write_all(PROFILE.as_bytes());
    }
    let done = parser.wait_with_output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(failed(format!("{}: {said}", done.status)))
}
