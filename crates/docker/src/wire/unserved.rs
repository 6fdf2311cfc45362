//! What a container may be asked to be in Docker's API and cannot be here yet: refused by name rather than ignored.

use hoist_engine::containers::check_log_options;
use hoist_model::container::{ContainerSpec, LogConfig, RESTART_UNHEALTHY_LABEL, RestartPolicy};

use crate::error::ApiError;

/// Refuses what would otherwise be silently left out; adds to `warnings` what is kept but has no effect yet.
pub(crate) fn check(spec: &ContainerSpec, warnings: &mut Vec<String>) -> Result<(), ApiError> {
    check_log(&spec.log)?;
    if spec.restart_policy == RestartPolicy::No
        && spec
            .labels
            .get(RESTART_UNHEALTHY_LABEL)
            .is_some_and(|value| value == "true")
    {
        warnings.push(format!(
            "The label {RESTART_UNHEALTHY_LABEL} has no effect without a restart policy."
        ));
    }
    Ok(())
}

/// The log drivers of Docker that are not served (moby `daemon/logger`); any other name is nobody's.
const LOG_DRIVERS: [&str; 8] = [
    "awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog",
];

/// Refuses a driver that is not served, and options that it does not have.
pub(crate) fn check_log(log: &LogConfig) -> Result<(), ApiError> {
    match log.driver.as_str() {
        "json-file" | "local" | "none" => {
            check_log_options(log).map_err(|error| ApiError::invalid(error.to_string()))
        }
        known if LOG_DRIVERS.contains(&known) => Err(ApiError::missing(format!(
            "log driver {known} is not implemented yet: json-file, local and none are"
        ))),
        other => Err(ApiError::invalid(format!(
            "error looking up logging plugin {other}: plugin {other:?} not found"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::testing::record;

    #[test]
    fn what_is_not_done_is_said() {
        for (body, expected) in [
            (
                r#"{"HostConfig":{"LogConfig":{"Type":"syslog"}}}"#,
                "log driver syslog is not implemented yet: json-file, local and none are",
            ),
            (
                r#"{"HostConfig":{"LogConfig":{"Type":"nosuch"}}}"#,
                "error looking up logging plugin nosuch: plugin \"nosuch\" not found",
            ),
            (
                r#"{"HostConfig":{"LogConfig":{"Type":"local","Config":{"nope":"1"}}}}"#,
                "unknown log opt 'nope' for log driver local",
            ),
        ] {
            let refused = check(&record(body).spec, &mut Vec::new()).unwrap_err();
            assert_eq!(refused.message, expected);
        }
    }

    #[test]
    fn a_label_without_a_policy_is_warned_of() {
        let mut warnings = Vec::new();
        let label = r#"{"Labels":{"hoist.restart-on-unhealthy":"true"}}"#;
        check(&record(label).spec, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
        let none = record(
            r#"{"Healthcheck":{"Test":["NONE"]},"HostConfig":{"SecurityOpt":["apparmor=unconfined"]}}"#,
        );
        check(&none.spec, &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
    }
}
