//! What every verb is given: the engine, the configuration, a runtime.

use std::cell::OnceCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ArgMatches;
use hoist_docker::client::{Client, Host};
use hoist_http::StaticNames;
use hoist_http::tls::ClientTrust;
use hoist_model::chain;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::config::Config;
use super::engine;
use super::failure::Failure;

/// Where the engine listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/hoist.sock";

/// Under which name the client was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Our own words.
    Hoist,
    /// The stock client's words where scripts look for them.
    Docker,
}

impl Program {
    /// The name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Hoist => "hoist",
            Self::Docker => "docker",
        }
    }

    /// A failure as this program says it.
    pub(crate) fn sentence(self, failure: &Failure, verb: &str) -> String {
        let message = failure.message.trim_end();
        if let Some(usage) = &failure.usage {
            let usage = format!("{} {usage}", self.name());
            return super::unknown_flag(self, verb, message, Some(&usage));
        }
        match (self, failure.from_engine) {
            (Self::Hoist, _) => format!("hoist: {message}"),
            (Self::Docker, true) if verb == "run" => {
                format!(
                    "docker: Error response from daemon: {message}\n\nRun 'docker run --help' for more information"
                )
            }
            (Self::Docker, true) => format!("Error response from daemon: {message}"),
            (Self::Docker, false) if message.starts_with("No ") => format!("Error: {message}"),
            (Self::Docker, false) if failure.unreachable => {
                format!(
                    "Cannot connect to the Docker daemon. Is the docker daemon running? ({message})"
                )
            }
            (Self::Docker, false) if matches!(verb, "run" | "create") && failure.code == 125 => {
                format!("docker: {message}\n\nRun 'docker {verb} --help' for more information")
            }
            (Self::Docker, false) => message.to_owned(),
        }
    }
}

/// What every verb is given.
pub(crate) struct Context {
    /// How the program was called.
    pub(crate) program: Program,
    config_directory: PathBuf,
    config: OnceCell<Config>,
    host: Host,
    /// Whether the engine is the default one, which is started when none listens.
    ours: bool,
    client: OnceCell<Client>,
    runtime: Runtime,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// What TLS trusts and shows, if it is wanted: flags, `DOCKER_TLS`, `DOCKER_TLS_VERIFY`, and files in
/// `DOCKER_CERT_PATH` or beside the configuration (docker/cli:cli/flags/options.go).
fn trust(
    matches: &ArgMatches,
    flag: &dyn Fn(&str) -> Option<String>,
    configuration: &Path,
) -> Option<ClientTrust> {
    let switch = |name: &str| matches.get_one::<bool>(name).copied().unwrap_or(false);
    let verify = switch("tlsverify") || variable("DOCKER_TLS_VERIFY").is_some();
    if !verify && !switch("tls") && variable("DOCKER_TLS").is_none() {
        return None;
    }
    let place =
        variable("DOCKER_CERT_PATH").map_or_else(|| configuration.to_owned(), PathBuf::from);
    let file =
        |name: &str, default: &str| flag(name).map_or_else(|| place.join(default), PathBuf::from);
    let (certificate, key) = (file("tlscert", "cert.pem"), file("tlskey", "key.pem"));
    let given = flag("tlscert").is_some() || flag("tlskey").is_some();
    let authority = file("tlscacert", "ca.pem");
    let known = verify && (flag("tlscacert").is_some() || authority.exists());
    Some(ClientTrust {
        authorities: if known { vec![authority] } else { Vec::new() },
        system_roots: verify && !known,
        identity: (given || (certificate.exists() && key.exists())).then_some((certificate, key)),
        insecure_skip_verify: !verify,
    })
}

/// The endpoint of a docker context, from the store that `docker context` keeps.
fn context_host(directory: &Path, name: &str) -> Result<String, Failure> {
    let store = directory.join("contexts/meta");
    let entries = std::fs::read_dir(&store).into_iter().flatten().flatten();
    for entry in entries {
        let Ok(bytes) = std::fs::read(entry.path().join("meta.json")) else {
            continue;
        };
        let Ok(meta) = serde_json::from_slice::<Value>(&bytes) else {
            continue;
        };
        if meta["Name"] == name
            && let Some(host) = meta
                .pointer("/Endpoints/docker/Host")
                .and_then(Value::as_str)
        {
            return Ok(host.to_owned());
        }
    }
    let place = store.display();
    Err(Failure::new(format!("no context {name:?} in {place}")))
}

impl Context {
    /// Decides which engine is meant; connects to nothing yet.
    pub(crate) fn new(program: Program, matches: &ArgMatches) -> Result<Self, Failure> {
        let flag = |name: &str| {
            let values = matches.get_many::<String>(name);
            values.and_then(Iterator::last).cloned()
        };
        let config_directory = Config::directory(flag("config").as_deref());
        let config = OnceCell::new();
        let named = match (flag("host"), flag("context")) {
            (Some(_), Some(_)) => {
                return Err(Failure::new("--host and --context exclude each other"));
            }
            (Some(host), None) => Some(host),
            (None, Some(name)) if name == "default" => None,
            (None, Some(name)) => Some(context_host(&config_directory, &name)?),
            (None, None) => match variable("HOIST_HOST").or_else(|| variable("DOCKER_HOST")) {
                Some(host) => Some(host),
                None => chosen_context(program, &config_directory, &config)?,
            },
        };
        let ours = named.is_none();
        let host = named.map_or_else(|| Ok(Host::Unix(DEFAULT_SOCKET.into())), |h| h.parse())?;
        let client = OnceCell::new();
        if let (Host::Tcp { .. }, Some(trust)) = (&host, trust(matches, &flag, &config_directory)) {
            let names = Arc::new(StaticNames::default());
            let version = variable("DOCKER_API_VERSION");
            let secured = Client::secured(host.clone(), names, version, &trust);
            drop(client.set(secured.map_err(|error| Failure::new(chain(&error)))?));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            program,
            config_directory,
            config,
            host,
            ours,
            client,
            runtime,
        })
    }

    /// Runs a verb.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The client's configuration.
    pub(crate) fn config(&self) -> Result<&Config, Failure> {
        if self.config.get().is_none() {
            let loaded = Config::load(&self.config_directory)?;
            return Ok(self.config.get_or_init(|| loaded));
        }
        self.config
            .get()
            .ok_or_else(|| Failure::new("no configuration"))
    }

    /// A fresh copy of the configuration, to change it.
    pub(crate) fn config_to_change(&self) -> Result<Config, Failure> {
        Config::load(&self.config_directory)
    }

    /// The engine. The default one is started if it does not run.
    pub(crate) fn client(&self) -> Result<&Client, Failure> {
        if let (true, None, Host::Unix(socket)) = (self.ours, self.client.get(), &self.host) {
            engine::ensure(socket)?;
        }
        Ok(self.client_as_is())
    }

    /// The engine, whether it runs or not.
    pub(crate) fn client_as_is(&self) -> &Client {
        self.client.get_or_init(|| {
            let names = Arc::new(StaticNames::default());
            Client::new(self.host.clone(), names, variable("DOCKER_API_VERSION"))
        })
    }
}

fn chosen_context(
    program: Program,
    directory: &Path,
    config: &OnceCell<Config>,
) -> Result<Option<String>, Failure> {
    let name = match variable("DOCKER_CONTEXT") {
        Some(name) => Some(name),
        // What `docker context use` chose is for docker; hoist has an engine of its own.
        None if program == Program::Docker => {
            let loaded = Config::load(directory)?;
            let name = loaded.text("currentContext").map(str::to_owned);
            drop(config.set(loaded));
            name
        }
        None => None,
    };
    match name {
        Some(name) if name != "default" => context_host(directory, &name).map(Some),
        _ => Ok(None),
    }
}
