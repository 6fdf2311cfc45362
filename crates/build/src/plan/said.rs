//! How an image's history tells of instructions: in BuildKit's words, which are Go's of its values (fmt, `%q`).

use std::fmt::Write as _;

use hoist_image::document::Healthcheck;

/// Words between spaces, each in quotes.
pub(super) fn quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| quote(word)).collect();
    quoted.join(" ")
}

/// A text in quotes (Go's `strconv.Quote`).
fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\'' => quoted.push(c),
            c => escape(c, &mut quoted),
        }
    }
    quoted.push('"');
    quoted
}

/// A character as it stands in quotes.
fn escape(c: char, out: &mut String) {
    let written = match c {
        '\x07' => out.write_str("\\a"),
        '\x08' => out.write_str("\\b"),
        '\x0c' => out.write_str("\\f"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\x0b' => out.write_str("\\v"),
        c if c.is_ascii_control() => write!(out, "\\x{:02x}", u32::from(c)),
        // What Rust does not print, Go does not: unassigned, and spaces of other scripts.
        c if !c.is_ascii() && c.escape_debug().count() > 1 => match u32::from(c) {
            number @ 0x1_0000.. => write!(out, "\\U{number:08x}"),
            number => write!(out, "\\u{number:04x}"),
        },
        c => out.write_char(c),
    };
    written.expect("a text takes all that is written");
}

/// `&{["CMD" "x"] "5s" "0s" "1m0s" "0s" '\x03'}`: the check as it stands in the config.
pub(super) fn health(check: &Healthcheck) -> String {
    let times = [
        check.interval,
        check.timeout,
        check.start_period,
        check.start_interval,
    ];
    let times = times.map(|nanoseconds| format!("\"{}\"", duration(nanoseconds)));
    let number = u32::try_from(check.retries).ok().and_then(char::from_u32);
    let mut retries = String::new();
    escape(number.unwrap_or(char::REPLACEMENT_CHARACTER), &mut retries);
    let test = quoted(&check.test);
    format!("&{{[{test}] {} '{retries}'}}", times.join(" "))
}

/// Go's `time.Duration`.
fn duration(nanoseconds: i64) -> String {
    let fraction = |value: i64, unit: i64| {
        let rest = format!("{:09}", value % unit * (1_000_000_000 / unit));
        match rest.trim_end_matches('0') {
            "" => String::new(),
            digits => format!(".{digits}"),
        }
    };
    let unit = match nanoseconds {
        ..1_000 => (1, "ns"),
        1_000..1_000_000 => (1_000, "µs"),
        1_000_000..1_000_000_000 => (1_000_000, "ms"),
        _ => (1_000_000_000, "s"),
    };
    let tail = |value: i64, (nanoseconds, name): (i64, &str)| {
        format!(
            "{}{}{name}",
            value / nanoseconds,
            fraction(value, nanoseconds)
        )
    };
    if nanoseconds == 0 {
        return "0s".to_owned();
    }
    let minutes = nanoseconds / 60_000_000_000;
    let rest = tail(nanoseconds % 60_000_000_000, unit);
    match (minutes / 60, minutes % 60) {
        (0, 0) => rest,
        (0, minutes) => format!("{minutes}m{rest}"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_go_does() {
        let words = ["a b", "\"\\'", "\0\x07\n\x1b", "grün\u{a0}\u{e0100}"];
        assert_eq!(
            quoted(&words.map(str::to_owned)),
            r#""a b" "\"\\'" "\x00\a\n\x1b" "grün\u00a0\U000e0100""#
        );
    }

    #[test]
    fn checks_are_told_as_go_shows_them() {
        let check = Healthcheck {
            test: vec!["CMD".to_owned(), "/bin/true".to_owned()],
            interval: 5_000_000_000,
            timeout: 1_500_000_000,
            start_period: 3_600_000_000_000,
            start_interval: 1_500_000,
            retries: 7,
        };
        assert_eq!(
            health(&check),
            r#"&{["CMD" "/bin/true"] "5s" "1.5s" "1h0m0s" "1.5ms" '\a'}"#
        );
        assert_eq!(duration(90_000_000_000), "1m30s");
        assert_eq!(duration(999), "999ns");
        assert_eq!(duration(1_500), "1.5µs");
    }
}
