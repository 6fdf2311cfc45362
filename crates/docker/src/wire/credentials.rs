//! `X-Registry-Auth` and the body of `POST /auth` (API 1.55, section "Authentication").

use std::collections::HashMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hoist_engine::ports::Credentials;
use serde::Deserialize;

/// Clients write either alphabet, with padding or without.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

#[derive(Debug, Default, Deserialize)]
pub(crate) struct AuthConfig {
    username: Option<String>,
    password: Option<String>,
    /// `username:password` in base64, in place of the two.
    auth: Option<String>,
    serveraddress: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl From<AuthConfig> for Credentials {
    fn from(config: AuthConfig) -> Self {
        let mut credentials = Self {
            username: config.username.unwrap_or_default(),
            password: config.password.unwrap_or_default(),
            identity_token: config.identitytoken.unwrap_or_default(),
            registry_token: config.registrytoken.unwrap_or_default(),
            server_address: config.serveraddress.unwrap_or_default(),
        };
        if credentials.username.is_empty()
            && let Some(pair) = config.auth.as_deref().and_then(decode)
            && let Some((username, password)) = pair.split_once(':')
        {
            username.clone_into(&mut credentials.username);
            password
                .trim_end_matches('\0')
                .clone_into(&mut credentials.password);
        }
        credentials
    }
}

fn decode(text: &str) -> Option<String> {
    let bytes = URL_SAFE
        .decode(text)
        .or_else(|_| STANDARD.decode(text))
        .ok()?;
    String::from_utf8(bytes).ok()
}

/// Reads the header. For a pull it is no error if it is malformed: Docker ignores it then, and so clients rely on it.
pub(crate) fn from_header(header: Option<&str>) -> Option<Credentials> {
    let config: AuthConfig = serde_json::from_str(&decode(header?.trim())?).ok()?;
    let credentials = Credentials::from(config);
    let empty = credentials.username.is_empty()
        && credentials.identity_token.is_empty()
        && credentials.registry_token.is_empty();
    (!empty).then_some(credentials)
}

/// Reads `X-Registry-Config`: credentials by registry, as clients name registries. `None` is a malformed header.
pub(crate) fn by_registry(header: Option<&str>) -> Option<HashMap<String, Credentials>> {
    let Some(header) = header else {
        return Some(HashMap::new());
    };
    let configs: HashMap<String, AuthConfig> =
        serde_json::from_str(&decode(header.trim())?).ok()?;
    let configs = configs.into_iter().map(|(name, config)| {
        let name = name
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        let host = name.split('/').next().unwrap_or(name);
        // The default registry under the name that clients keep its login by.
        let host = if host == "index.docker.io" {
            "docker.io"
        } else {
            host
        };
        (host.to_owned(), Credentials::from(config))
    });
    Some(configs.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_client_are_read() {
        let json = r#"{"username":"me?","password":"p>w","serveraddress":"r.example:5000"}"#;
        for header in [URL_SAFE.encode(json), STANDARD.encode(json)] {
            for header in [header.trim_end_matches('=').to_owned(), header.clone()] {
                let credentials = from_header(Some(&header)).unwrap();
                assert_eq!(credentials.username, "me?");
                assert_eq!(credentials.password, "p>w");
                assert_eq!(credentials.server_address, "r.example:5000");
            }
        }
        let pair = format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("me:pw:x"));
        let credentials = from_header(Some(&URL_SAFE.encode(pair))).unwrap();
        assert_eq!(
            (credentials.username.as_str(), credentials.password.as_str()),
            ("me", "pw:x")
        );
    }

    #[test]
    fn nothing_and_nonsense_are_nobody() {
        for header in [
            None,
            Some(""),
            Some("!!"),
            Some("e30="),
            Some("bm90IGpzb24"),
        ] {
            assert!(from_header(header).is_none(), "{header:?}");
        }
    }
}
