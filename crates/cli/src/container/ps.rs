//! `ps`.

use clap::Args;
use hoist_model::Timestamp;
use serde_json::{Value, json};

use super::filters::{api_filters, now};
use crate::{Context, Failure, Run, output};
use hoist_render::human;
use hoist_render::listing::Listing;

/// `ps`.
#[derive(Args, Debug)]
pub(crate) struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter")]
    filter: Vec<String>,
    /// Format output using a custom template: 'table', 'table TEMPLATE', 'json' or a Go template
    #[arg(long, value_name = "string")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "int", allow_hyphen_values = true)]
    last: Option<i64>,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

/// The fields of a container and their headings.
pub(crate) const HEADINGS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Status", "STATUS"),
    ("State", "STATE"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Size", "SIZE"),
    ("Labels", "LABELS"),
    ("Label", "LABEL"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

const TABLE: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const TABLE_WITH_SIZE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";

impl Run for Ps {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let limit = if self.latest {
            Some(1)
        } else {
            self.last.filter(|n| *n >= 0)
        };
        let sized = self.size || self.format.as_ref().is_some_and(|f| f.contains(".Size"));
        let call = context.client()?.get("/containers/json");
        let call = call
            .query_flag("all", self.all || limit.is_some())
            .query_flag("size", sized)
            .query_some("limit", limit.map(|n| n.to_string()))
            .query_some("filters", api_filters(&self.filter)?);
        let found: Vec<Value> = call.send().await?.json().await?;
        let now = now();
        let listing = Listing {
            headings: HEADINGS,
            table: if self.size { TABLE_WITH_SIZE } else { TABLE },
            rows: found.iter().map(|c| row(c, now, self.no_trunc)).collect(),
        };
        let configured = match (&self.format, self.quiet) {
            (None, false) => context.config()?.text("psFormat"),
            _ => None,
        };
        let format = match (self.quiet, self.format.as_deref()) {
            (true, None) => Some("{{.ID}}"),
            (_, format) => format.or(configured),
        };
        output::text(listing.render(format)?)?;
        Ok(0)
    }
}

/// Cuts to a number of characters, the last an ellipsis.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width - 1).collect();
    format!("{kept}…")
}

/// A container as `system df` shows it: without the size of its image.
pub(crate) fn usage_row(container: &Value, now: Timestamp, whole: bool) -> Value {
    let mut container = container.clone();
    container["SizeRootFs"] = 0.into();
    row(&container, now, whole)
}

fn row(container: &Value, now: Timestamp, whole: bool) -> Value {
    let text = |field: &str| container[field].as_str().unwrap_or_default();
    let created = Timestamp::from_seconds(container["Created"].as_i64().unwrap_or(0));
    let id = if whole {
        text("Id")
    } else {
        crate::reference::short(text("Id"))
    };
    let image = match text("Image") {
        "" => "<no image>",
        image => image,
    };
    // An image that lost its name shows as an id.
    let image = if whole || !image.starts_with("sha256:") {
        image
    } else {
        crate::reference::short(image)
    };
    let command = if whole {
        text("Command").to_owned()
    } else {
        cut(text("Command"), 20)
    };
    let labels = container["Labels"].as_object().into_iter().flatten();
    let mut labels: Vec<_> = labels
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    labels.sort();
    let mounts = container["Mounts"].as_array().cloned().unwrap_or_default();
    let mount = |mount: &Value| {
        let name = mount["Name"].as_str().filter(|n| !n.is_empty());
        let name = name
            .or_else(|| mount["Source"].as_str())
            .unwrap_or_default()
            .to_owned();
        if whole { name } else { cut(&name, 15) }
    };
    let local = mounts.iter().filter(|m| m["Driver"] == "local").count();
    let networks = container["NetworkSettings"]["Networks"]
        .as_object()
        .into_iter()
        .flatten();
    let mut networks: Vec<_> = networks.map(|(name, _)| name.clone()).collect();
    networks.sort();
    json!({
        "Command": format!("{command:?}"),
        "CreatedAt": human::instant(created),
        "ID": id,
        "Image": image,
        "Labels": labels.join(","),
        "LocalVolumes": local.to_string(),
        "Mounts": mounts.iter().map(mount).collect::<Vec<_>>().join(","),
        "Names": names(container, whole),
        "Networks": networks.join(","),
        "Platform": Value::Null,
        "Ports": ports(&container["Ports"]),
        "RunningFor": human::ago(now, created),
        "Size": size(container),
        "State": text("State"),
        "Status": text("Status"),
    })
}

/// Names without their slash; those of links (with a second slash) only on request.
fn names(container: &Value, whole: bool) -> String {
    let names = container["Names"].as_array().into_iter().flatten();
    let names = names
        .filter_map(Value::as_str)
        .map(|n| n.strip_prefix('/').unwrap_or(n));
    names
        .filter(|n| whole || !n.contains('/'))
        .collect::<Vec<_>>()
        .join(",")
}

fn size(container: &Value) -> String {
    let written = human::size(container["SizeRw"].as_u64().unwrap_or(0), 3);
    match container["SizeRootFs"].as_u64() {
        Some(whole) if whole > 0 => format!("{written} (virtual {})", human::size(whole, 3)),
        _ => written,
    }
}

/// A run of neighbouring ports of one address and protocol.
struct PortRun {
    address: String,
    protocol: String,
    public: Option<(u64, u64)>,
    private: (u64, u64),
}

/// `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp`, with neighbours joined as `8000-8001->80-81/tcp`.
fn ports(ports: &Value) -> String {
    let mut all: Vec<_> = ports.as_array().into_iter().flatten().collect();
    let number = |port: &Value, field: &str| port[field].as_u64().unwrap_or(0);
    let text = |port: &Value, field: &str| port[field].as_str().unwrap_or_default().to_owned();
    all.sort_by_key(|p| {
        (
            number(p, "PrivatePort"),
            text(p, "IP"),
            number(p, "PublicPort"),
            text(p, "Type"),
        )
    });
    let mut runs: Vec<PortRun> = Vec::new();
    for port in all {
        let private = number(port, "PrivatePort");
        let public = Some(number(port, "PublicPort")).filter(|p| *p > 0);
        let (address, protocol) = (text(port, "IP"), text(port, "Type"));
        let grown = runs.iter_mut().find(|run| {
            let beside = match (run.public, public) {
                // Only a one-to-one range reads well joined.
                (Some((first, last)), Some(p)) => {
                    p == last + 1 && last - first == run.private.1 - run.private.0
                }
                (None, None) => true,
                _ => false,
            };
            run.address == address
                && run.protocol == protocol
                && private == run.private.1 + 1
                && beside
        });
        match grown {
            Some(run) => {
                run.private.1 = private;
                run.public = run.public.map(|(first, last)| (first, last + 1));
            }
            None => runs.push(PortRun {
                address,
                protocol,
                public: public.map(|p| (p, p)),
                private: (private, private),
            }),
        }
    }
    let range = |(first, last): (u64, u64)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    let shown = runs.iter().map(|run| {
        let private = format!("{}/{}", range(run.private), run.protocol);
        match run.public {
            Some(public) if run.address.contains(':') => {
                format!("[{}]:{}->{private}", run.address, range(public))
            }
            Some(public) if !run.address.is_empty() => {
                format!("{}:{}->{private}", run.address, range(public))
            }
            Some(public) => format!("{}->{private}", range(public)),
            None => private,
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_list_reads_as_docker_shows_it() {
        let containers = [
            json!({
                "Id": "ab".repeat(32), "Names": ["/web", "/front/web"], "Image": "debian:12",
                "Command": "bash -c 'sleep infinity'", "Created": 940, "State": "running",
                "Status": "Up 3 seconds", "Labels": {"b": "2", "a": "1"},
                "Ports": [
                    {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                    {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                    {"PrivatePort": 53, "Type": "udp"},
                ],
            }),
            json!({"Id": "cd".repeat(32), "Names": ["/db"], "Image": format!("sha256:{}", "ef".repeat(32)),
                "Command": "postgres", "Created": 0, "State": "exited", "Status": "Exited (0) 5 minutes ago"}),
        ];
        let rows = containers
            .iter()
            .map(|c| row(c, Timestamp::from_seconds(1000), false))
            .collect();
        let listing = Listing {
            headings: HEADINGS,
            table: TABLE,
            rows,
        };
        expect![[r#"
            CONTAINER ID   IMAGE          COMMAND                  CREATED              STATUS                     PORTS                                             NAMES
            abababababab   debian:12      "bash -c 'sleep infi…"   About a minute ago   Up 3 seconds               53/udp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp   web
            cdcdcdcdcdcd   efefefefefef   "postgres"               16 minutes ago       Exited (0) 5 minutes ago                                                     db
        "#]].assert_eq(&listing.render(None).unwrap());
        expect![[r#"
            web: 1 a=1,b=2 1970-01-01 00:15:40 +0000 UTC
            db:   1970-01-01 00:00:00 +0000 UTC
        "#]]
        .assert_eq(
            &listing
                .render(Some(
                    "{{.Names}}: {{.Label \"a\"}} {{.Labels}} {{.CreatedAt}}",
                ))
                .unwrap(),
        );
    }

    #[test]
    fn neighbouring_ports_are_joined() {
        let port = |private: u64, public: u64| json!({"IP": "0.0.0.0", "PrivatePort": private, "PublicPort": public, "Type": "tcp"});
        let text = ports(&json!([port(81, 8001), port(80, 8000), port(90, 7000)]));
        assert_eq!(text, "0.0.0.0:8000-8001->80-81/tcp, 0.0.0.0:7000->90/tcp");
        let exposed = |p: u64| json!({"PrivatePort": p, "Type": "tcp"});
        assert_eq!(
            ports(&json!([exposed(1), exposed(2), exposed(4)])),
            "1-2/tcp, 4/tcp"
        );
    }
}
