//! What is damaged, put back, missing or full, and the shares.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyhearth::engine::{Engine, UnsealWith};
use keyhearth::store::sqlite::SqliteStore;
use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, Rekey, Response, Secret, Status};
use keyhearth_core::row::Table;
use keyhearth_core::store::StoreError;
use keyhearth_core::time::Time;
use rusqlite::params;

use super::support::{Closed, Failing, HERE, House, Household, anchor, by_id, database, flip, got, page};

const ROWS: Error = Error::Damaged("database: its rows are not those of the last commit");
const OLDER: Error = Error::Damaged("database: its rows are older than the newest checkpoint");
const LOG: Error = Error::Damaged("log: it does not continue what the anchor states");

struct Scene {
    home: Household,
    /// Three keys with a message under each.
    keys: Vec<(KeyId, Vec<u8>)>,
    closed: Closed,
}

async fn scene() -> Scene {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        let key = home.aes().await.id;
        keys.push((key, home.encrypt(key, "text").await.unwrap()));
    }
    house.engine.log_stop().await;
    Scene { home, keys, closed: house.close().await }
}

async fn opened(closed: Closed) -> House {
    closed.open().await.map_err(|(_, error)| error).unwrap()
}

async fn refusal(closed: Closed) -> Error {
    match closed.open().await {
        Ok(_) => panic!("it opened"),
        Err((_, error)) => error,
    }
}

/// Runs SQL on the row of a key in one table.
fn alter(closed: &Closed, set: &str, table: Table, key: KeyId) {
    let sql = format!("UPDATE row SET {set} WHERE tbl = ?1 AND substr(id, 1, 16) = ?2");
    let changed = closed.database().execute(&sql, params![table as u8, key.0]).unwrap();
    assert_eq!(changed, 1);
}

#[tokio::test]
async fn an_altered_row_costs_one_key_and_raises_an_alarm() {
    let Scene { home, keys, closed } = scene().await;
    for (table, set) in [
        (Table::Material, flip("body")),
        (Table::Material, flip("mac")),
        (Table::Key, flip("body")),
        (Table::Key, flip("mac")),
        (Table::Key, "revision = revision + 1".to_owned()),
    ] {
        let copy = closed.copy();
        alter(&copy, &set, table, keys[0].0);
        let house = opened(copy).await;
        let home = home.within(&house);
        let damaged = home.decrypt(keys[0].0, &keys[0].1).await;
        assert!(matches!(damaged, Err(Error::Damaged(_))), "{table:?} {set}: {damaged:?}");
        assert!(home.encrypt(keys[0].0, "x").await.is_err());
        for (key, message) in &keys[1..] {
            assert_eq!(home.decrypt(*key, message).await.as_deref(), Ok("text"));
        }
        let fresh = home.aes().await.id;
        home.encrypt(fresh, "x").await.unwrap();
        let listed = got!(home.ask(&home.user, Ask::ListKeys { page: page(100) }).await, Response::Keys { keys, .. } => keys);
        assert_eq!(listed.len(), if table == Table::Key { 3 } else { 4 });
        let closed = house.close().await;
        let alarms = closed.log().into_iter().filter(|entry| entry.operation() == Some(Operation::Alarm));
        assert_eq!(alarms.count(), 1, "{table:?} {set}");
        // Changes made beside the damage are kept, and the damage is still what it was.
        let house = opened(closed).await;
        let home = home.within(&house);
        home.encrypt(fresh, "x").await.unwrap();
        assert!(home.decrypt(keys[0].0, &keys[0].1).await.is_err());
    }
}

#[tokio::test]
async fn rows_that_are_swapped_serve_neither_key() {
    let Scene { home, keys, closed } = scene().await;
    for table in [Table::Key, Table::Material] {
        let copy = closed.copy();
        let read = "SELECT revision, body, mac FROM row WHERE tbl = ?1 AND substr(id, 1, 16) = ?2";
        let row = |key: KeyId| -> (i64, Vec<u8>, Vec<u8>) {
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            copy.database().query_row(read, params![table as u8, key.0], row).unwrap()
        };
        let (first, second) = (row(keys[0].0), row(keys[1].0));
        for (key, (revision, body, mac)) in [(keys[0].0, second), (keys[1].0, first)] {
            let write =
                "UPDATE row SET revision = ?3, body = ?4, mac = ?5 WHERE tbl = ?1 AND substr(id, 1, 16) = ?2";
            copy.database().execute(write, params![table as u8, key.0, revision, body, mac]).unwrap();
        }
        let house = opened(copy).await;
        let home = home.within(&house);
        for (key, message) in &keys[..2] {
            assert!(matches!(home.decrypt(*key, message).await, Err(Error::Damaged(_))));
        }
        assert_eq!(home.decrypt(keys[2].0, &keys[2].1).await.unwrap(), "text");
    }
}

#[tokio::test]
async fn rows_put_back_taken_out_or_put_in_keep_it_sealed() {
    let Scene { home, keys, closed } = scene().await;
    let before = closed.copy();
    let house = opened(closed).await;
    home.within(&house).manage(Ask::SuspendKey { key: by_id(keys[0].0), version: None }).await.unwrap();
    let closed = house.close().await;

    let older = closed.copy();
    let old = before.path().join("data/keyhearth.db").display().to_string();
    let put_back = "UPDATE row SET (revision, body, mac) = (SELECT revision, body, mac FROM old.row AS o \
                    WHERE o.tbl = row.tbl AND o.id = row.id) WHERE tbl = 1 AND id = ?1";
    let database = older.database();
    database.execute("ATTACH ?1 AS old", [old]).unwrap();
    assert_eq!(database.execute(put_back, [keys[0].0.0]).unwrap(), 1);
    drop(database);
    assert_eq!(refusal(older).await, ROWS);

    for sql in [
        "DELETE FROM row WHERE tbl = 1 AND id = ?1",
        "DELETE FROM row WHERE tbl = 2 AND substr(id, 1, 16) = ?1",
        "INSERT INTO row SELECT tbl, tenant, zeroblob(16), revision, body, mac FROM row WHERE tbl = 1 AND id = ?1",
        "INSERT INTO row SELECT tbl, x'00112233445566778899aabbccddeeff', id, revision, body, mac FROM row \
         WHERE tbl = 1 AND id = ?1",
    ] {
        let copy = closed.copy();
        assert_eq!(copy.database().execute(sql, [keys[0].0.0]).unwrap(), 1, "{sql}");
        assert_eq!(refusal(copy).await, ROWS, "{sql}");
    }
    for sql in [
        "UPDATE head SET digest_seal = zeroblob(32)",
        "UPDATE head SET sealed_log_size = sealed_log_size - 1",
    ] {
        let copy = closed.copy();
        copy.database().execute(sql, []).unwrap();
        assert_eq!(refusal(copy).await, ROWS, "{sql}");
    }
    opened(closed).await;
}

#[tokio::test]
async fn an_older_database_is_refused_while_the_anchor_is_there() {
    let Scene { home, keys, closed } = scene().await;
    let yesterday = closed.copy();
    let house = opened(closed).await;
    let here = home.within(&house);
    here.manage(Ask::SuspendKey { key: by_id(keys[0].0), version: None }).await.unwrap();
    house.engine.log_stop().await;
    let today = house.close().await;

    let copy = |from: &Path, to: &Path| std::fs::copy(from, to).map(|_| ()).unwrap();
    let put_back = today.copy();
    copy(&database(yesterday.path()), &database(put_back.path()));
    assert_eq!(refusal(put_back).await, LOG);

    let missing = today.copy();
    std::fs::remove_file(anchor(missing.path())).unwrap();
    assert!(matches!(refusal(missing).await, Error::Damaged(what) if what.starts_with("anchor")));
    let garbage = today.copy();
    std::fs::write(anchor(garbage.path()), "no note").unwrap();
    assert_eq!(refusal(garbage).await, LOG);
    let other = scene().await.closed;
    let foreign = today.copy();
    copy(&anchor(other.path()), &anchor(foreign.path()));
    assert_eq!(refusal(foreign).await, LOG);

    // A log that went another way after the checkpoint that both have.
    let fork = opened(yesterday).await;
    for _ in 0..4 {
        home.within(&fork).encrypt(keys[1].0, "x").await.unwrap();
    }
    let fork = fork.close().await;
    copy(&anchor(today.path()), &anchor(fork.path()));
    assert_eq!(refusal(fork).await, LOG);

    let house = opened(today).await;
    assert!(home.within(&house).decrypt(keys[0].0, &keys[0].1).await.is_err(), "still suspended");
}

/// The rows' own seal does not know how far the log has gone: the checkpoint does.
#[tokio::test]
async fn older_rows_under_the_newest_log_are_refused() {
    let Scene { home, keys, closed } = scene().await;
    let before = closed.copy();
    let house = opened(closed).await;
    home.within(&house).manage(Ask::SuspendKey { key: by_id(keys[0].0), version: None }).await.unwrap();
    house.engine.log_stop().await;
    let closed = house.close().await;
    let put_back = closed.copy();
    let database = put_back.database();
    database
        .execute("ATTACH ?1 AS old", [super::support::database(before.path()).display().to_string()])
        .unwrap();
    for table in ["row", "head", "change"] {
        let sql = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM old.{table}");
        database.execute_batch(&sql).unwrap();
    }
    drop(database);
    assert_eq!(refusal(put_back).await, OLDER);
    opened(closed).await;
}

fn alarms(closed: &Closed, about: &str) -> usize {
    let says = |detail: &String| detail.contains(about);
    let alarms = closed.log().into_iter().filter(|entry| entry.operation() == Some(Operation::Alarm));
    alarms.filter(|alarm| alarm.detail.as_ref().is_some_and(says)).count()
}

/// What no checkpoint covers may be anybody's: it is said, and the clock does not believe it.
#[tokio::test]
async fn entries_that_no_checkpoint_covers_are_named_and_not_believed() {
    let Scene { home, keys, closed } = scene().await;
    let noted = |closed: &Closed| -> (i64, String) {
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        closed.database().query_row("SELECT size, note FROM checkpoint", [], row).unwrap()
    };
    let (size, note) = noted(&closed);
    let ahead = Time::MAX;
    closed.rewrite_key(home.id, keys[0].0, ahead, |_| ());
    closed.database().execute("DELETE FROM checkpoint", []).unwrap();
    closed.database().execute("INSERT INTO checkpoint VALUES (?1, ?2)", params![size, note]).unwrap();
    let house = opened(closed).await;
    assert!(house.engine.status().unwrap().clock_steady);
    assert!(house.engine.now().latest < ahead);
    house.engine.log_stop().await;
    let closed = house.close().await;
    assert_eq!(alarms(&closed, &format!("no checkpoint covered the entries {size} to {size} ")), 1);
    let closed = opened(closed).await.close().await;
    assert_eq!(alarms(&closed, "no checkpoint covered"), 1, "the next start finds all covered");
}

#[tokio::test]
async fn a_deployment_has_an_anchor_from_its_first_moment() {
    let closed = House::new().await.close().await;
    closed.database().execute("DELETE FROM checkpoint", []).unwrap();
    opened(closed.copy()).await;
    std::fs::remove_file(anchor(closed.path())).unwrap();
    assert!(matches!(refusal(closed).await, Error::Damaged(what) if what.starts_with("anchor")));
}

#[tokio::test]
async fn a_passphrase_is_tried_alone_and_to_the_end() {
    let (_directory, engine) = super::support::with_passphrase(b"a long passphrase").await;
    engine.seal();
    let size = engine.status().unwrap().log_size;
    let begun = Arc::clone(&engine);
    let dropped =
        tokio::spawn(async move { begun.unseal(UnsealWith::Passphrase(b"a wrong one"), HERE).await });
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    dropped.abort();
    let second = engine.unseal(UnsealWith::Passphrase(b"a long passphrase"), HERE).await;
    assert!(matches!(second, Err(Error::Unavailable { .. })), "{second:?}");
    while engine.status().unwrap().log_size < size.map(|size| size + 2) {
        tokio::task::yield_now().await;
    }
    let third = loop {
        match engine.unseal(UnsealWith::Passphrase(b"a long passphrase"), HERE).await {
            Err(Error::Unavailable { .. }) => tokio::task::yield_now().await,
            tried => break tried,
        }
    };
    assert!(!third.unwrap().sealed);
}

/// What was refused can be gone on with, on purpose; that is in the log, and from then on it is what is right.
#[tokio::test]
async fn what_is_found_is_accepted_only_on_purpose_and_once() {
    let Scene { home, keys, closed } = scene().await;
    let before = closed.copy();
    let house = opened(closed).await;
    home.within(&house).manage(Ask::SuspendKey { key: by_id(keys[0].0), version: None }).await.unwrap();
    home.within(&house).ask(&home.auditor, Ask::Checkpoint).await.unwrap();
    let today = house.close().await;
    let put_back = today.copy();
    std::fs::copy(database(before.path()), database(put_back.path())).unwrap();
    let cut = today.copy();
    cut.database().execute("DELETE FROM row WHERE tbl = 1 AND id = ?1", [keys[0].0.0]).unwrap();
    for (damaged, refused) in [(put_back, LOG), (cut, ROWS)] {
        let (damaged, error) = damaged.open().await.map(|_| panic!("it opened")).unwrap_err();
        assert_eq!(error, refused);
        let house = damaged.open_accepting().await.map_err(|(_, error)| error).unwrap();
        let here = home.within(&house);
        assert_eq!(here.decrypt(keys[1].0, &keys[1].1).await.unwrap(), "text");
        here.ask(&here.auditor, Ask::Checkpoint).await.unwrap();
        let closed = house.close().await;
        let accepted =
            closed.log().into_iter().filter(|entry| entry.operation() == Some(Operation::LogAccepted));
        assert_eq!(accepted.count(), 1);
        let house = opened(closed).await;
        assert_eq!(home.within(&house).decrypt(keys[1].0, &keys[1].1).await.unwrap(), "text");
    }
}

#[tokio::test]
async fn an_older_seal_record_is_refused() {
    let Scene { closed, .. } = scene().await;
    let house = opened(closed.copy()).await;
    let begin = Ask::Rekey(Rekey::Shares { threshold: 2, count: 3 });
    let shares = got!(house.ask(&house.operator, begin).await, Response::RekeyShares(shares) => shares);
    for (share, last) in shares.iter().zip([false, true]) {
        let prove = Ask::Rekey(Rekey::Prove(Secret::new(share.to_vec())));
        let done =
            got!(house.ask(&house.operator, prove).await, Response::RekeyProgress { done, .. } => done);
        assert_eq!(done, last);
    }
    let renewed = house.close().await;
    let old_shares = renewed.begin(|store| Arc::new(store));
    let refused = old_shares.unseal(UnsealWith::Share(renewed.shares()[0]), HERE).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "share", .. })), "{refused:?}");
    for share in &shares[1..] {
        old_shares.unseal(UnsealWith::Share(std::str::from_utf8(share).unwrap()), HERE).await.unwrap();
    }
    assert!(!old_shares.is_sealed(), "the new shares open");
    drop(old_shares);

    let older = renewed.copy();
    let read = "SELECT body FROM document WHERE name = 'seal'";
    let record: Vec<u8> = closed.database().query_row(read, [], |row| row.get(0)).unwrap();
    older.database().execute("UPDATE document SET body = ?1 WHERE name = 'seal'", [record]).unwrap();
    assert_eq!(refusal(older).await, Error::Damaged("seal record: an older one was put back"));
}

/// The last proof on a disk that fills up after 0, 1 and 2 writes: either the old shares open or the new ones, and
/// proving again ends it.
#[tokio::test]
async fn a_rekey_on_a_full_disk_loses_no_shares() {
    let Scene { closed, .. } = scene().await;
    for writes in 0..3 {
        let mut left = None;
        let failing = closed.copy().open_over(|store| {
            let (store, writes_left) = Failing::new(store, StoreError::Full);
            left = Some(writes_left);
            Arc::new(store)
        });
        let house = failing.await.map_err(|(_, error)| error).unwrap();
        let begin = Ask::Rekey(Rekey::Shares { threshold: 2, count: 2 });
        let shares = got!(house.ask(&house.operator, begin).await, Response::RekeyShares(shares) => shares);
        let prove = |share: usize| Ask::Rekey(Rekey::Prove(Secret::new(shares[share].to_vec())));
        house.ask(&house.operator, prove(0)).await.unwrap();
        let left = left.unwrap();
        left.store(writes, Ordering::SeqCst);
        let full = house.ask(&house.operator, prove(1)).await;
        assert!(matches!(full, Err(Error::Unavailable { .. })), "{writes}: {full:?}");
        let record = |directory: &Path| -> Vec<u8> {
            let read = "SELECT body FROM document WHERE name = 'seal'";
            let database = rusqlite::Connection::open(database(directory)).unwrap();
            database.query_row(read, [], |row| row.get(0)).unwrap()
        };
        let same = record(house.directory.path()) == record(closed.path());
        assert_eq!(same, writes < 2, "{writes}: nothing changes before its entry");
        left.store(i64::MAX, Ordering::SeqCst);
        let done = house.ask(&house.operator, prove(1)).await;
        assert!(got!(done, Response::RekeyProgress { done, .. } => done), "{writes}");
        let again = house.ask(&house.operator, prove(1)).await;
        assert!(matches!(again, Err(Error::Conflict(_))), "{writes}: the ceremony is over");
        let renewed = house.close().await;
        let engine = renewed.begin(|store| Arc::new(store));
        for share in shares.iter() {
            engine.unseal(UnsealWith::Share(std::str::from_utf8(share).unwrap()), HERE).await.unwrap();
        }
        assert!(!engine.is_sealed(), "{writes}: the new shares open");
    }
}

#[tokio::test]
async fn documents_of_another_deployment_or_altered_ones_are_refused() {
    let Scene { closed, .. } = scene().await;
    let other = scene().await.closed;
    let read = |name: &str| -> Vec<u8> {
        let read = "SELECT body FROM document WHERE name = ?1";
        other.database().query_row(read, [name], |row| row.get(0)).unwrap()
    };
    for name in ["ca", "seal"] {
        let foreign = closed.copy();
        let put = "UPDATE document SET body = ?2 WHERE name = ?1";
        assert_eq!(foreign.database().execute(put, params![name, read(name)]).unwrap(), 1);
        refusal(foreign).await;
        let altered = closed.copy();
        let alter = format!("UPDATE document SET {} WHERE name = ?1", flip("body"));
        assert_eq!(altered.database().execute(&alter, [name]).unwrap(), 1);
        refusal(altered).await;
        let missing = closed.copy();
        missing.database().execute("DELETE FROM document WHERE name = ?1", [name]).unwrap();
        refusal(missing).await;
    }
    opened(closed).await;
}

async fn give(engine: &Arc<Engine>, share: &str) -> Result<Status, Error> {
    engine.unseal(UnsealWith::Share(share), HERE).await
}

#[tokio::test]
async fn shares_are_checked_one_by_one() {
    let Scene { closed, .. } = scene().await;
    let foreign = scene().await.closed;
    let engine = closed.begin(|store| Arc::new(store));
    let [first, second, third] = closed.shares();
    let mut altered = third.to_owned().into_bytes();
    *altered.last_mut().unwrap() ^= 1;
    let altered = String::from_utf8(altered).unwrap();

    assert_eq!(give(&engine, first).await.unwrap().unseal_progress, Some((1, 2)));
    assert!(matches!(give(&engine, first).await, Err(Error::Conflict(_))));
    for bad in [foreign.shares()[1], altered.as_str(), "", "khshare"] {
        let refused = give(&engine, bad).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "share", .. })), "{bad}: {refused:?}");
    }
    assert_eq!(engine.status().unwrap().unseal_progress, Some((1, 2)), "the good one is kept");
    assert!(engine.unseal(UnsealWith::Passphrase(b"there is no passphrase"), HERE).await.is_err());
    assert!(!give(&engine, second).await.unwrap().sealed);
    assert!(matches!(give(&engine, second).await, Err(Error::Conflict(_))), "it is open");

    engine.seal();
    // Failures are counted by the minute: one of these rounds may meet the end of one.
    let mut is_refused = false;
    for _ in 0..3 {
        for _ in 0..20 {
            let _ = give(&engine, "khshare").await;
        }
        is_refused |= matches!(give(&engine, first).await, Err(Error::TooMany { .. }));
    }
    assert!(is_refused);
    drop(engine);
    let unseals = closed.log().into_iter().filter(|entry| entry.operation() == Some(Operation::Unseal));
    assert!(unseals.count() >= 20, "each try is logged");
}

#[tokio::test]
async fn a_sealed_server_does_nothing() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let message = home.encrypt(key, "text").await.unwrap();
    house.ask(&house.operator, Ask::Seal).await.unwrap();
    assert!(house.engine.is_sealed());
    assert_eq!(home.decrypt(key, &message).await, Err(Error::Sealed));
    assert_eq!(house.ask(&house.operator, Ask::ListTenants).await.unwrap_err(), Error::Sealed);
    assert_eq!(house.engine.authenticate(None, HERE).await.unwrap_err(), Error::Sealed);
    let house = house.restart().await;
    assert_eq!(home.within(&house).decrypt(key, &message).await.unwrap(), "text");
}

#[tokio::test]
async fn a_full_disk_refuses_and_leaves_nothing_half() {
    let mut left = None;
    let house = House::over(|store: SqliteStore| {
        let (store, writes_left) = Failing::new(store, StoreError::Full);
        left = Some(writes_left);
        Arc::new(store)
    });
    let house = house.await;
    let left = left.unwrap();
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let message = home.encrypt(key, "text").await.unwrap();
    let size = house.engine.status().unwrap().log_size;
    left.store(0, Ordering::SeqCst);
    let full = |error: Error| assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    full(home.decrypt(key, &message).await.unwrap_err());
    full(home.encrypt(key, "x").await.unwrap_err());
    full(
        home.manage(Ask::CreateKey(super::support::new_key(keyhearth_crypto::algorithm::Algorithm::Aes256)))
            .await
            .unwrap_err(),
    );
    full(home.manage(Ask::SuspendKey { key: by_id(key), version: None }).await.unwrap_err());
    full(home.ask(&home.auditor, encrypt_denied(key)).await.unwrap_err());
    full(house.engine.authenticate(None, HERE).await.unwrap_err());
    assert_eq!(house.engine.status().unwrap().log_size, size);
    left.store(i64::MAX, Ordering::SeqCst);
    assert_eq!(home.decrypt(key, &message).await.unwrap(), "text");
    home.encrypt(key, "it was not suspended").await.unwrap();
    let keys = got!(home.ask(&home.user, Ask::ListKeys { page: page(10) }).await, Response::Keys { keys, .. } => keys);
    assert_eq!(keys.len(), 1);
    let house = house.restart().await;
    assert_eq!(home.within(&house).decrypt(key, &message).await.unwrap(), "text");
}

fn encrypt_denied(key: KeyId) -> Ask {
    super::support::encrypt(key, "an auditor may not, and even the refusal needs room")
}
