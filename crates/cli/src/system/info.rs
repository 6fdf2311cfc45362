//! `info`.

use clap::Args;
use serde_json::Value;

use crate::{Context, Failure, Run, output};
use hoist_render::human;
use hoist_render::template::Template;

/// `info`.
#[derive(Args, Debug)]
pub(crate) struct Info {
    /// Format output using a custom template: 'json' or a Go template
    #[arg(short, long, value_name = "string")]
    format: Option<String>,
}

impl Run for Info {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let found: Value = context.client()?.get("/info").send().await?.json().await?;
        match self.format.as_deref() {
            None | Some("") => {
                output::text(sections(&found))?;
                for warning in found["Warnings"].as_array().into_iter().flatten() {
                    output::warn(warning.as_str().unwrap_or_default());
                }
            }
            Some("json") => output::line(found.to_string())?,
            Some(template) => output::line(Template::parse(template)?.render(&found)?)?,
        }
        Ok(0)
    }
}

struct Text(String);

impl Text {
    fn line(&mut self, depth: usize, name: &str, value: impl std::fmt::Display) {
        let indent = " ".repeat(depth);
        let line = format!("{indent}{name}: {value}");
        self.0 += line.trim_end();
        self.0.push('\n');
    }
}

fn sections(info: &Value) -> String {
    let text = |field: &str| info[field].as_str().unwrap_or_default();
    let number = |field: &str| info[field].as_u64().unwrap_or(0);
    let words = |value: &Value| {
        let words = value.as_array().into_iter().flatten();
        words
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut out = Text("Client: Hoist\n".to_owned());
    out.line(1, "Version", env!("CARGO_PKG_VERSION"));
    out.0 += "\nServer:\n";
    for (depth, name, field) in [
        (1, "Containers", "Containers"),
        (2, "Running", "ContainersRunning"),
        (2, "Paused", "ContainersPaused"),
        (2, "Stopped", "ContainersStopped"),
        (1, "Images", "Images"),
    ] {
        out.line(depth, name, number(field));
    }
    out.line(1, "Server Version", text("ServerVersion"));
    out.line(1, "Storage Driver", text("Driver"));
    for pair in info["DriverStatus"].as_array().into_iter().flatten() {
        if let (Some(name), Some(value)) = (pair[0].as_str(), pair[1].as_str()) {
            out.line(2, name, value);
        }
    }
    out.line(1, "Logging Driver", text("LoggingDriver"));
    out.line(1, "Cgroup Driver", text("CgroupDriver"));
    out.line(1, "Cgroup Version", text("CgroupVersion"));
    out.0 += " Plugins:\n";
    for (name, field) in [("Volume", "Volume"), ("Network", "Network"), ("Log", "Log")] {
        out.line(2, name, words(&info["Plugins"][field]));
    }
    out.line(
        1,
        "Swarm",
        info["Swarm"]["LocalNodeState"]
            .as_str()
            .unwrap_or("inactive"),
    );
    let mut runtimes: Vec<_> = info["Runtimes"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(n, _)| n.as_str())
        .collect();
    runtimes.sort_unstable();
    out.line(1, "Runtimes", runtimes.join(" "));
    out.line(1, "Default Runtime", text("DefaultRuntime"));
    out.line(1, "Init Binary", text("InitBinary"));
    out.0 += " Security Options:\n";
    for option in info["SecurityOptions"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        for (position, pair) in option.split(',').enumerate() {
            let (key, value) = pair.split_once('=').unwrap_or(("name", pair));
            if position == 0 {
                out.0 += &format!("  {value}\n");
            } else {
                let key = if key == "profile" { "Profile" } else { key };
                out.line(3, key, value);
            }
        }
    }
    for (name, field) in [
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ] {
        out.line(1, name, text(field));
    }
    out.line(1, "CPUs", number("NCPU"));
    out.line(1, "Total Memory", human::binary_size(number("MemTotal")));
    for (name, field) in [
        ("Name", "Name"),
        ("ID", "ID"),
        ("Docker Root Dir", "DockerRootDir"),
    ] {
        out.line(1, name, text(field));
    }
    for (name, field) in [
        ("Debug Mode", "Debug"),
        ("Experimental", "ExperimentalBuild"),
    ] {
        out.line(1, name, info[field].as_bool().unwrap_or(false));
    }
    let registries = info["RegistryConfig"]["IndexConfigs"]
        .as_object()
        .into_iter()
        .flatten();
    let insecure: Vec<_> = registries
        .filter(|(_, r)| r["Secure"] == false)
        .map(|(name, _)| name.clone())
        .chain(
            words(&info["RegistryConfig"]["InsecureRegistryCIDRs"])
                .split(' ')
                .map(str::to_owned),
        )
        .filter(|name| !name.is_empty())
        .collect();
    if !insecure.is_empty() {
        out.0 += " Insecure Registries:\n";
        for name in insecure {
            out.0 += &format!("  {name}\n");
        }
    }
    out.line(
        1,
        "Live Restore Enabled",
        info["LiveRestoreEnabled"].as_bool().unwrap_or(false),
    );
    out.0
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_usual_fields_are_shown() {
        let info = json!({
            "Containers": 2, "ContainersRunning": 1, "Images": 3, "ServerVersion": "29.0.0", "Driver": "hoist",
            "DriverStatus": [["Snapshotter", "erofs"]], "LoggingDriver": "json-file", "NCPU": 2,
            "MemTotal": 8_249_618_432_u64, "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
            "Runtimes": {"hoist": {}}, "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"]},
        });
        expect![[r#"
            Client: Hoist
             Version: 0.1.0

            Server:
             Containers: 2
              Running: 1
              Paused: 0
              Stopped: 0
             Images: 3
             Server Version: 29.0.0
             Storage Driver: hoist
              Snapshotter: erofs
             Logging Driver: json-file
             Cgroup Driver:
             Cgroup Version:
             Plugins:
              Volume:
              Network:
              Log:
             Swarm: inactive
             Runtimes: hoist
             Default Runtime:
             Init Binary:
             Security Options:
              seccomp
               Profile: builtin
              cgroupns
             Kernel Version:
             Operating System:
             OSType:
             Architecture:
             CPUs: 2
             Total Memory: 7.683GiB
             Name:
             ID:
             Docker Root Dir:
             Debug Mode: false
             Experimental: false
             Insecure Registries:
              127.0.0.0/8
             Live Restore Enabled: false
        "#]]
        .assert_eq(&sections(&info));
    }
}
