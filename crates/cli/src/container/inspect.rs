//! `inspect`, of any object or of one kind.

use std::io::Write;

use clap::Args;
use hoist_docker::client::Client;
use serde::Serialize;
use serde_json::Value;

use crate::reference::segment;
use crate::{Context, Failure, Run, output};
use hoist_render::template::{Template, go_json};

/// Where an object of a kind is read, `{}` standing for its name, in the order in which kinds are tried.
const KINDS: [(&str, &str); 4] = [
    ("container", "/containers/{}/json"),
    ("image", "/images/{}/json"),
    ("network", "/networks/{}"),
    ("volume", "/volumes/{}"),
];

/// `inspect`.
#[derive(Args, Debug)]
pub(crate) struct Inspect {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,
    /// Only inspect objects of the given type
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
    /// Names or ids
    #[arg(value_name = "NAME|ID", required = true)]
    names: Vec<String>,
}

impl Run for Inspect {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        const ABSENT: [&str; 6] = ["config", "node", "plugin", "secret", "service", "task"];
        let kind = self.kind.as_deref().unwrap_or_default();
        if ABSENT.contains(&kind) {
            return Err(Failure::new(format!(
                "this engine has no objects of the type {kind:?}"
            )));
        }
        if !kind.is_empty() && !KINDS.iter().any(|(of, _)| *of == kind) {
            return Err(Failure::new(format!(
                "unknown type: {kind:?}: must be one of \"config\", \"container\", \"image\", \"network\", \"node\", \"plugin\", \"secret\", \"service\", \"task\", \"volume\""
            )));
        }
        let format = self.format.as_deref();
        let details = Details {
            size: self.size,
            platform: None,
        };
        print_objects(context, self.kind.as_deref(), &self.names, details, format).await
    }
}

/// `container inspect`.
#[derive(Args, Debug)]
pub(crate) struct InspectContainer {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    names: Vec<String>,
}

impl Run for InspectContainer {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let format = self.format.as_deref();
        let details = Details {
            size: self.size,
            platform: None,
        };
        print_objects(context, Some("container"), &self.names, details, format).await
    }
}

/// What is asked of objects besides what they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Details {
    /// Whether a container's sizes are wanted.
    pub(crate) size: bool,
    /// The platform that an image is to be of, as JSON.
    pub(crate) platform: Option<String>,
}

async fn find(
    client: &Client,
    kind: Option<&str>,
    name: &str,
    details: &Details,
) -> Result<Value, Failure> {
    for (of, path) in KINDS {
        if kind.is_some_and(|kind| kind != of) {
            continue;
        }
        let call = client.get(path.replace("{}", &segment(name)));
        let call = call.query_flag("size", details.size && of == "container");
        let platform = details.platform.as_deref().filter(|_| of == "image");
        let call = call.query_some("platform", platform);
        match call.send().await {
            Ok(reply) => return Ok(reply.json().await?),
            // Another kind may have that name, and a name of one kind may be malformed for another.
            Err(error)
                if kind.is_none() && error.status().is_some_and(|s| s == 404 || s == 400) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(format!("No such object: {name}")))
}

/// Prints objects as a list with four blanks of indentation, or through a template. What was found is
/// printed even if another was not.
pub(crate) async fn print_objects(
    context: &Context,
    kind: Option<&str>,
    names: &[String],
    details: Details,
    format: Option<&str>,
) -> Result<u8, Failure> {
    let template = match format {
        None | Some("" | "json") => None,
        Some(template) => {
            let parsed = Template::parse(&template.replace("\\n", "\n").replace("\\t", "\t"));
            Some(parsed.map_err(|error| Failure::with_code(64, error.to_string()))?)
        }
    };
    let client = context.client()?;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in names {
        match find(client, kind, name, &details).await {
            Ok(object) => found.push(object),
            Err(failure) => failures.push(failure),
        }
    }
    match (template, format) {
        // As docker: an empty line where a template had nothing to say.
        (Some(_), _) if found.is_empty() => output::line("")?,
        (Some(template), _) => {
            for object in &found {
                output::line(
                    template
                        .render(object)
                        .map_err(|e| Failure::new(e.to_string()))?,
                )?;
            }
        }
        (None, Some("json")) => output::line(go_json(&Value::from(found)))?,
        _ => output::text(pretty(&Value::from(found))?)?,
    }
    for failure in &failures {
        output::warn(context.program.sentence(failure, ""));
    }
    Ok(u8::from(!failures.is_empty()))
}

/// JSON with four blanks of indentation.
pub(crate) fn pretty(value: &Value) -> Result<String, Failure> {
    let mut out = Vec::new();
    let style = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, style);
    value
        .serialize(&mut serializer)
        .map_err(|e| Failure::new(e.to_string()))?;
    writeln!(out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}
