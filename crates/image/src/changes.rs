//! Dockerfile instructions that change an image's config: `docker import --change`, `docker commit --change`.
//!
//! Docker allows CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR there
//! (moby, builder/dockerfile, `validCommitCommands`). No variables are expanded and no parser directives are read: a
//! whole Dockerfile is the builder's to read.

use hoist_model::quantity::{duration, exposed_ports};
use serde_json::{Map, Value};

use crate::document::{Healthcheck, ImageRuntimeConfig};

/// Applies one instruction. The error is what is wrong with it.
pub(crate) fn apply_change(config: &mut ImageRuntimeConfig, change: &str) -> Result<(), String> {
    let change = change.trim();
    let (word, rest) = change
        .split_once(char::is_whitespace)
        .unwrap_or((change, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err("the instruction has no argument".into());
    }
    let empty = || Value::Object(Map::new());
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(rest, config)?),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest, config)?),
        "ENV" => {
            for (name, value) in pairs(rest)? {
                let same = |text: &String| text.split('=').next() == Some(&name);
                config.env.retain(|text| !same(text));
                config.env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        "EXPOSE" => {
            for port in words(rest)? {
                for port in exposed_ports(&port)? {
                    config.exposed_ports.insert(port, empty());
                }
            }
        }
        "VOLUME" => {
            let paths = match json(rest) {
                Some(paths) => paths?,
                None => words(rest)?,
            };
            for path in paths {
                config.volumes.insert(path, empty());
            }
        }
        "USER" => config.user = rest.to_owned(),
        "WORKDIR" => {
            config.working_dir = if rest.starts_with('/') {
                rest.to_owned()
            } else {
                format!("{}/{rest}", config.working_dir.trim_end_matches('/'))
            };
        }
        "STOPSIGNAL" => {
            rest.parse::<hoist_model::Signal>()
                .map_err(|error| error.to_string())?;
            config.stop_signal = Some(rest.to_owned());
        }
        "SHELL" => config.shell = Some(json(rest).ok_or("SHELL wants a JSON array")??),
        "ONBUILD" => config
            .on_build
            .get_or_insert_default()
            .push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        other => return Err(format!("{other} is not a valid change command")),
    }
    Ok(())
}

/// A JSON array as it is; anything else through the shell.
fn command(rest: &str, config: &ImageRuntimeConfig) -> Result<Vec<String>, String> {
    if let Some(words) = json(rest) {
        return words;
    }
    let shell = config.shell.clone();
    let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
    words.push(rest.to_owned());
    Ok(words)
}

/// A JSON array of texts; `None` when it is not an array at all, which makes it shell form.
fn json(rest: &str) -> Option<Result<Vec<String>, String>> {
    if !rest.starts_with('[') {
        return None;
    }
    serde_json::from_str(rest).ok().map(Ok)
}

/// Words split at blanks; quotes group, a backslash takes the next character as it is.
fn words(rest: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            ('\\', None | Some('"')) => {
                let next = characters.next().ok_or("a backslash ends it")?;
                word.get_or_insert_default().push(next);
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

/// `name=value` words, or the old `name the rest`.
fn pairs(rest: &str) -> Result<Vec<(String, String)>, String> {
    let first = rest.split_whitespace().next().unwrap_or("");
    if !first.contains('=') {
        let (name, value) = rest
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("{rest:?} has no value"))?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    words(rest)?
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("{word:?} is not name=value")),
        })
        .collect()
}

fn healthcheck(rest: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, after) = option
            .split_once(char::is_whitespace)
            .ok_or("HEALTHCHECK has no command")?;
        rest = after.trim_start();
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("--{option} has no value"))?;
        let slot = match name {
            "interval" => &mut check.interval,
            "timeout" => &mut check.timeout,
            "start-period" => &mut check.start_period,
            "start-interval" => &mut check.start_interval,
            "retries" => {
                check.retries = value
                    .parse()
                    .map_err(|_| format!("{value:?} is not a number"))?;
                continue;
            }
            _ => return Err(format!("--{name} is unknown")),
        };
        *slot = duration(value)
            .filter(|nanoseconds| *nanoseconds > 0)
            .ok_or_else(|| format!("{value:?} is not a duration"))?;
    }
    let (word, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match (word.to_ascii_uppercase().as_str(), rest.trim()) {
        ("NONE", "") => vec!["NONE".into()],
        ("CMD", command) if !command.is_empty() => match json(command) {
            Some(words) => [vec!["CMD".to_owned()], words?].concat(),
            None => vec!["CMD-SHELL".into(), command.to_owned()],
        },
        _ => return Err("HEALTHCHECK wants NONE or CMD and a command".into()),
    };
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn instructions_change_the_config() {
        let mut config = ImageRuntimeConfig {
            env: vec!["PATH=/bin".into()],
            ..ImageRuntimeConfig::default()
        };
        for change in [
            r#"CMD ["sh", "-l"]"#,
            "entrypoint exec top",
            r#"ENV PATH=/usr/bin A="b c" D=e\ f"#,
            "ENV OLD style value",
            "LABEL a=b",
            "EXPOSE 80 53/udp 8000-8001",
            r#"VOLUME ["/a b", "/c"]"#,
            "USER 1:2",
            "WORKDIR /srv",
            "WORKDIR www",
            "STOPSIGNAL SIGQUIT",
            "HEALTHCHECK --interval=1m30s --retries=2 CMD true",
            "ONBUILD RUN x",
        ] {
            apply_change(&mut config, change).unwrap();
        }
        let shown = serde_json::to_string(&config).unwrap();
        expect![[r#"{"User":"1:2","ExposedPorts":{"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{}},"Env":["PATH=/usr/bin","A=b c","D=e f","OLD=style value"],"Entrypoint":["/bin/sh","-c","exec top"],"Cmd":["sh","-l"],"Volumes":{"/a b":{},"/c":{}},"WorkingDir":"/srv/www","Labels":{"a":"b"},"StopSignal":"SIGQUIT","Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":90000000000,"Retries":2},"OnBuild":["RUN x"]}"#]]
            .assert_eq(&shown);
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for bad in [
            "",
            "CMD",
            "RUN ls",
            "FROM x",
            "ENV A",
            "ENV A=\"b",
            "EXPOSE 99999",
            "EXPOSE 9-1",
            "STOPSIGNAL NOPE",
            "HEALTHCHECK --interval=1x CMD true",
            "HEALTHCHECK MAYBE",
            "SHELL bash",
        ] {
            let mut config = ImageRuntimeConfig::default();
            assert!(apply_change(&mut config, bad).is_err(), "{bad:?}");
        }
    }
}
