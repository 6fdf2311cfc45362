//! Checks of what stands in a file, whatever is built of it.

use super::{Rule, Warning};
use crate::dockerfile::{Action, Dockerfile, Stage};

/// Looks through a file.
pub(crate) fn check_file(file: &Dockerfile) -> Vec<Warning> {
    let mut found = Vec::new();
    for lines in &file.with_empty_lines {
        found.push(Warning {
            rule: Rule::NoEmptyContinuation,
            message: "Empty continuation line".to_owned(),
            lines: *lines,
        });
    }
    for wrong in &file.undescribed {
        found.push(Warning {
            rule: Rule::InvalidDefinitionDescription,
            message: format!(
                "Comment for {} should follow the format: `# {} <description>`",
                wrong.instruction, wrong.name
            ),
            lines: wrong.lines,
        });
    }
    names(file, &mut found);
    casing(file, &mut found);
    for stage in &file.stages {
        as_casing(stage, &mut found);
        for instruction in &stage.instructions {
            if let Action::Maintainer(_) = instruction.action {
                found.push(Warning {
                    rule: Rule::MaintainerDeprecated,
                    message: "Maintainer instruction is deprecated in favor of using label"
                        .to_owned(),
                    lines: instruction.lines,
                });
            }
        }
    }
    found
}

fn names(file: &Dockerfile, found: &mut Vec<Warning>) {
    let mut seen: Vec<&str> = Vec::new();
    for stage in &file.stages {
        let Some(name) = stage.name.as_deref() else {
            continue;
        };
        let mut warn = |rule, message| {
            found.push(Warning {
                rule,
                message,
                lines: stage.lines,
            });
        };
        if let Some([_, written]) = as_name(stage)
            && written.chars().any(char::is_uppercase)
        {
            let message = format!("Stage name '{written}' should be lowercase");
            warn(Rule::StageNameCasing, message);
        }
        if matches!(name, "context" | "scratch") {
            let message =
                format!("Stage name should not use the same name as reserved stage {name:?}");
            warn(Rule::ReservedStageName, message);
        }
        if seen.contains(&name) {
            let message = format!("Duplicate stage name {name:?}, stage names should be unique");
            warn(Rule::DuplicateStageName, message);
        }
        seen.push(name);
    }
}

/// `as` and the name of a stage, as they were written.
fn as_name(stage: &Stage) -> Option<[&str; 2]> {
    let words: Vec<&str> = stage.text.split_whitespace().collect();
    match words.as_slice() {
        [.., _, word, name] if word.eq_ignore_ascii_case("as") => Some([word, name]),
        _ => None,
    }
}

fn as_casing(stage: &Stage, found: &mut Vec<Warning>) {
    let keyword = stage.text.split_whitespace().next().unwrap_or_default();
    let Some([word, _]) = as_name(stage) else {
        return;
    };
    let is_odd = match is_lower(keyword) {
        true => !is_lower(word),
        false if is_upper(keyword) => !is_upper(word),
        // Said of the keyword itself already.
        false => false,
    };
    if is_odd {
        found.push(Warning {
            rule: Rule::FromAsCasing,
            message: format!("'{word}' and '{keyword}' keywords' casing do not match"),
            lines: stage.lines,
        });
    }
}

fn casing(file: &Dockerfile, found: &mut Vec<Warning>) {
    let names: Vec<_> = file
        .stages
        .iter()
        .flat_map(|stage| {
            let keyword = stage.text.split_whitespace().next().unwrap_or_default();
            let others = stage.instructions.iter();
            let others = others.map(|instruction| (instruction.name.as_str(), instruction.lines));
            std::iter::once((keyword, stage.lines)).chain(others)
        })
        .collect();
    let count = |is: fn(&str) -> bool| names.iter().filter(|(name, _)| is(name)).count();
    let mostly_lower = count(is_lower) > count(|name| is_upper(name) && !is_lower(name));
    for (name, lines) in names {
        let wanted = match mostly_lower {
            true if !is_lower(name) => "lowercase",
            false if !is_upper(name) => "uppercase",
            _ => continue,
        };
        found.push(Warning {
            rule: Rule::ConsistentInstructionCasing,
            message: format!(
                "Command '{name}' should match the case of the command majority ({wanted})"
            ),
            lines,
        });
    }
}

fn is_lower(word: &str) -> bool {
    !word.chars().any(char::is_uppercase)
}

fn is_upper(word: &str) -> bool {
    !word.chars().any(char::is_lowercase)
}

/// Whether a variable's name says that it is a secret: by one of its words.
pub(crate) fn is_secret(name: &str) -> bool {
    const SECRETS: [&str; 10] = [
        "apikey",
        "auth",
        "credential",
        "credentials",
        "key",
        "password",
        "pword",
        "passwd",
        "secret",
        "token",
    ];
    let name = name.to_ascii_lowercase();
    let mut words = name.split('_');
    words.any(|word| SECRETS.contains(&word)) && !name.split('_').any(|word| word == "public")
}
