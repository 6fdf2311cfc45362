//! The verbs of contexts: several engines, one client.

mod carry;
mod store;

use std::path::Path;

use clap::Args;
use serde_json::{Value, json};

use super::{Context, Failure, Run, Verb, output, verb};
use hoist_render::listing::Listing;
use hoist_render::template::{Template, go_json};

pub(crate) use store::{Endpoint, Store};
use store::{Pem, check_name, read_file};

/// `hoist context …`.
pub(crate) const VERBS: &[Verb] = &[
    verb::<Create>("create", "Create a context"),
    verb::<carry::Export>(
        "export",
        "Export a context to a tar archive FILE or a tar stream on STDOUT.",
    ),
    verb::<carry::Import>("import", "Import a context from a tar file"),
    verb::<Inspect>(
        "inspect",
        "Display detailed information on one or more contexts",
    ),
    verb::<List>("ls", "List contexts").or(&["list"]),
    verb::<Remove>("rm", "Remove one or more contexts").or(&["remove"]),
    verb::<Show>("show", "Print the name of the current context"),
    verb::<Update>("update", "Update a context"),
    verb::<Use>("use", "Set the current context"),
];

/// What is said of the context that every client has.
const DEFAULT_ABOUT: &str = "Current DOCKER_HOST based configuration";

/// What `--docker` asks for: an endpoint and its new TLS files.
fn endpoint(pairs: &[String], context: &Context) -> Result<(Endpoint, Vec<Pem>), Failure> {
    let mut endpoint = Endpoint::default();
    let mut pems = Vec::new();
    let refused =
        |why: String| Failure::new(format!("unable to create docker endpoint config: {why}"));
    for pair in pairs.iter().flat_map(|pairs| pairs.split(',')) {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(Failure::bad_flag(format!(
                "invalid argument {:?} for \"--docker\" flag: {pair} must be formatted as key=value",
                pairs.join(",")
            )));
        };
        let pem = |name: &str| -> Result<Pem, Failure> {
            let content = read_file(Path::new(value)).map_err(|f| refused(f.message))?;
            let marker = b"-----BEGIN ";
            if !content.windows(marker.len()).any(|window| window == marker) {
                return Err(refused(format!(
                    "invalid docker endpoint options: failed to retrieve context tls info: {name} seems invalid"
                )));
            }
            Ok((name.to_owned(), content))
        };
        match key.trim() {
            "host" => value.clone_into(&mut endpoint.host),
            "ca" => pems.push(pem("ca.pem")?),
            "cert" => pems.push(pem("cert.pem")?),
            "key" => pems.push(pem("key.pem")?),
            "skip-tls-verify" => {
                endpoint.skip_verify = match value {
                    "1" | "t" | "true" | "T" | "TRUE" | "True" => true,
                    "0" | "f" | "false" | "F" | "FALSE" | "False" | "" => false,
                    _ => return Err(refused(format!("invalid skip-tls-verify {value:?}"))),
                };
            }
            "from" => return copied(context, value),
            other => return Err(refused(format!("unrecognized config key: {other}"))),
        }
    }
    if !endpoint.host.contains("://") {
        return Err(refused(format!(
            "unable to apply docker endpoint options: unable to parse docker host `{}`",
            endpoint.host
        )));
    }
    Ok((endpoint, pems))
}

/// The endpoint of another context, with its TLS files.
fn copied(context: &Context, name: &str) -> Result<(Endpoint, Vec<Pem>), Failure> {
    if name == "default" {
        let endpoint = Endpoint {
            host: context.default_host(),
            ..Endpoint::default()
        };
        return Ok((endpoint, Vec::new()));
    }
    let endpoint = context.store().endpoint(name)?;
    let read = |path: &std::path::PathBuf| -> Result<Pem, Failure> {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        Ok((file.into_owned(), read_file(path)?))
    };
    let pems = endpoint.pems.iter().map(read).collect::<Result<_, _>>()?;
    Ok((endpoint, pems))
}

/// `context create`.
#[derive(Args, Debug)]
struct Create {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// Set the docker endpoint: host=…, ca=…, cert=…, key=…, skip-tls-verify=…, from=CONTEXT
    #[arg(long, value_name = "stringToString")]
    docker: Vec<String>,
    /// Create context from a named context
    #[arg(long, value_name = "string")]
    from: Option<String>,
    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Run for Create {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let (store, name) = (context.store(), self.name);
        check_name(&name)?;
        if store.names().contains(&name) {
            return Err(Failure::new(format!("context {name:?} already exists")));
        }
        if self.from.is_some() && !self.docker.is_empty() {
            return Err(Failure::new("cannot use --docker flag when --from is set"));
        }
        let (endpoint, pems) = if self.docker.is_empty() {
            let from = self.from.unwrap_or_else(|| context.current());
            copied(context, &from)?
        } else {
            endpoint(&self.docker, context)?
        };
        store.write(&name, self.description.as_deref(), &endpoint, Some(&pems))?;
        output::line(&name)?;
        output::warn(format!("Successfully created context {name:?}"));
        Ok(0)
    }
}

/// `context update`.
#[derive(Args, Debug)]
struct Update {
    /// Description of the context
    #[arg(long, value_name = "string")]
    description: Option<String>,
    /// Set the docker endpoint: host=…, ca=…, cert=…, key=…, skip-tls-verify=…, from=CONTEXT
    #[arg(long, value_name = "stringToString")]
    docker: Vec<String>,
    /// Context
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Run for Update {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let (store, name) = (context.store(), self.name);
        check_name(&name)?;
        let meta = store.read(&name)?;
        let described = meta["Metadata"]["Description"].as_str();
        let description = self.description.as_deref().or(described);
        if self.docker.is_empty() {
            store.write(&name, description, &store.endpoint(&name)?, None)?;
        } else {
            let (endpoint, pems) = endpoint(&self.docker, context)?;
            store.write(&name, description, &endpoint, Some(&pems))?;
        }
        output::line(&name)?;
        output::warn(format!("Successfully updated context {name:?}"));
        Ok(0)
    }
}

/// `context ls`.
#[derive(Args, Debug)]
struct List {
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only show context names
    #[arg(short, long)]
    quiet: bool,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let (store, current) = (context.store(), context.current());
        let mut names = store.names();
        names.push("default".to_owned());
        if !names.contains(&current) {
            names.push(current.clone());
        }
        names.sort_unstable();
        let table = matches!(self.format.as_deref(), None | Some("" | "table"));
        let row = |name: &String| {
            let (about, host, error) = if name == "default" {
                (
                    DEFAULT_ABOUT.to_owned(),
                    context.default_host(),
                    String::new(),
                )
            } else {
                match store.read(name) {
                    Ok(meta) => {
                        let about = meta["Metadata"]["Description"].as_str();
                        let host = meta["Endpoints"]["docker"]["Host"].as_str();
                        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
                        (text(about), text(host), String::new())
                    }
                    Err(failure) => (String::new(), String::new(), failure.message),
                }
            };
            let error = match error.char_indices().nth(44) {
                Some((end, _)) if table && error.chars().count() > 45 => {
                    format!("{}…", &error[..end])
                }
                _ => error,
            };
            json!({
                "Current": *name == current, "Description": about, "DockerEndpoint": host,
                "Error": error, "Name": name,
            })
        };
        let listing = Listing {
            headings: &[
                ("Name", "NAME"),
                ("Description", "DESCRIPTION"),
                ("DockerEndpoint", "DOCKER ENDPOINT"),
                ("Error", "ERROR"),
                ("Current", ""),
            ],
            table: "{{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}",
            rows: names.iter().map(row).collect(),
        };
        let format = if self.quiet {
            Some("{{.Name}}")
        } else {
            self.format.as_deref()
        };
        output::text(listing.render(format)?)?;
        Ok(0)
    }
}

/// `context inspect`.
#[derive(Args, Debug)]
struct Inspect {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Contexts; the current one if none is named
    #[arg(value_name = "CONTEXT")]
    names: Vec<String>,
}

impl Inspect {
    fn object(context: &Context, name: &str) -> Result<Value, Failure> {
        let store = context.store();
        if name == "default" {
            return Ok(json!({
                "Name": name, "Metadata": {},
                "Endpoints": {"docker": {"Host": context.default_host(), "SkipTLSVerify": false}},
                "TLSMaterial": {}, "Storage": {"MetadataPath": "<IN MEMORY>", "TLSPath": "<IN MEMORY>"},
            }));
        }
        let meta = store.read(name)?;
        let file = |path: &std::path::PathBuf| {
            Value::from(path.file_name().unwrap_or_default().to_string_lossy())
        };
        let pems: Vec<Value> = store.pems(name).iter().map(file).collect();
        let material = if pems.is_empty() {
            json!({})
        } else {
            json!({"docker": pems})
        };
        Ok(json!({
            "Name": name, "Metadata": meta["Metadata"], "Endpoints": meta["Endpoints"],
            "TLSMaterial": material,
            "Storage": {
                "MetadataPath": store.meta_directory(name), "TLSPath": store.tls_directory(name),
            },
        }))
    }
}

impl Run for Inspect {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let names = if self.names.is_empty() {
            vec![context.current()]
        } else {
            self.names
        };
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in &names {
            match Self::object(context, name) {
                Ok(object) => found.push(object),
                Err(failure) => failures.push(failure),
            }
        }
        match self.format.as_deref() {
            None | Some("") => output::text(super::container::pretty(&Value::from(found))?)?,
            Some("json") => output::line(go_json(&Value::from(found)))?,
            Some(template) => {
                let template = Template::parse(template)?;
                if found.is_empty() {
                    output::line("")?;
                }
                for object in &found {
                    let text = template.render(object);
                    output::line(text.map_err(|e| Failure::new(e.to_string()))?)?;
                }
            }
        }
        for failure in &failures {
            output::warn(context.program.sentence(failure, ""));
        }
        Ok(u8::from(!failures.is_empty()))
    }
}

/// `context rm`.
#[derive(Args, Debug)]
struct Remove {
    /// Force the removal of a context in use
    #[arg(short, long)]
    force: bool,
    /// Contexts
    #[arg(value_name = "CONTEXT", required = true)]
    names: Vec<String>,
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let (store, current) = (context.store(), context.current());
        let mut refusals = Vec::new();
        for name in &self.names {
            let refusal = if name == "default" {
                Some("cannot be removed")
            } else if !store.names().contains(name) && !self.force {
                Some("does not exist")
            } else if *name == current && !self.force {
                Some("is in use, set -f flag to force remove")
            } else {
                None
            };
            if let Some(refusal) = refusal {
                refusals.push(format!("context {name:?} {refusal}"));
                continue;
            }
            if *name == current {
                context.choose(None)?;
            }
            store.remove(name)?;
            output::line(name)?;
        }
        for refusal in &refusals {
            output::warn(refusal);
        }
        Ok(u8::from(!refusals.is_empty()))
    }
}

/// `context show`.
#[derive(Args, Debug)]
struct Show {}

impl Run for Show {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        output::line(context.current())?;
        Ok(0)
    }
}

/// `context use`.
#[derive(Args, Debug)]
struct Use {
    /// Context
    #[arg(value_name = "CONTEXT")]
    name: String,
}

impl Run for Use {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let name = self.name;
        if name == "default" {
            context.choose(None)?;
        } else {
            context.store().read(&name)?;
            context.choose(Some(&name))?;
        }
        output::line(&name)?;
        output::warn(format!("Current context is now {name:?}"));
        let variables = ["HOIST_HOST", "DOCKER_HOST"];
        let set = variables
            .into_iter()
            .find(|variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty()));
        if let Some(variable) = set.filter(|_| name != "default") {
            output::warn(format!(
                "Warning: {variable} environment variable overrides the active context. To use {name:?}, either set the global --context flag, or unset {variable} environment variable."
            ));
        }
        Ok(0)
    }
}
