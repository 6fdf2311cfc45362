//! `POST /auth`: whether a registry accepts a login.

use http::{HeaderMap, Method, StatusCode};

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::PullError;
use crate::session::{Named, Session};
use crate::transport::Transport;

/// A login that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    /// `Login Succeeded`, as Docker's `POST /auth` answers in `Status`.
    pub status: &'static str,
    /// What the client should keep instead of the password; empty if the realm gives none (`IdentityToken`).
    pub identity_token: String,
}

impl Client {
    /// Tries a login. `server_address` is what clients send: a host, with port or without, or Docker Hub's
    /// `https://index.docker.io/v1/`; empty is Docker Hub.
    ///
    /// # Errors
    /// [`PullError::Unauthorized`] when the registry or its realm refuses, and whatever keeps us from asking.
    pub async fn authenticate(
        &self,
        server_address: &str,
        credentials: Credentials,
    ) -> Result<Authenticated, PullError> {
        let host = host_of(server_address);
        let transport = Transport::new(self.0.clone(), host);
        let session = Session::for_host(transport, host, None, Some(credentials), true);
        let response = session
            .ask_patiently(Method::GET, "/v2/", &HeaderMap::new())
            .await?;
        if response.status() != StatusCode::OK {
            let named = Named {
                repository: host.to_owned(),
                reference: host.to_owned(),
            };
            return Err(session.refused("/v2/", response, &named).await);
        }
        Ok(Authenticated {
            status: "Login Succeeded",
            identity_token: session.identity_token().await.unwrap_or_default(),
        })
    }
}

/// The registry a server address means (moby `registry/auth.go`, ConvertToHostname).
fn host_of(address: &str) -> &str {
    let bare = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))
        .unwrap_or(address);
    match bare.split('/').next().unwrap_or(bare) {
        "" | "index.docker.io" | "registry-1.docker.io" => hoist_model::DOCKER_HUB,
        host => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_addresses_mean_hosts() {
        for (address, host) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("https://reg.example:5000/v2/", "reg.example:5000"),
            ("reg.example", "reg.example"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
        ] {
            assert_eq!(host_of(address), host);
        }
    }
}
