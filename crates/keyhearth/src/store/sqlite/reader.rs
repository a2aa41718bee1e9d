//! Reading: short transactions on connections of their own, which see all that is committed.

use std::sync::atomic::{AtomicUsize, Ordering};

use keyhearth_core::id::TenantId;
use keyhearth_core::log::{
    Hash, TILE_BYTES, TileError, TileId, Tree, bundle_entries, leaf_hash, tile_hashes,
};
use keyhearth_core::row::{Row, RowKey, Table};
use keyhearth_core::store::StoreError;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Failure;

/// Connections to share; each serves one call at a time.
pub(super) struct Readers {
    connections: Box<[Mutex<Connection>]>,
    next: AtomicUsize,
}

impl Readers {
    /// At least one connection.
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self { connections: connections.into_iter().map(Mutex::new).collect(), next: AtomicUsize::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Reads with a free connection, or waits for one.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Connection) -> T) -> T {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let count = self.connections.len();
        let nth = |n| &self.connections[(start % count + n) % count];
        let free = (0..count).find_map(|n| nth(n).try_lock());
        read(&free.unwrap_or_else(|| nth(0).lock()))
    }
}

pub(super) fn row(connection: &Connection, key: &RowKey) -> Result<Option<Row>, Failure> {
    let mut select = connection
        .prepare_cached("SELECT revision, body, mac FROM row WHERE tbl = ?1 AND tenant = ?2 AND id = ?3")?;
    let row = select.query_row(params![key.table as u8, key.tenant.0, key.id], |row| row_at(row, 0));
    Ok(row.optional()?)
}

/// Reads the three columns of a row from column `at` on.
pub(super) fn row_at(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Row> {
    let revision: i64 = row.get(at)?;
    Ok(Row { revision: revision.cast_unsigned(), body: row.get(at + 1)?, mac: row.get(at + 2)? })
}

pub(super) fn table(number: u8) -> Result<Table, StoreError> {
    let table = Table::ALL.into_iter().find(|table| *table as u8 == number);
    table.ok_or(StoreError::Damaged("a row lies in a table that does not exist"))
}

pub(super) fn scan(
    connection: &Connection,
    table: Table,
    tenant: TenantId,
    prefix: &[u8],
    after: &[u8],
    limit: usize,
) -> Result<Vec<(RowKey, Row)>, Failure> {
    let (sql, from) = if after < prefix {
        (
            "SELECT revision, body, mac, id FROM row WHERE tbl = ?1 AND tenant = ?2 AND id >= ?3 ORDER BY id",
            prefix,
        )
    } else {
        (
            "SELECT revision, body, mac, id FROM row WHERE tbl = ?1 AND tenant = ?2 AND id > ?3 ORDER BY id",
            after,
        )
    };
    let mut select = connection.prepare_cached(sql)?;
    let mut rows = select.query(params![table as u8, tenant.0, from])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let id: Vec<u8> = row.get(3)?;
        if !id.starts_with(prefix) {
            break;
        }
        found.push((RowKey { table, tenant, id }, row_at(row, 0)?));
    }
    Ok(found)
}

/// `None` if the epoch after `epoch` is no longer kept.
pub(super) fn changes(
    connection: &Connection,
    epoch: u64,
    limit: usize,
) -> Result<Option<Vec<(u64, RowKey)>>, Failure> {
    let mut select =
        connection.prepare_cached("SELECT epoch, rows FROM change WHERE epoch > ?1 ORDER BY epoch")?;
    let mut rows = select.query([epoch.cast_signed()])?;
    let mut found = Vec::new();
    let mut last = epoch;
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let epoch = row.get::<_, i64>(0)?.cast_unsigned();
        if last.checked_add(1) != Some(epoch) {
            return if found.is_empty() {
                Ok(None)
            } else {
                Err(StoreError::Damaged("an epoch is missing among the changes").into())
            };
        }
        last = epoch;
        let mut keys = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        while !keys.is_empty() {
            let (key, rest) =
                split_key(keys).ok_or(StoreError::Damaged("a change does not name its rows"))?;
            found.push((epoch, key));
            keys = rest;
        }
    }
    Ok(Some(found))
}

/// The inverse of what the writer puts into `change`.
fn split_key(keys: &[u8]) -> Option<(RowKey, &[u8])> {
    let (&number, rest) = keys.split_first()?;
    let (tenant, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (id, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((RowKey::new(table(number).ok()?, TenantId(*tenant), id), rest))
}

pub(super) fn entries(connection: &Connection, index: u64, limit: usize) -> Result<Vec<Vec<u8>>, Failure> {
    let mut found = Vec::new();
    if limit > 0 {
        for_each_entry(connection, index, |entry| {
            found.push(entry.to_vec());
            found.len() < limit
        })?;
    }
    Ok(found)
}

/// Hands out the entries from `index` on until `each` returns false or the log ends; returns where it ended.
fn for_each_entry(
    connection: &Connection,
    index: u64,
    mut each: impl FnMut(&[u8]) -> bool,
) -> Result<u64, Failure> {
    let mut select = connection.prepare_cached(
        "SELECT first, count, entries FROM bundle \
         WHERE first >= (SELECT max(first) FROM bundle WHERE first <= ?1) ORDER BY first",
    )?;
    let mut rows = select.query([index.cast_signed()])?;
    let mut end = None;
    while let Some(row) = rows.next()? {
        let (first, count): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (first, count) = (first.cast_unsigned(), count.cast_unsigned());
        if end.is_some_and(|end| end != first) {
            return Err(StoreError::Damaged("entries are missing in the log").into());
        }
        let mut at = first;
        for entry in bundle_entries(row.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?) {
            let entry = entry.map_err(|_| StoreError::Damaged("a bundle ends inside an entry"))?;
            if at >= index && !each(entry) {
                return Ok(at + 1);
            }
            at += 1;
        }
        if at.checked_sub(first) != Some(count) {
            return Err(StoreError::Damaged("a bundle has too few or too many entries").into());
        }
        end = Some(at);
    }
    Ok(end.unwrap_or(0))
}

pub(super) fn tile(connection: &Connection, tile: TileId) -> Result<Vec<u8>, Failure> {
    let hashes: Option<Vec<u8>> = connection
        .prepare_cached("SELECT hashes FROM tile WHERE level = ?1 AND idx = ?2")?
        .query_row(params![tile.level, tile.index.cast_signed()], |row| row.get(0))
        .optional()?;
    let hashes = hashes.filter(|hashes| hashes.len() == TILE_BYTES);
    Ok(hashes.ok_or(StoreError::Damaged("a tile of the log is missing"))?)
}

pub(super) fn checkpoint(connection: &Connection) -> Result<Option<String>, Failure> {
    let mut select = connection.prepare_cached("SELECT note FROM checkpoint ORDER BY size DESC LIMIT 1")?;
    Ok(select.query_row([], |row| row.get(0)).optional()?)
}

pub(super) fn document(connection: &Connection, name: &str) -> Result<Option<Vec<u8>>, Failure> {
    let mut select = connection.prepare_cached("SELECT body FROM document WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

/// The number of entries, as the newest bundle has it.
pub(super) fn log_size(connection: &Connection) -> Result<u64, Failure> {
    let end: Option<i64> = connection
        .query_row("SELECT first + count FROM bundle ORDER BY first DESC LIMIT 1", [], |row| row.get(0))
        .optional()?;
    Ok(end.map_or(0, i64::cast_unsigned))
}

/// Rebuilds the right edge of the tree over the first `size` entries, from tiles and the last entries.
pub(super) fn tree(connection: &Connection, size: u64) -> Result<Tree, Failure> {
    let edge = usize::from(size.to_le_bytes()[0]);
    let first = size - edge as u64;
    let leaves: Vec<Hash> = entries(connection, first, edge)?.iter().map(|entry| leaf_hash(entry)).collect();
    let read = |id| tile(connection, id).map(|bytes| tile_hashes(&bytes).unwrap_or_default().to_vec());
    Tree::load(size, &leaves, read).map_err(|error| match error {
        TileError::Read(failure) => failure,
        TileError::Short { .. } | TileError::OutOfRange => {
            StoreError::Damaged("the newest entries of the log are missing").into()
        }
    })
}

/// Hashes all entries anew and compares every tile; `root` is the root at `size`.
pub(super) fn check(connection: &Connection, size: u64, root: &Hash) -> Result<(), Failure> {
    let sound: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        return Err(StoreError::Damaged("SQLite finds its file inconsistent; restore a backup").into());
    }
    let mut tree = Tree::empty();
    let mut outcome = Ok(());
    for_each_entry(connection, 0, |entry| {
        tree.append(leaf_hash(entry), &mut |id, hashes| {
            let same = tile(connection, id).map(|stored| stored == hashes.as_flattened());
            if outcome.is_ok() && !matches!(same, Ok(true)) {
                outcome = same.and(Err(StoreError::Damaged("a tile is not made of its entries").into()));
            }
        });
        outcome.is_ok() && tree.size() < size
    })?;
    outcome?;
    if tree.size() != size || tree.root() != *root {
        return Err(StoreError::Damaged("the log's entries do not have its root").into());
    }
    Ok(())
}
