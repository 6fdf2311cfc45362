//! Searching a server for repositories (moby `daemon/pkg/registry/search.go`): the first version of the registry protocol, which
//! Docker Hub's index still serves and hardly anyone else does.

use std::sync::Arc;

use hoist_model::DOCKER_HUB;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::origin::Origin;
use crate::transport::Transport;

/// Docker Hub's index.
const HUB_INDEX: &str = "index.docker.io";
const ANSWER_LIMIT: usize = 4 << 20;

/// A repository that was found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Found {
    /// Its name, as one would pull it.
    #[serde(default)]
    pub name: String,
    /// What its owner says of it.
    #[serde(default)]
    pub description: String,
    /// Whether Docker keeps it.
    #[serde(default)]
    pub is_official: bool,
    /// How many people starred it.
    #[serde(default)]
    pub star_count: i64,
}

impl Client {
    /// Searches the server that `term` begins with (`host/words`), else Docker Hub, for at most `limit` repositories.
    ///
    /// # Errors
    /// See [`PullError`]; [`PullError::Search`] where the server has no search.
    pub async fn search(
        &self,
        term: &str,
        limit: u32,
        credentials: Option<Credentials>,
    ) -> Result<Vec<Found>, PullError> {
        if term.contains("://") {
            return Err(PullError::SearchEndpoint(format!(
                "invalid repository name: repository name ({term}) should not have a scheme"
            )));
        }
        let (host, words) = split(term);
        let transport = Transport::new(Arc::clone(&self.0), host);
        let origin = endpoint(&transport, host).await?;
        let words: String = form_urlencoded::byte_serialize(words.as_bytes()).collect();
        let target = format!("/v1/search?q={words}&n={limit}");
        let mut headers = HeaderMap::new();
        headers.insert("x-docker-token", HeaderValue::from_static("true"));
        if let Some(credentials) = credentials.filter(Credentials::has_password) {
            let mut value = HeaderValue::try_from(credentials.basic_header()).map_err(|_| {
                PullError::Protocol {
                    host: origin.authority(),
                    reason: "the credentials cannot be sent".to_owned(),
                }
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let asked = transport.ask(&origin, Method::GET, &target, &headers);
        let (_, response) = asked.await?;
        if response.status() != StatusCode::OK {
            return Err(PullError::Search(response.status().as_u16()));
        }
        let mut body = response.into_body();
        let collected = body.collect_within(ANSWER_LIMIT).await;
        let text = collected
            .map_err(|cause| PullError::Connection {
                verb: "Get",
                url: format!("{origin}{target}"),
                cause,
            })?
            .ok_or(PullError::TooLarge {
                what: "search's answer",
                limit: ANSWER_LIMIT as u64,
            })?;
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            results: Option<Vec<Found>>,
        }
        let answer: Answer = serde_json::from_slice(&text).map_err(|e| PullError::Protocol {
            host: origin.authority(),
            reason: format!("error decoding registry search results: {e}"),
        })?;
        Ok(answer.results.unwrap_or_default())
    }
}

/// The server and the words of a search (moby `splitReposSearchTerm`).
fn split(term: &str) -> (&str, &str) {
    match term.split_once('/') {
        Some((host, words)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "index.docker.io" | DOCKER_HUB => (HUB_INDEX, official(words)),
            host => (host, words),
        },
        _ => (HUB_INDEX, official(term)),
    }
}

/// Docker Hub's index knows its own images by their short names.
fn official(words: &str) -> &str {
    words.strip_prefix("library/").unwrap_or(words)
}

/// TLS, or plain HTTP where that is allowed and TLS does not answer; the hub is not asked first.
async fn endpoint(transport: &Transport, host: &str) -> Result<Origin, PullError> {
    let broken = || PullError::SearchEndpoint(format!("invalid registry endpoint {host:?}"));
    let secure = Origin::of_host(host, true).ok_or_else(broken)?;
    if host == HUB_INDEX {
        return Ok(secure);
    }
    let none = HeaderMap::new();
    let ping = |origin: Origin| {
        let none = &none;
        async move { transport.ask(&origin, Method::GET, "/v1/_ping", none).await }
    };
    let Err(over_tls) = ping(secure.clone()).await else {
        return Ok(secure);
    };
    if !transport.is_insecure(&secure).await {
        return Err(PullError::SearchEndpoint(format!(
            "invalid registry endpoint {secure}/v1/: {over_tls}. If this private registry supports only HTTP or HTTPS with an unknown CA certificate, please add `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if you have access to the registry's CA certificate, no need for the flag; simply place the CA certificate at /etc/docker/certs.d/{host}/ca.crt"
        )));
    }
    let plain = Origin::of_host(host, false).ok_or_else(broken)?;
    match ping(plain.clone()).await {
        Ok(_) => Ok(plain),
        Err(in_plain) => Err(PullError::SearchEndpoint(format!(
            "invalid registry endpoint \"{plain}/v1/\". HTTPS attempt: {over_tls}. HTTP attempt: {in_plain}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_name_a_server_or_mean_the_hub() {
        for (term, server, words) in [
            ("nginx", "index.docker.io", "nginx"),
            ("library/nginx", "index.docker.io", "nginx"),
            ("someone/nginx", "index.docker.io", "someone/nginx"),
            ("docker.io/library/nginx", "index.docker.io", "nginx"),
            ("r.example:5000/a/b", "r.example:5000", "a/b"),
            ("localhost/a", "localhost", "a"),
        ] {
            assert_eq!(split(term), (server, words), "{term}");
        }
    }
}
