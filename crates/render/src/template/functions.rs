//! The functions of templates: Go's usual ones (`text/template`) and Docker's `json`, `join`, `split`, `upper`, `lower`, `title`,
//! `pad` and `truncate` (docker/cli `templates/templates.go`). Of Go's, `call` is not there: nothing is a function.

mod format;
mod text;

use serde_json::Value;

use super::{TemplateError, show, truth};

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
        "json" => one()?.to_string().into(),
        "upper" => text(0)?.to_uppercase().into(),
        "lower" => text(0)?.to_lowercase().into(),
        "title" => text::title(&text(0)?).into(),
        "pad" => {
            let source = text(0)?;
            let blanks = |at| count(name, arguments, at).map(|count| " ".repeat(count));
            match source.as_str() {
                "" => source.into(),
                _ => format!("{}{source}{}", blanks(1)?, blanks(2)?).into(),
            }
        }
        "html" => text::html(&shown_together(arguments)).into(),
        "js" => text::js(&shown_together(arguments)).into(),
        "urlquery" => text::url_query(&shown_together(arguments)).into(),
        "slice" => slice(arguments)?,
        "join" => {
            let items = one()?
                .as_array()
                .ok_or_else(|| wrong(name, "wants a list"))?;
            let items: Vec<_> = items.iter().map(show).collect();
            items.join(&text(1)?).into()
        }
        "split" => text(0)?.split(&text(1)?).map(Value::from).collect(),
        "truncate" => {
            let source = text(0)?;
            // Go counts bytes.
            let end = source.len().min(count(name, arguments, 1)?);
            String::from_utf8_lossy(&source.as_bytes()[..end])
                .into_owned()
                .into()
        }
        "len" => match one()? {
            Value::String(s) => s.len(),
            Value::Array(a) => a.len(),
            Value::Object(o) => o.len(),
            other => return Err(wrong(name, format!("{} has no length", show(other)))),
        }
        .into(),
        "index" => index(arguments)?,
        "print" => shown_together(arguments).into(),
        "println" => {
            let parts: Vec<_> = arguments.iter().map(show).collect();
            format!("{}\n", parts.join(" ")).into()
        }
        "printf" => format::format(arguments)?.into(),
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

/// What the headings of a table become: they stay whole, whatever is done with the fields below them.
pub(super) fn call_on_heading(name: &str, arguments: &[Value]) -> Result<Value, TemplateError> {
    match (name, arguments) {
        ("json" | "split" | "join" | "title" | "lower" | "upper" | "truncate", [first, ..]) => {
            Ok(first.clone())
        }
        _ => call(name, arguments),
    }
}

/// As Go's `fmt.Sprint`: a blank between two of which neither is a text.
fn shown_together(arguments: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in arguments.iter().enumerate() {
        if at > 0 && !value.is_string() && !arguments[at - 1].is_string() {
            out.push(' ');
        }
        out += &show(value);
    }
    out
}

fn count(name: &str, arguments: &[Value], at: usize) -> Result<usize, TemplateError> {
    let number = arguments.get(at).and_then(Value::as_u64);
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| wrong(name, "wants a number that is not negative"))
}

/// `slice x 1 2` is Go's `x[1:2]`.
fn slice(arguments: &[Value]) -> Result<Value, TemplateError> {
    let refuse = |detail: String| wrong("slice", detail);
    let (object, bounds) = arguments
        .split_first()
        .ok_or_else(|| refuse("wants a text or a list".to_owned()))?;
    if bounds.len() > 3 {
        return Err(refuse(format!("too many slice indexes: {}", bounds.len())));
    }
    let length = match object {
        Value::String(text) => text.len(),
        Value::Array(items) => items.len(),
        other => return Err(refuse(format!("can't slice {}", show(other)))),
    };
    let bound = |at: usize, default| match bounds.get(at) {
        None => Ok(default),
        Some(value) => {
            let number = value.as_u64().and_then(|n| usize::try_from(n).ok());
            number
                .filter(|number| *number <= length)
                .ok_or_else(|| refuse(format!("index out of range: {}", show(value))))
        }
    };
    let (start, end) = (bound(0, 0)?, bound(1, length)?);
    if start > end {
        return Err(refuse(format!("invalid slice index: {start} > {end}")));
    }
    Ok(match object {
        Value::Array(items) => Value::Array(items[start..end].to_vec()),
        other => {
            let text = other.as_str().unwrap_or_default();
            if bounds.len() == 3 {
                return Err(refuse("cannot 3-index slice a string".to_owned()));
            }
            String::from_utf8_lossy(&text.as_bytes()[start..end])
                .into_owned()
                .into()
        }
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
