//! Whether what we built is what Docker's builders built.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::saved::{Image, Node};

/// An image, or what was said last.
type Built<'a> = Result<Image, &'a str>;

/// Says what of ours is neither builder's.
pub(super) fn outcomes(
    classic: &Built<'_>,
    buildkit: &Built<'_>,
    ours: &Built<'_>,
    began: u64,
    wrong: &mut Vec<String>,
) {
    match (classic, buildkit, ours) {
        (Err(_), Err(_), Err(_)) => {}
        (Ok(classic), Ok(buildkit), Ok(ours)) => {
            files([classic, buildkit, ours], began, wrong);
            configs([classic, buildkit, ours], wrong);
            histories([classic, buildkit, ours], wrong);
        }
        // Where only one of them can, what it makes is what is right.
        (Ok(one), Err(_), Ok(ours)) | (Err(_), Ok(one), Ok(ours)) => {
            files([one, one, ours], began, wrong);
            configs([one, one, ours], wrong);
            histories([one, one, ours], wrong);
        }
        (Ok(_), Err(_), Err(_)) | (Err(_), Ok(_), Err(_)) => {}
        (classic, buildkit, ours) => {
            let said = [
                ("classic", classic),
                ("buildkit", buildkit),
                ("hoist", ours),
            ];
            for (builder, outcome) in said {
                wrong.push(format!(
                    "{builder}: {:?}",
                    outcome.as_ref().map(|_| "built")
                ));
            }
        }
    }
}

/// One thing, as each of the three has it.
fn check(what: &str, [classic, buildkit, ours]: [&str; 3], wrong: &mut Vec<String>) {
    if ours == classic || ours == buildkit {
        return;
    }
    let docker = if classic == buildkit {
        format!("docker: {classic}")
    } else {
        format!("classic: {classic}\n    buildkit: {buildkit}")
    };
    wrong.push(format!("  {what}\n    {docker}\n    hoist: {ours}"));
}

fn files(images: [&Image; 3], began: u64, wrong: &mut Vec<String>) {
    let paths: BTreeSet<&String> = images.iter().flat_map(|image| image.files.keys()).collect();
    let names = images.map(|image| first_names(&image.files));
    for path in paths {
        let nodes = images.map(|image| image.files.get(path));
        let described = [0, 1, 2].map(|at| match nodes[at] {
            None => "nothing".to_owned(),
            Some(node) => match names[at][&node.inode] {
                first if first != path => format!("{} as {first}", node.described),
                _ => node.described.clone(),
            },
        });
        check(path, described.each_ref().map(String::as_str), wrong);
        let times = nodes.map(|node| match node {
            None => "none".to_owned(),
            Some(node) if node.modified >= began => "now".to_owned(),
            Some(node) => node.modified.to_string(),
        });
        // A directory in which something was made: with us its time is what it was, so that equal steps make equal layers.
        let is_directory = nodes[2].is_some_and(|node| node.is_directory);
        if is_directory && times[0] == "now" && times[1] == "now" {
            continue;
        }
        let what = format!("{path}, its time");
        check(&what, times.each_ref().map(String::as_str), wrong);
    }
}

/// Of each file the first of its names.
fn first_names(files: &BTreeMap<String, Node>) -> BTreeMap<usize, &String> {
    let mut names = BTreeMap::new();
    for (path, node) in files {
        names.entry(node.inode).or_insert(path);
    }
    names
}

fn configs(images: [&Image; 3], wrong: &mut Vec<String>) {
    const FIELDS: [&str; 14] = [
        "Env",
        "Cmd",
        "Entrypoint",
        "Labels",
        "ExposedPorts",
        "Volumes",
        "User",
        "WorkingDir",
        "Healthcheck",
        "OnBuild",
        "Shell",
        "StopSignal",
        "ArgsEscaped",
        "NetworkDisabled",
    ];
    for field in FIELDS {
        let values = images.map(|image| shown(&image.config["config"][field]));
        check(field, values.each_ref().map(String::as_str), wrong);
    }
    for field in ["author", "os", "architecture"] {
        let values = images.map(|image| shown(&image.config[field]));
        check(field, values.each_ref().map(String::as_str), wrong);
    }
}

/// A value; what says nothing is nothing.
fn shown(value: &Value) -> String {
    let is_nothing = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    };
    if is_nothing {
        "nothing".to_owned()
    } else {
        value.to_string()
    }
}

fn histories(images: [&Image; 3], wrong: &mut Vec<String>) {
    let lines = images.map(|image| history(&image.config));
    let most = lines.iter().map(Vec::len).max().unwrap_or_default();
    for at in 0..most {
        let said = [0, 1, 2].map(|builder| lines[builder].get(at).cloned().unwrap_or_default());
        check(
            &format!("line {} of the history", at + 1),
            said.each_ref().map(String::as_str),
            wrong,
        );
    }
}

/// A line for each instruction, without each builder's own words.
fn history(config: &Value) -> Vec<String> {
    let lines = config["history"].as_array().into_iter().flatten();
    lines
        .map(|line| {
            let text = line["created_by"].as_str().unwrap_or_default();
            let text = text.strip_suffix(" # buildkit").unwrap_or(text);
            let text = match text.strip_prefix("/bin/sh -c #(nop) ") {
                Some(text) => text.trim().to_owned(),
                None if line["comment"].is_null() && !text.is_empty() => format!("RUN {text}"),
                None => text.to_owned(),
            };
            let empty = line["empty_layer"].as_bool().unwrap_or_default();
            let text = match text.split_once(' ') {
                // The classic builder says a digest of what was copied.
                Some((name @ ("COPY" | "ADD"), _)) => name.to_owned(),
                // Docker 20.10 knows no start interval.
                Some(("HEALTHCHECK", _)) => text
                    .split_inclusive(']')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                _ => text,
            };
            let kind = if empty { "empty" } else { "layer" };
            format!("{kind}: {text}")
        })
        .collect()
}
