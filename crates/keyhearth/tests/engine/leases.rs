//! Leases: who may keep what it opens, for how long, and what the log says of it.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::entry::{Entry, Result as Outcome};
use keyhearth_core::id::KeyId;
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::Caller;
use keyhearth_core::request::{Ask, NewGrant, NewSecret, Request, Response};

use super::support::{House, Household, by_id, decrypt, got, secret};

const HOUR: u32 = 60 * 60;
const FILE: &str = "d1eb8eebe25e358cdd75d27577c8571a";

async fn scene() -> (House, Household, KeyId) {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    (house, home, key)
}

/// Sets the policy of this name.
async fn policy(home: &Household, name: &str, text: &str) {
    let put = Ask::PutPolicy { name: name.parse().unwrap(), text: text.to_owned() };
    home.ask(&home.admin, put).await.unwrap();
}

/// Lets key users hold what they open, under this condition.
async fn allow(home: &Household, condition: &str) {
    let text = format!(
        r#"permit (principal in Keyhearth::Role::"key-user", action == Keyhearth::Action::"hold", resource is Keyhearth::Key)
           when {{ {condition} }};"#
    );
    policy(home, "hold", &text).await;
}

fn leased(key: KeyId, ciphertext: &[u8], seconds: u32) -> Ask {
    let Ask::Decrypt { key, mechanism, version, iv, context, ciphertext, .. } = decrypt(key, ciphertext)
    else {
        panic!()
    };
    Ask::Decrypt { key, mechanism, version, iv, context, ciphertext, lease_seconds: seconds }
}

async fn open(home: &Household, who: &Arc<Caller>, ask: Ask) -> Result<String, Error> {
    let answer = home.ask(who, ask).await?;
    Ok(
        got!(Ok::<_, Error>(answer), Response::Decrypted { plaintext, .. } => String::from_utf8(plaintext.to_vec()).unwrap()),
    )
}

/// The newest entry of an opening.
async fn logged(home: &Household) -> Entry {
    home.newest(Operation::Decrypt).await
}

#[tokio::test]
async fn nobody_holds_what_no_policy_lets_it_hold() {
    let (_house, home, key) = scene().await;
    let sealed = home.encrypt(key, "x").await.unwrap();
    assert_eq!(open(&home, &home.user, leased(key, &sealed, 0)).await.as_deref(), Ok("x"));
    assert_eq!(logged(&home).await.lease_seconds, None);
    assert_eq!(open(&home, &home.user, leased(key, &sealed, 1)).await, Err(Error::Denied));
    let entry = logged(&home).await;
    assert_eq!((entry.result, entry.lease_seconds), (Outcome::Refused, Some(1)));
    assert_eq!((entry.key, entry.detail.as_deref()), (Some(key), Some("hold")));

    allow(&home, "context.lease_seconds <= 28800").await;
    assert_eq!(open(&home, &home.user, leased(key, &sealed, 8 * HOUR)).await.as_deref(), Ok("x"));
    let entry = logged(&home).await;
    assert_eq!((entry.result, entry.lease_seconds), (Outcome::Done, Some(8 * HOUR)));
    assert_eq!(entry.by, ["role:key-user", "hold"]);
    assert_eq!(open(&home, &home.user, leased(key, &sealed, 8 * HOUR + 1)).await, Err(Error::Denied));

    let unopened = home.issue("holder", &[]).await;
    let text = format!(
        r#"permit (principal == Keyhearth::Principal::"{}", action == Keyhearth::Action::"hold", resource);"#,
        unopened.principal
    );
    policy(&home, "holder", &text).await;
    assert_eq!(
        open(&home, &unopened, leased(key, &sealed, 1)).await,
        Err(Error::Denied),
        "to hold is not to open"
    );
}

#[tokio::test]
async fn policies_see_how_long_and_until_when() {
    let (_house, home, key) = scene().await;
    let sealed = home.encrypt(key, "x").await.unwrap();
    allow(&home, "true").await;
    let day = 24 * HOUR;
    policy(
        &home,
        "day",
        r#"forbid (principal, action in Keyhearth::Action::"use", resource) when { context.lease_seconds > 86400 };"#,
    )
    .await;
    for (seconds, expected) in
        [(day, Ok("x".to_owned())), (day + 1, Err(Error::Denied)), (0, Ok("x".to_owned()))]
    {
        assert_eq!(open(&home, &home.user, leased(key, &sealed, seconds)).await, expected, "{seconds}");
    }
    let test = |lease_seconds| Ask::TestPolicy {
        identity: home.user.principal,
        operation: Operation::Decrypt,
        key: Some(by_id(key)),
        context: Vec::new(),
        lease_seconds,
    };
    for (seconds, expected) in [(day, true), (day + 1, false)] {
        got!(home.ask(&home.admin, test(seconds)).await, Response::PolicyTest { allowed, .. } => assert_eq!(allowed, expected));
    }
    // What is allowed until a time is not held longer.
    let entry = logged(&home).await;
    let noon = entry.time.plus_ms(u64::from(12 * HOUR) * 1_000);
    let ends = format!("context.now < datetime(\"1970-01-01\").offset(duration(\"{}ms\"))", noon.unix_ms());
    allow(&home, &ends).await;
    assert!(open(&home, &home.user, leased(key, &sealed, HOUR)).await.is_ok());
    assert_eq!(open(&home, &home.user, leased(key, &sealed, 13 * HOUR)).await, Err(Error::Denied));
}

#[tokio::test]
async fn a_lease_ends_with_the_grant_that_allows_it() {
    let (_house, home, key) = scene().await;
    let sealed = home.encrypt(key, "x").await.unwrap();
    let friend = home.issue("friend", &[]).await;
    let text = r#"permit (principal, action == Keyhearth::Action::"hold", resource);"#;
    policy(&home, "hold", text).await;
    let grant = |hours: Option<u32>| {
        let now = home.engine().now().latest;
        let expires = hours.map(|hours| now.plus_ms(u64::from(hours * HOUR) * 1_000));
        let new = NewGrant::new(by_id(key), friend.principal, vec![Operation::Decrypt]);
        Ask::CreateGrant(NewGrant { expires, ..new })
    };
    home.ask(&home.user, grant(Some(2))).await.unwrap();
    home.ask(&home.user, grant(Some(3))).await.unwrap();
    assert!(open(&home, &friend, leased(key, &sealed, 2 * HOUR + 1)).await.is_ok(), "the longer one");
    let refused = open(&home, &friend, leased(key, &sealed, 4 * HOUR)).await.unwrap_err();
    let Error::TooLarge { field: "lease_seconds", limit } = refused else { panic!("{refused}") };
    let limit = u32::try_from(limit).unwrap();
    assert!(limit > 2 * HOUR && limit <= 3 * HOUR, "{limit}");
    home.ask(&home.user, grant(None)).await.unwrap();
    assert!(open(&home, &friend, leased(key, &sealed, 4 * HOUR)).await.is_ok(), "one without an end");
    let hold = Ask::CreateGrant(NewGrant::new(by_id(key), friend.principal, vec![Operation::Hold]));
    assert!(
        matches!(home.ask(&home.user, hold).await, Err(Error::Invalid { .. })),
        "policies alone let hold"
    );
}

#[tokio::test]
async fn what_was_held_is_found_in_the_log() {
    let (_house, home, key) = scene().await;
    allow(&home, "true").await;
    let context = || vec![("file".to_owned(), FILE.to_owned())];
    let encrypt =
        Ask::Encrypt { key: by_id(key), mechanism: None, context: context(), plaintext: secret("x") };
    let sealed =
        got!(home.ask(&home.user, encrypt).await, Response::Encrypted { ciphertext, .. } => ciphertext);
    let with = |seconds| {
        let Ask::Decrypt { key, mechanism, version, iv, ciphertext, lease_seconds, .. } =
            leased(key, &sealed, seconds)
        else {
            panic!()
        };
        Ask::Decrypt { key, mechanism, version, iv, context: context(), ciphertext, lease_seconds }
    };
    open(&home, &home.user, with(HOUR)).await.unwrap();
    let entry = logged(&home).await;
    assert_eq!(entry.detail.as_deref(), Some(&*format!("file/{FILE}")));
    open(&home, &home.user, with(0)).await.unwrap();
    assert_eq!(logged(&home).await.detail, None, "other contexts are in the log as HMACs alone");

    let name = || format!("file/{FILE}").parse().unwrap();
    let value = NewSecret::Given(secret("y"));
    home.ask(&home.user, Ask::KeepSecret { key: by_id(key), name: name(), value, replace: false })
        .await
        .unwrap();
    let read = |lease_seconds| Ask::ReadSecret { key: None, name: name(), lease_seconds };
    home.ask(&home.user, read(HOUR)).await.unwrap();
    let entry = home.newest(Operation::ReadSecret).await;
    assert_eq!((entry.lease_seconds, entry.detail), (Some(HOUR), Some(format!("file/{FILE}"))));
    policy(&home, "hold", r#"forbid (principal, action == Keyhearth::Action::"hold", resource);"#).await;
    assert_eq!(home.ask(&home.user, read(HOUR)).await.unwrap_err(), Error::Denied);
    assert!(home.ask(&home.user, read(0)).await.is_ok());

    let engine = home.engine();
    allow(&home, "true").await;
    let dry = Request { dry_run: true, ..Request::new(engine.request_id(), leased(key, &sealed, HOUR)) };
    let _ = engine.execute(&home.user, Arc::new(dry)).await;
    assert_eq!(logged(&home).await.lease_seconds, None, "nothing was given out");
}
