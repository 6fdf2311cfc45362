//! Servers that connect in our place: HTTP proxies, spoken to with or without TLS, and SOCKS 5.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::client::ClientError;

/// The longest answer of an HTTP proxy, in bytes.
const LONGEST_ANSWER: usize = 16 << 10;

/// A proxy.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// Name or address; an IPv6 address with or without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How it is spoken to.
    pub protocol: ProxyProtocol,
}

/// What a proxy understands.
#[derive(Clone, Debug)]
pub enum ProxyProtocol {
    /// TLS goes through it by `CONNECT` (RFC 9110, 9.3.6), plain HTTP with the whole URI in the request.
    Http {
        /// TLS between it and us, if any.
        tls: Option<Arc<rustls::ClientConfig>>,
        /// What `Proxy-Authorization` says, if anything.
        authorization: Option<HeaderValue>,
    },
    /// SOCKS 5 (RFC 1928), which looks names up itself.
    Socks {
        /// Name and password (RFC 1929), if any.
        user: Option<(String, String)>,
    },
}

impl Proxy {
    /// What requests are sent with that this proxy passes on as they are, and of which server they therefore name;
    /// `None` if it passes on bytes alone.
    pub(crate) fn forwards(&self) -> Option<Option<&HeaderValue>> {
        match &self.protocol {
            ProxyProtocol::Http { authorization, .. } => Some(authorization.as_ref()),
            ProxyProtocol::Socks { .. } => None,
        }
    }

    /// Asks it, on a connection to it, to connect its end to a server. Afterwards the connection is the server's.
    pub(crate) async fn tunnel(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        host: &str,
        port: u16,
    ) -> Result<(), ClientError> {
        let address = format!("{}:{}", self.host, self.port);
        let bare = host.trim_matches(['[', ']']);
        let target = match bare.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
            _ => format!("{bare}:{port}"),
        };
        let answer = match &self.protocol {
            ProxyProtocol::Http { authorization, .. } => {
                connect(stream, &target, authorization.as_ref()).await
            }
            ProxyProtocol::Socks { user } => socks(stream, bare, port, user.as_ref()).await,
        };
        match answer {
            Ok(None) => Ok(()),
            Ok(Some(answer)) => Err(ClientError::Proxy {
                address,
                target,
                answer,
            }),
            Err(source) => Err(ClientError::Dial { address, source }),
        }
    }
}

/// `CONNECT`; what the proxy said if it does not.
async fn connect(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    target: &str,
    authorization: Option<&HeaderValue>,
) -> io::Result<Option<String>> {
    let mut asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
    if let Some(value) = authorization {
        asked.extend(b"Proxy-Authorization: ");
        asked.extend(value.as_bytes());
        asked.extend(b"\r\n");
    }
    asked.extend(b"\r\n");
    stream.write_all(&asked).await?;
    stream.flush().await?;
    // Byte by byte: what follows the head is the server's.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < LONGEST_ANSWER {
        head.push(stream.read_u8().await?);
    }
    let text = String::from_utf8_lossy(&head);
    let (line, _) = text.split_once("\r\n").unwrap_or((&text, ""));
    let status = line.split_once(' ').map_or("", |(_, status)| status);
    let connected = line.starts_with("HTTP/1.") && status.starts_with('2');
    Ok((!connected).then(|| status.to_owned()))
}

const VERSION: u8 = 5;
/// Ways to say who one is: not at all, or by name and password.
const NOBODY: u8 = 0;
const PASSWORD: u8 = 2;

/// SOCKS 5; what the proxy said if it does not connect.
async fn socks(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    host: &str,
    port: u16,
    user: Option<&(String, String)>,
) -> io::Result<Option<String>> {
    let greeting: &[u8] = match user {
        Some(_) => &[VERSION, 2, NOBODY, PASSWORD],
        None => &[VERSION, 1, NOBODY],
    };
    stream.write_all(greeting).await?;
    stream.flush().await?;
    match (read(stream).await?, user) {
        ([VERSION, NOBODY], _) => {}
        ([VERSION, PASSWORD], Some((name, password))) => {
            let mut told = vec![1];
            for text in [name, password] {
                told.push(length(text)?);
                told.extend(text.as_bytes());
            }
            stream.write_all(&told).await?;
            stream.flush().await?;
            let [_, status] = read(stream).await?;
            if status != 0 {
                return Ok(Some("username/password authentication failed".to_owned()));
            }
        }
        ([VERSION, _], _) => {
            return Ok(Some("no acceptable authentication methods".to_owned()));
        }
        ([version, _], _) => return Ok(Some(format!("unexpected protocol version {version}"))),
    }
    let mut asked = vec![VERSION, 1, 0];
    match host.parse() {
        Ok(IpAddr::V4(ip)) => {
            asked.push(1);
            asked.extend(ip.octets());
        }
        Ok(IpAddr::V6(ip)) => {
            asked.push(4);
            asked.extend(ip.octets());
        }
        Err(_) => {
            asked.extend([3, length(host)?]);
            asked.extend(host.as_bytes());
        }
    }
    asked.extend(port.to_be_bytes());
    stream.write_all(&asked).await?;
    stream.flush().await?;
    let [_, reply, _, kind] = read(stream).await?;
    if reply != 0 {
        return Ok(Some(refusal(reply)));
    }
    // The address on its other side, and a port.
    let rest = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(stream.read_u8().await?),
        _ => return Ok(Some(format!("unknown address type {kind}"))),
    };
    let mut skipped = vec![0; rest + 2];
    stream.read_exact(&mut skipped).await?;
    Ok(None)
}

async fn read<const LENGTH: usize>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A text's length, where it has one byte.
fn length(text: &str) -> io::Result<u8> {
    u8::try_from(text.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "more than SOCKS 5 can say"))
}

/// RFC 1928, section 6.
fn refusal(reply: u8) -> String {
    match reply {
        1 => "general SOCKS server failure".to_owned(),
        2 => "connection not allowed by ruleset".to_owned(),
        3 => "network unreachable".to_owned(),
        4 => "host unreachable".to_owned(),
        5 => "connection refused".to_owned(),
        6 => "TTL expired".to_owned(),
        7 => "command not supported".to_owned(),
        8 => "address type not supported".to_owned(),
        other => format!("unknown code {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(user: Option<(&str, &str)>) -> Proxy {
        let user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        Proxy {
            host: "p".to_owned(),
            port: 1080,
            protocol: ProxyProtocol::Socks { user },
        }
    }

    /// What is said to a proxy that answers so, all at once, and what comes of it.
    async fn said(proxy: Proxy, host: &str, answers: &[u8]) -> (Vec<u8>, Result<Vec<u8>, String>) {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(answers).await.unwrap();
        let outcome = proxy.tunnel(&mut ours, host, 443).await;
        ours.shutdown().await.unwrap();
        let mut said = Vec::new();
        theirs.read_to_end(&mut said).await.unwrap();
        drop(theirs);
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        (said, outcome.map(|()| rest).map_err(|e| e.to_string()))
    }

    #[tokio::test]
    async fn socks_is_asked_for_names_and_for_addresses() {
        let answers = b"\x05\x00\x05\x00\x00\x01\x01\x02\x03\x04\x00\x50server";
        let (told, rest) = said(proxy(None), "registry.example", answers).await;
        assert_eq!(
            told,
            b"\x05\x01\x00\x05\x01\x00\x03\x10registry.example\x01\xbb"
        );
        assert_eq!(rest, Ok(b"server".to_vec()));
        let answers = b"\x05\x00\x05\x00\x00\x03\x02ab\x00\x50server";
        let (told, rest) = said(proxy(None), "[fd00::1]", answers).await;
        let asked = b"\x05\x01\x00\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb";
        assert_eq!(told[3..], asked[..]);
        assert_eq!(rest, Ok(b"server".to_vec()));
    }

    #[tokio::test]
    async fn socks_is_told_who_asks() {
        let answers =
            b"\x05\x02\x01\x00\x05\x00\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50server";
        let (told, rest) = said(proxy(Some(("ann", "pw"))), "127.0.0.1", answers).await;
        let asked = b"\x05\x02\x00\x02\x01\x03ann\x02pw\x05\x01\x00\x01\x7f\0\0\x01\x01\xbb";
        assert_eq!(told, asked);
        assert_eq!(rest, Ok(b"server".to_vec()));
    }

    #[tokio::test]
    async fn what_socks_refuses_is_said() {
        for (answers, words) in [
            (
                &b"\x05\xff"[..],
                "proxy p:1080 does not connect to a:443: no acceptable authentication methods",
            ),
            (
                b"\x05\x02\x01\x01",
                "proxy p:1080 does not connect to a:443: username/password authentication failed",
            ),
            (
                b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0",
                "proxy p:1080 does not connect to a:443: connection refused",
            ),
            (
                b"\x04\x00",
                "proxy p:1080 does not connect to a:443: unexpected protocol version 4",
            ),
        ] {
            let (_, outcome) = said(proxy(Some(("ann", "pw"))), "a", answers).await;
            assert_eq!(outcome.unwrap_err(), words);
        }
    }

    #[tokio::test]
    async fn a_name_longer_than_socks_can_say_is_refused() {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        theirs.write_all(b"\x05\x00").await.unwrap();
        let host = "a".repeat(256);
        let outcome = proxy(None).tunnel(&mut ours, &host, 443).await;
        assert!(matches!(outcome, Err(ClientError::Dial { .. })));
    }
}
