//! `system dial-stdio`: standard input and output as a connection to the engine. `ssh://` hosts are reached so: the client
//! runs this verb on the other side (docker/cli:cli/command/system/dial_stdio.go).

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use clap::Args;
use hoist_docker::client::Host;

use crate::cli::{Context, Failure, Run};

/// `system dial-stdio`.
#[derive(Args, Debug)]
pub(super) struct DialStdio {}

/// A connection whose two directions end one by one.
trait Connection: Read + Write + Sized + Send + 'static {
    fn twin(&self) -> io::Result<Self>;
    fn done_writing(&self) -> io::Result<()>;
}

impl Connection for UnixStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn done_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Connection for TcpStream {
    fn twin(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn done_writing(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl Run for DialStdio {
    async fn run(self, context: &Context) -> Result<u8, Failure> {
        // Starts the engine if it is ours and does not run.
        context.client()?;
        let failed = |host: &Host, error: io::Error| {
            Failure::new(format!(
                "failed to open the raw stream connection to {host}: {error}"
            ))
        };
        let (host, secured) = context.host()?;
        match host {
            Host::Unix(path) => {
                let connection = UnixStream::connect(path).map_err(|e| failed(host, e))?;
                carry(connection)
            }
            Host::Tcp { .. } if secured => Err(Failure::new(format!(
                "dial-stdio does not speak TLS, which {host} wants"
            ))),
            Host::Tcp { host: name, port } => {
                let connection =
                    TcpStream::connect((name.as_str(), *port)).map_err(|e| failed(host, e))?;
                carry(connection)
            }
        }
        .map(|()| 0)
    }
}

/// Carries both ways until the engine has said all.
fn carry<C: Connection>(mut connection: C) -> Result<(), Failure> {
    let mut up = connection.twin()?;
    // Ends with the process if the engine hangs up first.
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let copied = io::copy(&mut io::stdin().lock(), &mut up);
            // The engine may have hung up already.
            drop(copied.and_then(|_| up.done_writing()));
        })?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match connection.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => crate::cli::output::text(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
