//! `ssh://` hosts: the engine of another machine, through `docker system dial-stdio` there.
//!
//! Words and order as the stock client's (docker/cli:cli/connhelper), so that what a person has set up for it serves here.

use std::fmt;
use std::str::FromStr;

use hoist_http::client::Endpoint;

use super::host::InvalidHost;

/// A machine to reach by ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    user: Option<String>,
    /// Name or address, IPv6 without brackets.
    host: String,
    port: Option<u16>,
    /// The engine's socket there, where it is not the default one.
    socket: Option<String>,
}

impl Ssh {
    /// The words after `ssh`.
    fn arguments(&self) -> Vec<String> {
        let mut words: Vec<String> = ["-o", "ConnectTimeout=30", "-T"].map(str::to_owned).into();
        if let Some(user) = &self.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = self.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        words.extend(["--".to_owned(), self.host.clone(), "docker".to_owned()]);
        if let Some(socket) = &self.socket {
            words.extend(["--host".to_owned(), format!("unix://{socket}")]);
        }
        words.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        words
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint::Program {
            program: "ssh".into(),
            arguments: self.arguments().into_iter().map(Into::into).collect(),
        }
    }
}

impl FromStr for Ssh {
    type Err = InvalidHost;

    /// Reads `[user@]host[:port][/socket]`, which follows `ssh://`.
    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let invalid = |why: &'static str| InvalidHost::Ssh(format!("ssh://{text}"), why);
        if text.contains(['?', '#']) {
            return Err(invalid("a query or fragment has no meaning here"));
        }
        let (place, socket) = match text.split_once('/') {
            None | Some((_, "")) => (text.trim_end_matches('/'), None),
            Some((place, path)) => (place, Some(format!("/{path}"))),
        };
        let (user, place) = match place.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, place),
        };
        if user.is_some_and(|user| user.contains(':')) {
            return Err(invalid("a password cannot be given; use a key"));
        }
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = port.parse().map_err(|_| invalid("the port is no number"))?;
                (host, Some(port))
            }
            _ => (place, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || user == Some("") {
            return Err(invalid("expected ssh://[USER@]HOST[:PORT][/SOCKET]"));
        }
        // The socket becomes a word of a remote shell's command line.
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@".contains(c);
        if socket.as_ref().is_some_and(|path| !path.chars().all(plain)) {
            return Err(invalid(
                "the socket's path has characters that a shell would read",
            ));
        }
        Ok(Self {
            user: user.map(str::to_owned),
            host: host.to_owned(),
            port,
            socket,
        })
    }
}

impl fmt::Display for Ssh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(self.socket.as_deref().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, words: &str) {
        let ssh: Ssh = text.parse().unwrap();
        let usual = "-o ConnectTimeout=30 -T ";
        assert_eq!(ssh.arguments().join(" "), format!("{usual}{words}"));
        assert_eq!(
            ssh.to_string(),
            format!("ssh://{}", text.trim_end_matches('/'))
        );
    }

    #[test]
    fn the_command_is_the_stock_clients() {
        check("host", "-- host docker system dial-stdio");
        check(
            "me@host:2222/",
            "-l me -p 2222 -- host docker system dial-stdio",
        );
        check("[fe80::1]:22", "-p 22 -- fe80::1 docker system dial-stdio");
        check(
            "host/run/other.sock",
            "-- host docker --host unix:///run/other.sock system dial-stdio",
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            "me@",
            "me:secret@host",
            "host:port",
            "host/a;reboot",
            "host?x=y",
            "@host",
        ] {
            let error = text.parse::<Ssh>().unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}
