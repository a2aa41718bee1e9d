//! The one writer: gathers what requests want written and commits it together.
//!
//! A request hands in its rows and its log entry and waits. The committing thread takes everything
//! that waits, commits it in one transaction of the store with one flush, and only then answers:
//! while one batch is being flushed, the next gathers. Nothing is released before its entry is durable.
//!
//! The thread also keeps the sum of all rows ([`StateDigest`]) and which rows there are
//! ([`Presence`]), both changed only after the transaction is durable.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use keyhearth_core::Error;
use keyhearth_core::log::ENTRY_BYTES_MAX;
use keyhearth_core::row::{Presence, RowAuth, StateDigest};
use keyhearth_core::store::{Commit, Outcome, RowChange, Store, StoreError, Write};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::oneshot;

/// Requests that may wait for the committing thread; more are refused as `Unavailable`.
pub const WAITING_MAX: usize = 65_536;

/// Of these, places kept for requests that change rows, so that a revoke gets through a flood of uses.
pub const WAITING_RESERVE: usize = 4_096;

/// How long a refused request should wait, in milliseconds.
const RETRY_AFTER_MS: u32 = 100;

/// Called with each write of a commit.
type OnChange = Box<dyn Fn(&Write) + Send + Sync>;

/// What the ledger knows about rows while the server is unsealed.
pub struct Book {
    /// Which rows there are. Held for writing while a commit changes rows, so that a reader who holds
    /// it for reading sees rows and book agree.
    pub presence: RwLock<Presence>,
    /// Authenticates rows.
    pub auth: RowAuth,
    digest: Mutex<StateDigest>,
    /// Counts commits that changed rows.
    pub epoch: AtomicU64,
    /// Told what a commit wrote, before anybody can read it.
    changed: OnceLock<OnChange>,
}

impl Book {
    /// A book of the rows that were found at start.
    pub fn new(auth: RowAuth, presence: Presence, digest: StateDigest, epoch: u64) -> Self {
        let (presence, digest, epoch) = (RwLock::new(presence), Mutex::new(digest), AtomicU64::new(epoch));
        Self { presence, auth, digest, epoch, changed: OnceLock::new() }
    }

    /// From now on `changed` is called with each write that is not only a check, on the committing thread,
    /// while the rows are still held: whoever has cached a row forgets it before it can be read, and cached,
    /// again.
    pub fn on_change(&self, changed: impl Fn(&Write) + Send + Sync + 'static) {
        let _ = self.changed.set(Box::new(changed));
    }
}

struct Waiting {
    commit: Commit,
    done: oneshot::Sender<Result<Outcome, Error>>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Waiting>,
    closed: bool,
    idle: bool,
}

struct Shared {
    store: Arc<dyn Store>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    book: RwLock<Option<Arc<Book>>>,
    /// Size of the log after the newest commit.
    log_size: AtomicU64,
}

/// The handle to the committing thread. Dropping it commits what waits and ends the thread.
pub struct Ledger {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ledger {
    /// Starts the committing thread.
    ///
    /// # Errors
    /// [`Error::Internal`] if there is no thread to be had.
    pub fn start(store: Arc<dyn Store>) -> Result<Self, Error> {
        let log_size = AtomicU64::new(store.head()?.log_size);
        let shared = Arc::new(Shared {
            store,
            queue: Mutex::default(),
            arrived: Condvar::new(),
            book: RwLock::new(None),
            log_size,
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("commit".into()).spawn(move || run(&of_thread));
        Ok(Self { shared, thread: Some(thread.map_err(|_| Error::Internal("no thread"))?) })
    }

    /// From now on rows can be written.
    pub fn open(&self, book: Arc<Book>) {
        *self.shared.book.write() = Some(book);
    }

    /// From now on only entries without rows can be written.
    pub fn close(&self) {
        *self.shared.book.write() = None;
    }

    /// Number of entries in the log.
    #[must_use]
    pub fn log_size(&self) -> u64 {
        self.shared.log_size.load(Ordering::Acquire)
    }

    /// Commits rows and entry durably; returns the entry's index.
    ///
    /// # Errors
    /// [`Error::Conflict`] if a row was not as expected, [`Error::Unavailable`] if too many wait or the disk
    /// is full, [`Error::TooLarge`] if the log does not take such an entry, [`Error::Sealed`] for rows while
    /// the server is sealed. Then nothing was written. If this future is dropped, the commit may still happen,
    /// and what is cached follows it all the same.
    pub async fn commit(&self, commit: Commit) -> Result<u64, Error> {
        // Here, because in the store it would fail everything that is committed with it.
        if commit.entry.len() > ENTRY_BYTES_MAX {
            return Err(Error::TooLarge { field: "log entry", limit: ENTRY_BYTES_MAX });
        }
        let (done, outcome) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            let places = if commit.writes.is_empty() { WAITING_MAX - WAITING_RESERVE } else { WAITING_MAX };
            if queue.closed || queue.waiting.len() >= places {
                return Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS });
            }
            queue.waiting.push(Waiting { commit, done });
            if queue.idle {
                self.shared.arrived.notify_one();
            }
        }
        match outcome.await {
            Ok(Ok(Outcome::Committed { index })) => Ok(index),
            Ok(Ok(Outcome::Conflict { .. })) => {
                Err(Error::Conflict("it was changed or made by somebody else at the same time"))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Unavailable { retry_after_ms: RETRY_AFTER_MS }),
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.arrived.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut batch = Vec::new();
    let mut commits = Vec::new();
    loop {
        {
            let mut queue = shared.queue.lock();
            while queue.waiting.is_empty() {
                if queue.closed {
                    return;
                }
                queue.idle = true;
                shared.arrived.wait(&mut queue);
                queue.idle = false;
            }
            std::mem::swap(&mut batch, &mut queue.waiting);
        }
        commits.clear();
        let mut answers = Vec::with_capacity(batch.len());
        let book = shared.book.read().clone();
        for Waiting { commit, done } in batch.drain(..) {
            if book.is_none() && !commit.writes.is_empty() {
                let _ = done.send(Err(Error::Sealed));
            } else {
                commits.push(commit);
                answers.push(done);
            }
        }
        match commit_batch(shared, book.as_deref(), &commits) {
            Ok(outcomes) => {
                for (answer, outcome) in answers.into_iter().zip(outcomes) {
                    let _ = answer.send(Ok(outcome));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.into()));
                }
            }
        }
    }
}

/// Commits a batch; without a book, one of entries alone.
fn commit_batch(
    shared: &Shared,
    book: Option<&Book>,
    commits: &[Commit],
) -> Result<Vec<Outcome>, StoreError> {
    let has_rows = commits.iter().any(|commit| !commit.writes.is_empty());
    let outcomes = match book.filter(|_| has_rows) {
        Some(book) => commit_rows(shared, book, commits)?,
        None => {
            let mut no_rows = |_: &[_], _, _| [0; 32];
            shared.store.commit(commits, &mut no_rows)?
        }
    };
    let committed = outcomes.iter().filter(|o| matches!(o, Outcome::Committed { .. })).count();
    shared.log_size.fetch_add(committed as u64, Ordering::Release);
    Ok(outcomes)
}

fn commit_rows(shared: &Shared, book: &Book, commits: &[Commit]) -> Result<Vec<Outcome>, StoreError> {
    let mut presence = book.presence.write();
    let mut digest = book.digest.lock().clone();
    let mut epoch = None;
    let mut seal = |changes: &[RowChange], new_epoch: u64, log_size: u64| {
        for (old, new) in changes {
            old.iter().for_each(|mac| digest.remove(&book.auth, mac));
            new.iter().for_each(|mac| digest.add(&book.auth, mac));
        }
        epoch = Some(new_epoch);
        book.auth.seal_digest(&digest, new_epoch, log_size)
    };
    let outcomes = shared.store.commit(commits, &mut seal)?;
    // Commit point: the batch is durable. What follows only tells this process about it; after a crash
    // here the same is learnt from the store at the next start.
    for (commit, outcome) in commits.iter().zip(&outcomes) {
        if matches!(outcome, Outcome::Committed { .. }) {
            for write in commit.writes.iter().filter(|write| !write.is_check()) {
                match &write.row {
                    Some(row) => presence.set(&write.key, &row.mac),
                    None => presence.unset(&write.key),
                }
                if let Some(changed) = book.changed.get() {
                    changed(write);
                }
            }
        }
    }
    *book.digest.lock() = digest;
    if let Some(epoch) = epoch {
        book.epoch.store(epoch, Ordering::Release);
    }
    Ok(outcomes)
}

#[cfg(test)]
mod tests {
    use keyhearth_core::id::TenantId;
    use keyhearth_core::row::{RowKey, Table};
    use keyhearth_core::store::Expect;

    use super::*;
    use crate::store::sqlite::SqliteStore;

    #[tokio::test]
    async fn what_cannot_be_committed_fails_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
        let ledger = Arc::new(Ledger::start(store).unwrap());
        let tasks = (0..300).map(|number| {
            let key = RowKey::new(Table::System, TenantId::PLATFORM, b"row");
            let (rows, bytes) = [(0, 1), (1, 1), (0, ENTRY_BYTES_MAX + 1)][number % 3];
            let writes = (0..rows).map(|_| Write { key: key.clone(), expect: Expect::Absent, row: None });
            let commit = Commit { writes: writes.collect(), entry: vec![7; bytes] };
            let ledger = Arc::clone(&ledger);
            tokio::spawn(async move { ledger.commit(commit).await })
        });
        for (number, task) in tasks.collect::<Vec<_>>().into_iter().enumerate() {
            match (number % 3, task.await.unwrap()) {
                (0, Ok(_)) | (1, Err(Error::Sealed)) | (2, Err(Error::TooLarge { .. })) => {}
                (kind, other) => panic!("{kind}: {other:?}"),
            }
        }
        assert_eq!(ledger.log_size(), 100);
    }
}
