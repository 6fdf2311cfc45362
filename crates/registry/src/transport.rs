//! Requests to any origin: one HTTP client each, TLS by host, redirects without the credentials.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use hoist_http::client::{self, ClientError, Deadlines, Endpoint, RequestBody, ResponseBody};
use hoist_http::tls::{ClientTrust, client_config};
use http::header::{AUTHORIZATION, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};

use crate::client::Shared;
use crate::error::PullError;
use crate::names::Names;
use crate::origin::Origin;
use crate::settings::InsecureRegistry;

const MOST_REDIRECTS: usize = 10;

/// One operation's connections.
pub(crate) struct Transport {
    shared: Arc<Shared>,
    /// The registry as references name it: its authorities also vouch for its realm and its blob hosts, as in Docker.
    registry: String,
    names: Arc<Names>,
    /// By origin, and whether what is asked there takes as long as its body.
    clients: Mutex<HashMap<(Origin, bool), client::Client>>,
}

impl Transport {
    pub(crate) fn new(shared: Arc<Shared>, registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            names: Arc::new(Names::new(shared.settings.hosts.clone())),
            shared,
            clients: Mutex::default(),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether a host may be spoken to without TLS, or with TLS nobody vouches for.
    pub(crate) async fn is_insecure(&self, origin: &Origin) -> bool {
        let entries = &self.shared.settings.insecure;
        let named = |entry: &InsecureRegistry| entry.covers(&origin.host, Some(origin.port), &[]);
        if origin.is_loopback() || entries.iter().any(named) {
            return true;
        }
        let addresses = self.names.public(&origin.host).await;
        if addresses.iter().any(std::net::IpAddr::is_loopback) {
            return true;
        }
        entries
            .iter()
            .any(|entry| entry.covers(&origin.host, Some(origin.port), &addresses))
    }

    /// Sends one request, as it is, to one origin.
    pub(crate) async fn send(
        &self,
        origin: &Origin,
        method: Method,
        target: &str,
        headers: &HeaderMap,
        body: RequestBody,
    ) -> Result<Response<ResponseBody>, PullError> {
        let (verb, slow) = match method {
            Method::HEAD => ("Head", false),
            Method::POST => ("Post", false),
            Method::PUT => ("Put", false),
            // An upload's answer comes when all of it is there; who sends it watches over its pieces.
            Method::PATCH => ("Patch", true),
            _ => ("Get", false),
        };
        let client = self.client(origin, slow).await?;
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = target.parse().map_err(|_| PullError::Protocol {
            host: origin.authority(),
            reason: format!("{target:?} is no request target"),
        })?;
        *request.headers_mut() = headers.clone();
        let agent = HeaderValue::try_from(&self.shared.settings.user_agent);
        request.headers_mut().insert(
            USER_AGENT,
            agent.unwrap_or(HeaderValue::from_static("hoist")),
        );
        // Boxed: a connection's and a handshake's state together are several kilobytes.
        Box::pin(client.send(request))
            .await
            .map_err(|cause| PullError::Connection {
                verb,
                url: format!("{origin}{target}"),
                cause,
            })
    }

    /// Asks without a body and follows redirects. `Authorization` stays with the origin it was meant for, and a
    /// redirect never leaves TLS for plain HTTP. Answers who it was that answered, too: what a redirect's target asks to be
    /// told is not for the registry's credentials.
    pub(crate) async fn ask(
        &self,
        origin: &Origin,
        method: Method,
        target: &str,
        headers: &HeaderMap,
    ) -> Result<(Origin, Response<ResponseBody>), PullError> {
        let mut here = origin.clone();
        let mut target = target.to_owned();
        let mut headers = headers.clone();
        for _ in 0..MOST_REDIRECTS {
            let response = self
                .send(&here, method.clone(), &target, &headers, client::empty())
                .await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((here, response));
            }
            let (next, path) = location(&here, &response)?;
            if next != here {
                if here.tls && !next.tls {
                    return Err(PullError::Protocol {
                        host: here.authority(),
                        reason: format!("it redirects from TLS to plain HTTP at {next}"),
                    });
                }
                headers.remove(AUTHORIZATION);
            }
            here = next;
            target = path;
        }
        Err(PullError::Protocol {
            host: origin.authority(),
            reason: format!("stopped after {MOST_REDIRECTS} redirects"),
        })
    }

    async fn client(&self, origin: &Origin, slow: bool) -> Result<client::Client, PullError> {
        let key = (origin.clone(), slow);
        if let Some(known) = self.clients().get(&key) {
            return Ok(known.clone());
        }
        let tls = if origin.tls {
            Some(self.tls(origin, Some(self.registry.clone())).await?)
        } else {
            None
        };
        let proxy = match self.shared.proxy(origin) {
            Some(proxy) => {
                let tls = match proxy.tls_origin() {
                    Some(origin) => Some(self.tls(&origin, None).await?),
                    None => None,
                };
                Some(proxy.endpoint(tls))
            }
            None => None,
        };
        let settings = &self.shared.settings;
        let endpoint = Endpoint::Tcp {
            host: origin.host.clone(),
            port: origin.port,
            tls,
            proxy,
        };
        let deadlines = Deadlines {
            connect: settings.connect_deadline,
            head: (!slow).then_some(settings.head_deadline),
            idle: Some(settings.idle_deadline),
        };
        let names: Arc<dyn hoist_http::Resolve> = Arc::<Names>::clone(&self.names);
        let client = client::Client::new(endpoint, names, deadlines);
        Ok(self.clients().entry(key).or_insert(client).clone())
    }

    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<(Origin, bool), client::Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// TLS with a server: the system's authorities count, those of `certs.d/<host>`, and those of the registry that it is asked for.
    async fn tls(
        &self,
        origin: &Origin,
        registry: Option<String>,
    ) -> Result<Arc<rustls::ClientConfig>, PullError> {
        let mut trust = ClientTrust {
            system_roots: true,
            insecure_skip_verify: self.is_insecure(origin).await,
            ..ClientTrust::default()
        };
        let directory = self.shared.settings.certificates.clone();
        let own = [
            format!("{}:{}", origin.host, origin.port),
            origin.authority(),
        ];
        let host = origin.authority();
        let built = tokio::task::spawn_blocking(move || {
            if let Some(directory) = &directory {
                if let Some(registry) = &registry {
                    add_authorities(&mut trust, &directory.join(registry));
                }
                for name in &own {
                    add_authorities(&mut trust, &directory.join(name));
                    add_identity(&mut trust, &directory.join(name));
                }
                trust.authorities.sort();
                trust.authorities.dedup();
            }
            client_config(&trust)
        });
        let built = built.await.map_err(|_| PullError::Protocol {
            host: host.clone(),
            reason: "its TLS configuration could not be built".to_owned(),
        })?;
        built.map_err(|source| PullError::Tls { host, source })
    }
}

/// Adds the `*.crt` files of `certs.d/<host>`.
fn add_authorities(trust: &mut ClientTrust, directory: &Path) {
    trust
        .authorities
        .extend(files(directory).filter(|file| file.extension() == Some("crt".as_ref())));
}

/// Takes `x.cert` with `x.key` of `certs.d/<host>` as our own.
fn add_identity(trust: &mut ClientTrust, directory: &Path) {
    let certificate = files(directory).find(|file| file.extension() == Some("cert".as_ref()));
    if let Some(certificate) = certificate {
        let key = certificate.with_extension("key");
        trust.identity = Some((certificate, key));
    }
}

fn files(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// Where a redirect, or the next step of an upload, leads.
pub(crate) fn location(
    from: &Origin,
    response: &Response<ResponseBody>,
) -> Result<(Origin, String), PullError> {
    let broken = || PullError::Protocol {
        host: from.authority(),
        reason: "it redirects to nowhere".to_owned(),
    };
    let text = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .ok_or_else(broken)?;
    let text = text.split('#').next().unwrap_or(text);
    if text.starts_with('/') && !text.starts_with("//") {
        return Ok((from.clone(), text.to_owned()));
    }
    let uri: Uri = text.parse().map_err(|_| broken())?;
    let origin = Origin::of_uri(&uri).ok_or_else(broken)?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok((origin, path.to_owned()))
}

/// Whether no connection to the server could be made at all.
pub(crate) fn unreachable(error: &PullError) -> bool {
    matches!(error, PullError::Connection { cause, .. }
        if cause.is_connect() || matches!(cause, ClientError::Talk { .. }))
}
