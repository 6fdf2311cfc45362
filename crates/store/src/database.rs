//! The file: format, opening, reading everything once, writing groups.
//!
//! ```text
//! state.db                 SQLite, application_id 0x486f6973 ("Hois"), user_version = format
//! ├─ objects (kind TEXT, key TEXT, revision INTEGER, document TEXT)   one JSON document per object
//! ├─ events  (revision INTEGER, sequence INTEGER, at INTEGER, document TEXT)   at: ns since 1970
//! └─ meta    (name TEXT, value INTEGER)                               revision_ceiling
//! ```
//!
//! WAL mode with an exclusive lock: no shared memory file, and a second engine on the same file is refused.
//! SQLite's own checkpoints are off, because they would sync in the middle of somebody's request; the writer
//! makes them when it is idle. The log is made long in advance, so that a full disk does not stop what is small.

use std::cell::Cell;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hoist_model::{Event, Revision, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};

use crate::builder::Builder;
use crate::error::StoreError;
use crate::snapshot::Snapshot;
use crate::store::Class;
use crate::transaction::Transaction;

/// The newest on-disk format this version reads and the one it writes.
const FORMAT: i64 = 1;
const APPLICATION: i64 = 0x486f_6973;

/// How many revisions are set aside with one sync.
const CEILING_STEP: u64 = 4096;

/// Bytes that the log has from the start: ends of containers are recorded on a full disk too, some hundred of them.
const RESERVE: u64 = 2 << 20;

const SCHEMA: &str = "
    CREATE TABLE objects (
        kind TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        revision INTEGER NOT NULL, sequence INTEGER NOT NULL, at INTEGER NOT NULL, document TEXT NOT NULL,
        PRIMARY KEY (revision, sequence)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO meta VALUES ('revision_ceiling', 0);
    PRAGMA application_id = 0x486f6973;
    PRAGMA user_version = 1;
";

/// The open file.
pub(crate) struct Database {
    path: PathBuf,
    connection: Connection,
    /// How the connection syncs now; unset where that is not known.
    synchronous: Cell<Option<Class>>,
    /// The write-ahead log itself, to sync what was committed without syncing.
    log: File,
    ceiling: u64,
    events: usize,
    events_kept: usize,
    events_age: i64,
}

fn sql(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn failure(path: &Path, error: rusqlite::Error, opening: bool) -> StoreError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt {
            path,
            detail: error.to_string(),
        },
        _ if opening => StoreError::Open {
            path,
            source: Arc::new(error),
        },
        _ => StoreError::Write {
            path,
            source: Arc::new(error),
        },
    }
}

impl Database {
    /// Opens or creates the file and reads all objects.
    pub(crate) fn open(dir: &Path, builder: &Builder) -> Result<(Self, Snapshot), StoreError> {
        let directory = |source| StoreError::Directory {
            path: dir.to_owned(),
            source: Arc::new(source),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(directory)?;
        let path = dir.join("state.db");
        let opened = |error| failure(&path, error, true);
        // SQLite tells of a read-only disk as of any other failing one. Closed before it has locks that would go with it.
        let writing = File::options().append(true).create(true).open(&path);
        drop(writing.map_err(|source| StoreError::Unwritable {
            path: path.clone(),
            source: Arc::new(source),
        })?);
        let connection = Connection::open(&path).map_err(opened)?;
        prepare(&path, &connection)?;
        let ceiling: i64 = connection
            .query_row(
                "SELECT value FROM meta WHERE name = 'revision_ceiling'",
                [],
                |row| row.get(0),
            )
            .map_err(opened)?;
        let ceiling = u64::try_from(ceiling).map_err(|_| StoreError::Corrupt {
            path: path.clone(),
            detail: format!("revision ceiling {ceiling}"),
        })?;
        let events: i64 = connection
            .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
            .map_err(opened)?;
        let mut snapshot = load(&path, &connection, builder)?;
        // Revisions below the ceiling may have been issued and lost in a power cut.
        snapshot.set_revision(Revision(ceiling));
        // Opened for its own sake: closing any descriptor of state.db itself would drop SQLite's locks on it.
        let log = File::options()
            .read(true)
            .write(true)
            .open(dir.join("state.db-wal"))
            .map_err(directory)?;
        if let Err(error) = reserve(&log) {
            tracing::warn!(%error, "no room set aside for when the disk is full");
        }
        let mut database = Self {
            connection,
            synchronous: Cell::new(None),
            log,
            path,
            ceiling,
            events: usize::try_from(events).unwrap_or(0),
            events_kept: builder.events_kept,
            events_age: i64::try_from(builder.events_age.as_nanos()).unwrap_or(i64::MAX),
        };
        database.raise_ceiling()?;
        Ok((database, snapshot))
    }

    fn wrap(&self, error: rusqlite::Error) -> StoreError {
        failure(&self.path, error, false)
    }

    /// Sets revisions aside, synced.
    fn raise_ceiling(&mut self) -> Result<(), StoreError> {
        let ceiling = self.ceiling + CEILING_STEP;
        self.synchronous(Class::Disk)?;
        self.connection
            .execute(
                "UPDATE meta SET value = ?1 WHERE name = 'revision_ceiling'",
                [sql(ceiling)],
            )
            .map_err(|e| self.wrap(e))?;
        self.ceiling = ceiling;
        Ok(())
    }

    fn synchronous(&self, class: Class) -> Result<(), StoreError> {
        if self.synchronous.take() == Some(class) {
            self.synchronous.set(Some(class));
            return Ok(());
        }
        // NORMAL in WAL mode writes and does not sync; FULL syncs the log at each commit.
        self.connection
            .execute_batch(match class {
                Class::Disk => "PRAGMA synchronous = FULL",
                Class::Process => "PRAGMA synchronous = NORMAL",
            })
            .map_err(|e| self.wrap(e))?;
        self.synchronous.set(Some(class));
        Ok(())
    }

    /// Writes a group of transactions, all or none. Answers whether it was synced.
    pub(crate) fn write(
        &mut self,
        class: Class,
        group: &[&Transaction],
    ) -> Result<bool, StoreError> {
        let raise = group
            .last()
            .is_some_and(|last| last.revision.0 >= self.ceiling);
        if raise {
            self.raise_ceiling()?;
        }
        self.synchronous(class)?;
        let written = self.write_rows(group);
        if written.is_err() && !self.connection.is_autocommit() {
            // Already the failure path: what counts is the first error.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.events += written.map_err(|e| self.wrap(e))?;
        Ok(class == Class::Disk)
    }

    fn write_rows(&self, group: &[&Transaction]) -> rusqlite::Result<usize> {
        let connection = &self.connection;
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let mut put = connection.prepare_cached(
            "INSERT INTO objects VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE
             SET revision = excluded.revision, document = excluded.document",
        )?;
        let mut delete =
            connection.prepare_cached("DELETE FROM objects WHERE kind = ?1 AND key = ?2")?;
        let mut tell = connection.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?;
        let mut told = 0;
        for transaction in group {
            let revision = sql(transaction.revision.0);
            for row in &transaction.rows {
                match &row.document {
                    Some(document) => {
                        put.execute(params![row.table, row.key, revision, document])?
                    }
                    None => delete.execute(params![row.table, row.key])?,
                };
            }
            for (sequence, event) in (0_i64..).zip(&transaction.events) {
                let document = serde_json::to_string(event)
                    .map_err(|e| rusqlite::Error::ToSqlConversionFailure(e.into()))?;
                tell.execute(params![revision, sequence, event.at.as_nanos(), document])?;
                told += 1;
            }
        }
        connection.prepare_cached("COMMIT")?.execute([])?;
        Ok(told)
    }

    /// Whether pruning events is worth a transaction: a group's worth above what is kept.
    pub(crate) fn should_prune(&self) -> bool {
        self.events > self.events_kept + self.events_kept / 8 + 16
    }

    /// Deletes events beyond the count and older than the age, counted from the newest.
    pub(crate) fn prune(&mut self) -> Result<(), StoreError> {
        self.synchronous(Class::Process)?;
        let by_age = "DELETE FROM events WHERE at < (SELECT max(at) FROM events) - ?1";
        let by_count = "DELETE FROM events WHERE revision <= (SELECT revision FROM events
            ORDER BY revision DESC, sequence DESC LIMIT 1 OFFSET ?1)";
        let kept = i64::try_from(self.events_kept).unwrap_or(i64::MAX);
        let pruned = self
            .connection
            .execute(by_age, [self.events_age])
            .and_then(|old| Ok(old + self.connection.execute(by_count, [kept])?))
            .map_err(|e| self.wrap(e))?;
        self.events = self.events.saturating_sub(pruned);
        Ok(())
    }

    /// Stored events of an interval, both ends included, oldest first.
    pub(crate) fn events(
        &self,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<Vec<(Revision, Event)>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(
                "SELECT revision, document FROM events WHERE at BETWEEN ?1 AND ?2
                 ORDER BY revision, sequence",
            )
            .map_err(|e| self.wrap(e))?;
        let since = since.map_or(i64::MIN, Timestamp::as_nanos);
        let until = until.map_or(i64::MAX, Timestamp::as_nanos);
        let rows = statement
            .query_map([since, until], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
            })
            .map_err(|e| self.wrap(e))?;
        rows.map(|row| {
            let (revision, document) = row.map_err(|e| self.wrap(e))?;
            let event = serde_json::from_str(&document).map_err(|e| StoreError::Decode {
                table: "events".to_owned(),
                key: revision.to_string(),
                detail: e.to_string(),
            })?;
            Ok((Revision(revision.cast_unsigned()), event))
        })
        .collect()
    }

    /// Syncs what was committed without syncing.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.log
            .sync_data()
            .map_err(|source| StoreError::Directory {
                path: self.path.clone(),
                source: Arc::new(source),
            })
    }

    /// Moves the log's content into the main file, synced.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
            .map_err(|e| self.wrap(e))
    }
}

/// Makes the log as long as [`RESERVE`]: what SQLite writes into it then needs no new blocks. Zeros behind the last
/// frame are to SQLite what is left of an older log, which it passes over (its file format, "WAL reset").
fn reserve(log: &File) -> std::io::Result<()> {
    let length = log.metadata()?.len();
    let missing = usize::try_from(RESERVE.saturating_sub(length)).unwrap_or(0);
    // Written, not fallocated: a sync then has no block map to write.
    let written = log.write_all_at(&vec![0; missing], length);
    if written.is_err() {
        log.set_len(length)?;
    }
    written
}

fn prepare(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let opened = |error| failure(path, error, true);
    // An engine that is just ending may still hold the lock.
    connection
        .busy_timeout(Duration::from_millis(500))
        .map_err(opened)?;
    connection
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;
             PRAGMA journal_size_limit = 16777216;",
        )
        .map_err(opened)?;
    let number = |pragma: &str| -> Result<i64, StoreError> {
        connection
            .query_row(pragma, [], |row| row.get(0))
            .map_err(opened)
    };
    let found = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let new = found == 0 && application == 0 && tables == 0;
    if !new && application != APPLICATION {
        return Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail: "it is the database of another program".to_owned(),
        });
    }
    if found > FORMAT {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            supported: FORMAT,
        });
    }
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;")
        .map_err(opened)?;
    if new {
        connection
            .execute_batch(&format!("BEGIN;{SCHEMA}COMMIT;"))
            .map_err(opened)?;
    }
    Ok(())
}

fn load(path: &Path, connection: &Connection, builder: &Builder) -> Result<Snapshot, StoreError> {
    let opened = |error| failure(path, error, true);
    let mut snapshot = Snapshot::default();
    let mut statement = connection
        .prepare("SELECT key, document FROM objects WHERE kind = ?1 ORDER BY key")
        .map_err(opened)?;
    for (&table, decode) in &builder.tables {
        let mut rows = statement.query([table]).map_err(opened)?;
        while let Some(row) = rows.next().map_err(opened)? {
            let key: String = row.get(0).map_err(opened)?;
            let document = row.get_ref(1).map_err(opened)?.as_str().unwrap_or_default();
            let object = decode(document).map_err(|error| StoreError::Decode {
                table: table.to_owned(),
                key: key.clone(),
                detail: error.to_string(),
            })?;
            snapshot.replace(table, &key.into(), Some(object));
        }
    }
    // Forces the first page of each table to be looked at, so that damage shows at start.
    connection
        .query_row("SELECT revision FROM events LIMIT 1", [], |_| Ok(()))
        .optional()
        .map_err(opened)?;
    Ok(snapshot)
}
