//! The functions of templates: Go's usual ones and Docker's `json`, `join`, `split`, `upper`, `lower`, …

use serde_json::Value;

use super::{TemplateError, go_json, show, truth};

fn wrong(function: &str, detail: impl Into<String>) -> TemplateError {
    TemplateError::Call {
        function: function.to_owned(),
        detail: detail.into(),
    }
}

/// `.Label "key"` on a row whose labels are one text `a=b,c=d`.
pub(super) fn label(row: &Value, arguments: &[Value]) -> Result<Value, TemplateError> {
    let Some(key) = arguments.first().and_then(Value::as_str) else {
        // The heading of a table has no labels to look in.
        return Ok(row.get("Label").cloned().unwrap_or(Value::Null));
    };
    let labels = row.get("Labels").and_then(Value::as_str).unwrap_or("");
    if row.get("Label").is_some() {
        return Ok(key.into());
    }
    let found = labels
        .split(',')
        .find_map(|l| l.split_once('=').filter(|(k, _)| *k == key));
    Ok(found.map_or("", |(_, value)| value).into())
}

pub(super) fn call(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    let one = || {
        arguments
            .first()
            .ok_or_else(|| wrong(name, "wants an argument"))
    };
    let text = |at: usize| {
        arguments
            .get(at)
            .map(show)
            .ok_or_else(|| wrong(name, "too few arguments"))
    };
    Ok(match name {
        "json" => go_json(one()?).into(),
        "upper" => text(0)?.to_uppercase().into(),
        "lower" => text(0)?.to_lowercase().into(),
        "title" => {
            let text = text(0)?;
            let mut letters = text.chars();
            let first = letters.next().map(|c| c.to_uppercase().to_string());
            format!("{}{}", first.unwrap_or_default(), letters.as_str()).into()
        }
        "join" => {
            let items = one()?
                .as_array()
                .ok_or_else(|| wrong(name, "wants a list"))?;
            let items: Vec<_> = items.iter().map(show).collect();
            items.join(&text(1)?).into()
        }
        "split" => text(0)?.split(&text(1)?).map(Value::from).collect(),
        "truncate" => {
            let length = arguments.get(1).and_then(Value::as_u64).unwrap_or(0);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            text(0)?.chars().take(length).collect::<String>().into()
        }
        "len" => match one()? {
            Value::String(s) => s.len(),
            Value::Array(a) => a.len(),
            Value::Object(o) => o.len(),
            other => return Err(wrong(name, format!("{} has no length", show(other)))),
        }
        .into(),
        "index" => index(arguments)?,
        "print" => arguments.iter().map(show).collect::<String>().into(),
        "println" => {
            let parts: Vec<_> = arguments.iter().map(show).collect();
            format!("{}\n", parts.join(" ")).into()
        }
        "printf" => format(arguments)?.into(),
        "not" => (!truth(one()?)).into(),
        "and" => pick(arguments, |v| !truth(v)).ok_or_else(|| wrong(name, "wants arguments"))?,
        "or" => pick(arguments, truth).ok_or_else(|| wrong(name, "wants arguments"))?,
        "eq" => {
            let first = one()?;
            arguments[1..].iter().any(|v| same(first, v)).into()
        }
        "ne" => match arguments {
            [a, b] => (!same(a, b)).into(),
            _ => return Err(wrong(name, "wants two arguments")),
        },
        "lt" | "le" | "gt" | "ge" => {
            let [a, b] = arguments else {
                return Err(wrong(name, "wants two arguments"));
            };
            let order = match (a.as_f64(), b.as_f64()) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                _ => show(a).cmp(&show(b)),
            };
            match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }
            .into()
        }
        _ => return Err(TemplateError::Unsupported(format!("function {name:?}"))),
    })
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a.total_cmp(&b).is_eq(),
        _ => a == b,
    }
}

fn pick(arguments: &[Value], stop: impl Fn(&Value) -> bool) -> Option<Value> {
    let found = arguments.iter().find(|v| stop(v));
    found.or_else(|| arguments.last()).cloned()
}

fn index(arguments: &[Value]) -> Result<Value, TemplateError> {
    let (object, keys) = arguments
        .split_first()
        .ok_or_else(|| wrong("index", "wants a list or map"))?;
    keys.iter()
        .try_fold(object.clone(), |value, key| match (&value, key) {
            (Value::Array(items), Value::Number(n)) => n
                .as_u64()
                .and_then(|n| items.get(usize::try_from(n).ok()?))
                .cloned()
                .ok_or_else(|| wrong("index", format!("{n} is out of range"))),
            (Value::Object(fields), Value::String(key)) => {
                // What is not in a map of texts is an empty text.
                let texts = fields.values().all(Value::is_string);
                let nothing = if texts { "".into() } else { Value::Null };
                Ok(fields.get(key).cloned().unwrap_or(nothing))
            }
            (Value::Null, _) => Err(wrong("index", "nothing to look in")),
            _ => Err(wrong("index", format!("cannot look up {}", show(key)))),
        })
}

fn format(arguments: &[Value]) -> Result<String, TemplateError> {
    let (pattern, values) = arguments
        .split_first()
        .ok_or_else(|| wrong("printf", "wants a format"))?;
    let pattern = show(pattern);
    let mut values = values.iter();
    let mut out = String::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let mut flags = String::new();
        let verb = loop {
            match letters.next() {
                Some(c) if c.is_ascii_digit() || c == '-' || c == '.' => flags.push(c),
                Some(c) => break c,
                None => return Err(wrong("printf", "the format ends in %")),
            }
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values
            .next()
            .ok_or_else(|| wrong("printf", "too few values"))?;
        let shown = match verb {
            's' | 'v' | 'd' | 't' | 'f' => show(value),
            'q' => format!("{:?}", show(value)),
            other => return Err(TemplateError::Unsupported(format!("printf verb %{other}"))),
        };
        let wide: usize = flags
            .trim_start_matches('-')
            .split('.')
            .next()
            .unwrap_or("")
            .parse()
            .unwrap_or(0);
        out += &if flags.starts_with('-') {
            format!("{shown:<wide$}")
        } else {
            format!("{shown:>wide$}")
        };
    }
    Ok(out)
}
