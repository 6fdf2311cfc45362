//! How a command ends when it does not end well.

use hoist_docker::client::{CallError, InvalidHost};

use super::spec::InvalidFlag;
use hoist_render::template::TemplateError;

/// What to say and which status to exit with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) code: u8,
    /// The sentence; empty if it was said already.
    pub(crate) message: String,
    /// Whether the engine said it.
    pub(crate) from_engine: bool,
    /// The engine's address, if nobody listens there.
    pub(crate) unreachable: Option<String>,
    /// Whether the command line is what is wrong, so that the right way to write it is shown.
    pub(crate) bad_flag: bool,
}

impl Failure {
    /// A failure of status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::with_code(1, message)
    }

    /// A failure of any status.
    pub(crate) fn with_code(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            from_engine: false,
            unreachable: None,
            bad_flag: false,
        }
    }

    /// A flag that is not there, or has no such value.
    pub(crate) fn bad_flag(message: impl Into<String>) -> Self {
        Self {
            bad_flag: true,
            ..Self::with_code(125, message)
        }
    }

    /// A flag that is not there, found behind other words.
    pub(crate) fn unknown_flag(flag: &str) -> Self {
        let flag = flag.split(['=', ' ']).next().unwrap_or(flag);
        Self::bad_flag(match flag.strip_prefix('-') {
            Some(short) if !short.starts_with('-') => {
                let letter = short.chars().next().unwrap_or('-');
                format!("unknown shorthand flag: '{letter}' in {flag}")
            }
            _ => format!("unknown flag: {flag}"),
        })
    }

    /// An exit status alone.
    pub(crate) fn silent(code: u8) -> Self {
        Self::with_code(code, "")
    }

    /// The same with another status.
    pub(crate) fn code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let message = match &error {
            CallError::Connect { host, source }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                // Scripts look for the first line, which is the stock client's.
                format!(
                    "permission denied while trying to connect to the Docker daemon socket at {host}\n\
                     Use sudo, or join the group that may use it:  sudo usermod -aG docker $USER   (then log in again)"
                )
            }
            error => error.to_string(),
        };
        Self {
            code: 1,
            message,
            from_engine: error.status().is_some(),
            unreachable: match &error {
                CallError::Connect { host, .. } if error.nobody_listens() => Some(host.to_string()),
                _ => None,
            },
            bad_flag: false,
        }
    }
}

impl From<InvalidFlag> for Failure {
    fn from(error: InvalidFlag) -> Self {
        let message = error.to_string();
        match error {
            InvalidFlag::Value { .. } => Self::bad_flag(message),
            InvalidFlag::NotHere(_) => Self::new(message),
            InvalidFlag::Said(_) | InvalidFlag::Conflict(..) => Self::with_code(125, message),
        }
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<InvalidHost> for Failure {
    fn from(error: InvalidHost) -> Self {
        Self::with_code(125, error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// The status `run` and `start -a` exit with when the engine could not start the container: by its words,
/// as the stock client does (docker/cli:cli/command/container/run.go, `toStatusError`).
pub(crate) fn start_failure_code(message: &str) -> u8 {
    let says = |words: &[&str]| words.iter().any(|w| message.contains(w));
    if says(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if says(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_start_failure_choose_the_status() {
        for (message, code) in [
            ("exec: \"nope\": executable file not found in $PATH", 127),
            (
                "exec: \"/nope\": stat /nope: no such file or directory",
                127,
            ),
            ("exec: \"/etc\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("Conflict. The name is in use", 125),
        ] {
            assert_eq!(start_failure_code(message), code, "{message}");
        }
    }
}
