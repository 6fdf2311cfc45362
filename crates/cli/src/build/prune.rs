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
    /// Amount of disk space to keep for cache
    #[arg(long, value_name = "bytes")]
    keep_storage: Option<String>,
}

impl Run for PruneBuilds {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let question = if self.all {
            "WARNING! This will remove all build cache.\n"
        } else {
            "WARNING! This will remove all dangling build cache.\n"
        };
        let filters = api_filters(&self.filter)?;
        let keep = self.keep_storage.as_deref();
        let keep = keep.map(|text| bytes("--keep-storage", text)).transpose()?;
        if !self.force && !ask(question)? {
            return Ok(0);
        }
        let call = context.client()?.post("/build/prune");
        let call = call
            .query_some("filters", filters)
            .query_flag("all", self.all)
            .query_some("keep-storage", keep.map(|bytes| bytes.to_string()));
        let answer: Value = call.send().await?.json().await?;
        pruned(&answer, "CachesDeleted", "Deleted build cache objects:")
    }
}
