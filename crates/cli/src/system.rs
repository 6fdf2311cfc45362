//! `version`, and the verbs of `system`.

mod dial;
mod info;
mod install;
mod load_profile;
mod prune;
mod stop_all;
mod units;
mod usage;

use clap::Args;
use serde_json::{Value, json};

use super::{Context, Failure, Run, Verb, output, verb};
use hoist_render::template::Template;

/// The verbs without a noun.
pub(crate) const VERBS: &[Verb] = &[
    verb::<Version>(
        "version",
        "Show the version information of client and engine",
    ),
    verb::<info::Info>("info", "Display system-wide information"),
    verb::<super::fsck::Fsck>(
        "fsck",
        "Check that images, layers and containers' files are whole, and repair them",
    ),
    verb::<super::completion::Completion>(
        "completion",
        "Generate the autocompletion script for the specified shell",
    ),
];

/// `hoist system …`.
pub(crate) const NOUN_VERBS: &[Verb] = &[
    verb::<usage::DiskUsage>("df", "Show disk usage"),
    verb::<dial::DialStdio>(
        "dial-stdio",
        "Proxy the stdio stream to the engine: what ssh:// runs on the other side",
    )
    .hidden(),
    verb::<super::container::Events>("events", "Get real time events from the engine"),
    verb::<info::Info>("info", "Display system-wide information"),
    verb::<prune::Prune>("prune", "Remove unused data"),
    verb::<install::Install>(
        "install",
        "Run the engine as a service of systemd's, and stop containers in order at shutdown",
    ),
    verb::<install::Uninstall>("uninstall", "Undo what install did; containers go on"),
    verb::<load_profile::LoadProfile>(
        "load-profile",
        "Load AppArmor's profile of containers, docker-default, where AppArmor is on",
    ),
    verb::<stop_all::StopAll>(
        "stop-all",
        "Stop every container before the machine goes down; restart policies start them again",
    ),
];

/// `version`.
#[derive(Args, Debug)]
struct Version {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

impl Run for Version {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client_as_is()?;
        let server = async { client.get("/version").send().await?.json::<Value>().await }.await;
        let own = json!({
            "Platform": {"Name": "Hoist"}, "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": client.version(), "DefaultAPIVersion": hoist_docker::client::SPOKEN,
            "Os": std::env::consts::OS, "Arch": architecture(), "Context": context.current(),
        });
        let (server, problem) = match server {
            Ok(server) => (server, None),
            Err(error) => (Value::Null, Some(Failure::from(error))),
        };
        let both = json!({"Client": own, "Server": server});
        match self.format.as_deref() {
            None | Some("") => output::text(sections(&both))?,
            Some("json") => output::line(both.to_string())?,
            Some(template) => output::line(Template::parse(template)?.render(&both)?)?,
        }
        problem.map_or(Ok(0), Err)
    }
}

/// The machine's architecture in Go's words.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sections(both: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let client = &both["Client"];
    let mut out = format!(
        "Client: {}\n Version:\t{}\n API version:\t{}\n OS/Arch:\t{}/{}\n Context:\t{}\n",
        text(&client["Platform"]["Name"]),
        text(&client["Version"]),
        text(&client["ApiVersion"]),
        text(&client["Os"]),
        text(&client["Arch"]),
        text(&client["Context"]),
    );
    let server = &both["Server"];
    if server.is_object() {
        out += &format!("\nServer: {}\n", text(&server["Platform"]["Name"]));
        for component in server["Components"].as_array().into_iter().flatten() {
            out += &format!(
                " {}:\n  Version:\t{}\n",
                text(&component["Name"]),
                text(&component["Version"])
            );
            let details = &component["Details"];
            for (heading, field) in [
                ("API version", "ApiVersion"),
                ("Git commit", "GitCommit"),
                ("Built", "BuildTime"),
            ] {
                let Some(value) = details[field].as_str().filter(|v| !v.is_empty()) else {
                    continue;
                };
                let minimum = match (field, details["MinAPIVersion"].as_str()) {
                    ("ApiVersion", Some(minimum)) => format!(" (minimum version {minimum})"),
                    _ => String::new(),
                };
                out += &format!("  {heading}:\t{value}{minimum}\n");
            }
            if let (Some(os), Some(arch)) = (details["Os"].as_str(), details["Arch"].as_str()) {
                out += &format!("  OS/Arch:\t{os}/{arch}\n");
            }
        }
    }
    align_fields(&out)
}

/// Lines up what follows a tab, as docker does for `version`: 20 columns.
fn align_fields(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once('\t') {
            Some((name, value)) => format!("{name:<19}{value}\n"),
            None => format!("{line}\n"),
        })
        .collect()
}
