//! SIGKILL, to whatever there is.

use std::time::Duration;

use super::{Run, check};

impl Run<'_> {
    /// Kills something.
    pub(super) fn fault(&mut self) {
        match self.chance.below(6) {
            0 | 1 if self.alive => self.kill_daemon(),
            2 => self.kill_named("hoist-zygote", 1),
            3 => self.kill_named("hoist-monitor", 1),
            4 => self.kill_named("hoist-monitor", 3),
            _ => self.kill_inside(),
        }
    }

    pub(super) fn kill_daemon(&mut self) {
        self.note("SIGKILL the daemon");
        self.world.daemon.kill();
        self.alive = false;
        // Whose monitor dies before the next engine has taken over may end unseen.
        for subject in &mut self.subjects {
            subject.may_be_unknown |= subject.just_now;
            subject.disturbed = true;
        }
    }

    /// Starts the daemon again, perhaps after a while.
    pub(super) fn revive(&mut self) {
        let wait = self.chance.pick(&[0, 0, 5, 50, 200]);
        std::thread::sleep(Duration::from_millis(wait));
        self.note("start the daemon");
        self.world.daemon.launch();
        self.alive = true;
    }

    /// Kills processes of ours by name: up to this many.
    fn kill_named(&mut self, name: &str, count: usize) {
        let mut found: Vec<u32> = self.world.daemon.processes();
        found.retain(|pid| check::name_of(*pid).as_deref() == Some(name));
        for _ in 0..count.min(found.len()) {
            let pid = found.swap_remove(self.chance.below(found.len()));
            self.note(format!("SIGKILL {name} {pid}"));
            kill(pid);
            if name == "hoist-monitor" {
                // Whose it was is hard to say once it is gone: any may have lost it.
                let dead = !self.alive;
                for subject in &mut self.subjects {
                    subject.monitor_killed = true;
                    subject.just_now = true;
                    subject.may_be_unknown |= dead;
                    subject.disturbed = true;
                }
            } else {
                let telling = check::kernel_tells_ends();
                for subject in &mut self.subjects {
                    subject.may_be_unknown |= subject.monitor_killed && !telling;
                    subject.disturbed = true;
                }
            }
        }
    }

    /// Kills a process in a container.
    fn kill_inside(&mut self) {
        let mut inside = check::inside(&self.mark());
        if inside.is_empty() {
            return;
        }
        let (pid, name) = inside.swap_remove(self.chance.below(inside.len()));
        self.note(format!("SIGKILL {pid} in {name}"));
        kill(pid);
        for subject in &mut self.subjects {
            subject.disturbed |= subject.name == name;
        }
    }
}

fn kill(pid: u32) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
