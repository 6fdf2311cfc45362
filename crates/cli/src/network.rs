//! The verbs of networks.

mod create;

use clap::Args;
use serde_json::{Value, json};

use self::create::Create;
use super::container::{
    Details, api_filters, each, print_objects, prune, show_pruned, with_configured,
};
use super::reference::{segment, short};
use super::spec::{fields, key_values};
use super::{Context, Failure, Run, Verb, output, verb};
use hoist_render::listing::Listing;

/// `hoist network …`.
pub(crate) const VERBS: &[Verb] = &[
    verb::<Connect>("connect", "Connect a container to a network"),
    verb::<Create>("create", "Create a network"),
    verb::<Disconnect>("disconnect", "Disconnect a container from a network"),
    verb::<Explain>(
        "explain",
        "Say which way the packets of a container or a published port take",
    ),
    verb::<Inspect>(
        "inspect",
        "Display detailed information on one or more networks",
    ),
    verb::<List>("ls", "List networks").or(&["list"]),
    verb::<Prune>("prune", "Remove all unused networks"),
    verb::<Remove>("rm", "Remove one or more networks").or(&["remove"]),
];

/// `network ls`.
#[derive(Args, Debug)]
struct List {
    /// Provide filter values (e.g. "driver=bridge")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Do not truncate the output
    #[arg(long)]
    no_trunc: bool,
    /// Only display network IDs
    #[arg(short, long)]
    quiet: bool,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let call = context.client()?.get("/networks");
        let call = call.query_some("filters", api_filters(&self.filter)?);
        let mut found: Vec<Value> = call.send().await?.json().await?;
        found.sort_by(|a, b| a["Name"].as_str().cmp(&b["Name"].as_str()));
        let row = |network: &Value| {
            let text = |field: &str| network[field].as_str().unwrap_or_default();
            let flag = |field: &str| network[field].as_bool().unwrap_or(false).to_string();
            let labels = network["Labels"].as_object().into_iter().flatten();
            let mut labels: Vec<_> = labels
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
                .collect();
            labels.sort();
            json!({
                "CreatedAt": text("Created"), "Driver": text("Driver"),
                "ID": if self.no_trunc { text("Id") } else { short(text("Id")) },
                "IPv4": network["EnableIPv4"].as_bool().unwrap_or(true).to_string(),
                "IPv6": flag("EnableIPv6"), "Internal": flag("Internal"),
                "Labels": labels.join(","), "Name": text("Name"), "Scope": text("Scope"),
            })
        };
        let listing = Listing {
            headings: &[
                ("ID", "NETWORK ID"),
                ("Name", "NAME"),
                ("Driver", "DRIVER"),
                ("Scope", "SCOPE"),
                ("CreatedAt", "CREATED AT"),
                ("IPv4", "IPV4"),
                ("IPv6", "IPV6"),
                ("Internal", "INTERNAL"),
                ("Labels", "LABELS"),
                ("Label", "LABEL"),
            ],
            table: "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}",
            rows: found.iter().map(row).collect(),
        };
        let format = if self.quiet {
            Some("{{.ID}}")
        } else {
            self.format.as_deref()
        };
        output::text(listing.render(format)?)?;
        Ok(0)
    }
}

/// `network inspect`.
#[derive(Args, Debug)]
struct Inspect {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Accepted for docker's sake
    #[arg(short, long)]
    verbose: bool,
    /// Networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

impl Run for Inspect {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        print_objects(
            context,
            Some("network"),
            &self.networks,
            Details::default(),
            self.format.as_deref(),
        )
        .await
    }
}

/// `network explain`: Hoist's own.
#[derive(Args, Debug)]
struct Explain {
    /// A container, or a port of the host that one has published
    #[arg(value_name = "CONTAINER|PORT")]
    name: String,
}

impl Run for Explain {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let path = format!("/hoist/network/{}/explain", segment(&self.name));
        let told: Value = context.client()?.get(path).send().await?.json().await?;
        for sentence in told["Explanation"].as_array().into_iter().flatten() {
            output::line(sentence.as_str().unwrap_or_default())?;
        }
        Ok(0)
    }
}

/// `network prune`.
#[derive(Args, Debug)]
struct Prune {
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Run for Prune {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let question =
            "WARNING! This will remove all custom networks not used by at least one container.";
        let filters = with_configured(context, &self.filter)?;
        if let Some(answer) = prune(context, "networks", question, &filters, self.force).await? {
            show_pruned(&answer, "NetworksDeleted", "Deleted Networks:")?;
        }
        Ok(0)
    }
}

/// `network rm`.
#[derive(Args, Debug)]
struct Remove {
    /// Do not fail if a network does not exist
    #[arg(short, long)]
    force: bool,
    /// Networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        each(context, &self.networks, async |name| {
            match client
                .delete(format!("/networks/{}", segment(name)))
                .send()
                .await
            {
                Err(error) if self.force && error.status().is_some_and(|s| s == 404) => Ok(()),
                reply => reply?.done().await,
            }
        })
        .await
    }
}

/// `network connect`.
#[derive(Args, Debug)]
struct Connect {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings")]
    alias: Vec<String>,
    /// driver options for the network
    #[arg(long, value_name = "strings")]
    driver_opt: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
    #[arg(long, value_name = "int", allow_hyphen_values = true)]
    gw_priority: Option<i64>,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "string")]
    ip: Option<String>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "string")]
    ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list")]
    link: Vec<String>,
    /// Add a link-local address for the container
    #[arg(long, value_name = "strings")]
    link_local_ip: Vec<String>,
    /// Network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Connect {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        // Each flag may hold several, as a line of comma-separated values.
        let all = |flags: &[String]| -> Vec<String> {
            flags.iter().flat_map(|text| fields(text)).collect()
        };
        let options = all(&self.driver_opt);
        if options
            .iter()
            .any(|option| !option.contains('=') || option.starts_with('='))
        {
            return Err(Failure::new(
                "invalid key/value pair format in driver options",
            ));
        }
        let mut endpoint =
            json!({"Aliases": all(&self.alias), "Links": self.link, "IPAMConfig": {}});
        for (field, value) in [("IPv4Address", &self.ip), ("IPv6Address", &self.ip6)] {
            if let Some(value) = value {
                endpoint["IPAMConfig"][field] = value.as_str().into();
            }
        }
        if !self.link_local_ip.is_empty() {
            endpoint["IPAMConfig"]["LinkLocalIPs"] = json!(all(&self.link_local_ip));
        }
        if !options.is_empty() {
            endpoint["DriverOpts"] = key_values(&options).into();
        }
        if let Some(priority) = self.gw_priority {
            endpoint["GwPriority"] = priority.into();
        }
        let body = json!({"Container": self.container, "EndpointConfig": endpoint});
        let path = format!("/networks/{}/connect", segment(&self.network));
        context
            .client()?
            .post(path)
            .json(&body)
            .send()
            .await?
            .done()
            .await?;
        Ok(0)
    }
}

/// `network disconnect`.
#[derive(Args, Debug)]
struct Disconnect {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    /// Network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Run for Disconnect {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let body = json!({"Container": self.container, "Force": self.force});
        let path = format!("/networks/{}/disconnect", segment(&self.network));
        context
            .client()?
            .post(path)
            .json(&body)
            .send()
            .await?
            .done()
            .await?;
        Ok(0)
    }
}
