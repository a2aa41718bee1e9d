//! Access keys: who signs with which secret, until when.

use keyhearth::engine::{NoLogin, Signer};
use keyhearth_core::Error;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::id::PrincipalId;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Proof, Role};
use keyhearth_core::request::{Ask, Response, Secret};
use keyhearth_core::time::Time;
use keyhearth_crypto::digest::sha256;

use super::support::{HERE, House, Household, ask, got, page, repeatably, secret};

/// An access key as its holder knows it.
pub struct Issued {
    pub id: String,
    pub secret: Secret,
    /// Session token and end of a temporary one.
    pub session: Option<(Secret, Time)>,
}

fn create(identity: PrincipalId, minutes: Option<u32>) -> Ask {
    Ask::CreateAccessKey { identity, import: None, minutes }
}

/// A new access key.
pub async fn issue_access_key(home: &Household, identity: PrincipalId, minutes: Option<u32>) -> Issued {
    issued(home.ask(&home.admin, create(identity, minutes)).await)
}

fn issued(answer: Result<Response, Error>) -> Issued {
    got!(answer, Response::AccessKey { id, secret, session, .. } => {
        Issued { id, secret, session: session.map(|session| (session.token, session.end)) }
    })
}

fn refusal(found: Result<Signer, NoLogin>) -> NoLogin {
    found.err().expect("nobody was to be let in")
}

#[tokio::test]
async fn who_signs_is_found_while_the_access_key_is_good() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let made = issue_access_key(&home, home.user.principal, None).await;
    let signer = house.engine.signer(&made.id, HERE).unwrap();
    assert_eq!(signer.expose_secret(), Ok(&made.secret[..]));
    assert_eq!(signer.session_token_hash(), Ok(None));
    let caller = &signer.authenticated.caller;
    assert_eq!(
        (caller.principal, caller.tenant, &caller.name),
        (home.user.principal, home.id, &home.user.name)
    );
    assert_eq!(caller.proof, Proof::AccessKey(made.id.clone()));
    home.encrypt_as(caller, key, "x").await.unwrap();
    let entry = home.newest(Operation::Encrypt).await;
    assert_eq!((entry.access_key, entry.certificate), (Some(made.id.clone()), None));

    home.aes().await;
    assert!(house.engine.still_holds(&signer.authenticated), "of keys it does not depend");
    home.ask(&home.admin, Ask::DisableAccessKey { id: made.id.clone() }).await.unwrap();
    assert!(!house.engine.still_holds(&signer.authenticated));
    assert_eq!(refusal(house.engine.signer(&made.id, HERE)), NoLogin::Unknown);
    let late = home.encrypt_as(&signer.authenticated.caller, key, "x").await;
    assert_eq!(late, Err(Error::Denied), "also for whoever did not look");
    for unknown in ["KHIAAAAAAAAAAAAAAAAA", "short", "", &"A".repeat(129), "KHIAAAAAAAAAAAAAAAA/"] {
        assert_eq!(refusal(house.engine.signer(unknown, HERE)), NoLogin::Unknown);
    }
}

/// Connections outlive a seal, and what they know of their callers with them.
#[tokio::test]
async fn what_ended_does_not_hold_again_after_unsealing() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let made = issue_access_key(&home, home.user.principal, None).await;
    let known = house.engine.signer(&made.id, HERE).unwrap().authenticated;
    home.ask(&home.admin, Ask::DisableAccessKey { id: made.id }).await.unwrap();
    house.reopen().await;
    for _ in 0..20 {
        assert!(!house.engine.still_holds(&known));
        issue_access_key(&home, home.user.principal, None).await;
    }
}

#[tokio::test]
async fn access_keys_of_a_revoked_identity_end_with_it() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let web = home.issue("web", &[Role::KeyUser]).await;
    let made = issue_access_key(&home, web.principal, None).await;
    let signer = house.engine.signer(&made.id, HERE).unwrap();
    home.ask(&home.admin, Ask::RevokeIdentity { identity: web.principal }).await.unwrap();
    assert!(!house.engine.still_holds(&signer.authenticated));
    assert_eq!(refusal(house.engine.signer(&made.id, HERE)), NoLogin::Unknown);
    let late = home.encrypt_as(&signer.authenticated.caller, key, "x").await;
    assert_eq!(late, Err(Error::Denied), "also for whoever did not look");
}

#[tokio::test]
async fn a_temporary_access_key_has_a_token_and_an_end() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let user = home.user.principal;
    for minutes in [0, 14, 2_161, u32::MAX] {
        let refused = home.ask(&home.admin, create(user, Some(minutes))).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { field: "minutes", .. }));
    }
    let import = Some(("ABCDEFGHIJKLMNOP".to_owned(), secret("a-secret-of-enough-characters")));
    let import = Ask::CreateAccessKey { identity: user, import, minutes: Some(15) };
    assert!(matches!(home.ask(&home.admin, import).await, Err(Error::Invalid { field: "minutes", .. })));

    let made = issue_access_key(&home, user, Some(2_160)).await;
    let (token, end) = made.session.unwrap();
    let now = house.engine.now().latest;
    assert!(made.id.starts_with("KHSA") && end <= now.plus_ms(2_160 * 60_000) && end > now);
    let listed = home.ask(&home.auditor, Ask::ListAccessKeys { page: page(10) }).await;
    got!(listed, Response::AccessKeys { keys, .. } => assert_eq!(keys[0].end, Some(end)));
    house.ask(&house.operator, Ask::RotateTenantKey { tenant: home.id }).await.unwrap();
    let signer = house.engine.signer(&made.id, HERE).unwrap();
    assert_eq!(signer.expose_secret(), Ok(&made.secret[..]));
    assert_eq!(signer.session_token_hash(), Ok(Some(sha256(&[&token]))));

    let again =
        async || issued(repeatably(&house.engine, &home.admin, create(user, Some(15)), ("k", 1)).await);
    let (first, second) = (again().await, again().await);
    assert_eq!((&first.id, &first.secret, &first.session), (&second.id, &second.secret, &second.session));
    assert!(first.id != made.id && first.session.unwrap().0 != token);
}

/// The newest entry is ten days ahead, so the present may lie after everything temporary.
#[tokio::test]
async fn a_temporary_access_key_ends() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await;
    let temporary = issue_access_key(&home, home.user.principal, Some(2_160)).await;
    let lasting = issue_access_key(&home, home.user.principal, None).await;
    let ahead = house.engine.now().latest.plus_days(10);
    let closed = house.close().await;
    closed.rewrite_key(home.id, key.id, ahead, |_| ());
    let house = closed.open().await.map_err(|(_, error)| error).unwrap();
    assert_eq!(refusal(house.engine.signer(&temporary.id, HERE)), NoLogin::Ended);
    let signer = house.engine.signer(&lasting.id, HERE).unwrap();
    assert!(house.engine.still_holds(&signer.authenticated));
    house.engine.seal();
    assert!(!house.engine.still_holds(&signer.authenticated));
    assert_eq!(refusal(house.engine.signer(&lasting.id, HERE)), NoLogin::Failed(Error::Sealed));
}

#[tokio::test]
async fn what_was_imported_is_what_requests_are_signed_with() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    for id in ["AKIAIOSFODNN7EXAMPLE", "ABCDEFGHIJ012345", &"Z9".repeat(64)] {
        let import = Some((id.to_owned(), secret("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")));
        let identity = home.user.principal;
        home.ask(&home.admin, Ask::CreateAccessKey { identity, import, minutes: None }).await.unwrap();
        let signer = house.engine.signer(id, HERE).unwrap();
        assert_eq!(signer.expose_secret(), Ok(&b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"[..]));
    }
}

#[tokio::test]
async fn who_did_not_sign_rightly_is_logged_with_the_access_key_it_named() {
    let house = House::new().await;
    let auditor = {
        let issue = super::support::issue(&house.engine, &house.operator, "auditor", &[Role::Auditor]);
        issue.await
    };
    let named = [None, Some("AKIAIOSFODNN7EXAMPLE"), Some("not\nan id"), Some("")];
    for access_key in named {
        house.engine.refuse_login(access_key, HERE).await.unwrap();
    }
    let list = Ask::ListEntries { from: 0, limit: 1_000 };
    let entries =
        got!(ask(&house.engine, &auditor, list).await, Response::Entries { entries, .. } => entries);
    let entries = entries.into_iter().map(|(_, bytes)| Entry::from_bytes(&bytes).unwrap());
    let failures: Vec<_> =
        entries.filter(|entry| entry.operation() == Some(Operation::Authenticate)).collect();
    let said: Vec<_> = failures.iter().map(|entry| entry.access_key.as_deref()).collect();
    assert_eq!(said, [None, Some("AKIAIOSFODNN7EXAMPLE"), None, None]);
    assert!(failures.iter().all(|entry| entry.actor.is_none() && entry.result == Outcome::Refused));
}
