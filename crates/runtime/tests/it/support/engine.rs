//! An engine in a process of its own, to be killed.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use hoist_runtime::spec::LogSpec;
use hoist_runtime::{Runtime, Settings};

use super::{Rootfs, spec};

/// `<exec-root> <log> <id> <script>`: starts a container that runs the script, prints its pid, and sleeps.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let [exec_root, log, id, script] = arguments else {
        return ExitCode::FAILURE;
    };
    let (runtime, ears, _notices) = Runtime::start(Settings {
        exec_root: PathBuf::from(exec_root),
        executable: std::env::current_exe().unwrap(),
        groups: [].into(),
        keeper: None,
    })
    .unwrap();
    ears.listen().unwrap();
    // Removed by the test, which outlives this process.
    let rootfs = std::mem::ManuallyDrop::new(Rootfs::new());
    let mut spec = spec(&rootfs, &["sh", "-c", script.to_str().unwrap()]);
    spec.id = id.to_str().unwrap().parse().unwrap();
    spec.log = Some(LogSpec::json_file(PathBuf::from(log), 1 << 20, 3));
    let launched = runtime.launch(spec).blocking_recv().unwrap().unwrap();
    let mut out = std::io::stdout();
    writeln!(out, "{}", launched.pid).unwrap();
    writeln!(out, "{}", rootfs.path("").display()).unwrap();
    out.flush().unwrap();
    // Until it is killed, or the test is gone.
    let _ = std::io::stdin().lock().lines().next();
    ExitCode::SUCCESS
}
