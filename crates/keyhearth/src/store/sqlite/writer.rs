//! The one connection that writes.

use keyhearth_core::log::{leaf_hash, push_entry};
use keyhearth_core::row::{Row, RowKey};
use keyhearth_core::store::{Commit, Expect, Outcome, SealDigest, StoreError, Write};
use rusqlite::{Connection, OptionalExtension, Params, params};

use super::Edge;
use super::failure::{Failure, abort, is_unknown};

/// How many epochs back [`keyhearth_core::store::Store::changes`] reaches at least.
pub(super) const CHANGE_EPOCHS_KEPT: u64 = 65_536;
/// Older epochs are forgotten this many at a time.
const CHANGE_EPOCHS_FORGOTTEN: u64 = 1024;

/// Called before every statement that begins, writes or ends a transaction. Does nothing but in tests,
/// where it makes the statement fail.
pub(super) type Step = Box<dyn FnMut(&Connection) -> rusqlite::Result<()> + Send>;

/// The MAC a row had and the MAC it has.
type MacChange = (Option<[u8; 32]>, Option<[u8; 32]>);

pub(super) struct Writer {
    connection: Connection,
    step: Step,
    /// The entries of the batch in hand; kept for its capacity.
    bundle: Vec<u8>,
}

impl Writer {
    pub(super) fn new(connection: Connection, step: Step) -> Self {
        Self { connection, step, bundle: Vec::new() }
    }

    /// Writes a batch. `edge` advances with it and is of no use after an error.
    pub(super) fn commit(
        &mut self,
        edge: &mut Edge,
        batch: &[Commit],
        seal_digest: SealDigest<'_>,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.transaction(|writer| writer.batch(edge, batch, seal_digest))
    }

    pub(super) fn put_checkpoint(&mut self, size: u64, note: &str) -> Result<(), StoreError> {
        self.transaction(|writer| {
            let size = size.cast_signed();
            writer.execute(
                "INSERT OR REPLACE INTO checkpoint (size, note) VALUES (?1, ?2)",
                params![size, note],
            )?;
            writer.execute("DELETE FROM checkpoint WHERE size < (SELECT max(size) FROM checkpoint)", [])?;
            Ok(())
        })
    }

    pub(super) fn put_document(&mut self, name: &str, body: &[u8]) -> Result<(), StoreError> {
        self.transaction(|writer| {
            writer.execute(
                "INSERT OR REPLACE INTO document (name, body) VALUES (?1, ?2)",
                params![name, body],
            )?;
            Ok(())
        })
    }

    /// Does `work` in a transaction that is durable when this returns `Ok`, and undone when it does not.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let done = self.execute("BEGIN IMMEDIATE", []).map_err(Failure::from).and_then(|_| work(self));
        let done = done.and_then(|done| {
            // The commit point. Before it nothing of this is visible, to readers or after a crash. When it
            // returns, the frames are flushed; a crash inside it leaves all of the transaction or nothing.
            match self.execute("COMMIT", []) {
                Ok(_) => Ok(done),
                Err(error) if is_unknown(&error, true) => abort(&error),
                Err(error) => Err(error.into()),
            }
        });
        if !self.connection.is_autocommit()
            && let Err(error) = self.connection.execute_batch("ROLLBACK")
        {
            abort(&error);
        }
        Ok(done?)
    }

    fn batch(
        &mut self,
        edge: &mut Edge,
        batch: &[Commit],
        seal_digest: SealDigest<'_>,
    ) -> Result<Vec<Outcome>, Failure> {
        let first = edge.tree.size();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut macs = Vec::new();
        let mut keys = Vec::new();
        let mut tiles = Vec::new();
        self.bundle.clear();
        for commit in batch {
            if let Some(write) = self.conflict(&commit.writes)? {
                outcomes.push(Outcome::Conflict { write });
                continue;
            }
            for write in &commit.writes {
                self.write(write, &mut macs, &mut keys)?;
            }
            push_entry(&mut self.bundle, &commit.entry)
                .map_err(|_| StoreError::Failed("an entry is longer than 65,535 bytes"))?;
            outcomes.push(Outcome::Committed { index: edge.tree.size() });
            edge.tree.append(leaf_hash(&commit.entry), &mut |id, hashes| {
                tiles.push((id, hashes.as_flattened().to_vec()));
            });
        }
        let size = edge.tree.size();
        if size > first {
            self.insert_bundle(first, size - first)?;
        }
        for (id, hashes) in tiles {
            self.execute(
                "INSERT INTO tile (level, idx, hashes) VALUES (?1, ?2, ?3)",
                params![id.level, id.index.cast_signed(), hashes],
            )?;
        }
        edge.head.log_size = size;
        if !macs.is_empty() {
            self.seal(edge, &macs, &keys, seal_digest)?;
        }
        Ok(outcomes)
    }

    /// Position of the first write whose row is not as expected.
    fn conflict(&self, writes: &[Write]) -> Result<Option<usize>, Failure> {
        for (position, Write { key, expect, .. }) in writes.iter().enumerate() {
            let found: Option<[u8; 32]> = self
                .connection
                .prepare_cached("SELECT mac FROM row WHERE tbl = ?1 AND tenant = ?2 AND id = ?3")?
                .query_row(params![key.table as u8, key.tenant.0, key.id], |row| row.get(0))
                .optional()?;
            let expected = match expect {
                Expect::Absent => None,
                Expect::Mac(mac) => Some(*mac),
            };
            if found != expected {
                return Ok(Some(position));
            }
        }
        Ok(None)
    }

    /// Writes a row found as expected; every statement repeats the expectation, so a commit that
    /// writes one row twice fails whole.
    fn write(&mut self, write: &Write, macs: &mut Vec<MacChange>, keys: &mut Vec<u8>) -> Result<(), Failure> {
        let Write { key: RowKey { table, tenant, id }, expect, row } = write;
        let table = *table as u8;
        let (written, change) = match (expect, row) {
            (Expect::Absent, None) => return Ok(()),
            (Expect::Mac(_), Some(_)) if write.is_check() => return Ok(()),
            (Expect::Absent, Some(Row { revision, body, mac })) => {
                let written = self.execute(
                    "INSERT INTO row (tbl, tenant, id, revision, body, mac) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                     ON CONFLICT DO NOTHING",
                    params![table, tenant.0, id, revision.cast_signed(), body, mac],
                )?;
                (written, (None, Some(*mac)))
            }
            (Expect::Mac(old), Some(Row { revision, body, mac })) => {
                let written = self.execute(
                    "UPDATE row SET revision = ?4, body = ?5, mac = ?6 \
                     WHERE tbl = ?1 AND tenant = ?2 AND id = ?3 AND mac = ?7",
                    params![table, tenant.0, id, revision.cast_signed(), body, mac, old],
                )?;
                (written, (Some(*old), Some(*mac)))
            }
            (Expect::Mac(old), None) => {
                let written = self.execute(
                    "DELETE FROM row WHERE tbl = ?1 AND tenant = ?2 AND id = ?3 AND mac = ?4",
                    params![table, tenant.0, id, old],
                )?;
                (written, (Some(*old), None))
            }
        };
        if written != 1 {
            return Err(StoreError::Failed("a commit writes one row twice").into());
        }
        macs.push(change);
        push_key(keys, &write.key)
    }

    fn insert_bundle(&mut self, first: u64, count: u64) -> Result<(), Failure> {
        (self.step)(&self.connection)?;
        self.connection
            .prepare_cached("INSERT INTO bundle (first, count, entries) VALUES (?1, ?2, ?3)")?
            .execute(params![first.cast_signed(), count.cast_signed(), self.bundle])?;
        Ok(())
    }

    /// Counts the epoch, remembers which rows changed in it, and seals all rows as they are now.
    fn seal(
        &mut self,
        edge: &mut Edge,
        macs: &[MacChange],
        keys: &[u8],
        seal_digest: SealDigest<'_>,
    ) -> Result<(), Failure> {
        let head = &mut edge.head;
        head.epoch += 1;
        head.sealed_log_size = head.log_size;
        head.digest_seal = seal_digest(macs, head.epoch, head.log_size);
        self.execute(
            "UPDATE head SET epoch = ?1, sealed_log_size = ?2, digest_seal = ?3",
            params![head.epoch.cast_signed(), head.sealed_log_size.cast_signed(), head.digest_seal],
        )?;
        self.execute(
            "INSERT INTO change (epoch, rows) VALUES (?1, ?2)",
            params![head.epoch.cast_signed(), keys],
        )?;
        if head.epoch.is_multiple_of(CHANGE_EPOCHS_FORGOTTEN) {
            let forgotten = head.epoch.saturating_sub(CHANGE_EPOCHS_KEPT).cast_signed();
            self.execute("DELETE FROM change WHERE epoch <= ?1", [forgotten])?;
        }
        Ok(())
    }

    fn execute(&mut self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        (self.step)(&self.connection)?;
        self.connection.prepare_cached(sql)?.execute(params)
    }
}

/// Appends a row key as in the rows of `change`: table, tenant, length of the id as two bytes, id.
fn push_key(keys: &mut Vec<u8>, key: &RowKey) -> Result<(), Failure> {
    let length = u16::try_from(key.id.len()).map_err(|_| StoreError::Failed("a row's id is too long"))?;
    keys.push(key.table as u8);
    keys.extend_from_slice(&key.tenant.0);
    keys.extend_from_slice(&length.to_be_bytes());
    keys.extend_from_slice(&key.id);
    Ok(())
}
