//! `Secrets`: what the client keeps to itself until a step asks for it. Never shown, never kept.

use std::collections::BTreeMap;

use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;
use bollard_buildkit_proto::moby::buildkit::secrets::v1::secrets_client::SecretsClient;
use hoist_build::Secrets;
use tonic::{Code, Status};

use super::Session;

/// Bytes of one secret (buildkit `session/secrets`: clients refuse to send more).
const LARGEST: usize = 500 << 10;

/// Asks for secrets by their ids; those that the client does not know are left out.
pub(crate) async fn fetch_secrets(
    session: Option<&Session>,
    ids: impl IntoIterator<Item = String>,
) -> Result<Secrets, Status> {
    let mut secrets = BTreeMap::new();
    let method = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
    let Some(session) = session.filter(|session| session.serves(method)) else {
        return Ok(Secrets(secrets));
    };
    for id in ids {
        let request = GetSecretRequest {
            id: id.clone(),
            ..GetSecretRequest::default()
        };
        let mut client = SecretsClient::new(session.channel.clone());
        match client.get_secret(request).await {
            Ok(reply) => {
                let data = reply.into_inner().data;
                if data.len() > LARGEST {
                    return Err(Status::invalid_argument(format!(
                        "secret {id} is larger than {LARGEST} bytes"
                    )));
                }
                secrets.insert(id, data);
            }
            Err(status) if status.code() == Code::NotFound => {}
            Err(status) => {
                return Err(Status::new(
                    status.code(),
                    format!("secret {id}: {}", status.message()),
                ));
            }
        }
    }
    Ok(Secrets(secrets))
}
