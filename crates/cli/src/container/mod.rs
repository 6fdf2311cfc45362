//! The verbs of containers.

mod attach;
mod changes;
mod copy;
mod events_wait;
mod exec;
mod filters;
mod inspect;
mod lifecycle;
mod logs;
mod ps;
mod run;
mod start;
mod stats;
mod update;

use super::{Verb, verb};

pub(crate) use events_wait::Events;
pub(crate) use filters::{api_filters, now, with_configured};
pub(crate) use inspect::{Details, pretty, print_objects};
pub(crate) use lifecycle::{ask, each, prune, pruned, said, show_pruned};
pub(crate) use ps::{HEADINGS, usage_row};

/// `hoist container …`.
pub(crate) const VERBS: &[Verb] = &[
    verb::<attach::Attach>("attach", ATTACH),
    verb::<changes::Commit>("commit", "Create a new image from a container's changes"),
    verb::<copy::Copy>("cp", COPY),
    verb::<run::Create>("create", "Create a new container"),
    verb::<changes::Diff>("diff", DIFF),
    verb::<exec::Exec>("exec", "Execute a command in a running container"),
    verb::<changes::Export>("export", EXPORT),
    verb::<inspect::InspectContainer>(
        "inspect",
        "Display detailed information on one or more containers",
    ),
    verb::<lifecycle::Kill>("kill", "Kill one or more running containers"),
    verb::<logs::Logs>("logs", "Fetch the logs of a container"),
    verb::<ps::Ps>("ls", "List containers").or(&["ps", "list"]),
    verb::<lifecycle::Pause>("pause", "Pause all processes within one or more containers"),
    verb::<lifecycle::Port>("port", PORT),
    verb::<lifecycle::Prune>("prune", "Remove all stopped containers"),
    verb::<lifecycle::Rename>("rename", "Rename a container"),
    verb::<lifecycle::Restart>("restart", "Restart one or more containers"),
    verb::<lifecycle::Remove>("rm", "Remove one or more containers").or(&["remove"]),
    verb::<run::RunContainer>("run", "Create and run a new container from an image"),
    verb::<start::Start>("start", "Start one or more stopped containers"),
    verb::<stats::Stats>("stats", STATS),
    verb::<lifecycle::Stop>("stop", "Stop one or more running containers"),
    verb::<lifecycle::Top>("top", "Display the running processes of a container"),
    verb::<lifecycle::Unpause>(
        "unpause",
        "Unpause all processes within one or more containers",
    ),
    verb::<update::Update>("update", "Update configuration of one or more containers"),
    verb::<events_wait::Wait>("wait", WAIT),
];

/// The same verbs without the noun.
pub(crate) const TOP_VERBS: &[Verb] = &[
    verb::<run::RunContainer>("run", "Create and run a new container from an image"),
    verb::<exec::Exec>("exec", "Execute a command in a running container"),
    verb::<ps::Ps>("ps", "List containers"),
    verb::<attach::Attach>("attach", ATTACH),
    verb::<changes::Commit>("commit", "Create a new image from a container's changes"),
    verb::<copy::Copy>("cp", COPY),
    verb::<run::Create>("create", "Create a new container"),
    verb::<changes::Diff>("diff", DIFF),
    verb::<changes::Export>("export", EXPORT),
    verb::<lifecycle::Kill>("kill", "Kill one or more running containers"),
    verb::<logs::Logs>("logs", "Fetch the logs of a container"),
    verb::<lifecycle::Pause>("pause", "Pause all processes within one or more containers"),
    verb::<lifecycle::Port>("port", PORT),
    verb::<lifecycle::Rename>("rename", "Rename a container"),
    verb::<lifecycle::Restart>("restart", "Restart one or more containers"),
    verb::<lifecycle::Remove>("rm", "Remove one or more containers"),
    verb::<start::Start>("start", "Start one or more stopped containers"),
    verb::<stats::Stats>("stats", STATS),
    verb::<lifecycle::Stop>("stop", "Stop one or more running containers"),
    verb::<lifecycle::Top>("top", "Display the running processes of a container"),
    verb::<lifecycle::Unpause>(
        "unpause",
        "Unpause all processes within one or more containers",
    ),
    verb::<update::Update>("update", "Update configuration of one or more containers"),
    verb::<events_wait::Wait>("wait", WAIT),
    verb::<inspect::Inspect>(
        "inspect",
        "Return low-level information on objects of the engine",
    ),
    verb::<events_wait::Events>("events", "Get real time events from the engine"),
];

const ATTACH: &str =
    "Attach local standard input, output, and error streams to a running container";
const PORT: &str = "List port mappings or a specific mapping for the container";
const STATS: &str = "Display a live stream of container(s) resource usage statistics";
const WAIT: &str = "Block until one or more containers stop, then print their exit codes";
const COPY: &str = "Copy files/folders between a container and the local filesystem";
const DIFF: &str = "Inspect changes to files or directories on a container's filesystem";
const EXPORT: &str = "Export a container's filesystem as a tar archive";
