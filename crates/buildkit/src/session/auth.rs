//! `Auth`: what the client logs in with at a registry.

use bollard_buildkit_proto::moby::filesync::v1::CredentialsRequest;
use bollard_buildkit_proto::moby::filesync::v1::auth_client::AuthClient;
use hoist_build::ports::BoxFuture;
use hoist_engine::ports::Credentials;

use super::Session;
use crate::bases::Logins;

/// What a client calls a registry that has no name of its own in its configuration.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// The logins of a session's client. They are asked for when they are of use, and not kept.
pub(crate) struct SessionLogins(pub(crate) Option<Session>);

impl Logins for SessionLogins {
    fn find<'a>(&'a self, registry: &'a str) -> BoxFuture<'a, Option<Credentials>> {
        Box::pin(async move {
            let session = self.0.as_ref()?;
            if !session.serves("/moby.filesync.v1.Auth/Credentials") {
                return None;
            }
            let host = if registry == "docker.io" {
                DOCKER_HUB
            } else {
                registry
            };
            let request = CredentialsRequest {
                host: host.to_owned(),
            };
            let mut client = AuthClient::new(session.channel.clone());
            let reply = match client.credentials(request).await {
                Ok(reply) => reply.into_inner(),
                Err(status) => {
                    tracing::debug!(registry, %status, "a client has no login");
                    return None;
                }
            };
            if reply.secret.is_empty() {
                return None;
            }
            // Without a name the secret is a refresh token (buildkit `session/auth/authprovider`).
            let (password, identity_token) = if reply.username.is_empty() {
                (String::new(), reply.secret)
            } else {
                (reply.secret, String::new())
            };
            Some(Credentials {
                username: reply.username,
                password,
                identity_token,
                server_address: registry.to_owned(),
                ..Credentials::default()
            })
        })
    }
}
