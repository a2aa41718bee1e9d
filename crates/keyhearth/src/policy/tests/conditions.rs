use cedar_policy::{Entities, Request};
use keyhearth_core::id::PrincipalId;
use keyhearth_core::machine::{BootFacts, Claim, Comparison};

use super::*;
use crate::policy::question::translate;
use crate::policy::schema::{VOCABULARY, decided};

const ALLOWED_BY_P0: fn() -> Verdict = || Verdict::Allow(by(&["p0"]));

fn decrypt(policies: &Compiled, key: &Key, context: &[(String, String)], now: Now) -> Verdict {
    let caller = alice([]);
    policies.authorize(&Question {
        caller: &caller,
        operation: Operation::Decrypt,
        key: Some(key),
        context,
        boot: None,
        lease_seconds: 0,
        now,
    })
}

#[test]
fn a_forbid_beats_every_permit() {
    let policies = compile(&[
        r#"permit (principal, action == Keyhearth::Action::"encrypt", resource);"#,
        r#"forbid (principal, action in Keyhearth::Action::"use", resource) when { resource.hasTag("frozen") };"#,
    ]);
    let user = alice([Role::KeyUser]);
    let allowed = Verdict::Allow(by(&["p0", "role:key-user"]));
    assert_eq!(ask(&policies, &user, Operation::Encrypt, Some(&key(&[]))), allowed);
    let frozen = key(&[("frozen", "")]);
    assert_eq!(ask(&policies, &user, Operation::Encrypt, Some(&frozen)), Verdict::Forbid(by(&["p1"])));
}

#[test]
fn a_permit_lets_hold_what_was_opened_only_if_its_scope_names_that() {
    let verdict = |text| {
        let policies = compile(&[text]);
        ask(&policies, &alice([Role::Developer]), Operation::Hold, Some(&key(&[])))
    };
    for silent in [
        r#"permit (principal, action, resource);"#,
        r#"permit (principal, action, resource) when { action == Keyhearth::Action::"hold" };"#,
        r#"permit (principal, action in Keyhearth::Action::"use", resource);"#,
    ] {
        assert_eq!(verdict(silent), Verdict::Silent, "{silent}");
    }
    for allowed in [
        r#"permit (principal, action == Keyhearth::Action::"hold", resource);"#,
        r#"permit (principal, action in Keyhearth::Action::"offline", resource);"#,
        r#"permit (principal, action in [Keyhearth::Action::"decrypt", Keyhearth::Action::"hold"], resource);"#,
    ] {
        assert_eq!(verdict(allowed), ALLOWED_BY_P0(), "{allowed}");
    }
    assert_eq!(verdict(r#"forbid (principal, action, resource);"#), Verdict::Forbid(by(&["p0"])));
}

#[test]
fn policies_see_tags_and_fixed_attributes_of_the_key() {
    let policies = compile(&[r#"permit (principal, action in Keyhearth::Action::"use", resource)
        when {
          resource.hasTag("env") && resource.getTag("env") == "prod" && resource.algorithm == "aes-256"
          && !resource.exportable && resource.origin == "generated" && resource.creator == principal
          && resource.created == datetime("2026-11-20T12:00:00.000Z") && principal.name == "alice"
        };"#]);
    let verdict = |tags: &[(&str, &str)]| ask(&policies, &alice([]), Operation::Sign, Some(&key(tags)));
    assert_eq!(verdict(&[("env", "prod")]), ALLOWED_BY_P0());
    assert_eq!(verdict(&[("env", "test")]), Verdict::Silent);
    assert_eq!(verdict(&[]), Verdict::Silent);
}

#[test]
fn policies_see_the_address_in_either_spelling() {
    let policies = compile(&[r#"permit (principal, action == Keyhearth::Action::"list-keys", resource)
        when { context.ip.isInRange(ip("10.0.0.0/8")) };"#]);
    let verdict = |address: &str| {
        let caller = Caller { address: address.parse().unwrap(), ..alice([]) };
        ask(&policies, &caller, Operation::ListKeys, None)
    };
    assert_eq!(verdict("10.1.2.3"), ALLOWED_BY_P0());
    assert_eq!(verdict("::ffff:10.1.2.3"), ALLOWED_BY_P0());
    assert_eq!(verdict("11.1.2.3"), Verdict::Silent);
    assert_eq!(verdict("2001:db8::1"), Verdict::Silent);
}

#[test]
fn policies_see_the_pairs_of_the_ciphertext() {
    let policies = compile(&[r#"permit (principal, action == Keyhearth::Action::"decrypt", resource)
        when { context.context.hasTag("dept") && context.context.getTag("dept") == principal.name };"#]);
    let verdict = |context: &[_]| decrypt(&policies, &key(&[("dept", "alice")]), &pairs(context), NOW);
    assert_eq!(verdict(&[("dept", "alice"), ("x", "y")]), ALLOWED_BY_P0());
    assert_eq!(verdict(&[("dept", "bob")]), Verdict::Silent);
    assert_eq!(verdict(&[]), Verdict::Silent, "the key's tags are not the pairs");
}

#[test]
fn a_date_is_asked_anew_each_time() {
    let policies = compile(&[r#"permit (principal, action == Keyhearth::Action::"decrypt", resource)
        when { context.now < datetime("2026-11-20T12:00:00Z") };"#]);
    let verdict = |now| decrypt(&policies, &key(&[]), &[], now);
    let before = Time::from_unix_ms(NOON.unix_ms() - 1);
    assert_eq!(verdict(Now::exactly(before)), ALLOWED_BY_P0());
    assert_eq!(verdict(NOW), Verdict::Silent);
    assert_eq!(verdict(Now { earliest: before, latest: NOON }), Verdict::Silent, "nothing ends late");
    let from_noon = compile(&[r#"permit (principal, action, resource)
        when { context.now >= datetime("2026-11-20T12:00:00Z") };"#]);
    let uncertain = Now { earliest: before, latest: NOON };
    assert_eq!(decrypt(&from_noon, &key(&[]), &[], uncertain), Verdict::Silent, "nothing starts early");
    assert_eq!(decrypt(&from_noon, &key(&[]), &[], NOW), ALLOWED_BY_P0());
}

#[test]
fn dates_of_the_calendar() {
    for (ms, date) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        (951_782_400_000, "2000-02-29T00:00:00.000Z"),
        (951_868_800_000, "2000-03-01T00:00:00.000Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (u64::MAX, "9999-12-31T23:59:59.999Z"),
    ] {
        let policy = format!(
            r#"permit (principal, action == Keyhearth::Action::"decrypt", resource)
               when {{ context.now == datetime("{date}") }};"#
        );
        let now = Now::exactly(Time::from_unix_ms(ms));
        assert_eq!(decrypt(&compile(&[&policy]), &key(&[]), &[], now), ALLOWED_BY_P0(), "{date}");
    }
}

#[test]
fn a_statement_that_cannot_be_evaluated_refuses() {
    for effect in ["permit", "forbid"] {
        let text = format!(
            r#"{effect} (principal, action == Keyhearth::Action::"decrypt", resource)
               when {{ context.now.toDate() > context.now.offset(duration("9223372036854775807ms")) }};"#
        );
        let policies = compile(&["permit (principal, action, resource);", &text]);
        assert_eq!(decrypt(&policies, &key(&[]), &[], NOW), Verdict::Forbid(by(&["p1"])), "{effect}");
    }
}

#[test]
fn an_identity_of_another_tenant_gets_nothing() {
    let policies = compile(&["permit (principal, action, resource);"]);
    let stranger = Caller { tenant: TenantId([2; 16]), ..alice([]) };
    assert_eq!(ask(&policies, &stranger, Operation::WhoAmI, None), Verdict::Forbid(by(&[])));
}

#[test]
fn statements_about_others_do_not_apply() {
    let other = PrincipalId([6; 16]);
    let policies = compile(&[
        &format!(r#"permit (principal == Keyhearth::Principal::"{other}", action, resource);"#),
        &format!(r#"permit (principal, action, resource == Keyhearth::Key::"{}");"#, KeyId([8; 16])),
        r#"permit (principal in Keyhearth::Role::"auditor", action, resource);"#,
        &format!(
            r#"permit (principal in Keyhearth::Principal::"{ALICE}", action, resource in Keyhearth::Key::"{KEY}");"#
        ),
    ]);
    let verdict = ask(&policies, &alice([]), Operation::Sign, Some(&key(&[])));
    assert_eq!(verdict, Verdict::Allow(by(&["p3"])));
}

/// A boot with a claim of each kind.
fn boot_facts() -> BootFacts {
    let record = [("snp".to_owned(), Claim::Number(23)), ("smt".to_owned(), Claim::Bool(true))];
    let claims = [
        ("kind", Claim::Text("snp".to_owned())),
        ("memory_encrypted", Claim::Bool(true)),
        ("advisories", Claim::Texts(["A".to_owned(), "B".to_owned()].into())),
        ("reported_tcb", Claim::Record(record.into())),
    ];
    BootFacts {
        volumes: vec!["root".parse().unwrap()],
        claims: claims.map(|(name, claim)| (name.to_owned(), claim)).into(),
        comparison: Comparison::Known,
        counter: 7,
        approval: None,
        continues: Some([1; 16]),
        image: Some(PrincipalId([6; 16])),
    }
}

#[test]
fn what_a_machine_shows_can_be_asked_for() {
    let asks = |condition: &str| {
        let text = format!(
            "permit (principal, action == Keyhearth::Action::\"release-volumes\", resource) when {{ {condition} }};"
        );
        let (caller, key, facts) = (alice([]), key(&[]), boot_facts());
        let operation = Operation::ReleaseVolumes;
        let question = Question {
            caller: &caller,
            operation,
            key: Some(&key),
            context: &[],
            boot: Some(&facts),
            lease_seconds: 0,
            now: NOW,
        };
        matches!(compile(&[&text]).authorize(&question), Verdict::Allow(_))
    };
    for met in [
        "context.boot.memory_encrypted && !context.boot.reduced_assurance && context.boot.image_known",
        r#"context.boot.kind == "snp" && context.boot.root == "none" && context.boot.counter == 7"#,
        "context.boot.approved || context.boot.continues",
        r#"context.boot.volumes.contains("root") && context.proof == "local""#,
        r#"context.boot.hasTag("reported_tcb.smt") && context.boot.getTag("reported_tcb.smt") == "true""#,
        r#"context.boot.numbers.hasTag("reported_tcb.snp") && context.boot.numbers.getTag("reported_tcb.snp") >= 23"#,
        r#"context.boot.image == "06060606-0606-0606-0606-060606060606""#,
        r#"context.boot.hasTag("advisories") && context.boot.getTag("advisories") like "*B*""#,
    ] {
        assert!(asks(met), "{met}");
    }
    for unmet in
        ["context.boot.approved", r#"context.boot.hasTag("measurement")"#, "context.boot.revocation_checked"]
    {
        assert!(!asks(unmet), "{unmet}");
    }
}

#[test]
fn every_question_fits_the_schema() {
    let schema = Some(VOCABULARY.validator.schema());
    let (caller, key, context) =
        (alice([Role::KeyUser, Role::Developer]), key(&[("a", "b")]), pairs(&[("c", "d")]));
    let facts = boot_facts();
    for operation in decided() {
        let boots = matches!(operation, Operation::ReleaseVolumes | Operation::CloneImage);
        let boot = boots.then_some(&facts);
        let question = Question {
            caller: &caller,
            operation,
            key: Some(&key),
            context: &context,
            boot,
            lease_seconds: 0,
            now: NOW,
        };
        let (request, entities) = translate(TENANT, &question, NOON).unwrap();
        Entities::from_entities(entities.iter().cloned(), schema).unwrap();
        let uid = |uid: Option<&cedar_policy::EntityUid>| uid.unwrap().clone();
        let [principal, action, resource] =
            [request.principal(), request.action(), request.resource()].map(uid);
        Request::new(principal, action, resource, request.context().unwrap().clone(), schema).unwrap();
    }
}
