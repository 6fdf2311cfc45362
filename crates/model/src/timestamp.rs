//! Instants as Docker's API writes them: RFC 3339 with nanoseconds, trailing zeros dropped, in UTC.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Nanoseconds since the Unix epoch, UTC. Serialised as that number.
///
/// Takes no clock: whoever may read the clock makes one with [`Timestamp::from_nanos`].
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A text was not an instant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid timestamp {0:?}: expected RFC 3339 or seconds[.nanoseconds] since 1970")]
pub struct InvalidTimestamp(pub String);

/// How Go prints the time that was never set; clients compare with this text.
pub const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

impl Timestamp {
    /// An instant that many nanoseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// An instant that many whole seconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970, rounded down.
    #[must_use]
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(1_000_000_000)
    }

    /// The instant `duration` later.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)),
        )
    }

    /// How long before `self` the instant `earlier` was; zero if it was not.
    #[must_use]
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(
            u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0),
        )
    }

    /// Reads either form that Docker's `since` and `until` parameters take: RFC 3339, or
    /// seconds since 1970 with an optional fraction (API `ContainerLogs`, `SystemEvents`). Digits
    /// below the nanosecond fall away (moby `timestamp.ParseTimestamps`).
    pub fn parse_api(text: &str) -> Result<Self, InvalidTimestamp> {
        let invalid = || InvalidTimestamp(text.to_owned());
        if text.contains('T') {
            return text.parse();
        }
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let nanos: i64 = format!("{fraction:0<9.9}").parse().map_err(|_| invalid())?;
        let seconds: i64 = seconds.parse().map_err(|_| invalid())?;
        seconds
            .checked_mul(1_000_000_000)
            .and_then(|s| s.checked_add(nanos))
            .map(Self)
            .ok_or_else(invalid)
    }
}

impl Timestamp {
    /// Reads what log entries carry, `2024-11-23T22:13:20.12Z`, without allocating; nothing but UTC from 1970 on.
    #[must_use]
    pub fn read_utc(text: &[u8]) -> Option<Self> {
        let (whole, rest) = text.split_at_checked(19)?;
        let fraction = match rest.strip_suffix(b"Z")? {
            b"" => b"",
            rest => rest.strip_prefix(b".")?,
        };
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0_i64, |sum, digit| {
                digit
                    .is_ascii_digit()
                    .then(|| sum * 10 + i64::from(digit - b'0'))
            })
        };
        let separators = [whole[4], whole[7], whole[10], whole[13], whole[16]];
        if separators != *b"--T::" || fraction.len() > 9 {
            return None;
        }
        let (year, month, day) = (
            number(&whole[..4])?,
            number(&whole[5..7])?,
            number(&whole[8..10])?,
        );
        let (hour, minute, second) = (
            number(&whole[11..13])?,
            number(&whole[14..16])?,
            number(&whole[17..])?,
        );
        if !(1970..=2261).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day)
        {
            return None;
        }
        // Days since 1970 of a date whose year begins in March, so that the leap day is the last.
        let (year, month) = if month > 2 {
            (year, month - 3)
        } else {
            (year - 1, month + 9)
        };
        let leap_days = year / 4 - year / 100 + year / 400;
        let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 719_469;
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        let missing = 9 - u32::try_from(fraction.len()).unwrap_or(9);
        let nanos = number(fraction)? * 10_i64.pow(missing);
        Some(Self(seconds * 1_000_000_000 + nanos))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0))
            .map_err(|_| fmt::Error)?;
        f.write_str(&at.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            .and_then(|at| i64::try_from(at.unix_timestamp_nanos()).ok())
            .map(Self)
            .ok_or_else(|| InvalidTimestamp(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_docker_shows_it() {
        assert_eq!(Timestamp::from_nanos(0).to_string(), "1970-01-01T00:00:00Z");
        let at = Timestamp::from_nanos(1_732_400_000_120_000_000);
        assert_eq!(at.to_string(), "2024-11-23T22:13:20.12Z");
        assert_eq!(at.to_string().parse::<Timestamp>().unwrap(), at);
    }

    #[test]
    fn entries_of_logs_are_read_as_by_the_library() {
        for nanos in [
            0,
            1,
            951_782_399_999_999_999,
            951_782_400_000_000_000,
            1_709_164_800_120_000_000,
            1_732_400_000_123_456_789,
            4_107_542_399_500_000_000,
            9_000_000_000_000_000_000,
        ] {
            let at = Timestamp::from_nanos(nanos);
            assert_eq!(Timestamp::read_utc(at.to_string().as_bytes()), Some(at));
        }
        for bad in [
            "",
            "2024-11-23T22:13:20",
            "2024-11-23 22:13:20Z",
            "2024-11-23T22:13:20+01:00",
            "2024-11-23T22:13:20.Q1Z",
            "2024-13-23T22:13:20Z",
            "2024-11-23T22:13:20.0123456789Z",
        ] {
            assert_eq!(Timestamp::read_utc(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn both_api_forms_are_read() {
        assert_eq!(
            Timestamp::parse_api("1.5").unwrap().as_nanos(),
            1_500_000_000
        );
        assert_eq!(
            Timestamp::parse_api("1.5000000019999").unwrap().as_nanos(),
            1_500_000_001
        );
        assert_eq!(Timestamp::parse_api("12").unwrap().as_seconds(), 12);
        assert_eq!(
            Timestamp::parse_api("2024-11-23T22:13:20Z")
                .unwrap()
                .as_seconds(),
            1_732_400_000
        );
        for bad in ["", "x", "1.x", "1.0000000000x", "99999999999999999999"] {
            assert!(Timestamp::parse_api(bad).is_err(), "{bad}");
        }
    }
}
