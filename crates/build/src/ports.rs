//! What a build needs from outside: base images, and somebody who runs programs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hoist_image::document::Descriptor;
pub use hoist_model::container::ReadyMount;
use hoist_model::container::Resources;
use hoist_model::{Digest, ErrorClass};
use thiserror::Error;

use crate::plan::{Address, Base, BaseName, BuildNetwork};

/// A future that owns what it needs.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Takes what a program writes: whether it is an error, and the bytes. Called from any thread, must not block.
pub type OutputFn = Arc<dyn Fn(Stream, &[u8]) + Send + Sync>;

/// Where a program wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// Why somebody outside could not do their part.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct PortError {
    /// The whole sentence.
    pub message: String,
    /// Its kind.
    pub class: ErrorClass,
}

/// Where base images come from.
pub trait BaseImages: Send + Sync {
    /// Finds an image: here, or if it is not here or `pull` says so, where it comes from.
    fn find<'a>(
        &'a self,
        name: &'a BaseName,
        pull: bool,
        output: OutputFn,
    ) -> BoxFuture<'a, Result<Base, PortError>>;
}

/// What came of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// It is what it was.
    Unchanged,
    /// Files.
    Files {
        /// As a layer.
        layer: Digest,
        /// What tells this state of it from others (an ETag, a commit), if anything does.
        validator: Option<String>,
    },
}

/// Fetches what ADD names by an address.
pub trait Fetch: Send + Sync {
    /// Fetches it; `validator` is of what came last time, if that is still here.
    fn fetch<'a>(
        &'a self,
        address: &'a Address,
        validator: Option<String>,
    ) -> BoxFuture<'a, Result<Fetched, PortError>>;
}

/// A cache elsewhere under one name: what a tag of a registry's repository leads to, or a directory of a client's.
///
/// What comes from it is verified against the digests that it was asked for by. Dropping a future ends what goes on for it.
pub trait CacheStore: Send + Sync {
    /// The document that the name leads to; none if there is none.
    fn manifest(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>, PortError>>;

    /// A document, whose size was found small enough to ask for it.
    fn document(&self, descriptor: Descriptor) -> BoxFuture<'_, Result<Vec<u8>, PortError>>;

    /// Brings the layer of this diff id here, unless it is here.
    fn fetch(
        &self,
        descriptor: Descriptor,
        diff_id: Digest,
    ) -> BoxFuture<'_, Result<(), PortError>>;

    /// Sends a layer that is here, and answers how it is there: as `known` says, if it is there so.
    fn send(
        &self,
        layer: Digest,
        known: Option<Descriptor>,
    ) -> BoxFuture<'_, Result<Descriptor, PortError>>;

    /// Puts a document there.
    fn put<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>>;

    /// Puts a document there that the name then leads to.
    fn name<'a>(
        &'a self,
        media_type: &'a str,
        bytes: Vec<u8>,
    ) -> BoxFuture<'a, Result<Descriptor, PortError>>;
}

/// A program that is to run over layers.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRequest {
    /// Bottom first.
    pub layers: Vec<Digest>,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Absolute; made if it is not there.
    pub working_directory: String,
    /// Directories that are made if they are not there, and stay.
    pub directories: Vec<String>,
    /// `user[:group]`; empty for root.
    pub user: String,
    /// Which network.
    pub network: BuildNetwork,
    /// With all privileges.
    pub insecure: bool,
    /// What it sees beside the layers.
    pub mounts: Vec<ReadyMount>,
    /// Limits and names that hold for the whole build.
    pub surroundings: Surroundings,
}

/// What holds for all programs of a build.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    /// `name:address` for /etc/hosts.
    pub extra_hosts: Vec<String>,
    /// Bytes of /dev/shm, 0 for the default.
    pub shm_size: i64,
    /// Limits.
    pub resources: Resources,
    /// Parent cgroup; empty for the engine's.
    pub cgroup_parent: String,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// 0 to 255.
    pub exit_code: i32,
    /// Whether it was killed for want of memory.
    pub out_of_memory: bool,
    /// What it changed, if it ended well and did.
    pub layer: Option<Digest>,
}

/// Runs programs over layers. Dropping the future ends the program and leaves nothing.
pub trait Executor: Send + Sync {
    /// Runs a program to its end; what it writes goes to `output` as it comes. Fails where it could not be started.
    fn run(
        &self,
        request: RunRequest,
        output: OutputFn,
    ) -> BoxFuture<'static, Result<RunOutcome, PortError>>;
}
