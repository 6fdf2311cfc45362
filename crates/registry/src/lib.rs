//! The distribution protocol (OCI distribution spec 1.1, Docker registry v2): the client, and in [`server`] the other end.
//!
//! A pull is one streaming pass per layer: socket → digest → decompress → layer writer. Credentials go to the
//! host they were given for and to the token realm it names, nowhere else.
//!
//! ```text
//! pull ─▶ Session (one repository: endpoint, token) ─▶ Transport (one client per origin, redirects) ─▶ hoist_http
//!   └───▶ layer (download, resume) ─▶ unpack (two threads: decompress │ LayerWriter)
//! ```
//!
//! A push goes the other way: the layer's tar → gzip on all processors → digest → socket, after the registry was asked what it has.
//!
//! ```text
//! push ─▶ Session ─▶ Uploads (has? mount? stream, finish) ◀─ compressed pieces ◀─ the snapshotter's tar
//! ```

mod ahead;
mod artifact;
mod authenticate;
mod challenge;
mod client;
mod credentials;
mod describe;
mod documents;
mod error;
mod fetch;
mod layer;
mod manifest;
mod names;
mod origin;
mod proxy;
mod pull;
mod push;
mod search;
pub mod server;
mod session;
mod settings;
mod tags;
mod token;
mod transport;
mod unpack;
mod upload;

pub use artifact::{Access, Artifact};
pub use authenticate::Authenticated;
pub use client::Client;
pub use credentials::Credentials;
pub use describe::Described;
pub use documents::{Documents, FetchedManifest};
pub use error::{PullError, Said};
pub use fetch::Fetched;
pub use manifest::Resolved;
pub use names::address_of;
pub use proxy::{InvalidProxy, Proxies, Proxy};
pub use pull::{ProgressReport, pull};
pub use push::push;
pub use search::Found;
pub use settings::{InsecureRegistry, InvalidInsecureRegistry, Settings};
