//! Which checks count: `# check=skip=A,B;error=true;experimental=all`.

use hoist_model::ErrorClass;
use thiserror::Error;

use super::{Rule, Warning};

/// What a directive, or the build argument `BUILDKIT_DOCKERFILE_CHECK`, says of checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckSettings {
    skip: Names,
    experimental: Names,
    /// Whether a build with warnings fails.
    pub error: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    All,
    These(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Names {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self::All,
            names => Self::These(
                names
                    .split(',')
                    .map(|name| name.trim().to_owned())
                    .collect(),
            ),
        }
    }

    fn have(&self, rule: Rule) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.iter().any(|name| name == rule.name()),
        }
    }
}

/// Settings that mean nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    /// No `name=value`, or a name that there is not.
    #[error("invalid check option {0:?}")]
    Option(String),
    /// `error=` with something that is no truth value.
    #[error("failed to parse check option {0:?}: not true or false")]
    Truth(String),
}

impl CheckError {
    /// Always the file's author's to mend.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::InvalidArgument
    }
}

impl CheckSettings {
    /// Reads settings.
    ///
    /// # Errors
    /// Settings that mean nothing.
    pub fn parse(text: &str) -> Result<Self, CheckError> {
        let mut settings = Self::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(settings);
        }
        for part in text.split(';') {
            let invalid = || CheckError::Option(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(invalid)?;
            match name.trim() {
                "skip" => settings.skip = Names::parse(value),
                "experimental" => settings.experimental = Names::parse(value),
                "error" => {
                    settings.error = match value.trim() {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(CheckError::Truth(part.to_owned())),
                    }
                }
                name => return Err(CheckError::Option(name.to_owned())),
            }
        }
        Ok(settings)
    }

    /// Those that count, in order of lines.
    #[must_use]
    pub fn filter(&self, mut warnings: Vec<Warning>) -> Vec<Warning> {
        warnings.retain(|warning| match warning.rule.is_experimental() {
            true => self.experimental.have(warning.rule),
            false => !self.skip.have(warning.rule),
        });
        warnings.sort_by_key(|warning| (warning.lines, warning.rule));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::CheckSettings;

    #[test]
    fn settings_that_mean_nothing_are_named() {
        for (text, said) in [
            ("skip", "invalid check option \"skip\""),
            ("what=x", "invalid check option \"what\""),
            (
                "error=maybe",
                "failed to parse check option \"error=maybe\": not true or false",
            ),
        ] {
            assert_eq!(
                CheckSettings::parse(text).expect_err(text).to_string(),
                said
            );
        }
        assert!(
            CheckSettings::parse(" skip=A, B ; error=true ")
                .expect("read")
                .error
        );
        assert_eq!(
            CheckSettings::parse("").expect("read"),
            CheckSettings::default()
        );
    }
}
