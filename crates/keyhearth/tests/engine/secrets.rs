//! Secrets: who may keep, read and shred them, and what becomes of them when keys change or rows are tampered with.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use keyhearth::engine::Settings;
use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, NewGrant, NewSecret, Response};
use keyhearth_core::row::Table;
use keyhearth_core::secret::{KeptSecret, SecretName};
use keyhearth_core::state::State;
use keyhearth_core::store::StoreError;
use keyhearth_crypto::algorithm::Algorithm;
use rusqlite::params;

use super::race::alone;
use super::support::{
    Closed, Failing, House, Household, because, by_id, flip, got, held_back, new_key, page, secret,
};

const FILE: &str = "file/d1eb8eebe25e358cdd75d27577c8571a";
const NONE: Error = Error::NotFound("secret");

fn name(text: &str) -> SecretName {
    text.parse().unwrap()
}

fn keep(key: KeyId, named: &str, value: &str) -> Ask {
    let value = NewSecret::Given(secret(value));
    Ask::KeepSecret { key: by_id(key), name: name(named), value, replace: false }
}

fn replace(key: KeyId, named: &str, value: &str) -> Ask {
    let value = NewSecret::Given(secret(value));
    Ask::KeepSecret { key: by_id(key), name: name(named), value, replace: true }
}

fn read(named: &str) -> Ask {
    Ask::ReadSecret { key: None, name: name(named), lease_seconds: 0 }
}

fn shred(named: &str) -> Ask {
    Ask::ShredSecret { key: None, name: name(named) }
}

async fn value_as(home: &Household, caller: &Arc<Caller>, ask: Ask) -> Result<String, Error> {
    let answer = home.ask(caller, ask).await?;
    let value = got!(Ok::<_, Error>(answer), Response::SecretValue { value, .. } => value);
    Ok(String::from_utf8(value.to_vec()).unwrap())
}

async fn value(home: &Household, named: &str) -> Result<String, Error> {
    value_as(home, &home.user, read(named)).await
}

async fn put(home: &Household, ask: Ask) -> Result<Response, Error> {
    home.ask(&home.user, ask).await
}

async fn listed(home: &Household) -> Vec<(String, KeyId, u32)> {
    let list = Ask::ListSecrets { page: page(100) };
    got!(home.ask(&home.auditor, list).await, Response::Secrets { secrets, next: None } =>
        secrets.into_iter().map(|(name, one)| (name.to_string(), one.key, one.version)).collect())
}

/// Lets key users shred, and so replace, what `condition` says.
async fn allow_shred(home: &Household, condition: &str) {
    let text = format!(
        r#"permit (principal in Keyhearth::Role::"key-user", action == Keyhearth::Action::"shred-secret",
           resource is Keyhearth::Key) when {{ {condition} }};"#
    );
    home.ask(&home.admin, Ask::PutPolicy { name: "shred".parse().unwrap(), text }).await.unwrap();
}

async fn scene() -> (House, Household, KeyId) {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    (house, home, key)
}

#[tokio::test]
async fn a_secret_is_kept_read_replaced_and_shredded() {
    let (_house, home, key) = scene().await;
    assert_eq!(value(&home, "restic").await, Err(NONE));
    put(&home, keep(key, "restic", "one")).await.unwrap();
    put(&home, keep(key, FILE, "two")).await.unwrap();
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("one"));
    assert_eq!(value(&home, FILE).await.as_deref(), Ok("two"));
    assert!(matches!(put(&home, keep(key, "restic", "x")).await, Err(Error::Conflict(_))));
    assert_eq!(put(&home, replace(key, "restic", "x")).await.unwrap_err(), Error::Denied, "that is a shred");
    assert_eq!(put(&home, shred("restic")).await.unwrap_err(), Error::Denied);
    assert_eq!(listed(&home).await, [(FILE.to_owned(), key, 1), ("restic".to_owned(), key, 1)]);

    allow_shred(&home, r#"context.context.hasTag("secret") && context.context.getTag("secret") == "restic""#)
        .await;
    put(&home, replace(key, "restic", "three")).await.unwrap();
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("three"));
    assert_eq!(home.newest(Operation::KeepSecret).await.detail.as_deref(), Some("restic replaced"));
    assert_eq!(put(&home, shred(FILE)).await.unwrap_err(), Error::Denied, "the policy is about another");
    put(&home, shred("restic")).await.unwrap();
    home.ask(&home.custodian, shred(FILE)).await.unwrap();
    let entry = home.newest(Operation::ShredSecret).await;
    assert_eq!((entry.key, entry.detail.as_deref()), (Some(key), Some(FILE)));
    for named in ["restic", FILE] {
        assert_eq!(value(&home, named).await, Err(NONE));
        assert_eq!(home.ask(&home.custodian, shred(named)).await.unwrap_err(), NONE);
    }
    assert_eq!(listed(&home).await, []);
    put(&home, keep(key, "restic", "four")).await.unwrap();
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("four"));

    for operation in [Operation::KeepSecret, Operation::ReadSecret] {
        let entry = home.newest(operation).await;
        assert_eq!((entry.key, entry.version), (Some(key), Some(1)));
        assert_eq!(entry.detail.as_deref(), Some("restic"));
    }
    let refused = home.newest(Operation::ShredSecret).await;
    assert_eq!((refused.key, refused.detail.as_deref()), (None, Some(FILE)), "there was none any more");
}

#[tokio::test]
async fn what_the_server_makes_is_text_and_never_the_same() {
    let (_house, home, key) = scene().await;
    let make = |named: &str, bytes| Ask::KeepSecret {
        key: by_id(key),
        name: name(named),
        value: NewSecret::Generated(bytes),
        replace: false,
    };
    let mut made = Vec::new();
    for (named, bytes, length) in [("a", 32, 43), ("b", 32, 43), ("c", 16, 22), ("d", 1_024, 1_366)] {
        put(&home, make(named, bytes)).await.unwrap();
        let text = value(&home, named).await.unwrap();
        assert!(text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'), "{text}");
        assert_eq!(text.len(), length);
        made.push(text);
    }
    assert_ne!(made[0], made[1]);
    for bytes in [0, 15, 1_025] {
        assert!(matches!(put(&home, make("e", bytes)).await, Err(Error::Invalid { field: "generate", .. })));
    }
    for (length, fits) in [(0, false), (1, true), (65_536, true), (65_537, false)] {
        let kept = put(&home, keep(key, &format!("n{length}"), &"x".repeat(length))).await;
        assert_eq!(kept.is_ok(), fits, "{length}");
    }
    let rsa = home.create(new_key(Algorithm::Rsa3072)).await.id;
    assert!(matches!(put(&home, keep(rsa, "f", "x")).await, Err(Error::Unsupported(_))));
}

#[tokio::test]
async fn only_who_may_use_the_key_with_the_name_reads() {
    let (house, home, key) = scene().await;
    put(&home, keep(key, "restic", "one")).await.unwrap();
    put(&home, keep(key, "borg", "two")).await.unwrap();
    for caller in [&home.admin, &home.key_admin, &home.auditor, &home.custodian] {
        for ask in [read("restic"), keep(key, "new", "x")] {
            assert_eq!(home.ask(caller, ask).await.unwrap_err(), Error::Denied);
        }
    }

    let guest = home.issue("guest", &[]).await;
    let context = [("secret".to_owned(), "restic".to_owned())].into();
    let grant =
        NewGrant { context, ..NewGrant::new(by_id(key), guest.principal, vec![Operation::ReadSecret]) };
    let grant = got!(put(&home, Ask::CreateGrant(grant)).await, Response::Grant(grant) => grant.id);
    assert_eq!(value_as(&home, &guest, read("restic")).await.as_deref(), Ok("one"));
    assert_eq!(value_as(&home, &guest, read("borg")).await, Err(Error::Denied));
    put(&home, Ask::RevokeGrant { key: by_id(key), grant }).await.unwrap();
    assert_eq!(value_as(&home, &guest, read("restic")).await, Err(Error::Denied));

    // Another tenant's names are its own, and another key of the same tenant holds nothing of this one.
    let other = house.tenant("two").await;
    for ask in [read("restic"), shred("restic")] {
        assert_eq!(other.ask(&other.user, ask).await.unwrap_err(), NONE);
    }
    assert_eq!(listed(&other).await, []);
    let theirs = other.aes().await.id;
    put(&other, keep(theirs, "restic", "theirs")).await.unwrap();
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("one"));
    let second = home.aes().await.id;
    home.manage(Ask::RotateKey { key: by_id(key) }).await.unwrap();
    put(&home, keep(key, "newer", "three")).await.unwrap();
    // Nor does the version of another key, which this one does not have, tell that there is one.
    for named in ["restic", "newer", "nothing"] {
        let elsewhere = Ask::ReadSecret { key: Some(by_id(second)), name: name(named), lease_seconds: 0 };
        assert_eq!(value_as(&home, &home.user, elsewhere).await, Err(NONE));
    }
    allow_shred(&home, "true").await;
    assert_eq!(put(&home, replace(second, "restic", "x")).await.unwrap_err(), NONE);
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn a_secret_follows_the_state_of_the_version_that_encrypted_it() {
    let (house, home, key) = scene().await;
    allow_shred(&home, "true").await;
    put(&home, keep(key, "old", "one")).await.unwrap();
    home.manage(Ask::RotateKey { key: by_id(key) }).await.unwrap();
    put(&home, keep(key, "new", "two")).await.unwrap();
    assert_eq!(listed(&home).await, [("new".to_owned(), key, 2), ("old".to_owned(), key, 1)]);
    assert_eq!(value(&home, "old").await.as_deref(), Ok("one"));

    home.manage(Ask::SuspendKey { key: by_id(key), version: None }).await.unwrap();
    assert!(matches!(value(&home, "new").await, Err(Error::WrongState { state: State::Suspended, .. })));
    home.manage(Ask::ResumeKey { key: by_id(key), version: None }).await.unwrap();

    let compromise = Ask::CompromiseKey { key: by_id(key), version: Some(1) };
    because(&house.engine, &home.key_admin, compromise, Some("seen outside")).await.unwrap();
    assert!(matches!(value(&home, "old").await, Err(Error::WrongState { state: State::Compromised, .. })));
    assert_eq!(value(&home, "new").await.as_deref(), Ok("two"));
    put(&home, replace(key, "old", "three")).await.unwrap();
    assert_eq!(value(&home, "old").await.as_deref(), Ok("three"), "it is of the new version now");

    put(&home, shred("old")).await.unwrap();
    home.manage(Ask::DeactivateKey { key: by_id(key), version: Some(2) }).await.unwrap();
    assert_eq!(value(&home, "new").await.as_deref(), Ok("two"));
    assert!(matches!(put(&home, keep(key, "x", "x")).await, Err(Error::WrongState { .. })));
    let destroy = Ask::DestroyKey { key: by_id(key), version: 2, confirm: key };
    home.ask(&home.custodian, destroy).await.unwrap();
    assert!(matches!(value(&home, "new").await, Err(Error::WrongState { state: State::Destroyed, .. })));
    put(&home, shred("new")).await.unwrap();
}

#[tokio::test]
async fn rotations_and_restarts_leave_secrets_readable() {
    let (house, home, key) = scene().await;
    put(&home, keep(key, "restic", "one")).await.unwrap();
    house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await.unwrap();
    house.ask(&house.operator, Ask::RotateRoot).await.unwrap();
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("one"));
    let house = house.restart().await;
    let home = home.within(&house);
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("one"));
}

/// Runs SQL on the row of a secret.
fn alter(closed: &Closed, set: &str, named: &str) {
    let sql = format!("UPDATE row SET {set} WHERE tbl = ?1 AND id = ?2");
    let changed = closed.database().execute(&sql, params![Table::Secret as u8, named.as_bytes()]).unwrap();
    assert_eq!(changed, 1);
}

#[tokio::test]
async fn an_altered_or_swapped_row_serves_nobody() {
    let (house, home, key) = scene().await;
    put(&home, keep(key, "a", "one")).await.unwrap();
    put(&home, keep(key, "b", "two")).await.unwrap();
    house.engine.log_stop().await;
    let closed = house.close().await;
    for set in [flip("body"), flip("mac"), "revision = revision + 1".to_owned()] {
        let copy = closed.copy();
        alter(&copy, &set, "a");
        let house = copy.open().await.map_err(|(_, error)| error).unwrap();
        let home = home.within(&house);
        assert!(matches!(value(&home, "a").await, Err(Error::Damaged(_))), "{set}");
        assert_eq!(value(&home, "b").await.as_deref(), Ok("two"));
    }

    let copy = closed.copy();
    let swap = "UPDATE row SET id = CASE id WHEN ?2 THEN x'ff' ELSE ?2 END WHERE tbl = ?1 AND id IN (?2, ?3)";
    let database = copy.database();
    let [a, b] = [b"a".as_slice(), b"b"];
    database.execute(swap, params![Table::Secret as u8, a, b]).unwrap();
    let back = "UPDATE row SET id = ?2 WHERE tbl = ?1 AND id = x'ff'";
    database.execute(back, params![Table::Secret as u8, b]).unwrap();
    drop(database);
    let house = copy.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    for named in ["a", "b"] {
        assert!(matches!(value(&home, named).await, Err(Error::Damaged(_))));
    }
}

#[tokio::test]
async fn a_shredded_secret_that_is_put_back_keeps_the_server_sealed() {
    let (house, home, key) = scene().await;
    put(&home, keep(key, "restic", "one")).await.unwrap();
    let before = house.close().await;
    let older = before.copy();
    let house = before.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    home.ask(&home.custodian, shred("restic")).await.unwrap();
    let closed = house.close().await;

    let copy = closed.copy();
    let database = copy.database();
    let old = older.path().join("data/keyhearth.db").display().to_string();
    database.execute("ATTACH ?1 AS old", [old]).unwrap();
    let put_back = "INSERT INTO row SELECT * FROM old.row WHERE tbl = ?1";
    assert_eq!(database.execute(put_back, [Table::Secret as u8]).unwrap(), 1);
    drop(database);
    let refused = copy.open().await.err().map(|(_, error)| error);
    assert_eq!(refused, Some(Error::Damaged("database: its rows are not those of the last commit")));
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    assert_eq!(value(&home.within(&house), "restic").await, Err(NONE));
}

#[tokio::test]
async fn what_is_kept_is_no_ciphertext_for_who_finds_it_in_a_backup() {
    let (house, home, key) = scene().await;
    put(&home, keep(key, "restic", "one")).await.unwrap();
    let closed = house.close().await;
    let body: Vec<u8> = closed
        .database()
        .query_row("SELECT body FROM row WHERE tbl = ?1", [Table::Secret as u8], |row| row.get(0))
        .unwrap();
    let kept: KeptSecret = minicbor::decode(&body).unwrap();
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let reserved =
        Error::Invalid { field: "context", rule: "names that begin with keyhearth: are the server's own" };
    for (context, refusal) in [
        (vec![pair("secret", "restic")], Error::NotAuthentic),
        (vec![pair("keyhearth:kept", ""), pair("secret", "restic")], reserved),
    ] {
        let (key, ciphertext) = (by_id(key), kept.ciphertext.clone());
        let ask = Ask::Decrypt {
            key,
            mechanism: None,
            version: None,
            iv: Vec::new(),
            context,
            ciphertext,
            lease_seconds: 0,
        };
        assert_eq!(put(&home, ask).await.unwrap_err(), refusal);
    }
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn a_crash_leaves_a_secret_whole_or_not_at_all() {
    let (house, home, key) = scene().await;
    let closed = house.close().await;
    let mut left = None;
    let failing = closed.copy().open_over(|store| {
        let (store, writes_left) = Failing::new(store, StoreError::Failed("the machine stopped"));
        left = Some(writes_left);
        Arc::new(store)
    });
    let house = failing.await.map_err(|(_, error)| error).unwrap();
    left.unwrap().store(0, Ordering::SeqCst);
    put(&home.within(&house), keep(key, "restic", "one")).await.unwrap_err();
    let house = house.restart().await;
    assert_eq!(value(&home.within(&house), "restic").await, Err(NONE), "before the commit");

    // It was committed, and the machine stops before anybody reads the answer.
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    drop(put(&home.within(&house), keep(key, "restic", "one")).await);
    let house = house.restart().await;
    let home = home.within(&house);
    assert!(matches!(put(&home, keep(key, "restic", "one")).await, Err(Error::Conflict(_))));
    assert_eq!(value(&home, "restic").await.as_deref(), Ok("one"), "after the commit");
}

#[test]
fn nothing_is_read_after_a_shred_returned() {
    alone(readings_of_a_shredded_secret());
}

async fn readings_of_a_shredded_secret() {
    let (_house, home, key) = scene().await;
    put(&home, keep(key, "restic", "one")).await.unwrap();
    let late = held_back(home.ask(&home.user, read("restic")), async {
        home.ask(&home.custodian, shred("restic")).await.unwrap();
    });
    assert_eq!(late.await.unwrap_err(), NONE);
}

#[tokio::test]
async fn a_tenant_keeps_so_many_secrets_and_no_more() {
    let (house, home, key) = scene().await;
    put(&home, keep(key, "one", "1")).await.unwrap();
    put(&home, keep(key, "two", "2")).await.unwrap();
    let two = |settings| Settings { secrets_per_tenant: 2, ..settings };
    let house = house.close().await.open_as(two).await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    let full = Error::TooLarge { field: "secrets", limit: 2 };
    assert_eq!(put(&home, keep(key, "three", "3")).await.unwrap_err(), full);
    assert!(full.next_step().contains("secrets_per_tenant"));
    assert!(matches!(put(&home, keep(key, "two", "2")).await, Err(Error::Conflict(_))));
    allow_shred(&home, "true").await;
    put(&home, replace(key, "two", "3")).await.unwrap();
    put(&home, shred("one")).await.unwrap();
    put(&home, keep(key, "three", "3")).await.unwrap();
    assert_eq!(put(&home, keep(key, "four", "4")).await.unwrap_err(), full);
    let other = house.tenant("other").await;
    put(&other, keep(other.aes().await.id, "one", "1")).await.unwrap();
}
