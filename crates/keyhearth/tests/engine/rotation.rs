//! Rotation of the root and of tenant keys: crashes at every step, and requests that come in between.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use keyhearth_core::Error;
use keyhearth_core::id::KeyId;
use keyhearth_core::principal::Role;
use keyhearth_core::request::{Ask, ImportMechanism, Response};
use keyhearth_core::row::Table;
use keyhearth_core::store::StoreError;
use keyhearth_crypto::algorithm::Algorithm;

use super::support::{
    Closed, Failing, House, Household, ask, by_id, certificate_request, flip, got, held_back, issue, new_key,
    sign_in,
};

/// Keys of two tenants, with a message under each, and other things that tenant keys wrap.
struct Furnished {
    homes: [Household; 2],
    messages: Vec<(usize, KeyId, Vec<u8>)>,
}

async fn furnish(house: &House) -> Furnished {
    let homes = [house.tenant("one").await, house.tenant("two").await];
    let mut messages = Vec::new();
    for (at, home) in homes.iter().enumerate() {
        for _ in 0..3 {
            let key = home.aes().await.id;
            messages.push((at, key, home.encrypt(key, "before").await.unwrap()));
            home.manage(Ask::RotateKey { key: by_id(key) }).await.unwrap();
            messages.push((at, key, home.encrypt(key, "before").await.unwrap()));
        }
    }
    let access_key = Ask::CreateAccessKey { identity: homes[0].user.principal, import: None, minutes: None };
    homes[0].ask(&homes[0].admin, access_key).await.unwrap();
    let mut new = new_key(Algorithm::Aes256);
    new.import = true;
    let awaiting = homes[0].create(new).await.id;
    let parameters = Ask::ImportParameters {
        key: by_id(awaiting),
        mechanism: ImportMechanism::HpkeX25519,
        wrapping: None,
    };
    homes[0].ask(&homes[0].key_admin, parameters).await.unwrap();
    Furnished { homes, messages }
}

impl Furnished {
    async fn all_readable(&self, house: &House, when: &str) {
        for (at, key, message) in &self.messages {
            let home = self.homes[*at].within(house);
            assert_eq!(home.decrypt(*key, message).await.as_deref(), Ok("before"), "{when}");
        }
        for home in &self.homes {
            let home = home.within(house);
            let key = home.aes().await.id;
            home.encrypt(key, "new").await.unwrap();
        }
    }
}

fn rows(closed: &Closed, table: Table) -> i64 {
    let count = "SELECT count(*) FROM row WHERE tbl = ?1";
    closed.database().query_row(count, [table as u8], |row| row.get(0)).unwrap()
}

/// Runs `ask` with a store that fails after 0, 1, 2, … writes, until it succeeds; each time the deployment
/// is begun anew from what lies on the disk then. Returns how many crashes there were.
async fn crash_at_each_step(furnished: &Furnished, closed: Closed, ask: impl Fn() -> Ask) -> i64 {
    for writes in 0.. {
        let mut left = None;
        let failing = closed.copy().open_over(|store| {
            let (store, writes_left) = Failing::new(store, StoreError::Failed("the machine stopped"));
            left = Some(writes_left);
            std::sync::Arc::new(store)
        });
        let house = failing.await.map_err(|(_, error)| error).unwrap();
        left.unwrap().store(writes, Ordering::SeqCst);
        let result = house.ask(&house.operator, ask()).await;
        let when = format!("after {writes} writes");

        // It stops again while it is unsealed or goes on with what was left.
        let again = house.close().await.open_over(|store| {
            let (store, left) = Failing::new(store, StoreError::Failed("the machine stopped"));
            left.store(1 + writes % 5, Ordering::SeqCst);
            std::sync::Arc::new(store)
        });
        let closed = match again.await {
            Ok(house) => house.close().await,
            Err((closed, _)) => closed.released().await,
        };
        let house = closed.open().await.map_err(|(_, error)| error).unwrap();
        furnished.all_readable(&house, &when).await;
        // What was left is finished in the background; closing waits for it.
        let closed = house.close().await;
        assert_eq!(rows(&closed, Table::TenantKey), 2, "{when}: older tenant keys are gone");
        assert!(!closed.unsealed().is_rotating(), "{when}: the previous root is gone");
        let house = closed.open().await.map_err(|(_, error)| error).unwrap();
        furnished.all_readable(&house, &when).await;
        if result.is_ok() {
            return writes;
        }
    }
    unreachable!("the range has no end")
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_tenant_keys_rotation_loses_nothing() {
    let house = House::new().await;
    let furnished = furnish(&house).await;
    let tenant = furnished.homes[0].id;
    let closed = house.close().await;
    let steps = crash_at_each_step(&furnished, closed, || Ask::RotateTenantKey { tenant }).await;
    assert!(steps >= 5, "its own commit, material, access keys, imports, the old key: {steps}");
}

#[tokio::test]
async fn a_crash_at_any_step_of_the_roots_rotation_loses_nothing() {
    let house = House::new().await;
    let furnished = furnish(&house).await;
    let closed = house.close().await;
    let term = closed.unsealed().term();
    let steps = crash_at_each_step(&furnished, closed.copy(), || Ask::RotateRoot).await;
    assert!(steps >= 7, "its entry, twice record and row, two tenant keys: {steps}");
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let rewrapped = house.ask(&house.operator, Ask::RotateRoot).await;
    assert_eq!(got!(rewrapped, Response::Rotated { rows } => rows), 2);
    assert_eq!(house.close().await.unsealed().term(), term + 1);
}

#[tokio::test]
async fn a_key_made_while_its_tenants_key_rotates_is_not_lost() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    // One that is made on another thread: with an alias.
    let mut new = new_key(Algorithm::Aes256);
    new.alias = Some("late".parse().unwrap());
    let key = held_back(home.create(new), async {
        house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await.unwrap();
    });
    let key = key.await.id;
    let message = home.encrypt(key, "text").await.unwrap();
    let access_key = held_back(
        home.ask(
            &home.admin,
            Ask::CreateAccessKey { identity: home.user.principal, import: None, minutes: None },
        ),
        async {
            house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await.unwrap();
        },
    );
    access_key.await.unwrap();
    house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await.unwrap();
    let house = house.restart().await;
    assert_eq!(home.within(&house).decrypt(key, &message).await.unwrap(), "text");
}

#[tokio::test]
async fn a_tenant_made_while_the_root_rotates_is_not_lost() {
    let house = House::new().await;
    let create = Ask::CreateTenant {
        name: "late".parse().unwrap(),
        admin: "admin".parse().unwrap(),
        request: certificate_request("admin"),
    };
    let made = held_back(house.ask(&house.operator, create), async {
        house.ask(&house.operator, Ask::RotateRoot).await.unwrap();
    });
    let certificate = got!(made.await, Response::Tenant { certificate, .. } => certificate);
    let house = house.restart().await;
    let admin = sign_in(&house.engine, &certificate).await.unwrap();
    let key_admin = issue(&house.engine, &admin, "key-admin", &[Role::KeyAdmin]).await;
    house.ask(&key_admin, Ask::CreateKey(new_key(Algorithm::Aes256))).await.unwrap();
}

/// Whenever the client goes away, the rotation either does not begin or is finished.
#[tokio::test]
async fn a_rotation_goes_on_when_its_client_goes_away() {
    let house = House::new().await;
    let tenant = house.tenant("one").await.id;
    for polls in 1..6 {
        let mut rotating = Box::pin(house.ask(&house.operator, Ask::RotateTenantKey { tenant }));
        for _ in 0..polls {
            let polled = poll_fn(|context| Poll::Ready(rotating.as_mut().poll(context))).await;
            if polled.is_ready() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        drop(rotating);
        let mut rounds = 0;
        while house.ask(&house.operator, Ask::RotateTenantKey { tenant }).await.is_err() {
            rounds += 1;
            assert!(rounds < 500, "it is left unfinished after {polls} polls");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn a_rotation_begins_only_when_the_last_one_is_finished() {
    let house = House::new().await;
    let tenant = furnish(&house).await.homes[0].id;
    let mut left = None;
    let failing = house.close().await.open_over(|store| {
        let (store, writes_left) = Failing::new(store, StoreError::Full);
        left = Some(writes_left);
        Arc::new(store)
    });
    let house = failing.await.map_err(|(_, error)| error).unwrap();
    let left = left.unwrap();
    left.store(1, Ordering::SeqCst);
    house.ask(&house.operator, Ask::RotateTenantKey { tenant }).await.unwrap_err();
    left.store(i64::MAX, Ordering::SeqCst);
    let second = house.ask(&house.operator, Ask::RotateTenantKey { tenant }).await;
    assert!(matches!(second, Err(Error::Conflict(_))), "{second:?}");
    let house = house.restart().await.restart().await;
    house.ask(&house.operator, Ask::RotateTenantKey { tenant }).await.unwrap();
}

/// One damaged row among more than a step takes: what comes after it is not forgotten, and no key is deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_row_stops_a_rotation_before_anything_is_deleted() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let making = (0..300).map(|_| {
        let (engine, admin) = (Arc::clone(&house.engine), Arc::clone(&home.key_admin));
        tokio::spawn(async move { ask(&engine, &admin, Ask::CreateKey(new_key(Algorithm::Aes256))).await })
    });
    for made in making.collect::<Vec<_>>() {
        made.await.unwrap().unwrap();
    }
    let last = home.aes().await.id;
    let message = home.encrypt(last, "text").await.unwrap();
    let closed = house.close().await;
    let damage = format!(
        "UPDATE row SET {} WHERE tbl = ?1 AND id = (SELECT min(id) FROM row WHERE tbl = ?1)",
        flip("body")
    );
    assert_eq!(closed.database().execute(&damage, [Table::Material as u8]).unwrap(), 1);

    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let rotate = house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await;
    assert!(matches!(rotate, Err(Error::Damaged(_))), "{rotate:?}");
    // It is tried again when the server is opened, and stops again.
    let closed = house.restart().await.close().await;
    assert_eq!(rows(&closed, Table::TenantKey), 2, "the older key is still needed");
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    assert_eq!(home.within(&house).decrypt(last, &message).await.unwrap(), "text");
}

#[tokio::test]
async fn a_damaged_tenant_stops_the_roots_rotation_before_the_previous_root_is_gone() {
    let house = House::new().await;
    let furnished = furnish(&house).await;
    let closed = house.close().await;
    let damage = format!("UPDATE row SET {} WHERE tbl = ?1 AND id = ?2", flip("body"));
    let damaged = furnished.homes[0].id;
    assert_eq!(closed.database().execute(&damage, (Table::Tenant as u8, damaged.0)).unwrap(), 1);

    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let rotate = house.ask(&house.operator, Ask::RotateRoot).await;
    assert!(matches!(rotate, Err(Error::Damaged(_))), "{rotate:?}");
    let closed = house.restart().await.close().await;
    assert!(closed.unsealed().is_rotating(), "the damaged tenant's key needs the previous root");
}

#[tokio::test]
async fn only_a_tenant_has_a_key_to_rotate() {
    let house = House::new().await;
    let unknown = Ask::RotateTenantKey { tenant: keyhearth_core::id::TenantId([9; 16]) };
    assert_eq!(house.ask(&house.operator, unknown).await.unwrap_err(), Error::NotFound("tenant"));
}
