//! A monitor that was forked before anybody needs one, and waits for its order.
//!
//! ```text
//! daemon ── Spare: a control socket, what to furnish ──► zygote ── fork ──► spare
//!    └────────── Order, over that socket, when a process is to be started ──►  it is a monitor
//! ```
//!
//! A start finds the fork, and the file systems that every container gets of its own, done. A spare has seen nothing of any
//! container. It ends when its socket closes: with the daemon, or when the daemon does not want it any more.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use hoist_sys::process::{self, StringTable};
use serde::{Deserialize, Serialize};

use crate::below_root::{directory, file_system, link, node};
use crate::message::{self, Kind, Message};
use crate::monitor::{self, Order};
use crate::plan::{Plan, Step};
use crate::spec::Streams;

/// What a spare is called until it is a monitor.
pub(crate) const NAME: &CStr = c"hoist-spare";

/// More file systems than this are not made ahead.
const MOST: usize = 8;

/// Body of [`Kind::Spare`]; the control socket is beside it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spare {
    /// Each a [`Step::Mount`] and the steps right after it that fill it: what [`furnishings`] found in a plan.
    pub(crate) furnishings: Vec<Vec<Step>>,
}

/// A file system that was made ahead: the steps that it stands for, and the detached mount.
pub(crate) struct Furniture {
    pub(crate) steps: Vec<Step>,
    pub(crate) mount: OwnedFd,
}

/// What of these steps can be done before their container is there: new file systems that belong to no namespace of it but
/// the user namespace, which has to be the engine's, with the devices, links and directories at their top.
pub(crate) fn furnishings(steps: &[Step]) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let Step::Mount { kind, target, .. } = step else {
            continue;
        };
        if !matches!(kind.as_str(), "tmpfs" | "devpts") || found.len() == MOST {
            continue;
        }
        let fills = |step: &&Step| match step {
            Step::Node { path, .. } | Step::Link { path, .. } | Step::MakeDirectory(path) => {
                name_in(target, path).is_some()
            }
            _ => false,
        };
        let filling = steps[at + 1..].iter().take_while(fills).count();
        found.push(steps[at..=at + filling].to_vec());
    }
    found
}

/// What a path is called at the top of what is mounted on a target.
fn name_in<'p>(target: &str, path: &'p str) -> Option<&'p str> {
    let name = path.strip_prefix(target)?.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Makes what can be made; what cannot is made when it is needed, and fails there.
fn furnish(wanted: Vec<Vec<Step>>) -> Vec<Furniture> {
    wanted.into_iter().filter_map(make).collect()
}

fn make(steps: Vec<Step>) -> Option<Furniture> {
    let (first, filling) = steps.split_first()?;
    let Step::Mount {
        kind,
        options,
        target,
        attributes,
    } = first
    else {
        return None;
    };
    let mount = file_system(kind, options, *attributes).ok()?;
    for step in filling {
        match step {
            Step::Node {
                path,
                mode,
                major,
                minor,
                uid,
                gid,
            } => {
                let name = name_in(target, path)?;
                let (device, owner) = ((*major, *minor), (*uid, *gid));
                node(mount.as_fd(), name, *mode, device, owner).ok()?;
            }
            Step::Link { path, to } => link(mount.as_fd(), name_in(target, path)?, to).ok()?,
            Step::MakeDirectory(path) => {
                directory(mount.as_fd(), name_in(target, path)?).ok()?;
            }
            _ => return None,
        }
    }
    Some(Furniture { steps, mount })
}

/// The life of a spare, a freshly forked child of the zygote.
pub(crate) fn wait_for_order(mut message: Message) {
    let Some(control) = message.fds.drain(..).next() else {
        return;
    };
    let furniture = furnish(message.body::<Spare>().unwrap_or_default().furnishings);
    drop(message);
    rehearse();
    // Else the daemon is gone, or has no use for us.
    if let Ok(Some(mut message)) = message::receive(&control)
        && message.kind == Kind::Order
    {
        let _ = process::set_name(c"hoist-monitor");
        let mut fds = vec![control];
        fds.append(&mut message.fds);
        match message.body::<Order>() {
            Ok(order) => {
                drop(message);
                monitor::run(&order, fds, furniture);
            }
            Err(error) => monitor::refuse(&fds, &error),
        }
    }
}

/// Does once, for nothing, what a monitor does first with its order: after a fork each page that is written is copied and each
/// page of code is found anew, which takes longer than the work itself.
fn rehearse() {
    let words = |count: usize| vec!["A=0123456789abcdef".to_owned(); count];
    let order = Order {
        plan: Plan {
            namespaces: 0,
            pid_namespace: None,
            cgroup: None,
            steps: vec![
                Step::JoinCgroup(0),
                Step::Seccomp {
                    program: vec![0x55; 8 * 256],
                    flags: 0,
                },
            ],
            init: false,
            streams: None,
            candidates: words(6),
            arguments: words(2),
            environment: words(8),
        },
        has_listener: false,
        has_record: false,
        log: None,
        attached: vec![Streams::default()],
        kept: 0,
        terminal: false,
        open_stdin: false,
        stdin_once: false,
    };
    let sent = serde_json::to_vec(&order).unwrap_or_default();
    let Ok(order) = serde_json::from_slice::<Order>(&sent) else {
        return;
    };
    let tables = [order.plan.arguments, order.plan.environment].map(StringTable::new);
    let _ = std::hint::black_box((tables, monitor::rehearse()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, target: &str) -> Step {
        Step::Mount {
            kind: kind.to_owned(),
            options: Vec::new(),
            target: target.to_owned(),
            attributes: 0,
        }
    }

    fn link(path: &str) -> Step {
        Step::Link {
            path: path.to_owned(),
            to: "x".to_owned(),
        }
    }

    #[test]
    fn only_what_belongs_to_no_container_is_made_ahead() {
        let steps = [
            mount("proc", "/proc"),
            mount("tmpfs", "/dev"),
            link("/dev/fd"),
            link("/dev/pts/ptmx"),
            mount("devpts", "/dev/pts"),
            link("/device"),
            mount("mqueue", "/dev/mqueue"),
            mount("sysfs", "/sys"),
        ];
        let found = furnishings(&steps);
        assert_eq!(found, [steps[1..3].to_vec(), steps[4..5].to_vec()]);
    }
}
