use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use keyhearth_crypto::algorithm::Algorithm;

use super::*;
use crate::id::{Name, PrincipalId};
use crate::key::{Cryptoperiod, Origin, Usage};
use crate::principal::{Proof, Roles};
use crate::state::{Switches, Transition};
use crate::time::Time;

const NOW: Now = Now::exactly(Time::from_unix_ms(1_000_000));
const TENANT: TenantId = TenantId([1; 16]);

struct Says(Verdict);
impl Authorizer for Says {
    fn authorize(&self, _: &Question<'_>) -> Verdict {
        self.0.clone()
    }
}
fn allow() -> Says {
    Says(Verdict::Allow(Arc::from(["p".to_owned()])))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn tenant(id: TenantId) -> Tenant {
    Tenant { id, name: name("t"), created: NOW.latest, disabled: None, tenant_key: 1 }
}

fn caller(tenant: TenantId) -> Caller {
    Caller {
        principal: PrincipalId([5; 16]),
        tenant,
        name: name("c"),
        roles: Roles::default(),
        proof: Proof::Local,
        expires: None,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

fn key() -> Key {
    let mut key = Key {
        id: KeyId([7; 16]),
        tenant: TENANT,
        algorithm: Algorithm::Aes256,
        usage: Usage::usual(Algorithm::Aes256),
        exportable: false,
        origin: Origin::Generated,
        created: NOW.latest,
        creator: PrincipalId([5; 16]),
        description: String::new(),
        tags: BTreeMap::new(),
        primary: 1,
        versions: Vec::new(),
        switches: Switches::default(),
        cryptoperiod: Cryptoperiod::default(),
        rotation: None,
        destroy_at: None,
        aliases: Vec::new(),
        suspended: None,
        policy: None,
    };
    key.add_version(NOW, None, true).unwrap();
    key
}

fn ask(
    key: &Key,
    version: Option<u32>,
    operation: Operation,
    says: &Says,
    grants: &[Grant],
) -> Result<Permit, Error> {
    let tenant = tenant(TENANT);
    let facts = Facts {
        tenant: &tenant,
        key: Some(key),
        version,
        grants,
        context: &[],
        boot: None,
        lease_seconds: 0,
        reason_given: false,
        now: NOW,
    };
    decide(&caller(TENANT), operation, &facts, says).map_err(|refusal| refusal.error)
}

#[test]
fn every_state_and_class_as_the_table_says() {
    for state in State::ALL {
        for (operation, class) in [(Operation::Encrypt, Class::Protect), (Operation::Decrypt, Class::Process)]
        {
            let mut key = key();
            key.versions[0].state = state;
            key.versions[0].has_material = state != State::Destroyed;
            key.versions[0].activation = None;
            let expected = state.allows(class, Switches::default());
            let found = ask(&key, None, operation, &allow(), &[]);
            assert_eq!(found.is_ok(), expected, "{state} {operation:?}: {found:?}");
        }
    }
}

#[test]
fn only_the_primary_version_protects() {
    let mut key = key();
    key.add_version(NOW, None, true).unwrap();
    assert_eq!(ask(&key, None, Operation::Encrypt, &allow(), &[]).unwrap().version(), Some(2));
    assert_eq!(ask(&key, Some(1), Operation::Decrypt, &allow(), &[]).unwrap().version(), Some(1));
    key.versions[0].state = State::Active;
    assert!(ask(&key, Some(1), Operation::Encrypt, &allow(), &[]).is_err());
    assert!(ask(&key, Some(9), Operation::Decrypt, &allow(), &[]).is_err());
}

#[test]
fn who_has_no_authority_learns_nothing_of_states() {
    let mut key = key();
    key.apply(1, Transition::Suspend, Operation::SuspendKey, NOW).unwrap();
    let silent = Says(Verdict::Silent);
    assert_eq!(ask(&key, None, Operation::Encrypt, &silent, &[]).err(), Some(Error::Denied));
    assert!(matches!(
        ask(&key, None, Operation::Encrypt, &allow(), &[]).err(),
        Some(Error::WrongState { .. })
    ));
}

#[test]
fn a_forbid_beats_a_grant_and_a_grant_fills_silence() {
    let key = key();
    let grant = Grant {
        id: GrantId([1; 16]),
        key: key.id,
        grantee: PrincipalId([5; 16]),
        grantor: PrincipalId([6; 16]),
        operations: vec![Operation::Encrypt.info().code],
        context: BTreeMap::new(),
        expires: None,
        delegable: false,
        parent: None,
        depth: 0,
        created: NOW.latest,
        name: None,
        exact_context: None,
        retiree: None,
    };
    let grants = std::slice::from_ref(&grant);
    let silent = Says(Verdict::Silent);
    let permit = ask(&key, None, Operation::Encrypt, &silent, grants).unwrap();
    assert_eq!(permit.basis(), &Basis::Grant(grant.id));
    assert!(ask(&key, None, Operation::Decrypt, &silent, grants).is_err(), "not granted");
    assert!(ask(&key, None, Operation::CreateGrant, &silent, grants).is_err(), "not delegable");
    assert!(ask(&key, None, Operation::RevokeGrant, &silent, grants).is_ok(), "given back");
    let over = Grant { expires: Some(NOW.latest), ..grant.clone() };
    assert!(ask(&key, None, Operation::RevokeGrant, &silent, &[over]).is_err(), "ended");
    let forbid = Says(Verdict::Forbid(Arc::from(["f".to_owned()])));
    assert!(ask(&key, None, Operation::Encrypt, &forbid, grants).is_err());
    let to_another = Grant { grantee: PrincipalId([9; 16]), ..grant.clone() };
    assert!(ask(&key, None, Operation::Encrypt, &silent, &[to_another]).is_err());
    let on_another = Grant { key: KeyId([9; 16]), ..grant.clone() };
    assert!(ask(&key, None, Operation::Encrypt, &silent, &[on_another]).is_err());
    let retired = Grant {
        grantee: PrincipalId([9; 16]),
        retiree: Some(PrincipalId([5; 16])),
        delegable: true,
        ..grant
    };
    let retired = std::slice::from_ref(&retired);
    for (operation, may) in
        [(Operation::RevokeGrant, true), (Operation::Encrypt, false), (Operation::CreateGrant, false)]
    {
        assert_eq!(ask(&key, None, operation, &silent, retired).is_ok(), may, "{operation:?}");
    }
}

#[test]
fn tenants_do_not_meet() {
    let key = key();
    let other = tenant(TenantId([2; 16]));
    let facts = Facts {
        tenant: &other,
        key: Some(&key),
        version: None,
        grants: &[],
        context: &[],
        boot: None,
        lease_seconds: 0,
        reason_given: false,
        now: NOW,
    };
    let refusal = decide(&caller(other.id), Operation::Decrypt, &facts, &allow()).unwrap_err();
    assert_eq!(refusal.error, Error::NotFound("key"));
    let refusal = decide(&caller(TENANT), Operation::Decrypt, &facts, &allow()).unwrap_err();
    assert_eq!(refusal.error, Error::NotFound("key"));
    let mut own = tenant(TENANT);
    let facts = Facts { tenant: &own, ..facts };
    assert!(decide(&caller(TENANT), Operation::Decrypt, &facts, &allow()).is_ok());
    assert_eq!(
        decide(&caller(TENANT), Operation::CreateTenant, &facts, &allow()).unwrap_err().error,
        Error::Denied
    );
    own.disabled = Some(NOW.latest);
    let facts = Facts {
        tenant: &own,
        key: Some(&key),
        version: None,
        grants: &[],
        context: &[],
        boot: None,
        lease_seconds: 0,
        reason_given: false,
        now: NOW,
    };
    assert_eq!(
        decide(&caller(TENANT), Operation::Decrypt, &facts, &allow()).unwrap_err().error,
        Error::Denied
    );
}

#[test]
fn a_key_that_awaits_destruction_is_not_used() {
    let mut key = key();
    key.destroy_at = Some(NOW.latest.plus_days(7));
    assert!(ask(&key, None, Operation::Decrypt, &allow(), &[]).is_err());
    assert!(ask(&key, None, Operation::CancelDestroy, &allow(), &[]).is_ok());
}

#[test]
fn a_compromised_version_is_used_for_a_reason_only() {
    let mut key = key();
    key.apply(1, Transition::Compromise, Operation::CompromiseKey, NOW).unwrap();
    key.switches.process_when_compromised = true;
    let tenant = tenant(TENANT);
    let ask = |operation, reason_given| {
        let (key, version, grants, context) = (Some(&key), None, &[][..], &[][..]);
        let facts = Facts {
            lease_seconds: 0,
            tenant: &tenant,
            key,
            version,
            grants,
            context,
            boot: None,
            reason_given,
            now: NOW,
        };
        decide(&caller(TENANT), operation, &facts, &allow()).map(drop).map_err(|refusal| refusal.error)
    };
    assert!(matches!(ask(Operation::Decrypt, false), Err(Error::Invalid { field: "reason", .. })));
    assert_eq!(ask(Operation::Decrypt, true), Ok(()));
    assert!(matches!(ask(Operation::Encrypt, true), Err(Error::WrongState { .. })));
    assert_eq!(ask(Operation::DescribeKey, false), Ok(()));
}

#[test]
fn usage_and_export_are_fixed_at_creation() {
    let key = key();
    assert!(matches!(ask(&key, None, Operation::Sign, &allow(), &[]).err(), Some(Error::Unsupported(_))));
    assert!(matches!(
        ask(&key, None, Operation::ExportKey, &allow(), &[]).err(),
        Some(Error::Unsupported(_))
    ));
}

#[test]
fn a_suspended_key_is_as_usable_as_a_suspended_version_at_most() {
    for state in State::ALL {
        for on in [false, true] {
            let mut key = key();
            key.versions[0].state = state;
            key.versions[0].activation = None;
            key.switches = Switches { process_when_suspended: on, ..Switches::default() };
            key.suspended = Some(NOW.latest);
            for (operation, class) in
                [(Operation::Encrypt, Class::Protect), (Operation::Decrypt, Class::Process)]
            {
                let expected =
                    state.allows(class, key.switches) && State::Suspended.allows(class, key.switches);
                let found = ask(&key, None, operation, &allow(), &[]);
                assert_eq!(found.is_ok(), expected, "{state} {operation:?}: {found:?}");
            }
            assert!(ask(&key, None, Operation::DescribeKey, &allow(), &[]).is_ok());
        }
    }
}

#[test]
fn a_lease_does_not_outlast_what_it_is_of() {
    let (mut imported, mut processed) = (key(), key());
    let end = Some(Time::from_unix_ms(NOW.latest.unix_ms() + 100_999));
    imported.versions[0].expires = end;
    processed.versions[0].process_end = end;
    let tenant = tenant(TENANT);
    let as_caller = |caller: &Caller, key: &Key, lease_seconds| {
        let facts = Facts {
            tenant: &tenant,
            key: Some(key),
            version: None,
            grants: &[],
            context: &[],
            boot: None,
            lease_seconds,
            reason_given: false,
            now: NOW,
        };
        let decided = decide(caller, Operation::Decrypt, &facts, &allow());
        decided.map(drop).map_err(|refusal| refusal.error)
    };
    let (lasting, ending) = (caller(TENANT), Caller { expires: end, ..caller(TENANT) });
    for (caller, key) in [(&lasting, &imported), (&lasting, &processed), (&ending, &key())] {
        assert_eq!(as_caller(caller, key, 0), Ok(()));
        assert_eq!(as_caller(caller, key, 100), Ok(()));
        let refused = Error::TooLarge { field: "lease_seconds", limit: 100 };
        assert_eq!(as_caller(caller, key, 101), Err(refused));
    }
    assert_eq!(as_caller(&lasting, &key(), 604_800), Ok(()));
}
