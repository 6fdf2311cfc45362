//! Questions about a Dockerfile in place of a build (`--check`, `--call`): what is most likely wrong with it, what it takes, which targets it has
//! (buildkit `frontend/subrequests`: lint, outline, targets).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_build::check::{Warning, report};
use hoist_build::dockerfile::{Action, Argument, Dockerfile, Lines, MountKind};
use hoist_build::plan::{Operation, Plan};
use hoist_build::ports::{BaseImages, PortError};
use hoist_build::{BuildError, BuildRequest, Builder, EventFn};
use hoist_model::{ErrorClass, chain};
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::error::missing;

/// An answer: what is shown, in the metadata of a result without files.
pub(crate) type Answer = HashMap<String, Vec<u8>>;

/// What a question is about.
pub(crate) struct Asked<'a> {
    pub(crate) builder: &'a Builder,
    /// The Dockerfile and how it would be built.
    pub(crate) request: &'a BuildRequest,
    /// The Dockerfile's name.
    pub(crate) name: &'a str,
    pub(crate) bases: &'a dyn BaseImages,
    pub(crate) events: EventFn,
}

/// Answers a question about a Dockerfile as text, with the status that a command ends with.
///
/// # Errors
/// There is no such question, or no answer.
pub async fn answer_as_text(
    question: &str,
    builder: &Builder,
    request: &BuildRequest,
    name: &str,
    bases: &dyn BaseImages,
    events: EventFn,
) -> Result<(String, u8), PortError> {
    let asked = Asked {
        builder,
        request,
        name,
        bases,
        events,
    };
    let answered = answer(question, asked).await;
    let answered = answered.map_err(|status| PortError {
        message: status.message().to_owned(),
        class: match status.code() {
            Code::Unimplemented => ErrorClass::NotImplemented,
            _ => ErrorClass::InvalidArgument,
        },
    })?;
    let text = answered.get("result.txt").map(Vec::as_slice);
    let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    let failed = answered
        .get("result.statuscode")
        .is_some_and(|code| code == b"1");
    Ok((text, failed.into()))
}

/// Answers a question about a Dockerfile.
pub(crate) async fn answer(question: &str, asked: Asked<'_>) -> Result<Answer, Status> {
    let text = &asked.request.dockerfile;
    match question {
        "lint" => {
            let Asked {
                builder,
                request,
                name,
                bases,
                events,
            } = asked;
            let checked = builder.check(request, bases, events).await;
            Ok(lint(&checked, name, text))
        }
        "outline" => {
            let (bases, events) = (asked.bases, asked.events);
            let planned = asked.builder.plan(asked.request, bases, events).await;
            let plan = planned.map_err(|error| refused(&error))?;
            let file = Dockerfile::parse(text).map_err(|error| refused(&error))?;
            Ok(outline(&file, &plan, asked.request, text))
        }
        "targets" => {
            let file = Dockerfile::parse(text).map_err(|error| refused(&error))?;
            Ok(targets(&file, text))
        }
        "subrequests.describe" => Ok(described()),
        other => Err(missing(format!(
            "the question {other:?} about a Dockerfile"
        ))),
    }
}

fn refused(error: &(dyn std::error::Error + 'static)) -> Status {
    Status::new(Code::InvalidArgument, chain(error))
}

const QUESTIONS: [(&str, &str); 4] = [
    ("frontend.lint", "Lint a Dockerfile"),
    (
        "frontend.outline",
        "List all parameters current build target supports",
    ),
    (
        "frontend.subrequests.describe",
        "List available subrequest types",
    ),
    (
        "frontend.targets",
        "List all targets current build supports",
    ),
];

fn described() -> Answer {
    let mut shown = String::from("NAME DESCRIPTION\n");
    let described = QUESTIONS.map(|(name, description)| {
        let short = name.trim_start_matches("frontend.");
        let _ = writeln!(shown, "{short} {description}");
        json!({
            "name": name,
            "version": "1.0.0",
            "type": "rpc",
            "description": description,
            "opts": [],
            "inputs": null,
            "metadata": [{"name": "result.json", "description": ""}, {"name": "result.txt", "description": ""}],
            "refs": null,
        })
    });
    told(&json!(described), &shown)
}

fn told(value: &Value, text: &str) -> Answer {
    let mut json = serde_json::to_vec_pretty(value).unwrap_or_default();
    json.push(b'\n');
    [
        ("result.json", json),
        ("result.txt", text.as_bytes().to_vec()),
        ("version", b"1.0.0".to_vec()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

fn location(lines: Lines) -> Value {
    json!({"ranges": [{"start": {"line": lines.first}, "end": {"line": lines.last}}]})
}

/// What checks found; a file that cannot be planned at all is found to be that.
fn lint(checked: &Result<Vec<Warning>, BuildError>, name: &str, text: &str) -> Answer {
    let source = json!({
        "filename": name,
        "language": "Dockerfile",
        "data": STANDARD.encode(text),
    });
    let mut results = json!({"warnings": [], "sources": [source]});
    let mut shown = String::new();
    let is_clean = match checked {
        Ok(warnings) => {
            let listed = warnings.iter().map(|warning| {
                json!({
                    "ruleName": warning.rule.name(),
                    "description": warning.rule.description(),
                    "url": warning.rule.url().unwrap_or_default(),
                    "detail": warning.message,
                    "location": location(warning.lines),
                })
            });
            results["warnings"] = listed.collect();
            shown = report(warnings, name, text);
            warnings.is_empty()
        }
        Err(error) => {
            let message = chain(error);
            let lines = error.lines().unwrap_or(Lines { first: 1, last: 1 });
            results["buildError"] = json!({"message": message, "location": location(lines)});
            let _ = writeln!(shown, "{message}");
            false
        }
    };
    let mut answer = told(&results, &shown);
    let code = if is_clean { "0" } else { "1" };
    answer.insert("result.statuscode".to_owned(), code.into());
    answer
}

/// What may be given to a build of the target: arguments, secrets, agents, and its caches. Values are as written, unless they are given.
fn outline(file: &Dockerfile, plan: &Plan, request: &BuildRequest, text: &str) -> Answer {
    let needed: BTreeSet<usize> = plan.told.iter().map(|told| told.stage).collect();
    let stages = || needed.iter().filter_map(|number| file.stages.get(*number));
    let mut arguments: BTreeMap<&str, (&Argument, Lines)> = BTreeMap::new();
    for (lines, argument) in &file.arguments {
        arguments.insert(&argument.name, (argument, *lines));
    }
    for instruction in stages().flat_map(|stage| &stage.instructions) {
        if let Action::Arg(of_stage) = &instruction.action {
            for argument in of_stage {
                let known = arguments.get(argument.name.as_str());
                // One that takes over what stands above says nothing of its own.
                if known.is_none() || argument.default.is_some() || argument.description.is_some() {
                    arguments.insert(&argument.name, (argument, instruction.lines));
                }
            }
        }
    }
    let given = &request.options.arguments;
    let listed: Vec<_> = arguments
        .values()
        .map(|(argument, lines)| {
            let given = given.get(&argument.name).cloned().flatten();
            let value = given.or_else(|| argument.default.clone());
            let description = argument.description.clone().unwrap_or_default();
            (
                argument.name.clone(),
                value.unwrap_or_default(),
                description,
                *lines,
            )
        })
        .collect();
    let mut wanted: [BTreeMap<String, (bool, Lines)>; 3] = Default::default();
    for told in &plan.told {
        let operation = told.step.map(|step| &plan.steps[step].operation);
        let Some(Operation::Run(run)) = operation else {
            continue;
        };
        for mount in run.mounts.iter().map(|one| &one.mount) {
            let id = mount.id.as_ref().or(mount.source.as_ref());
            let id = id.or(mount.target.as_ref()).cloned().unwrap_or_default();
            let (list, id, required) = match &mount.kind {
                MountKind::Secret { required, .. } => {
                    let id = id.rsplit('/').next().unwrap_or_default();
                    (0, id.to_owned(), *required)
                }
                MountKind::Ssh { required } => {
                    let id = mount.id.clone();
                    (1, id.unwrap_or_else(|| "default".to_owned()), *required)
                }
                MountKind::Cache { .. } => {
                    let id = mount.id.clone().or_else(|| mount.target.clone());
                    (2, id.unwrap_or_default(), false)
                }
                _ => continue,
            };
            let entry = wanted[list].entry(id).or_insert((required, told.lines));
            entry.0 |= required;
        }
    }
    let [secrets, agents, caches] = wanted;
    let target = plan
        .told
        .last()
        .and_then(|told| file.stages.get(told.stage));
    let name = target.and_then(|stage| stage.name.clone());
    let description = target.and_then(|stage| stage.description.clone());
    let named = |list: &BTreeMap<String, (bool, Lines)>, key: &str| -> Value {
        let one = |(name, (required, lines)): (&String, &(bool, Lines))| json!({key: name, "required": required, "location": location(*lines)});
        list.iter().map(one).collect()
    };
    let value = json!({
        "name": name,
        "description": description,
        "args": listed.iter().map(|(name, value, description, lines)| json!({
            "name": name, "value": value, "description": description, "location": location(*lines),
        })).collect::<Vec<_>>(),
        "secrets": named(&secrets, "name"),
        "ssh": named(&agents, "name"),
        "cache": named(&caches, "ID"),
        "sources": [STANDARD.encode(text)],
    });
    let mut shown = String::new();
    if name.is_some() || description.is_some() {
        let name = name.unwrap_or_else(|| "(default)".to_owned());
        let mut rows = vec![["TARGET:".to_owned(), name]];
        rows.extend(description.map(|text| ["DESCRIPTION:".to_owned(), text]));
        shown += &table(&rows, 1);
        shown.push('\n');
    }
    if !listed.is_empty() {
        let mut rows = vec![["BUILD ARG", "VALUE", "DESCRIPTION"].map(str::to_owned)];
        let lines = listed.into_iter();
        rows.extend(lines.map(|(name, value, description, _)| [name, value, description]));
        shown += &table(&rows, 3);
        shown.push('\n');
    }
    for (title, list) in [("SECRET", &secrets), ("SSH", &agents)] {
        if !list.is_empty() {
            let mut rows = vec![[title.to_owned(), "REQUIRED".to_owned()]];
            rows.extend(list.iter().map(|(name, (required, _))| {
                let required = if *required { "true" } else { "" };
                [name.clone(), required.to_owned()]
            }));
            shown += &table(&rows, 3);
            shown.push('\n');
        }
    }
    told(&value, &shown)
}

/// Columns as wide as what is in them, so many blanks apart.
fn table<const N: usize>(rows: &[[String; N]], apart: usize) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0) + apart
    };
    let mut shown = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(line, "{cell:width$}", width = width(column));
        }
        let _ = writeln!(shown, "{}", line.trim_end());
    }
    shown
}

fn targets(file: &Dockerfile, text: &str) -> Answer {
    let mut list = Vec::new();
    let mut rows = vec![["TARGET", "DESCRIPTION"].map(str::to_owned)];
    let last = file.stages.len() - 1;
    for (number, stage) in file.stages.iter().enumerate() {
        let mut target = json!({});
        if let Some(name) = &stage.name {
            target["name"] = json!(name);
        }
        if number == last {
            target["default"] = json!(true);
        }
        if let Some(description) = &stage.description {
            target["description"] = json!(description);
        }
        target["base"] = json!(stage.base);
        target["location"] = location(stage.lines);
        list.push(target);
        let name = match &stage.name {
            Some(name) if number == last => format!("{name} (default)"),
            Some(name) => name.clone(),
            None if number == last => "(default)".to_owned(),
            None => continue,
        };
        rows.push([name, stage.description.clone().unwrap_or_default()]);
    }
    told(
        &json!({"targets": list, "sources": [STANDARD.encode(text)]}),
        &table(&rows, 1),
    )
}

#[cfg(test)]
mod tests {
    use hoist_build::plan::{PlanOptions, Planned, plan};

    use super::*;

    fn text(answer: &Answer) -> String {
        String::from_utf8(answer["result.txt"].clone()).unwrap()
    }

    #[test]
    fn targets_are_listed_with_what_is_said_of_them() {
        let file = "FROM busybox AS base\n\n# app is what runs.\nFROM base AS app\n";
        let answer = targets(&Dockerfile::parse(file).unwrap(), file);
        expect_test::expect![[r#"
            TARGET        DESCRIPTION
            base
            app (default) is what runs.
        "#]]
        .assert_eq(&text(&answer));
        let value: Value = serde_json::from_slice(&answer["result.json"]).unwrap();
        assert_eq!(value["targets"][1]["default"], true);
        assert_eq!(value["targets"][0]["base"], "busybox");
    }

    #[test]
    fn an_outline_has_what_the_target_takes() {
        let file = "ARG VERSION=1\nFROM scratch AS other\nARG UNSEEN\nCOPY . /\n\
            FROM scratch AS base\n# MODE is how.\nARG MODE=fast\nARG VERSION\n\
            RUN --mount=type=secret,id=token,required=true --mount=type=ssh --mount=type=cache,target=/c [\"x\"]\n\
            # app is it.\nFROM base AS app\n";
        let parsed = Dockerfile::parse(file).unwrap();
        let mut request = BuildRequest::default();
        let mode = ("MODE".to_owned(), Some("slow".to_owned()));
        request.options.arguments.extend([mode]);
        let options = PlanOptions {
            arguments: request.options.arguments.clone(),
            ..PlanOptions::default()
        };
        let Planned::Ready(plan) = plan(&parsed, &options, &HashMap::new()).unwrap() else {
            panic!("it needs no image");
        };
        let answer = outline(&parsed, &plan, &request, file);
        expect_test::expect![[r#"
            TARGET:      app
            DESCRIPTION: is it.

            BUILD ARG   VALUE   DESCRIPTION
            MODE        slow    is how.
            VERSION     1

            SECRET   REQUIRED
            token    true

            SSH       REQUIRED
            default

        "#]]
        .assert_eq(&text(&answer));
        let value: Value = serde_json::from_slice(&answer["result.json"]).unwrap();
        assert_eq!(value["cache"][0]["ID"], "/c");
        assert_eq!(
            value["args"][0]["location"]["ranges"][0]["start"]["line"],
            7
        );
    }

    #[test]
    fn what_is_found_has_a_status() {
        let clean = lint(&Ok(Vec::new()), "Dockerfile", "FROM scratch\n");
        assert_eq!(clean["result.statuscode"], b"0");
        let broken = Dockerfile::parse("FRO x\n").unwrap_err();
        let broken = BuildError::Plan(broken.into());
        let broken = lint(&Err(broken), "Dockerfile", "FRO x\n");
        assert_eq!(broken["result.statuscode"], b"1");
        let value: Value = serde_json::from_slice(&broken["result.json"]).unwrap();
        assert_eq!(
            value["buildError"]["location"]["ranges"][0]["start"]["line"],
            1
        );
    }
}
