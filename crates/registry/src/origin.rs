//! Scheme, host and port: what credentials and connections are bound to.

use std::fmt;

use http::Uri;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    pub(crate) tls: bool,
    /// Lower case; IPv6 without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// `host[:port]` as references spell it.
    pub(crate) fn of_host(host: &str, tls: bool) -> Option<Self> {
        Self::of_uri(&format!("{}://{host}/", scheme(tls)).parse().ok()?)
    }

    /// The origin of an absolute `http` or `https` URI.
    pub(crate) fn of_uri(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        (!host.is_empty()).then_some(Self { tls, host, port })
    }

    pub(crate) fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// `host:port`, the port only where it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == if self.tls { 443 } else { 80 } {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", scheme(self.tls), self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_become_origins() {
        for (host, tls, shown) in [
            ("Registry.Example", true, "https://registry.example"),
            ("a:5000", false, "http://a:5000"),
            ("a:443", true, "https://a"),
            ("[::1]:5000", true, "https://[::1]:5000"),
        ] {
            assert_eq!(Origin::of_host(host, tls).unwrap().to_string(), shown);
        }
        assert!(Origin::of_uri(&"ftp://a/".parse().unwrap()).is_none());
        assert!(Origin::of_uri(&"/v2/".parse().unwrap()).is_none());
        assert!(Origin::of_host("[::1]:1", false).unwrap().is_loopback());
        assert!(
            !Origin::of_host("localhost.example", false)
                .unwrap()
                .is_loopback()
        );
    }
}
