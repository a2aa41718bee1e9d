//! Many at once: what has returned holds for everything that begins later.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use keyhearth::engine::{Engine, UnsealWith};
use keyhearth_core::Error;
use keyhearth_core::id::{Alias, KeyId, Name};
use keyhearth_core::key::Key;
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{NewKeyPolicy, THIS_KEY};
use keyhearth_core::principal::{Caller, Role};
use keyhearth_core::request::{Ask, KeyChange, KeyRef, NewGrant, Request, Response, Source};
use keyhearth_core::state::State;
use keyhearth_crypto::algorithm::Algorithm;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::access_keys::issue_access_key;
use super::support::{
    HERE, House, Household, ask, by_id, encrypt, got, held_back, new_key, role_change, source,
    with_passphrase,
};

/// Callers that encrypt without pause, and know whether the change they race with had returned before.
struct Flood {
    changed: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    before: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<usize>>,
}

impl Flood {
    fn begin(engine: &Arc<Engine>, caller: &Arc<Caller>, key: KeyId) -> Self {
        let (changed, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let before = Arc::new(AtomicUsize::new(0));
        let tasks = (0..16).map(|_| {
            let (engine, caller) = (Arc::clone(engine), Arc::clone(caller));
            let (changed, stop, before) = (Arc::clone(&changed), Arc::clone(&stop), Arc::clone(&before));
            tokio::spawn(async move {
                let mut too_late = 0;
                while !stop.load(Ordering::SeqCst) {
                    let had_changed = changed.load(Ordering::SeqCst);
                    match (ask(&engine, &caller, encrypt(key, "x")).await.is_ok(), had_changed) {
                        (true, true) => too_late += 1,
                        (true, false) => drop(before.fetch_add(1, Ordering::SeqCst)),
                        (false, _) => tokio::task::yield_now().await,
                    }
                }
                too_late
            })
        });
        let tasks = tasks.collect();
        Self { changed, stop, before, tasks }
    }

    /// Makes the change while the flood runs; nothing that began after it returned may succeed.
    async fn meets(self, change: impl Future<Output = Result<Response, Error>>) {
        while self.before.load(Ordering::SeqCst) < 50 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        change.await.unwrap();
        self.changed.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.stop.store(true, Ordering::SeqCst);
        for task in self.tasks {
            assert_eq!(task.await.unwrap(), 0, "something succeeded that began later");
        }
    }
}

async fn scene() -> (House, Household, KeyId) {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    (house, home, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_encrypted_after_a_suspension_returned() {
    let (house, home, key) = scene().await;
    for _ in 0..5 {
        let suspend = home.ask(&home.key_admin, Ask::SuspendKey { key: by_id(key), version: Some(1) });
        Flood::begin(&house.engine, &home.user, key).meets(suspend).await;
        home.manage(Ask::ResumeKey { key: by_id(key), version: Some(1) }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_encrypted_after_a_policy_a_role_an_identity_or_a_tenant_ended() {
    let (house, home, key) = scene().await;
    let text = r#"forbid (principal, action == Keyhearth::Action::"encrypt", resource);"#.to_owned();
    let put = home.ask(&home.admin, Ask::PutPolicy { name: "stop".parse().unwrap(), text });
    Flood::begin(&house.engine, &home.user, key).meets(put).await;
    home.ask(&home.admin, Ask::DeletePolicy { name: "stop".parse().unwrap() }).await.unwrap();

    let change = home.ask(&home.admin, role_change(home.user.principal, &[]));
    Flood::begin(&house.engine, &home.user, key).meets(change).await;

    let other = home.issue("other", &[Role::KeyUser]).await;
    let revoke = home.ask(&home.admin, Ask::RevokeIdentity { identity: other.principal });
    Flood::begin(&house.engine, &other, key).meets(revoke).await;

    let third = home.issue("third", &[Role::KeyUser]).await;
    let disable = house.ask(&house.operator, Ask::DisableTenant { tenant: home.id });
    Flood::begin(&house.engine, &third, key).meets(disable).await;
    house.ask(&house.operator, Ask::EnableTenant { tenant: home.id }).await.unwrap();

    let seal = house.ask(&house.operator, Ask::Seal);
    Flood::begin(&house.engine, &third, key).meets(seal).await;
}

#[test]
fn nothing_is_written_for_a_caller_an_access_key_or_a_tenant_that_ended_meanwhile() {
    alone(writes_of_who_ended());
}

async fn writes_of_who_ended() {
    let (house, home, key) = scene().await;
    let alias = |name: &str| Ask::SetAlias { key: by_id(key), alias: name.parse().unwrap() };
    let late = held_back(home.ask(&home.key_admin, alias("late")), async {
        let revoke = Ask::RevokeIdentity { identity: home.key_admin.principal };
        home.ask(&home.admin, revoke).await.unwrap();
    });
    assert_eq!(late.await.unwrap_err(), Error::Denied);

    let other = home.issue("other", &[Role::KeyAdmin]).await;
    let made = issue_access_key(&home, other.principal, None).await;
    let signer = house.engine.signer(&made.id, HERE).unwrap().authenticated.caller;
    let latest = held_back(home.ask(&signer, alias("latest")), async {
        home.ask(&home.admin, Ask::DisableAccessKey { id: made.id }).await.unwrap();
    });
    assert_eq!(latest.await.unwrap_err(), Error::Denied);

    let later = held_back(home.ask(&other, alias("later")), async {
        house.ask(&house.operator, Ask::DisableTenant { tenant: home.id }).await.unwrap();
    });
    later.await.unwrap_err();
    house.ask(&house.operator, Ask::EnableTenant { tenant: home.id }).await.unwrap();
    let answer = home.ask(&home.user, Ask::DescribeKey { key: by_id(key) }).await;
    assert!(got!(answer, Response::Key(key) => key.aliases).is_empty());
}

/// Others change the key between each look at it and what follows from that.
#[tokio::test(flavor = "multi_thread")]
async fn what_loses_every_race_may_come_again() {
    let (house, home, key) = scene().await;
    let change = move |text: &str| {
        let change = KeyChange { description: Some(text.to_owned()), ..KeyChange::default() };
        Ask::UpdateKey { key: by_id(key), change }
    };
    let (engine, caller) = (Arc::clone(&house.engine), Arc::clone(&home.key_admin));
    let meanwhile = move |_: &Key, _| {
        let changed = ask(&engine, &caller, change("another"));
        tokio::task::block_in_place(|| Handle::current().block_on(changed)).map(drop)
    };
    let request = Request::new(house.engine.request_id(), change("mine"));
    let request = Request { demand: Some(Arc::new(meanwhile)), ..request };
    let lost = house.engine.execute(&home.key_admin, Arc::new(request)).await;
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    home.manage(change("mine")).await.unwrap();
}

/// One thread for what blocks, so that work which is held back has not committed.
pub fn alone(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

#[test]
fn no_grant_outlives_the_right_that_was_taken_while_it_was_made() {
    alone(grants_of_who_lost_the_right());
}

async fn grants_of_who_lost_the_right() {
    let (_house, home, key) = scene().await;
    let (a, b) = (home.issue("a", &[]).await, home.issue("b", &[]).await);
    let text = |resource: &str| {
        let actions = r#"action in [Keyhearth::Action::"encrypt", Keyhearth::Action::"create-grant"]"#;
        let who = a.principal;
        format!(r#"permit (principal == Keyhearth::Principal::"{who}", {actions}, resource == {resource});"#)
    };
    let grant = || Ask::CreateGrant(NewGrant::new(by_id(key), b.principal, vec![Operation::Encrypt]));
    let own = |text: Option<String>| Ask::PutKeyPolicy {
        key: by_id(key),
        policy: NewKeyPolicy { text, ..NewKeyPolicy::default() },
    };
    let name = || "rights".parse().unwrap();
    let of_tenant = Ask::PutPolicy { name: name(), text: text(&format!("Keyhearth::Key::\"{key}\"")) };
    for (give, take) in
        [(of_tenant, Ask::DeletePolicy { name: name() }), (own(Some(text(THIS_KEY))), own(None))]
    {
        home.ask(&home.admin, give).await.unwrap();
        home.encrypt_as(&a, key, "x").await.expect("what is decided from is ready");
        let late = held_back(home.ask(&a, grant()), async {
            home.ask(&home.admin, take).await.unwrap();
        });
        assert_eq!(late.await.unwrap_err(), Error::Denied);
        assert_eq!(home.encrypt_as(&b, key, "x").await, Err(Error::Denied));
    }
}

#[test]
fn a_result_is_released_by_the_right_to_the_key_that_it_is_of() {
    alone(results_of_an_alias_that_moved());
}

async fn results_of_an_alias_that_moved() {
    let (_house, home, key) = scene().await;
    let other = home.aes().await.id;
    let message = home.encrypt(key, "text").await.unwrap();
    let alias: Alias = "orders".parse().unwrap();
    let named = || KeyRef::Alias(alias.clone());
    let rewrap = |to: KeyRef, from: KeyRef, of: KeyId, ciphertext: &[u8]| {
        let source = Box::new(Source { key: Some(from), ..source(of, ciphertext) });
        Ask::Rewrap { key: to, mechanism: None, context: Vec::new(), source }
    };
    let stop: Name = "stop".parse().unwrap();
    home.manage(Ask::SetAlias { key: by_id(key), alias: alias.clone() }).await.unwrap();
    let theirs = home.encrypt(other, "text").await.unwrap();
    for ask in [rewrap(named(), by_id(other), other, &theirs), rewrap(by_id(other), named(), key, &message)] {
        // Both keys and the policies are ready: only the act itself waits.
        home.encrypt(key, "x").await.unwrap();
        home.encrypt(other, "x").await.unwrap();
        let late = held_back(home.ask(&home.user, ask), async {
            home.manage(Ask::MoveAlias { key: by_id(other), alias: alias.clone() }).await.unwrap();
            let text = format!("forbid (principal, action, resource == Keyhearth::Key::\"{key}\");");
            home.ask(&home.admin, Ask::PutPolicy { name: stop.clone(), text }).await.unwrap();
        });
        assert_eq!(late.await.unwrap_err(), Error::Denied);
        home.ask(&home.admin, Ask::DeletePolicy { name: stop.clone() }).await.unwrap();
        home.manage(Ask::MoveAlias { key: by_id(key), alias: alias.clone() }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_administrators_one_wins() {
    let (house, home, key) = scene().await;
    let second = home.issue("second", &[Role::KeyAdmin]).await;
    for round in 0..20 {
        let both = |request: fn(KeyId) -> Ask| {
            let asks = [&home.key_admin, &second].map(|caller| {
                let (engine, caller) = (Arc::clone(&house.engine), Arc::clone(caller));
                tokio::spawn(async move { ask(&engine, &caller, request(key)).await })
            });
            async move {
                let [first, second] = asks;
                [first.await.unwrap(), second.await.unwrap()].into_iter().filter(Result::is_ok).count()
            }
        };
        assert_eq!(both(|key| Ask::ScheduleDestroy { key: by_id(key), days: 7 }).await, 1, "round {round}");
        assert_eq!(
            both(|key| Ask::CancelDestroy { key: by_id(key), suspend: false }).await,
            1,
            "round {round}"
        );
        assert_eq!(
            both(|key| Ask::SuspendKey { key: by_id(key), version: Some(1) }).await,
            1,
            "round {round}"
        );
        assert_eq!(
            both(|key| Ask::ResumeKey { key: by_id(key), version: Some(1) }).await,
            1,
            "round {round}"
        );
    }
    home.encrypt(key, "x").await.unwrap();
}

/// All meet at the first reservation of random IVs; one makes it, and it serves all.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reservation_of_random_ivs_serves_all_who_wait_for_it() {
    let (house, home, _) = scene().await;
    let key = home.create(new_key(Algorithm::Aes128)).await.id;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (engine, caller) = (Arc::clone(&house.engine), Arc::clone(&home.user));
            tokio::spawn(async move { ask(&engine, &caller, encrypt(key, "x")).await })
        })
        .collect();
    let mut ivs = BTreeSet::new();
    for task in tasks {
        ivs.insert(got!(task.await.unwrap(), Response::Encrypted { iv, .. } => iv));
    }
    assert_eq!(ivs.len(), 64);
    let key = home.manage(Ask::DescribeKey { key: by_id(key) }).await.unwrap();
    assert_eq!(key.versions[0].random_iv_uses, 1 << 20);
}

/// A request that is dropped is done or not done; what others see afterwards is what is stored.
#[tokio::test]
async fn a_dropped_request_leaves_nothing_stale() {
    let (house, home, key) = scene().await;
    let mut outcomes = [0, 0];
    for round in 0..60 {
        home.encrypt(key, "warm").await.unwrap();
        {
            let mut suspend =
                pin!(home.ask(&home.key_admin, Ask::SuspendKey { key: by_id(key), version: Some(1) }));
            for _ in 0..=round % 6 {
                if poll_fn(|context| Poll::Ready(suspend.as_mut().poll(context).is_ready())).await {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(200 * (round / 6))).await;
            }
        }
        // What was handed in before comes before this.
        home.ask(&home.user, Ask::WhoAmI).await.unwrap();
        let state = home.manage(Ask::DescribeKey { key: by_id(key) }).await.unwrap().versions[0].state;
        let suspended = state == State::Suspended;
        outcomes[usize::from(suspended)] += 1;
        assert_eq!(home.encrypt(key, "x").await.is_err(), suspended, "round {round}");
        if suspended {
            home.manage(Ask::ResumeKey { key: by_id(key), version: Some(1) }).await.unwrap();
        }
    }
    assert!(outcomes.iter().all(|count| *count > 0), "both ways were tried: {outcomes:?}");
    drop(house);
}

/// Asks until nobody else is in the way.
async fn again(house: &House, request: impl Fn() -> Ask) {
    for _ in 0..20 {
        match house.ask(&house.operator, request()).await {
            Err(Error::Conflict(_)) => {}
            answer => return drop(answer.unwrap()),
        }
    }
    panic!("always in the way");
}

/// Keys are made while their tenant's key and the root are rotated, both at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn keys_made_during_rotations_are_all_readable() {
    let (house, home, _) = scene().await;
    let stop = Arc::new(AtomicBool::new(false));
    let makers: Vec<_> = (0..6)
        .map(|_| {
            let (engine, admin, user) =
                (Arc::clone(&house.engine), Arc::clone(&home.key_admin), Arc::clone(&home.user));
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                let mut made = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let Ok(Response::Key(key)) =
                        ask(&engine, &admin, Ask::CreateKey(new_key(Algorithm::Aes256))).await
                    else {
                        continue;
                    };
                    let Ok(Response::Encrypted { ciphertext, .. }) =
                        ask(&engine, &user, encrypt(key.id, "text")).await
                    else {
                        panic!("a key that was made does not encrypt");
                    };
                    made.push((key.id, ciphertext));
                }
                made
            })
        })
        .collect();
    for _ in 0..4 {
        // Whichever comes in the way of the other is asked for again.
        let tenant_key = again(&house, || Ask::RotateTenantKey { tenant: home.id });
        tokio::join!(tenant_key, again(&house, || Ask::RotateRoot));
    }
    stop.store(true, Ordering::SeqCst);
    let mut made = Vec::new();
    for maker in makers {
        made.extend(maker.await.unwrap());
    }
    assert!(made.len() > 10);
    let closed = house.close().await;
    assert!(!closed.unsealed().is_rotating());
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    for (key, message) in made {
        assert_eq!(home.decrypt(key, &message).await.unwrap(), "text");
    }
}

/// Two who unseal at the same time open one server.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_opened_once() {
    let passphrase = b"a passphrase of enough bytes";
    let (_directory, engine) = with_passphrase(passphrase).await;
    engine.seal();
    let both = [(); 2].map(|()| {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.unseal(UnsealWith::Passphrase(passphrase), HERE).await })
    });
    let [first, second] = both;
    let results = [first.await.unwrap(), second.await.unwrap()];
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    assert!(!engine.is_sealed());
}
