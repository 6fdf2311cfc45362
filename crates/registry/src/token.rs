//! Bearer tokens from the realm a registry names (distribution spec, "token authentication"; Docker's OAuth2 variant).

use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::origin::Origin;
use crate::session::refusal;
use crate::transport::Transport;

const TOKEN_LIMIT: usize = 1 << 20;
/// What Docker's own clients call themselves to realms.
const CLIENT_ID: &str = "docker";

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
}

/// What a realm gave.
pub(crate) struct Token {
    /// Goes into `Authorization: Bearer`.
    pub(crate) access: String,
    /// An identity token that may replace the password, if one was asked for.
    pub(crate) refresh: Option<String>,
}

/// Asks the realm of a challenge for a token.
pub(crate) async fn fetch(
    transport: &Transport,
    registry: &Origin,
    challenge: &Challenge,
    scope: Option<&str>,
    credentials: Option<&Credentials>,
    offline: bool,
) -> Result<Token, PullError> {
    let protocol = |reason: String| PullError::Protocol {
        host: registry.authority(),
        reason,
    };
    let realm = challenge.parameters.get("realm");
    let realm = realm.ok_or_else(|| protocol("its challenge names no realm".to_owned()))?;
    let uri: Uri = realm
        .parse()
        .map_err(|_| protocol(format!("its token realm {realm:?} is no URL")))?;
    let origin = Origin::of_uri(&uri)
        .ok_or_else(|| protocol(format!("its token realm {realm:?} is no URL")))?;
    let credentials = credentials.filter(|credentials| !credentials.is_empty());
    if credentials.is_some() && !may_have_credentials(registry, &origin) {
        return Err(protocol(format!(
            "credentials are not sent to its token realm {origin}: not over TLS, or named without TLS"
        )));
    }
    let service = challenge.parameters.get("service").map(String::as_str);
    let path = uri.path();
    let response = match credentials.and_then(|c| c.identity_token.as_deref()) {
        Some(identity) => {
            let mut headers = HeaderMap::new();
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
            let body = hoist_http::client::full(refresh_form(service, scope, identity));
            transport
                .send(&origin, Method::POST, path, &headers, body)
                .await?
        }
        None => {
            let mut headers = HeaderMap::new();
            if let Some(credentials) = credentials.filter(|c| c.has_password()) {
                let mut value = HeaderValue::try_from(credentials.basic_header())
                    .map_err(|_| protocol("the credentials cannot be sent".to_owned()))?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            let account = credentials.map(|c| c.username.as_str());
            let account = account.filter(|name| !name.is_empty());
            let query = query(uri.query().unwrap_or(""), service, scope, account, offline);
            let target = format!("{path}?{query}");
            let asked = transport.ask(&origin, Method::GET, &target, &headers);
            asked.await?.1
        }
    };
    let (parts, mut body) = response.into_parts();
    let url = format!("{origin}{path}");
    let text = body
        .collect_within(TOKEN_LIMIT)
        .await
        .map_err(|cause| PullError::Connection {
            verb: "Get",
            url: url.clone(),
            cause,
        })?;
    let text = text.ok_or(PullError::TooLarge {
        what: "token",
        limit: TOKEN_LIMIT as u64,
    })?;
    if !parts.status.is_success() {
        return Err(match refusal(parts.status, &parts.headers, &text) {
            Some(said) if said.code == "denied" => PullError::Refused(said),
            Some(said) if said.code == "toomanyrequests" => PullError::TooManyRequests(said),
            Some(said) => PullError::Unauthorized(said),
            None => PullError::Status {
                url,
                status: parts.status,
            },
        });
    }
    let answer: Answer = serde_json::from_slice(&text)
        .map_err(|e| protocol(format!("its token realm {origin} answers no token: {e}")))?;
    let access = answer.token.filter(|token| !token.is_empty());
    let access = access.or(answer.access_token.filter(|token| !token.is_empty()));
    Ok(Token {
        access: access.ok_or_else(|| {
            protocol("authorization server did not include a token in the response".to_owned())
        })?,
        refresh: answer.refresh_token,
    })
}

/// The form that trades an identity token for an access token (Docker's OAuth2 variant).
fn refresh_form(service: Option<&str>, scope: Option<&str>, identity: &str) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    form.append_pair("service", service.unwrap_or_default());
    form.append_pair("client_id", CLIENT_ID);
    if let Some(scope) = scope {
        form.append_pair("scope", scope);
    }
    form.append_pair("refresh_token", identity);
    form.finish()
}

/// The query of a token request; what the realm's URL had of its own stays in front.
fn query(
    own: &str,
    service: Option<&str>,
    scope: Option<&str>,
    account: Option<&str>,
    offline: bool,
) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in form_urlencoded::parse(own.as_bytes()) {
        query.append_pair(&name, &value);
    }
    for (name, value) in [("service", service), ("account", account)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    // One parameter each (distribution spec, "token authentication"); a form takes them by spaces.
    for scope in scope.into_iter().flat_map(str::split_whitespace) {
        query.append_pair("scope", scope);
    }
    if offline && account.is_some() {
        query.append_pair("offline_token", "true");
        query.append_pair("client_id", CLIENT_ID);
    }
    query.finish()
}

/// Credentials reach a realm only over TLS when a registry named it over TLS. Without TLS they stay on the
/// host they were meant for, and on this machine.
fn may_have_credentials(registry: &Origin, realm: &Origin) -> bool {
    (registry.tls && realm.tls)
        || registry.host == realm.host
        || (registry.is_loopback() && realm.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_do_not_wander() {
        let may = |registry: &str, realm: &str| {
            let origin = |text: &str| Origin::of_uri(&text.parse().unwrap()).unwrap();
            may_have_credentials(&origin(registry), &origin(realm))
        };
        assert!(may(
            "https://registry-1.docker.io/",
            "https://auth.docker.io/token"
        ));
        assert!(!may(
            "https://registry-1.docker.io/",
            "http://auth.docker.io/token"
        ));
        assert!(!may("http://reg.lan:5000/", "https://evil.example/token"));
        assert!(may("http://reg.lan:5000/", "http://reg.lan:5001/token"));
        assert!(may("http://127.0.0.1:5000/", "http://localhost:5001/token"));
        assert!(!may("http://127.0.0.1:5000/", "http://10.0.0.1:5001/token"));
    }
}
