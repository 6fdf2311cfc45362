//! From what is asked of a process to what the runtime starts: who it is, what it may, and its environment.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use hoist_engine::ports::LaunchFailure;
use hoist_engine::records::ContainerRecord;
use hoist_model::container::{SeccompChoice, Ulimit};
use hoist_runtime::seccomp::{Profile, Program};
use hoist_runtime::spec::Process;
use hoist_runtime::{capabilities, defaults, users};

use super::launch_spec::{Machine, refuse, refused};
use super::rlimits;
use super::settings::{SeccompDefault, StartDefaults};

/// What is asked of a process, whether a container's first or a further one.
pub(super) struct Wanted<'a> {
    /// What the engine gives where the container does not say.
    pub(super) engines: &'a StartDefaults,
    pub(super) process: &'a hoist_model::container::ProcessSpec,
    /// Variables under its own.
    pub(super) environment: &'a [String],
    /// Variables of the container's links, under those.
    pub(super) linked: &'a [String],
    pub(super) privileged: bool,
    pub(super) user: &'a str,
    pub(super) terminal: Option<(u16, u16)>,
    pub(super) open_stdin: bool,
    pub(super) stdin_once: bool,
}

/// Resolves it: users in the container's own files, capabilities, limits, its filter of calls.
pub(super) fn process(
    machine: &Machine,
    record: &ContainerRecord,
    root: BorrowedFd<'_>,
    wanted: &Wanted<'_>,
) -> Result<Process, LaunchFailure> {
    let security = &record.spec.security;
    let groups = &record.spec.process.additional_groups;
    let user = users::resolve(root, wanted.user, groups).map_err(refused)?;
    let available = capabilities::available();
    let set = capabilities::resolve(
        &security.cap_add,
        &security.cap_drop,
        wanted.privileged,
        available,
    )
    .map_err(refused)?;
    let engines = wanted.engines;
    let seccomp = filter(machine, record, &engines.seccomp, wanted.privileged, set)?;
    let mut environment = vec![];
    let has = |own: &[String], name: &str| {
        own.iter()
            .any(|variable| variable.split('=').next() == Some(name))
    };
    let own = &wanted.process.environment;
    let defaults = [
        ("PATH", defaults::PATH.to_owned()),
        ("HOSTNAME", hostname(record)),
        (
            "TERM",
            if wanted.terminal.is_some() {
                "xterm".to_owned()
            } else {
                String::new()
            },
        ),
        ("HOME", user.home.clone()),
    ];
    for (name, value) in defaults {
        if !value.is_empty() && !has(own, name) && !has(wanted.environment, name) {
            environment.push(format!("{name}={value}"));
        }
    }
    environment.extend(wanted.linked.iter().cloned());
    environment.extend(
        wanted
            .environment
            .iter()
            .filter(|v| !has(own, v.split('=').next().unwrap_or(v)))
            .cloned(),
    );
    environment.extend(own.iter().cloned());
    // A bare name only says what not to take over.
    environment.retain(|variable| variable.contains('='));
    let environment = last_of_each(environment);
    Ok(Process {
        arguments: wanted.process.arguments(),
        environment,
        working_directory: wanted.process.working_directory.clone(),
        uid: user.uid,
        gid: user.gid,
        groups: user.groups,
        capabilities: capabilities::for_process(set, user.uid),
        no_new_privileges: security.no_new_privileges,
        apparmor: machine
            .apparmor
            .profile(&record.spec.security)
            .map_err(refused)?,
        seccomp,
        rlimits: rlimits::resolve(&merged(&record.spec.resources.ulimits, &engines.ulimits))
            .map_err(refuse)?,
        oom_score_adj: i32::try_from(security.oom_score_adj)
            .ok()
            .filter(|score| *score != 0),
        terminal: wanted.terminal,
        open_stdin: wanted.open_stdin,
        stdin_once: wanted.stdin_once,
    })
}

fn filter(
    machine: &Machine,
    record: &ContainerRecord,
    engines: &SeccompDefault,
    privileged: bool,
    set: capabilities::CapabilitySet,
) -> Result<Option<Arc<Program>>, LaunchFailure> {
    let ours = || machine.seccomp.program(Profile::docker_default(), set);
    let program = match &record.spec.security.seccomp {
        SeccompChoice::Unconfined => return Ok(None),
        SeccompChoice::Default if privileged => return Ok(None),
        SeccompChoice::Default => match engines {
            SeccompDefault::Builtin => ours(),
            SeccompDefault::Unconfined => return Ok(None),
            SeccompDefault::File { text, .. } => machine.seccomp.program_of(text, set),
        },
        SeccompChoice::Builtin => ours(),
        SeccompChoice::Profile(text) => machine.seccomp.program_of(text, set),
    };
    program.map(Some).map_err(refused)
}

/// A container's limits, and the engine's for those it does not name.
fn merged(own: &[Ulimit], engines: &[Ulimit]) -> Vec<Ulimit> {
    let mut limits = own.to_vec();
    let named = |limit: &&Ulimit| own.iter().any(|own| own.name == limit.name);
    limits.extend(engines.iter().filter(|limit| !named(limit)).cloned());
    limits
}

/// Each variable once, with the value that was set last: programs differ in which of two they take.
fn last_of_each(environment: Vec<String>) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut places = HashMap::new();
    let mut kept: Vec<String> = Vec::with_capacity(environment.len());
    for variable in environment {
        match places.entry(name(&variable)) {
            Entry::Occupied(place) => kept[*place.get()] = variable,
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(variable);
            }
        }
    }
    kept
}

/// What a container is called inside.
pub(super) fn hostname(record: &ContainerRecord) -> String {
    if record.spec.hostname.is_empty() {
        hoist_model::container::default_hostname(&record.id)
    } else {
        record.spec.hostname.clone()
    }
}
