use cedar_policy::{Entities, Request};

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

#[test]
fn every_question_fits_the_schema() {
    let schema = Some(VOCABULARY.validator.schema());
    let (caller, key, context) =
        (alice([Role::KeyUser, Role::Developer]), key(&[("a", "b")]), pairs(&[("c", "d")]));
    for operation in decided() {
        let question =
            Question { caller: &caller, operation, key: Some(&key), context: &context, boot: None, now: NOW };
        let (request, entities) = translate(TENANT, &question, NOON).unwrap();
        Entities::from_entities(entities.iter().cloned(), schema).unwrap();
        let uid = |uid: Option<&cedar_policy::EntityUid>| uid.unwrap().clone();
        let [principal, action, resource] =
            [request.principal(), request.action(), request.resource()].map(uid);
        Request::new(principal, action, resource, request.context().unwrap().clone(), schema).unwrap();
    }
}
