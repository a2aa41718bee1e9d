//! Tenants that cannot see each other, and roles that cannot do each other's work.

use std::sync::Arc;

use keyhearth_core::Error;
use keyhearth_core::id::{GrantId, KeyId, PrincipalId, TenantId};
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::NewKeyPolicy;
use keyhearth_core::principal::{CERTIFICATES_MAX, Caller, Role};
use keyhearth_core::request::{
    Ask, ImportMechanism, KeyChange, KeyRef, Message, NewGrant, NewMaterial, NewSecret, Response, Source,
};

use super::support::{
    HERE, House, Household, by_id, certificate_request, decrypt, encrypt, got, new_key, page, rewrap,
    role_change, secret, sign_in, source,
};
use keyhearth_core::entry::Entry;
use keyhearth_crypto::algorithm::Algorithm;

/// Every request that names a key, by every kind of caller that could be allowed to make it.
fn about_key(home: &Household, key: &KeyRef) -> Vec<(Arc<Caller>, Ask)> {
    let k = || key.clone();
    let id = match key {
        KeyRef::Id(id) => *id,
        KeyRef::Alias(_) => KeyId([1; 16]),
    };
    let (version, mechanism) = (None, None);
    let name = || "restic".parse().unwrap();
    let admin = [
        Ask::DescribeKey { key: k() },
        Ask::UpdateKey { key: k(), change: KeyChange::default() },
        Ask::RotateKey { key: k() },
        Ask::ActivateKey { key: k(), version },
        Ask::SuspendKey { key: k(), version },
        Ask::ResumeKey { key: k(), version },
        Ask::DeactivateKey { key: k(), version },
        Ask::CompromiseKey { key: k(), version },
        Ask::ScheduleDestroy { key: k(), days: 7 },
        Ask::CancelDestroy { key: k(), suspend: false },
        Ask::ImportParameters { key: k(), mechanism: ImportMechanism::HpkeX25519, wrapping: None },
        Ask::ImportKey { key: k(), material: NewMaterial { wrapped: vec![1; 80], ..NewMaterial::default() } },
        Ask::UnloadKey { key: k(), version },
        Ask::PublicKey { key: k(), version },
        Ask::LastUse { key: k() },
        Ask::SetAlias { key: k(), alias: "new".parse().unwrap() },
        Ask::DeleteAlias { key: k(), alias: "new".parse().unwrap() },
        Ask::MoveAlias { key: k(), alias: "new".parse().unwrap() },
        Ask::ListGrants { key: k(), page: page(1_000) },
        Ask::VolumeSecret { key: k(), machine: PrincipalId([1; 16]), volume: "root".parse().unwrap() },
        Ask::RecoverySecret { key: k(), machine: PrincipalId([1; 16]), volume: "root".parse().unwrap() },
    ];
    let data_key_pair = |with_plaintext| Ask::DataKeyPair {
        key: k(),
        context: Vec::new(),
        algorithm: Algorithm::EcP256,
        with_plaintext,
    };
    let user = [
        Ask::Encrypt { key: k(), mechanism, context: Vec::new(), plaintext: secret("x") },
        Ask::Decrypt {
            key: k(),
            mechanism,
            version,
            iv: Vec::new(),
            context: Vec::new(),
            ciphertext: vec![1; 120],
            lease_seconds: 0,
        },
        Ask::Rewrap {
            key: k(),
            mechanism,
            context: Vec::new(),
            source: Box::new(Source { key: None, ..source(id, &[1; 120]) }),
        },
        Ask::DataKey { key: k(), context: Vec::new(), bytes: 32, with_plaintext: true },
        Ask::DataKey { key: k(), context: Vec::new(), bytes: 32, with_plaintext: false },
        data_key_pair(true),
        data_key_pair(false),
        Ask::Sign { key: k(), mechanism, message: Message::Whole(secret("m")) },
        Ask::Verify {
            key: k(),
            mechanism,
            version,
            message: Message::Whole(secret("m")),
            signature: vec![1; 64],
        },
        Ask::Mac { key: k(), mechanism, message: secret("m") },
        Ask::VerifyMac { key: k(), mechanism, version, message: secret("m"), mac: vec![1; 32] },
        Ask::Wrap { key: k(), mechanism, material: secret("0123456789abcdef") },
        Ask::Unwrap { key: k(), mechanism, version, wrapped: vec![1; 40] },
        Ask::Agree { key: k(), version, peer: vec![1; 32] },
        Ask::Encapsulate { key: k() },
        Ask::Decapsulate { key: k(), version, encapsulated: vec![1; 1088] },
        Ask::Exchange { key: k(), version, peer: vec![1; 32] },
        Ask::KeepSecret { key: k(), name: name(), value: NewSecret::Generated(32), replace: false },
        Ask::ReadSecret { key: Some(k()), name: name(), lease_seconds: 0 },
        Ask::ExportKey { key: k(), version, mechanism: ImportMechanism::HpkeX25519, recipient: vec![1; 32] },
        Ask::CreateGrant(NewGrant::new(k(), home.user.principal, vec![Operation::Encrypt])),
        Ask::RevokeGrant { key: k(), grant: GrantId([1; 16]) },
    ];
    let admin = admin.into_iter().map(|ask| (Arc::clone(&home.key_admin), ask));
    let user = user.into_iter().map(|ask| (Arc::clone(&home.user), ask));
    let destroy = (Arc::clone(&home.custodian), Ask::DestroyKey { key: k(), version: 1, confirm: id });
    let shred = (Arc::clone(&home.custodian), Ask::ShredSecret { key: Some(k()), name: name() });
    let who_can = (Arc::clone(&home.auditor), Ask::WhoCan { key: k() });
    let policy = (Arc::clone(&home.auditor), Ask::KeyPolicy { key: k() });
    let set_policy =
        (Arc::clone(&home.admin), Ask::PutKeyPolicy { key: k(), policy: NewKeyPolicy::default() });
    admin.chain(user).chain([destroy, shred, who_can, policy, set_policy]).collect()
}

#[tokio::test]
async fn another_tenants_key_is_like_a_key_that_never_was() {
    let house = House::new().await;
    let (one, two) = (house.tenant("one").await, house.tenant("two").await);
    let mut new = new_key(Algorithm::Aes256);
    new.alias = Some("theirs".parse().unwrap());
    let theirs = one.create(new).await.id;
    one.encrypt(theirs, "warm").await.unwrap();
    let of_key = Operation::ALL
        .iter()
        .filter(|o| o.is_request() && o.info().scope == keyhearth_core::operation::Scope::Key);
    assert_eq!(about_key(&two, &by_id(theirs)).len(), of_key.count(), "every operation on a key is tried");
    for (caller, ask) in about_key(&two, &by_id(theirs)) {
        let name = ask.operation().name();
        assert_eq!(two.ask(&caller, ask).await.unwrap_err(), Error::NotFound("key"), "{name}");
    }
    for (caller, ask) in about_key(&two, &by_id(KeyId([9; 16]))) {
        let name = ask.operation().name();
        assert_eq!(two.ask(&caller, ask).await.unwrap_err(), Error::NotFound("key"), "{name}");
    }
    for alias in ["theirs", "nobodys"] {
        for (caller, ask) in about_key(&two, &KeyRef::Alias(alias.parse().unwrap())) {
            let name = ask.operation().name();
            assert_eq!(two.ask(&caller, ask).await.unwrap_err(), Error::NotFound("alias"), "{name}");
        }
    }
    // The platform's operator reaches no key either.
    for ask in [encrypt(theirs, "x"), Ask::DescribeKey { key: by_id(theirs) }] {
        assert_eq!(house.ask(&house.operator, ask).await.unwrap_err(), Error::NotFound("key"));
    }
    assert!(house.ask(&house.operator, Ask::CreateKey(new_key(Algorithm::Aes256))).await.is_err());
    let keys = got!(two.ask(&two.user, Ask::ListKeys { page: page(100) }).await, Response::Keys { keys, .. } => keys);
    assert_eq!(keys, []);
}

#[tokio::test]
async fn what_another_tenant_holds_besides_keys_cannot_be_named() {
    let house = House::new().await;
    let (one, two) = (house.tenant("one").await, house.tenant("two").await);
    let ours = two.aes().await.id;
    let theirs = one.aes().await.id;
    let to = one.issue("a", &[]).await.principal;
    let grant = Ask::CreateGrant(NewGrant::new(by_id(theirs), to, vec![Operation::Encrypt]));
    let their_grant = got!(one.ask(&one.user, grant).await, Response::Grant(grant) => grant.id);
    let access_key = Ask::CreateAccessKey { identity: one.user.principal, import: None, minutes: None };
    let access_key = got!(one.ask(&one.admin, access_key).await, Response::AccessKey { id, .. } => id);
    let their_entry = one.entries().await[0].0;
    for identity in [one.user.principal, PrincipalId([9; 16])] {
        let mut asks = vec![
            Ask::RevokeIdentity { identity },
            role_change(identity, &[]),
            Ask::CreateAccessKey { identity, import: None, minutes: None },
            Ask::TestPolicy {
                identity,
                operation: Operation::Encrypt,
                key: Some(by_id(ours)),
                context: Vec::new(),
                lease_seconds: 0,
            },
        ];
        asks.push(Ask::BindCertificate { identity, certificate: house.operator_certificate.clone() });
        for ask in asks {
            let name = ask.operation().name();
            assert_eq!(two.ask(&two.admin, ask).await.unwrap_err(), Error::NotFound("identity"), "{name}");
        }
        let grant = NewGrant::new(by_id(ours), identity, vec![Operation::Encrypt]);
        assert_eq!(
            two.ask(&two.user, Ask::CreateGrant(grant)).await.unwrap_err(),
            Error::NotFound("identity")
        );
    }
    for grant in [their_grant, GrantId([9; 16])] {
        let revoke = Ask::RevokeGrant { key: by_id(ours), grant };
        assert_eq!(two.ask(&two.user, revoke).await.unwrap_err(), Error::NotFound("grant"));
    }
    for id in [access_key.clone(), "NOBODYS0ACCESSKEY".to_owned()] {
        let refused = two.ask(&two.admin, Ask::DisableAccessKey { id }).await.unwrap_err();
        assert_eq!(refused, Error::NotFound("access key"));
    }
    let prove = |index| Ask::ProveEntry { index, size: None };
    for index in [their_entry, 1 << 40] {
        assert_eq!(two.ask(&two.auditor, prove(index)).await.unwrap_err(), Error::NotFound("log entry"));
    }
    assert!(one.ask(&one.auditor, prove(their_entry)).await.is_ok());
    let test = Ask::TestPolicy {
        identity: two.user.principal,
        operation: Operation::Encrypt,
        key: Some(by_id(theirs)),
        context: Vec::new(),
        lease_seconds: 0,
    };
    assert_eq!(two.ask(&two.admin, test).await.unwrap_err(), Error::NotFound("key"));
    let rewrap = rewrap(theirs, ours, &one.encrypt(theirs, "x").await.unwrap());
    assert_eq!(two.ask(&two.user, rewrap).await.unwrap_err(), Error::NotFound("key"));
}

#[tokio::test]
async fn nobody_but_the_platform_reaches_the_deployment() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    for caller in [&home.admin, &home.key_admin, &home.user, &home.auditor, &home.custodian] {
        for ask in [
            Ask::ListTenants,
            Ask::DisableTenant { tenant: home.id },
            Ask::RotateTenantKey { tenant: home.id },
            Ask::RotateRoot,
            Ask::Seal,
            Ask::ExportLog { path: "checkpoint".to_owned() },
            Ask::CreateTenant {
                name: "x".parse().unwrap(),
                admin: "x".parse().unwrap(),
                request: certificate_request("x"),
            },
        ] {
            let name = ask.operation().name();
            assert_eq!(home.ask(caller, ask).await.unwrap_err(), Error::Denied, "{name} by {}", caller.name);
        }
    }
    assert!(!house.engine.is_sealed());
    let platform = Ask::DisableTenant { tenant: TenantId::PLATFORM };
    assert!(house.ask(&house.operator, platform).await.is_err());
}

/// Who manages does not use, who audits changes nothing, who governs does neither: whatever a policy says.
#[tokio::test]
async fn roles_hold_against_the_most_permissive_policy() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let message = home.encrypt(id, "text").await.unwrap();
    let text = "permit (principal, action, resource);".to_owned();
    home.ask(&home.admin, Ask::PutPolicy { name: "all".parse().unwrap(), text }).await.unwrap();
    for caller in [&home.key_admin, &home.admin, &home.auditor, &home.custodian] {
        assert_eq!(home.encrypt_as(caller, id, "x").await, Err(Error::Denied), "{}", caller.name);
        assert_eq!(home.decrypt_as(caller, id, &message).await, Err(Error::Denied), "{}", caller.name);
    }
    assert_eq!(home.newest(Operation::Decrypt).await.by, ["guard:custodian"]);
    for ask in [
        Ask::CreateKey(new_key(Algorithm::Aes256)),
        Ask::SuspendKey { key: by_id(id), version: None },
        Ask::PutPolicy {
            name: "more".parse().unwrap(),
            text: "permit (principal, action, resource);".to_owned(),
        },
        role_change(home.user.principal, &[]),
    ] {
        let name = ask.operation().name();
        assert_eq!(home.ask(&home.auditor, ask).await.unwrap_err(), Error::Denied, "{name}");
    }
    let destroy = Ask::DestroyKey { key: by_id(id), version: 1, confirm: id };
    assert_eq!(home.ask(&home.key_admin, destroy).await.unwrap_err(), Error::Denied);
    home.decrypt(id, &message).await.unwrap();

    // Without that policy a user does not manage.
    home.ask(&home.admin, Ask::DeletePolicy { name: "all".parse().unwrap() }).await.unwrap();
    for ask in [
        Ask::CreateKey(new_key(Algorithm::Aes256)),
        Ask::SuspendKey { key: by_id(id), version: None },
        Ask::ListEntries { from: 0, limit: 1 },
        role_change(home.key_admin.principal, &[]),
    ] {
        let name = ask.operation().name();
        assert_eq!(home.ask(&home.user, ask).await.unwrap_err(), Error::Denied, "{name}");
    }
    for roles in [vec![Role::KeyAdmin, Role::KeyUser], vec![Role::PlatformOperator], vec![Role::Developer]] {
        let refused = home.ask(&home.admin, role_change(home.user.principal, &roles)).await;
        assert!(matches!(refused, Err(Error::Invalid { field: "roles", .. })), "{roles:?}");
    }
    assert!(home.ask(&home.admin, role_change(home.admin.principal, &[])).await.is_err(), "not its own");
}

#[tokio::test]
async fn a_disabled_tenant_does_nothing_until_it_is_enabled() {
    let house = House::new().await;
    let (home, other) = (house.tenant("one").await, house.tenant("two").await);
    let id = home.aes().await.id;
    let message = home.encrypt(id, "text").await.unwrap();
    house.ask(&house.operator, Ask::DisableTenant { tenant: home.id }).await.unwrap();
    assert_eq!(home.decrypt(id, &message).await, Err(Error::Denied));
    assert_eq!(home.ask(&home.admin, Ask::WhoAmI).await.unwrap_err(), Error::Denied);
    other.aes().await;
    let again = house.ask(&house.operator, Ask::DisableTenant { tenant: home.id }).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    house.ask(&house.operator, Ask::EnableTenant { tenant: home.id }).await.unwrap();
    assert_eq!(home.decrypt(id, &message).await.unwrap(), "text");
}

/// A caller that was authenticated before its identity changed gets nothing by what it was.
#[tokio::test]
async fn a_revoked_identity_and_a_lost_role_end_at_once() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let request = certificate_request("web");
    let issue =
        Ask::IssueIdentity { name: "web".parse().unwrap(), roles: vec![Role::KeyUser], request, days: None };
    let certificate =
        got!(home.ask(&home.admin, issue).await, Response::Identity { certificate, .. } => certificate);
    let der = keyhearth::identity::certificate_der(&certificate).unwrap();
    let known = house.engine.authenticate(Some(&der), HERE).await.unwrap();
    assert!(house.engine.still_holds(&known));
    home.encrypt_as(&known.caller, id, "x").await.unwrap();

    home.ask(&home.admin, role_change(known.caller.principal, &[])).await.unwrap();
    assert!(!house.engine.still_holds(&known));
    assert!(home.encrypt_as(&known.caller, id, "x").await.is_err(), "by a role it has no more");
    let now = sign_in(&house.engine, &certificate).await.unwrap();
    assert_eq!(home.encrypt_as(&now, id, "x").await, Err(Error::Denied));

    home.ask(&home.admin, role_change(now.principal, &[Role::KeyUser])).await.unwrap();
    let again = house.engine.authenticate(Some(&der), HERE).await.unwrap();
    home.encrypt_as(&again.caller, id, "x").await.unwrap();
    home.ask(&home.admin, Ask::RevokeIdentity { identity: now.principal }).await.unwrap();
    assert!(!house.engine.still_holds(&again));
    assert!(home.encrypt_as(&again.caller, id, "x").await.is_err(), "revoked");
    assert!(home.ask(&again.caller, Ask::WhoAmI).await.is_err(), "revoked");
    assert_eq!(sign_in(&house.engine, &certificate).await.unwrap_err(), Error::Unauthenticated);
    let back = home.ask(&home.admin, role_change(now.principal, &[Role::KeyUser])).await;
    assert!(matches!(back, Err(Error::Conflict(_))), "for ever");
    let reused = Ask::IssueIdentity {
        name: "web".parse().unwrap(),
        roles: Vec::new(),
        request: certificate_request("web"),
        days: None,
    };
    assert!(matches!(home.ask(&home.admin, reused).await, Err(Error::Conflict(_))), "names are not reused");
}

#[tokio::test]
async fn a_renewed_certificate_is_the_same_identity() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let renew = Ask::RenewIdentity { request: certificate_request("user"), days: Some(1) };
    let certificate =
        got!(home.ask(&home.user, renew).await, Response::Identity { certificate, .. } => certificate);
    let renewed = sign_in(&house.engine, &certificate).await.unwrap();
    assert_eq!((renewed.principal, renewed.roles), (home.user.principal, home.user.roles));
    let bind = Ask::BindCertificate { identity: home.admin.principal, certificate };
    assert!(matches!(home.ask(&home.admin, bind).await, Err(Error::Conflict(_))), "it is somebody's");
}

#[tokio::test]
async fn the_oldest_certificate_makes_room() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let request = certificate_request("web");
    let issue = Ask::IssueIdentity { name: "web".parse().unwrap(), roles: Vec::new(), request, days: None };
    let identity = |answer| got!(answer, Response::Identity { certificate, .. } => certificate);
    let mut certificates = vec![identity(home.ask(&home.admin, issue).await)];
    let web = sign_in(&house.engine, &certificates[0]).await.unwrap();
    for _ in 0..CERTIFICATES_MAX {
        let renew = Ask::RenewIdentity { request: certificate_request("web"), days: None };
        certificates.push(identity(home.ask(&web, renew).await));
    }
    assert_eq!(sign_in(&house.engine, &certificates[0]).await.unwrap_err(), Error::Unauthenticated);
    let late = home.ask(&web, Ask::WhoAmI).await.unwrap_err();
    assert_eq!(late, Error::Denied, "also for whoever did not look");
    for certificate in &certificates[1..] {
        assert_eq!(sign_in(&house.engine, certificate).await.unwrap().principal, web.principal);
    }
}

#[tokio::test]
async fn an_access_key_has_one_id_and_ends_for_ever() {
    let house = House::new().await;
    let (one, two) = (house.tenant("one").await, house.tenant("two").await);
    let import = |home: &Household, id: &str, text: &str| Ask::CreateAccessKey {
        identity: home.user.principal,
        minutes: None,
        import: Some((id.to_owned(), secret(text))),
    };
    let create = Ask::CreateAccessKey { identity: one.user.principal, import: None, minutes: None };
    let (id, made) =
        got!(one.ask(&one.admin, create).await, Response::AccessKey { id, secret, .. } => (id, secret));
    assert!(id.starts_with("KHIA") && made.len() >= 40);
    for home in [&one, &two] {
        let taken = home.ask(&home.admin, import(home, &id, "a secret's text, long enough")).await;
        assert!(taken.is_err(), "with spaces");
        let taken = home.ask(&home.admin, import(home, &id, "a-secret-of-enough-characters")).await;
        assert!(matches!(taken, Err(Error::Conflict(_))), "one owner of an id");
    }
    one.ask(&one.admin, Ask::DisableAccessKey { id: id.clone() }).await.unwrap();
    let again = one.ask(&one.admin, Ask::DisableAccessKey { id }).await;
    assert!(matches!(again, Err(Error::Conflict(_))));
    let listed = got!(one.ask(&one.auditor, Ask::ListAccessKeys { page: page(10) }).await, Response::AccessKeys { keys, .. } => keys);
    assert!(listed.len() == 1 && listed[0].disabled.is_some());
    assert_ne!(listed[0].wrapped_secret.as_slice(), &made[..]);
    assert_eq!(one.ask(&one.user, Ask::ListAccessKeys { page: page(10) }).await.unwrap_err(), Error::Denied);
}

#[tokio::test]
async fn a_policy_takes_effect_when_it_is_set() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let id = home.aes().await.id;
    let web = home.issue("web", &[]).await;
    let put = |name: &str, text: String| Ask::PutPolicy { name: name.parse().unwrap(), text };
    let permit = format!(
        r#"permit (principal == Keyhearth::Principal::"{}", action in [Keyhearth::Action::"encrypt", Keyhearth::Action::"decrypt"],
           resource == Keyhearth::Key::"{id}");"#,
        web.principal
    );
    assert_eq!(home.encrypt_as(&web, id, "x").await, Err(Error::Denied));
    let diff = Ask::DiffPolicy { name: "web".parse().unwrap(), text: Some(permit.clone()) };
    got!(home.ask(&home.admin, diff).await, Response::PolicyDiff(differences) => {
        assert_eq!(differences.len(), 2);
        assert!(differences.iter().all(|d| d.principal == web.principal && d.key == Some(id) && d.gains));
    });
    home.ask(&home.admin, put("web", permit)).await.unwrap();
    let message = home.encrypt_as(&web, id, "x").await.unwrap();
    got!(home.ask(&home.auditor, Ask::WhoCan { key: by_id(id) }).await, Response::WhoCan(abilities) => {
        assert!(abilities.iter().any(|a| a.principal == web.principal && a.operation == Operation::Decrypt));
    });
    let forbid = r#"forbid (principal, action == Keyhearth::Action::"decrypt", resource);"#.to_owned();
    home.ask(&home.admin, put("stop", forbid)).await.unwrap();
    assert_eq!(home.decrypt_as(&web, id, &message).await, Err(Error::Denied));
    let entry: Entry = home.newest(Operation::Decrypt).await;
    assert_eq!(entry.by, ["stop"]);
    home.ask(&home.admin, Ask::DeletePolicy { name: "web".parse().unwrap() }).await.unwrap();
    assert_eq!(home.encrypt_as(&web, id, "x").await, Err(Error::Denied));
    assert!(home.ask(&home.admin, put("bad", "permit (principal".to_owned())).await.is_err());
    assert!(home.ask(&home.user, decrypt(id, &message)).await.is_err(), "forbidden to all");
}

#[tokio::test]
async fn a_tenant_learns_no_numbers_about_the_others() {
    let house = House::new().await;
    let home = house.tenant("one").await;
    let status = |result| got!(result, Response::Status(status) => *status);
    let own = status(home.ask(&home.user, Ask::Status).await);
    assert!(!own.sealed && (own.keys, own.log_size, own.epoch) == (None, None, None));
    let all = status(house.ask(&house.operator, Ask::Status).await);
    assert!(all.keys.is_some() && all.log_size.is_some() && all.epoch.is_some());
}
