//! Acts on keys' own policies. The key's record and the policy's text change in one commit, or neither does.

use keyhearth_core::Error;
use keyhearth_core::key::Key;
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{
    Authorizer, NewKeyPolicy, POLICY_BYTES_MAX, Policy, Question, THIS_KEY, Verdict, key_policy_name,
};
use keyhearth_core::request::Response;
use keyhearth_core::row::{RowKey, Table};
use keyhearth_core::store::Write;

use super::records::{Records, Stored};
use super::{Effect, Turn};

/// What cannot be taken back. Whom a key's own policy lets set another one does not permit these by it: else a
/// policy of AWS that allows `kms:PutKeyPolicy` would give what no policy of AWS can.
const FINAL: [Operation; 3] = [Operation::ExportKey, Operation::DestroyKey, Operation::CompromiseKey];
const FINAL_BY_GOVERNORS: &str =
    "permits export-key, destroy-key or compromise-key, which only tenant-admin can; name other actions";

impl Turn<'_> {
    /// Sets the key's own policy in place of the one it has.
    pub(super) fn put_key_policy(&self, new: &NewKeyPolicy) -> Result<Effect, Error> {
        let held = &self.held()?.key;
        let key = Key { policy: new.record(), ..held.value.clone() };
        key.check_told_apart("tags", key.tags.keys())?;
        let mut writes = self.policy_writes(&key, new)?;
        writes.push(self.open.records.replace(held, &key));
        let closed = if new.closed { "closed" } else { "open" };
        Ok(Effect::writing(Response::Done, writes).detail(closed))
    }

    /// The rows of a new key's policy. Who makes a key need not be who may say who uses it.
    pub(super) fn first_policy(&self, key: &Key, new: &NewKeyPolicy) -> Result<Vec<Write>, Error> {
        if new.decides() {
            let key = Key { policy: None, ..key.clone() };
            let question = Question {
                caller: self.caller,
                operation: Operation::PutKeyPolicy,
                key: Some(&key),
                context: &[],
                boot: None,
                lease_seconds: 0,
                now: self.now,
            };
            if !matches!(self.open.policies(self.tenant())?.authorize(&question), Verdict::Allow(_)) {
                return Err(Error::Denied);
            }
        }
        self.policy_writes(key, new)
    }

    /// The writes besides the key's own row that give `key` this policy and no other.
    fn policy_writes(&self, key: &Key, new: &NewKeyPolicy) -> Result<Vec<Write>, Error> {
        if new.document.as_ref().is_some_and(|document| document.len() > POLICY_BYTES_MAX) {
            return Err(Error::TooLarge { field: "document", limit: POLICY_BYTES_MAX });
        }
        let name = key_policy_name(key.id);
        let row = RowKey::new(Table::Policy, self.tenant(), name.as_str().as_bytes());
        let Some(text) = &new.text else {
            let old = self.open.records.read::<Policy>(&row)?;
            return Ok(old.iter().map(Records::delete).collect());
        };
        // In the text of a string the quotes are escaped, so that only the key itself is meant here.
        let text = text.replace(THIS_KEY, &format!("Keyhearth::Key::\"{}\"", key.id));
        let _report = self.report()?;
        let tenant = self.open.tenant(self.tenant())?;
        let (policies, old) = self.with_policy(&name, Some(&text))?;
        let compiled = self.compile(&policies)?;
        if self.bases().all(|own| own) && compiled.own_policy_permits(key.id, &FINAL) {
            return Err(Error::Invalid { field: "text", rule: FINAL_BY_GOVERNORS });
        }
        for identity in compiled.own_policy(key.id)? {
            if self.open.principal(self.tenant(), identity)?.value.revoked.is_some() {
                return Err(Error::NotFound("identity"));
            }
        }
        Ok(self.policy_rows(row, old.as_ref(), &Policy { name, text, activated: self.now.latest }, &tenant))
    }

    /// The key's own policy, as it was written and as it is in force.
    pub(super) fn key_policy(&self) -> Result<Effect, Error> {
        let key = &self.held()?.key.value;
        let name = key_policy_name(key.id);
        let row = RowKey::new(Table::Policy, self.tenant(), name.as_str().as_bytes());
        let text: Option<Stored<Policy>> = self.open.records.read(&row)?;
        Ok(Effect::of(Response::KeyPolicy {
            key: key.id,
            document: key.policy.as_ref().and_then(|policy| policy.document.clone()),
            closed: key.is_closed(),
            text: text.map(|policy| policy.value.text),
        }))
    }
}
