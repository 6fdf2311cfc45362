//! A registry server on a loopback port, and a client of plain sockets that sends what it is told.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use hoist_http::{Listener, ServeOptions, serve};
use hoist_registry::server::{Server, ServerSettings};
use serde_json::json;
use sha2::{Digest as _, Sha256, Sha512};
use tokio_util::sync::CancellationToken;

/// A server in a thread of its own; ends with this value.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    pub(crate) server: Server,
    ending: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    pub(crate) fn on(root: &Path) -> Self {
        Self::with(ServerSettings::new(root.to_owned()))
    }

    pub(crate) fn with(settings: ServerSettings) -> Self {
        let server = Server::open(settings).unwrap();
        let ending = CancellationToken::new();
        let (told, address) = std::sync::mpsc::channel();
        let (serving, until) = (server.clone(), ending.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = Listener::tcp(([127, 0, 0, 1], 0).into(), None).unwrap();
                let address = listener.address().trim_start_matches("tcp://").parse();
                told.send(address.unwrap()).unwrap();
                let options = ServeOptions {
                    hijackable: |_, _| false,
                    grace: Duration::from_secs(10),
                    head_deadline: Duration::from_secs(60),
                };
                serve(vec![listener], serving.router(), options, until).await;
            });
        });
        Self {
            address: address.recv().unwrap(),
            server,
            ending,
            thread: Some(thread),
        }
    }

    /// A request with a whole body.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let length = body.len().to_string();
        let mut all = vec![("Content-Length", length.as_str())];
        all.extend(headers);
        self.send(method, path, &all, body)
    }

    /// A request whose headers are these alone, so that its body may be shorter than it says.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.address
        );
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // A server may answer before it has read all, and close.
        let _ = stream.write_all(body);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        Answer::parse(&all)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Pushes a blob at once; its digest.
    pub(crate) fn push_blob(&self, name: &str, content: &[u8]) -> String {
        let digest = sha256(content);
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        assert_eq!(self.ask("POST", &path, &[], content).status, 201);
        digest
    }

    /// Pushes an image of one layer; the manifest's bytes and digest.
    pub(crate) fn push_image(&self, name: &str, tag: &str, layer: &[u8]) -> (Vec<u8>, String) {
        let manifest = self.image(name, layer);
        let path = format!("/v2/{name}/manifests/{tag}");
        let answer = self.ask("PUT", &path, &[("Content-Type", OCI_MANIFEST)], &manifest);
        assert_eq!(answer.status, 201, "{}", answer.text());
        let digest = sha256(&manifest);
        (manifest, digest)
    }

    /// Pushes the blobs of an image; its manifest.
    pub(crate) fn image(&self, name: &str, layer: &[u8]) -> Vec<u8> {
        let config =
            br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config_digest = self.push_blob(name, config);
        let layer_digest = self.push_blob(name, layer);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer_digest, "size": layer.len()}],
        });
        manifest.to_string().into_bytes()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ending.cancel();
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn parse(all: &[u8]) -> Self {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no reply: {:?}", String::from_utf8_lossy(all)));
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self {
            status,
            headers,
            body: all[end + 4..].to_vec(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status and the specification's code of a refusal.
    pub(crate) fn refusal(&self) -> (u16, String) {
        let code = self.json()["errors"][0]["code"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        (self.status, code)
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

pub(crate) fn sha512(content: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(content)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
