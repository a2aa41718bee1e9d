use keyhearth_core::grant::Grant;
use keyhearth_core::id::GrantId;
use keyhearth_core::request::{Ability, Difference};

use super::*;

const LIMIT: keyhearth_core::Error =
    keyhearth_core::Error::TooLarge { field: "questions", limit: QUESTIONS_MAX };
const BOB: PrincipalId = PrincipalId([6; 16]);

#[test]
fn a_difference_names_who_gains_and_who_loses() {
    let old = compile(&[r#"permit (principal, action == Keyhearth::Action::"sign", resource);"#]);
    let new = compile(&[&format!(
        r#"permit (principal == Keyhearth::Principal::"{ALICE}", action == Keyhearth::Action::"sign", resource);
           permit (principal == Keyhearth::Principal::"{ALICE}", action == Keyhearth::Action::"list-keys", resource);
           forbid (principal, action == Keyhearth::Action::"decrypt", resource) when {{ resource.hasTag("old") }};"#
    )]);
    let mut gone = principal(PrincipalId([9; 16]), []);
    gone.revoked = Some(NOON);
    let principals =
        [principal(ALICE, []), principal(BOB, [Role::KeyUser]), principal(PrincipalId([8; 16]), []), gone];
    let keys = [key(&[]), Key { id: KeyId([8; 16]), ..key(&[("old", "")]) }];
    let differences = diff(&old, &new, &principals, &keys, NOW).unwrap();
    let short: Vec<_> = differences
        .iter()
        .map(|Difference { principal, operation, key, gains, .. }| {
            (principal.0[0], operation.name(), key.map(|key| key.0[0]), *gains)
        })
        .collect();
    assert_eq!(
        short,
        [
            (5, "list-keys", None, true),
            (6, "decrypt", Some(8), false),
            (8, "sign", Some(7), false),
            (8, "sign", Some(8), false),
        ]
    );
    assert_eq!(diff(&new, &new, &principals, &keys, NOW), Ok(Vec::new()));
}

#[test]
fn a_difference_is_bounded() {
    let (old, new) =
        (compile(&[]), compile(&[r#"forbid (principal, action == Keyhearth::Action::"sign", resource);"#]));
    let principals = vec![principal(ALICE, []); 501];
    let keys: Vec<Key> = (0..400_u16)
        .map(|i| Key { id: KeyId([i.to_be_bytes(); 8].concat().try_into().unwrap()), ..key(&[]) })
        .collect();
    assert_eq!(diff(&old, &new, &principals, &keys, NOW), Err(LIMIT));
}

#[test]
fn a_difference_about_one_key_asks_about_that_key_alone() {
    let other = Key { id: KeyId([8; 16]), ..key(&[]) };
    let (old, new) = (
        compile(&[]),
        compile(&[&format!(
            r#"permit (principal, action == Keyhearth::Action::"sign", resource == Keyhearth::Key::"{}");"#,
            other.id
        )]),
    );
    let differences = diff(&old, &new, &[principal(ALICE, [])], &[key(&[]), other], NOW).unwrap();
    let short: Vec<_> = differences.iter().map(|found| (found.operation.name(), found.key)).collect();
    assert_eq!(short, [("sign", Some(KeyId([8; 16])))]);
}

#[test]
fn who_can_is_bounded() {
    let principals = vec![principal(ALICE, []); 15_000];
    assert_eq!(who_can(&compile(&[]), &key(&[]), &principals, &[], NOW), Err(LIMIT));
}

#[test]
fn who_can_lists_policies_and_grants_and_heeds_forbids() {
    let policies = compile(&[&format!(
        r#"forbid (principal == Keyhearth::Principal::"{BOB}", action == Keyhearth::Action::"sign", resource);"#
    )]);
    let grant = Grant {
        id: GrantId([3; 16]),
        key: KEY,
        grantee: BOB,
        grantor: ALICE,
        operations: vec![Operation::Encrypt.info().code, Operation::Sign.info().code],
        context: [("dept".into(), "hr".into())].into(),
        expires: None,
        delegable: false,
        parent: None,
        depth: 0,
        created: NOON,
        name: None,
        exact_context: None,
        retiree: None,
    };
    let principals = [principal(ALICE, [Role::Custodian]), principal(BOB, [])];
    let abilities = who_can(&policies, &key(&[]), &principals, &[grant], NOW).unwrap();
    let short: Vec<_> = abilities
        .iter()
        .map(|Ability { principal, operation, by, .. }| (principal.0[0], operation.name(), by.join(" ")))
        .collect();
    let custodian = || "role:custodian".to_owned();
    assert_eq!(
        short,
        [
            (5, "describe-key", custodian()),
            (5, "destroy-key", custodian()),
            (5, "public-key", custodian()),
            (5, "last-use", custodian()),
            (5, "shred-secret", custodian()),
            (5, "list-grants", custodian()),
            (5, "key-policy", custodian()),
            (6, "encrypt", format!("grant:{}", GrantId([3; 16]))),
        ]
    );
}
