//! The life of a key, and every use of every algorithm once.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::Result as Outcome;
use keyhearth_core::id::KeyId;
use keyhearth_core::key::{Key, TAGS_MAX, Usage};
use keyhearth_core::machine::NewMachine;
use keyhearth_core::operation::Operation;
use keyhearth_core::request::{Ask, KeyChange, KeyRef, Message, NewKey, Request, Response};
use keyhearth_core::state::{State, Switches, Transition};
use keyhearth_core::time::Time;
use keyhearth_crypto::algorithm::{Algorithm, Family, Mechanism, Purpose};
use keyhearth_crypto::key::generate;

use super::support::{
    House, Household, because, by_id, decrypt, encrypt, got, new_key, page, rewrap, secret,
};

fn wrong_state(state: State, operation: Operation) -> Error {
    Error::WrongState { state, operation }
}

fn states(key: &Key) -> Vec<State> {
    key.versions.iter().map(|version| version.state).collect()
}

#[tokio::test]
async fn a_rotated_key_decrypts_what_its_versions_encrypted() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    assert_eq!(states(&key), [State::Active]);
    let first = home.encrypt(key.id, "first").await.unwrap();
    let rotated = home.manage(Ask::RotateKey { key: by_id(key.id) }).await.unwrap();
    assert_eq!((rotated.primary, states(&rotated)), (2, vec![State::Deactivated, State::Active]));
    let second = home.encrypt(key.id, "second").await.unwrap();
    assert_eq!(home.decrypt(key.id, &first).await.unwrap(), "first");
    assert_eq!(home.decrypt(key.id, &second).await.unwrap(), "second");

    let other = home.aes().await;
    assert_eq!(home.decrypt(other.id, &first).await, Err(Error::NotAuthentic));
    let mut altered = first.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(home.decrypt(key.id, &altered).await, Err(Error::NotAuthentic));

    let house = house.restart().await;
    let home = home.within(&house);
    assert_eq!(home.decrypt(key.id, &first).await.unwrap(), "first");
    assert_eq!(home.decrypt(key.id, &second).await.unwrap(), "second");
}

#[tokio::test]
async fn each_state_allows_what_its_table_says() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (id, other) = (home.aes().await.id, home.aes().await.id);
    let (key, version) = (by_id(id), Some(1));
    let message = home.encrypt(id, "text").await.unwrap();

    let suspended = home.manage(Ask::SuspendKey { key: key.clone(), version }).await.unwrap();
    assert_eq!(states(&suspended), [State::Suspended]);
    assert_eq!(home.encrypt(id, "x").await, Err(wrong_state(State::Suspended, Operation::Encrypt)));
    assert_eq!(home.decrypt(id, &message).await, Err(wrong_state(State::Suspended, Operation::Decrypt)));
    let again = home.manage(Ask::SuspendKey { key: key.clone(), version }).await;
    assert_eq!(again, Err(wrong_state(State::Suspended, Operation::SuspendKey)));
    let rotate = home.manage(Ask::RotateKey { key: key.clone() }).await;
    assert_eq!(rotate, Err(wrong_state(State::Suspended, Operation::RotateKey)));

    home.manage(Ask::ResumeKey { key: key.clone(), version }).await.unwrap();
    home.encrypt(id, "x").await.unwrap();
    home.manage(Ask::DeactivateKey { key: key.clone(), version }).await.unwrap();
    assert_eq!(home.encrypt(id, "x").await, Err(wrong_state(State::Deactivated, Operation::Encrypt)));
    assert_eq!(home.decrypt(id, &message).await.unwrap(), "text");
    let resumed = home.manage(Ask::ResumeKey { key: key.clone(), version }).await;
    assert_eq!(resumed, Err(wrong_state(State::Deactivated, Operation::ResumeKey)));

    let compromise = || Ask::CompromiseKey { key: by_id(id), version: None };
    assert!(matches!(home.manage(compromise()).await, Err(Error::Invalid { field: "reason", .. })));
    because(&house.engine, &home.key_admin, compromise(), Some("found on a disk")).await.unwrap();
    let entry = home.newest(Operation::CompromiseKey).await;
    assert_eq!(
        (entry.reason.as_deref(), entry.key, entry.version),
        (Some("found on a disk"), Some(id), Some(1))
    );
    assert_eq!(home.decrypt(id, &message).await, Err(wrong_state(State::Compromised, Operation::Decrypt)));
    let switches = Switches { process_when_compromised: true, ..Switches::default() };
    let change = KeyChange { switches: Some(switches), ..KeyChange::default() };
    home.manage(Ask::UpdateKey { key, change }).await.unwrap();
    for reason in [None, Some("")] {
        let refused = because(&house.engine, &home.user, decrypt(id, &message), reason).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "reason", .. })), "{refused:?}");
    }
    let given = because(&house.engine, &home.user, decrypt(id, &message), Some("recovery")).await;
    got!(given, Response::Decrypted { plaintext, .. } => assert_eq!(plaintext, secret("text")));
    assert_eq!(home.newest(Operation::Decrypt).await.reason.as_deref(), Some("recovery"));
    let rewrap = || rewrap(id, other, &message);
    let refused = home.ask(&home.user, rewrap()).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "reason", .. })), "{refused:?}");
    because(&house.engine, &home.user, rewrap(), Some("recovery")).await.unwrap();
}

/// Walks the whole table of states and transitions through the engine.
#[tokio::test]
async fn transitions_are_those_of_the_table() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let change = async |id: KeyId, transition| {
        let (key, version) = (by_id(id), Some(1));
        let (caller, ask) = match transition {
            Transition::Activate => (&home.key_admin, Ask::ActivateKey { key, version }),
            Transition::Suspend => (&home.key_admin, Ask::SuspendKey { key, version }),
            Transition::Resume => (&home.key_admin, Ask::ResumeKey { key, version }),
            Transition::Deactivate => (&home.key_admin, Ask::DeactivateKey { key, version }),
            Transition::Compromise => (&home.key_admin, Ask::CompromiseKey { key, version }),
            Transition::Destroy => (&home.custodian, Ask::DestroyKey { key, version: 1, confirm: id }),
        };
        let operation = ask.operation();
        let answer = because(&house.engine, caller, ask, Some("a test")).await;
        (
            operation,
            answer.map(|answer| got!(Ok::<_, Error>(answer), Response::Key(key) => key.versions[0].state)),
        )
    };
    let ways: [(State, &[Transition]); 6] = [
        (State::PreActive, &[]),
        (State::Active, &[Transition::Activate]),
        (State::Suspended, &[Transition::Activate, Transition::Suspend]),
        (State::Deactivated, &[Transition::Activate, Transition::Deactivate]),
        (State::Compromised, &[Transition::Compromise]),
        (State::Destroyed, &[Transition::Destroy]),
    ];
    for (state, way) in ways {
        for transition in Transition::ALL {
            let mut new = new_key(Algorithm::Aes256);
            new.activation = Some(house.engine.now().latest.plus_days(1));
            let id = home.create(new).await.id;
            for step in way {
                change(id, *step).await.1.unwrap();
            }
            let (operation, result) = change(id, transition).await;
            let expected = state.after(transition).ok_or(wrong_state(state, operation));
            assert_eq!(result, expected, "{state} {transition:?}");
        }
    }
}

#[tokio::test]
async fn destruction_is_scheduled_cancelled_and_final() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let schedule = |days| Ask::ScheduleDestroy { key: by_id(id), days };
    let cancel = || Ask::CancelDestroy { key: by_id(id), suspend: false };
    let message = home.encrypt(id, "text").await.unwrap();
    for days in [0, 6, 31] {
        assert!(matches!(home.manage(schedule(days)).await, Err(Error::Invalid { field: "days", .. })));
    }
    assert!(home.manage(schedule(7)).await.unwrap().destroy_at.is_some());
    assert!(home.encrypt(id, "x").await.is_err());
    assert!(home.decrypt(id, &message).await.is_err());
    assert!(home.manage(Ask::RotateKey { key: by_id(id) }).await.is_err());
    assert!(matches!(home.manage(schedule(7)).await, Err(Error::Conflict(_))));
    assert_eq!(home.manage(cancel()).await.unwrap().destroy_at, None);
    assert!(matches!(home.manage(cancel()).await, Err(Error::Conflict(_))));
    assert_eq!(home.decrypt(id, &message).await.unwrap(), "text");

    let destroy = |confirm| Ask::DestroyKey { key: by_id(id), version: 1, confirm };
    let other = home.aes().await.id;
    assert!(home.ask(&home.key_admin, destroy(id)).await.is_err(), "a custodian destroys, nobody else");
    assert!(home.ask(&home.user, destroy(id)).await.is_err());
    assert!(matches!(
        home.ask(&home.custodian, destroy(other)).await,
        Err(Error::Invalid { field: "confirm", .. })
    ));
    let active = home.ask(&home.custodian, destroy(id)).await.unwrap_err();
    assert_eq!(active, wrong_state(State::Active, Operation::DestroyKey));
    home.manage(Ask::DeactivateKey { key: by_id(id), version: None }).await.unwrap();
    let gone = got!(home.ask(&home.custodian, destroy(id)).await, Response::Key(key) => key);
    assert_eq!(states(&gone), [State::Destroyed]);
    assert_eq!(home.decrypt(id, &message).await, Err(wrong_state(State::Destroyed, Operation::Decrypt)));
    assert!(home.ask(&home.custodian, destroy(id)).await.is_err());

    let closed = house.close().await;
    let material = "SELECT count(*) FROM row WHERE tbl = 2 AND substr(id, 1, 16) = ?1";
    let rows =
        |id: [u8; 16]| closed.database().query_row(material, [id], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!((rows(id.0), rows(other.0)), (0, 1));
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    assert_eq!(home.decrypt(id, &message).await, Err(wrong_state(State::Destroyed, Operation::Decrypt)));
}

#[tokio::test]
async fn a_key_is_updated_field_by_field() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut new = new_key(Algorithm::Aes256);
    new.tags = [("env".to_owned(), "prod".to_owned())].into();
    let id = home.create(new).await.id;
    let update = async |change| home.manage(Ask::UpdateKey { key: by_id(id), change }).await;
    let tags = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>()
    };
    let change = KeyChange {
        description: Some("for payments".to_owned()),
        tags: Some(tags(&[("env", "test"), ("team", "a")])),
        rotate_days: Some(Some(30)),
        ..KeyChange::default()
    };
    let updated = update(change).await.unwrap();
    assert_eq!(
        (updated.description.as_str(), updated.tags),
        ("for payments", tags(&[("env", "test"), ("team", "a")]))
    );
    assert_eq!(updated.rotation.map(|rotation| rotation.every_days), Some(30));

    let single = |pairs: &[(&str, Option<&str>)]| KeyChange {
        set_tags: pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect(),
        ..KeyChange::default()
    };
    let updated =
        update(single(&[("env", None), ("never", None), ("team", Some("b")), ("new", Some(""))])).await;
    assert_eq!(updated.unwrap().tags, tags(&[("team", "b"), ("new", "")]));
    let many: Vec<String> = (0..TAGS_MAX - 1).map(|n| format!("t{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), Some("x"))).collect();
    assert!(matches!(update(single(&many)).await, Err(Error::TooLarge { field: "tags", .. })));
    update(single(&many[1..])).await.unwrap();
    let too_many = update(single(&[("one", Some("more"))])).await;
    assert!(matches!(too_many, Err(Error::TooLarge { field: "tags", .. })), "{too_many:?}");
    update(single(&[("one", Some("more")), ("t1", None)])).await.unwrap();
    assert!(matches!(
        update(single(&[("", Some("x")), ("t2", None)])).await,
        Err(Error::Invalid { field: "tags", .. })
    ));
    let never = KeyChange { rotate_days: Some(Some(0)), ..KeyChange::default() };
    assert!(update(never).await.is_err());
}

#[tokio::test]
async fn keys_are_listed_page_by_page() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(home.aes().await.id);
    }
    made.sort();
    let (mut found, mut cursor) = (Vec::new(), Some(Vec::new()));
    while let Some(after) = cursor {
        let mut next_page = page(2);
        next_page.after = after;
        cursor = got!(home.ask(&home.user, Ask::ListKeys { page: next_page }).await, Response::Keys { keys, next } => {
            assert!(keys.len() <= 2);
            found.extend(keys.iter().map(|key| key.id));
            next
        });
    }
    assert_eq!(found, made);
    for limit in [0, 1_001] {
        assert!(home.ask(&home.user, Ask::ListKeys { page: page(limit) }).await.is_err());
    }
}

/// Uses a key of each algorithm in each way it has, and checks what comes back.
#[tokio::test]
async fn every_algorithm_serves_each_of_its_uses() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    for &algorithm in Algorithm::ALL {
        // The time to make larger RSA keys buys nothing here.
        if matches!(algorithm, Algorithm::Rsa3072 | Algorithm::Rsa4096) {
            continue;
        }
        let usage = Usage::possible(algorithm).names().map(str::to_owned);
        // A key for one of these is for nothing else.
        let (alone, usage): (Vec<_>, Vec<_>) =
            usage.partition(|name| ["exchange", "release"].contains(&name.as_str()));
        let key = home.create(NewKey { usage, ..new_key(algorithm) }).await;
        for &mechanism in algorithm.info().mechanisms {
            for &purpose in mechanism.purposes() {
                if matches!(purpose, Purpose::Exchange | Purpose::Release) {
                    let key = home.create(NewKey { usage: alone.clone(), ..new_key(algorithm) }).await;
                    serve(&home, &key, purpose, mechanism).await;
                } else {
                    serve(&home, &key, purpose, mechanism).await;
                }
            }
        }
        if algorithm.is_asymmetric() {
            let public = Ask::PublicKey { key: by_id(key.id), version: None };
            let der = got!(home.ask(&home.auditor, public).await, Response::PublicKey { der, .. } => der);
            assert!(!der.is_empty());
        }
        if algorithm.info().family != Family::Hmac {
            let mac =
                Ask::Mac { key: by_id(key.id), mechanism: Some(Mechanism::HmacSha256), message: secret("m") };
            assert!(matches!(home.ask(&home.user, mac).await, Err(Error::Unsupported(_))));
        }
    }
}

/// A machine with one volume whose secrets come from `key`.
fn machine(key: KeyRef) -> NewMachine {
    NewMachine {
        name: "web-1".parse().unwrap(),
        key,
        volumes: vec!["root".parse().unwrap()],
        reference: [].into(),
        clones: None,
        recovery: false,
    }
}

async fn serve(home: &Household, key: &Key, purpose: Purpose, mechanism: Mechanism) {
    let (id, version, user) = (|| by_id(key.id), None, &home.user);
    let chosen = Some(mechanism);
    let name = format!("{} {}", key.algorithm.name(), mechanism.name());
    match purpose {
        Purpose::Encrypt => {
            let plaintext = secret("sixteen bytes ok");
            let encrypt = Ask::Encrypt {
                key: id(),
                mechanism: chosen,
                context: Vec::new(),
                plaintext: plaintext.clone(),
            };
            let (iv, ciphertext) = got!(home.ask(user, encrypt).await, Response::Encrypted { iv, ciphertext, .. } => (iv, ciphertext));
            let decrypt = Ask::Decrypt {
                key: id(),
                mechanism: chosen,
                version,
                iv,
                context: Vec::new(),
                ciphertext,
                lease_seconds: 0,
            };
            got!(home.ask(user, decrypt).await, Response::Decrypted { plaintext: opened, .. } => assert_eq!(opened, plaintext, "{name}"));
        }
        Purpose::Sign => {
            let message = |text| Message::Whole(secret(text));
            let sign = Ask::Sign { key: id(), mechanism: chosen, message: message("one") };
            let signature =
                got!(home.ask(user, sign).await, Response::Signature { signature, .. } => signature);
            for (text, holds) in [("one", true), ("two", false)] {
                let verify = Ask::Verify {
                    key: id(),
                    mechanism: chosen,
                    version,
                    message: message(text),
                    signature: signature.clone(),
                };
                got!(home.ask(user, verify).await, Response::Verified { valid, .. } => assert_eq!(valid, holds, "{name}"));
            }
        }
        Purpose::Mac => {
            let mac = Ask::Mac { key: id(), mechanism: chosen, message: secret("one") };
            let mac = got!(home.ask(user, mac).await, Response::Mac { mac, .. } => mac);
            for (text, holds) in [("one", true), ("two", false)] {
                let verify = Ask::VerifyMac {
                    key: id(),
                    mechanism: chosen,
                    version,
                    message: secret(text),
                    mac: mac.clone(),
                };
                got!(home.ask(user, verify).await, Response::Verified { valid, .. } => assert_eq!(valid, holds, "{name}"));
            }
        }
        Purpose::Wrap => {
            let material = secret("0123456789abcdef0123456789abcdef");
            let wrap = Ask::Wrap { key: id(), mechanism: chosen, material: material.clone() };
            let wrapped = got!(home.ask(user, wrap).await, Response::Wrapped { wrapped, .. } => wrapped);
            let unwrap = Ask::Unwrap { key: id(), mechanism: chosen, version, wrapped };
            got!(home.ask(user, unwrap).await, Response::Unwrapped { material: opened, .. } => assert_eq!(opened, material, "{name}"));
        }
        Purpose::Agree => {
            let other = generate(key.algorithm).unwrap();
            let other = keyhearth_crypto::key::Key::load(key.algorithm, &other).unwrap();
            let agree = Ask::Agree { key: id(), version, peer: other.public_key_der().unwrap().to_vec() };
            let ours = got!(home.ask(user, agree).await, Response::Shared { secret, .. } => secret);
            let public = Ask::PublicKey { key: id(), version };
            let public = got!(home.ask(user, public).await, Response::PublicKey { der, .. } => der);
            assert_eq!(other.agree(&public).unwrap().expose(), &ours[..], "{name}");
        }
        Purpose::Exchange => {
            let other = generate(key.algorithm).unwrap();
            let other = keyhearth_crypto::key::Key::load(key.algorithm, &other).unwrap();
            let peer = other.public_key_der().unwrap().to_vec();
            let exchange = Ask::Exchange { key: id(), version, peer: peer.clone() };
            let ours = got!(home.ask(user, exchange).await, Response::Exchanged { point, .. } => point);
            let public = Ask::PublicKey { key: id(), version };
            let public = got!(home.ask(user, public).await, Response::PublicKey { der, .. } => der);
            assert_eq!(other.exchange(&public).unwrap(), ours[..], "{name}");
            let agree = Ask::Agree { key: id(), version, peer };
            assert!(matches!(home.ask(user, agree).await, Err(Error::Unsupported(_))), "{name}");
        }
        Purpose::Release => {
            let enrolled = home.ask(&home.key_admin, Ask::EnrollMachine(machine(id()))).await;
            let machine = got!(enrolled, Response::Machine(machine) => machine.id);
            let next = || Ask::VolumeSecret { key: id(), machine, volume: "root".parse().unwrap() };
            let [one, two] =
                [home.ask(&home.key_admin, next()).await, home.ask(&home.key_admin, next()).await]
                    .map(|given| got!(given, Response::VolumeSecret { secret, .. } => secret));
            assert!(one.len() == 32 && one != two, "{name}");
        }
        Purpose::Encapsulate => {
            let (made, encapsulated) = got!(home.ask(user, Ask::Encapsulate { key: id() }).await,
                Response::Encapsulated { secret, encapsulated, .. } => (secret, encapsulated));
            let decapsulate = Ask::Decapsulate { key: id(), version, encapsulated };
            got!(home.ask(user, decapsulate).await, Response::Shared { secret, .. } => assert_eq!(secret, made, "{name}"));
        }
    }
}

#[tokio::test]
async fn a_key_serves_only_the_uses_it_was_made_for() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut new = new_key(Algorithm::Aes256);
    new.usage = vec!["decrypt".to_owned()];
    let key = home.create(new).await;
    assert!(matches!(home.encrypt(key.id, "x").await, Err(Error::Unsupported(_))));
    let mut new = new_key(Algorithm::Aes256);
    new.usage = vec!["sign".to_owned()];
    assert!(matches!(home.manage(Ask::CreateKey(new)).await, Err(Error::Invalid { field: "usage", .. })));
    let aes = home.aes().await;
    let sign = Ask::Sign { key: by_id(aes.id), mechanism: None, message: Message::Whole(secret("m")) };
    assert!(matches!(home.ask(&home.user, sign).await, Err(Error::Unsupported(_))));
    let export = home.newest(Operation::Sign).await;
    assert_eq!((export.result, export.error.as_deref()), (Outcome::Refused, Some("unsupported")));
}

#[tokio::test]
async fn a_context_and_a_data_key_are_bound() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let context = vec![("file".to_owned(), "7".to_owned())];
    let data_key = Ask::DataKey { key: by_id(id), context: context.clone(), bytes: 32, with_plaintext: true };
    let (plaintext, ciphertext) = got!(home.ask(&home.user, data_key).await,
        Response::DataKey { plaintext: Some(plaintext), ciphertext, .. } => (plaintext, ciphertext));
    let open = |context| {
        let Ask::Decrypt { key, mechanism, version, iv, ciphertext, .. } = decrypt(id, &ciphertext) else {
            panic!()
        };
        Ask::Decrypt { key, mechanism, version, iv, context, ciphertext, lease_seconds: 0 }
    };
    assert_eq!(plaintext.len(), 32);
    got!(home.ask(&home.user, open(context)).await, Response::Decrypted { plaintext: opened, .. } => assert_eq!(opened, plaintext));
    assert_eq!(home.ask(&home.user, open(Vec::new())).await.unwrap_err(), Error::NotAuthentic);
    let hidden = Ask::DataKey { key: by_id(id), context: Vec::new(), bytes: 16, with_plaintext: false };
    got!(home.ask(&home.user, hidden).await, Response::DataKey { plaintext, .. } => assert_eq!(plaintext, None));
    for bytes in [0, 1_025] {
        let refused = Ask::DataKey { key: by_id(id), context: Vec::new(), bytes, with_plaintext: true };
        assert!(matches!(home.ask(&home.user, refused).await, Err(Error::Invalid { field: "bytes", .. })));
    }
}

#[tokio::test]
async fn uses_under_random_ivs_are_counted_ahead_and_the_count_survives_a_restart() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.create(new_key(Algorithm::Aes128)).await.id;
    let mut ivs = std::collections::BTreeSet::new();
    let reserved = async |home: &Household| {
        home.manage(Ask::DescribeKey { key: by_id(id) }).await.unwrap().versions[0].random_iv_uses
    };
    assert_eq!(reserved(&home).await, 0);
    let mut once = async |home: &Household| {
        let iv = got!(home.ask(&home.user, encrypt(id, "text")).await, Response::Encrypted { iv, .. } => iv);
        assert!(ivs.insert(iv), "an IV came twice");
    };
    once(&home).await;
    let first = reserved(&home).await;
    assert!(first > 0);
    for _ in 0..5 {
        once(&home).await;
    }
    assert_eq!(reserved(&home).await, first, "one reservation covers many uses");
    let house = house.restart().await;
    let home = home.within(&house);
    once(&home).await;
    assert_eq!(
        reserved(&home).await,
        2 * first,
        "what was reserved and not used is not used after a restart"
    );

    let closed = house.close().await;
    closed.rewrite_key(home.id, id, Time::from_unix_ms(1), |key| key.versions[0].random_iv_uses = 1 << 32);
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    let home = home.within(&house);
    let refused = home.ask(&home.user, encrypt(id, "text")).await.unwrap_err();
    assert!(matches!(refused, Error::Unsupported(_)), "{refused}");
    home.manage(Ask::RotateKey { key: by_id(id) }).await.unwrap();
    assert!(home.ask(&home.user, encrypt(id, "text")).await.is_ok());
}

#[tokio::test]
async fn rewrapping_needs_both_rights_and_gives_out_no_plaintext() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (from, to) = (home.aes().await.id, home.aes().await.id);
    let message = home.encrypt(from, "text").await.unwrap();
    let rewrap = |ciphertext: &[u8]| rewrap(from, to, ciphertext);
    let moved = got!(home.ask(&home.user, rewrap(&message)).await, Response::Rewrapped { ciphertext, source, .. } => {
        assert_eq!(source, (from, 1));
        ciphertext
    });
    let entry = home.newest(Operation::Rewrap).await;
    let from_it = format!("from {from} version 1");
    assert_eq!((entry.key, entry.detail.as_ref()), (Some(to), Some(&from_it)));
    assert_eq!(home.decrypt(to, &moved).await.unwrap(), "text");
    assert_eq!(home.decrypt(from, &moved).await, Err(Error::NotAuthentic));
    assert_eq!(home.ask(&home.user, rewrap(&moved)).await.unwrap_err(), Error::NotAuthentic);
    let entry = home.newest(Operation::Rewrap).await;
    assert_eq!((entry.result, entry.detail.as_ref()), (Outcome::Failed, Some(&from_it)));
    let dry = Request { dry_run: true, ..Request::new(house.engine.request_id(), rewrap(&message)) };
    house.engine.execute(&home.user, Arc::new(dry)).await.unwrap();
    assert_eq!(home.newest(Operation::Rewrap).await.detail, Some(format!("dry run {from_it}")));

    let policy = format!(
        r#"forbid (principal == Keyhearth::Principal::"{}", action == Keyhearth::Action::"rewrap-from",
           resource == Keyhearth::Key::"{from}");"#,
        home.user.principal
    );
    let put = Ask::PutPolicy { name: "no-source".parse().unwrap(), text: policy };
    home.ask(&home.admin, put).await.unwrap();
    assert_eq!(home.ask(&home.user, rewrap(&message)).await.unwrap_err(), Error::Denied);
    let entry = home.newest(Operation::Rewrap).await;
    assert_eq!(
        (entry.key, entry.result, entry.by),
        (Some(to), Outcome::Refused, vec!["no-source".to_owned()])
    );
    assert_eq!(entry.detail, Some(from_it), "who tries keys is seen to");
    home.encrypt(to, "x").await.unwrap();
    let delete = Ask::DeletePolicy { name: "no-source".parse().unwrap() };
    home.ask(&home.admin, delete).await.unwrap();
    home.manage(Ask::SuspendKey { key: by_id(from), version: None }).await.unwrap();
    assert!(matches!(home.ask(&home.user, rewrap(&message)).await, Err(Error::WrongState { .. })));
}
