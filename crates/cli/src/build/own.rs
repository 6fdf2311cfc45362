//! Builds by our own engine's operation, `POST /hoist/build`: contexts first, each sent only if it is not there in its state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hoist_docker::client::{CallError, Client};
use hoist_model::build::Report;
use hoist_render::human;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::directory::{self, Directory};
use super::follow::{Following, Outcome};
use super::inputs::{self, Inputs, Source};
use super::outputs::Outputs;
use super::{Build, classic, values};
use crate::spec::values::{bytes, extra_hosts, ulimit};
use crate::{Context, Failure, output, registry, transfer};

/// What a context is called in what is shown.
const SENDING: &str = "[internal] load build context";

/// Builds, showing what goes on.
pub(super) async fn build(
    context: &Context,
    flags: &Build,
    mut inputs: Inputs,
) -> Result<u8, Failure> {
    let client = context.client()?;
    let outputs = Outputs::read(&flags.output, flags.push, flags.load)?;
    let sinks = outputs.open()?;
    let mut body = body(flags)?;
    body.insert("Outputs".to_owned(), outputs.asked.into());
    let (images, mut named) = inputs::named(&flags.build_context)?;
    body.insert("Images".to_owned(), images.into());
    let logins = registry::all_logins(context)?;
    if let Some(text) = &inputs.dockerfile {
        body.insert("Dockerfile".to_owned(), text.as_str().into());
    }
    let name = inputs.inside.as_ref().or(inputs.name.as_ref());
    if let Some(name) = name {
        body.insert("DockerfileName".to_owned(), name.as_str().into());
    }
    let mut following = Following::new(flags.progress()?);
    // A context may be let go of between its coming and its use: by a prune, or by a build of the same place in another state.
    let mut left = 3;
    loop {
        left -= 1;
        let placed = place(client, &mut inputs.main, &mut following).await;
        let main = match placed {
            Err(Placing::NotOurs) => {
                return classic::build(context, flags, inputs).await;
            }
            Err(Placing::Failed(failure)) => return Err(failure),
            Ok(main) => main,
        };
        let mut contexts = Map::new();
        contexts.extend(main.map(|main| (String::new(), main)));
        for (name, source) in &mut named {
            match place(client, source, &mut following).await {
                Err(Placing::NotOurs) => return Err(Failure::new("the engine knows no contexts")),
                Err(Placing::Failed(failure)) => return Err(failure),
                Ok(placed) => contexts.extend(placed.map(|placed| (name.clone(), placed))),
            }
        }
        body.insert("Contexts".to_owned(), contexts.into());
        let call = client
            .post("/hoist/build")
            .header("X-Registry-Config", logins.as_str())
            .json(&Value::Object(body.clone()));
        match call.send().await {
            Err(CallError::Refused { status, message })
                if status == StatusCode::NOT_FOUND && message == "page not found" =>
            {
                return classic::build(context, flags, inputs).await;
            }
            Err(CallError::Refused { status, .. })
                if status == StatusCode::NOT_FOUND && left > 0 =>
            {
                continue;
            }
            Err(error) => return Err(error.into()),
            Ok(reply) => {
                return match following.follow(reply, sinks).await? {
                    Outcome::Image(built) => {
                        flags.note_image(&built.id)?;
                        flags.note_metadata(&built)?;
                        if flags.is_quiet() {
                            output::line(&built.id)?;
                        }
                        Ok(0)
                    }
                    Outcome::Answer(text, code) => {
                        output::text(text)?;
                        if flags.question()? == Some("lint") && code == 0 {
                            output::line("Check complete, no warnings found.")?;
                        }
                        Ok(code)
                    }
                    Outcome::Plan(text) => {
                        output::text(text)?;
                        Ok(0)
                    }
                };
            }
        }
    }
}

/// Everything but Dockerfile and contexts.
fn body(flags: &Build) -> Result<Map<String, Value>, Failure> {
    let limits = flags.ulimit.iter().map(|text| ulimit(text));
    let limits = limits.collect::<Result<Vec<_>, _>>()?;
    let size = |flag, text: &Option<String>| {
        let read = text.as_deref().map(|text| bytes(flag, text));
        read.transpose().map(Option::unwrap_or_default)
    };
    let body = json!({
        "Target": flags.target,
        "Arguments": values::arguments(&flags.build_arg),
        "Labels": values::labels(&flags.label),
        "Platform": flags.platform,
        "Network": flags.network.clone().unwrap_or_default(),
        "NoCache": flags.no_cache,
        "NoCacheStages": flags.no_cache_filter,
        "CacheFrom": values::caches(&flags.cache_from)?,
        "CacheTo": values::caches(&flags.cache_to)?,
        "Question": flags.question()?,
        "Pull": flags.pull,
        "Tags": flags.tag,
        "ExtraHosts": extra_hosts(&flags.add_host)?,
        "Ulimits": limits,
        "ShmSize": size("--shm-size", &flags.shm_size)?,
        "Memory": size("--memory", &flags.memory)?,
        "MemorySwap": size("--memory-swap", &flags.memory_swap)?,
        "CpuShares": flags.cpu_shares.unwrap_or_default(),
        "CpuPeriod": flags.cpu_period.unwrap_or_default(),
        "CpuQuota": flags.cpu_quota.unwrap_or_default(),
        "CpusetCpus": flags.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": flags.cpuset_mems.clone().unwrap_or_default(),
        "CgroupParent": flags.cgroup_parent.clone().unwrap_or_default(),
        "Secrets": values::secrets(&flags.secret)?,
        "PlanOnly": flags.plan,
    });
    match body {
        Value::Object(body) => Ok(body),
        _ => unreachable!("it is written as an object"),
    }
}

/// Why a context could not be put where the engine has it.
enum Placing {
    /// The engine does not know how: it is not ours.
    NotOurs,
    Failed(Failure),
}

impl From<Failure> for Placing {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Sees to it that the engine has the context; answers how it is named. An archive can be sent once.
async fn place(
    client: &Client,
    source: &mut Source,
    following: &mut Following,
) -> Result<Option<Value>, Placing> {
    match source {
        Source::Nothing => Ok(None),
        Source::Address(address) => Ok(Some(json!({ "Remote": address }))),
        Source::Directory(directory) => {
            let place = directory.path().display().to_string();
            let (name, is_kept) = match &directory.key {
                Some(key) => (Name::of(&directory.slot, key), true),
                None => (Name::once(), false),
            };
            if is_kept && has(client, &name).await? {
                return Ok(Some(name.value(true)));
            }
            let (bytes, files) = (directory.bytes, directory.files());
            let count = Arc::new(AtomicU64::new(0));
            let packed = directory.clone();
            let (body, thread) =
                transfer::written(count.clone(), move |out| packed.archive(&[], out))
                    .map_err(Failure::from)?;
            let sent = put(client, &name, &place, body);
            let sent = following.beside(SENDING, &count, sent).await;
            if sent.is_err()
                && let Ok(Err(message)) = thread.join()
            {
                return Err(Failure::new(message).into());
            }
            sent?;
            let size = human::size(bytes, 3);
            following.end(SENDING, &format!("transferred {files} files, {size}"));
            Ok(Some(name.value(is_kept)))
        }
        Source::Archive(archive) => {
            let archive = std::mem::replace(archive, Box::new(std::io::empty()));
            let name = Name::once();
            let count = Arc::new(AtomicU64::new(0));
            let counted = transfer::Counted(archive, count.clone());
            let body = transfer::streamed(Box::new(counted));
            let sent = put(client, &name, "of standard input", body);
            following.beside(SENDING, &count, sent).await?;
            let size = human::size(count.load(Ordering::Relaxed), 3);
            following.end(SENDING, &format!("transferred {size}"));
            Ok(Some(name.value(false)))
        }
    }
}

/// What a context is known by.
struct Name {
    slot: String,
    key: String,
}

impl Name {
    fn of(slot: &str, key: &str) -> Self {
        Self {
            slot: slot.to_owned(),
            key: key.to_owned(),
        }
    }

    /// Of one that is never asked for again.
    fn once() -> Self {
        let (slot, key) = (directory::random(), directory::random());
        Self { slot, key }
    }

    /// As the request says it. One that is not kept is forgotten with its use.
    fn value(&self, is_kept: bool) -> Value {
        json!({ "Kept": { "Slot": self.slot, "Key": self.key, "Once": !is_kept } })
    }

    fn path(&self) -> String {
        format!("/hoist/build/contexts/{}", self.slot)
    }
}

async fn has(client: &Client, name: &Name) -> Result<bool, Placing> {
    let call = client.head(name.path()).query("key", name.key.as_str());
    match call.send().await {
        Ok(reply) => {
            reply.done().await.map_err(Failure::from)?;
            Ok(true)
        }
        Err(CallError::Refused { status, .. }) if status == StatusCode::NOT_FOUND => Ok(false),
        Err(error) => Err(Failure::from(error).into()),
    }
}

async fn put(
    client: &Client,
    name: &Name,
    about: &str,
    body: hoist_http::client::RequestBody,
) -> Result<(), Placing> {
    let call = client
        .put(name.path())
        .query("key", name.key.as_str())
        .query("about", about);
    match call.send_stream("application/x-tar", body).await {
        Ok(reply) => Ok(reply.done().await.map_err(Failure::from)?),
        Err(CallError::Refused { status, message })
            if status == StatusCode::NOT_FOUND && message == "page not found" =>
        {
            Err(Placing::NotOurs)
        }
        Err(error) => Err(Failure::from(error).into()),
    }
}

impl Directory {
    /// How many names it has.
    fn files(&self) -> usize {
        self.paths.len()
    }
}

/// What is said of a context on its way.
pub(super) fn moving(at: f64, name: &str, bytes: u64) -> Report {
    Report::Beside {
        at,
        name: name.to_owned(),
        text: format!("transferring: {}", human::size(bytes, 3)),
        done: false,
    }
}
