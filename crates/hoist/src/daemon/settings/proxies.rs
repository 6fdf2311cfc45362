//! The servers by which registries are asked: flags over daemon.json over the environment, as in dockerd.

use anyhow::Context;
use clap::Args;
use hoist_registry::{Proxies, Proxy};
use serde::Deserialize;

/// What flags or the file say, as written (dockerd(8), `proxies`).
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(crate) struct ProxiesSaid {
    /// Proxy by which the engine asks registries without TLS, http://name:3128
    #[arg(long, value_name = "URL")]
    pub(crate) http_proxy: Option<String>,
    /// Proxy by which it asks registries with TLS
    #[arg(long, value_name = "URL")]
    pub(crate) https_proxy: Option<String>,
    /// Hosts that it asks without a proxy, comma separated
    #[arg(long, value_name = "HOSTS")]
    pub(crate) no_proxy: Option<String>,
}

impl ProxiesSaid {
    /// These, and where they say nothing, those.
    pub(super) fn over(self, file: Self) -> Self {
        Self {
            http_proxy: self.http_proxy.or(file.http_proxy),
            https_proxy: self.https_proxy.or(file.https_proxy),
            no_proxy: self.no_proxy.or(file.no_proxy),
        }
    }
}

/// As dockerd's reload event has them, without passwords.
pub(crate) fn told(proxies: &Proxies) -> String {
    let shown = |proxy: Option<&Proxy>| proxy.map(ToString::to_string).unwrap_or_default();
    let (http, https) = (shown(proxies.http.as_ref()), shown(proxies.https.as_ref()));
    let text = serde_json::json!({
        "http-proxy": http, "https-proxy": https, "no-proxy": proxies.exceptions
    });
    text.to_string()
}

/// `variable` reads the environment: the variables dockerd reads where nothing else is said. One of them that cannot be used is
/// named in `ignored`: it may be meant for others.
pub(super) fn settle(
    said: ProxiesSaid,
    variable: impl Fn(&str) -> Option<String>,
    ignored: &mut Vec<String>,
) -> anyhow::Result<Proxies> {
    let told = |names: [&'static str; 2]| {
        let mut found = names
            .iter()
            .filter_map(|name| Some((*name, variable(name)?)));
        found.next()
    };
    let mut proxy = |name: &str, said: Option<String>, names| -> anyhow::Result<Option<Proxy>> {
        if let Some(text) = said {
            let text = (!text.is_empty()).then_some(text);
            let parsed = text.map(|text| text.parse::<Proxy>()).transpose();
            return parsed.with_context(|| format!("invalid {name}"));
        }
        match told(names).filter(|(_, text)| !text.is_empty()) {
            None => Ok(None),
            Some((name, text)) => {
                let parsed = text.parse().ok();
                if parsed.is_none() {
                    ignored.push(format!("variable {name}"));
                }
                Ok(parsed)
            }
        }
    };
    Ok(Proxies {
        http: proxy("http-proxy", said.http_proxy, ["HTTP_PROXY", "http_proxy"])?,
        https: proxy(
            "https-proxy",
            said.https_proxy,
            ["HTTPS_PROXY", "https_proxy"],
        )?,
        exceptions: said.no_proxy.unwrap_or_else(|| {
            let told = told(["NO_PROXY", "no_proxy"]);
            told.map(|(_, text)| text).unwrap_or_default()
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(http: Option<&str>, https: Option<&str>, no: Option<&str>) -> ProxiesSaid {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        ProxiesSaid {
            http_proxy: owned(http),
            https_proxy: owned(https),
            no_proxy: owned(no),
        }
    }

    #[test]
    fn flags_win_over_the_file_and_that_over_the_environment() {
        let variable = |name: &str| match name {
            "HTTP_PROXY" => Some("http://e:1".to_owned()),
            "https_proxy" => Some("http://e:2".to_owned()),
            "NO_PROXY" => Some("e.local".to_owned()),
            _ => None,
        };
        let flags = said(None, Some("http://ann:secret@flag:3"), None);
        let file = said(Some("file:4"), Some("http://file:5"), None);
        let mut ignored = Vec::new();
        let found = settle(flags.over(file), variable, &mut ignored).unwrap();
        assert_eq!(
            told(&found),
            r#"{"http-proxy":"http://file:4","https-proxy":"http://xxxxx:xxxxx@flag:3","no-proxy":"e.local"}"#
        );
        // One that is said to be none.
        let found = settle(said(Some(""), None, Some("")), variable, &mut ignored).unwrap();
        assert_eq!((found.http, found.exceptions.as_str()), (None, ""));
        let wrong = said(Some("socks4://s:1"), None, None);
        let error = settle(wrong, variable, &mut ignored).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            r#"invalid http-proxy: proxy "socks4://s:1": expected http://host[:port], or https or socks5 in its place"#
        );
        assert!(ignored.is_empty());
        let socks = |name: &str| (name == "HTTPS_PROXY").then(|| "socks4://s:1".to_owned());
        let found = settle(said(None, None, None), socks, &mut ignored).unwrap();
        assert_eq!(found, Proxies::default());
        assert_eq!(ignored, ["variable HTTPS_PROXY"]);
    }
}
