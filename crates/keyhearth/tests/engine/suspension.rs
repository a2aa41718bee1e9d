//! Keys that are suspended as a whole, and what a protocol may demand of a key.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::Result as Outcome;
use keyhearth_core::key::{Cryptoperiod, Key};
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, KeyChange, Request};
use keyhearth_core::state::{State, Switches};

use super::support::{House, Household, by_id};

fn wrong_state(state: State, operation: Operation) -> Error {
    Error::WrongState { state, operation }
}

fn states(key: &Key) -> Vec<State> {
    key.versions.iter().map(|version| version.state).collect()
}

fn suspend(key: &Key, version: Option<u32>) -> Ask {
    Ask::SuspendKey { key: by_id(key.id), version }
}

fn resume(key: &Key, version: Option<u32>) -> Ask {
    Ask::ResumeKey { key: by_id(key.id), version }
}

#[tokio::test]
async fn no_version_of_a_suspended_key_is_used() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let first = home.encrypt(key.id, "first").await.unwrap();
    home.manage(Ask::RotateKey { key: by_id(key.id) }).await.unwrap();
    let second = home.encrypt(key.id, "second").await.unwrap();

    let suspended = home.manage(suspend(&key, None)).await.unwrap();
    assert!(suspended.suspended.is_some());
    assert_eq!(states(&suspended), [State::Deactivated, State::Active], "its versions stay as they are");
    assert_eq!(home.newest(Operation::SuspendKey).await.detail.as_deref(), Some("key suspended"));
    let house = house.restart().await;
    let home = home.within(&house);
    assert_eq!(home.encrypt(key.id, "x").await, Err(wrong_state(State::Suspended, Operation::Encrypt)));
    for message in [&first, &second] {
        let refused = home.decrypt(key.id, message).await;
        assert_eq!(refused, Err(wrong_state(State::Suspended, Operation::Decrypt)));
    }
    let rotate = home.manage(Ask::RotateKey { key: by_id(key.id) }).await;
    assert_eq!(rotate, Err(wrong_state(State::Suspended, Operation::RotateKey)));
    assert_eq!(home.manage(suspend(&key, None)).await.unwrap().suspended, suspended.suspended, "again");

    assert_eq!(home.manage(resume(&key, None)).await.unwrap().suspended, None);
    assert_eq!(home.decrypt(key.id, &first).await.unwrap(), "first");
    assert_eq!(home.decrypt(key.id, &second).await.unwrap(), "second");
    home.manage(resume(&key, None)).await.unwrap();
    home.encrypt(key.id, "x").await.unwrap();
}

#[tokio::test]
async fn a_version_stays_suspended_when_its_key_is_resumed() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    home.manage(suspend(&key, Some(1))).await.unwrap();
    home.manage(suspend(&key, None)).await.unwrap();
    assert_eq!(states(&home.manage(resume(&key, None)).await.unwrap()), [State::Suspended]);
    let refused = home.manage(resume(&key, None)).await;
    assert_eq!(
        refused,
        Err(wrong_state(State::Suspended, Operation::ResumeKey)),
        "its version is not active"
    );
    assert!(home.encrypt(key.id, "x").await.is_err());
    home.manage(resume(&key, Some(1))).await.unwrap();
    home.encrypt(key.id, "x").await.unwrap();
}

#[tokio::test]
async fn the_switch_for_suspended_versions_is_for_suspended_keys_too() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let message = home.encrypt(key.id, "text").await.unwrap();
    home.manage(suspend(&key, None)).await.unwrap();
    let switches = Switches { process_when_suspended: true, ..Switches::default() };
    let change = KeyChange { switches: Some(switches), ..KeyChange::default() };
    home.manage(Ask::UpdateKey { key: by_id(key.id), change }).await.unwrap();
    assert_eq!(home.decrypt(key.id, &message).await.unwrap(), "text");
    assert_eq!(home.encrypt(key.id, "x").await, Err(wrong_state(State::Suspended, Operation::Encrypt)));
}

#[tokio::test]
async fn who_may_update_a_key_does_not_decide_when_it_is_used() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let clerk = home.issue("clerk", &[]).await;
    let permit = async |actions: &str| {
        let text = format!(
            r#"permit (principal == Keyhearth::Principal::"{}", action in [{actions}], resource);"#,
            clerk.principal
        );
        home.ask(&home.admin, Ask::PutPolicy { name: "clerk".parse().unwrap(), text }).await.unwrap();
    };
    let update =
        async |change| home.ask(&clerk, Ask::UpdateKey { key: by_id(key.id), change }).await.map(drop);
    let kept = || KeyChange {
        description: Some("d".to_owned()),
        switches: Some(Switches::default()),
        cryptoperiod: Some(Cryptoperiod::default()),
        ..KeyChange::default()
    };
    let switches = Switches { process_when_suspended: true, ..Switches::default() };
    let cryptoperiod = Cryptoperiod { process_days: Some(9), ..Cryptoperiod::default() };
    let changes = || {
        [
            KeyChange { switches: Some(switches), ..KeyChange::default() },
            KeyChange { cryptoperiod: Some(cryptoperiod), ..KeyChange::default() },
        ]
    };
    let names =
        ["update-key", "deactivate-key", "resume-key"].map(|name| format!("Keyhearth::Action::\"{name}\""));
    for some in [&names[..1], &names[..2], &[names[0].clone(), names[2].clone()]] {
        permit(&some.join(", ")).await;
        update(kept()).await.expect("what stays as it is, is no change");
        for change in changes() {
            assert_eq!(update(change).await, Err(Error::Denied), "{some:?}");
        }
    }
    permit(&names.join(", ")).await;
    for change in changes() {
        update(change).await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_destruction_can_leave_the_key_suspended() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let schedule = Ask::ScheduleDestroy { key: by_id(key.id), days: 7 };
    home.manage(schedule).await.unwrap();
    for ask in [suspend(&key, None), resume(&key, None)] {
        assert!(matches!(home.manage(ask).await, Err(Error::WrongState { .. })), "not while it is ending");
    }
    let cancel = Ask::CancelDestroy { key: by_id(key.id), suspend: true };
    let cancelled = home.manage(cancel).await.unwrap();
    assert_eq!((cancelled.destroy_at, cancelled.suspended.is_some()), (None, true));
    assert_eq!(home.encrypt(key.id, "x").await, Err(wrong_state(State::Suspended, Operation::Encrypt)));
    home.manage(resume(&key, None)).await.unwrap();
    home.encrypt(key.id, "x").await.unwrap();

    let gone = home.aes().await;
    home.manage(Ask::DeactivateKey { key: by_id(gone.id), version: None }).await.unwrap();
    let destroy = Ask::DestroyKey { key: by_id(gone.id), version: 1, confirm: gone.id };
    home.ask(&home.custodian, destroy).await.unwrap();
    let refused = home.manage(suspend(&gone, None)).await;
    assert_eq!(refused, Err(wrong_state(State::Destroyed, Operation::SuspendKey)));
}

/// Asks with a demand that the key has a description, as the caller.
async fn demanding(
    home: &Household,
    caller: &Arc<keyhearth_core::principal::Caller>,
    ask: Ask,
) -> Result<(), Error> {
    let engine = home.engine();
    let demand: keyhearth_core::request::Demand = Arc::new(|key, _| match key.description.as_str() {
        "" => Err(Error::Unsupported("a key without a description")),
        _ => Ok(()),
    });
    let request = Request { demand: Some(demand), ..Request::new(engine.request_id(), ask) };
    engine.execute(caller, Arc::new(request)).await.map(drop)
}

#[tokio::test]
async fn what_a_protocol_demands_is_looked_at_after_the_decision() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    assert_eq!(demanding(&home, &home.user, suspend(&key, None)).await, Err(Error::Denied));
    let refused = demanding(&home, &home.key_admin, suspend(&key, None)).await;
    assert_eq!(refused, Err(Error::Unsupported("a key without a description")));
    let entry = home.newest(Operation::SuspendKey).await;
    assert_eq!(
        (entry.result, entry.error.as_deref(), entry.key),
        (Outcome::Failed, Some("unsupported"), Some(key.id))
    );
    home.encrypt(key.id, "x").await.unwrap();
    let change = KeyChange { description: Some("d".to_owned()), ..KeyChange::default() };
    home.manage(Ask::UpdateKey { key: by_id(key.id), change }).await.unwrap();
    demanding(&home, &home.key_admin, suspend(&key, None)).await.unwrap();
    assert!(home.encrypt(key.id, "x").await.is_err());
}
