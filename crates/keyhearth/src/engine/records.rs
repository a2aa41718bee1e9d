//! Reading rows as records, and making the writes that change them. Every row read is verified.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::TenantId;
use keyhearth_core::policy::{POLICIES_MAX, Policy};
use keyhearth_core::row::{Presence, Row, RowKey, Table};
use keyhearth_core::store::{Expect, Store, Write};
use minicbor::{Decode, Encode};
use parking_lot::RwLockReadGuard;

use super::ledger::Book;

/// About how much a page of records takes at most, in bytes of their bodies.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Rows that are read at a time for a page.
const STEP_ROWS: usize = 64;

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

/// Records by id, and where the next page starts if there may be one.
pub type Rows<T> = (Vec<T>, Option<Vec<u8>>);

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

    /// How many rows a tenant has in a table that is counted.
    pub fn count(&self, table: Table, tenant: TenantId) -> usize {
        self.book.presence.read().count(table, tenant)
    }

    /// Reads one record.
    pub fn read<T: for<'b> Decode<'b, ()>>(&self, key: &RowKey) -> Result<Option<Stored<T>>, Error> {
        self.view().read(key)
    }

    /// Reads a page of records of one table by id; damaged ones are left out. For lists and reports.
    pub fn scan<T: for<'b> Decode<'b, ()>>(
        &self,
        table: Table,
        tenant: TenantId,
        after: &[u8],
        limit: usize,
    ) -> Result<Rows<Stored<T>>, Error> {
        let (rows, next) = self.view().page(table, tenant, after, limit)?;
        Ok((rows.into_iter().flatten().collect(), next))
    }

    /// As [`Records::scan`], for who then deletes what the rows need: one damaged row fails the whole.
    pub fn scan_whole<T: for<'b> Decode<'b, ()>>(
        &self,
        table: Table,
        tenant: TenantId,
        after: &[u8],
        limit: usize,
    ) -> Result<Rows<Stored<T>>, Error> {
        let (rows, next) = self.view().page(table, tenant, after, limit)?;
        Ok((rows.into_iter().collect::<Result<_, _>>()?, next))
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

    /// The check that a record is still as it is; it conflicts if it was changed meanwhile.
    pub fn keep<T>(old: &Stored<T>) -> Write {
        let row = Row { revision: old.revision, body: Vec::new(), mac: old.mac };
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

    /// Reads a page of records: up to `limit`, fewer if they are large ([`PAGE_BYTES_MAX`]). The next page
    /// follows the last row that is stored, good or damaged: a damaged row does not end what is read page by page.
    pub fn page<T: for<'b> Decode<'b, ()>>(
        &self,
        table: Table,
        tenant: TenantId,
        after: &[u8],
        limit: usize,
    ) -> Result<Rows<Result<Stored<T>, Error>>, Error> {
        let (mut rows, mut bytes, mut after) = (Vec::new(), 0, after.to_vec());
        while rows.len() < limit {
            let step = STEP_ROWS.min(limit - rows.len());
            let found = self.records.store.scan(table, tenant, &[], &after, step)?;
            let ended = found.len() < step;
            for (key, row) in found {
                bytes += row.body.len();
                if bytes > PAGE_BYTES_MAX && !rows.is_empty() {
                    return Ok((rows, Some(after)));
                }
                after.clone_from(&key.id);
                rows.push(self.records.open(&self.presence, key, &row));
            }
            if ended {
                return Ok((rows, None));
            }
        }
        Ok((rows, Some(after)))
    }

    /// All policies of a tenant; fails as a whole if one is damaged or missing.
    pub fn policies(&self, tenant: TenantId) -> Result<Vec<Stored<Policy>>, Error> {
        let rows = self.scan(Table::Policy, tenant, &[], &[], POLICIES_MAX)?;
        if rows.len() != self.presence.count(Table::Policy, tenant) {
            tracing::error!(%tenant, "a stored policy is missing");
            return Err(Error::Damaged("policy"));
        }
        rows.into_iter().collect()
    }

    /// Whether `policies` are the tenant's policies still.
    pub fn has_policies(&self, tenant: TenantId, policies: &[Stored<Policy>]) -> bool {
        policies.len() == self.presence.count(Table::Policy, tenant)
            && policies.iter().all(|policy| self.presence.agrees(&policy.key, Some(&policy.mac)))
    }
}

fn encode<T: Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).expect("writing to memory does not fail")
}
