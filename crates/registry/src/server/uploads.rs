//! Uploads while they come.
//!
//! ```text
//! POST ──► begun ── PATCH/PUT: pieces ──► file (written, then digested, piece by piece) ── PUT ?digest ──► synced ──► blob
//!             │                            │ connection breaks: what came stays, GET says how much
//!             └── nothing came: only in memory          └── DELETE, mismatch or age: file removed
//! ```
//!
//! Content is digested as it passes; only an upload that goes on after a restart, or one that turns out to be named by SHA-512,
//! is read once more. Two pieces are in memory of each upload: one comes while the other is written.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::task::JoinHandle;

use super::cache::Progress;
use super::names::{Algorithm, ContentDigest, Hasher, RepositoryName, hex};
use super::storage::{Storage, StorageError};

/// Bytes that are written at once.
const PIECE: usize = 512 << 10;
/// Bytes after which the disk begins to write what came, while more comes.
const WRITTEN_BACK: u64 = 8 << 20;
/// An upload that nothing comes for ends its request (and can go on with another).
const STALLED: Duration = Duration::from_secs(60);
/// How long a request waits for another that still works on the same upload.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an upload did not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("there is no such upload")]
    Unknown,
    #[error("another request still works on this upload")]
    Busy,
    #[error("the connection broke after {0} bytes")]
    Broken(u64),
    #[error("nothing came for {} seconds", STALLED.as_secs())]
    Stalled,
    #[error("{came} bytes came of a piece that was announced with {announced}")]
    Length { came: u64, announced: u64 },
    #[error("the content has digest {found}, not {wanted}")]
    Mismatch {
        wanted: ContentDigest,
        found: ContentDigest,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// All uploads of a server.
#[derive(Debug)]
pub(crate) struct Uploads {
    storage: Arc<Storage>,
    /// Held for a look-up. An upload's own lock is held by the request that works on it.
    sessions: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Upload>>>>,
}

/// One of them.
pub(crate) struct Upload {
    id: String,
    repository: RepositoryName,
    path: PathBuf,
    /// Bytes that are in the file.
    offset: u64,
    /// Of those bytes. Taken while a piece is written; lost with it, it is made again from the file.
    hasher: Option<Hasher>,
    touched: Instant,
    is_over: bool,
    /// Who is told how far it is.
    watched: Option<watch::Sender<Progress>>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload")
            .field("id", &self.id)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl Uploads {
    pub(crate) fn new(storage: Arc<Storage>) -> Self {
        Self {
            storage,
            sessions: Mutex::default(),
        }
    }

    fn sessions(
        &self,
    ) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<Upload>>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new upload, whose digest will be of this algorithm if it is known yet.
    pub(crate) fn begin(
        &self,
        repository: RepositoryName,
        algorithm: Option<Algorithm>,
    ) -> io::Result<OwnedMutexGuard<Upload>> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let id = hex(&random);
        let upload = Upload {
            path: self.storage.uploads().join(&id),
            id: id.clone(),
            repository,
            offset: 0,
            hasher: Some(Hasher::new(algorithm.unwrap_or(Algorithm::Sha256))),
            touched: Instant::now(),
            is_over: false,
            watched: None,
        };
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        let guard = Arc::clone(&upload)
            .try_lock_owned()
            .expect("nobody else has it yet");
        self.sessions().insert(id, upload);
        Ok(guard)
    }

    /// The upload of this id, for this request alone; also one that an earlier process began.
    pub(crate) async fn take(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<OwnedMutexGuard<Upload>, UploadError> {
        let is_id = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_id {
            return Err(UploadError::Unknown);
        }
        let known = self.sessions().get(id).cloned();
        let upload = match known {
            Some(upload) => upload,
            None => self.find(repository, id)?,
        };
        let mut upload = tokio::time::timeout(PATIENCE, upload.lock_owned())
            .await
            .map_err(|_| UploadError::Busy)?;
        if upload.is_over || upload.repository != *repository {
            return Err(UploadError::Unknown);
        }
        upload.touched = Instant::now();
        Ok(upload)
    }

    fn find(
        &self,
        repository: &RepositoryName,
        id: &str,
    ) -> Result<Arc<tokio::sync::Mutex<Upload>>, UploadError> {
        let path = self.storage.uploads().join(id);
        let of = fs::read_to_string(path.with_extension("of")).unwrap_or_default();
        let (Ok(status), true) = (fs::metadata(&path), of == repository.as_str()) else {
            return Err(UploadError::Unknown);
        };
        let upload = Upload {
            id: id.to_owned(),
            repository: repository.clone(),
            path,
            offset: status.len(),
            hasher: None,
            touched: Instant::now(),
            is_over: false,
            watched: None,
        };
        let upload = Arc::new(tokio::sync::Mutex::new(upload));
        // Another request may have been faster: then its is the one.
        Ok(Arc::clone(
            self.sessions().entry(id.to_owned()).or_insert(upload),
        ))
    }

    /// Whether a request works on it now.
    pub(crate) fn is_busy(&self, id: &str) -> bool {
        self.sessions()
            .get(id)
            .is_some_and(|upload| upload.try_lock().is_err())
    }

    /// Forgets those that nothing came for; those with a file can still go on from it.
    pub(crate) fn forget_idle(&self, idle: Duration) {
        self.sessions().retain(|_, upload| {
            upload
                .try_lock()
                .map_or(true, |upload| upload.touched.elapsed() < idle)
        });
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sessions().len()
    }

    /// Ends an upload: its file goes.
    pub(crate) fn end(&self, upload: &mut Upload) {
        upload.is_over = true;
        self.sessions().remove(&upload.id);
        for path in [&upload.path, &upload.path.with_extension("of")] {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "a part of an upload stays until it is collected");
            }
        }
    }

    /// Makes a blob of what came, if that has the digest. The upload is over then, either way.
    pub(crate) fn finish(
        &self,
        upload: &mut Upload,
        wanted: &ContentDigest,
    ) -> Result<(), UploadError> {
        let finished = self.try_finish(upload, wanted);
        // A disk that is full may have room again; wrong content does not become right.
        if !matches!(finished, Err(UploadError::Storage(_))) {
            self.end(upload);
        }
        finished
    }

    fn try_finish(&self, upload: &mut Upload, wanted: &ContentDigest) -> Result<(), UploadError> {
        let file = upload.open()?;
        let at = StorageError::at("syncing", &upload.path);
        let hasher = match upload.hasher.take() {
            Some(hasher) if hasher.algorithm() == wanted.algorithm() => hasher,
            _ => upload.digest_file(wanted.algorithm())?,
        };
        upload.hasher = Some(hasher.clone());
        let found = hasher.finish();
        if found != *wanted {
            return Err(UploadError::Mismatch {
                wanted: wanted.clone(),
                found,
            });
        }
        file.sync_data().map_err(at)?;
        self.storage
            .adopt(&upload.path, &upload.repository, wanted)?;
        Ok(())
    }
}

impl Upload {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Where its file is, as soon as there is a byte of it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has somebody told how far it is, after each piece.
    pub(crate) fn watch(&mut self, watched: watch::Sender<Progress>) {
        self.watched = Some(watched);
    }

    /// Bytes that came.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The file, as long as what is known of it.
    fn open(&mut self) -> Result<File, StorageError> {
        let at = StorageError::at("opening", &self.path);
        let of = self.path.with_extension("of");
        if self.offset == 0 {
            fs::write(&of, self.repository.as_str()).map_err(StorageError::at("writing", &of))?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(&at)?;
        // A piece of which only a part could be written does not count.
        file.set_len(self.offset).map_err(&at)?;
        Ok(file)
    }

    fn digest_file(&self, algorithm: Algorithm) -> Result<Hasher, StorageError> {
        let at = StorageError::at("reading", &self.path);
        let mut file = File::open(&self.path).map_err(&at)?.take(self.offset);
        let mut hasher = Hasher::new(algorithm);
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece).map_err(&at)? {
                0 => return Ok(hasher),
                count => hasher.update(&piece[..count]),
            }
        }
    }
}

/// What a writing thread is given and gives back.
struct Writing {
    file: File,
    hasher: Hasher,
    written: u64,
    /// Up to where the kernel was told to write.
    begun: u64,
}

/// Takes a request's body into an upload, `announced` bytes if that is known. What came before a failure stays and counts.
///
/// To be run to its end: a body whose connection broke ends, too.
pub(crate) async fn receive(
    upload: OwnedMutexGuard<Upload>,
    mut body: Body,
    announced: Option<u64>,
) -> (OwnedMutexGuard<Upload>, Result<(), UploadError>) {
    let begun = tokio::task::spawn_blocking(move || {
        let mut upload = upload;
        let writing = begin_writing(&mut upload);
        (upload, writing)
    });
    let (mut upload, writing) = begun.await.expect("opening a file does not panic");
    let result = match writing {
        Ok(writing) => receive_all(&mut upload, writing, &mut body, announced).await,
        Err(error) => Err(error),
    };
    upload.touched = Instant::now();
    (upload, result)
}

async fn receive_all(
    upload: &mut Upload,
    writing: Writing,
    body: &mut Body,
    announced: Option<u64>,
) -> Result<(), UploadError> {
    let before = upload.offset;
    let mut idle = Some(writing);
    let mut pending: Option<JoinHandle<(Writing, io::Result<()>)>> = None;
    let ended = loop {
        let (piece, ended) = next_piece(body).await;
        if let Some(task) = pending.take() {
            idle = Some(settle(upload, task).await?);
        }
        if !piece.is_empty() {
            let mut writing = idle.take().expect("the last piece was settled");
            pending = Some(tokio::task::spawn_blocking(move || {
                let done = write_piece(&mut writing, &piece);
                (writing, done)
            }));
        }
        if let Some(ended) = ended {
            break ended;
        }
    };
    if let Some(task) = pending.take() {
        idle = Some(settle(upload, task).await?);
    }
    upload.hasher = idle.map(|writing| writing.hasher);
    let came = upload.offset - before;
    match (ended, announced) {
        (Ended::Broken, _) => Err(UploadError::Broken(came)),
        (Ended::Stalled, _) => Err(UploadError::Stalled),
        (Ended::Whole, Some(announced)) if announced != came => {
            Err(UploadError::Length { came, announced })
        }
        (Ended::Whole, _) => Ok(()),
    }
}

fn begin_writing(upload: &mut Upload) -> Result<Writing, UploadError> {
    let mut file = upload.open()?;
    let hasher = match upload.hasher.take() {
        Some(hasher) => hasher,
        None => upload.digest_file(Algorithm::Sha256)?,
    };
    let at = StorageError::at("opening", &upload.path);
    file.seek(SeekFrom::Start(upload.offset)).map_err(at)?;
    Ok(Writing {
        file,
        hasher,
        written: upload.offset,
        begun: upload.offset,
    })
}

/// Takes a written piece back.
async fn settle(
    upload: &mut Upload,
    task: JoinHandle<(Writing, io::Result<()>)>,
) -> Result<Writing, UploadError> {
    let failed = StorageError::at("writing", &upload.path);
    let (writing, done) = task
        .await
        .map_err(|_| failed(io::ErrorKind::Other.into()))?;
    upload.offset = writing.written;
    if let Some(watched) = &upload.watched {
        watched.send_modify(|progress| progress.written = writing.written);
    }
    match done {
        Ok(()) => Ok(writing),
        Err(error) => {
            upload.hasher = Some(writing.hasher);
            Err(failed(error).into())
        }
    }
}

fn write_piece(writing: &mut Writing, piece: &[Bytes]) -> io::Result<()> {
    for bytes in piece {
        writing.file.write_all(bytes)?;
        writing.hasher.update(bytes);
        writing.written += bytes.len() as u64;
    }
    let ahead = writing.written - writing.begun;
    if ahead >= WRITTEN_BACK {
        // Only so that the sync at the end has less to wait for, and tells what fails.
        let _ = hoist_sys::writeback::begin(&writing.file, writing.begun, ahead);
        writing.begun = writing.written;
    }
    Ok(())
}

enum Ended {
    Whole,
    Broken,
    Stalled,
}

/// What comes next of a body, at most about [`PIECE`], and how the body ended, if it did.
async fn next_piece(body: &mut Body) -> (Vec<Bytes>, Option<Ended>) {
    let (mut piece, mut size) = (Vec::new(), 0);
    while size < PIECE {
        let frame = match tokio::time::timeout(STALLED, body.frame()).await {
            Err(_) => return (piece, Some(Ended::Stalled)),
            Ok(None) => return (piece, Some(Ended::Whole)),
            Ok(Some(Err(_))) => return (piece, Some(Ended::Broken)),
            Ok(Some(Ok(frame))) => frame,
        };
        if let Ok(bytes) = frame.into_data() {
            size += bytes.len();
            piece.push(bytes);
        }
    }
    (piece, None)
}
