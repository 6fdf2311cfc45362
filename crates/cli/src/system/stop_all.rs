//! `system stop-all`: what the unit that runs before a shutdown calls.

use clap::Args;
use serde_json::Value;

use crate::{Context, Failure, Run, output};

/// `system stop-all`.
#[derive(Args, Debug)]
pub(super) struct StopAll {}

impl Run for StopAll {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        // Where no engine runs there is none to be started only to stop what it starts.
        let client = context.client_as_is()?;
        let reply = client.post("/hoist/stop-all").send().await?;
        let told: Value = reply.json().await?;
        let stopped = told["Stopped"].as_array().cloned().unwrap_or_default();
        let mut failed = 0;
        for one in &stopped {
            let name = one["Name"].as_str().unwrap_or_default();
            match (one["ExitCode"].as_i64(), one["Error"].as_str()) {
                (Some(code), _) => output::line(format!("{name}: stopped, exit code {code}"))?,
                (None, error) => {
                    failed += 1;
                    output::warn(format!("{name}: {}", error.unwrap_or("not stopped")));
                }
            }
        }
        Ok(u8::from(failed > 0))
    }
}
