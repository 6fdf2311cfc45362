//! Filling what a request leaves open from its image's configuration (API `ContainerCreate`; OCI image config).

use hoist_image::document::ImageConfig;
use hoist_model::container::{ContainerSpec, Healthcheck};

use crate::error::ContainerError;

/// Merges the image's defaults into a request, as Docker does: the request wins, environment and labels are joined,
/// the image's command is dropped when the request has its own entrypoint.
pub(crate) fn merge_image(
    mut spec: ContainerSpec,
    image: &ImageConfig,
) -> Result<ContainerSpec, ContainerError> {
    let config = &image.config;
    let process = &mut spec.process;
    match &process.entrypoint {
        Some(words) if !words.is_empty() => {
            // `--entrypoint ""` arrives as one empty word: no entrypoint, and no command of the image's either.
            if words.len() == 1 && words[0].is_empty() {
                process.entrypoint = None;
            }
        }
        _ => {
            process.entrypoint = config.entrypoint.clone().filter(|words| !words.is_empty());
            if process.command.as_ref().is_none_or(Vec::is_empty) {
                process.command = config.cmd.clone();
            }
        }
    }
    // One empty word is a command: that no program has this name is found out at the start.
    if process.arguments().is_empty() {
        return Err(ContainerError::Invalid("no command specified".to_owned()));
    }
    process.environment = merge_environment(&config.env, &process.environment);
    if process.working_directory.is_empty() {
        process.working_directory.clone_from(&config.working_dir);
    }
    if process.user.is_empty() {
        process.user.clone_from(&config.user);
    }
    for (name, value) in &config.labels {
        spec.labels
            .entry(name.clone())
            .or_insert_with(|| value.clone());
    }
    for port in config.exposed_ports.keys() {
        let port = port.parse().map_err(|_| {
            ContainerError::Invalid(format!("the image exposes an invalid port {port:?}"))
        })?;
        if !spec.exposed_ports.contains(&port) {
            spec.exposed_ports.push(port);
        }
    }
    for path in config.volumes.keys() {
        if !spec.anonymous_volumes.contains(path) {
            spec.anonymous_volumes.push(path.clone());
        }
    }
    if spec.stop_signal.is_none() {
        spec.stop_signal = config
            .stop_signal
            .as_deref()
            .and_then(|name| name.parse().ok());
    }
    if spec.shell.is_empty() {
        spec.shell = config.shell.clone().unwrap_or_default();
    }
    spec.on_build = config.on_build.clone().unwrap_or_default();
    spec.healthcheck = match (spec.healthcheck.take(), &config.healthcheck) {
        (Some(own), Some(image)) => Some(Healthcheck {
            test: if own.test.is_empty() {
                image.test.clone()
            } else {
                own.test
            },
            interval: pick(own.interval, image.interval),
            timeout: pick(own.timeout, image.timeout),
            retries: pick(own.retries, image.retries),
            start_period: pick(own.start_period, image.start_period),
            start_interval: pick(own.start_interval, image.start_interval),
        }),
        (Some(own), None) => Some(own),
        (None, Some(image)) => Some(Healthcheck {
            test: image.test.clone(),
            interval: image.interval,
            timeout: image.timeout,
            retries: image.retries,
            start_period: image.start_period,
            start_interval: image.start_interval,
        }),
        (None, None) => None,
    };
    Ok(spec)
}

fn pick(own: i64, image: i64) -> i64 {
    if own == 0 { image } else { own }
}

/// The request's variables, then those of the image that it does not name, in Docker's order. `NAME` alone takes one away: it
/// stays, as inspect shows it, and no program gets it.
pub(crate) fn merge_environment(image: &[String], own: &[String]) -> Vec<String> {
    fn name(variable: &str) -> &str {
        variable.split_once('=').map_or(variable, |(name, _)| name)
    }
    let kept = image
        .iter()
        .filter(|variable| !own.iter().any(|o| name(o) == name(variable)));
    own.iter().chain(kept).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|&word| word.to_owned()).collect()
    }

    fn image() -> ImageConfig {
        ImageConfig::parse(
            br#"{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/entry"],"Cmd":["serve"],
            "Env":["PATH=/bin","A=1"],"WorkingDir":"/srv","User":"www","Labels":{"a":"image","b":"image"},
            "ExposedPorts":{"80/tcp":{}},"StopSignal":"SIGQUIT"},"rootfs":{"type":"layers","diff_ids":[]}}"#,
        )
        .unwrap()
    }

    fn spec(entrypoint: Option<&[&str]>, command: Option<&[&str]>) -> ContainerSpec {
        let mut spec = crate::containers::testing::spec();
        spec.process.entrypoint = entrypoint.map(words);
        spec.process.command = command.map(words);
        spec
    }

    #[test]
    fn commands_merge_as_docker_merges_them() {
        for (entrypoint, command, expected) in [
            (None, None, vec!["/entry", "serve"]),
            (None, Some(&["x"][..]), vec!["/entry", "x"]),
            (Some(&["/own"][..]), None, vec!["/own"]),
            (Some(&["/own"][..]), Some(&["x"][..]), vec!["/own", "x"]),
            (Some(&[""][..]), Some(&["x"][..]), vec!["x"]),
            // A command, though no program has this name: Docker says so at the start, with 127.
            (Some(&[""][..]), Some(&[""][..]), vec![""]),
            (None, Some(&[""][..]), vec!["/entry", ""]),
        ] {
            let merged = merge_image(spec(entrypoint, command), &image()).unwrap();
            assert_eq!(merged.process.arguments(), words(&expected));
        }
        assert_eq!(
            merge_image(spec(Some(&[""]), None), &image())
                .unwrap_err()
                .to_string(),
            "no command specified"
        );
    }

    #[test]
    fn the_request_wins_over_the_image() {
        let mut own = spec(None, None);
        own.labels.insert("a".into(), "own".into());
        own.process.environment = words(&["A=2", "B=3"]);
        let merged = merge_image(own, &image()).unwrap();
        assert_eq!(merged.labels["a"], "own");
        assert_eq!(merged.labels["b"], "image");
        assert_eq!(
            merged.process.environment,
            words(&["A=2", "B=3", "PATH=/bin"])
        );
        assert_eq!(merged.process.working_directory, "/srv");
        assert_eq!(merged.process.user, "www");
        assert_eq!(merged.stop_signal.unwrap().to_string(), "SIGQUIT");
        assert_eq!(merged.exposed_ports.len(), 1);
    }

    #[test]
    fn a_bare_name_takes_a_variable_away() {
        assert_eq!(
            merge_environment(&words(&["A=1", "B=2"]), &words(&["A"])),
            words(&["A", "B=2"])
        );
    }
}
