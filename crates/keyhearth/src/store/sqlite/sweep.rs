//! Visiting all rows from several threads.

use keyhearth_core::id::TenantId;
use keyhearth_core::row::{Row, RowKey};
use keyhearth_core::store::StoreError;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, params};

use super::failure::Failure;
use super::reader::{Readers, row_at, table};

/// Rows a thread takes at a time.
const RANGE_ROWS: i64 = 4096;

/// A row's place as stored. The one before all rows has an empty id.
#[derive(Clone)]
struct Place {
    table: u8,
    tenant: [u8; 16],
    id: Vec<u8>,
}

/// How far the rows have been handed out; `None` when all are.
type Frontier = Mutex<Option<Place>>;

/// Stepping over keys is much cheaper than reading rows, so the threads take turns to measure out the
/// next range and read it side by side: however keys and tenants are distributed, all are busy.
pub(super) fn visit_all(
    readers: &Readers,
    visit: &(dyn Fn(RowKey, Row) -> Result<(), StoreError> + Sync),
) -> Result<(), StoreError> {
    let frontier = Mutex::new(Some(Place { table: 0, tenant: [0; 16], id: Vec::new() }));
    let work = || {
        let done = readers.with(|connection| ranges(connection, &frontier, visit));
        if done.is_err() {
            *frontier.lock() = None;
        }
        Ok(done?)
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..readers.len()).map(|_| scope.spawn(work)).collect();
        let own = work();
        others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .fold(own, Result::and)
    })
}

fn ranges(
    connection: &Connection,
    frontier: &Frontier,
    visit: &(dyn Fn(RowKey, Row) -> Result<(), StoreError> + Sync),
) -> Result<(), Failure> {
    while let Some((after, end)) = take_range(connection, frontier)? {
        // Beyond the last table there are no rows.
        let end = end.unwrap_or(Place { table: u8::MAX, tenant: [0; 16], id: Vec::new() });
        let mut select = connection.prepare_cached(
            "SELECT tbl, tenant, id, revision, body, mac FROM row \
             WHERE (tbl, tenant, id) > (?1, ?2, ?3) AND (tbl, tenant, id) <= (?4, ?5, ?6)",
        )?;
        let mut rows =
            select.query(params![after.table, after.tenant, after.id, end.table, end.tenant, end.id])?;
        while let Some(row) = rows.next()? {
            let key = RowKey { table: table(row.get(0)?)?, tenant: TenantId(row.get(1)?), id: row.get(2)? };
            visit(key, row_at(row, 3)?)?;
        }
    }
    Ok(())
}

/// The next range, from after its first place up to and including its second, or to the end.
fn take_range(
    connection: &Connection,
    frontier: &Frontier,
) -> Result<Option<(Place, Option<Place>)>, Failure> {
    let mut frontier = frontier.lock();
    let Some(after) = frontier.take() else { return Ok(None) };
    let end = connection
        .prepare_cached(
            "SELECT tbl, tenant, id FROM row WHERE (tbl, tenant, id) > (?1, ?2, ?3) \
             ORDER BY tbl, tenant, id LIMIT 1 OFFSET ?4",
        )?
        .query_row(params![after.table, after.tenant, after.id, RANGE_ROWS - 1], |row| {
            Ok(Place { table: row.get(0)?, tenant: row.get(1)?, id: row.get(2)? })
        })
        .optional()?;
    frontier.clone_from(&end);
    Ok(Some((after, end)))
}
