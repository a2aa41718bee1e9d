//! What dates bring about by themselves.

use std::sync::Arc;
use std::time::Duration;

use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::key::{Key, Origin, Rotation, VERSIONS_MAX};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::Ask;
use keyhearth_core::state::State;
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::algorithm::Algorithm;

use super::support::{House, Household, by_id, new_key};

/// Runs the schedule until it has done something to the key, and gives the key then; panics if it never does.
pub async fn when_due(house: &House, home: &Household, id: KeyId) -> Key {
    let engine = Arc::clone(&house.engine);
    let schedule = tokio::spawn(async move { engine.run_schedule().await });
    for _ in 0..200 {
        let entries = home.entries().await;
        let found = entries.iter().find(|(_, entry)| entry.operation() == Some(Operation::DateReached));
        if let Some((_, entry)) = found {
            schedule.abort();
            let _ = schedule.await;
            assert_eq!((entry.key, entry.actor, &entry.by), (Some(id), None, &vec!["server".to_owned()]));
            return home.manage(Ask::DescribeKey { key: by_id(id) }).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the date brought nothing");
}

/// A key as it would be if its dates had been set long ago.
async fn with_dates(change: impl FnOnce(&mut Key)) -> (House, Household, Key) {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let closed = house.close().await;
    closed.rewrite_key(home.id, key.id, Time::from_unix_ms(1), change);
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    (house, home, key)
}

const PAST: Time = Time::from_unix_ms(1_000);

#[tokio::test]
async fn a_scheduled_destruction_happens() {
    let (house, home, key) = with_dates(|key| key.destroy_at = Some(PAST)).await;
    assert_eq!(when_due(&house, &home, key.id).await.versions[0].state, State::Destroyed);
    let closed = house.close().await;
    let left = "SELECT count(*) FROM row WHERE tbl = 2";
    assert_eq!(closed.database().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn a_due_rotation_happens_and_the_next_is_set() {
    let (house, home, key) =
        with_dates(|key| key.rotation = Some(Rotation { every_days: 30, next: PAST })).await;
    let message = home.encrypt(key.id, "text").await.unwrap();
    let rotated = when_due(&house, &home, key.id).await;
    assert_eq!(home.decrypt(key.id, &message).await.unwrap(), "text");
    assert_eq!(rotated.primary, 2);
    assert!(rotated.rotation.unwrap().next > house.engine.now().latest);
    assert_eq!(rotated.versions.len(), 2, "once");
}

#[tokio::test]
async fn a_suspended_key_is_rotated_when_it_is_resumed() {
    let (house, home, key) = with_dates(|key| {
        key.rotation = Some(Rotation { every_days: 30, next: PAST });
        key.suspended = Some(PAST);
    })
    .await;
    let resumed = home.manage(Ask::ResumeKey { key: by_id(key.id), version: None }).await.unwrap();
    assert_eq!(resumed.versions.len(), 1);
    let rotated = when_due(&house, &home, key.id).await;
    assert_eq!(rotated.versions.iter().map(|version| version.automatic).collect::<Vec<_>>(), [false, true]);
    let again = home.manage(Ask::RotateKey { key: by_id(key.id) }).await.unwrap();
    assert_eq!(again.versions.last().map(|version| version.automatic), Some(false), "somebody asked for it");
}

#[tokio::test]
async fn a_due_rotation_of_an_imported_key_asks_for_material_once() {
    let (house, home, key) = with_dates(|key| {
        key.origin = Origin::Imported;
        key.rotation = Some(Rotation { every_days: 30, next: PAST });
    })
    .await;
    let rotated = when_due(&house, &home, key.id).await;
    assert_eq!((rotated.primary, rotated.versions.len()), (1, 2));
    assert!(!rotated.versions[1].has_material);
    assert!(rotated.rotation.unwrap().next > house.engine.now().latest.plus_days(29));
}

#[tokio::test]
async fn a_key_with_the_most_versions_is_destroyed_in_one_short_entry() {
    let (house, home, key) = with_dates(|key| {
        key.destroy_at = Some(PAST);
        for _ in 1..VERSIONS_MAX {
            key.add_version(Now::exactly(PAST), None, false).unwrap();
        }
    })
    .await;
    let destroyed = when_due(&house, &home, key.id).await;
    assert!(destroyed.versions.iter().all(|version| version.state == State::Destroyed));
    let detail = home.newest(Operation::DateReached).await.detail;
    assert_eq!(detail.as_deref(), Some("4096 versions from 1 to 4096 destroyed"));
}

#[tokio::test]
async fn the_end_of_protecting_is_obeyed_before_it_is_written_down() {
    let (house, home, key) = with_dates(|key| key.versions[0].protect_end = Some(PAST)).await;
    assert!(home.encrypt(key.id, "x").await.is_err());
    assert_eq!(when_due(&house, &home, key.id).await.versions[0].state, State::Deactivated);
}

#[tokio::test]
async fn ended_material_is_not_used_before_it_is_deleted() {
    let (house, home, key) = with_dates(|key| {
        key.origin = Origin::Imported;
        (key.versions[0].expires, key.versions[0].check) = (Some(PAST), Some([7; 32]));
    })
    .await;
    let refused = Error::WrongState { state: State::PreActive, operation: Operation::Encrypt };
    assert_eq!(home.encrypt(key.id, "x").await, Err(refused));
    let ended = when_due(&house, &home, key.id).await;
    assert_eq!((ended.versions[0].has_material, ended.versions[0].check), (false, Some([7; 32])));
    let closed = house.close().await;
    let left = "SELECT count(*) FROM row WHERE tbl = 2";
    assert_eq!(closed.database().query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
}

#[tokio::test]
async fn a_date_set_while_the_server_runs_is_noticed() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut new = new_key(Algorithm::Aes256);
    new.activation = Some(house.engine.now().latest.plus_ms(8_000));
    let key = home.create(new).await;
    assert_eq!(key.versions[0].state, State::PreActive);
    assert!(home.encrypt(key.id, "x").await.is_err());
    assert_eq!(when_due(&house, &home, key.id).await.versions[0].state, State::Active);
    home.encrypt(key.id, "x").await.unwrap();
}

/// The newest entry is ten days ahead: the clock is not believed, so no date is carried out.
#[tokio::test]
async fn dates_wait_while_the_clock_is_behind_the_log() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let ahead = house.engine.now().latest.plus_days(10);
    let closed = house.close().await;
    closed.rewrite_key(home.id, key.id, ahead, |key| key.destroy_at = Some(ahead));
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    assert!(!house.engine.status().unwrap().clock_steady);
    let engine = Arc::clone(&house.engine);
    let schedule = tokio::spawn(async move { engine.run_schedule().await });
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    schedule.abort();
    let _ = schedule.await;
    let still = home.manage(Ask::DescribeKey { key: by_id(key.id) }).await.unwrap();
    assert_ne!(still.versions[0].state, State::Destroyed);
    let alarms =
        house.close().await.log().into_iter().filter(|entry| entry.operation() == Some(Operation::Alarm));
    assert_eq!(
        alarms.filter(|alarm| alarm.detail.as_ref().is_some_and(|text| text.contains("clock"))).count(),
        1
    );
}
