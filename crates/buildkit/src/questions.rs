//! Questions about a Dockerfile in place of a build (`--call`): which targets it has (buildkit `frontend/subrequests/targets`).

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_build::dockerfile::Dockerfile;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::error::missing;

/// An answer: what is shown, in the metadata of a result without files.
pub(crate) type Answer = HashMap<String, Vec<u8>>;

/// Answers a question about a Dockerfile.
pub(crate) fn answer(question: &str, text: &str) -> Result<Answer, Status> {
    let file = Dockerfile::parse(text);
    let file = file.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    match question {
        "targets" => Ok(targets(&file, text)),
        "subrequests.describe" => Ok(told(
            &json!([described()]),
            "NAME DESCRIPTION\ntargets List all targets current build supports\n",
        )),
        other => Err(missing(format!(
            "the question {other:?} about a Dockerfile"
        ))),
    }
}

fn described() -> Value {
    json!({
        "name": "frontend.targets",
        "version": "1.0.0",
        "type": "rpc",
        "description": "List all targets current build supports",
        "opts": [],
        "inputs": null,
        "metadata": [{"name": "result.json", "description": ""}, {"name": "result.txt", "description": ""}],
        "refs": null,
    })
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

fn targets(file: &Dockerfile, text: &str) -> Answer {
    let mut list = Vec::new();
    let mut table = vec![["TARGET".to_owned(), "DESCRIPTION".to_owned()]];
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
        target["location"] = json!({
            "ranges": [{
                "start": {"line": stage.lines.first},
                "end": {"line": stage.lines.last},
            }],
        });
        list.push(target);
        let name = match &stage.name {
            Some(name) if number == last => format!("{name} (default)"),
            Some(name) => name.clone(),
            None if number == last => "(default)".to_owned(),
            None => continue,
        };
        table.push([name, stage.description.clone().unwrap_or_default()]);
    }
    let width = table
        .iter()
        .map(|[name, _]| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut shown = String::new();
    for [name, description] in table {
        let line = format!("{name:width$} {description}");
        let _ = writeln!(shown, "{}", line.trim_end());
    }
    told(
        &json!({"targets": list, "sources": [STANDARD.encode(text)]}),
        &shown,
    )
}

#[cfg(test)]
mod tests {
    use super::answer;

    #[test]
    fn targets_are_listed_with_what_is_said_of_them() {
        let text = "FROM busybox AS base\n\n# app is what runs.\nFROM base AS app\n";
        let answer = answer("targets", text).unwrap();
        let shown = String::from_utf8(answer["result.txt"].clone()).unwrap();
        expect_test::expect![[r#"
            TARGET        DESCRIPTION
            base
            app (default) is what runs.
        "#]]
        .assert_eq(&shown);
        let value: serde_json::Value = serde_json::from_slice(&answer["result.json"]).unwrap();
        assert_eq!(value["targets"][1]["default"], true);
        assert_eq!(value["targets"][0]["base"], "busybox");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let status = answer("outline", "FROM busybox\n").unwrap_err();
        assert!(status.message().contains("\"outline\""));
        assert!(answer("targets", "FRO busybox\n").is_err());
    }
}
