//! `WWW-Authenticate` (RFC 9110 §11.6.1), as registries use it.

use std::collections::HashMap;

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

/// One way to authenticate that a registry offers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `basic`, `bearer`, …, lower case.
    pub(crate) scheme: String,
    /// Names in lower case.
    pub(crate) parameters: HashMap<String, String>,
}

/// All challenges of a reply, in order. What cannot be read is left out.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter_map(parse)
        .collect()
}

/// One challenge per header, as distribution's client reads them.
fn parse(text: &str) -> Option<Challenge> {
    let text = text.trim();
    let (scheme, mut rest) = text.split_once(' ').unwrap_or((text, ""));
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = HashMap::new();
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        let Some((name, after)) = rest.split_once('=') else {
            break;
        };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        parameters.insert(name.trim().to_ascii_lowercase(), value);
        rest = after;
    }
    Some(Challenge {
        scheme: scheme.to_ascii_lowercase(),
        parameters,
    })
}

/// A quoted string's value and what follows its closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = parse(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io", scope="repository:a/b:pull,push",error=invalid_token"#,
        )
        .unwrap();
        assert_eq!(bearer.scheme, "bearer");
        assert_eq!(bearer.parameters["realm"], "https://auth.docker.io/token");
        assert_eq!(bearer.parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(bearer.parameters["error"], "invalid_token");
        let basic = parse(r#"BASIC Realm="a \"quoted\" one""#).unwrap();
        assert_eq!(basic.scheme, "basic");
        assert_eq!(basic.parameters["realm"], r#"a "quoted" one"#);
        assert_eq!(parse("Negotiate").unwrap().parameters.len(), 0);
        assert!(parse(r#"Bearer realm="open"#).is_none());
        assert!(parse("").is_none());
    }
}
