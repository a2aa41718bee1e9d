//! Reports: who would gain and lose what, and who can do what.
//!
//! Both ask the questions one by one, of a caller with a certificate, without context pairs and from no
//! particular address (`0.0.0.0`). What a policy allows only with certain pairs, from certain networks or
//! at other times than now does not show, nor do grants in a difference.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr};

use keyhearth_core::Error;
use keyhearth_core::grant::Grant;
use keyhearth_core::id::{KeyId, TenantId};
use keyhearth_core::key::Key;
use keyhearth_core::operation::{Operation, Scope};
use keyhearth_core::policy::{Authorizer, Question, Verdict};
use keyhearth_core::principal::{Caller, Fingerprint, Principal, Proof};
use keyhearth_core::request::{Ability, Difference};
use keyhearth_core::time::Now;

use super::compiled::Compiled;
use super::schema::decided;
use super::statement::{Statement, Subject};

/// The most questions that one report asks; a difference asks each side.
pub const QUESTIONS_MAX: usize = 200_000;

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
        expires: None,
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

/// What each of `principals` would gain and lose if `new` took the place of `old`.
///
/// Asks only what a statement that differs could change.
///
/// # Errors
/// [`Error::TooLarge`] if that is more than [`QUESTIONS_MAX`] questions.
pub fn diff(
    old: &Compiled,
    new: &Compiled,
    principals: &[Principal],
    keys: &[Key],
    now: Now,
) -> Result<Vec<Difference>, Error> {
    let changed: Vec<&Statement> = changes(old, new).chain(changes(new, old)).collect();
    let by_id: BTreeMap<KeyId, &Key> = keys.iter().map(|key| (key.id, key)).collect();
    let mut differences = Vec::new();
    let mut questions = 0;
    for principal in principals.iter().filter(|principal| principal.revoked.is_none()) {
        let caller = as_caller(principal);
        let own: Vec<&Statement> =
            changed.iter().copied().filter(|statement| may_concern(statement, principal)).collect();
        for operation in decided() {
            for key in questions_about(operation, old.tenant(), &own, &by_id) {
                count(&mut questions)?;
                let question = Question {
                    caller: &caller,
                    operation,
                    key,
                    context: &[],
                    boot: None,
                    lease_seconds: 0,
                    now,
                };
                let allowed =
                    |policies: &Compiled| matches!(policies.authorize(&question), Verdict::Allow(_));
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
    }
    Ok(differences)
}

fn count(questions: &mut usize) -> Result<(), Error> {
    *questions += 1;
    if *questions > QUESTIONS_MAX {
        return Err(Error::TooLarge { field: "questions", limit: QUESTIONS_MAX });
    }
    Ok(())
}

/// The statements of `one` that `other` does not have.
fn changes<'a>(one: &'a Compiled, other: &'a Compiled) -> impl Iterator<Item = &'a Statement> {
    let known: HashSet<&str> = other.statements().map(|statement| statement.text.as_str()).collect();
    one.statements().filter(move |statement| !known.contains(statement.text.as_str()))
}

/// What `operation` is asked about where one of `changed` can have a say: keys, or nothing in particular.
fn questions_about<'a>(
    operation: Operation,
    tenant: TenantId,
    changed: &[&Statement],
    keys: &BTreeMap<KeyId, &'a Key>,
) -> Vec<Option<&'a Key>> {
    let subjects = || {
        let about = changed.iter().filter(|statement| statement.operations.contains(operation));
        about.map(|statement| statement.subject)
    };
    let named: BTreeSet<KeyId> = subjects().filter_map(key_of).collect();
    let all = subjects().any(|subject| key_of(subject).is_none());
    match operation.info().scope {
        Scope::Key if all => keys.values().copied().map(Some).collect(),
        Scope::Key => named.iter().filter_map(|id| keys.get(id).copied()).map(Some).collect(),
        Scope::Platform if tenant != TenantId::PLATFORM => Vec::new(),
        Scope::Tenant | Scope::Platform if all => vec![None],
        Scope::Tenant | Scope::Platform => Vec::new(),
    }
}

/// The only key that a statement about `subject` has a say on.
fn key_of(subject: Subject) -> Option<KeyId> {
    match subject {
        Subject::Key(id) => Some(id),
        Subject::Principal(_) | Subject::Role(_) | Subject::Anyone => None,
    }
}

/// Whether `statement` can have a say on what `principal` asks.
fn may_concern(statement: &Statement, principal: &Principal) -> bool {
    match statement.subject {
        Subject::Principal(id) => principal.id == id,
        Subject::Role(role) => principal.roles.contains(role),
        Subject::Key(_) | Subject::Anyone => true,
    }
}

/// Who can do what with `key`, and through which policies or which of `grants`.
///
/// A grant shows if it covers the operation with the context pairs it demands.
///
/// # Errors
/// [`Error::TooLarge`] if that is more than [`QUESTIONS_MAX`] questions.
pub fn who_can(
    policies: &Compiled,
    key: &Key,
    principals: &[Principal],
    grants: &[Grant],
    now: Now,
) -> Result<Vec<Ability>, Error> {
    let mut abilities = Vec::new();
    let mut questions = 0;
    for principal in principals.iter().filter(|principal| principal.revoked.is_none()) {
        let caller = as_caller(principal);
        for operation in decided().filter(|operation| operation.info().scope == Scope::Key) {
            count(&mut questions)?;
            let question = Question {
                caller: &caller,
                operation,
                key: Some(key),
                context: &[],
                boot: None,
                lease_seconds: 0,
                now,
            };
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
    Ok(abilities)
}

fn by_grants(
    principal: &Principal,
    operation: Operation,
    key: &Key,
    grants: &[Grant],
    now: Now,
) -> Vec<String> {
    let covers = |grant: &&Grant| {
        let pairs = grant.exact_context.as_ref().unwrap_or(&grant.context);
        let context: Vec<_> = pairs.clone().into_iter().collect();
        grant.grantee == principal.id && grant.key == key.id && grant.covers(operation, &context, now)
    };
    grants.iter().filter(covers).map(|grant| format!("grant:{}", grant.id)).collect()
}
