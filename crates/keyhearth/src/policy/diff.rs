//! Reports: who would gain and lose what, and who can do what.
//!
//! Both ask the questions one by one, of a caller with a certificate, without context pairs and from no
//! particular address (`0.0.0.0`). What a policy allows only with certain pairs, from certain networks or
//! at other times than now does not show, nor do grants in a difference.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use keyhearth_core::Error;
use keyhearth_core::grant::Grant;
use keyhearth_core::id::TenantId;
use keyhearth_core::key::Key;
use keyhearth_core::operation::{Operation, Scope};
use keyhearth_core::policy::{Authorizer, Question, Verdict};
use keyhearth_core::principal::{Caller, Fingerprint, Principal, Proof};
use keyhearth_core::request::{Ability, Difference};
use keyhearth_core::time::Now;

use super::compiled::Compiled;
use super::schema::requestable;
use super::statement::{Statement, Subject};

/// The most questions that one difference asks, of each side.
pub const DIFF_QUESTIONS_MAX: usize = 200_000;

/// `principal` as it would call, for questions that nobody asked.
#[must_use]
pub fn as_caller(principal: &Principal) -> Caller {
    let certificate = principal.certificates.last().copied();
    Caller {
        principal: principal.id,
        tenant: principal.tenant,
        name: principal.name.clone(),
        roles: principal.roles,
        proof: Proof::Certificate(certificate.unwrap_or(Fingerprint([0; 32]))),
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// What each of `principals` would gain and lose if `new` took the place of `old`.
///
/// Asks only what a statement that differs could change.
///
/// # Errors
/// [`Error::TooLarge`] if that is more than [`DIFF_QUESTIONS_MAX`] questions.
pub fn diff(
    old: &Compiled,
    new: &Compiled,
    principals: &[Principal],
    keys: &[Key],
    now: Now,
) -> Result<Vec<Difference>, Error> {
    let changed: Vec<&Statement> = changes(old, new).chain(changes(new, old)).collect();
    let mut differences = Vec::new();
    let mut questions = 0;
    for principal in principals.iter().filter(|principal| principal.revoked.is_none()) {
        let caller = as_caller(principal);
        for (operation, key) in questions_in(old.tenant(), keys) {
            if !changed.iter().any(|statement| concerns(statement, principal, operation, key)) {
                continue;
            }
            questions += 1;
            if questions > DIFF_QUESTIONS_MAX {
                return Err(Error::TooLarge { field: "questions", limit: DIFF_QUESTIONS_MAX });
            }
            let question = Question { caller: &caller, operation, key, context: &[], now };
            let allowed = |policies: &Compiled| matches!(policies.authorize(&question), Verdict::Allow(_));
            let (before, after) = (allowed(old), allowed(new));
            if before != after {
                differences.push(Difference {
                    principal: principal.id,
                    name: principal.name.clone(),
                    operation,
                    key: key.map(|key| key.id),
                    gains: after,
                });
            }
        }
    }
    Ok(differences)
}

/// The statements of `one` that `other` does not have.
fn changes<'a>(one: &'a Compiled, other: &'a Compiled) -> impl Iterator<Item = &'a Statement> {
    let known: HashSet<&str> = other.statements().map(|statement| statement.text.as_str()).collect();
    one.statements().filter(move |statement| !known.contains(statement.text.as_str()))
}

/// Every question that can be asked in `tenant` about itself and `keys`.
fn questions_in(tenant: TenantId, keys: &[Key]) -> impl Iterator<Item = (Operation, Option<&Key>)> {
    requestable().flat_map(move |operation| {
        let (keys, without) = match operation.info().scope {
            Scope::Key => (keys, None),
            Scope::Platform if tenant != TenantId::PLATFORM => (&[][..], None),
            Scope::Tenant | Scope::Platform => (&[][..], Some(None)),
        };
        keys.iter().map(Some).chain(without).map(move |key| (operation, key))
    })
}

/// Whether `statement` can have a say.
fn concerns(statement: &Statement, principal: &Principal, operation: Operation, key: Option<&Key>) -> bool {
    statement.operations.contains(operation)
        && match statement.subject {
            Subject::Principal(id) => principal.id == id,
            Subject::Key(id) => key.is_some_and(|key| key.id == id),
            Subject::Role(role) => principal.roles.contains(role),
            Subject::Anyone => true,
        }
}

/// Who can do what with `key`, and through which policies or which of `grants`.
///
/// A grant shows if it covers the operation with the context pairs it demands.
#[must_use]
pub fn who_can(
    policies: &Compiled,
    key: &Key,
    principals: &[Principal],
    grants: &[Grant],
    now: Now,
) -> Vec<Ability> {
    let mut abilities = Vec::new();
    for principal in principals.iter().filter(|principal| principal.revoked.is_none()) {
        let caller = as_caller(principal);
        for operation in requestable().filter(|operation| operation.info().scope == Scope::Key) {
            let question = Question { caller: &caller, operation, key: Some(key), context: &[], now };
            let by: Vec<String> = match policies.authorize(&question) {
                Verdict::Allow(by) => by.to_vec(),
                Verdict::Forbid(_) => continue,
                Verdict::Silent => by_grants(principal, operation, key, grants, now),
            };
            if !by.is_empty() {
                let name = principal.name.clone();
                abilities.push(Ability { principal: principal.id, name, operation, by });
            }
        }
    }
    abilities
}

fn by_grants(
    principal: &Principal,
    operation: Operation,
    key: &Key,
    grants: &[Grant],
    now: Now,
) -> Vec<String> {
    let covers = |grant: &&Grant| {
        let context: Vec<_> = grant.context.clone().into_iter().collect();
        grant.grantee == principal.id && grant.key == key.id && grant.covers(operation, &context, now)
    };
    grants.iter().filter(covers).map(|grant| format!("grant:{}", grant.id)).collect()
}
