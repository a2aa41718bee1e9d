//! What the engine needs of a store, and what a store promises.
//!
//! A store keeps rows and the log together and knows no keys: rows come sealed, entries encoded.
//! One process owns it. There is one writer, the engine's committing thread; readers are many.
//! The trait is shaped for a database that several nodes share as well: `epoch` counts changes of
//! rows, and [`Store::changes`] tells which rows changed since an epoch.

use std::fmt;

use crate::id::TenantId;
use crate::log::TileId;
use crate::row::{Row, RowKey, Table};

/// What one request wants written: all of it or nothing.
#[derive(Debug, Default)]
pub struct Commit {
    /// Rows to change, each at most once.
    pub writes: Vec<Write>,
    /// The encoded log entry. Always present: nothing is written without one.
    pub entry: Vec<u8>,
}

/// One change of one row.
#[derive(Debug)]
pub struct Write {
    /// Which row.
    pub key: RowKey,
    /// What must be there before.
    pub expect: Expect,
    /// The new row, or `None` to delete it. A row with the MAC that is expected changes nothing: then this
    /// only checks that the row is still there.
    pub row: Option<Row>,
}

/// What must be there before a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No row.
    Absent,
    /// The row with this MAC.
    Mac([u8; 32]),
}

impl Write {
    /// Whether it only checks.
    #[must_use]
    pub fn is_check(&self) -> bool {
        matches!((&self.row, self.expect), (Some(row), Expect::Mac(mac)) if row.mac == mac)
    }
}

/// What became of one [`Commit`] of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Durable, with this index in the log.
    Committed {
        /// Index of the entry.
        index: u64,
    },
    /// A row was not as expected: nothing of this commit was written, its entry neither.
    Conflict {
        /// Position of the first such write.
        write: usize,
    },
}

/// Where the store stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Counts batches that changed rows.
    pub epoch: u64,
    /// Number of log entries.
    pub log_size: u64,
    /// The log's size when rows last changed.
    pub sealed_log_size: u64,
    /// Seal of the sum of all rows at `epoch` ([`crate::row::RowAuth::seal_digest`]).
    pub digest_seal: [u8; 32],
}

/// The MAC that a changed row had, and the one it has now.
pub type RowChange = (Option<[u8; 32]>, Option<[u8; 32]>);

/// Computes the new seal of all rows from what a batch changes, the new epoch, and the new size of the
/// log. Called inside the transaction, only if rows change.
pub type SealDigest<'a> = &'a mut dyn FnMut(&[RowChange], u64, u64) -> [u8; 32];

/// Why a store did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// No room. Nothing was written; reading goes on.
    Full,
    /// What is stored contradicts itself; the text says what.
    Damaged(&'static str),
    /// The store cannot be used; the text says why.
    Failed(&'static str),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the store's disk is full: free room on it"),
            Self::Damaged(what) => write!(f, "the store is damaged: {what}"),
            Self::Failed(why) => write!(f, "the store failed: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<StoreError> for crate::Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Self::Unavailable { retry_after_ms: 10_000 },
            StoreError::Damaged(what) => Self::Damaged(what),
            StoreError::Failed(what) => Self::Internal(what),
        }
    }
}

/// Rows and log, durable. All verbs are synchronous; the engine decides on which thread they run.
pub trait Store: Send + Sync + 'static {
    /// Writes a batch in one durable transaction: for each commit in order, checks every expectation,
    /// then writes its rows and appends its entry. A commit that conflicts is left out whole. When this
    /// returns `Ok`, everything that is `Committed` survives the loss of power.
    ///
    /// If the medium does not confirm a flush the process is aborted: what was written is unknown, and
    /// starting again reads it afresh.
    ///
    /// # Errors
    /// [`StoreError`]; then nothing of the batch was written.
    fn commit(&self, batch: &[Commit], seal_digest: SealDigest<'_>) -> Result<Vec<Outcome>, StoreError>;

    /// Reads one row.
    ///
    /// # Errors
    /// [`StoreError`].
    fn read(&self, key: &RowKey) -> Result<Option<Row>, StoreError>;

    /// Reads up to `limit` rows of a tenant's table with ids that start with `prefix` and lie after `after`, by id.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(
        &self,
        table: Table,
        tenant: TenantId,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(RowKey, Row)>, StoreError>;

    /// Visits every row of every table and tenant, from several threads at once.
    ///
    /// # Errors
    /// [`StoreError`], and whatever `visit` returns.
    fn visit_all(
        &self,
        visit: &(dyn Fn(RowKey, Row) -> Result<(), StoreError> + Sync),
    ) -> Result<(), StoreError>;

    /// Where the store stands.
    ///
    /// # Errors
    /// [`StoreError`].
    fn head(&self) -> Result<Head, StoreError>;

    /// Rows that changed after `epoch`, oldest first; no epoch is split, so there are more than `limit` if
    /// the last one holds them. `None` if changes that old are no longer known: forget all that was cached.
    /// For caches of other nodes.
    ///
    /// # Errors
    /// [`StoreError`].
    fn changes(&self, epoch: u64, limit: usize) -> Result<Option<Vec<(u64, RowKey)>>, StoreError>;

    /// The entries from `index` on, at most `limit`, without gaps.
    ///
    /// # Errors
    /// [`StoreError`].
    fn entries(&self, index: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError>;

    /// A full tile of hashes (256 × 32 bytes), or as many hashes as the tile at the right edge has.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is missing.
    fn tile(&self, tile: TileId) -> Result<Vec<u8>, StoreError>;

    /// The root of the log at `size`, the present size, computed from the tree the store keeps.
    fn log_root(&self) -> (u64, crate::log::Hash);

    /// Stores a signed checkpoint of `size`; the newest is the one of the largest size.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Failed`] if the log is shorter than `size`.
    fn put_checkpoint(&self, size: u64, note: &str) -> Result<(), StoreError>;

    /// The newest signed checkpoint.
    ///
    /// # Errors
    /// [`StoreError`].
    fn checkpoint(&self) -> Result<Option<String>, StoreError>;

    /// Reads a document that is not a row: what must be readable while sealed (the seal record).
    ///
    /// # Errors
    /// [`StoreError`].
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes such a document durably.
    ///
    /// # Errors
    /// [`StoreError`].
    fn put_document(&self, name: &str, body: &[u8]) -> Result<(), StoreError>;
}
