//! Acts on grants. Nobody passes on what it does not hold.

use keyhearth_core::Error;
use keyhearth_core::decide::{Basis, Facts, decide};
use keyhearth_core::grant::{GRANTS_PER_KEY_MAX, Grant};
use keyhearth_core::id::GrantId;
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{Authorizer, Question, Verdict};
use keyhearth_core::principal::Role;
use keyhearth_core::request::{Ask, NewGrant, Response};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::time::Now;

use super::keys::id_bytes;
use super::records::{Records, Stored};
use super::{Effect, Turn};

/// Whether a grant and all grants it was made from are still there and not over.
pub(super) fn chain_is_live(grants: &[Stored<Grant>], grant: &Grant, now: Now) -> bool {
    let mut grant = grant;
    loop {
        if grant.expires.is_some_and(|end| now.may_have_passed(end)) {
            return false;
        }
        let Some(parent) = grant.parent else { return true };
        match grants.iter().find(|other| other.value.id == parent) {
            // A parent is always less deep, so this ends.
            Some(found) if found.value.depth < grant.depth => grant = &found.value,
            Some(_) | None => return false,
        }
    }
}

impl Turn<'_> {
    pub(super) fn grants(&self) -> Result<Effect, Error> {
        match &self.request.ask {
            Ask::CreateGrant(new) => self.create_grant(new),
            Ask::ListGrants { .. } => {
                let grants = self.held()?.grants.iter().map(|grant| grant.value.clone()).collect();
                Ok(Effect::of(Response::Grants(grants)))
            }
            Ask::RevokeGrant { grant, .. } => self.revoke_grant(*grant),
            _ => Err(Error::Internal("not an operation on grants")),
        }
    }

    fn create_grant(&self, new: &NewGrant) -> Result<Effect, Error> {
        let held = self.held()?;
        if held.grants.len() >= GRANTS_PER_KEY_MAX {
            return Err(Error::TooLarge { field: "grants", limit: GRANTS_PER_KEY_MAX });
        }
        if new.operations.is_empty() || !new.operations.iter().all(|operation| operation.is_grantable()) {
            return Err(Error::Invalid { field: "operations", rule: "must be one or more uses of a key" });
        }
        keyhearth_core::key::check_tags(&new.context).map_err(|_| Error::Invalid {
            field: "context",
            rule: "at most 50 pairs, names 1 to 128 bytes, values at most 256",
        })?;
        let grantee = self.open.principal(self.tenant(), new.grantee)?;
        if grantee.value.revoked.is_some() {
            return Err(Error::Conflict("the grantee is revoked"));
        }
        if [Role::KeyAdmin, Role::Auditor, Role::TenantAdmin]
            .into_iter()
            .any(|role| grantee.value.roles.contains(role))
        {
            return Err(Error::Invalid {
                field: "grantee",
                rule: "key-admin, tenant-admin and auditor do not use keys",
            });
        }
        let mut operations: Vec<u8> = new.operations.iter().map(|operation| operation.info().code).collect();
        operations.sort_unstable();
        operations.dedup();
        let parent = match new.parent {
            Some(id) => Some(self.own_grant(id)?),
            None => match self.permit.basis() {
                Basis::Grant(id) => Some(self.own_grant(*id)?),
                Basis::Policies(_) | Basis::Server => None,
            },
        };
        let grant = Grant {
            id: GrantId::new(self.now.latest, id_bytes()?),
            key: held.key.value.id,
            grantee: new.grantee,
            grantor: self.caller.principal,
            operations,
            context: new.context.clone(),
            expires: new.expires,
            delegable: new.delegable,
            parent: parent.map(|parent| parent.id),
            depth: parent.map_or(0, |parent| parent.depth + 1),
            created: self.now.latest,
        };
        match parent {
            Some(parent) => grant.narrows(parent)?,
            None => self.holds_by_policy(new)?,
        }
        let row = RowKey::new(Table::Grant, self.tenant(), &[held.key.value.id.0, grant.id.0].concat());
        let write = self.open.records.create(row, &grant);
        let detail = format!("{} to {}", grant.id, grantee.value.name);
        self.remember(Effect::writing(Response::Grant(Box::new(grant)), vec![write]).detail(detail))
    }

    /// A live grant of the caller on this key.
    fn own_grant(&self, id: GrantId) -> Result<&Grant, Error> {
        let held = self.held()?;
        let own = held
            .grants
            .iter()
            .find(|grant| grant.value.id == id && grant.value.grantee == self.caller.principal);
        let own = &own.ok_or(Error::NotFound("grant"))?.value;
        if chain_is_live(&held.grants, own, self.now) { Ok(own) } else { Err(Error::NotFound("grant")) }
    }

    /// The caller may itself do, by policy, everything that it passes on.
    fn holds_by_policy(&self, new: &NewGrant) -> Result<(), Error> {
        let authorizer = self.open.policies(self.tenant())?;
        let context: Vec<(String, String)> = new.context.clone().into_iter().collect();
        for &operation in &new.operations {
            let question = Question {
                caller: self.caller,
                operation,
                key: Some(&self.held()?.key.value),
                context: &context,
                now: self.now,
            };
            if !matches!(authorizer.authorize(&question), Verdict::Allow(_)) {
                return Err(Error::Denied);
            }
        }
        Ok(())
    }

    /// Ends a grant. Its grantor, its grantee and whoever manages keys may; those made from it end with it.
    fn revoke_grant(&self, id: GrantId) -> Result<Effect, Error> {
        let held = self.held()?;
        let grant = held.grants.iter().find(|grant| grant.value.id == id).ok_or(Error::NotFound("grant"))?;
        let own = [grant.value.grantor, grant.value.grantee].contains(&self.caller.principal);
        if !own && !self.manages_keys()? {
            return Err(Error::Denied);
        }
        let doomed = held.grants.iter().filter(|other| descends(&held.grants, &other.value, id));
        let writes = doomed.map(Records::delete).collect();
        Ok(Effect::writing(Response::Done, writes).detail(id.to_string()))
    }

    /// Whether the caller may change this key as its administrator.
    fn manages_keys(&self) -> Result<bool, Error> {
        let authorizer = self.open.policies(self.tenant())?;
        let tenant = self.open.tenant(self.tenant())?;
        let facts = Facts {
            tenant: &tenant.value,
            key: Some(&self.held()?.key.value),
            version: None,
            grants: &[],
            context: &[],
            reason_given: false,
            now: self.now,
        };
        Ok(decide(self.caller, Operation::UpdateKey, &facts, authorizer.as_ref()).is_ok())
    }
}

/// Whether `grant` is `ancestor` or was made from it.
fn descends(grants: &[Stored<Grant>], grant: &Grant, ancestor: GrantId) -> bool {
    let mut grant = grant;
    for _ in 0..=keyhearth_core::grant::GRANT_DEPTH_MAX {
        if grant.id == ancestor {
            return true;
        }
        let parent = grant.parent.and_then(|id| grants.iter().find(|other| other.value.id == id));
        match parent {
            Some(parent) => grant = &parent.value,
            None => return false,
        }
    }
    false
}
