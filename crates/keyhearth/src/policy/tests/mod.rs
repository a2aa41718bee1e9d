use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use keyhearth_core::id::{KeyId, Name, PrincipalId, TenantId};
use keyhearth_core::key::{Cryptoperiod, Key, Origin, Usage};
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{Authorizer, Policy, Question, Verdict};
use keyhearth_core::principal::{Caller, Principal, Proof, Role, Roles};
use keyhearth_core::state::Switches;
use keyhearth_core::time::{Now, Time};
use keyhearth_crypto::algorithm::Algorithm;

use super::*;

mod aws;
mod conditions;
mod document;
mod remembered;
mod reports;
mod roles;
mod texts;

const TENANT: TenantId = TenantId([1; 16]);
const KEY: KeyId = KeyId([7; 16]);
const ALICE: PrincipalId = PrincipalId([5; 16]);
/// 2026-11-20T12:00:00Z.
const NOON: Time = Time::from_unix_ms(1_795_176_000_000);
const NOW: Now = Now::exactly(NOON);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn policies(texts: &[&str]) -> Vec<Policy> {
    let policy = |(number, text): (usize, &&str)| Policy {
        name: name(&format!("p{number}")),
        text: (*text).to_owned(),
        activated: NOON,
    };
    texts.iter().enumerate().map(policy).collect()
}

fn compile(texts: &[&str]) -> Compiled {
    Compiled::new(TENANT, &policies(texts)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> PolicyError {
    Compiled::new(TENANT, &policies(&[text])).err().expect("must be refused")
}

fn alice(roles: impl IntoIterator<Item = Role>) -> Caller {
    Caller {
        principal: ALICE,
        tenant: TENANT,
        name: name("alice"),
        roles: Roles::new(roles, TENANT).unwrap(),
        proof: Proof::Local,
        expires: None,
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)),
    }
}

fn principal(id: PrincipalId, roles: impl IntoIterator<Item = Role>) -> Principal {
    Principal {
        id,
        tenant: TENANT,
        name: name("alice"),
        roles: Roles::new(roles, TENANT).unwrap(),
        created: NOON,
        revoked: None,
        certificates: Vec::new(),
    }
}

fn key(tags: &[(&str, &str)]) -> Key {
    Key {
        id: KEY,
        tenant: TENANT,
        algorithm: Algorithm::Aes256,
        usage: Usage::usual(Algorithm::Aes256),
        exportable: false,
        origin: Origin::Generated,
        created: NOON,
        creator: ALICE,
        description: String::new(),
        tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        primary: 1,
        versions: Vec::new(),
        switches: Switches::default(),
        cryptoperiod: Cryptoperiod::default(),
        rotation: None,
        destroy_at: None,
        aliases: Default::default(),
        suspended: None,
        policy: None,
    }
}

fn ask(policies: &Compiled, caller: &Caller, operation: Operation, key: Option<&Key>) -> Verdict {
    policies.authorize(&Question {
        caller,
        operation,
        key,
        context: &[],
        boot: None,
        lease_seconds: 0,
        now: NOW,
    })
}

fn by(names: &[&str]) -> Arc<[String]> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs: BTreeMap<_, _> = pairs.iter().copied().collect();
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
