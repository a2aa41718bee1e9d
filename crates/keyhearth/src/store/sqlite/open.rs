//! Opening: the directory, the settings of each connection, the schema, and what must agree.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use keyhearth_core::log::SignedCheckpoint;
use keyhearth_core::store::{Head, StoreError};
use keyhearth_sys::filesystem::{self, Filesystem};
use keyhearth_sys::lock::{self, DirLock};
use parking_lot::Mutex;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::checkpointer::Checkpointer;
use super::failure::Failure;
use super::reader::{self, Readers};
use super::writer::{Step, Writer};
use super::{Edge, SqliteStore};

/// The database file in the data directory.
const FILE_NAME: &str = "keyhearth.db";
/// Marks the file as ours: "KHth".
const APPLICATION_ID: i64 = 0x4b48_7468;
/// Counts the forms the tables have had.
const SCHEMA_VERSION: i64 = 1;
/// The first SQLite without a race that could lose committed pages of the write-ahead log.
///
/// Source: SQLite, "Write-Ahead Logging", §11 "The WAL-Reset Bug".
const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Readers beside the writer, at most.
const READERS_MAX: usize = 8;
/// How long a connection waits for another: longer than any checkpoint holds a lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The tables, each as SQLite remembers it.
const SCHEMA: [&str; 7] = [
    "CREATE TABLE row (tbl INTEGER NOT NULL, tenant BLOB NOT NULL, id BLOB NOT NULL, \
     revision INTEGER NOT NULL, body BLOB NOT NULL, mac BLOB NOT NULL, \
     PRIMARY KEY (tbl, tenant, id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE bundle (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, entries BLOB NOT NULL) STRICT",
    "CREATE TABLE tile (level INTEGER NOT NULL, idx INTEGER NOT NULL, hashes BLOB NOT NULL, \
     PRIMARY KEY (level, idx)) STRICT, WITHOUT ROWID",
    "CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT",
    "CREATE TABLE change (epoch INTEGER PRIMARY KEY, rows BLOB NOT NULL) STRICT",
    "CREATE TABLE document (name TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE head (id INTEGER PRIMARY KEY CHECK (id = 0), epoch INTEGER NOT NULL, \
     sealed_log_size INTEGER NOT NULL, digest_seal BLOB NOT NULL) STRICT",
];

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, read or flushed.
    #[error("cannot use {}: {error}", path.display())]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Whoever has an account on this machine could replace the files.
    #[error("everybody may write to {}; run: chmod o-w {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    /// Another machine decides about locks and flushes.
    #[error("{} is on {kind}, which cannot promise that what is written stays; use a local disk", path.display())]
    Network {
        /// The directory.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// Another process has the directory.
    #[error(transparent)]
    Locked(#[from] lock::Error),
    /// The SQLite linked in is older than the oldest that is safe.
    #[error("SQLite {0} can lose committed data; build with 3.51.3 or newer")]
    OldSqlite(&'static str),
    /// The file is some other program's database.
    #[error("{} is not a Keyhearth database; name another data directory", .0.display())]
    Foreign(PathBuf),
    /// A newer Keyhearth has written the database.
    #[error(
        "the database has form {found}, this version knows up to {SCHEMA_VERSION}; run the newer version again"
    )]
    Newer {
        /// The form it has.
        found: i64,
    },
    /// What is stored contradicts itself, or cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        Self::Store(failure.into())
    }
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        Failure::from(error).into()
    }
}

impl SqliteStore {
    /// Opens the store in `directory`; makes both if there are none.
    ///
    /// Reads a bounded part, whatever the size: the right edge of the log is rebuilt and must have the
    /// root that the newest checkpoint states. See [`SqliteStore::check`] for the rest.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_stepwise(directory, Box::new(|_| Ok(())))
    }

    /// As [`SqliteStore::open`]; `step` may fail any statement that writes.
    pub(in crate::store) fn open_stepwise(directory: &Path, step: Step) -> Result<Self, OpenError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(OpenError::OldSqlite(rusqlite::version()));
        }
        let io = |error| OpenError::Io { path: directory.to_owned(), error };
        create_directory(directory).map_err(io)?;
        // Absolute, so that SQLite never takes it for a URI.
        let directory = directory.canonicalize().map_err(io)?;
        refuse_unsafe(&directory)?;
        let lock = DirLock::acquire(&directory)?;
        let path = directory.join(FILE_NAME);
        create_file(&directory, &path).map_err(io)?;

        let mut connection = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        prepare_schema(&connection, &path)?;
        let edge = load_edge(&connection)?;
        let wal_pages = Arc::new(AtomicI32::new(0));
        let pages = Arc::clone(&wal_pages);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count| {
            pages.store(count, Ordering::Relaxed);
            Ok(())
        }))?;
        let writer = Arc::new(Mutex::new(Writer::new(connection, step)));

        let readers = std::thread::available_parallelism().map_or(2, |cpus| cpus.get().clamp(2, READERS_MAX));
        let readers = (0..readers).map(|_| connect(&path, OpenFlags::SQLITE_OPEN_READ_ONLY));
        let readers = Readers::new(readers.collect::<Result<_, _>>()?);
        let checkpointer = Checkpointer::start(
            connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?,
            Arc::clone(&writer),
            wal_pages,
        )
        .map_err(io)?;
        Ok(Self { checkpointer, readers, writer, edge: Mutex::new(edge), _lock: lock })
    }
}

/// Makes the directory, for its owner alone, if it is missing; its parent must exist.
fn create_directory(directory: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.and_then(|()| sync(&directory.join(".."))),
    }
}

/// Flushes the names in a directory.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn refuse_unsafe(directory: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: directory.to_owned(), error };
    if directory.metadata().map_err(io)?.permissions().mode() & 0o002 != 0 {
        return Err(OpenError::Exposed(directory.to_owned()));
    }
    match filesystem::kind(directory).map_err(io)? {
        Filesystem::Network(kind) => Err(OpenError::Network { path: directory.to_owned(), kind }),
        Filesystem::Local | Filesystem::Overlay => Ok(()),
    }
}

/// Makes an empty database file if there is none, for its owner alone; SQLite gives its other files the
/// same permissions.
fn create_file(directory: &Path, path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created?.sync_all().and_then(|()| sync(directory)),
    }
}

/// A connection that trusts nothing in the file but its rows.
fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(32);
    for (setting, on) in [
        (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
        (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
    ] {
        connection.set_db_config(setting, on)?;
    }
    connection.execute_batch(
        "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; \
         PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;",
    )?;
    Ok(connection)
}

/// Makes the tables in an empty file, and refuses a file with others.
fn prepare_schema(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let mut stored = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY rowid")?;
    let stored: Vec<Option<String>> = stored.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    match (pragma("application_id")?, pragma("user_version")?) {
        (0, 0) if stored.is_empty() => return create_schema(connection),
        (APPLICATION_ID, SCHEMA_VERSION) => {}
        (APPLICATION_ID, found) if found > SCHEMA_VERSION => return Err(OpenError::Newer { found }),
        _ => return Err(OpenError::Foreign(path.to_owned())),
    }
    if !stored.iter().map(Option::as_deref).eq(SCHEMA.map(Some)) {
        return Err(StoreError::Damaged("its tables are not those of its version").into());
    }
    Ok(())
}

fn create_schema(connection: &Connection) -> Result<(), OpenError> {
    connection.execute_batch("PRAGMA page_size = 4096")?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.execute_batch(&format!(
        "BEGIN IMMEDIATE; {}; INSERT INTO head VALUES (0, 0, 0, zeroblob(32)); \
         PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT",
        SCHEMA.join("; ")
    ))?;
    Ok(())
}

/// Rebuilds what the newest commit left, and compares what must agree.
fn load_edge(connection: &Connection) -> Result<Edge, Failure> {
    let tree = reader::tree(connection, reader::log_size(connection)?)?;
    let head = connection.query_row("SELECT epoch, sealed_log_size, digest_seal FROM head", [], |row| {
        Ok(Head {
            epoch: row.get::<_, i64>(0)?.cast_unsigned(),
            log_size: tree.size(),
            sealed_log_size: row.get::<_, i64>(1)?.cast_unsigned(),
            digest_seal: row.get(2)?,
        })
    })?;
    let changed: Option<i64> = connection.query_row("SELECT max(epoch) FROM change", [], |row| row.get(0))?;
    if changed.map_or(0, i64::cast_unsigned) != head.epoch {
        return Err(StoreError::Damaged("the newest change is not of the present epoch").into());
    }
    if head.sealed_log_size > head.log_size {
        return Err(StoreError::Damaged("the log is shorter than when rows last changed").into());
    }
    if let Some(note) = reader::checkpoint(connection)? {
        let note: SignedCheckpoint =
            note.parse().map_err(|_| StoreError::Damaged("the newest checkpoint cannot be read"))?;
        let stated = note.danger_unverified();
        if stated.size() > tree.size() {
            return Err(StoreError::Damaged("the log is shorter than its newest checkpoint").into());
        }
        if reader::tree(connection, stated.size())?.root() != *stated.root() {
            return Err(StoreError::Damaged("the log does not have the root of its newest checkpoint").into());
        }
    }
    Ok(Edge { tree, head })
}

#[cfg(test)]
mod tests {
    use keyhearth_core::id::TenantId;
    use keyhearth_core::row::{Row, RowKey, Table};
    use keyhearth_core::store::{Commit, Expect, Store, Write};

    use super::super::writer::CHANGE_EPOCHS_KEPT;
    use super::*;
    use crate::store::conformance::{seal, signed_checkpoint};

    fn commit(id: u64) -> [Commit; 1] {
        let key = RowKey::new(Table::Key, TenantId([1; 16]), &id.to_be_bytes());
        let row = Row { revision: 1, body: vec![1], mac: [1; 32] };
        [Commit { writes: vec![Write { key, expect: Expect::Absent, row: Some(row) }], entry: vec![1] }]
    }

    /// A store with three commits and a checkpoint, closed, after `sql` was done to its file.
    fn reopened(sql: &str) -> (tempfile::TempDir, Result<SqliteStore, OpenError>) {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        for id in 0..3 {
            store.commit(&commit(id), &mut seal).unwrap();
        }
        let (size, note) = signed_checkpoint(&store);
        store.put_checkpoint(size, &note).unwrap();
        drop(store);
        Connection::open(directory.path().join(FILE_NAME)).unwrap().execute_batch(sql).unwrap();
        let store = SqliteStore::open(directory.path());
        (directory, store)
    }

    fn refusal(sql: &str) -> String {
        reopened(sql).1.err().unwrap().to_string()
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (sql, text) in [
            (
                "DELETE FROM bundle WHERE first = 2",
                "the store is damaged: the log is shorter than when rows last changed",
            ),
            (
                "DELETE FROM bundle WHERE first = 2; UPDATE head SET sealed_log_size = 2",
                "the store is damaged: the log is shorter than its newest checkpoint",
            ),
            ("DELETE FROM bundle WHERE first = 1", "the store is damaged: entries are missing in the log"),
            (
                "DELETE FROM bundle WHERE first = 0",
                "the store is damaged: the newest entries of the log are missing",
            ),
            (
                "UPDATE bundle SET entries = x'000102' WHERE first = 1",
                "the store is damaged: the log does not have the root of its newest checkpoint",
            ),
            (
                "UPDATE bundle SET entries = x'0002' WHERE first = 1",
                "the store is damaged: a bundle ends inside an entry",
            ),
            (
                "UPDATE bundle SET count = 9 WHERE first = 2",
                "the store is damaged: a bundle has too few or too many entries",
            ),
            (
                "UPDATE checkpoint SET note = 'x'",
                "the store is damaged: the newest checkpoint cannot be read",
            ),
            (
                "UPDATE head SET epoch = 2",
                "the store is damaged: the newest change is not of the present epoch",
            ),
            (
                "UPDATE head SET digest_seal = x'00'",
                "the store is damaged: a stored value has the wrong type or length",
            ),
            ("CREATE TABLE more (x)", "the store is damaged: its tables are not those of its version"),
            ("CREATE VIEW more AS SELECT 1", "the store is damaged: its tables are not those of its version"),
            (
                "PRAGMA user_version = 2",
                "the database has form 2, this version knows up to 1; run the newer version again",
            ),
        ] {
            assert_eq!(refusal(sql), text, "{sql}");
        }
        assert!(refusal("PRAGMA application_id = 7").contains("is not a Keyhearth database"));
        assert!(reopened("").1.is_ok());
    }

    #[test]
    fn changes_that_are_no_longer_kept_are_not_made_up() {
        let last = 66 * 1024 - 1;
        let (_directory, store) = reopened(&format!(
            "INSERT INTO change SELECT {last}, rows FROM change WHERE epoch = 3; UPDATE head SET epoch = {last}",
        ));
        let store = store.unwrap();
        assert_eq!(store.changes(0, 3).unwrap().unwrap().len(), 3);
        store.commit(&commit(3), &mut seal).unwrap();
        assert!(last + 1 - CHANGE_EPOCHS_KEPT >= 3);
        assert_eq!(store.changes(0, 3), Ok(None));
        assert_eq!(store.changes(last - 1, 3).unwrap().unwrap().len(), 2);
        assert_eq!(store.changes(last + 1, 3), Ok(Some(vec![])));
    }

    #[test]
    fn one_process_has_the_directory_and_only_its_owner_the_files() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data");
        let store = SqliteStore::open(&directory).unwrap();
        store.commit(&commit(1), &mut seal).unwrap();
        assert!(matches!(SqliteStore::open(&directory), Err(OpenError::Locked(lock::Error::Held { .. }))));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        for name in ["keyhearth.db", "keyhearth.db-wal", "keyhearth.db-shm"] {
            assert_eq!(mode(&directory.join(name)), 0o600, "{name}");
        }
        drop(store);
        let everybody = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&directory, everybody).unwrap();
        assert!(matches!(SqliteStore::open(&directory), Err(OpenError::Exposed(_))));
    }

    #[test]
    fn what_is_not_a_database_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE_NAME), [7; 5000]).unwrap();
        assert!(matches!(SqliteStore::open(directory.path()), Err(OpenError::Store(StoreError::Damaged(_)))));
    }
}
