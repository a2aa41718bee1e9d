use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{PolicySet, ValidationMode};
use keyhearth_core::operation::{Group, Scope};

use super::*;
use crate::policy::schema::{VOCABULARY, decided};

const EVERYONE: &str = "random renew-identity status who-am-i";
/// For machines, which have no role; those who only read may not even ask.
const BOOTS: &str = "ask-approval confirm-boot settle-clone";
const READ_KEYS: &str = "describe-key describe-machine key-policy last-use list-aliases list-approvals list-grants list-keys list-machines \
    list-retirable-grants list-secrets public-key";
const MANAGE: &str = "activate-key cancel-destroy compromise-key create-key deactivate-key delete-alias \
    import-key import-parameters move-alias resume-key rotate-key schedule-destroy set-alias suspend-key unload-key update-key";
const USE: &str = "agree data-key data-key-pair data-key-pair-without-plaintext data-key-without-plaintext decapsulate decrypt \
    encapsulate encrypt exchange keep-secret mac read-secret rewrap rewrap-from sign unwrap verify verify-mac wrap";
const BOOT: &str =
    "decide-approval decide-candidate enroll-machine recovery-secret update-machine volume-secret";
const DESTROY: &str = "destroy-key shred-secret";
const DELEGATE: &str = "create-grant revoke-grant";
const READ_GOVERN: &str = "diff-policy list-access-keys list-identities list-policies test-policy";
const CHANGE_GOVERN: &str = "bind-certificate create-access-key delete-policy disable-access-key issue-identity \
    put-policy revoke-identity set-roles";
const GOVERN_KEYS: &str = "put-key-policy";
const READ_LOG: &str = "checkpoint list-entries prove-entry";
const OPERATE: &str = "create-tenant disable-tenant enable-tenant list-tenants rekey rotate-root rotate-tenant-key \
    seal unseal";

/// What each role may do, written out.
fn table() -> Vec<(Role, Vec<&'static str>)> {
    vec![
        (Role::PlatformOperator, vec![EVERYONE, BOOTS, OPERATE, READ_GOVERN, CHANGE_GOVERN]),
        (
            Role::TenantAdmin,
            vec![EVERYONE, BOOTS, READ_KEYS, READ_GOVERN, CHANGE_GOVERN, GOVERN_KEYS, "who-can"],
        ),
        (Role::KeyAdmin, vec![EVERYONE, BOOTS, READ_KEYS, MANAGE, BOOT, "revoke-grant"]),
        (Role::KeyUser, vec![EVERYONE, BOOTS, READ_KEYS, USE, DELEGATE]),
        (Role::Auditor, vec![EVERYONE, READ_KEYS, READ_GOVERN, READ_LOG, "who-can", "export-log"]),
        (Role::Custodian, vec![EVERYONE, BOOTS, READ_KEYS, DESTROY, "rekey rotate-root seal unseal"]),
        (
            Role::Developer,
            vec![
                EVERYONE,
                BOOTS,
                READ_KEYS,
                MANAGE,
                BOOT,
                "release-volumes clone-image",
                USE,
                DELEGATE,
                READ_GOVERN,
                CHANGE_GOVERN,
                GOVERN_KEYS,
                READ_LOG,
                "who-can",
                "export-log",
                DESTROY,
                "export-key",
                OPERATE,
            ],
        ),
    ]
}

fn caller_with(role: Role) -> (TenantId, Caller) {
    let tenant = if role == Role::PlatformOperator { TenantId::PLATFORM } else { TENANT };
    (tenant, Caller { tenant, roles: Roles::new([role], tenant).unwrap(), ..alice([]) })
}

fn allowed_to(policies: &Compiled, caller: &Caller) -> BTreeSet<&'static str> {
    let key = key(&[]);
    let may = |operation: &Operation| {
        let key = (operation.info().scope == Scope::Key).then_some(&key);
        matches!(ask(policies, caller, *operation, key), Verdict::Allow(_))
    };
    decided().filter(may).map(Operation::name).collect()
}

#[test]
fn the_whole_table_of_roles_and_operations() {
    assert_eq!(table().len(), Role::ALL.len());
    for (role, expected) in table() {
        let (tenant, caller) = caller_with(role);
        let policies = Compiled::new(tenant, &[]).unwrap();
        let expected: BTreeSet<&str> = expected.iter().flat_map(|words| words.split_whitespace()).collect();
        assert_eq!(allowed_to(&policies, &caller), expected, "{}", role.name());
    }
    let nobody = allowed_to(&compile(&[]), &alice([]));
    let expected = [EVERYONE, BOOTS].iter().flat_map(|words| words.split_whitespace()).collect();
    assert_eq!(nobody, expected, "without a role");
}

#[test]
fn duties_stay_apart_whatever_a_tenant_writes() {
    let everything = ["permit (principal, action, resource);"];
    let forbidden: BTreeMap<Role, Vec<Group>> = [
        (Role::PlatformOperator, vec![Group::Protect, Group::Process, Group::Export]),
        (Role::TenantAdmin, vec![Group::Protect, Group::Process, Group::Export]),
        (Role::KeyAdmin, vec![Group::Protect, Group::Process, Group::Export, Group::Destroy]),
        (
            Role::Auditor,
            vec![
                Group::Protect,
                Group::Process,
                Group::Export,
                Group::Destroy,
                Group::Manage,
                Group::Delegate,
                Group::Operate,
            ],
        ),
        (Role::Custodian, vec![Group::Protect, Group::Process, Group::Export]),
    ]
    .into();
    for (role, groups) in forbidden {
        let (tenant, caller) = caller_with(role);
        let policies = Compiled::new(tenant, &policies(&everything)).unwrap();
        let guard = Verdict::Forbid(by(&[&format!("guard:{}", role.name())]));
        for operation in decided().filter(|operation| groups.contains(&operation.info().group)) {
            let verdict = ask(&policies, &caller, operation, Some(&key(&[])));
            assert_eq!(verdict, guard, "{} {}", role.name(), operation.name());
        }
    }
    let auditor = alice([Role::Auditor]);
    for change in CHANGE_GOVERN.split_whitespace() {
        let operation = Operation::from_name(change).unwrap();
        assert!(matches!(ask(&compile(&everything), &auditor, operation, None), Verdict::Forbid(_)));
    }
}

#[test]
fn templates_fit_the_schema_and_read_nothing() {
    for &(name, text) in ROLES.iter().chain(GUARDS) {
        let set: PolicySet = text.parse().unwrap();
        let result = VOCABULARY.validator.validate(&set, ValidationMode::Strict);
        assert!(result.validation_passed_without_warnings(), "{name}: {result}");
        assert_eq!(statement::template(name, text).reads, statement::Reads::default(), "{name}");
    }
    let named: Vec<&str> = ROLES.iter().filter_map(|(name, _)| name.strip_prefix("role:")).collect();
    for role in Role::ALL {
        assert!(named.contains(&role.name()), "{}", role.name());
    }
}

#[test]
fn groups_and_operations_have_different_names() {
    for group in Group::ALL {
        assert_eq!(Operation::from_name(group.name()), None);
        assert_ne!(group.name(), schema::USE);
    }
    assert_eq!(Operation::from_name(schema::USE), None);
}
