//! `update`: new limits for containers that are there.

use clap::Args;
use serde_json::{Map, Value};

use super::each;
use crate::context::Context;
use crate::failure::Failure;
use crate::reference::segment;
use crate::spec::values as limits;
use crate::{Run, output};

/// `update`.
#[derive(Args, Debug)]
pub(crate) struct Update {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<i64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<i64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<i64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal")]
    cpus: Option<String>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes")]
    memory: Option<String>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes")]
    memory_reservation: Option<String>,
    /// Swap limit equal to memory plus swap: -1 to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<String>,
    /// Containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Update {
    /// Only what was asked for: the engine leaves the rest as it is.
    fn body(&self) -> Result<Value, Failure> {
        let mut body = Map::new();
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        set("BlkioWeight", self.blkio_weight.map(Value::from));
        for (name, number) in [
            ("CpuPeriod", self.cpu_period),
            ("CpuQuota", self.cpu_quota),
            ("CpuRealtimePeriod", self.cpu_rt_period),
            ("CpuRealtimeRuntime", self.cpu_rt_runtime),
            ("CpuShares", self.cpu_shares),
            ("PidsLimit", self.pids_limit),
        ] {
            set(name, number.map(Value::from));
        }
        for (name, flag, text) in [
            ("Memory", "--memory", &self.memory),
            (
                "MemoryReservation",
                "--memory-reservation",
                &self.memory_reservation,
            ),
            ("MemorySwap", "--memory-swap", &self.memory_swap),
        ] {
            let number = text.as_ref().map(|text| limits::bytes(flag, text));
            set(name, number.transpose()?.map(Value::from));
        }
        let cpus = self.cpus.as_ref().map(|text| limits::nano_cpus(text));
        set("NanoCpus", cpus.transpose()?.map(Value::from));
        set("CpusetCpus", self.cpuset_cpus.clone().map(Value::from));
        set("CpusetMems", self.cpuset_mems.clone().map(Value::from));
        let policy = self
            .restart
            .as_ref()
            .map(|text| limits::restart_policy(text));
        set("RestartPolicy", policy.transpose()?);
        Ok(body.into())
    }
}

impl Run for Update {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let (client, body) = (context.client()?, self.body()?);
        if body.as_object().is_some_and(Map::is_empty) {
            return Err(Failure::new(
                "you must provide one or more flags when using this command",
            ));
        }
        each(context, &self.containers, async |name| {
            let call = client.post(format!("/containers/{}/update", segment(name)));
            let answer: Value = call.json(&body).send().await?.json().await?;
            for warning in answer["Warnings"].as_array().into_iter().flatten() {
                output::warn(warning.as_str().unwrap_or_default());
            }
            Ok(())
        })
        .await
    }
}
