//! `GET /system/df`.

use serde_json::{Map, Value, json};

use crate::call::{Call, ok};
use crate::error::{ApiError, Reply};
use crate::handlers::{containers, images, volumes};

/// What is asked for: all, or the types named.
struct Wanted {
    containers: bool,
    images: bool,
    volumes: bool,
    build_cache: bool,
}

fn wanted(call: &Call) -> Result<Wanted, ApiError> {
    let types: Vec<&str> = call.query.all("type").collect();
    for name in &types {
        if !matches!(*name, "container" | "image" | "volume" | "build-cache") {
            return Err(ApiError::invalid(format!("unknown object type: {name}")));
        }
    }
    let has = |name: &str| types.is_empty() || types.contains(&name);
    Ok(Wanted {
        containers: has("container"),
        images: has("image"),
        volumes: has("volume"),
        build_cache: has("build-cache"),
    })
}

/// Objects of one kind, counted.
struct Counted {
    items: Vec<Value>,
    active: usize,
    size: u64,
    reclaimable: u64,
}

impl Counted {
    /// Of objects that each have their size: what those not in use occupy can be reclaimed.
    fn of(
        items: Vec<Value>,
        size: impl Fn(&Value) -> u64,
        is_active: impl Fn(&Value) -> bool,
    ) -> Self {
        let idle = items.iter().filter(|item| !is_active(item));
        Self {
            active: items.iter().filter(|item| is_active(item)).count(),
            size: items.iter().map(&size).sum(),
            reclaimable: idle.map(&size).sum(),
            items,
        }
    }

    fn json(&self, verbose: bool) -> Value {
        let mut object = json!({
            "ActiveCount": self.active,
            "TotalCount": self.items.len(),
            "TotalSize": self.size,
            "Reclaimable": self.reclaimable,
        });
        if verbose && !self.items.is_empty() {
            object["Items"] = Value::Array(self.items.clone());
        }
        object
    }
}

/// The handler. From API 1.52 on sums, and objects only on request; up to 1.52 lists of objects.
pub(crate) async fn usage(call: Call) -> Reply {
    let wanted = wanted(&call)?;
    let (sums, lists) = (call.version.at_least(52), !call.version.at_least(53));
    let verbose = call.query.boolean("verbose");
    let mut reply = Map::new();
    let mut put = |name: &str, value: Value| reply.insert(name.to_owned(), value);
    if wanted.images {
        let usage = call.engine().images.disk_usage().await?;
        let items = images::summaries(&call, &usage)?;
        let active = |item: &&Value| item["Containers"].as_i64().is_some_and(|n| n > 0);
        let counted = Counted {
            active: items.iter().filter(active).count(),
            items,
            size: usage.layers,
            reclaimable: usage.reclaimable,
        };
        if sums {
            put("ImageUsage", counted.json(verbose));
        }
        if lists {
            put("LayersSize", counted.size.into());
            put("Images", Value::Array(counted.items));
        }
    }
    if wanted.containers {
        let items = {
            let ids = containers::NetworkIds::of(&call);
            let engine = call.engine().clone();
            containers::with_sizes(&engine, &ids, call.version).await?
        };
        let counted = Counted::of(
            items,
            |item| item["SizeRw"].as_u64().unwrap_or(0),
            |item| {
                let state = item["State"].as_str();
                matches!(state, Some("running" | "paused" | "restarting"))
            },
        );
        if sums {
            put("ContainerUsage", counted.json(verbose));
        }
        if lists {
            put("Containers", Value::Array(counted.items));
        }
    }
    if wanted.volumes {
        let items = volumes::with_usage(&call.engine().volumes.clone()).await?;
        let counted = Counted::of(
            items,
            |item| item["UsageData"]["Size"].as_u64().unwrap_or(0),
            |item| item["UsageData"]["RefCount"].as_u64() > Some(0),
        );
        if sums {
            put("VolumeUsage", counted.json(verbose));
        }
        if lists {
            put("Volumes", Value::Array(counted.items));
        }
    }
    if wanted.build_cache {
        let images = call.engine().images.clone();
        let items = super::build_cache::list(call.builder().cached(), images).await?;
        let counted = Counted::of(
            items,
            |item| item["Size"].as_u64().unwrap_or(0),
            |item| item["InUse"].as_bool() == Some(true),
        );
        if sums {
            put("BuildCacheUsage", counted.json(verbose));
        }
        if lists {
            put("BuilderSize", counted.size.into());
            put("BuildCache", Value::Array(counted.items));
        }
    }
    ok(&reply)
}
