//! A token realm: the small HTTP(S) server that hands out bearer tokens for a registry.
//!
//! Signs JSON web tokens (ES256) that carry their certificate in `x5c`, as docker-registry 2 verifies them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, SigningKey};
use serde_json::{Value, json};

use super::certificates::Certificates;
use super::{PASSWORD, USER};

pub(crate) const ISSUER: &str = "test realm";
pub(crate) const SERVICE: &str = "test registry";

/// The running server.
#[derive(Debug)]
pub(crate) struct TokenRealm {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The certificates that the registry must trust tokens of.
    pub(crate) bundle: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Signer {
    key: KeyPair,
    certificate: Vec<u8>,
    login: bool,
}

impl TokenRealm {
    /// Starts it on a free loopback port, over TLS where certificates are given; with `login`, it gives
    /// tokens to [`USER`] only.
    pub(crate) fn start(directory: &Path, tls: Option<&Certificates>, login: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["realm".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let bundle = directory.join("realm.pem");
        std::fs::write(&bundle, certificate.pem()).unwrap();
        let signer = Signer {
            key,
            certificate: certificate.der().to_vec(),
            login,
        };

        let tls = tls.map(server_configuration);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                // A client that breaks off is its own test's concern.
                let _ = serve(connection, tls.as_ref(), &signer, &seen);
            }
        });
        Self {
            address,
            bundle,
            requests,
            stop,
            thread: Some(thread),
        }
    }

    /// The request targets seen so far, such as `/token?service=…`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TokenRealm {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accept.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn server_configuration(certificates: &Certificates) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![certificates.certificate_der.clone().into()];
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(certificates.key_der.clone());
    let configuration = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .unwrap();
    Arc::new(configuration)
}

fn serve(
    connection: TcpStream,
    tls: Option<&Arc<rustls::ServerConfig>>,
    signer: &Signer,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    match tls {
        None => answer(connection, signer, seen),
        Some(configuration) => {
            let session = rustls::ServerConnection::new(Arc::clone(configuration))
                .map_err(std::io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(session, connection);
            answer(&mut stream, signer, seen)?;
            stream.conn.send_close_notify();
            stream.flush()
        }
    }
}

fn answer(
    stream: impl Read + Write,
    signer: &Signer,
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or("").to_owned();
    let mut authorization = None;
    loop {
        let mut header = String::new();
        if stream.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            authorization = Some(value.trim().to_owned());
        }
    }
    let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let known = authorization.as_deref() == Some(&expected);
    // What Docker Hub does: wrong credentials are refused, none mean an anonymous token.
    let refused = !known && (signer.login || authorization.is_some());
    let (status, body) = if refused {
        (
            "401 Unauthorized",
            json!({"details": "incorrect username or password"}),
        )
    } else {
        ("200 OK", signer.token(&target))
    };
    seen.lock().unwrap().push(target);
    let body = body.to_string();
    write!(
        stream.get_mut(),
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.get_mut().flush()
}

impl Signer {
    fn token(&self, target: &str) -> Value {
        let mut access = Vec::new();
        for (key, value) in target
            .split(['?', '&'])
            .filter_map(|pair| pair.split_once('='))
        {
            let value = value
                .replace("%3A", ":")
                .replace("%2F", "/")
                .replace("%2C", ",");
            for scope in value.split(['+', ' ']).filter(|_| key == "scope") {
                let parts: Vec<&str> = scope.splitn(3, ':').collect();
                if let [kind, name, actions] = parts[..] {
                    let actions: Vec<&str> = actions.split(',').collect();
                    access.push(json!({"type": kind, "name": name, "actions": actions}));
                }
            }
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let header = json!({
            "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&self.certificate)],
        });
        let claims = json!({
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "jti": now.to_string(),
            "iat": now - 60, "nbf": now - 60, "exp": now + 300, "access": access,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = raw_signature(&self.key.sign(signed.as_bytes()).unwrap());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        json!({"token": token, "access_token": token, "expires_in": 300})
    }
}

/// `r || s` of 32 bytes each, from the DER sequence of two integers that a signer returns.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(64);
    let mut rest = &der[2..];
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let integer = &rest[2..2 + length];
        let digits = &integer[integer.len().saturating_sub(32)..];
        raw.extend(std::iter::repeat_n(0, 32 - digits.len()));
        raw.extend_from_slice(digits);
        rest = &rest[2 + length..];
    }
    raw
}
