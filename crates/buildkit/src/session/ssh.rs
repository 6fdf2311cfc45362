//! `SSH`: the client's agents, for programs that are to log in somewhere as whoever builds. Keys stay at the client's.

use std::io;

use bollard_buildkit_proto::moby::sshforward::v1::ssh_client::SshClient;
use bollard_buildkit_proto::moby::sshforward::v1::{BytesMessage, CheckAgentRequest};
use futures_util::stream;
use hoist_build::{AgentSockets, Builder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tonic::{Code, Request, Status};

use super::Session;

/// Which agent a connection is for (buildkit `session/sshforward`).
const ID: &str = "buildkit.ssh.id";
const CHECK: &str = "/moby.sshforward.v1.SSH/CheckAgent";
/// Bytes of a message: clients take 4 MiB.
const PIECE: usize = 32 << 10;

/// Sockets to the client's agents of these ids; those that it has not are left out. None at all: none of them is there.
pub(crate) async fn open_agents(
    session: Option<&Session>,
    builder: &Builder,
    ids: impl IntoIterator<Item = String>,
) -> Result<Option<AgentSockets>, Status> {
    let Some(session) = session.filter(|session| session.serves(CHECK)) else {
        return Ok(None);
    };
    let mut sockets = None;
    for id in ids {
        let mut client = SshClient::new(session.channel.clone());
        let asked = CheckAgentRequest { id: id.clone() };
        match client.check_agent(asked).await {
            Ok(_) => {}
            // It says no more of an id that it does not have.
            Err(status) if matches!(status.code(), Code::Unknown | Code::NotFound) => continue,
            Err(status) => return Err(status),
        }
        let failed = |error: io::Error| {
            Status::internal(format!("making the socket of an ssh agent: {error}"))
        };
        let sockets = match &mut sockets {
            Some(sockets) => sockets,
            none => none.insert(AgentSockets::new(builder).map_err(failed)?),
        };
        let session = session.clone();
        let serve = {
            let id = id.clone();
            move |program: UnixStream| {
                let (session, id) = (session.clone(), id.clone());
                async move {
                    if let Err(status) = forward(&session, &id, program).await {
                        tracing::debug!(id, %status, "a connection to an ssh agent ended");
                    }
                }
            }
        };
        sockets.add(&id, serve).map_err(failed)?;
    }
    Ok(sockets)
}

/// Carries one connection of a program's to the client's agent.
async fn forward(session: &Session, id: &str, program: UnixStream) -> Result<(), Status> {
    let (read, mut write) = program.into_split();
    let asked = stream::unfold(read, |mut read| async move {
        let mut data = vec![0; PIECE];
        let count = read.read(&mut data).await.ok().filter(|count| *count > 0)?;
        data.truncate(count);
        Some((BytesMessage { data }, read))
    });
    let mut request = Request::new(asked);
    let id = id.parse();
    let id = id.map_err(|_| Status::invalid_argument("the agent's id is no text"))?;
    request.metadata_mut().insert(ID, id);
    let mut client = SshClient::new(session.channel.clone());
    let mut answers = client.forward_agent(request).await?.into_inner();
    while let Some(message) = answers.message().await? {
        if write.write_all(&message.data).await.is_err() {
            // The program is gone.
            return Ok(());
        }
    }
    Ok(())
}
