//! Reading rows as records, and making the writes that change them. Every row read is verified.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::TenantId;
use keyhearth_core::row::{Presence, Row, RowKey, Table};
use keyhearth_core::store::{Expect, Store, Write};
use minicbor::{Decode, Encode};
use parking_lot::RwLockReadGuard;

use super::ledger::Book;

/// Verified access to rows.
#[derive(Clone)]
pub struct Records {
    store: Arc<dyn Store>,
    book: Arc<Book>,
}

/// A record as it lies in the store.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// Where.
    pub key: RowKey,
    /// What.
    pub value: T,
    /// The row's revision.
    pub revision: u64,
    /// The row's MAC.
    pub mac: [u8; 32],
}

/// A view of the rows during which none of them changes.
pub struct View<'a> {
    records: &'a Records,
    presence: RwLockReadGuard<'a, Presence>,
}

impl Records {
    /// Access to the rows of `store` by `book`.
    pub fn new(store: Arc<dyn Store>, book: Arc<Book>) -> Self {
        Self { store, book }
    }

    /// Holds all rows still. Commits that change rows wait; keep it short.
    pub fn view(&self) -> View<'_> {
        View { records: self, presence: self.book.presence.read() }
    }

    /// Reads one record.
    pub fn read<T: for<'b> Decode<'b, ()>>(&self, key: &RowKey) -> Result<Option<Stored<T>>, Error> {
        self.view().read(key)
    }

    /// Reads records of one table by id; damaged ones are left out (see [`View::scan`]).
    pub fn scan<T: for<'b> Decode<'b, ()>>(
        &self,
        table: Table,
        tenant: TenantId,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<Stored<T>>, Error> {
        Ok(self.view().scan(table, tenant, prefix, after, limit)?.into_iter().flatten().collect())
    }

    /// The write that makes a new row; it conflicts if there is one.
    pub fn create<T: Encode<()>>(&self, key: RowKey, value: &T) -> Write {
        let row = self.book.auth.seal(&key, 1, encode(value));
        Write { key, expect: Expect::Absent, row: Some(row) }
    }

    /// The write that replaces a record; it conflicts if it was changed meanwhile.
    pub fn replace<T, U: Encode<()>>(&self, old: &Stored<T>, value: &U) -> Write {
        let row = self.book.auth.seal(&old.key, old.revision + 1, encode(value));
        Write { key: old.key.clone(), expect: Expect::Mac(old.mac), row: Some(row) }
    }

    /// The write that leaves a record as it is; it conflicts if it was changed meanwhile.
    pub fn keep<T: Encode<()>>(&self, old: &Stored<T>) -> Write {
        let row = self.book.auth.seal(&old.key, old.revision, encode(&old.value));
        Write { key: old.key.clone(), expect: Expect::Mac(old.mac), row: Some(row) }
    }

    /// The write that deletes a record; it conflicts if it was changed meanwhile.
    pub fn delete<T>(old: &Stored<T>) -> Write {
        Write { key: old.key.clone(), expect: Expect::Mac(old.mac), row: None }
    }

    /// Verifies and decodes a row.
    fn open<T: for<'b> Decode<'b, ()>>(
        &self,
        presence: &Presence,
        key: RowKey,
        row: &Row,
    ) -> Result<Stored<T>, Error> {
        if !presence.agrees(&key, Some(&row.mac)) || !self.book.auth.verify(&key, row) {
            tracing::error!(table = ?key.table, tenant = %key.tenant, "a stored row fails its integrity check");
            return Err(Error::Damaged("record"));
        }
        let value = minicbor::decode(&row.body).map_err(|_| Error::Damaged("record"))?;
        Ok(Stored { key, value, revision: row.revision, mac: row.mac })
    }
}

impl View<'_> {
    /// Reads one record.
    pub fn read<T: for<'b> Decode<'b, ()>>(&self, key: &RowKey) -> Result<Option<Stored<T>>, Error> {
        if self.presence.agrees(key, None) {
            return Ok(None);
        }
        let row = self.records.store.read(key)?.ok_or(Error::Damaged("record"))?;
        self.records.open(&self.presence, key.clone(), &row).map(Some)
    }

    /// Reads records of one table whose ids start with `prefix` and lie after `after`.
    pub fn scan<T: for<'b> Decode<'b, ()>>(
        &self,
        table: Table,
        tenant: TenantId,
        prefix: &[u8],
        after: &[u8],
        limit: usize,
    ) -> Result<Vec<Result<Stored<T>, Error>>, Error> {
        let rows = self.records.store.scan(table, tenant, prefix, after, limit)?;
        Ok(rows.into_iter().map(|(key, row)| self.records.open(&self.presence, key, &row)).collect())
    }
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to memory does not fail")
}
