//! A program under a pseudo-terminal: what a person at a keyboard does, with bounds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A running program and its terminal.
#[derive(Debug)]
pub struct Terminal {
    master: File,
    child: Child,
    seen: Arc<Screen>,
    /// How much of the output the last [`Self::expect`] has consumed.
    consumed: usize,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Screen {
    bytes: Mutex<(Vec<u8>, bool)>,
    grown: Condvar,
}

impl Terminal {
    /// Starts `command` as the leader of a session whose controlling terminal has that size. Its arguments
    /// and environment are taken over; its stdio is the terminal. Needs util-linux' `setsid`.
    ///
    /// # Panics
    /// When no terminal can be made or the program does not start.
    #[must_use]
    pub fn spawn(command: &Command, rows: u16, columns: u16) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave: OwnedFd = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        tcsetwinsize(&slave, size(rows, columns)).unwrap();
        // setsid --ctty does between fork and exec what would need unsafe code here.
        let mut session = Command::new("setsid");
        session
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            session.current_dir(directory);
        }
        let child = session
            .env("TERM", "xterm")
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave))
            .spawn()
            .unwrap();
        let master = File::from(master);
        let seen = Arc::new(Screen::default());
        let (mut input, screen) = (master.try_clone().unwrap(), Arc::clone(&seen));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                // EIO when the last process has closed the terminal.
                let count = input.read(&mut buffer).unwrap_or(0);
                let mut bytes = screen.bytes.lock().unwrap();
                bytes.0.extend_from_slice(&buffer[..count]);
                bytes.1 = count == 0;
                screen.grown.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self {
            master,
            child,
            seen,
            consumed: 0,
            reader: Some(reader),
        }
    }

    /// Waits until the output after the last match contains `text`; what it skipped and matched is consumed.
    ///
    /// # Errors
    /// What was seen instead, when it does not come in time or the program ends first.
    ///
    /// # Panics
    /// When the reader has panicked.
    pub fn expect(&mut self, text: &str, patience: Duration) -> Result<(), String> {
        let end = Instant::now() + patience;
        let mut bytes = self.seen.bytes.lock().unwrap();
        loop {
            let fresh = &bytes.0[self.consumed..];
            if let Some(at) = fresh
                .windows(text.len())
                .position(|part| part == text.as_bytes())
            {
                self.consumed += at + text.len();
                return Ok(());
            }
            let left = end.saturating_duration_since(Instant::now());
            if bytes.1 || left.is_zero() {
                return Err(String::from_utf8_lossy(fresh).into_owned());
            }
            bytes = self.seen.grown.wait_timeout(bytes, left).unwrap().0;
        }
    }

    /// Types these bytes.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.master.write_all(bytes)
    }

    /// Gives the terminal another size; the program gets SIGWINCH.
    ///
    /// # Panics
    /// When the kernel refuses.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.master, size(rows, columns)).unwrap();
    }

    /// Waits for the program to end.
    ///
    /// # Errors
    /// What was on the terminal since the last match, when it does not end in time; it is killed then.
    ///
    /// # Panics
    /// When the program cannot be waited for.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus, String> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ok(status);
            }
            if Instant::now() >= end {
                let _ = self.child.kill();
                let _ = self.child.wait();
                let bytes = self.seen.bytes.lock().unwrap();
                return Err(String::from_utf8_lossy(&bytes.0[self.consumed..]).into_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // The reader ends with the last process on the terminal, which need not be ours: it is left to it.
        drop(self.reader.take());
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_shell_sees_a_terminal_and_its_new_size() {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "trap 'stty size; exit 3' WINCH; stty size; while :; do sleep 0.1; done",
        ]);
        let mut terminal = Terminal::spawn(&shell, 24, 80);
        terminal.expect("24 80", PATIENCE).unwrap();
        terminal.resize(40, 100);
        terminal.expect("40 100", PATIENCE).unwrap();
        assert_eq!(terminal.wait(PATIENCE).unwrap().code(), Some(3));
    }

    #[test]
    fn what_does_not_come_is_told_with_what_came() {
        let mut terminal = Terminal::spawn(Command::new("echo").arg("something"), 24, 80);
        let told = terminal.expect("other", PATIENCE).unwrap_err();
        assert!(told.contains("something"), "{told:?}");
    }
}
