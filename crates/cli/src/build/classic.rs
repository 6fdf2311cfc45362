//! Builds by Docker's classic endpoint, `POST /build`, in its words: what `DOCKER_BUILDKIT=0` asks for, and what an engine that is not
//! ours understands.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hoist_render::human;
use serde_json::Value;

use super::inputs::{IGNORE_FILE, Inputs, Source};
use super::{Build, values};
use crate::spec::values::{bytes, extra_hosts, ulimit};
use crate::{Context, Failure, output, registry, transfer};

/// The Dockerfile's name in the archive where it is not in the context.
const OUTSIDE: &str = ".dockerfile.hoist";

/// Builds, and prints what the engine says.
pub(super) async fn build(context: &Context, flags: &Build, inputs: Inputs) -> Result<u8, Failure> {
    flags.refuse_in_classic()?;
    let quiet = flags.is_quiet();
    let mut call = context.client()?.post("/build");
    for tag in &flags.tag {
        call = call.query("t", tag.as_str());
    }
    let json = |map: serde_json::Map<String, Value>| Value::Object(map).to_string();
    let limits = flags.ulimit.iter().map(|text| ulimit(text));
    let limits = limits.collect::<Result<Vec<_>, _>>()?;
    let number = |value: Option<i64>| value.map(|value| value.to_string());
    let size = |flag, text: &Option<String>| {
        let read = text.as_deref().map(|text| bytes(flag, text));
        Ok::<_, Failure>(read.transpose()?.map(|bytes| bytes.to_string()))
    };
    call = call
        .query("buildargs", json(values::arguments(&flags.build_arg)))
        .query("labels", json(values::labels(&flags.label)))
        .query("ulimits", Value::from(limits).to_string())
        .query_some("target", flags.target.as_deref())
        .query_some("networkmode", flags.network.as_deref())
        .query_some("platform", flags.platform.as_deref())
        .query_some("cgroupparent", flags.cgroup_parent.as_deref())
        .query_some("cpuperiod", number(flags.cpu_period))
        .query_some("cpuquota", number(flags.cpu_quota))
        .query_some("cpushares", number(flags.cpu_shares))
        .query_some("cpusetcpus", flags.cpuset_cpus.as_deref())
        .query_some("cpusetmems", flags.cpuset_mems.as_deref())
        .query_some("memory", size("--memory", &flags.memory)?)
        .query_some("memswap", size("--memory-swap", &flags.memory_swap)?)
        .query_some("shmsize", size("--shm-size", &flags.shm_size)?)
        .query_flag("nocache", flags.no_cache)
        .query_flag("pull", flags.pull)
        .query_flag("q", quiet)
        .query_flag("squash", flags.squash)
        .query("rm", "1")
        .header("X-Registry-Config", registry::all_logins(context)?);
    for host in extra_hosts(&flags.add_host)? {
        call = call.query("extrahosts", host);
    }
    let name = match (&inputs.main, &inputs.inside) {
        (Source::Directory(_) | Source::Nothing, inside) => {
            let inside = inside.clone();
            Some(inside.unwrap_or_else(|| OUTSIDE.to_owned()))
        }
        _ => inputs.name.clone(),
    };
    call = call.query_some("dockerfile", name);
    let count = Arc::default();
    let (body, packing) = match inputs.main {
        Source::Address(address) => {
            let reply = call.query("remote", address).send().await?;
            return follow(reply, flags, quiet).await;
        }
        Source::Archive(archive) => (transfer::streamed(archive), None),
        Source::Directory(mut directory) => {
            let mut others = inputs.ignored;
            if inputs.inside.is_none() {
                others.push((OUTSIDE.to_owned(), inputs.dockerfile.unwrap_or_default()));
                // The engine leaves out the file that it was sent for itself, if an ignore file says so: as Docker's client, in the
                // place of the context's own, which the engine needs for nothing else.
                others.retain(|(name, _)| name != IGNORE_FILE);
                others.push((
                    IGNORE_FILE.to_owned(),
                    format!("{IGNORE_FILE}\n{OUTSIDE}\n"),
                ));
                directory
                    .paths
                    .retain(|path| path != IGNORE_FILE.as_bytes());
            }
            let (body, thread) = transfer::written(Arc::clone(&count), move |out| {
                let others: Vec<(&str, &[u8])> = others
                    .iter()
                    .map(|(name, text)| (name.as_str(), text.as_bytes()))
                    .collect();
                directory.archive(&others, out)
            })?;
            (body, Some(thread))
        }
        Source::Nothing => {
            let text = inputs.dockerfile.unwrap_or_default();
            let (body, thread) = transfer::written(Arc::clone(&count), move |out| {
                super::directory::archive_of(&[(OUTSIDE, text.as_bytes())], out)
            })?;
            (body, Some(thread))
        }
    };
    let sent = call.send_stream("application/x-tar", body).await;
    if let Some(packing) = packing
        && let Ok(Err(message)) = packing.join()
        && sent.is_err()
    {
        return Err(Failure::new(message));
    }
    if !quiet {
        let size = human::size(count.load(Ordering::Relaxed), 4);
        output::line(format!("Sending build context to Docker daemon  {size}"))?;
    }
    follow(sent?, flags, quiet).await
}

async fn follow(
    reply: hoist_docker::client::Reply,
    flags: &Build,
    quiet: bool,
) -> Result<u8, Failure> {
    let mut lines = reply.lines();
    let mut said = String::new();
    while let Some(line) = lines.next::<Value>().await? {
        if let Some(message) = line.pointer("/errorDetail/message").and_then(Value::as_str) {
            let code = line.pointer("/errorDetail/code").and_then(Value::as_u64);
            let code = code.and_then(|code| u8::try_from(code).ok());
            return Err(Failure::with_code(
                code.filter(|code| *code != 0).unwrap_or(1),
                message,
            ));
        }
        if let Some(id) = line.pointer("/aux/ID").and_then(Value::as_str) {
            flags.note_image(id)?;
        }
        if let Some(text) = line["stream"].as_str() {
            if quiet {
                said += text;
            } else {
                output::text(text)?;
            }
        }
    }
    if quiet {
        flags.note_image(said.trim())?;
        output::text(&said)?;
    }
    Ok(0)
}
