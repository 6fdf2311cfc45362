//! Verbs that ask one thing of each container named.

use clap::Args;
use hoist_docker::client::CallError;
use serde_json::Value;

use super::filters::{api_filters, with_configured};
use crate::reference::segment;
use crate::{Context, Failure, Run, output};
use hoist_render::human;
use hoist_render::table::align_to;

/// Does the same to each operand, names those that worked, and says of the rest why not.
pub(crate) async fn each(
    context: &Context,
    names: &[String],
    act: impl AsyncFn(&str) -> Result<(), CallError>,
) -> Result<u8, Failure> {
    let mut refusals = Vec::new();
    try_each(names, act, |_, error| match error {
        CallError::Connect { .. } | CallError::Talk { .. } => Err(error.into()),
        error => {
            refusals.push(Failure::from(error));
            Ok(())
        }
    })
    .await?;
    Ok(said(context, &refusals))
}

/// Does the same to each operand, and names those that worked; what is to be done about the rest `refused` says.
pub(super) async fn try_each<'n>(
    names: &'n [String],
    act: impl AsyncFn(&str) -> Result<(), CallError>,
    mut refused: impl FnMut(&'n str, CallError) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for name in names {
        match act(name).await {
            Ok(()) => output::line(name)?,
            Err(error) => refused(name, error)?,
        }
    }
    Ok(())
}

/// Says what did not work once all was tried, as docker does; the status to exit with.
pub(crate) fn said(context: &Context, refusals: &[Failure]) -> u8 {
    for refusal in refusals {
        output::warn(context.program.sentence(refusal, ""));
    }
    u8::from(!refusals.is_empty())
}

/// `stop`.
#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(
        short,
        long,
        visible_alias = "time",
        value_name = "int",
        allow_hyphen_values = true
    )]
    timeout: Option<i64>,
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Stop {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        stop(
            context,
            "stop",
            &self.containers,
            self.signal.as_deref(),
            self.timeout,
        )
        .await
    }
}

/// `restart`.
#[derive(Args, Debug)]
pub(crate) struct Restart {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(
        short,
        long,
        visible_alias = "time",
        value_name = "int",
        allow_hyphen_values = true
    )]
    timeout: Option<i64>,
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Restart {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        stop(
            context,
            "restart",
            &self.containers,
            self.signal.as_deref(),
            self.timeout,
        )
        .await
    }
}

async fn stop(
    context: &Context,
    verb: &str,
    containers: &[String],
    signal: Option<&str>,
    timeout: Option<i64>,
) -> Result<u8, Failure> {
    let client = context.client()?;
    each(context, containers, async |name| {
        let call = client.post(format!("/containers/{}/{verb}", segment(name)));
        let call = call
            .query_some("signal", signal)
            .query_some("t", timeout.map(|t| t.to_string()));
        let reply = call.send().await?;
        // `299 - "text"`; the stock client says nothing here.
        let said = reply.header("warning").and_then(|w| w.split('"').nth(1));
        if let (crate::Program::Hoist, Some(said)) = (context.program, said) {
            output::warn(format!("{name}: {said}"));
        }
        reply.done().await
    })
    .await
}

/// `kill`.
#[derive(Args, Debug)]
pub(crate) struct Kill {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Kill {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        each(context, &self.containers, async |name| {
            let call = client.post(format!("/containers/{}/kill", segment(name)));
            call.query_some("signal", self.signal.as_deref())
                .send()
                .await?
                .done()
                .await
        })
        .await
    }
}

/// `rm`.
#[derive(Args, Debug)]
pub(crate) struct Remove {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        let (mut refusals, mut failed) = (Vec::new(), false);
        for asked in &self.containers {
            let name = asked.trim_start_matches('/');
            let call = client.delete(format!("/containers/{}", segment(name)));
            let call = call
                .query_flag("force", self.force)
                .query_flag("link", self.link);
            let done = match call.query_flag("v", self.volumes).send().await {
                Ok(reply) => reply.done().await,
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => output::line(asked)?,
                Err(error @ (CallError::Connect { .. } | CallError::Talk { .. })) => {
                    return Err(error.into());
                }
                Err(error) => {
                    // As with `rm -f` of a file: one that is not there is told, and no failure.
                    failed |= !(self.force && error.status().is_some_and(|s| s == 404));
                    refusals.push(error.into());
                }
            }
        }
        said(context, &refusals);
        Ok(u8::from(failed))
    }
}

/// `pause`.
#[derive(Args, Debug)]
pub(crate) struct Pause {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Pause {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        simple(context, "pause", &self.containers).await
    }
}

/// `unpause`.
#[derive(Args, Debug)]
pub(crate) struct Unpause {
    /// Containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

impl Run for Unpause {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        simple(context, "unpause", &self.containers).await
    }
}

async fn simple(context: &Context, verb: &str, containers: &[String]) -> Result<u8, Failure> {
    let client = context.client()?;
    each(context, containers, async |name| {
        let call = client.post(format!("/containers/{}/{verb}", segment(name)));
        call.send().await?.done().await
    })
    .await
}

/// `rename`.
#[derive(Args, Debug)]
pub(crate) struct Rename {
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

impl Run for Rename {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let path = format!("/containers/{}/rename", segment(&self.container));
        let call = context
            .client()?
            .post(path)
            .query("name", self.name.as_str());
        call.send().await?.done().await?;
        Ok(0)
    }
}

/// `port`.
#[derive(Args, Debug)]
pub(crate) struct Port {
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// One of its ports, with or without its protocol
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

impl Run for Port {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let path = format!("/containers/{}/json", segment(&self.container));
        let found: Value = context.client()?.get(path).send().await?.json().await?;
        let empty = serde_json::Map::new();
        let ports = found["NetworkSettings"]["Ports"]
            .as_object()
            .unwrap_or(&empty);
        let host = |binding: &Value| {
            let (ip, port) = (binding["HostIp"].as_str(), binding["HostPort"].as_str());
            match ip.unwrap_or("") {
                ip if ip.contains(':') => format!("[{ip}]:{}", port.unwrap_or("")),
                ip => format!("{ip}:{}", port.unwrap_or("")),
            }
        };
        let bindings = |port: &Value| port.as_array().cloned().unwrap_or_default();
        if let Some(wanted) = &self.port {
            let key = if wanted.contains('/') {
                wanted.clone()
            } else {
                format!("{wanted}/tcp")
            };
            let published = ports.get(&key).map(bindings).unwrap_or_default();
            if published.is_empty() {
                let message = format!("No public port '{wanted}' published for {}", self.container);
                return Err(Failure::new(message));
            }
            for binding in published {
                output::line(host(&binding))?;
            }
            return Ok(0);
        }
        let mut lines: Vec<_> = ports
            .iter()
            .flat_map(|(key, list)| bindings(list).into_iter().map(move |b| (key.clone(), b)))
            .map(|(key, binding)| format!("{key} -> {}", host(&binding)))
            .collect();
        lines.sort_by_key(|line| line.split('/').next().and_then(|p| p.parse::<u16>().ok()));
        for line in lines {
            output::line(line)?;
        }
        Ok(0)
    }
}

/// `top`.
#[derive(Args, Debug)]
pub(crate) struct Top {
    /// The container and options of `ps`
    #[arg(
        value_name = "CONTAINER [ps OPTIONS]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

impl Run for Top {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let name = self.words.first().map_or("", String::as_str);
        let options = self.words.get(1..).unwrap_or_default().join(" ");
        let call = context
            .client()?
            .get(format!("/containers/{}/top", segment(name)));
        let call = call.query_some("ps_args", (!options.is_empty()).then_some(options));
        let found: Value = call.send().await?.json().await?;
        let row = |row: &Value| {
            let cells = row.as_array().into_iter().flatten();
            cells
                .map(|c| c.as_str().unwrap_or(""))
                .collect::<Vec<_>>()
                .join("\t")
                + "\n"
        };
        let mut text = row(&found["Titles"]);
        text.extend(found["Processes"].as_array().into_iter().flatten().map(row));
        output::text(align_to(&text, 20))?;
        Ok(0)
    }
}

/// `container prune`.
#[derive(Args, Debug)]
pub(crate) struct Prune {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Run for Prune {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let question = "WARNING! This will remove all stopped containers.";
        let filters = with_configured(context, &self.filter)?;
        match prune(context, "containers", question, &filters, self.force).await? {
            Some(answer) => pruned(&answer, "ContainersDeleted", "Deleted Containers:"),
            None => Ok(0),
        }
    }
}

/// Has the engine remove what nobody uses of a kind, after the question unless that is forced; `None` where it was denied.
pub(crate) async fn prune(
    context: &Context,
    kind: &str,
    question: &str,
    filters: &[String],
    force: bool,
) -> Result<Option<Value>, Failure> {
    let filters = api_filters(filters)?;
    if !force && !ask(&format!("{question}\n"))? {
        return Ok(None);
    }
    let call = context.client()?.post(format!("/{kind}/prune"));
    let call = call.query_some("filters", filters);
    Ok(Some(call.send().await?.json().await?))
}

/// Asks before something is deleted; the question is whole lines.
pub(crate) fn ask(question: &str) -> Result<bool, Failure> {
    output::text(format!(
        "{question}Are you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

/// Says what a prune removed.
pub(crate) fn pruned(answer: &Value, field: &str, heading: &str) -> Result<u8, Failure> {
    show_pruned(answer, field, heading)?;
    let space = answer["SpaceReclaimed"].as_u64().unwrap_or(0);
    output::line(format!("Total reclaimed space: {}", human::size(space, 4)))?;
    Ok(0)
}

/// Names what went, if something did.
pub(crate) fn show_pruned(answer: &Value, field: &str, heading: &str) -> Result<(), Failure> {
    let gone: Vec<_> = answer[field].as_array().into_iter().flatten().collect();
    if !gone.is_empty() {
        output::line(heading)?;
        for name in gone {
            output::line(name.as_str().unwrap_or_default())?;
        }
        output::line("")?;
    }
    Ok(())
}
