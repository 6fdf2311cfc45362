//! Durations and sizes as people read them, in the words of Docker's `go-units`.

use std::time::Duration;

use hoist_model::Timestamp;

/// How long something took or has lasted.
pub fn duration(d: Duration) -> String {
    let seconds = d.as_secs();
    let minutes = seconds / 60;
    let hours = (d.as_secs_f64() / 3600.0 + 0.5).floor();
    // Rounded hours of a Duration fit an u64: it holds u64 seconds.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rounded hours of u64 seconds are small and not negative"
    )]
    let hours = hours as u64;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// How long ago an instant was.
pub fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{} ago", duration(now.since(then)))
}

/// An instant as Docker's tables show it: local time in UTC, as a static binary reads no time zones.
pub fn instant(at: Timestamp) -> String {
    let text = at.to_string();
    let date_time = text.get(..19).unwrap_or(&text).replace('T', " ");
    format!("{date_time} +0000 UTC")
}

/// A number of bytes in decimal units with `digits` significant ones, as `images` (3) and `ps -s` show them.
pub fn size(bytes: u64, digits: usize) -> String {
    scaled(
        bytes,
        1000.0,
        digits,
        &["B", "kB", "MB", "GB", "TB", "PB", "EB"],
    )
}

/// A number of bytes in binary units, as `info` and `stats` show memory.
pub fn binary_size(bytes: u64) -> String {
    scaled(
        bytes,
        1024.0,
        4,
        &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"],
    )
}

#[expect(clippy::cast_precision_loss, reason = "at most four digits are shown")]
fn scaled(bytes: u64, base: f64, digits: usize, units: &[&str]) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// Go's `%.<digits>g` for the range 0..1024.
fn significant(value: f64, digits: usize) -> String {
    let whole = format!("{value:.0}").len();
    if value >= 1.0 && whole > digits {
        // What %g would write as 1e+03.
        return format!("{value:.0}");
    }
    let before = if value < 1.0 {
        0
    } else {
        format!("{}", value.trunc()).len()
    };
    let text = format!("{value:.*}", digits.saturating_sub(before));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_docker_writes_them() {
        for (seconds, shown) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86400, "13 days"),
            (14 * 86400, "2 weeks"),
            (60 * 86400, "2 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), shown, "{seconds}");
        }
    }

    #[test]
    fn sizes_read_as_docker_writes_them() {
        for (bytes, shown) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (4_269_678, "4.27MB"),
            (123_456_789, "123MB"),
            (1_010_000_000, "1.01GB"),
        ] {
            assert_eq!(size(bytes, 3), shown, "{bytes}");
        }
        assert_eq!(size(1_234_567, 4), "1.235MB");
        assert_eq!(binary_size(8_249_618_432), "7.683GiB");
        assert_eq!(binary_size(64 << 20), "64MiB");
    }

    #[test]
    fn instants_read_as_docker_writes_them() {
        let at = Timestamp::from_nanos(1_732_400_000_120_000_000);
        assert_eq!(instant(at), "2024-11-23 22:13:20 +0000 UTC");
        assert_eq!(
            ago(at, Timestamp::from_seconds(1_732_399_990)),
            "10 seconds ago"
        );
    }
}
