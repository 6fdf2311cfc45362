//! `POST /build` (API 1.55 `ImageBuild`): the classic builder's endpoint, by which the stock client builds without buildx. The stream is
//! the classic builder's; the Dockerfile may be of today.

mod context;
mod named;
mod outputs;
mod own;
mod perform;
mod pipe;
mod remote;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use hoist_build::plan::{MAIN_CONTEXT, PlanOptions};
use hoist_build::ports::Surroundings;
use hoist_build::{BuildRequest, EventFn, LegacyLine, LegacyLines, Secrets};
use hoist_engine::ports::Credentials;
use hoist_model::container::{Resources, Ulimit};
use hoist_model::{Digest, ErrorClass, ImageReference, Platform, chain};
use http::StatusCode;
use serde::Deserialize;

use self::perform::{Job, NoImage};
use self::pipe::{Sayer, pipe};
use super::body_reader;
use crate::call::{Call, with_type};
use crate::error::{ApiError, Reply};
use crate::query::Query;
use crate::wire::credentials;
use crate::wire::progress::Line;

pub(crate) use own::{build as build_own, has_context, put_context};

/// `POST /build`.
pub(crate) async fn build(call: Call) -> Reply {
    refuse_missing(&call.query)?;
    let request = request(&call)?;
    let logins = logins(call.header("x-registry-config"))?;
    let dockerfile = call.query.nonempty("dockerfile").map(str::to_owned);
    let remote = call.query.nonempty("remote").map(str::to_owned);
    let (pull, quiet) = (call.query.boolean("pull"), call.query.boolean("q"));
    let images = call.engine().images.clone();
    let builder = call.builder().clone();
    let (reader, pump) = body_reader::bridge(call.body);
    let intake = images.intake().await;
    let (_, snapshotter) = images.stores();
    let remote = match &remote {
        Some(address) => Some(remote::fetch(&builder, snapshotter.clone(), address).await?),
        None => None,
    };
    let read = tokio::task::spawn_blocking(move || {
        let (mut layers, text) = match remote {
            Some(remote) => (remote.layers, remote.dockerfile),
            None => (vec![context::keep(reader, snapshotter.as_ref())?], None),
        };
        let text = match text {
            Some(text) => text,
            None => context::dockerfile(&layers, dockerfile.as_deref(), snapshotter.as_ref())?,
        };
        context::hide_ignored(&mut layers, dockerfile.as_deref(), snapshotter.as_ref())?;
        Ok::<_, ApiError>((layers, text))
    });
    let read = body_reader::feed(read, pump).await;
    let (context, dockerfile) =
        read.map_err(|error| ApiError::new(ErrorClass::Internal, error.to_string()))??;
    let request = BuildRequest {
        dockerfile: dockerfile.clone(),
        contexts: BTreeMap::from([(MAIN_CONTEXT.to_owned(), context)]),
        pull,
        ..request
    };
    let tags = request.tags.clone();
    let (sayer, mut listener) = pipe();
    let job = Job {
        images,
        builder,
        intake,
        logins,
        request,
        events: events(quiet, sayer),
    };
    let mut work = Box::pin(job.perform());
    // A failure before the first line is a status of its own.
    let first = tokio::select! {
        biased;
        line = listener.next() => line.into_iter().collect(),
        result = &mut work => {
            let mut said = listener.rest();
            match result {
                Err(failed) if said.is_empty() => return Err(failure(&failed, &dockerfile).0),
                result => said.extend(ending(result, &dockerfile, &tags, quiet)),
            }
            let body = Body::from(said.concat());
            return Ok(with_type("application/json", StatusCode::OK, body));
        }
    };
    let work = async move { ending(work.await, &dockerfile, &tags, quiet) };
    let body = listener.body(first, Box::pin(work));
    Ok(with_type("application/json", StatusCode::OK, body))
}

/// What is asked for that there is not.
fn refuse_missing(query: &Query) -> Result<(), ApiError> {
    for (name, what) in [("squash", "squashing layers"), ("outputs", "build outputs")] {
        let asked = match name {
            "squash" => query.boolean(name),
            _ => query
                .nonempty(name)
                .is_some_and(|text| !matches!(text, "[]" | "null")),
        };
        if asked {
            return Err(ApiError::missing(format!("{what} is not implemented yet")));
        }
    }
    Ok(())
}

fn request(call: &Call) -> Result<BuildRequest, ApiError> {
    let query = &call.query;
    let platform = query.nonempty("platform").map(str::parse::<Platform>);
    let platform = platform
        .transpose()
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let mut tags = Vec::new();
    for text in query.all("t").filter(|text| !text.is_empty()) {
        let reference = ImageReference::parse(text);
        tags.push(reference.map_err(|error| ApiError::invalid(error.to_string()))?);
    }
    let arguments: BTreeMap<String, Option<String>> = json(query, "buildargs")?;
    let network = crate::wire::build::network(query.get("networkmode").unwrap_or_default());
    let number = |name| Ok::<_, ApiError>(query.number(name)?.unwrap_or(0));
    let ulimits: Vec<WireUlimit> = json(query, "ulimits")?;
    let resources = Resources {
        memory: number("memory")?,
        memory_swap: number("memswap")?,
        cpu_shares: number("cpushares")?,
        cpu_period: number("cpuperiod")?,
        cpu_quota: number("cpuquota")?,
        cpuset_cpus: query.get("cpusetcpus").unwrap_or_default().to_owned(),
        cpuset_mems: query.get("cpusetmems").unwrap_or_default().to_owned(),
        ulimits: ulimits.into_iter().map(Into::into).collect(),
        ..Resources::default()
    };
    Ok(BuildRequest {
        options: PlanOptions {
            target: query.nonempty("target").map(str::to_owned),
            arguments,
            labels: json(query, "labels")?,
            platform: platform.unwrap_or_else(Platform::host),
            network,
            ..PlanOptions::default()
        },
        no_cache: query.boolean("nocache"),
        tags,
        surroundings: Surroundings {
            extra_hosts: extra_hosts(query),
            shm_size: number("shmsize")?,
            resources,
            cgroup_parent: query.get("cgroupparent").unwrap_or_default().to_owned(),
        },
        secrets: Secrets::default(),
        ..BuildRequest::default()
    })
}

/// `name:address`, once for each, or all of them with commas between.
fn extra_hosts(query: &Query) -> Vec<String> {
    let given = query.all("extrahosts").flat_map(|text| text.split(','));
    let given = given.filter(|text| !text.is_empty());
    given.map(str::to_owned).collect()
}

/// A parameter that is JSON; absent, empty and `null` are the default.
fn json<T: for<'d> Deserialize<'d> + Default>(query: &Query, name: &str) -> Result<T, ApiError> {
    match query.nonempty(name) {
        None => Ok(T::default()),
        Some(text) => serde_json::from_str::<Option<T>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|error| ApiError::invalid(format!("invalid {name}: {error}"))),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireUlimit {
    name: String,
    soft: i64,
    hard: i64,
}

impl From<WireUlimit> for Ulimit {
    fn from(wire: WireUlimit) -> Self {
        Self {
            name: wire.name,
            soft: wire.soft,
            hard: wire.hard,
        }
    }
}

/// `X-Registry-Config`: what to log in with, by registry.
fn logins(header: Option<&str>) -> Result<HashMap<String, Credentials>, ApiError> {
    let given = header.filter(|text| !text.trim().is_empty());
    credentials::by_registry(given)
        .ok_or_else(|| ApiError::invalid("invalid X-Registry-Config header"))
}

/// Makes lines of a build's events.
fn events(quiet: bool, sayer: Sayer) -> EventFn {
    // Held for one event: events come from the tasks of all steps.
    let legacy = Mutex::new((LegacyLines::default(), false));
    Arc::new(move |event| {
        let mut legacy = legacy.lock().unwrap_or_else(PoisonError::into_inner);
        let (legacy, clipped) = &mut *legacy;
        for line in legacy.on(event) {
            let (LegacyLine::Text(text) | LegacyLine::Error(text)) = line;
            if quiet {
                continue;
            }
            if sayer.say_output(Line::stream(text).to_bytes()) {
                *clipped = false;
            } else if !std::mem::replace(clipped, true) {
                let said = "[output clipped: it is not read fast enough]\n";
                sayer.say(Line::stream(said).to_bytes());
            }
        }
    })
}

/// An error with the lines of the Dockerfile that are to blame, and the code of the program that failed.
fn failure(failed: &NoImage, dockerfile: &str) -> (ApiError, Option<i32>) {
    match failed {
        NoImage::Build(error) => {
            let mut message = chain(error);
            if let Some(lines) = error.lines() {
                let excerpt = hoist_build::dockerfile::excerpt(dockerfile, lines);
                message = format!("{message}\n{}", excerpt.trim_end());
            }
            (ApiError::new(error.class(), message), error.exit_code())
        }
        NoImage::Engine(error) => (ApiError::new(error.class(), chain(error)), None),
        NoImage::Port(error) => (ApiError::new(error.class, error.message.clone()), None),
    }
}

/// The last lines.
fn ending(
    result: Result<Digest, NoImage>,
    dockerfile: &str,
    tags: &[ImageReference],
    quiet: bool,
) -> Vec<bytes::Bytes> {
    let lines = match result {
        Err(failed) => {
            let (error, code) = failure(&failed, dockerfile);
            vec![Line::failure_with_code(&error.message, code)]
        }
        Ok(id) if quiet => vec![Line::stream(format!("{id}\n"))],
        Ok(id) => {
            let short: String = id.hex().chars().take(12).collect();
            let mut lines = vec![
                Line::built(id),
                Line::stream(format!("Successfully built {short}\n")),
            ];
            lines.extend(
                tags.iter()
                    .map(|tag| Line::stream(format!("Successfully tagged {}\n", tag.familiar()))),
            );
            lines
        }
    };
    lines.iter().map(Line::to_bytes).collect()
}
