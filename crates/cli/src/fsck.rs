//! `fsck`: asks a running engine to check itself, or has the data root of one that does not run checked here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use hoist_model::ImageReference;
use hoist_render::human;
use serde_json::{Map, Value, json};

use super::{Context, Failure, Run, output, registry};

/// The status of a check that could not be made, as of fsck(8).
const NOT_CHECKED: u8 = 8;

/// What to check of an engine that does not run.
pub struct AtRest<'a> {
    /// Where its data is.
    pub data_root: PathBuf,
    /// Its daemon.json, if not the usual one.
    pub config_file: Option<PathBuf>,
    /// Whether to repair.
    pub repair: bool,
    /// The login that is stored for a registry; an empty object where there is none.
    pub login: &'a dyn Fn(&str) -> Value,
}

/// Checks it; the report as `POST /hoist/fsck` answers it, or one sentence.
pub type FsckAtRest = fn(&AtRest<'_>) -> Result<Value, String>;

/// Check that images, layers and containers' files are what their names say and all that is needed is there. Exits with 0 if nothing
/// is wrong, 1 if what was wrong is repaired, 2 if something is still wrong, 8 if nothing could be checked.
#[derive(Args, Debug)]
pub(crate) struct Fsck {
    /// Repair: make indexes again, fetch what is damaged or missing from the image's registry, remove what belongs to nobody
    #[arg(long)]
    repair: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Check this data root, whose engine does not run, instead of asking an engine
    #[arg(long, value_name = "PATH")]
    data_root: Option<PathBuf>,
    /// With --data-root: the engine's daemon.json, which says how registries are reached
    #[arg(long, value_name = "PATH", requires = "data_root")]
    config_file: Option<PathBuf>,
}

impl Run for Fsck {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        let checked = match self.data_root {
            None => running(self.repair, context).await,
            Some(data_root) => {
                // A helper that fails is as good as no login: the registry says what it wants.
                let login = |host: &str| registry::login_for(context, host).unwrap_or_default();
                let at_rest = AtRest {
                    data_root,
                    config_file: self.config_file,
                    repair: self.repair,
                    login: &login,
                };
                (context.fsck_at_rest)(&at_rest).map_err(Failure::new)
            }
        };
        let report = checked.map_err(|failure| failure.code(NOT_CHECKED))?;
        if self.json {
            output::line(report.to_string())?;
        } else {
            output::text(words(&report, self.repair))?;
        }
        let code = report["ExitCode"].as_u64();
        Ok(code
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(NOT_CHECKED))
    }
}

async fn running(repair: bool, context: &Context) -> Result<Value, Failure> {
    // Where no engine runs none is started: its start would change what is to be checked.
    let client = context.client_as_is()?;
    let mut credentials = Map::new();
    if repair {
        let images: Value = client.get("/images/json").send().await?.json().await?;
        for host in hosts(&images) {
            let login = registry::login_for(context, &host)?;
            credentials.insert(host, login);
        }
    }
    let asked = client
        .post("/hoist/fsck")
        .json(&json!({ "Repair": repair, "Credentials": credentials }));
    let reply = asked.send().await.map_err(|error| {
        let nobody = error.nobody_listens();
        let mut failure = Failure::from(error);
        if nobody {
            failure.message += "\nThe data of an engine that does not run is checked with --data-root, /var/lib/hoist if it was not told another.";
        }
        failure
    })?;
    Ok(reply.json().await?)
}

/// The registries that images have names of.
fn hosts(images: &Value) -> BTreeSet<String> {
    let images = images.as_array().into_iter().flatten();
    let names = images.flat_map(|image| {
        ["RepoTags", "RepoDigests"]
            .iter()
            .flat_map(|key| image[*key].as_array().into_iter().flatten())
    });
    let parsed = names.filter_map(|name| ImageReference::parse(name.as_str()?).ok());
    parsed
        .map(|reference| reference.repository().host().to_owned())
        .collect()
}

/// The report for people.
fn words(report: &Value, repair: bool) -> String {
    let mut text = String::new();
    let mut line = |said: String| {
        text += &said;
        text.push('\n');
    };
    let findings = report["Findings"].as_array().cloned().unwrap_or_default();
    let mut repaired = 0;
    for finding in &findings {
        let said = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        line(said("Text"));
        let needed: Vec<&str> = finding["NeededBy"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if !needed.is_empty() {
            line(format!("    needed by {}", needed.join(", ")));
        }
        match said("Outcome").as_str() {
            "repaired" => {
                repaired += 1;
                line(format!("    repaired: {}", said("Detail")));
            }
            "kept" => line(format!("    not repaired: {}", said("Detail"))),
            _ => {}
        }
    }
    for note in report["Notes"].as_array().into_iter().flatten() {
        line(format!("note: {}", note.as_str().unwrap_or_default()));
    }
    let count = |key: &str| report[key].as_u64().unwrap_or(0);
    let of = |key: &str, one: &str| match count(key) {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    };
    let found = match (findings.len(), repaired) {
        (0, _) => "nothing is wrong".to_owned(),
        (1, 0) => "1 problem".to_owned(),
        (all, 0) => format!("{all} problems"),
        (1, 1) => "1 problem, repaired".to_owned(),
        (all, done) if all == done => format!("{all} problems, all repaired"),
        (all, done) => format!("{all} problems, {done} repaired"),
    };
    line(format!(
        "checked {}, {}, {}, {}, {}: {found}",
        of("Images", "image"),
        of("Layers", "layer"),
        of("Documents", "document"),
        of("Containers", "container"),
        human::size(count("Bytes"), 3),
    ));
    if !findings.is_empty() && !repair {
        line("hoist fsck --repair repairs what it can".to_owned());
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn reports_are_told_in_words() {
        let report = json!({
            "Images": 1, "Layers": 2, "Documents": 0, "Containers": 1, "Bytes": 1_234_567,
            "Findings": [
                {"Text": "layer a is damaged", "NeededBy": ["container web", "image app:1"],
                 "Outcome": "repaired", "Detail": "fetched again from r/app@d"},
                {"Text": "x: left by an interrupted engine", "NeededBy": [], "Outcome": "kept", "Detail": "busy"},
            ],
            "Notes": ["something else was not looked at"],
        });
        expect![[r#"
            layer a is damaged
                needed by container web, image app:1
                repaired: fetched again from r/app@d
            x: left by an interrupted engine
                not repaired: busy
            note: something else was not looked at
            checked 1 image, 2 layers, 0 documents, 1 container, 1.23MB: 2 problems, 1 repaired
        "#]]
        .assert_eq(&words(&report, true));
        let clean = json!({"Images": 0, "Findings": []});
        expect![[r#"
            checked 0 images, 0 layers, 0 documents, 0 containers, 0B: nothing is wrong
        "#]]
        .assert_eq(&words(&clean, false));
    }

    #[test]
    fn registries_are_those_of_names() {
        let images = json!([
            {"RepoTags": ["app:1", "<none>:<none>"], "RepoDigests": null},
            {"RepoTags": ["localhost:5000/a/b:2"], "RepoDigests": []},
        ]);
        let hosts = hosts(&images).into_iter().collect::<Vec<_>>();
        assert_eq!(hosts, ["docker.io", "localhost:5000"]);
    }
}
