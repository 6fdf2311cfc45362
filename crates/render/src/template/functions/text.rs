//! Texts as they stand elsewhere: in titles, in HTML, in scripts, in addresses.

use std::fmt::Write as _;

/// Every word with a capital (Go's `strings.Title`): a word goes on over letters, digits and `_`.
pub(super) fn title(text: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for letter in text.chars() {
        if inside {
            out.push(letter);
        } else {
            out.extend(letter.to_uppercase());
        }
        inside = if letter.is_ascii() {
            letter.is_ascii_alphanumeric() || letter == '_'
        } else {
            letter.is_alphanumeric() || !letter.is_whitespace()
        };
    }
    out
}

/// Go's `template.HTMLEscapeString`.
pub(super) fn html(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\0' => out.push('\u{fffd}'),
            '"' => out += "&#34;",
            '\'' => out += "&#39;",
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            other => out.push(other),
        }
    }
    out
}

/// Go's `template.JSEscapeString`.
pub(super) fn js(text: &str) -> String {
    let mut out = String::new();
    for letter in text.chars() {
        match letter {
            '\\' => out += r"\\",
            '\'' => out += r"\'",
            '"' => out += "\\\"",
            '<' | '>' | '&' | '=' => {
                let _ = write!(out, r"\u{:04X}", u32::from(letter));
            }
            other if other.is_control() => {
                let _ = write!(out, r"\u{:04X}", u32::from(other));
            }
            other => out.push(other),
        }
    }
    out
}

/// Go's `url.QueryEscape`.
pub(super) fn url_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}
