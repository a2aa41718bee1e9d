//! The one decision: may this caller do this, with this key, now?
//!
//! Pure. The engine loads what is needed ([`Facts`]), asks here, and can act only with the [`Permit`]
//! it gets: the type has no other constructor.
//!
//! Order: tenant in use → scope → policy (a `forbid` ends it) → grants → usage of the key → state and
//! dates of the version → the end of what allows it, if the caller keeps what it gets. Authority comes first, so that a
//! caller without it learns nothing of states.

use crate::error::Error;
use crate::grant::Grant;
use crate::id::{GrantId, KeyId, TenantId};
use crate::key::{Key, Version};
use crate::machine::BootFacts;
use crate::operation::{Group, Operation, Scope};
use crate::policy::{Authorizer, Question, Verdict};
use crate::principal::Caller;
use crate::state::{Class, State};
use crate::tenant::Tenant;
use crate::time::{Now, Time};

/// What the decision is made from.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The caller's tenant.
    pub tenant: &'a Tenant,
    /// The key, for operations on a key.
    pub key: Option<&'a Key>,
    /// The version the request or the ciphertext names; the primary one if absent.
    pub version: Option<u32>,
    /// Grants on the key that name this caller.
    pub grants: &'a [Grant],
    /// The pairs bound to the ciphertext.
    pub context: &'a [(String, String)],
    /// What is known of the boot, for [`Operation::ReleaseVolumes`] and [`Operation::CloneImage`].
    pub boot: Option<&'a BootFacts>,
    /// For how long the caller will keep what it opens and use it without asking, in seconds.
    pub lease_seconds: u32,
    /// Whether the caller says why.
    pub reason_given: bool,
    /// The present.
    pub now: Now,
}

/// Why it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// By these policies.
    Policies(std::sync::Arc<[String]>),
    /// By this grant.
    Grant(GrantId),
    /// The server acts by itself, on a date or at start.
    Server,
}

/// The right to carry out one operation once. Made only by [`decide`].
#[derive(Debug)]
#[must_use]
pub struct Permit {
    operation: Operation,
    tenant: TenantId,
    key: Option<KeyId>,
    version: Option<u32>,
    basis: Basis,
}

impl Permit {
    /// What is permitted.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// In which tenant.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// On which key.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.key
    }

    /// With which version, for operations that use material.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// Why.
    #[must_use]
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// The server's own permit for what dates bring about: [`Operation::DateReached`] on a key, nothing else.
    pub fn for_dates(key: &Key) -> Self {
        Self {
            operation: Operation::DateReached,
            tenant: key.tenant,
            key: Some(key.id),
            version: None,
            basis: Basis::Server,
        }
    }
}

/// A refusal, with what the log keeps about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the caller gets.
    pub error: Error,
    /// The policies that forbid it, if that is why.
    pub policies: std::sync::Arc<[String]>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { error, policies: std::sync::Arc::from([]) }
    }
}

/// Decides whether `caller` may carry out `operation`.
///
/// # Errors
/// A [`Refusal`] with the first reason in the order of the module's documentation.
pub fn decide(
    caller: &Caller,
    operation: Operation,
    facts: &Facts<'_>,
    authorizer: &dyn Authorizer,
) -> Result<Permit, Refusal> {
    let info = operation.info();
    if facts.tenant.disabled.is_some() {
        return Err(Error::Denied.into());
    }
    if caller.tenant != facts.tenant.id || facts.key.is_some_and(|key| key.tenant != caller.tenant) {
        return Err(Error::NotFound("key").into());
    }
    match info.scope {
        Scope::Platform if caller.tenant != TenantId::PLATFORM => return Err(Error::Denied.into()),
        Scope::Key if facts.key.is_none() => return Err(Error::NotFound("key").into()),
        Scope::Platform | Scope::Key | Scope::Tenant => {}
    }
    let basis = authority(caller, operation, facts, authorizer)?;
    let version = match facts.key {
        Some(key) if info.scope == Scope::Key => usable_version(operation, key, facts)?,
        Some(_) | None => None,
    };
    outlasts_lease(caller, &basis, version, facts)?;
    Ok(Permit { operation, tenant: caller.tenant, key: facts.key.map(|key| key.id), version, basis })
}

/// By what right; policies first, then grants.
fn authority(
    caller: &Caller,
    operation: Operation,
    facts: &Facts<'_>,
    authorizer: &dyn Authorizer,
) -> Result<Basis, Refusal> {
    let Facts { key, context, boot, lease_seconds, .. } = *facts;
    let now = facts.now.lasting(lease_seconds);
    let question = Question { caller, operation, key, context, boot, lease_seconds, now };
    match authorizer.authorize(&question) {
        Verdict::Allow(policies) => Ok(Basis::Policies(policies)),
        Verdict::Forbid(policies) => Err(Refusal { error: Error::Denied, policies }),
        Verdict::Silent => {
            let by_grant = |grant: &&Grant| {
                let used = || {
                    grant.grantee == caller.principal
                        && (grant.covers(operation, facts.context, facts.now)
                            || !ended(grant, facts.now) && delegates(operation, grant))
                };
                let retired =
                    || operation == Operation::RevokeGrant && grant.retiree == Some(caller.principal);
                facts.key.is_some_and(|key| key.id == grant.key) && (used() || retired())
            };
            let mut grants = facts.grants.iter().filter(by_grant);
            let grant = match lease_seconds {
                0 => grants.next(),
                _ => grants.max_by_key(|grant| grant.expires.unwrap_or(Time::MAX)),
            };
            Ok(Basis::Grant(grant.ok_or(Error::Denied)?.id))
        }
    }
}

/// A grant that may be passed on lets its holder do so. Every grant lets its holder give it back: which
/// grants a caller may end is looked at when it is done.
fn delegates(operation: Operation, grant: &Grant) -> bool {
    operation == Operation::RevokeGrant || (operation.info().group == Group::Delegate && grant.delegable)
}

fn ended(grant: &Grant, now: Now) -> bool {
    grant.expires.is_some_and(|end| now.may_have_passed(end))
}

/// Refuses a lease that would go on when what the caller proves itself by has ended, the grant that allows it, the version's
/// use, or its imported material.
fn outlasts_lease(
    caller: &Caller,
    basis: &Basis,
    version: Option<u32>,
    facts: &Facts<'_>,
) -> Result<(), Error> {
    let grant = facts.grants.iter().find(|grant| *basis == Basis::Grant(grant.id));
    let version = version.and_then(|number| facts.key?.version(number).ok());
    let ends = [
        caller.expires,
        grant.and_then(|grant| grant.expires),
        version.and_then(|version| version.process_end),
        version.and_then(|version| version.expires),
    ];
    let Some(end) = ends.into_iter().flatten().min() else { return Ok(()) };
    let left_s = end.unix_ms().saturating_sub(facts.now.latest.unix_ms()) / 1_000;
    if u64::from(facts.lease_seconds) > left_s {
        let limit = usize::try_from(left_s).unwrap_or(usize::MAX);
        return Err(Error::TooLarge { field: "lease_seconds", limit });
    }
    Ok(())
}

/// The version that serves, or why none does. `None` for operations that use no material.
fn usable_version(operation: Operation, key: &Key, facts: &Facts<'_>) -> Result<Option<u32>, Error> {
    let class = operation.class();
    if class == Class::Metadata {
        return Ok(facts.version);
    }
    if !key.usage.permits(operation) {
        return Err(Error::Unsupported("the key was not made for this use"));
    }
    if class == Class::Export && !key.exportable {
        return Err(Error::Unsupported("the key was made not exportable"));
    }
    let version = key.version(facts.version.unwrap_or(key.primary))?;
    let state = version.state_at(facts.now);
    let refuse = Err(Error::WrongState { state, operation });
    let has_material = version.has_material_at(facts.now);
    let unusable = key.destroy_at.is_some() || !has_material || version.process_ended(facts.now);
    if unusable && state != State::Destroyed {
        // Pending destruction, pending import and the end of processing show as what they amount to.
        let state = if has_material { State::Deactivated } else { State::PreActive };
        return Err(Error::WrongState { state, operation });
    }
    if class == Class::Protect && !protects_in(version, key) {
        return refuse;
    }
    if !state.allows(class, key.switches) {
        return refuse;
    }
    if key.suspended.is_some() && !State::Suspended.allows(class, key.switches) {
        return Err(Error::WrongState { state: State::Suspended, operation });
    }
    if state == State::Compromised && !facts.reason_given {
        return Err(Error::Invalid { field: "reason", rule: "must say why a compromised version is used" });
    }
    Ok(Some(version.number))
}

/// Only the primary version protects.
fn protects_in(version: &Version, key: &Key) -> bool {
    version.number == key.primary
}

#[cfg(test)]
mod tests;
