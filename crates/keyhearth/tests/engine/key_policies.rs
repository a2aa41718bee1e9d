//! Keys' own policies: closed keys, what still holds on them, and that record and text change together.

use std::collections::BTreeSet;
use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::{KeyId, Name};
use keyhearth_core::key::Key;
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{NewKeyPolicy, THIS_KEY, key_policy_name};
use keyhearth_core::principal::{Caller, Role};
use keyhearth_core::request::{Ask, KeyChange, NewGrant, NewKey, Response};
use keyhearth_crypto::algorithm::Algorithm;

use super::support::{House, Household, by_id, got, new_key, page, secret};

/// A policy of the key that permits these operations to one caller.
fn permit(to: &Caller, operations: &str) -> String {
    let principal = to.principal;
    let actions: Vec<_> =
        operations.split(' ').map(|name| format!("Keyhearth::Action::\"{name}\"")).collect();
    let actions = actions.join(", ");
    format!(
        "permit (principal == Keyhearth::Principal::\"{principal}\", action in [{actions}], resource == {THIS_KEY});"
    )
}

fn closed(text: String) -> NewKeyPolicy {
    NewKeyPolicy { document: Some("as written".to_owned()), closed: true, text: Some(text) }
}

async fn put(home: &Household, by: &Arc<Caller>, key: KeyId, policy: NewKeyPolicy) -> Result<(), Error> {
    home.ask(by, Ask::PutKeyPolicy { key: by_id(key), policy }).await.map(drop)
}

async fn shown(
    home: &Household,
    by: &Arc<Caller>,
    key: KeyId,
) -> Result<(Option<String>, bool, Option<String>), Error> {
    let answer = home.ask(by, Ask::KeyPolicy { key: by_id(key) }).await?;
    Ok(
        got!(Ok::<_, Error>(answer), Response::KeyPolicy { document, closed, text, .. } => (document, closed, text)),
    )
}

async fn names_of_policies(home: &Household) -> Vec<Name> {
    got!(home.ask(&home.admin, Ask::ListPolicies).await, Response::Policies(policies) => {
        policies.into_iter().map(|policy| policy.name).collect()
    })
}

#[tokio::test]
async fn a_closed_key_shuts_out_roles_and_lets_in_whom_it_names_and_grantees() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let (key, other) = (home.aes().await.id, home.aes().await.id);
    let (a, b) = (home.issue("a", &[Role::KeyUser]).await, home.issue("b", &[]).await);
    home.encrypt(key, "x").await.unwrap();
    let policy = permit(&a, "encrypt decrypt create-grant describe-key");
    put(&home, &home.admin, key, closed(policy.clone())).await.unwrap();

    let message = home.encrypt_as(&a, key, "text").await.unwrap();
    assert_eq!(home.newest(Operation::Encrypt).await.by, [key_policy_name(key).to_string()]);
    assert_eq!(home.encrypt(key, "x").await, Err(Error::Denied), "its role is shut out");
    for who in [&home.user, &home.key_admin, &home.auditor, &home.admin] {
        let refused = home.ask(who, Ask::DescribeKey { key: by_id(key) }).await;
        assert_eq!(refused.unwrap_err(), Error::Denied);
    }
    let rotate = home.ask(&home.key_admin, Ask::RotateKey { key: by_id(key) }).await;
    assert_eq!(rotate.unwrap_err(), Error::Denied);
    home.encrypt(other, "x").await.unwrap();

    let grant = |operations: &[Operation]| NewGrant::new(by_id(key), b.principal, operations.to_vec());
    home.ask(&a, Ask::CreateGrant(grant(&[Operation::Decrypt]))).await.unwrap();
    assert_eq!(home.decrypt_as(&b, key, &message).await.unwrap(), "text");
    let wider = home.ask(&a, Ask::CreateGrant(grant(&[Operation::Rewrap]))).await;
    assert_eq!(wider.unwrap_err(), Error::Denied, "its role does not count here");
    assert_eq!(
        home.ask(&home.user, Ask::CreateGrant(grant(&[Operation::Decrypt]))).await.unwrap_err(),
        Error::Denied
    );

    let able = got!(home.ask(&home.auditor, Ask::WhoCan { key: by_id(key) }).await, Response::WhoCan(abilities) => abilities);
    let able = |name: &str| -> Vec<_> {
        able.iter().filter(|one| one.name.as_str() == name).map(|one| one.operation.name()).collect()
    };
    assert_eq!(able("a"), ["describe-key", "encrypt", "decrypt", "create-grant"]);
    assert_eq!(able("b"), ["decrypt"]);
    assert_eq!(able("user"), [""; 0]);
    assert_eq!(able("admin"), ["who-can", "put-key-policy", "key-policy"]);

    put(&home, &home.admin, key, NewKeyPolicy { closed: false, ..closed(policy) }).await.unwrap();
    home.encrypt(key, "x").await.unwrap();
}

#[tokio::test]
async fn what_a_tenant_forbids_and_guard_rails_hold_on_a_closed_key() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let a = home.issue("a", &[]).await;
    let text = permit(&a, "encrypt decrypt") + &permit(&home.key_admin, "encrypt");
    put(&home, &home.admin, key, closed(text)).await.unwrap();
    home.encrypt_as(&a, key, "x").await.unwrap();
    assert_eq!(home.encrypt_as(&home.key_admin, key, "x").await, Err(Error::Denied), "guard-rail");
    let text = "forbid (principal, action == Keyhearth::Action::\"encrypt\", resource);".to_owned();
    home.ask(&home.admin, Ask::PutPolicy { name: "stop".parse().unwrap(), text }).await.unwrap();
    assert_eq!(home.encrypt_as(&a, key, "x").await, Err(Error::Denied));
    let text = "permit (principal, action, resource);".to_owned();
    home.ask(&home.admin, Ask::PutPolicy { name: "stop".parse().unwrap(), text }).await.unwrap();
    home.encrypt_as(&a, key, "x").await.unwrap();
    assert_eq!(home.encrypt(key, "x").await, Err(Error::Denied), "what the tenant permits does not reach it");
}

#[tokio::test]
async fn nobody_is_locked_out_and_others_do_not_govern() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let nobody = format!("forbid (principal, action, resource == {THIS_KEY});");
    put(&home, &home.admin, key, closed(nobody.clone())).await.unwrap();
    for who in [&home.user, &home.key_admin, &home.auditor, &home.custodian] {
        assert_eq!(put(&home, who, key, NewKeyPolicy::default()).await, Err(Error::Denied));
        assert_eq!(shown(&home, who, key).await, Err(Error::Denied));
    }
    let in_force = nobody.replace("this", &key.to_string());
    assert_eq!(
        shown(&home, &home.admin, key).await,
        Ok((Some("as written".to_owned()), true, Some(in_force)))
    );
    put(&home, &home.admin, key, NewKeyPolicy::default()).await.unwrap();
    assert_eq!(shown(&home, &home.user, key).await, Ok((None, false, None)));
    assert_eq!(names_of_policies(&home).await, []);
    home.encrypt(key, "x").await.unwrap();
    // Whom the key's own policy lets govern it does.
    let a = home.issue("a", &[]).await;
    put(&home, &home.admin, key, closed(permit(&a, "put-key-policy"))).await.unwrap();
    put(&home, &a, key, closed(permit(&a, "encrypt"))).await.unwrap();
    home.encrypt_as(&a, key, "x").await.unwrap();
    assert_eq!(put(&home, &a, key, NewKeyPolicy::default()).await, Err(Error::Denied));
}

#[tokio::test]
async fn whom_a_key_policy_lets_set_it_gives_nothing_that_cannot_be_taken_back() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let a = home.issue("a", &[]).await;
    let governs = permit(&a, "put-key-policy");
    put(&home, &home.admin, key, closed(governs.clone())).await.unwrap();
    let everything = format!("permit (principal, action, resource == {THIS_KEY});");
    for text in ["export", "destroy-key", "manage", "encrypt compromise-key"].map(|action| permit(&a, action))
    {
        for text in [format!("{governs} {text}"), everything.clone()] {
            let refused = put(&home, &a, key, closed(text)).await;
            assert!(matches!(refused, Err(Error::Invalid { field: "text", .. })), "{refused:?}");
        }
    }
    let forbid = format!(
        "forbid (principal, action, resource == {THIS_KEY}) unless {{ action in [Keyhearth::Action::\"govern\", Keyhearth::Action::\"use\"] }};"
    );
    put(&home, &a, key, closed(format!("{governs} {forbid} {}", permit(&a, "use schedule-destroy"))))
        .await
        .unwrap();
    home.encrypt_as(&a, key, "x").await.unwrap();
    // Governors can, and whom a policy of the tenant lets set it.
    put(&home, &home.admin, key, NewKeyPolicy { closed: false, ..closed(format!("{governs} {everything}")) })
        .await
        .unwrap();
    let text = permit(&a, "put-key-policy").replace(&format!("== {THIS_KEY}"), "");
    home.ask(&home.admin, Ask::PutPolicy { name: "a".parse().unwrap(), text }).await.unwrap();
    put(&home, &a, key, closed(everything)).await.unwrap();
}

#[tokio::test]
async fn a_list_says_no_more_of_a_key_than_its_policy_lets_one_read() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let new = NewKey {
        description: "payroll".to_owned(),
        tags: [("dept".to_owned(), "hr".to_owned())].into(),
        ..new_key(Algorithm::Aes256)
    };
    let (open, shut, hidden) =
        (home.create(new.clone()).await.id, home.create(new.clone()).await.id, home.create(new).await.id);
    put(&home, &home.admin, shut, closed(permit(&home.user, "describe-key"))).await.unwrap();
    let forbid = format!(
        "forbid (principal == Keyhearth::Principal::\"{}\", action in Keyhearth::Action::\"inspect\", resource == {THIS_KEY});",
        home.key_admin.principal
    );
    put(&home, &home.admin, hidden, NewKeyPolicy { closed: false, ..closed(forbid) }).await.unwrap();
    let read = async |who: &Arc<Caller>| -> BTreeSet<KeyId> {
        let keys =
            got!(home.ask(who, Ask::ListKeys { page: page(9) }).await, Response::Keys { keys, .. } => keys);
        assert_eq!(keys.len(), 3, "that there are keys is no secret of theirs");
        for key in &keys {
            assert_eq!(key.description.is_empty(), key.tags.is_empty());
        }
        keys.into_iter().filter(|key| !key.tags.is_empty()).map(|key| key.id).collect()
    };
    assert_eq!(read(&home.user).await, [open, shut, hidden].into());
    assert_eq!(read(&home.key_admin).await, [open].into());
    assert_eq!(read(&home.auditor).await, [open, hidden].into());
}

#[tokio::test]
async fn names_that_differ_in_case_alone_are_refused_where_a_document_rules() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let tags = |names: [&str; 2]| names.map(|name| (name.to_owned(), "x".to_owned()));
    let encrypt = async |names| {
        let context = tags(names).to_vec();
        let ask = Ask::Encrypt { key: by_id(key), mechanism: None, context, plaintext: secret("x") };
        home.ask(&home.user, ask).await.map(drop)
    };
    let tag = async |names| {
        let change = KeyChange { tags: Some(tags(names).into()), ..KeyChange::default() };
        home.manage(Ask::UpdateKey { key: by_id(key), change }).await.map(drop)
    };
    let refused = |result: Result<(), Error>, of: &str| {
        assert!(matches!(&result, Err(Error::Invalid { field, .. }) if *field == of), "{result:?}");
    };
    let document = || NewKeyPolicy { document: Some("as written".to_owned()), ..NewKeyPolicy::default() };
    tag(["dept", "Dept"]).await.unwrap();
    encrypt(["dept", "Dept"]).await.unwrap();
    refused(put(&home, &home.admin, key, document()).await, "tags");
    tag(["dept", "env"]).await.unwrap();
    put(&home, &home.admin, key, document()).await.unwrap();
    refused(tag(["dept", "Dept"]).await, "tags");
    refused(encrypt(["dept", "Dept"]).await, "context");
    encrypt(["Dept", "env"]).await.unwrap();
    let new =
        NewKey { policy: document(), tags: tags(["dept", "Dept"]).into(), ..new_key(Algorithm::Aes256) };
    refused(home.manage(Ask::CreateKey(new)).await.map(drop), "tags");
}

#[tokio::test]
async fn a_key_policy_is_about_its_key_and_about_identities_that_are() {
    let house = House::new().await;
    let (home, two) = (house.tenant("one").await, house.tenant("two").await);
    let (key, other) = (home.aes().await.id, home.aes().await.id);
    let a = home.issue("a", &[]).await;
    let good = permit(&a, "encrypt");
    for scope in [
        format!("resource == Keyhearth::Key::\"{other}\""),
        "resource".to_owned(),
        "resource is Keyhearth::Key".to_owned(),
        format!("resource in {THIS_KEY}"),
        format!("resource is Keyhearth::Key in {THIS_KEY}"),
    ] {
        let text = format!("{good} permit (principal, action == Keyhearth::Action::\"encrypt\", {scope});");
        let refused = put(&home, &home.admin, key, closed(text)).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "text", .. })), "{scope}: {refused:?}");
    }
    for text in ["", "permit", "// nothing"] {
        let refused = put(&home, &home.admin, key, closed(text.to_owned())).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "text", .. })), "{text}: {refused:?}");
    }
    let gone = home.issue("gone", &[]).await;
    home.ask(&home.admin, Ask::RevokeIdentity { identity: gone.principal }).await.unwrap();
    for who in [&gone, &two.user] {
        let refused = put(&home, &home.admin, key, closed(permit(who, "encrypt"))).await;
        assert_eq!(refused, Err(Error::NotFound("identity")));
    }
    assert_eq!(shown(&home, &home.admin, key).await, Ok((None, false, None)), "nothing was kept of these");
    home.encrypt(key, "x").await.unwrap();
    // In a string of the policy the words are only words.
    let odd = format!(
        "{good} forbid (principal, action, resource == {THIS_KEY}) when {{ principal.name == {:?} }};",
        THIS_KEY
    );
    put(&home, &home.admin, key, closed(odd)).await.unwrap();
    home.encrypt_as(&a, key, "x").await.unwrap();
    // An identity that ends has nothing of what it had.
    home.ask(&home.admin, Ask::RevokeIdentity { identity: a.principal }).await.unwrap();
    assert_eq!(home.encrypt_as(&a, key, "x").await, Err(Error::Denied));
}

#[tokio::test]
async fn a_key_policy_is_changed_with_its_key_only() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    put(&home, &home.admin, key, closed(permit(&home.user, "encrypt"))).await.unwrap();
    let name = key_policy_name(key);
    assert_eq!(names_of_policies(&home).await, std::slice::from_ref(&name));
    let text = "permit (principal, action, resource);".to_owned();
    for ask in [
        Ask::PutPolicy { name: name.clone(), text: text.clone() },
        Ask::DeletePolicy { name: name.clone() },
        Ask::DiffPolicy { name, text: Some(text.clone()) },
    ] {
        let refused = home.ask(&home.admin, ask).await.unwrap_err();
        assert!(matches!(refused, Error::Invalid { field: "name", .. }), "{refused:?}");
    }
    home.ask(&home.admin, Ask::PutPolicy { name: "key-users".parse().unwrap(), text }).await.unwrap();
    home.encrypt(key, "x").await.unwrap();
}

#[tokio::test]
async fn a_key_is_made_with_its_policy_by_who_may_do_both() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let both = home.issue("both", &[Role::KeyAdmin, Role::TenantAdmin]).await;
    let a = home.issue("a", &[]).await;
    let new = |policy| Ask::CreateKey(NewKey { policy, ..new_key(Algorithm::Aes256) });
    let text = permit(&a, "encrypt");
    for who in [&home.key_admin, &home.admin] {
        assert_eq!(home.ask(who, new(closed(text.clone()))).await.unwrap_err(), Error::Denied);
    }
    let key = got!(home.ask(&both, new(closed(text))).await, Response::Key(key) => *key);
    assert!(key.is_closed());
    home.encrypt_as(&a, key.id, "x").await.unwrap();
    assert_eq!(home.encrypt(key.id, "x").await, Err(Error::Denied));
    // What decides nothing needs no more than making a key.
    let document = NewKeyPolicy { document: Some("all as usual".to_owned()), ..NewKeyPolicy::default() };
    let Key { id, policy, .. } =
        got!(home.ask(&home.key_admin, new(document)).await, Response::Key(key) => *key);
    assert_eq!(policy.and_then(|policy| policy.document).as_deref(), Some("all as usual"));
    home.encrypt(id, "x").await.unwrap();
    let refused = home.ask(&both, new(closed("permit (principal, action, resource);".to_owned()))).await;
    assert!(matches!(refused, Err(Error::Invalid { field: "text", .. })), "{refused:?}");
}

#[tokio::test]
async fn record_and_text_change_together_and_last() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b) = (home.issue("a", &[]).await, home.issue("b", &[]).await);
    put(&home, &home.admin, key, closed(permit(&a, "encrypt"))).await.unwrap();
    let mut answers = Vec::new();
    for who in [&b, &a, &b] {
        put(&home, &home.admin, key, closed(permit(who, "encrypt"))).await.unwrap();
        let may = |caller| home.encrypt_as(caller, key, "x");
        answers.push((may(&a).await.is_ok(), may(&b).await.is_ok()));
    }
    assert_eq!(answers, [(false, true), (true, false), (false, true)]);
    let house = house.restart().await;
    let home = home.within(&house);
    assert_eq!(home.encrypt_as(&a, key, "x").await, Err(Error::Denied));
    home.encrypt_as(&b, key, "x").await.unwrap();
    home.ask(&home.admin, Ask::RevokeIdentity { identity: b.principal }).await.unwrap();
    assert_eq!(home.encrypt_as(&b, key, "x").await, Err(Error::Denied));
}

#[tokio::test]
async fn a_grant_on_a_closed_key_is_revoked_by_whom_its_policy_says() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let key = home.aes().await.id;
    let (a, b, c) = (home.issue("a", &[]).await, home.issue("b", &[]).await, home.issue("c", &[]).await);
    let text = permit(&a, "encrypt create-grant") + &permit(&c, "revoke-grant");
    put(&home, &home.admin, key, closed(text)).await.unwrap();
    let grant = Ask::CreateGrant(NewGrant::new(by_id(key), b.principal, vec![Operation::Encrypt]));
    let grant = got!(home.ask(&a, grant).await, Response::Grant(grant) => grant.id);
    home.encrypt_as(&b, key, "x").await.unwrap();
    let revoke = || Ask::RevokeGrant { key: by_id(key), grant };
    for who in [&home.key_admin, &home.user] {
        assert_eq!(home.ask(who, revoke()).await.unwrap_err(), Error::Denied);
    }
    home.ask(&c, revoke()).await.unwrap();
    assert_eq!(home.encrypt_as(&b, key, "x").await, Err(Error::Denied));
}
