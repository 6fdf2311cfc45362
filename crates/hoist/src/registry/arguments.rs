//! The words after `hoist registry`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Where a registry keeps everything unless told otherwise.
const ROOT: &str = "/var/lib/hoist-registry";

/// What `hoist registry` can be told.
#[derive(Debug, Parser)]
#[command(
    name = "hoist registry",
    disable_version_flag = true,
    disable_help_subcommand = true,
    about = "Serve images to other machines: a private registry",
    after_help = "A first registry, for this machine alone:\n  hoist registry serve --root /srv/images\n  docker push 127.0.0.1:5000/app\n\ndocs/registry.md says how to add users, rights, TLS and a cache."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Serve a directory of images until told to end
    Serve(Box<Serve>),
    /// Remove what no image needs from a directory that is not being served (a server does so by itself)
    Gc(Gc),
}

/// `hoist registry serve`.
#[derive(Debug, Parser)]
pub(crate) struct Serve {
    /// Address to listen on; may be repeated
    #[arg(
        long = "listen",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:5000"
    )]
    pub(crate) listen: Vec<SocketAddr>,
    /// Directory of the images; made if it is not there
    #[arg(long, value_name = "DIR", default_value = ROOT)]
    pub(crate) root: PathBuf,
    /// Certificate to serve HTTPS with, a PEM file; needs --tls-key
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of that certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// What clients call this registry, https://name:port, where that is not what they say themselves
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Users and passwords, as `htpasswd -B` writes them; read again at SIGHUP
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub(crate) users: Option<PathBuf>,
    /// What they, and others, may do, a file of lines WHO RIGHTS REPOSITORIES; without it users may do everything and others nothing
    #[arg(long, value_name = "FILE", requires = "users", help_heading = "Access")]
    pub(crate) rights: Option<PathBuf>,
    /// Have clients exchange passwords for tokens, at /token
    #[arg(long, requires = "users", help_heading = "Access")]
    pub(crate) tokens: bool,
    /// Where clients get tokens that somebody else gives, a URL
    #[arg(long, value_name = "URL", requires_all = ["token_issuer", "token_key"], conflicts_with = "users", help_heading = "Access")]
    pub(crate) token_realm: Option<String>,
    /// What this registry is called there
    #[arg(
        long,
        value_name = "NAME",
        requires = "token_realm",
        default_value = "hoist-registry",
        help_heading = "Access"
    )]
    pub(crate) token_service: String,
    /// Who gives those tokens, their `iss`
    #[arg(
        long,
        value_name = "NAME",
        requires = "token_realm",
        help_heading = "Access"
    )]
    pub(crate) token_issuer: Option<String>,
    /// The public key that verifies them, a PEM file
    #[arg(
        long,
        value_name = "FILE",
        requires = "token_realm",
        help_heading = "Access"
    )]
    pub(crate) token_key: Option<PathBuf>,
    /// Be a cache of this registry, https://registry-1.docker.io
    #[arg(long, value_name = "URL", help_heading = "Cache")]
    pub(crate) proxy: Option<String>,
    /// Name to log in there with
    #[arg(long, value_name = "NAME", requires_all = ["proxy", "proxy_password_file"], help_heading = "Cache")]
    pub(crate) proxy_user: Option<String>,
    /// File with that name's password
    #[arg(
        long,
        value_name = "FILE",
        requires = "proxy_user",
        help_heading = "Cache"
    )]
    pub(crate) proxy_password_file: Option<PathBuf>,
    /// How long a tag is believed before it is asked for there again
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = time, help_heading = "Cache")]
    pub(crate) proxy_fresh: std::time::Duration,
    /// How long an image stays that nobody asks for
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = time, help_heading = "Cache")]
    pub(crate) proxy_keep: std::time::Duration,
    /// Refuse to delete manifests, tags and blobs
    #[arg(long)]
    pub(crate) no_delete: bool,
    /// Warn clients with every reply
    #[arg(long, value_name = "TEXT")]
    pub(crate) warning: Option<String>,
    /// Address to serve Prometheus metrics on
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) ages: Ages,
    /// How often to remove what no image needs, 1h; 0 for never
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub(crate) gc_every: std::time::Duration,
    /// debug, info, warn or error; info has a line for each request
    #[arg(short = 'l', long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
    /// text or json
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub(crate) log_format: String,
}

/// `hoist registry gc`.
#[derive(Debug, Parser)]
pub(crate) struct Gc {
    /// Directory of the images
    #[arg(long, value_name = "DIR", default_value = ROOT)]
    pub(crate) root: PathBuf,
    #[command(flatten)]
    pub(crate) ages: Ages,
}

/// How old something that nothing needs has to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Ages {
    /// How long a blob stays that no manifest names, since it was last asked for
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
    pub(crate) blob_age: std::time::Duration,
    /// How long an upload stays that nothing comes for
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = time)]
    pub(crate) upload_age: std::time::Duration,
}

/// `90s`, `15m`, `1h`, `7d`, or `0`.
fn time(text: &str) -> Result<std::time::Duration, String> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "" if number == "0" => 1,
        _ => return Err("expected a number and s, m, h or d, such as 15m".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "expected a number and s, m, h or d, such as 15m".to_owned())?;
    let total = number
        .checked_mul(seconds)
        .filter(|total| *total <= 100 * 365 * 86_400);
    total
        .map(std::time::Duration::from_secs)
        .ok_or_else(|| "more than a century".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_a_unit() {
        for (text, seconds) in [
            ("0", 0),
            ("0s", 0),
            ("90s", 90),
            ("15m", 900),
            ("1h", 3600),
            ("7d", 604_800),
        ] {
            assert_eq!(time(text).unwrap().as_secs(), seconds, "{text}");
        }
        for bad in [
            "",
            "1",
            "h",
            "-1h",
            "1 h",
            "1w",
            "99999999999999999999h",
            "999999999d",
        ] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
