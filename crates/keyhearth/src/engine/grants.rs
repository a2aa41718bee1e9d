//! Acts on grants. Nobody passes on what it does not hold: a right that depends on more of a request than a grant
//! can say is not passed on. What forbids is no part of that: it is asked whenever a grant is used, about who uses it.

use keyhearth_core::Error;
use keyhearth_core::decide::{Basis, Facts, decide};
use keyhearth_core::grant::{GRANT_NAME_BYTES_MAX, GRANTS_PER_KEY_MAX, Grant};
use keyhearth_core::id::{GrantId, Name, PrincipalId};
use keyhearth_core::key::Key;
use keyhearth_core::operation::{Group, Operation};
use keyhearth_core::policy::{Authorizer, Question, Verdict, key_policy_name};
use keyhearth_core::principal::Role;
use keyhearth_core::request::{Ask, NewGrant, PAGE_MAX, Page, Response};
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::time::Now;

use super::keys::{id_bytes, page_limit};
use super::records::{Records, Stored};
use super::{Effect, Turn};

/// How often, and how many rows at a time, the tenant's grants are read for one page of those to be retired.
const RETIRABLE_SCANS_MAX: usize = 8;
const RETIRABLE_STEP_ROWS: usize = PAGE_MAX;

const STEADY: &str = "are yours only from some addresses, at some times, by some proof or with other pairs; name \
                      those pairs, or let somebody grant them who has them without such conditions";

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
            Ask::ListGrants { page, .. } => self.list_grants(page),
            Ask::RevokeGrant { grant, .. } => self.revoke_grant(*grant),
            _ => Err(Error::Internal("not an operation on grants")),
        }
    }

    /// Lists a key's grants by id.
    fn list_grants(&self, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let grants = self.held()?.grants.iter().filter(|grant| grant.value.id.0[..] > page.after[..]);
        let mut grants: Vec<Grant> = grants.take(limit + 1).map(|grant| grant.value.clone()).collect();
        let more = grants.len() > limit;
        grants.truncate(limit);
        let next = grants.last().filter(|_| more).map(|last| last.id.0.to_vec());
        Ok(Effect::of(Response::Grants { grants, next }))
    }

    /// Lists the tenant's grants that name `identity` as retiree. A page may have fewer than its limit and yet
    /// have a next one: so much is read for one page, and no more.
    pub(super) fn list_retirable_grants(&self, identity: PrincipalId, page: &Page) -> Result<Effect, Error> {
        let limit = page_limit(page)?;
        let (mut found, mut after) = (Vec::new(), page.after.clone());
        for _ in 0..RETIRABLE_SCANS_MAX {
            let (rows, next) =
                self.open.records.scan::<Grant>(Table::Grant, self.tenant(), &after, RETIRABLE_STEP_ROWS)?;
            for row in rows.into_iter().filter(|row| row.value.retiree == Some(identity)) {
                if found.len() == limit {
                    return Ok(Effect::of(Response::Grants { grants: found, next: Some(after) }));
                }
                after = row.key.id;
                found.push(row.value);
            }
            match next {
                Some(next) => after = next,
                None => return Ok(Effect::of(Response::Grants { grants: found, next: None })),
            }
        }
        Ok(Effect::of(Response::Grants { grants: found, next: Some(after) }))
    }

    /// Makes a grant, or gives the one that was made before under the same name and with the same content.
    fn create_grant(&self, new: &NewGrant) -> Result<Effect, Error> {
        let grantee = self.checked_parties(new)?;
        let grant = self.new_grant(new)?;
        let same = |made: &&Stored<Grant>| grant.name.is_some() && grant.repeats(&made.value);
        let held = self.held()?;
        if let Some(made) = held.grants.iter().find(same) {
            return Ok(Effect::of(Response::Grant(Box::new(made.value.clone()))));
        }
        let mut writes = Vec::new();
        if held.grants.len() >= GRANTS_PER_KEY_MAX {
            // Those that have ended stay listed until their place is needed.
            let has_ended =
                |made: &&Stored<Grant>| made.value.expires.is_some_and(|end| self.now.reached(end));
            writes.extend(held.grants.iter().filter(has_ended).map(Records::delete));
            if writes.is_empty() {
                return Err(Error::TooLarge { field: "grants", limit: GRANTS_PER_KEY_MAX });
            }
        }
        let mut detail = format!("{} to {grantee}", grant.id);
        if !writes.is_empty() {
            detail += &format!("; {} that had ended gave way", writes.len());
        }
        let row = RowKey::new(Table::Grant, self.tenant(), &[held.key.value.id.0, grant.id.0].concat());
        writes.push(self.open.records.create(row, &grant));
        self.remember(Effect::writing(Response::Grant(Box::new(grant)), writes).detail(detail))
    }

    /// Checks who receives and who may revoke; gives the grantee's name.
    fn checked_parties(&self, new: &NewGrant) -> Result<Name, Error> {
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
        if let Some(retiree) = new.retiree
            && self.open.principal(self.tenant(), retiree)?.value.revoked.is_some()
        {
            return Err(Error::Conflict("the retiree is revoked"));
        }
        Ok(grantee.value.name.clone())
    }

    /// The grant that `new` asks for, by the caller's own right.
    fn new_grant(&self, new: &NewGrant) -> Result<Grant, Error> {
        if new.operations.is_empty() || !new.operations.iter().all(|operation| operation.is_grantable()) {
            return Err(Error::Invalid { field: "operations", rule: "must be one or more uses of a key" });
        }
        for pairs in [Some(&new.context), new.exact_context.as_ref()].into_iter().flatten() {
            keyhearth_core::key::check_tags(pairs).map_err(|_| Error::Invalid {
                field: "context",
                rule: "at most 50 pairs, names 1 to 128 characters, values at most 256",
            })?;
        }
        if new.name.as_ref().is_some_and(|name| !is_name(name)) {
            return Err(Error::Invalid { field: "name", rule: "1 to 256 of A-Z a-z 0-9 : / _ -" });
        }
        let mut operations: Vec<u8> = new.operations.iter().map(|operation| operation.info().code).collect();
        operations.sort_unstable();
        operations.dedup();
        let grant = Grant {
            id: GrantId::new(self.now.latest, id_bytes()?),
            key: self.held()?.key.value.id,
            grantee: new.grantee,
            grantor: self.caller.principal,
            operations,
            context: new.context.clone(),
            expires: new.expires,
            delegable: new.delegable,
            parent: None,
            depth: 0,
            created: self.now.latest,
            name: new.name.clone(),
            exact_context: new.exact_context.clone(),
            retiree: new.retiree,
        };
        let made_from = |parent: &Grant| {
            let grant = Grant { parent: Some(parent.id), depth: parent.depth + 1, ..grant.clone() };
            grant.narrows(parent).map(|()| grant)
        };
        match (new.parent, self.permit.basis()) {
            (Some(id), _) => made_from(self.own_grant(id)?),
            // Of several that the caller holds, the first that gives as much.
            (None, Basis::Grant(id)) => made_from(self.own_grant(*id)?)
                .or_else(|error| self.own_grants()?.find_map(|own| made_from(own).ok()).ok_or(error)),
            (None, Basis::Policies(_) | Basis::Server) => {
                self.holds_by_policy(new)?;
                Ok(grant)
            }
        }
    }

    /// The live grants of the caller on this key.
    fn own_grants(&self) -> Result<impl Iterator<Item = &Grant>, Error> {
        let grants = &self.held()?.grants;
        let own = grants.iter().map(|grant| &grant.value);
        Ok(own
            .filter(|grant| grant.grantee == self.caller.principal && chain_is_live(grants, grant, self.now)))
    }

    /// A live grant of the caller on this key.
    fn own_grant(&self, id: GrantId) -> Result<&Grant, Error> {
        self.own_grants()?.find(|grant| grant.id == id).ok_or(Error::NotFound("grant"))
    }

    /// The caller may itself do, by policy, everything that it passes on.
    fn holds_by_policy(&self, new: &NewGrant) -> Result<(), Error> {
        let authorizer = self.open.policies(self.tenant())?;
        let context = new.pairs();
        // Everybody may give back what it has.
        let named = new.operations.iter().copied().filter(|operation| *operation != Operation::RevokeGrant);
        for operation in named.chain(new.delegable.then_some(Operation::CreateGrant)) {
            let question = Question {
                caller: self.caller,
                operation,
                key: Some(&self.held()?.key.value),
                context: &context,
                boot: None,
                lease_seconds: 0,
                now: self.now,
            };
            let Verdict::Allow(permits) = authorizer.authorize(&question) else { return Err(Error::Denied) };
            let names = |name: &str| context.iter().any(|(pair, _)| pair == name);
            let is_fixed: Option<&dyn Fn(&str) -> bool> = match (operation.info().group, &new.exact_context) {
                // Constraints are not for what only reads.
                (Group::Inspect, _) => Some(&|_| false),
                (_, Some(_)) => None,
                (_, None) => Some(&names),
            };
            if !authorizer.is_steady(&permits, is_fixed) {
                return Err(Error::Invalid { field: "operations", rule: STEADY });
            }
        }
        Ok(())
    }

    /// Ends a grant. Its grantor, its grantee, its retiree and whoever manages keys may; those made from it end
    /// with it.
    fn revoke_grant(&self, id: GrantId) -> Result<Effect, Error> {
        let held = self.held()?;
        let grant = held.grants.iter().find(|grant| grant.value.id == id).ok_or(Error::NotFound("grant"))?;
        let Grant { grantor, grantee, retiree, .. } = grant.value;
        let own = [Some(grantor), Some(grantee), retiree].contains(&Some(self.caller.principal));
        if !own && !self.by_own_policy() && !self.may(Operation::UpdateKey, &held.key.value)? {
            return Err(Error::Denied);
        }
        let doomed = held.grants.iter().filter(|other| descends(&held.grants, &other.value, id));
        let writes = doomed.map(Records::delete).collect();
        Ok(Effect::writing(Response::Done, writes).detail(id.to_string()))
    }

    /// Whether the key's own policy permits this: what it says of grants, it says of all grants on the key.
    fn by_own_policy(&self) -> bool {
        self.bases().any(|own| own)
    }

    /// Of each policy that permits this, whether it is the key's own.
    pub(super) fn bases(&self) -> impl Iterator<Item = bool> {
        let own = self.permit.key().map(key_policy_name);
        let names = match self.permit.basis() {
            Basis::Policies(names) => names,
            Basis::Grant(_) | Basis::Server => &[][..],
        };
        names.iter().map(move |by| own.as_ref().is_some_and(|own| by.split('#').next() == Some(own.as_str())))
    }

    /// Whether policies let the caller do this as well, with the request's context.
    pub(super) fn may(&self, operation: Operation, key: &Key) -> Result<bool, Error> {
        let context = self.request.ask.context();
        let authorizer = self.open.policies(self.tenant())?;
        let tenant = self.open.tenant(self.tenant())?;
        let facts = Facts {
            tenant: &tenant.value,
            key: Some(key),
            version: None,
            grants: &[],
            context: &context,
            boot: None,
            lease_seconds: 0,
            reason_given: false,
            now: self.now,
        };
        Ok(decide(self.caller, operation, &facts, authorizer.as_ref()).is_ok())
    }
}

fn is_name(text: &str) -> bool {
    let ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b':' | b'/' | b'_' | b'-');
    (1..=GRANT_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(ok)
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
