use super::*;
use crate::time::DAY_MS;

fn at(day: u64) -> Now {
    Now::exactly(Time::from_unix_ms(day * DAY_MS))
}

fn key() -> Key {
    Key {
        id: KeyId([1; 16]),
        tenant: TenantId([2; 16]),
        algorithm: Algorithm::Aes256,
        usage: Usage::usual(Algorithm::Aes256),
        exportable: false,
        origin: Origin::Generated,
        created: at(0).latest,
        creator: PrincipalId([3; 16]),
        description: String::new(),
        tags: BTreeMap::new(),
        primary: 1,
        versions: Vec::new(),
        switches: Switches::default(),
        cryptoperiod: Cryptoperiod { protect_days: Some(10), process_days: Some(20) },
        rotation: None,
        destroy_at: None,
        aliases: Vec::new(),
        suspended: None,
        policy: None,
    }
}

#[test]
fn rotation_leaves_one_version_that_protects() {
    let mut key = key();
    for expected in 1..=3 {
        assert_eq!(key.add_version(at(1), None, true), Ok(expected));
        assert_eq!(key.primary, expected);
        let active = key.versions.iter().filter(|v| v.state_at(at(1)) == State::Active).count();
        assert_eq!(active, 1);
    }
}

#[test]
fn dates_change_the_state_at_use_and_when_written_down() {
    let mut key = key();
    key.add_version(at(0), Some(at(5).latest), true).unwrap();
    let state = |key: &Key, day| key.versions[0].state_at(at(day));
    assert_eq!(
        [4, 5, 14, 15].map(|day| state(&key, day)),
        [State::PreActive, State::Active, State::Active, State::Deactivated]
    );
    assert!(!key.versions[0].process_ended(at(24)) && key.versions[0].process_ended(at(25)));
    assert_eq!(key.next_date(), Some(at(5).latest));
    assert_eq!(key.apply_dates(at(4)), []);
    assert_eq!(key.apply_dates(at(5)), [(1, State::Active)]);
    assert_eq!(key.next_date(), Some(at(15).latest));
    assert_eq!(key.apply_dates(at(15)), [(1, State::Deactivated)]);
    assert_eq!(key.next_date(), None);
}

#[test]
fn an_uncertain_clock_begins_nothing_early_and_ends_nothing_late() {
    let mut key = key();
    key.add_version(at(0), Some(at(5).latest), true).unwrap();
    let uncertain = Now { earliest: at(1).earliest, latest: at(400).latest };
    assert_eq!(key.versions[0].state_at(uncertain), State::PreActive);
    key.apply_dates(at(5));
    assert_eq!(key.versions[0].state_at(uncertain), State::Deactivated, "not used when it may have ended");
    assert_eq!(key.apply_dates(uncertain), [], "and nothing irrevocable is written");
}

#[test]
fn a_scheduled_version_takes_over_when_its_date_comes() {
    let mut key = key();
    key.add_version(at(0), None, true).unwrap();
    key.add_version(at(0), Some(at(3).latest), true).unwrap();
    assert_eq!(key.primary, 1);
    key.apply_dates(at(3));
    assert_eq!(
        (key.primary, key.versions[0].state, key.versions[1].state),
        (2, State::Deactivated, State::Active)
    );
}

#[test]
fn protecting_never_goes_back_to_an_older_version() {
    let three = || {
        let mut key = key();
        key.add_version(at(0), None, true).unwrap();
        key.add_version(at(0), Some(at(3).latest), true).unwrap();
        key.add_version(at(1), None, true).unwrap();
        key
    };
    let states = |key: &Key| key.versions.iter().map(|version| version.state).collect::<Vec<_>>();
    let expected = [State::Deactivated, State::Deactivated, State::Active];
    let mut by_date = three();
    assert_eq!(by_date.apply_dates(at(3)), [(2, State::Deactivated)]);
    assert_eq!((by_date.primary, states(&by_date)), (3, expected.to_vec()));
    let mut asked = three();
    asked.apply(2, Transition::Activate, Operation::ActivateKey, at(2)).unwrap();
    assert_eq!((asked.primary, states(&asked)), (3, expected.to_vec()));
}

#[test]
fn without_material_nothing_becomes_active() {
    let mut key = key();
    key.add_version(at(0), None, false).unwrap();
    assert_eq!(key.versions[0].state_at(at(1)), State::PreActive);
    let refused = key.apply(1, Transition::Activate, Operation::ActivateKey, at(1));
    assert!(matches!(refused, Err(Error::WrongState { state: State::PreActive, .. })));
}

#[test]
fn destroy_asks_for_the_right_state_and_compromise_stays_recorded() {
    let mut key = key();
    key.add_version(at(0), None, true).unwrap();
    assert!(key.apply(1, Transition::Destroy, Operation::DestroyKey, at(1)).is_err());
    key.apply(1, Transition::Compromise, Operation::CompromiseKey, at(1)).unwrap();
    key.apply(1, Transition::Destroy, Operation::DestroyKey, at(2)).unwrap();
    assert_eq!(key.versions[0].compromised, Some(at(1).latest));
    assert_eq!(key.versions[0].state, State::Destroyed);
    assert!(!key.versions[0].has_material);
}

#[test]
fn a_key_for_exchange_is_for_nothing_else() {
    let usage = |names: &[&str], algorithm| Usage::new(names.iter().copied(), algorithm);
    let exchange = usage(&["exchange"], Algorithm::EcP521).unwrap();
    assert!(exchange.permits(Operation::Exchange) && !exchange.permits(Operation::Agree));
    assert!(!usage(&["agree"], Algorithm::EcP521).unwrap().permits(Operation::Exchange));
    for other in ["agree", "sign", "verify"] {
        assert!(usage(&["exchange", other], Algorithm::EcP521).is_err(), "{other}");
    }
    assert!(usage(&["exchange"], Algorithm::EcP384).is_err());
}

#[test]
fn usage_is_what_the_algorithm_can_do() {
    assert!(Usage::new(["encrypt", "decrypt"], Algorithm::Aes256).is_ok());
    assert!(Usage::new(["sign"], Algorithm::Aes256).is_err());
    assert!(Usage::new([], Algorithm::Aes256).is_err());
    assert!(Usage::new(["fly"], Algorithm::Aes256).is_err());
    let verify_only = Usage::new(["verify"], Algorithm::EcP256).unwrap();
    assert!(verify_only.permits(Operation::Verify) && !verify_only.permits(Operation::Sign));
    assert!(verify_only.permits(Operation::DescribeKey));
}

#[test]
fn records_survive_encoding() {
    let mut key = key();
    key.add_version(at(1), None, true).unwrap();
    let bytes = minicbor::to_vec(&key).unwrap();
    assert_eq!(minicbor::decode::<Key>(&bytes).unwrap(), key);
}

#[test]
fn every_fixed_attribute_is_bound_to_the_material() {
    let key = key();
    let deployment = DeploymentId([9; 16]);
    let base = key.material_binding(deployment, 1);
    let others = [
        Key { tenant: TenantId([7; 16]), ..key.clone() }.material_binding(deployment, 1),
        Key { id: KeyId([7; 16]), ..key.clone() }.material_binding(deployment, 1),
        Key { algorithm: Algorithm::Aes128, ..key.clone() }.material_binding(deployment, 1),
        Key { usage: Usage::possible(Algorithm::Aes256), ..key.clone() }.material_binding(deployment, 1),
        Key { exportable: true, ..key.clone() }.material_binding(deployment, 1),
        Key { origin: Origin::Imported, ..key.clone() }.material_binding(deployment, 1),
        Key { created: at(9).latest, ..key.clone() }.material_binding(deployment, 1),
        key.material_binding(DeploymentId([8; 16]), 1),
        key.material_binding(deployment, 2),
    ];
    for other in others {
        assert_ne!(other, base);
    }
}

#[test]
fn a_suspended_key_is_not_rotated_by_a_date() {
    let mut key = key();
    key.add_version(at(0), None, true).unwrap();
    key.rotation = Some(Rotation { every_days: 3, next: at(3).latest });
    assert_eq!(key.next_date(), Some(at(3).latest));
    key.suspend(at(1)).unwrap();
    assert_eq!(key.next_date(), Some(at(10).latest), "its version goes on to its end");
    key.resume(at(2)).unwrap();
    assert_eq!(key.next_date(), Some(at(3).latest));
}

#[test]
fn records_of_the_first_servers_are_read() {
    let mut first = key();
    first.add_version(at(1), None, true).unwrap();
    let version = first.versions[0].clone();
    let bytes = minicbor::to_vec(&version).unwrap();
    // Ten fields, as when there was no `automatic` and what follows it; what is absent at the end is left out.
    assert_eq!((bytes[0], bytes.last()), (0x8b, Some(&0xf4)));
    let mut old = bytes[..bytes.len() - 1].to_vec();
    old[0] = 0x8a;
    assert_eq!(minicbor::decode::<Version>(&old).unwrap(), version);

    let alias = AliasOf { key: first.id, created: Some(at(1).latest), updated: None };
    assert_eq!(minicbor::decode::<AliasOf>(&minicbor::to_vec(&alias).unwrap()).unwrap(), alias);
    let old = minicbor::to_vec(first.id).unwrap();
    let unknown = AliasOf { key: first.id, created: None, updated: None };
    assert_eq!(minicbor::decode::<AliasOf>(&old).unwrap(), unknown);
    assert!(minicbor::decode::<AliasOf>(&minicbor::to_vec([1, 2, 3]).unwrap()).is_err());
}
