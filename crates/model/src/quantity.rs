//! Numbers as people write them: durations, sizes, ports.

/// A duration as Go writes it (`time.ParseDuration`: `1m30s`, `1.5h`, `-10s`, `100ms`, and plain `0`), in nanoseconds.
#[must_use]
pub fn duration(text: &str) -> Option<i64> {
    let (is_negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_i64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let unit: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total = total.checked_add(decimal(number, unit)?)?;
        rest = after;
    }
    Some(if is_negative { -total } else { total })
}

/// A number of bytes as Docker's clients take it (go-units `RAMInBytes`: `64m`, `1.5GiB`, `100`; powers of 1024).
#[must_use]
pub fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    decimal(number, 1 << shift)
}

/// So many units, rounded down: digits with at most one point among them.
fn decimal(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole = match whole {
        "" => 0,
        digits => digits.parse::<i64>().ok()?.checked_mul(unit)?,
    };
    // Digits beyond the eighteenth are less than any unit's smallest part.
    let (mut part, mut scale) = (0_i128, 1_i128);
    for (at, digit) in fraction.bytes().enumerate() {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        if at < 18 {
            part = part * 10 + i128::from(digit);
            scale *= 10;
        }
    }
    let part = part * i128::from(unit) / scale;
    whole.checked_add(i64::try_from(part).ok()?)
}

/// Ports as an image names them, `80/tcp`, from `80`, `80/udp` or `8000-8010` (Docker's EXPOSE). An error is in Docker's words.
pub fn exposed_ports(text: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("invalid containerPort: {text}");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let port = |text: &str| text.parse::<u16>().map_err(|_| invalid());
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanoseconds) in [
            ("1m30s", 90_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5s", 500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("100ms", 100_000_000),
            ("0.000000001s", 1),
            ("0.1234567891234567891234s", 123_456_789),
            ("0", 0),
            ("0s", 0),
            ("-1s", -1_000_000_000),
            ("+1us", 1_000),
        ] {
            assert_eq!(duration(text), Some(nanoseconds), "{text}");
        }
        for wrong in ["", "-", "5", "1x", ".s", "1..2s", "s", "1 s", "9999999999h"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, size) in [
            ("1024", 1024),
            ("64m", 64 << 20),
            ("1.5k", 1536),
            (".5g", 1 << 29),
            ("2GiB", 2 << 30),
            (" 8 kb ", 8192),
            ("0.1k", 102),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for wrong in ["", "m", "x", "12x", "-5", "1e30", "1.2.3", "99999999999p"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ports_are_single_or_a_range() {
        assert_eq!(exposed_ports("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed_ports("53/UDP").unwrap(), ["53/udp"]);
        assert_eq!(exposed_ports("1-3/sctp").unwrap().len(), 3);
        assert_eq!(
            exposed_ports("3-1").unwrap_err(),
            "invalid containerPort: 3-1"
        );
        assert_eq!(exposed_ports("x").unwrap_err(), "invalid containerPort: x");
        assert_eq!(exposed_ports("80/x").unwrap_err(), "invalid proto: x");
    }
}
