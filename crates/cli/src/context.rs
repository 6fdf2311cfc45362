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
use tokio::runtime::Runtime;

use super::config::Config;
use super::contexts::{Endpoint, Store};
use super::engine;
use super::failure::Failure;
use super::fsck::FsckAtRest;

/// Where the engine listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/hoist.sock";
/// The context that every client has.
const DEFAULT: &str = "default";
/// The file that says which context `hoist` uses.
const HOIST_CONTEXT: &str = "hoist-context";

/// Under which name the client was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
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
        let nobody = failure
            .unreachable
            .as_ref()
            .filter(|_| self == Self::Docker);
        let nobody = nobody.map(|host| {
            format!("Cannot connect to the Docker daemon at {host}. Is the docker daemon running?")
        });
        let message = nobody.as_deref().unwrap_or(message);
        match (self, failure.from_engine) {
            (Self::Hoist, _) => format!("hoist: {message}"),
            (Self::Docker, true) if verb == "run" => {
                format!(
                    "docker: Error response from daemon: {message}\n\nRun 'docker run --help' for more information"
                )
            }
            (Self::Docker, true) => format!("Error response from daemon: {message}"),
            (Self::Docker, false)
                if (message.starts_with("No ") && !message.starts_with("No such manifest: "))
                    || message.starts_with("failed to start containers: ") =>
            {
                format!("Error: {message}")
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
    /// The name of the context in use.
    current: String,
    /// What the default context means.
    default_host: String,
    /// Whether the engine is the default one, which is started when none listens.
    ours: bool,
    engine: Result<Engine, Failure>,
    client: OnceCell<Client>,
    runtime: Runtime,
    /// Checks the data root of an engine that does not run.
    pub(crate) fsck_at_rest: FsckAtRest,
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

/// What TLS trusts and shows for an engine that a context names.
fn context_trust(endpoint: &Endpoint) -> Option<ClientTrust> {
    let pem = |name: &str| {
        endpoint
            .pems
            .iter()
            .find(|pem| pem.ends_with(name))
            .cloned()
    };
    let authority = pem("ca.pem");
    if endpoint.pems.is_empty() && !endpoint.skip_verify {
        return None;
    }
    Some(ClientTrust {
        system_roots: authority.is_none() && !endpoint.skip_verify,
        authorities: authority.into_iter().collect(),
        identity: pem("cert.pem").zip(pem("key.pem")),
        insecure_skip_verify: endpoint.skip_verify,
    })
}

/// Which engine is meant.
struct Engine {
    host: Host,
    trust: Option<ClientTrust>,
}

impl Context {
    /// Decides which engine is meant; connects to nothing yet. That no such engine can be is said to who wants it:
    /// the verbs of contexts mend it.
    pub(crate) fn new(program: Program, matches: &ArgMatches) -> Result<Self, Failure> {
        let flag = |name: &str| {
            let values = matches.get_many::<String>(name);
            values.and_then(Iterator::last).cloned()
        };
        const LEVELS: [&str; 8] = [
            "panic", "fatal", "error", "warn", "warning", "info", "debug", "trace",
        ];
        if let Some(level) = flag("log-level")
            && !LEVELS.contains(&level.to_ascii_lowercase().as_str())
        {
            return Err(Failure::new(format!(
                "Unable to parse logging level: {level}"
            )));
        }
        let config_directory = Config::directory(flag("config").as_deref());
        let config = OnceCell::new();
        let (host_flag, context_flag) = (flag("host"), flag("context"));
        if host_flag.is_some() && context_flag.is_some() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --host and --context",
            ));
        }
        let variable_host = variable("HOIST_HOST").or_else(|| variable("DOCKER_HOST"));
        let current = match (&host_flag, context_flag) {
            (_, Some(name)) => name,
            (Some(_), None) => DEFAULT.to_owned(),
            (None, None) if variable_host.is_some() => DEFAULT.to_owned(),
            (None, None) => chosen_context(program, &config_directory, &config)?
                .unwrap_or_else(|| DEFAULT.to_owned()),
        };
        let named = host_flag.or(variable_host);
        let ours = named.is_none() && current == DEFAULT;
        let default_host = named.unwrap_or_else(|| format!("unix://{DEFAULT_SOCKET}"));
        let engine = if current == DEFAULT {
            let host = default_host.parse::<Host>().map_err(Failure::from);
            let trust = trust(matches, &flag, &config_directory);
            host.map(|host| Engine { host, trust })
        } else {
            let endpoint = Store::new(&config_directory).endpoint(&current);
            let endpoint = endpoint.map_err(|failure| {
                Failure::new(format!(
                    "Failed to initialize: unable to resolve docker endpoint: {}",
                    failure.message
                ))
            });
            endpoint.and_then(|endpoint| {
                Ok(Engine {
                    host: endpoint.host.parse()?,
                    trust: context_trust(&endpoint),
                })
            })
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            program,
            config_directory,
            config,
            current,
            default_host,
            ours,
            engine,
            client: OnceCell::new(),
            fsck_at_rest: |_| Err("this program checks no data root".to_owned()),
            runtime,
        })
    }

    /// The name of the context in use.
    pub(crate) fn current(&self) -> String {
        self.current.clone()
    }

    /// Where the engine is that the default context means.
    pub(crate) fn default_host(&self) -> String {
        self.default_host.clone()
    }

    /// Where the client's configuration is, and what it keeps beside it.
    pub(crate) fn config_directory(&self) -> &Path {
        &self.config_directory
    }

    /// The contexts that there are.
    pub(crate) fn store(&self) -> Store {
        Store::new(&self.config_directory)
    }

    /// Makes a context the one in use from now on.
    pub(crate) fn choose(&self, name: Option<&str>) -> Result<(), Failure> {
        if self.program == Program::Docker {
            return self.config_to_change()?.choose_context(name);
        }
        let path = self.config_directory.join(HOIST_CONTEXT);
        let done = match name {
            Some(name) => std::fs::create_dir_all(&self.config_directory)
                .and_then(|()| std::fs::write(&path, format!("{name}\n"))),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            },
        };
        done.map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
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
        if let (
            true,
            None,
            Ok(Engine {
                host: Host::Unix(socket),
                ..
            }),
        ) = (self.ours, self.client.get(), &self.engine)
        {
            engine::ensure(socket)?;
        }
        self.client_as_is()
    }

    /// The engine, whether it runs or not.
    pub(crate) fn client_as_is(&self) -> Result<&Client, Failure> {
        if self.client.get().is_none() {
            let engine = self.engine.as_ref().map_err(Failure::clone)?;
            let names = Arc::new(StaticNames::default());
            let version = variable("DOCKER_API_VERSION");
            let host = engine.host.clone();
            let made = match (&engine.host, &engine.trust) {
                (Host::Tcp { .. }, Some(trust)) => Client::secured(host, names, version, trust)
                    .map_err(|error| Failure::new(chain(&error)))?,
                _ => Client::new(host, names, version),
            };
            return Ok(self.client.get_or_init(|| made));
        }
        self.client
            .get()
            .ok_or_else(|| Failure::new("no client of an engine"))
    }
}

/// The context chosen once and for all.
fn chosen_context(
    program: Program,
    directory: &Path,
    config: &OnceCell<Config>,
) -> Result<Option<String>, Failure> {
    let name = match variable("DOCKER_CONTEXT") {
        Some(name) => Some(name),
        None if program == Program::Docker => {
            let loaded = Config::load(directory)?;
            let name = loaded.text("currentContext").map(str::to_owned);
            drop(config.set(loaded));
            name
        }
        // What `docker context use` chose is for docker; hoist has an engine of its own.
        None => std::fs::read_to_string(directory.join(HOIST_CONTEXT))
            .ok()
            .map(|name| name.trim().to_owned()),
    };
    Ok(name.filter(|name| !name.is_empty()))
}
