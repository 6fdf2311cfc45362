//! `printf`, as Go's `fmt` does it: what does not fit is shown in the text and is no error.

use serde_json::Value;

use super::wrong;
use crate::template::{TemplateError, show};

/// What stands between `%` and the verb.
#[derive(Default)]
struct Form {
    left: bool,
    plus: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

pub(super) fn format(arguments: &[Value]) -> Result<String, TemplateError> {
    let (pattern, values) = arguments
        .split_first()
        .ok_or_else(|| wrong("printf", "wants a format"))?;
    let pattern = show(pattern);
    let mut values = values.iter();
    let mut out = String::new();
    let mut letters = pattern.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut form = Form::default();
        while let Some(flag) = letters.next_if(|c| "-+# 0".contains(*c)) {
            match flag {
                '-' => form.left = true,
                '+' => form.plus = true,
                '0' => form.zeros = true,
                _ => {}
            }
        }
        form.width = number(&mut letters);
        if letters.next_if_eq(&'.').is_some() {
            form.precision = Some(number(&mut letters));
        }
        match letters.next() {
            None => out += "%!(NOVERB)",
            Some('%') => out.push('%'),
            // Go's types have no names here.
            Some('T') => return Err(TemplateError::Unsupported("printf verb %T".to_owned())),
            Some(verb) => match values.next() {
                None => out += &format!("%!{verb}(MISSING)"),
                Some(value) => out += &form.pad(form.show(verb, value)),
            },
        }
    }
    let extra: Vec<_> = values.map(|v| format!("{}={}", kind(v), show(v))).collect();
    if !extra.is_empty() {
        out += &format!("%!(EXTRA {})", extra.join(", "));
    }
    Ok(out)
}

/// The digits that come next; none are 0.
fn number(letters: &mut std::iter::Peekable<std::str::Chars<'_>>) -> usize {
    let mut digits = String::new();
    while let Some(digit) = letters.next_if(char::is_ascii_digit) {
        digits.push(digit);
    }
    digits.parse().unwrap_or(0)
}

/// Go's type of a value.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

impl Form {
    fn show(&self, verb: char, value: &Value) -> String {
        let cut = |text: String| match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        };
        let signed = |text: String| match text.starts_with('-') || !self.plus {
            true => text,
            false => format!("+{text}"),
        };
        let precision = self.precision.unwrap_or(6);
        let integer = value.as_i64().filter(|_| !value.is_f64());
        let letter = integer.and_then(|n| char::from_u32(u32::try_from(n).ok()?));
        match (verb, value) {
            ('v', Value::Number(_)) => signed(show(value)),
            ('v' | 's', Value::String(text)) => cut(text.clone()),
            ('v', _) | ('s', Value::Array(_) | Value::Object(_)) => show(value),
            ('t', Value::Bool(_)) => show(value),
            ('q', Value::String(text)) => format!("{:?}", cut(text.clone())),
            ('x', Value::String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
            ('X', Value::String(text)) => text.bytes().map(|b| format!("{b:02X}")).collect(),
            _ => match (
                verb,
                integer,
                value.as_f64().filter(|_| value.is_f64()),
                letter,
            ) {
                ('d', Some(number), ..) => signed(number.to_string()),
                ('x', Some(number), ..) => signed(in_base(number, |n| format!("{n:x}"))),
                ('X', Some(number), ..) => signed(in_base(number, |n| format!("{n:X}"))),
                ('o', Some(number), ..) => signed(in_base(number, |n| format!("{n:o}"))),
                ('b', Some(number), ..) => signed(in_base(number, |n| format!("{n:b}"))),
                ('c', _, _, Some(letter)) => letter.to_string(),
                ('U', Some(number), ..) => format!("U+{number:04X}"),
                ('f' | 'F', _, Some(number), _) => signed(format!("{number:.precision$}")),
                ('e', _, Some(number), _) => signed(exponent(number, precision)),
                ('g', _, Some(_), _) => signed(show(value)),
                _ if value.is_null() => format!("%!{verb}(<nil>)"),
                _ => format!("%!{verb}({}={})", kind(value), show(value)),
            },
        }
    }

    fn pad(&self, text: String) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.left {
            return text + &" ".repeat(missing);
        }
        if self.zeros && !text.starts_with("%!") {
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        " ".repeat(missing) + &text
    }
}

fn in_base(number: i64, show: impl Fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", show(number.unsigned_abs()))
}

/// Go's exponent has a sign and two digits at least.
fn exponent(number: f64, precision: usize) -> String {
    let text = format!("{number:.precision$e}");
    let Some((digits, power)) = text.split_once('e') else {
        return text;
    };
    let (sign, power) = match power.strip_prefix('-') {
        Some(power) => ('-', power),
        None => ('+', power),
    };
    format!("{digits}e{sign}{power:0>2}")
}
