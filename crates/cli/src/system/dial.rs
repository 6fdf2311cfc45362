//! `system dial-stdio`: standard input and output as a connection to the engine. `ssh://` hosts are reached so: the client
//! runs this verb on the other side (docker/cli:cli/command/system/dial_stdio.go).

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::attach::standard_input;
use crate::{Context, Failure, Run, output};

/// `system dial-stdio`.
#[derive(Args, Debug)]
pub(super) struct DialStdio {}

impl Run for DialStdio {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        // Starts the engine if it is ours and does not run.
        let connection = context.client()?.dial().await?;
        let (mut reader, mut writer) = tokio::io::split(connection);
        let mut input = Some(standard_input());
        let mut buffer = vec![0; 64 << 10];
        loop {
            let typed = async {
                match &mut input {
                    Some(input) => input.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = reader.read(&mut buffer) => match read {
                    Ok(0) => return Ok(0),
                    Ok(n) => output::text(&buffer[..n])?,
                    Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(0),
                    Err(error) => return Err(error.into()),
                },
                chunk = typed => match chunk {
                    // The engine may have hung up already; what it said last is still on its way.
                    Some(chunk) => if writer.write_all(&chunk).await.is_err() {
                        input = None;
                    },
                    // Half a close: what the engine still says arrives.
                    None => {
                        input = None;
                        drop(writer.shutdown().await);
                    }
                },
            }
        }
    }
}
