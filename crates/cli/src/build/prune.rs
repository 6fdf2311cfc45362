//! `builder prune`.

use clap::Args;
use serde_json::Value;

use crate::container::{api_filters, ask, pruned};
use crate::spec::values::bytes;
use crate::{Context, Failure, Run};

/// `builder prune`.
#[derive(Args, Debug)]
pub(super) struct PruneBuilds {
    /// Remove all unused build cache, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=24h")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Amount of disk space to keep for cache: --reserved-space
    #[arg(long, value_name = "bytes")]
    keep_storage: Option<String>,
    /// Remove those of use longest ago until the cache has no more than this
    #[arg(long, value_name = "bytes")]
    max_used_space: Option<String>,
    /// Remove those of use longest ago until so much is free on the disk
    #[arg(long, value_name = "bytes")]
    min_free_space: Option<String>,
    /// What the cache may have, whatever is free
    #[arg(long, value_name = "bytes")]
    reserved_space: Option<String>,
}

impl Run for PruneBuilds {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let question = if self.all {
            "WARNING! This will remove all build cache.\n"
        } else {
            "WARNING! This will remove all dangling build cache.\n"
        };
        let filters = api_filters(&self.filter)?;
        let size = |flag: &str, text: &Option<String>| -> Result<Option<String>, Failure> {
            let read = text.as_deref().map(|text| bytes(flag, text)).transpose()?;
            Ok(read.map(|bytes| bytes.to_string()))
        };
        let keep = size("--keep-storage", &self.keep_storage)?;
        let reserved = size("--reserved-space", &self.reserved_space)?.or(keep);
        let most = size("--max-used-space", &self.max_used_space)?;
        let free = size("--min-free-space", &self.min_free_space)?;
        if !self.force && !ask(question)? {
            return Ok(0);
        }
        let call = context.client()?.post("/build/prune");
        let call = call
            .query_some("filters", filters)
            .query_flag("all", self.all)
            .query_some("reserved-space", reserved.clone())
            // As engines before 1.48 call it.
            .query_some("keep-storage", reserved)
            .query_some("max-used-space", most)
            .query_some("min-free-space", free);
        let answer: Value = call.send().await?.json().await?;
        pruned(&answer, "CachesDeleted", "Deleted build cache objects:")
    }
}
