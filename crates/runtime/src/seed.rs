//! A process of ours that does nothing but be somewhere: systemd removes a scope that has no process.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;

use crate::handle::Settings;
use crate::seal;

/// An idle zygote. Ends with this value, and, as every zygote, with the daemon.
#[derive(Debug)]
pub struct Seed {
    _socket: OwnedFd,
    process: Child,
}

impl Seed {
    /// Starts one from the engine's own program; `exec_root` is for a copy of it where there is no other way to keep it
    /// from being written to. Blocking, some milliseconds.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(executable: &Path, exec_root: &Path) -> io::Result<Self> {
        let settings = Settings {
            exec_root: exec_root.to_owned(),
            executable: executable.to_owned(),
            groups: Arc::new([]),
            keeper: None,
        };
        // It starts nothing, so that no limit of its own matters.
        let (socket, process) = seal::spawn(&settings, u64::MAX)?;
        Ok(Self {
            _socket: socket,
            process,
        })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
