//! The verbs of volumes.

use clap::Args;
use serde_json::{Value, json};

use super::container::{Details, api_filters, each, print_objects, prune, pruned, with_configured};
use super::reference::segment;
use super::spec::key_values;
use super::{Context, Failure, Run, Verb, output, verb};
use hoist_render::human;
use hoist_render::listing::Listing;

/// `hoist volume …`.
pub(crate) const VERBS: &[Verb] = &[
    verb::<Create>("create", "Create a volume"),
    verb::<Inspect>(
        "inspect",
        "Display detailed information on one or more volumes",
    ),
    verb::<List>("ls", "List volumes").or(&["list"]),
    verb::<Prune>("prune", "Remove unused local volumes"),
    verb::<Remove>("rm", "Remove one or more volumes").or(&["remove"]),
    verb::<Update>("update", "Update a volume (cluster volumes only)"),
];

/// Flags of cluster volumes, which are of a swarm.
#[derive(Args, Debug)]
struct Cluster {
    /// Cluster volumes only, refused: availability ("active", "pause", "drain")
    #[arg(long, value_name = "string")]
    availability: Option<String>,
    /// Cluster volumes only, refused: group
    #[arg(long, value_name = "string")]
    group: Option<String>,
    /// Cluster volumes only, refused: minimum size in bytes
    #[arg(long, value_name = "bytes")]
    limit_bytes: Option<String>,
    /// Cluster volumes only, refused: maximum size in bytes
    #[arg(long, value_name = "bytes")]
    required_bytes: Option<String>,
    /// Cluster volumes only, refused: access scope ("single", "multi")
    #[arg(long, value_name = "string")]
    scope: Option<String>,
    /// Cluster volumes only, refused: secrets
    #[arg(long, value_name = "map")]
    secret: Vec<String>,
    /// Cluster volumes only, refused: access sharing
    #[arg(long, value_name = "string")]
    sharing: Option<String>,
    /// Cluster volumes only, refused: a topology that would be preferred
    #[arg(long, value_name = "list")]
    topology_preferred: Vec<String>,
    /// Cluster volumes only, refused: a topology that it must be accessible from
    #[arg(long, value_name = "list")]
    topology_required: Vec<String>,
    /// Cluster volumes only, refused: access type ("mount", "block")
    #[arg(long = "type", value_name = "string")]
    kind: Option<String>,
}

impl Cluster {
    fn refuse(&self) -> Result<(), Failure> {
        let flags = [
            ("--availability", self.availability.is_some()),
            ("--group", self.group.is_some()),
            ("--limit-bytes", self.limit_bytes.is_some()),
            ("--required-bytes", self.required_bytes.is_some()),
            ("--scope", self.scope.is_some()),
            ("--secret", !self.secret.is_empty()),
            ("--sharing", self.sharing.is_some()),
            ("--topology-preferred", !self.topology_preferred.is_empty()),
            ("--topology-required", !self.topology_required.is_empty()),
            ("--type", self.kind.is_some()),
        ];
        match flags.into_iter().find(|(_, set)| *set) {
            Some((flag, _)) => Err(Failure::new(format!(
                "{flag} is for cluster volumes, which this engine does not have"
            ))),
            None => Ok(()),
        }
    }
}

/// `volume create`.
#[derive(Args, Debug)]
struct Create {
    /// Specify volume driver name
    #[arg(short, long, value_name = "string", default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    #[command(flatten)]
    cluster: Cluster,
    /// Specify volume name: the older way to write it
    #[arg(long, value_name = "string", hide = true)]
    name: Option<String>,
    /// Its name; a random one if there is none
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
}

impl Run for Create {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        self.cluster.refuse()?;
        if self.volume.is_some() && self.name.is_some() {
            return Err(Failure::new(
                "conflicting options: cannot specify a volume-name through both --name and as a positional arg",
            ));
        }
        let body = json!({
            "Name": self.volume.or(self.name).unwrap_or_default(),
            "Driver": self.driver,
            "DriverOpts": key_values(&self.opt),
            "Labels": key_values(&self.label),
        });
        let created: Value = context
            .client()?
            .post("/volumes/create")
            .json(&body)
            .send()
            .await?
            .json()
            .await?;
        output::line(created["Name"].as_str().unwrap_or_default())?;
        Ok(0)
    }
}

/// `volume inspect`.
#[derive(Args, Debug)]
struct Inspect {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
    /// Volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

impl Run for Inspect {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        print_objects(
            context,
            Some("volume"),
            &self.volumes,
            Details::default(),
            self.format.as_deref(),
        )
        .await
    }
}

/// `volume ls`.
#[derive(Args, Debug)]
struct List {
    /// Display only cluster volumes, and use cluster volume list formatting
    #[arg(long)]
    cluster: bool,
    /// Provide filter values (e.g. "dangling=true")
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Run for List {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let call = context.client()?.get("/volumes");
        let call = call.query_some("filters", api_filters(&self.filter)?);
        let found: Value = call.send().await?.json().await?;
        let mut volumes: Vec<_> = found["Volumes"].as_array().into_iter().flatten().collect();
        // None of ours is a cluster volume.
        volumes.retain(|_| !self.cluster);
        volumes.sort_by_key(|v| v["Name"].as_str());
        let listing = Listing {
            headings: HEADINGS,
            table: if self.cluster {
                "{{.Name}}\t{{.Group}}\t{{.Driver}}\t{{.Availability}}\t{{.Status}}"
            } else {
                "{{.Driver}}\t{{.Name}}"
            },
            rows: volumes.into_iter().map(row).collect(),
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

/// The fields of a volume and their headings.
pub(crate) const HEADINGS: &[(&str, &str)] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Label", "LABEL"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

/// A volume as lists show it.
pub(crate) fn row(volume: &Value) -> Value {
    let text = |field: &str| volume[field].as_str().unwrap_or_default();
    let labels = volume["Labels"].as_object().into_iter().flatten();
    let mut labels: Vec<_> = labels
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    labels.sort();
    let usage = |field: &str| volume["UsageData"][field].as_u64();
    let unknown = || "N/A".to_owned();
    json!({
        "Availability": "N/A", "Driver": text("Driver"), "Group": "N/A",
        "Labels": labels.join(","),
        "Links": usage("RefCount").map_or_else(unknown, |n| n.to_string()),
        "Mountpoint": text("Mountpoint"), "Name": text("Name"), "Scope": text("Scope"),
        "Size": usage("Size").map_or_else(unknown, |n| human::size(n, 4)), "Status": "N/A",
    })
}

/// `volume rm`.
#[derive(Args, Debug)]
struct Remove {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    /// Volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

impl Run for Remove {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let client = context.client()?;
        each(context, &self.volumes, async |name| {
            let call = client.delete(format!("/volumes/{}", segment(name)));
            call.query_flag("force", self.force)
                .send()
                .await?
                .done()
                .await
        })
        .await
    }
}

/// `volume update`.
#[derive(Args, Debug)]
struct Update {
    /// Cluster volume availability ("active", "pause", "drain")
    #[arg(long, value_name = "string")]
    availability: Option<String>,
    /// Volume
    #[arg(value_name = "VOLUME")]
    volume: Option<String>,
}

impl Run for Update {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let name = self.volume.unwrap_or_default();
        let path = format!("/volumes/{}", segment(&name));
        let call = context.client()?.get(path);
        call.send().await?.done().await?;
        // Found, and so not one of a cluster.
        Err(Failure::new("can only update cluster volumes"))
    }
}

/// `volume prune`.
#[derive(Args, Debug)]
struct Prune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "filter")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Run for Prune {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let which = if self.all { "local" } else { "anonymous local" };
        let question = format!(
            "WARNING! This will remove {which} volumes not used by at least one container."
        );
        let mut filters = with_configured(context, &self.filter)?;
        if self.all {
            filters.push("all=true".to_owned());
        }
        match prune(context, "volumes", &question, &filters, self.force).await? {
            Some(answer) => pruned(&answer, "VolumesDeleted", "Deleted Volumes:"),
            None => Ok(0),
        }
    }
}
