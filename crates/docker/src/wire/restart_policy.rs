//! Restart policies of the wire.

use hoist_model::container::RestartPolicy;

use super::create_body::RestartPolicyBody;
use crate::error::ApiError;

/// Reads a restart policy (moby `daemon/container.go`, `validateRestartPolicy`).
pub(crate) fn restart_policy_from_wire(
    body: Option<RestartPolicyBody>,
) -> Result<RestartPolicy, ApiError> {
    let Some(body) = body else {
        return Ok(RestartPolicy::No);
    };
    let retries = body.maximum_retry_count.unwrap_or_default();
    let name = body.name.unwrap_or_default();
    let refuse = |what: String| Err(ApiError::invalid(format!("invalid restart policy: {what}")));
    let policy = match name.as_str() {
        // Before 25.0 Docker wrote no name for it, with any count.
        "" => return Ok(RestartPolicy::No),
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => {
            let Ok(maximum_retries) = u32::try_from(retries) else {
                return refuse("maximum retry count cannot be negative".to_owned());
            };
            return Ok(RestartPolicy::OnFailure { maximum_retries });
        }
        other => {
            return refuse(format!(
                "unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            ));
        }
    };
    if retries < 0 {
        return refuse(
            "maximum retry count can only be used with 'on-failure' and cannot be negative"
                .to_owned(),
        );
    }
    if retries != 0 {
        return refuse("maximum retry count can only be used with 'on-failure'".to_owned());
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_policies() {
        let read = |text: &str| {
            restart_policy_from_wire(serde_json::from_str(text).unwrap())
                .map_err(|error| error.message)
        };
        assert_eq!(read("null"), Ok(RestartPolicy::No));
        let older = r#"{"Name":"","MaximumRetryCount":3}"#;
        assert_eq!(read(older), Ok(RestartPolicy::No));
        assert_eq!(
            read(r#"{"Name":"on-failure","MaximumRetryCount":3}"#),
            Ok(RestartPolicy::OnFailure { maximum_retries: 3 })
        );
        for (text, expected) in [
            (
                r#"{"Name":"x"}"#,
                "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
            ),
            (
                r#"{"Name":"always","MaximumRetryCount":1}"#,
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ),
            (
                r#"{"Name":"no","MaximumRetryCount":1}"#,
                "invalid restart policy: maximum retry count can only be used with 'on-failure'",
            ),
            (
                r#"{"Name":"on-failure","MaximumRetryCount":-1}"#,
                "invalid restart policy: maximum retry count cannot be negative",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
    }
}
