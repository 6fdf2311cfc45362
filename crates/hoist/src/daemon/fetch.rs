//! The builder's Fetch port: files of the web and commits of git repositories, as layers.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use hoist_build::plan::{Address, GitAddress, WebAddress};
use hoist_build::ports::{BoxFuture, Fetch, Fetched, PortError};
use hoist_git::{Checkout, GitError, Item, ObjectId, Pack, PackReceiver, References};
use hoist_http::client::{ResponseBody, full};
use hoist_image::{Snapshotter, TarEntry, TarEntryKind, TarWriter};
use hoist_model::{Digest, ErrorClass, chain};
use hoist_registry::PullError;
use http::HeaderName;
use http::header::{ACCEPT, CONTENT_TYPE};
use sha2::{Digest as _, Sha256};

use super::registry::RegistrySource;

/// Bytes of a list of references; those of large repositories have some megabytes.
const ANSWER_LIMIT: usize = 64 << 20;

/// Fetches with the engine's own client of the web, its proxies and certificates.
pub(crate) struct Fetches {
    pub(crate) source: Arc<RegistrySource>,
    pub(crate) snapshotter: Arc<dyn Snapshotter>,
    /// A directory on the disk that layers are on, for what is on its way.
    pub(crate) scratch: PathBuf,
}

impl Fetch for Fetches {
    fn fetch<'a>(
        &'a self,
        address: &'a Address,
        validator: Option<String>,
    ) -> BoxFuture<'a, Result<Fetched, PortError>> {
        Box::pin(async move {
            match address {
                Address::Web(web) => self.web(web, validator).await,
                Address::Git(git) => self.git(git, validator).await,
            }
        })
    }
}

impl Fetches {
    async fn web(&self, web: &WebAddress, etag: Option<String>) -> Result<Fetched, PortError> {
        // What has to have a checksum is not asked whether it changed.
        let etag = etag.filter(|_| web.checksum.is_none());
        let client = self.source.client();
        let asked = client.fetch_changed(&web.url, etag.as_deref()).await;
        let Some(mut fetched) = asked.map_err(|error| refused(&error))? else {
            return Ok(Fetched::Unchanged);
        };
        let failed = |error: io::Error| internal(&web.url, &error);
        let mut file = self.file().map_err(failed)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        while let Some(bytes) = fetched.body.chunk().await.map_err(|error| PortError {
            message: format!("{}: {}", web.url, chain(&error)),
            class: ErrorClass::Unavailable,
        })? {
            size += bytes.len() as u64;
            hash.update(&bytes);
            // A page cache's write, as of every layer that comes.
            file.write_all(&bytes).map_err(failed)?;
        }
        let found = Digest::from_sha256(&hash.finalize().into());
        if let Some(wanted) = web.checksum.as_ref()
            && *wanted != found.to_string()
        {
            return Err(PortError {
                message: format!("{}: digest mismatch {found}: {wanted}", web.url),
                class: ErrorClass::InvalidArgument,
            });
        }
        let (name, mtime) = (web.name.clone(), fetched.modified.unwrap_or(0));
        let snapshotter = self.snapshotter.clone();
        let layer = tokio::task::spawn_blocking(move || {
            layer(snapshotter.as_ref(), name, mtime, file, size)
        });
        let layer = layer.await.unwrap_or_else(|error| Err(error.to_string()));
        let layer = layer.map_err(|message| PortError {
            message: format!("{}: {message}", web.url),
            class: ErrorClass::Internal,
        })?;
        Ok(Fetched::Files {
            layer,
            validator: fetched.etag,
        })
    }

    /// The commit that a reference means, and its files if they are not what they were.
    async fn git(&self, git: &GitAddress, validator: Option<String>) -> Result<Fetched, PortError> {
        let missing = |what: &str| PortError {
            message: format!("{what} is not implemented by Hoist yet: {}", git.remote),
            class: ErrorClass::NotImplemented,
        };
        if git.keep_git_directory {
            return Err(missing("keeping the .git directory"));
        }
        if !git.remote.starts_with("https://") && !git.remote.starts_with("http://") {
            return Err(missing("a git repository by another protocol than http(s)"));
        }
        let failed = |message: String, class| PortError {
            message: format!("{}: {message}", git.remote),
            class,
        };
        let broken = |error: GitError| failed(chain(&error), error.class());
        let refused = |error: PullError| failed(chain(&error), error.class());
        let client = self.source.client();
        let base = git.remote.trim_end_matches('/');
        let version = (HeaderName::from_static("git-protocol"), "version=2");
        let advertised = format!("{base}/info/refs?service=git-upload-pack");
        let asked = std::slice::from_ref(&version);
        let answer = client.exchange(&advertised, asked, None).await;
        let answer = collected(answer.map_err(refused)?).await;
        let answer = answer.map_err(|message| failed(message, ErrorClass::Unavailable))?;
        let server = hoist_git::advertisement(&answer).map_err(broken)?;
        let service = format!("{base}/git-upload-pack");
        let headers = [
            version,
            (CONTENT_TYPE, "application/x-git-upload-pack-request"),
            (ACCEPT, "application/x-git-upload-pack-result"),
        ];
        let reference = git.reference.as_deref();
        let whole = reference.and_then(|text| text.parse::<ObjectId>().ok());
        let commit = match whole {
            Some(commit) => commit,
            None => {
                let body = full(hoist_git::list_request(reference));
                let answer = client.exchange(&service, &headers, Some(body)).await;
                let answer = collected(answer.map_err(refused)?).await;
                let answer = answer.map_err(|message| failed(message, ErrorClass::Unavailable))?;
                let references = References::parse(&answer).map_err(broken)?;
                let shown = reference.unwrap_or("HEAD");
                references.find(reference).ok_or_else(|| {
                    let message = format!("repository does not contain ref {shown}");
                    failed(message, ErrorClass::NotFound)
                })?
            }
        };
        let name = commit.to_string();
        if let Some(wanted) = git.checksum.as_ref().filter(|sum| !name.starts_with(*sum)) {
            let message = format!("expected checksum to match {wanted}, got {name}");
            return Err(failed(message, ErrorClass::InvalidArgument));
        }
        // A checksum stands for the commit: what has one is only asked for if it is not here.
        if validator.as_ref() == Some(&name) && git.checksum.is_none() {
            return Ok(Fetched::Unchanged);
        }
        let body = full(hoist_git::fetch_request(commit, server));
        let answer = client.exchange(&service, &headers, Some(body)).await;
        let mut answer = answer.map_err(refused)?;
        let file = self.file().map_err(|error| internal(&git.remote, &error))?;
        let mut receiver = PackReceiver::new(file);
        while let Some(bytes) = answer.chunk().await.map_err(|error| {
            let message = chain(&error);
            failed(message, ErrorClass::Unavailable)
        })? {
            receiver.push(&bytes).map_err(broken)?;
        }
        let file = receiver.finish().map_err(broken)?;
        let (snapshotter, address) = (self.snapshotter.clone(), git.clone());
        let work = move || files(snapshotter.as_ref(), file, commit, &address);
        let layer = tokio::task::spawn_blocking(work).await;
        let layer = layer.map_err(|error| failed(error.to_string(), ErrorClass::Internal))?;
        Ok(Fetched::Files {
            layer: layer.map_err(broken)?,
            validator: Some(name),
        })
    }

    /// A file without a name.
    fn file(&self) -> io::Result<File> {
        std::fs::create_dir_all(&self.scratch)?;
        tempfile::tempfile_in(&self.scratch)
    }
}

/// A layer with one file, as BuildKit's has it: its owner's alone, and of the time that its server says.
fn layer(
    snapshotter: &dyn Snapshotter,
    name: String,
    mtime: i64,
    mut file: File,
    size: u64,
) -> Result<Digest, String> {
    let made = || {
        file.seek(SeekFrom::Start(0))?;
        let mut writer = snapshotter.layer_writer().map_err(io::Error::other)?;
        let mut tar = TarWriter::new(&mut writer);
        let entry = TarEntry {
            path: name.into_bytes(),
            kind: TarEntryKind::File { size, offset: 0 },
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime,
            mtime_nanos: 0,
            xattrs: Vec::new(),
        };
        tar.file(&entry, size, file)?;
        tar.finish()?;
        let record = writer.finish(None).map_err(io::Error::other)?;
        Ok(record.diff_id)
    };
    made().map_err(|error: io::Error| chain(&error))
}

/// A layer with the files of a commit, all of them root's and of the commit's time.
fn files(
    snapshotter: &dyn Snapshotter,
    pack: File,
    commit: ObjectId,
    git: &GitAddress,
) -> Result<Digest, GitError> {
    let mut pack = Pack::read(pack)?;
    let mut writer = snapshotter.layer_writer().map_err(io::Error::other)?;
    let mut tar = TarWriter::new(&mut writer);
    let options = Checkout {
        directory: git.directory.as_deref(),
        without_submodules: git.without_submodules,
    };
    hoist_git::checkout(&mut pack, commit, options, &mut |path, item, mtime| {
        let mut entry = TarEntry {
            path: path.to_vec(),
            kind: TarEntryKind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            mtime_nanos: 0,
            xattrs: Vec::new(),
        };
        match item {
            Item::Directory => tar.entry(&entry),
            Item::Link(target) => {
                entry.kind = TarEntryKind::Symlink {
                    target: target.to_vec(),
                };
                entry.mode = 0o777;
                tar.entry(&entry)
            }
            Item::File {
                executable,
                content,
            } => {
                let size = content.len() as u64;
                entry.kind = TarEntryKind::File { size, offset: 0 };
                entry.mode = if executable { 0o755 } else { 0o644 };
                tar.file(&entry, size, content)
            }
        }
    })?;
    tar.finish()?;
    let record = writer.finish(None).map_err(io::Error::other)?;
    Ok(record.diff_id)
}

/// A short answer.
async fn collected(mut body: ResponseBody) -> Result<Bytes, String> {
    let answer = body.collect_within(ANSWER_LIMIT).await;
    let answer = answer.map_err(|error| chain(&error))?;
    answer.ok_or_else(|| "the git server says too much".to_owned())
}

fn refused(error: &PullError) -> PortError {
    PortError {
        message: chain(error),
        class: error.class(),
    }
}

fn internal(url: &str, error: &io::Error) -> PortError {
    PortError {
        message: format!("{url}: {}", chain(error)),
        class: match error.kind() {
            io::ErrorKind::StorageFull => ErrorClass::Unavailable,
            _ => ErrorClass::Internal,
        },
    }
}
