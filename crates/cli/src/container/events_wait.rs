//! `wait` and `events`.

use clap::Args;
use hoist_docker::client::CallError;
use hoist_model::Timestamp;
use serde_json::Value;

use super::filters::{api_filters, now, since};
use super::lifecycle::said;
use crate::reference::segment;
use crate::{Context, Failure, Run, output};
use hoist_render::template::Template;

/// `wait`.
#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Wait {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        let mut refusals = Vec::new();
        for name in &self.containers {
            let call = client.post(format!("/containers/{}/wait", segment(name)));
            let answer = async { call.send().await?.json::<Value>().await }.await;
            match answer {
                Ok(answer) => output::line(answer["StatusCode"].to_string())?,
                Err(error @ CallError::Connect { .. }) => return Err(error.into()),
                Err(error) => refusals.push(error.into()),
            }
        }
        Ok(said(context, &refusals))
    }
}

/// `events`.
#[derive(Args, Debug)]
pub(crate) struct Events {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template: 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show all events created since timestamp
    #[arg(long, value_name = "string")]
    since: Option<String>,
    /// Stream events until this timestamp
    #[arg(long, value_name = "string")]
    until: Option<String>,
}

impl Run for Events {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let instant = |text: &Option<String>| text.as_ref().map(|t| since(t, now())).transpose();
        let template = match self.format.as_deref() {
            None | Some("" | "json") => None,
            Some(template) => Some(Template::parse(template)?),
        };
        let call = context.client()?.get("/events");
        let call = call
            .query_some("since", instant(&self.since)?)
            .query_some("until", instant(&self.until)?)
            .query_some("filters", api_filters(&self.filter)?);
        let mut events = call.send().await?.lines();
        while let Some(event) = events.next::<Value>().await? {
            let line = match (&template, &self.format) {
                (Some(template), _) => template.render(&event)?,
                (None, Some(format)) if format == "json" => event.to_string(),
                _ => sentence(&event),
            };
            output::line(line)?;
        }
        Ok(0)
    }
}

/// An event as docker shows it: instant, type, action, id, attributes by name.
fn sentence(event: &Value) -> String {
    let at = event["timeNano"].as_i64().unwrap_or(0);
    let instant = Timestamp::from_nanos(at).to_string();
    let whole = instant.get(..19).unwrap_or(&instant);
    let nanos = at.rem_euclid(1_000_000_000);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attributes = event["Actor"]["Attributes"].as_object();
    let mut attributes: Vec<_> = attributes
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    attributes.sort();
    let about = format!(
        "{whole}.{nanos:09}Z {} {} {}",
        text(&event["Type"]),
        text(&event["Action"]),
        text(&event["Actor"]["ID"])
    );
    if attributes.is_empty() {
        about
    } else {
        format!("{about} ({})", attributes.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_reads_as_docker_writes_it() {
        let event = json!({
            "Type": "container", "Action": "die", "timeNano": 1_732_400_000_120_000_000_i64,
            "Actor": {"ID": "4c01", "Attributes": {"name": "web", "exitCode": "0"}},
        });
        assert_eq!(
            sentence(&event),
            "2024-11-23T22:13:20.120000000Z container die 4c01 (exitCode=0, name=web)"
        );
    }
}
