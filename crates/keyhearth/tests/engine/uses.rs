//! Data keys and pairs, rewrapping between keys and contexts, dry runs, the last use.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::Result as Outcome;
use keyhearth_core::id::KeyId;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, ContextPairs, Message, Request, Response, Source};
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{Input, Key, PublicKey, import};

use super::support::{House, Household, by_id, decrypt, encrypt, got, new_key, page, rewrap, secret, source};

fn pairs(name: &str, value: &str) -> ContextPairs {
    vec![(name.to_owned(), value.to_owned())]
}

/// Lets an identity do one thing with one key, under a condition.
async fn permit(home: &Household, who: &Caller, operation: Operation, key: KeyId, when: &str) {
    let text = format!(
        r#"permit (principal == Keyhearth::Principal::"{}", action == Keyhearth::Action::"{}",
           resource == Keyhearth::Key::"{key}") {when};"#,
        who.principal,
        operation.name(),
    );
    let name = format!("{}-{}", who.name, operation.name());
    home.ask(&home.admin, Ask::PutPolicy { name: name.parse().unwrap(), text }).await.unwrap();
}

async fn dry_run(home: &Household, caller: &Arc<Caller>, ask: Ask) -> Result<Response, Error> {
    let engine = home.engine();
    let request = Request { dry_run: true, ..Request::new(engine.request_id(), ask) };
    engine.execute(caller, Arc::new(request)).await
}

#[tokio::test]
async fn each_way_to_make_a_data_key_is_a_right_of_its_own() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let data_key =
        |with_plaintext| Ask::DataKey { key: by_id(id), context: Vec::new(), bytes: 32, with_plaintext };
    let algorithm = Algorithm::EcP256;
    let pair =
        |with_plaintext| Ask::DataKeyPair { key: by_id(id), context: Vec::new(), algorithm, with_plaintext };
    let all = || [data_key(true), data_key(false), pair(true), pair(false)];
    let names =
        ["data-key", "data-key-without-plaintext", "data-key-pair", "data-key-pair-without-plaintext"];
    assert_eq!(all().map(|ask| ask.operation().name()), names);
    for (own, operation) in all().map(|ask| ask.operation()).into_iter().enumerate() {
        let caller = home.issue(&format!("app-{own}"), &[]).await;
        permit(&home, &caller, operation, id, "").await;
        for (other, ask) in all().into_iter().enumerate() {
            let answer = home.ask(&caller, ask).await;
            if own == other {
                assert!(answer.is_ok(), "{operation:?}: {answer:?}");
            } else {
                assert_eq!(answer.unwrap_err(), Error::Denied, "{operation:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_data_key_pair_is_one_pair_and_opens_in_its_context() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let pair = |key, algorithm, with_plaintext| Ask::DataKeyPair {
        key: by_id(key),
        context: pairs("for", "us"),
        algorithm,
        with_plaintext,
    };
    let open = |ciphertext: &[u8], context| {
        let Ask::Decrypt { key, mechanism, version, iv, ciphertext, .. } = decrypt(id, ciphertext) else {
            panic!()
        };
        Ask::Decrypt { key, mechanism, version, iv, context, ciphertext, lease_seconds: 0 }
    };
    for algorithm in [
        Algorithm::Rsa2048,
        Algorithm::EcP256,
        Algorithm::EcP384,
        Algorithm::EcP521,
        Algorithm::EcSecp256k1,
        Algorithm::Ed25519,
    ] {
        let made = home.ask(&home.user, pair(id, algorithm, true)).await;
        let made = got!(made, Response::DataKeyPair { pair, .. } => pair);
        let private = made.private.unwrap();
        let opened = home.ask(&home.user, open(&made.ciphertext, pairs("for", "us"))).await;
        got!(opened, Response::Decrypted { plaintext, .. } => assert_eq!(plaintext, private));
        let other = home.ask(&home.user, open(&made.ciphertext, Vec::new())).await;
        assert_eq!(other.unwrap_err(), Error::NotAuthentic);
        let key = Key::load(algorithm, &import(algorithm, &private).unwrap()).unwrap();
        let mechanism = algorithm.info().mechanisms[0];
        let signature = key.sign(mechanism, Input::Message(b"m")).unwrap();
        let public = PublicKey::from_der(algorithm, &made.public).unwrap();
        assert_eq!(
            public.verify(mechanism, Input::Message(b"m"), &signature),
            Ok(()),
            "{}",
            algorithm.name()
        );

        let hidden = home.ask(&home.user, pair(id, algorithm, false)).await;
        got!(hidden, Response::DataKeyPair { pair, .. } => assert_eq!(pair.private, None));
    }
    let made = home.ask(&home.user, pair(id, Algorithm::MlKem768, true)).await;
    let made = got!(made, Response::DataKeyPair { pair, .. } => pair);
    let opened = home.ask(&home.user, open(&made.ciphertext, pairs("for", "us"))).await;
    got!(opened, Response::Decrypted { plaintext, .. } => assert_eq!(Some(plaintext), made.private));
    PublicKey::from_der(Algorithm::MlKem768, &made.public).unwrap();

    for algorithm in [Algorithm::Aes256, Algorithm::X25519, Algorithm::HmacSha256] {
        let refused = home.ask(&home.user, pair(id, algorithm, true)).await;
        assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    }
    let hmac = home.create(new_key(Algorithm::HmacSha224)).await.id;
    let refused = home.ask(&home.user, pair(hmac, Algorithm::EcP256, true)).await;
    assert!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
}

#[tokio::test]
async fn both_sides_of_a_rewrap_are_decided_with_their_own_contexts() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (from, to) = (home.aes().await.id, home.aes().await.id);
    let Ask::Encrypt { key, mechanism, plaintext, .. } = encrypt(from, "text") else { panic!() };
    let old = Ask::Encrypt { key, mechanism, context: pairs("side", "old"), plaintext };
    let message = got!(home.ask(&home.user, old).await, Response::Encrypted { ciphertext, .. } => ciphertext);
    let moving = |old: &str, new: &str| Ask::Rewrap {
        key: by_id(to),
        mechanism: None,
        context: pairs("side", new),
        source: Box::new(Source { context: pairs("side", old), ..source(from, &message) }),
    };
    let side = |value: &str| {
        format!(r#"when {{ context.context.hasTag("side") && context.context.getTag("side") == "{value}" }}"#)
    };

    let both = home.issue("both", &[]).await;
    permit(&home, &both, Operation::RewrapFrom, from, &side("old")).await;
    assert_eq!(home.ask(&both, moving("old", "new")).await.unwrap_err(), Error::Denied);
    permit(&home, &both, Operation::Rewrap, to, &side("new")).await;
    let moved = got!(home.ask(&both, moving("old", "new")).await,
    Response::Rewrapped { source, key, version: 1, ciphertext, .. } => {
        assert_eq!((source, key), ((from, 1), to));
        ciphertext
    });
    // What one side allows is not allowed on the other, and the right to decrypt is another one.
    for (old, new) in [("new", "new"), ("old", "old"), ("new", "old")] {
        assert_eq!(home.ask(&both, moving(old, new)).await.unwrap_err(), Error::Denied, "{old} {new}");
    }
    let back = rewrap(to, from, &moved);
    assert_eq!(home.ask(&both, back).await.unwrap_err(), Error::Denied);
    assert_eq!(home.decrypt_as(&both, from, &message).await, Err(Error::Denied));

    let source_only = home.issue("source-only", &[]).await;
    permit(&home, &source_only, Operation::RewrapFrom, from, "").await;
    permit(&home, &source_only, Operation::Decrypt, to, "").await;
    assert_eq!(home.ask(&source_only, moving("old", "new")).await.unwrap_err(), Error::Denied);
    let destination_only = home.issue("destination-only", &[]).await;
    permit(&home, &destination_only, Operation::Rewrap, to, "").await;
    permit(&home, &destination_only, Operation::Decrypt, from, "").await;
    assert_eq!(home.ask(&destination_only, moving("old", "new")).await.unwrap_err(), Error::Denied);

    let Ask::Decrypt { key, mechanism, version, iv, ciphertext, .. } = decrypt(to, &moved) else { panic!() };
    let open = Ask::Decrypt {
        key,
        mechanism,
        version,
        iv,
        ciphertext,
        context: pairs("side", "new"),
        lease_seconds: 0,
    };
    got!(home.ask(&home.user, open).await, Response::Decrypted { plaintext, .. } => assert_eq!(plaintext, secret("text")));
}

#[tokio::test]
async fn a_rewrap_moves_between_mechanisms() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let mut rsa = new_key(Algorithm::Rsa2048);
    rsa.usage = vec!["encrypt".to_owned(), "decrypt".to_owned()];
    let (aes, raw, rsa) =
        (home.aes().await.id, home.create(new_key(Algorithm::Aes128)).await.id, home.create(rsa).await.id);
    let oaep = Some(Mechanism::RsaOaepSha256);
    let hop = |from: Source, to, mechanism| Ask::Rewrap {
        key: by_id(to),
        mechanism,
        context: Vec::new(),
        source: Box::new(from),
    };
    let first = home.encrypt(aes, "text").await.unwrap();
    let answer = home.ask(&home.user, hop(source(aes, &first), rsa, oaep)).await;
    let second = got!(answer, Response::Rewrapped { ciphertext, .. } => ciphertext);
    assert_eq!(second.len(), 256);
    let from_rsa = Source { mechanism: oaep, ..source(rsa, &second) };
    let answer = home.ask(&home.user, hop(from_rsa, raw, None)).await;
    let (iv, third) = got!(answer, Response::Rewrapped { iv, ciphertext, .. } => (iv, ciphertext));
    assert_eq!(iv.len(), 12);
    let from_raw = || Source { iv: iv.clone(), ..source(raw, &third) };
    let answer = home.ask(&home.user, hop(from_raw(), aes, None)).await;
    let last = got!(answer, Response::Rewrapped { ciphertext, .. } => ciphertext);
    assert_eq!(home.decrypt(aes, &last).await.unwrap(), "text");
    for wrong in [Source { version: Some(2), ..from_raw() }, Source { mechanism: oaep, ..from_raw() }] {
        assert!(home.ask(&home.user, hop(wrong, aes, None)).await.is_err());
    }
}

#[tokio::test]
async fn a_dry_run_leaves_nothing_but_its_entry() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (aes, raw) = (home.aes().await.id, home.create(new_key(Algorithm::Aes128)).await.id);
    let signing = home.create(new_key(Algorithm::EcP256)).await.id;
    let message = home.encrypt(aes, "text").await.unwrap();
    let keys = async || {
        let list = home.ask(&home.user, Ask::ListKeys { page: page(100) }).await;
        got!(list, Response::Keys { keys, .. } => keys)
    };
    let before = keys().await;
    let sign = |message: &str| Ask::Sign {
        key: by_id(signing),
        mechanism: None,
        message: Message::Whole(secret(message)),
    };
    let signature =
        got!(home.ask(&home.user, sign("m")).await, Response::Signature { signature, .. } => signature);
    let verify = |message: &str| Ask::Verify {
        key: by_id(signing),
        mechanism: None,
        version: None,
        message: Message::Whole(secret(message)),
        signature: signature.clone(),
    };
    let last = async |id| {
        let answer = home.ask(&home.user, Ask::LastUse { key: by_id(id) }).await;
        got!(answer, Response::LastUse { last, .. } => last)
    };
    let last_before = (last(aes).await, last(signing).await);

    let user = [
        encrypt(aes, "x"),
        encrypt(raw, "x"),
        decrypt(aes, &message),
        decrypt(aes, &[]),
        rewrap(aes, aes, &message),
        rewrap(aes, raw, &message),
        rewrap(aes, aes, &[]),
        Ask::DataKey { key: by_id(aes), context: Vec::new(), bytes: 32, with_plaintext: true },
        sign("n"),
        verify("m"),
    ];
    for ask in user {
        let operation = ask.operation();
        let answer = dry_run(&home, &home.user, ask).await;
        assert!(matches!(answer, Ok(Response::WouldSucceed)), "{operation:?}: {answer:?}");
        let entry = home.newest(operation).await;
        let from =
            if operation == Operation::Rewrap { format!(" from {aes} version 1") } else { String::new() };
        let said = format!("dry run{from}");
        assert_eq!((entry.result, entry.detail), (Outcome::Done, Some(said)), "{operation:?}");
    }
    let admin = [
        Ask::ScheduleDestroy { key: by_id(aes), days: 7 },
        Ask::SuspendKey { key: by_id(aes), version: Some(1) },
        Ask::RotateKey { key: by_id(aes) },
        Ask::SetAlias { key: by_id(aes), alias: "name".parse().unwrap() },
    ];
    for ask in admin {
        let operation = ask.operation();
        let answer = dry_run(&home, &home.key_admin, ask).await;
        assert!(matches!(answer, Ok(Response::WouldSucceed)), "{operation:?}: {answer:?}");
    }
    assert_eq!(keys().await, before, "no row has changed, and no reservation was made");
    assert_eq!((last(aes).await, last(signing).await), last_before);
    assert_eq!(last(raw).await, None);

    // What would not succeed says why, as it would without the dry run.
    got!(dry_run(&home, &home.user, verify("n")).await, Response::Verified { valid, .. } => assert!(!valid));
    let mut changed = message.clone();
    changed[60] ^= 1;
    assert_eq!(dry_run(&home, &home.user, decrypt(aes, &changed)).await.unwrap_err(), Error::NotAuthentic);
    assert_eq!(dry_run(&home, &home.key_admin, encrypt(aes, "x")).await.unwrap_err(), Error::Denied);
    let entry = home.newest(Operation::Encrypt).await;
    assert_eq!((entry.result, entry.detail.as_deref()), (Outcome::Refused, Some("dry run")));
    // Also where there is nothing to open: what each key cannot do with its context, it says.
    let bad = || vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())];
    let moved = |mechanism, to: ContextPairs, from: ContextPairs| {
        let source = Box::new(Source { context: from, ..source(aes, &[]) });
        Ask::Rewrap { key: by_id(raw), mechanism, context: to, source }
    };
    for ask in [
        moved(Some(Mechanism::Kh1), Vec::new(), Vec::new()),
        moved(Some(Mechanism::AesCtr), bad()[..1].to_vec(), Vec::new()),
        moved(None, bad(), Vec::new()),
        moved(None, Vec::new(), bad()),
    ] {
        let refused = dry_run(&home, &home.user, ask).await;
        assert!(matches!(refused, Err(Error::Unsupported(_) | Error::Invalid { .. })), "{refused:?}");
    }
    home.manage(Ask::DeactivateKey { key: by_id(aes), version: Some(1) }).await.unwrap();
    let refused = dry_run(&home, &home.user, encrypt(aes, "x")).await;
    assert!(matches!(refused, Err(Error::WrongState { .. })), "{refused:?}");
    let about_no_key = dry_run(&home, &home.user, Ask::Random { bytes: 8 }).await;
    assert!(matches!(about_no_key, Err(Error::Unsupported(_))), "{about_no_key:?}");
}

#[tokio::test]
async fn a_dry_run_counts_no_use_under_a_random_iv() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let raw = home.create(new_key(Algorithm::Aes128)).await.id;
    let reserved =
        async || home.manage(Ask::DescribeKey { key: by_id(raw) }).await.unwrap().versions[0].random_iv_uses;
    for _ in 0..3 {
        dry_run(&home, &home.user, encrypt(raw, "x")).await.unwrap();
    }
    assert_eq!(reserved().await, 0);
    home.ask(&home.user, encrypt(raw, "x")).await.unwrap();
    let first = reserved().await;
    assert!(first > 0);
    for _ in 0..3 {
        dry_run(&home, &home.user, encrypt(raw, "x")).await.unwrap();
    }
    assert_eq!(reserved().await, first);
}

#[tokio::test]
async fn the_last_use_is_the_last_one_that_was_done() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (one, two) = (home.aes().await.id, home.aes().await.id);
    let last = async |home: &Household, id| {
        let answer = home.ask(&home.user, Ask::LastUse { key: by_id(id) }).await;
        got!(answer, Response::LastUse { key, last, since, created } => {
            assert_eq!(key, id);
            assert!(since >= created);
            last
        })
    };
    assert_eq!(last(&home, one).await, None);
    let message = home.encrypt(one, "text").await.unwrap();
    let used = last(&home, one).await.unwrap();
    let entry = home.newest(Operation::Encrypt).await;
    assert_eq!((used.operation, used.time, used.request), (Operation::Encrypt, entry.time, entry.request));

    // Neither a look nor what was refused or failed is a use.
    home.manage(Ask::DescribeKey { key: by_id(one) }).await.unwrap();
    home.encrypt_as(&home.key_admin, one, "x").await.unwrap_err();
    home.decrypt(one, &[0; 120]).await.unwrap_err();
    assert_eq!(last(&home, one).await, Some(used));

    home.ask(&home.user, rewrap(one, two, &message)).await.unwrap();
    let (from, to) = (last(&home, one).await.unwrap(), last(&home, two).await.unwrap());
    assert_eq!((from.operation, to.operation), (Operation::RewrapFrom, Operation::Rewrap));
    assert_eq!(from.request, to.request);

    let house = house.restart().await;
    let home = home.within(&house);
    assert_eq!(last(&home, one).await, None, "it is not kept");
}
