//! Signals by number or by name, as `docker kill -s` and `STOPSIGNAL` write them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Linux signal number, 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(u8);

/// A text was not a signal. The wording is Docker's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(pub String);

/// Names by number (signal(7), x86 and ARM column).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

impl Signal {
    /// Ends a process that does not handle it; what `docker stop` sends first.
    pub const TERM: Self = Self(15);
    /// Ends a process whatever it does.
    pub const KILL: Self = Self(9);

    /// A signal by number, 1 to 64.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        matches!(number, 1..=64).then_some(Self(number))
    }

    /// The number that `kill(2)` takes.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0 as i32
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0) - 1) {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Signal {
    type Err = InvalidSignal;

    fn from_str(text: &str) -> Result<Self, InvalidSignal> {
        let invalid = || InvalidSignal(text.to_owned());
        if let Ok(number) = text.parse::<u8>() {
            return Self::from_number(number).ok_or_else(invalid);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let name = match name {
            "IOT" => "ABRT",
            "CLD" => "CHLD",
            "POLL" => "IO",
            other => other,
        };
        if let Some(index) = NAMES.iter().position(|known| *known == name) {
            return u8::try_from(index + 1)
                .ok()
                .and_then(Self::from_number)
                .ok_or_else(invalid);
        }
        let real_time = |base: u8, sign: i16, rest: &str| {
            let offset: i16 = if rest.is_empty() {
                0
            } else {
                rest[1..].parse().ok()?
            };
            let number = u8::try_from(i16::from(base) + sign * offset).ok()?;
            matches!(number, 34..=64).then_some(Self(number))
        };
        match name {
            _ if name.starts_with("RTMIN") && (name.len() == 5 || name[5..].starts_with('+')) => {
                real_time(34, 1, &name[5..]).ok_or_else(invalid)
            }
            _ if name.starts_with("RTMAX") && (name.len() == 5 || name[5..].starts_with('-')) => {
                real_time(64, -1, &name[5..]).ok_or_else(invalid)
            }
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, number) in [
            ("KILL", 9),
            ("SIGTERM", 15),
            ("sighup", 1),
            ("15", 15),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("SYS", 31),
        ] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for bad in ["", "0", "65", "NOPE", "RTMIN+40", "RTMIN+", "-1", "SIG"] {
            assert_eq!(
                bad.parse::<Signal>().unwrap_err().to_string(),
                format!("invalid signal: {bad}")
            );
        }
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
    }
}
