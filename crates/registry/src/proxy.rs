//! Proxies: how they are written, and which servers are asked without one.
//!
//! The rules are those of Go's `golang.org/x/net/http/httpproxy` and `net/http`, which dockerd goes by.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hoist_http::client::ProxyProtocol;
use http::{HeaderValue, Uri};

use crate::origin::Origin;

/// The proxies of an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For servers without TLS.
    pub http: Option<Proxy>,
    /// For servers with TLS.
    pub https: Option<Proxy>,
    /// Servers that are asked without one, as `NO_PROXY` lists them.
    pub exceptions: String,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    /// Names are looked up by the proxy, however it is written.
    Socks5,
}

impl Scheme {
    fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks5 => "socks5",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Socks5 => 1080,
        }
    }
}

/// A proxy. `Display` shows no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    scheme: Scheme,
    host: String,
    port: u16,
    /// Name and password, percent-decoded.
    user: Option<(String, String)>,
}

/// A text was not a proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("proxy {0:?}: expected http://host[:port], or https or socks5 in its place")]
pub struct InvalidProxy(pub String);

impl FromStr for Proxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let hidden = || {
            let (before, after) = text.rsplit_once('@').unwrap_or(("", text));
            let shown = if before.is_empty() { "" } else { "xxxxx@" };
            InvalidProxy(format!("{shown}{after}"))
        };
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "socks5" | "socks5h" => Scheme::Socks5,
            _ => return Err(hidden()),
        };
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| hidden())?;
        let authority = uri.authority().ok_or_else(hidden)?.as_str();
        let bare = authority.rsplit('@').next().unwrap_or(authority);
        let host = uri.host().unwrap_or_default();
        let has_bad_port = uri.port_u16().is_none() && bare.len() > host.len();
        let host = host.trim_matches(['[', ']']);
        if has_bad_port
            || host.is_empty()
            || !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
        {
            return Err(hidden());
        }
        let user = authority.rsplit_once('@').map(|(user, _)| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (decoded(name), decoded(password))
        });
        Ok(Self {
            scheme,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(scheme.port()),
            user,
        })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map_or("", |_| "xxxxx:xxxxx@");
        let (scheme, host, port) = (self.scheme.text(), &self.host, self.port);
        if host.contains(':') {
            write!(f, "{scheme}://{user}[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{user}{host}:{port}")
        }
    }
}

impl Proxy {
    /// Its server, where it is spoken to with TLS.
    pub(crate) fn tls_origin(&self) -> Option<Origin> {
        (self.scheme == Scheme::Https).then(|| Origin {
            tls: true,
            host: self.host.clone(),
            port: self.port,
        })
    }

    /// What connections need of it; `tls` is for one that is spoken to with TLS.
    pub(crate) fn endpoint(
        &self,
        tls: Option<Arc<rustls::ClientConfig>>,
    ) -> hoist_http::client::Proxy {
        let protocol = if self.scheme == Scheme::Socks5 {
            let user = self.user.clone();
            ProxyProtocol::Socks { user }
        } else {
            let authorization = self.user.as_ref().and_then(|(name, password)| {
                let encoded = STANDARD.encode(format!("{name}:{password}"));
                let mut value = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
                value.set_sensitive(true);
                Some(value)
            });
            ProxyProtocol::Http { tls, authorization }
        };
        hoist_http::client::Proxy {
            host: self.host.clone(),
            port: self.port,
            protocol,
        }
    }
}

/// Takes percent-encoding off; what is none stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| *first == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a server is among the exceptions.
pub(crate) fn is_excepted(exceptions: &str, host: &str, port: u16) -> bool {
    let host = host.to_ascii_lowercase();
    let address = host.parse::<IpAddr>().ok();
    exceptions.split(',').any(|entry| {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Some((net, length)) = entry.split_once('/') {
            let parsed = net.parse::<IpAddr>().ok().zip(length.parse::<u8>().ok());
            return parsed.is_some_and(|(net, length)| {
                address.is_some_and(|address| crate::settings::contains(net, length, address))
            });
        }
        let (name, wanted) = split_port(&entry);
        if name.is_empty() || wanted.is_some_and(|wanted| wanted != port) {
            return false;
        }
        let name = name
            .strip_prefix('*')
            .filter(|rest| rest.starts_with('.'))
            .unwrap_or(name);
        if let Ok(own) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return address == Some(own);
        }
        match name.strip_prefix('.') {
            Some(_) => host.ends_with(name),
            None => host == name || host.ends_with(&format!(".{name}")),
        }
    })
}

/// A name or address, and the port after it.
fn split_port(entry: &str) -> (&str, Option<u16>) {
    if entry.parse::<IpAddr>().is_ok() {
        return (entry, None);
    }
    let parts = entry.rsplit_once(':');
    let parts = parts.and_then(|(name, port)| Some((name, port.parse().ok()?)));
    parts.map_or((entry, None), |(name, port)| (name, Some(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_read_and_shown_without_passwords() {
        for (text, shown) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://proxy/", "http://proxy:80"),
            ("proxy:3128", "http://proxy:3128"),
            ("https://proxy", "https://proxy:443"),
            ("socks5://a:b@proxy", "socks5://xxxxx:xxxxx@proxy:1080"),
            ("socks5h://proxy:9", "socks5://proxy:9"),
            (
                "http://a:b%40c@[fd00::1]:8080",
                "http://xxxxx:xxxxx@[fd00::1]:8080",
            ),
        ] {
            assert_eq!(text.parse::<Proxy>().unwrap().to_string(), shown);
        }
        let told: Proxy = "http://a:b%40c%zz@p".parse().unwrap();
        assert_eq!(told.user, Some(("a".to_owned(), "b@c%zz".to_owned())));
        for bad in [
            "ftp://p",
            "socks4://p",
            "https://",
            "http://",
            "http://p/path",
            "",
            "http://p:x",
        ] {
            assert!(bad.parse::<Proxy>().is_err(), "{bad}");
        }
        let error = "ftp://ann:secret@p".parse::<Proxy>().unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn exceptions_are_names_addresses_and_networks() {
        for (exceptions, host, port, excepted) in [
            ("*", "any", 443, true),
            ("", "any", 443, false),
            ("a.example, b.example", "b.example", 443, true),
            ("a.example", "x.A.example", 443, true),
            ("a.example", "xa.example", 443, false),
            (".a.example", "a.example", 443, false),
            (".a.example", "x.a.example", 443, true),
            ("*.a.example", "x.a.example", 443, true),
            ("a.example:5000", "a.example", 443, false),
            ("a.example:5000", "a.example", 5000, true),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("10.1.2.3", "10.1.2.3", 80, true),
            ("10.1.2.3:81", "10.1.2.3", 80, false),
            ("fd00::1", "fd00::1", 80, true),
            ("[fd00::1]:80", "fd00::1", 80, true),
        ] {
            let found = is_excepted(exceptions, host, port);
            assert_eq!(found, excepted, "{exceptions} {host}:{port}");
        }
    }
}
