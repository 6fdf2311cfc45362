//! A runtime for one test.

use std::path::Path;

use hoist_runtime::spec::LaunchSpec;
use hoist_runtime::{ExitNotice, Keeper, LaunchError, Launched, Runtime, Settings};

use crate::support::{output, wait_for};

/// A runtime of one's own, with a directory that is removed at the end.
pub(crate) struct Machine {
    pub(crate) runtime: Runtime,
    pub(crate) notices: tokio::sync::mpsc::UnboundedReceiver<ExitNotice>,
    directory: tempfile::TempDir,
}

impl Machine {
    /// `None`, said aloud, where a test cannot make containers.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with(None)
    }

    /// The same, with somebody who has what monitors keep.
    pub(crate) fn start_with(keeper: Option<Keeper>) -> Option<Self> {
        if !hoist_testkit::is_root() {
            hoist_testkit::skip("making containers needs root");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let (runtime, ears, notices) = Runtime::start(Settings {
            exec_root: directory.path().join("run"),
            executable: env!("CARGO_BIN_EXE_hoist-runtime-zygote").into(),
            groups: [].into(),
            keeper,
        })
        .unwrap();
        ears.listen().unwrap();
        Some(Self {
            runtime,
            notices,
            directory,
        })
    }

    /// A place for logs and the like.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The exec-root, for another engine on it.
    pub(crate) fn exec_root(&self) -> std::path::PathBuf {
        self.directory.path().join("run")
    }

    pub(crate) fn launch(&self, spec: LaunchSpec) -> Result<Launched, LaunchError> {
        self.runtime.launch(spec).blocking_recv().unwrap()
    }

    /// The next notice, within a minute.
    pub(crate) fn notice(&mut self) -> ExitNotice {
        wait_for("an exit notice", || self.notices.try_recv().ok())
    }

    /// Starts a container, and answers the exit code it ends with.
    pub(crate) fn run(&mut self, spec: LaunchSpec) -> i32 {
        let id = spec.id.clone();
        self.launch(spec).unwrap();
        let code = self.notice().record.unwrap().exit_code;
        self.runtime.release(&id);
        code
    }

    /// Starts a container, and answers its output and exit code.
    pub(crate) fn output(&mut self, mut spec: LaunchSpec) -> output::Output {
        let stream = output::attach(&mut spec);
        let terminal = spec.process.terminal.is_some();
        let code = self.run(spec);
        output::read(stream, terminal, code)
    }
}
