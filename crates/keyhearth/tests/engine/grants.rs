//! Passing on what one holds, only ever narrower, and ending it.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::grant::{GRANTS_PER_KEY_MAX, Grant};
use keyhearth_core::id::{GrantId, KeyId};
use keyhearth_core::operation::Operation;
use keyhearth_core::principal::{Caller, Role};
use keyhearth_core::request::{Ask, NewGrant, Page, Response};
use keyhearth_core::time::Time;

use super::support::{House, Household, by_id, got, page, secret};

fn grant(key: KeyId, to: &Caller, operations: &[Operation]) -> NewGrant {
    NewGrant { delegable: true, ..NewGrant::new(by_id(key), to.principal, operations.to_vec()) }
}

async fn give(home: &Household, from: &Arc<Caller>, new: NewGrant) -> Result<Grant, Error> {
    let answer = home.ask(from, Ask::CreateGrant(new)).await?;
    Ok(*got!(Ok::<_, Error>(answer), Response::Grant(grant) => grant))
}

async fn revoke(home: &Household, by: &Arc<Caller>, key: KeyId, grant: GrantId) -> Result<(), Error> {
    home.ask(by, Ask::RevokeGrant { key: by_id(key), grant }).await.map(|_| ())
}

const BOTH: [Operation; 2] = [Operation::Encrypt, Operation::Decrypt];

#[tokio::test]
async fn a_chain_of_grants_narrows_and_ends_with_its_first() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b, c) = (home.issue("a", &[]).await, home.issue("b", &[]).await, home.issue("c", &[]).await);
    assert_eq!(home.encrypt_as(&a, key, "x").await, Err(Error::Denied));
    let first = give(&home, &home.user, grant(key, &a, &BOTH)).await.unwrap();
    let message = home.encrypt_as(&a, key, "text").await.unwrap();
    assert_eq!(home.newest(Operation::Encrypt).await.by, [format!("grant:{}", first.id)]);

    let wider = give(&home, &a, grant(key, &b, &[Operation::Encrypt, Operation::Rewrap])).await;
    assert!(matches!(wider, Err(Error::Invalid { field: "operations", .. })), "{wider:?}");
    let second = give(&home, &a, grant(key, &b, &[Operation::Decrypt])).await.unwrap();
    assert_eq!((second.parent, second.depth), (Some(first.id), 1));
    assert_eq!(home.decrypt_as(&b, key, &message).await.unwrap(), "text");
    assert_eq!(home.encrypt_as(&b, key, "x").await, Err(Error::Denied));
    let wider = give(&home, &b, grant(key, &c, &[Operation::Encrypt])).await;
    assert!(matches!(wider, Err(Error::Invalid { field: "operations", .. })), "{wider:?}");
    let third = give(&home, &b, NewGrant { delegable: false, ..grant(key, &c, &[Operation::Decrypt]) })
        .await
        .unwrap();
    assert_eq!(home.decrypt_as(&c, key, &message).await.unwrap(), "text");
    assert_eq!(give(&home, &c, grant(key, &a, &[Operation::Decrypt])).await, Err(Error::Denied));
    assert_eq!(
        revoke(&home, &b, key, first.id).await,
        Err(Error::Denied),
        "not its grantor, not its grantee"
    );

    revoke(&home, &c, key, third.id).await.expect("a grant that may not be passed on can be given back");
    assert_eq!(home.decrypt_as(&c, key, &message).await, Err(Error::Denied));
    let third = give(&home, &b, grant(key, &c, &[Operation::Decrypt])).await.unwrap();
    assert_eq!(home.decrypt_as(&c, key, &message).await.unwrap(), "text");

    revoke(&home, &home.user, key, first.id).await.unwrap();
    for caller in [&a, &b, &c] {
        assert_eq!(home.decrypt_as(caller, key, &message).await, Err(Error::Denied));
    }
    let left = got!(home.ask(&home.auditor, Ask::ListGrants { key: by_id(key), page: page(9) }).await, Response::Grants { grants, .. } => grants);
    assert_eq!(left, [], "{} ended with its first", third.id);
    assert_eq!(revoke(&home, &home.user, key, first.id).await, Err(Error::NotFound("grant")));
}

#[tokio::test]
async fn the_middle_of_a_chain_can_be_ended_alone() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b) = (home.issue("a", &[]).await, home.issue("b", &[]).await);
    give(&home, &home.user, grant(key, &a, &BOTH)).await.unwrap();
    let second = give(&home, &a, grant(key, &b, &BOTH)).await.unwrap();
    revoke(&home, &b, key, second.id).await.unwrap();
    assert_eq!(home.encrypt_as(&b, key, "x").await, Err(Error::Denied));
    home.encrypt_as(&a, key, "x").await.unwrap();
}

#[tokio::test]
async fn the_administrator_of_a_key_can_end_any_grant_on_it() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let a = home.issue("a", &[]).await;
    let made = give(&home, &home.user, grant(key, &a, &BOTH)).await.unwrap();
    let other = home.issue("other", &[Role::KeyUser]).await;
    assert_eq!(revoke(&home, &other, key, made.id).await, Err(Error::Denied));
    revoke(&home, &home.key_admin, key, made.id).await.unwrap();
    assert_eq!(home.encrypt_as(&a, key, "x").await, Err(Error::Denied));
    assert_eq!(
        give(&home, &home.key_admin, grant(key, &a, &BOTH)).await,
        Err(Error::Denied),
        "it does not hold the use"
    );
}

#[tokio::test]
async fn a_key_has_a_thousand_grants_and_those_that_ended_give_way() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let a = home.issue("a", &[]).await;
    let made = |file: usize, expires| {
        let context = BTreeMap::from([("file".to_owned(), file.to_string())]);
        give(&home, &home.user, NewGrant { context, expires, ..grant(key, &a, &BOTH) })
    };
    let past = Time::from_unix_ms(1);
    let ended = made(0, Some(past)).await.unwrap();
    for file in 1..GRANTS_PER_KEY_MAX {
        made(file, None).await.unwrap();
    }
    let list = || async {
        let asked =
            home.ask(&home.auditor, Ask::ListGrants { key: by_id(key), page: page(GRANTS_PER_KEY_MAX) });
        got!(asked.await, Response::Grants { grants, .. } => grants)
    };
    assert!(list().await.contains(&ended));
    let last = made(1_000, None).await.unwrap();
    let listed = list().await;
    assert!(listed.len() == GRANTS_PER_KEY_MAX && listed.contains(&last) && !listed.contains(&ended));
    let full = Error::TooLarge { field: "grants", limit: GRANTS_PER_KEY_MAX };
    assert_eq!(made(1_001, None).await, Err(full));
}

#[tokio::test]
async fn a_grant_binds_context_and_end() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b) = (home.issue("a", &[]).await, home.issue("b", &[]).await);
    let context = BTreeMap::from([("dept".to_owned(), "hr".to_owned())]);
    let now = house.engine.now().latest;
    let end = Some(now.plus_ms(3_600_000));
    let new = NewGrant { context: context.clone(), expires: end, ..grant(key, &a, &BOTH) };
    give(&home, &home.user, new).await.unwrap();
    let with = |pairs: &[(&str, &str)]| Ask::Encrypt {
        key: by_id(key),
        mechanism: None,
        context: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        plaintext: secret("x"),
    };
    home.ask(&a, with(&[("dept", "hr"), ("file", "1")])).await.unwrap();
    for pairs in [&[][..], &[("dept", "it")], &[("file", "1")]] {
        assert_eq!(home.ask(&a, with(pairs)).await.unwrap_err(), Error::Denied, "{pairs:?}");
    }
    let to_b = |expires: Option<Time>, context: BTreeMap<String, String>| NewGrant {
        expires,
        context,
        ..grant(key, &b, &BOTH)
    };
    let no_context = give(&home, &a, to_b(end, BTreeMap::new())).await;
    assert!(matches!(no_context, Err(Error::Invalid { field: "context", .. })), "{no_context:?}");
    for later in [None, Some(now.plus_ms(7_200_000))] {
        let refused = give(&home, &a, to_b(later, context.clone())).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "expires", .. })), "{refused:?}");
    }
    give(&home, &a, to_b(end, context)).await.unwrap();

    let c = home.issue("c", &[]).await;
    give(&home, &home.user, NewGrant { expires: Some(now), ..grant(key, &c, &BOTH) }).await.unwrap();
    assert_eq!(home.encrypt_as(&c, key, "x").await, Err(Error::Denied), "it has ended");
}

#[tokio::test]
async fn nobody_passes_on_what_it_does_not_hold() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let a = home.issue("a", &[]).await;
    assert_eq!(give(&home, &a, grant(key, &a, &BOTH)).await, Err(Error::Denied));
    let export = give(&home, &home.user, grant(key, &a, &[Operation::ExportKey])).await;
    assert_eq!(export, Err(Error::Denied), "a user may not export");
    for operation in [Operation::RotateKey, Operation::DestroyKey, Operation::CreateGrant] {
        let refused = give(&home, &home.user, grant(key, &a, &[operation])).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "operations", .. })), "{}", operation.name());
    }
    for who in [&home.key_admin, &home.auditor, &home.admin] {
        let refused = give(&home, &home.user, grant(key, who, &BOTH)).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "grantee", .. })));
    }
    let revoked = home.issue("gone", &[]).await;
    home.ask(&home.admin, Ask::RevokeIdentity { identity: revoked.principal }).await.unwrap();
    assert!(give(&home, &home.user, grant(key, &revoked, &BOTH)).await.is_err());
}

#[tokio::test]
async fn what_a_grant_demands_is_what_policies_read_of_its_making() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let a = home.issue("a", &[]).await;
    let text = r#"forbid (principal, action == Keyhearth::Action::"create-grant", resource)
        when { context.context.hasTag("dept") && context.context.getTag("dept") == "hr" };"#;
    let put = Ask::PutPolicy { name: "no-hr".parse().unwrap(), text: text.to_owned() };
    home.ask(&home.admin, put).await.unwrap();
    let pairs = |value: &str| BTreeMap::from([("dept".to_owned(), value.to_owned())]);
    let (subset, exact) = (
        |value| NewGrant { context: pairs(value), ..grant(key, &a, &BOTH) },
        |value| NewGrant { exact_context: Some(pairs(value)), ..grant(key, &a, &BOTH) },
    );
    for new in [subset("hr"), exact("hr")] {
        assert_eq!(give(&home, &home.user, new).await, Err(Error::Denied));
    }
    for new in [subset("it"), exact("it"), grant(key, &a, &BOTH)] {
        give(&home, &home.user, new).await.unwrap();
    }
}

#[tokio::test]
async fn a_conditional_right_is_passed_on_only_as_far_as_it_goes() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b) = (home.issue("a", &[]).await, home.issue("b", &[]).await);
    let pairs = |text: &[(&str, &str)]| -> BTreeMap<String, String> {
        text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let hr = || pairs(&[("dept", "hr")]);
    let give_by = async |when: &str, operation: Operation, new: NewGrant| {
        let action = operation.name();
        let text = format!(
            r#"permit (principal == Keyhearth::Principal::"{0}", action == Keyhearth::Action::"create-grant", resource);
               permit (principal == Keyhearth::Principal::"{0}", action == Keyhearth::Action::"{action}", resource)
               when {{ {when} }};"#,
            a.principal
        );
        home.ask(&home.admin, Ask::PutPolicy { name: "p".parse().unwrap(), text }).await.unwrap();
        give(&home, &a, NewGrant { operations: vec![operation], ..new }).await.map(drop)
    };
    let plain = || grant(key, &b, &BOTH);
    let subset = || NewGrant { context: hr(), ..plain() };
    let exact = || NewGrant { exact_context: Some(hr()), ..plain() };
    let is_hr = r#"context.context.hasTag("dept") && context.context.getTag("dept") == "hr""#;
    for (when, may) in [
        ("resource.algorithm == \"aes-256\"", [true, true, true]),
        (is_hr, [false, true, true]),
        (r#"!(context.context.hasTag("file"))"#, [false, false, true]),
        (r#"["dept"].containsAll(context.context.names)"#, [false, false, true]),
        (r#"context.ip.isInRange(ip("0.0.0.0/0")) || !context.ip.isInRange(ip("0.0.0.0/0"))"#, [false; 3]),
        (r#"context.now > datetime("2020-01-01")"#, [false; 3]),
        (r#"["local", "certificate"].contains(context.proof)"#, [false; 3]),
    ] {
        for (new, may) in [plain(), subset(), exact()].into_iter().zip(may) {
            let result = give_by(when, Operation::Encrypt, new).await;
            assert_eq!(result.is_ok(), may, "{when}: {result:?}");
            let refused = [Err(Error::Denied)].contains(&result)
                || matches!(result, Err(Error::Invalid { field: "operations", .. }));
            assert_eq!(refused, !may, "{when}");
        }
    }
    let reads = give_by(is_hr, Operation::DescribeKey, exact()).await;
    assert!(reads.is_err(), "a grant demands no pairs of what only reads");
    let text = format!(
        r#"permit (principal == Keyhearth::Principal::"{0}", action == Keyhearth::Action::"encrypt", resource);
           permit (principal == Keyhearth::Principal::"{0}", action == Keyhearth::Action::"create-grant", resource)
           when {{ context.now > datetime("2020-01-01") }};"#,
        a.principal
    );
    home.ask(&home.admin, Ask::PutPolicy { name: "p".parse().unwrap(), text }).await.unwrap();
    for delegable in [true, false] {
        let new = NewGrant { operations: vec![Operation::Encrypt], delegable, ..plain() };
        assert_eq!(give(&home, &a, new).await.is_err(), delegable, "passing on is a right too");
    }
    // Who has it without a condition as well, has it.
    let text = format!(r#"permit (principal == Keyhearth::Principal::"{}", action, resource);"#, a.principal);
    home.ask(&home.admin, Ask::PutPolicy { name: "q".parse().unwrap(), text }).await.unwrap();
    give_by("context.now > datetime(\"2020-01-01\")", Operation::Encrypt, plain()).await.unwrap();
}

#[tokio::test]
async fn a_retiree_may_end_a_grant_and_nothing_else() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b, c) = (home.issue("a", &[]).await, home.issue("b", &[]).await, home.issue("c", &[]).await);
    let new = || NewGrant { retiree: Some(b.principal), ..grant(key, &a, &BOTH) };
    let made = give(&home, &home.user, new()).await.unwrap();
    assert_eq!(home.encrypt_as(&b, key, "x").await, Err(Error::Denied));
    assert_eq!(give(&home, &b, grant(key, &c, &BOTH)).await, Err(Error::Denied));
    let other = give(&home, &home.user, grant(key, &a, &BOTH)).await.unwrap();
    assert_eq!(revoke(&home, &b, key, other.id).await, Err(Error::Denied), "it is not its retiree");
    assert_eq!(revoke(&home, &c, key, made.id).await, Err(Error::Denied));
    revoke(&home, &b, key, made.id).await.unwrap();
    revoke(&home, &home.user, key, other.id).await.unwrap();
    assert_eq!(home.encrypt_as(&a, key, "x").await, Err(Error::Denied));
    let gone = home.issue("gone", &[]).await;
    home.ask(&home.admin, Ask::RevokeIdentity { identity: gone.principal }).await.unwrap();
    let refused = give(&home, &home.user, NewGrant { retiree: Some(gone.principal), ..new() }).await;
    assert_eq!(refused, Err(Error::Conflict("the retiree is revoked")));
}

#[tokio::test]
async fn grants_are_listed_in_pages_by_key_and_by_retiree() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let keys = [home.aes().await.id, home.aes().await.id];
    let (a, b) = (home.issue("a", &[]).await, home.issue("b", &[]).await);
    let (mut on_first, mut of_b) = (Vec::new(), Vec::new());
    for number in 0..12 {
        let key = keys[number % 2];
        let retiree = (number % 3 == 0).then_some(b.principal);
        let id = give(&home, &home.user, NewGrant { retiree, ..grant(key, &a, &BOTH) }).await.unwrap().id;
        on_first.extend((key == keys[0]).then_some(id));
        of_b.extend(retiree.map(|_| id));
    }
    let all = async |who: &Arc<Caller>, list: &dyn Fn(Page) -> Ask| {
        let (mut ids, mut next) = (Vec::new(), Some(Vec::new()));
        while let Some(after) = next {
            let listed = got!(home.ask(who, list(Page { after, limit: 2 })).await, Response::Grants { grants, next } => (grants, next));
            assert!(listed.0.len() <= 2);
            ids.extend(listed.0.iter().map(|grant| grant.id));
            next = listed.1;
        }
        ids.sort();
        ids
    };
    on_first.sort();
    of_b.sort();
    assert_eq!(all(&home.user, &|page| Ask::ListGrants { key: by_id(keys[0]), page }).await, on_first);
    let of = |identity| move |page| Ask::ListRetirableGrants { identity, page };
    assert_eq!(all(&home.auditor, &of(b.principal)).await, of_b);
    assert_eq!(all(&home.user, &of(a.principal)).await, []);
    let other = house.tenant("two").await;
    assert_eq!(all(&other.user, &of(b.principal)).await, [], "another tenant's");
    let nobody = home.ask(&a, of(b.principal)(page(9))).await.unwrap_err();
    assert_eq!(nobody, Error::Denied);
}

#[tokio::test]
async fn a_grant_of_one_name_and_content_is_made_once() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let a = home.issue("a", &[]).await;
    let named = |name: &str| NewGrant { name: Some(name.to_owned()), ..grant(key, &a, &BOTH) };
    let first = give(&home, &home.user, named("n")).await.unwrap();
    assert_eq!(give(&home, &home.user, named("n")).await.unwrap(), first);
    let mut ids = vec![first.id];
    for other in [
        NewGrant { operations: vec![Operation::Encrypt], ..named("n") },
        NewGrant { exact_context: Some(BTreeMap::new()), ..named("n") },
        named("m"),
        grant(key, &a, &BOTH),
        grant(key, &a, &BOTH),
    ] {
        let id = give(&home, &home.user, other).await.unwrap().id;
        assert!(!ids.contains(&id));
        ids.push(id);
    }
    for bad in ["", "a b", &"x".repeat(257)] {
        let refused = give(&home, &home.user, named(bad)).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "name", .. })), "{bad}");
    }
}

#[tokio::test]
async fn of_several_grants_the_one_that_is_wide_enough_is_passed_on() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b) = (home.issue("a", &[]).await, home.issue("b", &[]).await);
    give(&home, &home.user, grant(key, &a, &[Operation::Encrypt])).await.unwrap();
    let second = give(&home, &home.user, grant(key, &a, &[Operation::Decrypt])).await.unwrap();
    let made = give(&home, &a, grant(key, &b, &[Operation::Decrypt])).await.unwrap();
    assert_eq!(made.parent, Some(second.id));
    let wider = give(&home, &a, grant(key, &b, &BOTH)).await;
    assert!(matches!(wider, Err(Error::Invalid { field: "operations", .. })), "{wider:?}");
}
