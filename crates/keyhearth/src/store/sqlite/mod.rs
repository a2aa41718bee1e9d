//! The embedded store: one SQLite database in a directory of its own.
//!
//! One connection writes, a few read beside it, and one moves committed pages from the write-ahead log
//! into the database file. What lies in the tables is described in `docs/formats/store.md`.
//!
//! SQLite's pages have no checksums. Rows carry MACs and entries are hashed into the log, so damage is
//! noticed, but by whoever reads; [`SqliteStore::check`] reads everything.

mod checkpointer;
mod failure;
mod open;
mod reader;
mod sweep;
mod writer;

use std::sync::Arc;

use keyhearth_core::id::TenantId;
use keyhearth_core::log::{Hash, Tree};
use keyhearth_core::row::{Row, RowKey, Table};
use keyhearth_core::store::{Commit, Head, Outcome, SealDigest, Store, StoreError};
use keyhearth_sys::lock::DirLock;
use parking_lot::Mutex;

use self::checkpointer::Checkpointer;
pub use self::open::OpenError;
use self::reader::Readers;
use self::writer::Writer;

/// A store in a directory of the local machine.
///
/// The fields are dropped in this order: the writer closes last and folds the write-ahead log into the
/// database file, then the directory is unlocked.
pub struct SqliteStore {
    checkpointer: Checkpointer,
    readers: Readers,
    writer: Arc<Mutex<Writer>>,
    edge: Mutex<Edge>,
    _lock: DirLock,
}

/// What the newest commit left: where the store stands, and the right edge of its log.
#[derive(Clone)]
struct Edge {
    tree: Tree,
    head: Head,
}

impl SqliteStore {
    /// Reads every entry and tile, and has SQLite check its own structures. Takes as long as that takes.
    ///
    /// Rows are not looked into: their MACs are the engine's business, see [`Store::visit_all`].
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first contradiction.
    pub fn check(&self) -> Result<(), StoreError> {
        let (size, root) = self.log_root();
        Ok(self.readers.with(|connection| reader::check(connection, size, &root))?)
    }
}

impl Store for SqliteStore {
    fn commit(&self, batch: &[Commit], seal_digest: SealDigest<'_>) -> Result<Vec<Outcome>, StoreError> {
        let mut writer = self.writer.lock();
        let mut edge = self.edge.lock().clone();
        let outcomes = writer.commit(&mut edge, batch, seal_digest)?;
        *self.edge.lock() = edge;
        drop(writer);
        self.checkpointer.wake_if_due();
        Ok(outcomes)
    }

    fn read(&self, key: &RowKey) -> Result<Option<Row>, StoreError> {
        Ok(self.readers.with(|connection| reader::row(connection, key))?)
    }

    fn scan(
        &self,
        table: Table,
        tenant: TenantId,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<(RowKey, Row)>, StoreError> {
        Ok(self.readers.with(|connection| reader::scan(connection, table, tenant, prefix, after, limit))?)
    }

    fn visit_all(
        &self,
        visit: &(dyn Fn(RowKey, Row) -> Result<(), StoreError> + Sync),
    ) -> Result<(), StoreError> {
        sweep::visit_all(&self.readers, visit)
    }

    fn head(&self) -> Result<Head, StoreError> {
        Ok(self.edge.lock().head.clone())
    }

    fn changes(&self, epoch: u64, limit: usize) -> Result<Option<Vec<(u64, RowKey)>>, StoreError> {
        Ok(self.readers.with(|connection| reader::changes(connection, epoch, limit))?)
    }

    fn entries(&self, index: u64, limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        Ok(self.readers.with(|connection| reader::entries(connection, index, limit))?)
    }

    fn tile(&self, tile: keyhearth_core::log::TileId) -> Result<Vec<u8>, StoreError> {
        if let Some(hashes) = self.edge.lock().tree.edge_tile(tile) {
            return Ok(hashes.as_flattened().to_vec());
        }
        Ok(self.readers.with(|connection| reader::tile(connection, tile))?)
    }

    fn log_root(&self) -> (u64, Hash) {
        let edge = self.edge.lock();
        (edge.tree.size(), edge.tree.root())
    }

    fn put_checkpoint(&self, size: u64, note: &str) -> Result<(), StoreError> {
        let mut writer = self.writer.lock();
        if size > self.edge.lock().tree.size() {
            return Err(StoreError::Failed("a checkpoint of more entries than the log has"));
        }
        writer.put_checkpoint(size, note)
    }

    fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        Ok(self.readers.with(reader::checkpoint)?)
    }

    fn document(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.readers.with(|connection| reader::document(connection, name))?)
    }

    fn put_document(&self, name: &str, body: &[u8]) -> Result<(), StoreError> {
        self.writer.lock().put_document(name, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_promises_of_a_store() {
        crate::store::conformance::run(
            || tempfile::tempdir().unwrap(),
            |directory| SqliteStore::open(directory.path()).unwrap(),
        );
    }
}
