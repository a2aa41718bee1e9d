//! Whatever a tenant writes as policy is refused, or answers every question.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use keyhearth::policy::Compiled;
use keyhearth_core::id::{PrincipalId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::machine::{BootFacts, Claim, Comparison};
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{Authorizer, Policy, Question, Verdict};
use keyhearth_core::principal::{Caller, Proof, Roles};
use keyhearth_core::time::{Now, Time};
use libfuzzer_sys::fuzz_target;

const TENANT: TenantId = TenantId([2; 16]);

/// A key of that tenant, as the seeds of `records` have it.
static KEY: LazyLock<Key> = LazyLock::new(|| {
    minicbor::decode(&include_bytes!("../seeds/records/key")[1..]).expect("written by scripts/fuzz --seeds")
});

fuzz_target!(|text: &str| {
    let name = "fuzz".parse().expect("a name");
    let policy = Policy { name, text: text.to_owned(), activated: Time::from_unix_ms(0) };
    let Ok(compiled) = Compiled::new(TENANT, &[policy]) else { return };
    let caller = Caller {
        principal: PrincipalId([3; 16]),
        tenant: TENANT,
        name: "caller".parse().expect("a name"),
        roles: Roles::default(),
        proof: Proof::Local,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        expires: None,
    };
    let context = [("dept".to_owned(), "hr".to_owned())];
    let of_tenant = [Operation::CreateKey, Operation::PutPolicy].map(|operation| (operation, None));
    let of_key = [Operation::Encrypt, Operation::DestroyKey, Operation::ReleaseVolumes]
        .map(|operation| (operation, Some(&*KEY)));
    let facts = BootFacts {
        volumes: vec!["root".parse().expect("a name")],
        claims: [("memory_encrypted".to_owned(), Claim::Bool(true)), ("tcb".to_owned(), Claim::Number(7))]
            .into(),
        comparison: Comparison::Known,
        counter: 1,
        approval: None,
        continues: None,
        image: None,
    };
    for (operation, key) in of_tenant.into_iter().chain(of_key) {
        let now = Now::exactly(Time::from_unix_ms(0));
        let boot = (operation == Operation::ReleaseVolumes).then_some(&facts);
        let question =
            Question { caller: &caller, operation, key, context: &context, boot, lease_seconds: 60, now };
        let verdict = compiled.authorize(&question);
        let elsewhere = Caller { tenant: TenantId([4; 16]), ..caller.clone() };
        let foreign = compiled.authorize(&Question { caller: &elsewhere, ..question });
        assert!(!matches!(foreign, Verdict::Allow(_)), "another tenant's policies allow nothing");
        assert_eq!(compiled.authorize(&question), verdict, "the same question, the same answer");
    }
});
