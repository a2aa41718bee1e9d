//! The same creating request again gives the first answer, and makes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, NewGrant, Response};
use keyhearth_core::store::StoreError;
use keyhearth_crypto::algorithm::Algorithm;

use super::support::{Failing, House, Household, by_id, certificate_request, got, new_key, page, repeatably};

fn create() -> Ask {
    Ask::CreateKey(new_key(Algorithm::Aes256))
}

async fn count(home: &Household) -> usize {
    got!(home.ask(&home.user, Ask::ListKeys { page: page(100) }).await, Response::Keys { keys, .. } => keys.len())
}

#[tokio::test]
async fn a_repeated_request_gives_the_first_answer() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let again = async |ask, name| got!(repeatably(&home.engine(), &home.key_admin, ask, name).await, Response::Key(key) => key);
    let first = again(create(), ("a", 1)).await;
    assert_eq!(again(create(), ("a", 1)).await.id, first.id);
    assert_eq!(home.newest(Operation::CreateKey).await.detail.as_deref(), Some("repeated"));
    let other = repeatably(&home.engine(), &home.key_admin, create(), ("a", 2)).await;
    assert!(matches!(other, Err(Error::Conflict(_))), "another request under this name");
    let rotate = Ask::RotateKey { key: by_id(first.id) };
    let other = repeatably(&home.engine(), &home.key_admin, rotate, ("a", 1)).await;
    assert!(matches!(other, Err(Error::Conflict(_))), "another operation under this name");
    assert_ne!(again(create(), ("b", 1)).await.id, first.id);
    assert_eq!(count(&home).await, 2);

    for _ in 0..2 {
        let rotated = again(Ask::RotateKey { key: by_id(first.id) }, ("r", 1)).await;
        assert_eq!(rotated.versions.len(), 2);
    }
    let house = house.restart().await;
    let home = home.within(&house);
    let after = repeatably(&home.engine(), &home.key_admin, create(), ("a", 1)).await;
    assert_eq!(got!(after, Response::Key(key) => key).id, first.id);
    for name in ["", &"x".repeat(129)] {
        assert!(repeatably(&home.engine(), &home.key_admin, create(), (name, 1)).await.is_err());
    }
}

#[tokio::test]
async fn names_of_requests_are_each_callers_own() {
    let house = House::new().await;
    let (one, two) = (house.tenant("one").await, house.tenant("two").await);
    let first = repeatably(&one.engine(), &one.key_admin, create(), ("a", 1)).await;
    let second = repeatably(&two.engine(), &two.key_admin, create(), ("a", 1)).await;
    let id = |result| got!(result, Response::Key(key) => key).id;
    assert_ne!(id(first), id(second));
}

#[tokio::test]
async fn grants_and_identities_are_made_once() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let grantee = home.issue("a", &[]).await.principal;
    let grant = || Ask::CreateGrant(NewGrant::new(by_id(key), grantee, vec![Operation::Encrypt]));
    let mut grants = Vec::new();
    for _ in 0..2 {
        grants.push(got!(repeatably(&home.engine(), &home.user, grant(), ("g", 1)).await, Response::Grant(grant) => grant.id));
    }
    assert_eq!(grants[0], grants[1]);
    let request = certificate_request("b");
    let mut made = Vec::new();
    for _ in 0..2 {
        let issue = Ask::IssueIdentity {
            name: "b".parse().unwrap(),
            roles: Vec::new(),
            request: request.clone(),
            days: None,
        };
        made.push(got!(repeatably(&home.engine(), &home.admin, issue, ("i", 1)).await,
            Response::Identity { principal, certificate, .. } => (principal.id, certificate)));
    }
    assert_eq!(made[0], made[1]);
}

#[tokio::test]
async fn tenants_and_access_keys_are_made_once() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let name = |text: &str| text.parse().unwrap();
    let request = certificate_request("boss");
    let mut tenants = Vec::new();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let create = Ask::CreateTenant { name: name("two"), admin: name("boss"), request: request.clone() };
        tenants.push(got!(repeatably(&house.engine, &house.operator, create, ("t", 1)).await,
            Response::Tenant { tenant, admin, certificate, .. } => (tenant.id, admin.id, certificate)));
        let create = Ask::CreateAccessKey { identity: home.user.principal, import: None, minutes: None };
        keys.push(got!(repeatably(&home.engine(), &home.admin, create, ("k", 1)).await,
            Response::AccessKey { id, secret, .. } => (id, secret)));
    }
    assert_eq!(tenants[0], tenants[1]);
    assert_eq!(keys[0], keys[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_duplicates_make_one_key() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    for round in 1..=20 {
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (engine, caller) = (home.engine(), Arc::clone(&home.key_admin));
                tokio::spawn(
                    async move { repeatably(&engine, &caller, create(), (&round.to_string(), 1)).await },
                )
            })
            .collect();
        let mut ids = BTreeSet::new();
        for task in tasks {
            ids.insert(got!(task.await.unwrap(), Response::Key(key) => key).id);
        }
        assert_eq!((ids.len(), count(&home).await), (1, round));
    }
}

/// A crash before the commit leaves nothing; one after it leaves the key, and the repeated request finds it.
#[tokio::test]
async fn a_request_repeated_after_a_crash_makes_one_key() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let closed = house.close().await;
    let mut writes_left = None;
    let failing = closed.open_over(|store| {
        let (store, left) = Failing::new(store, StoreError::Failed("test"));
        writes_left = Some(left);
        Arc::new(store)
    });
    let house = failing.await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    writes_left.unwrap().store(0, std::sync::atomic::Ordering::SeqCst);
    assert!(repeatably(&home.engine(), &home.key_admin, create(), ("a", 1)).await.is_err());
    let house = house.restart().await;
    let home = home.within(&house);
    assert_eq!(count(&home).await, 0);

    // Dropped while the commit is under way: the reply is lost, the key may be there.
    let engine = home.engine();
    let lost = repeatably(&engine, &home.key_admin, create(), ("b", 1));
    let _ = tokio::time::timeout(std::time::Duration::from_millis(1), lost).await;
    let first =
        got!(repeatably(&engine, &home.key_admin, create(), ("b", 1)).await, Response::Key(key) => key.id);
    let second =
        got!(repeatably(&engine, &home.key_admin, create(), ("b", 1)).await, Response::Key(key) => key.id);
    assert_eq!((first, count(&home).await), (second, 1));
}
