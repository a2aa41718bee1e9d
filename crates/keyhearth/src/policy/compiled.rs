//! A tenant's policies, ready to be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use cedar_policy::Effect;
use keyhearth_core::Error;
use keyhearth_core::id::{KeyId, Name, PrincipalId, TenantId};
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::{
    Authorizer, POLICIES_MAX, Policy, Question, Verdict, key_of_policy, key_policy_name,
};
use keyhearth_core::principal::Roles;
use keyhearth_core::time::Time;
use quick_cache::{Equivalent, Weighter, sync::Cache};

use super::error::PolicyError;
use super::question;
use super::slices::{Slices, TEMPLATES, Tally};
use super::statement::{self, Reads, Statement, Subject};
use super::{KEY_TEXT_BYTES_MAX, STATEMENTS_MAX, TEXT_BYTES_MAX};

/// The most memory that one tenant's remembered answers take, in bytes, about.
const REMEMBERED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What one remembered answer takes besides the texts in its question, in bytes, about.
const REMEMBERED_BYTES: usize = 256;

const OF_THIS_KEY: &str = "every statement must have the scope `resource == Keyhearth::Key::\"this\"`";

/// The policies of one tenant: role templates, guard-rails and its own.
///
/// Answers are remembered by everything the policies can see of a question, so a changed role, tag, address
/// or context, or a key that was closed, is another question, and there is nothing to invalidate. The rest of a key that policies see
/// (algorithm, creator, …) is fixed with its id. When policies change, a new `Compiled` takes over.
pub struct Compiled {
    tenant: TenantId,
    own: Slices,
    parsed: BTreeMap<Name, Parsed>,
    remembered: Cache<Remembered, Verdict, Bytes>,
}

/// One policy: its text and what it says.
#[derive(Clone)]
struct Parsed {
    text: String,
    statements: Arc<[Statement]>,
}

impl Compiled {
    /// Parses, validates and files `policies`, all those of `tenant`.
    ///
    /// Takes about half a millisecond a statement, most of it validation.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn new(tenant: TenantId, policies: &[Policy]) -> Result<Self, PolicyError> {
        Self::taking_over(&BTreeMap::new(), tenant, policies)
    }

    /// The same tenant with other policies. Parses only those that `self` does not have.
    ///
    /// # Errors
    /// As [`Compiled::new`].
    pub fn with(&self, policies: &[Policy]) -> Result<Self, PolicyError> {
        Self::taking_over(&self.parsed, self.tenant, policies)
    }

    fn taking_over(
        known: &BTreeMap<Name, Parsed>,
        tenant: TenantId,
        policies: &[Policy],
    ) -> Result<Self, PolicyError> {
        if policies.len() > POLICIES_MAX {
            return Err(PolicyError::TooManyPolicies);
        }
        let (of_keys, own): (Vec<_>, Vec<_>) =
            policies.iter().partition(|policy| key_of_policy(&policy.name).is_some());
        let bytes = |policies: Vec<&Policy>| policies.iter().map(|policy| policy.text.len()).sum::<usize>();
        if bytes(own) > TEXT_BYTES_MAX || bytes(of_keys) > KEY_TEXT_BYTES_MAX {
            return Err(PolicyError::TooMuchText);
        }
        let mut parsed = BTreeMap::new();
        let mut statements = 0;
        for Policy { name, text, .. } in policies {
            let policy = match known.get(name).filter(|policy| policy.text == *text) {
                Some(policy) => policy.clone(),
                None => Parsed { text: text.clone(), statements: statement::parse(name, text)?.into() },
            };
            statements += policy.statements.len();
            if statements > STATEMENTS_MAX {
                return Err(PolicyError::TooManyStatements);
            }
            parsed.insert(name.clone(), policy);
        }
        let items = usize::try_from(REMEMBERED_BYTES_MAX).expect("4 MiB fit") / REMEMBERED_BYTES;
        Ok(Self {
            tenant,
            own: Slices::new(parsed.values().flat_map(|policy| &*policy.statements)),
            parsed,
            remembered: Cache::with_weighter(items, REMEMBERED_BYTES_MAX, Bytes),
        })
    }

    /// Checks a key's own policy: every statement is about that key, by its scope. Gives whom it names.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn own_policy(&self, key: KeyId) -> Result<BTreeSet<PrincipalId>, Error> {
        let statements = self.parsed.get(&key_policy_name(key)).map_or(&[][..], |policy| &policy.statements);
        if !statements.iter().all(|statement| statement.is_about(key)) {
            return Err(Error::Invalid { field: "text", rule: OF_THIS_KEY });
        }
        Ok(statements.iter().flat_map(Statement::principals).collect())
    }

    /// Whether a key's own policy permits one of `operations` to anybody, whatever its conditions.
    #[must_use]
    pub fn own_policy_permits(&self, key: KeyId, operations: &[Operation]) -> bool {
        let statements = self.parsed.get(&key_policy_name(key)).map_or(&[][..], |policy| &policy.statements);
        let mut permits = statements.iter().filter(|one| one.policy.effect() == Effect::Permit);
        permits.any(|one| operations.iter().any(|operation| one.operations.contains(*operation)))
    }

    /// Whether one of the statements that gave a right gives it at all times, from everywhere, by every proof, and
    /// with every context that agrees on the pairs of which `is_fixed` holds; with the same context if it is absent.
    /// Roles do.
    #[must_use]
    pub fn is_steady(&self, statements: &[String], is_fixed: Option<&dyn Fn(&str) -> bool>) -> bool {
        let own = |name: &String| {
            let policy = name.split('#').next().unwrap_or_default();
            let found = policy.parse::<Name>().ok().and_then(|policy| self.parsed.get(&policy))?;
            found.statements.iter().find(|one| one.policy.id().to_string() == *name)
        };
        statements.iter().any(|name| own(name).is_none_or(|statement| statement.is_steady(is_fixed)))
    }

    /// Everything the tenant's policies say.
    pub(super) fn statements(&self) -> impl Iterator<Item = &Statement> {
        self.parsed.values().flat_map(|policy| &*policy.statements)
    }

    /// The tenant whose policies these are.
    #[must_use]
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    #[cfg(test)]
    pub(super) fn remembered_bytes(&self) -> u64 {
        self.remembered.weight()
    }

    /// Decides without looking at what is remembered. Where the present is uncertain, both ends must allow it.
    pub(super) fn evaluate(&self, question: &Question<'_>) -> Verdict {
        let latest = self.evaluate_at(question, question.now.latest);
        let certain = question.now.earliest == question.now.latest;
        if certain || !self.reads(question).now {
            return latest;
        }
        match (self.evaluate_at(question, question.now.earliest), latest) {
            (forbid @ Verdict::Forbid(_), _) | (_, forbid @ Verdict::Forbid(_)) => forbid,
            (Verdict::Silent, _) | (_, Verdict::Silent) => Verdict::Silent,
            (Verdict::Allow(_), allow @ Verdict::Allow(_)) => allow,
        }
    }

    /// What the tenant's policies can see of a question besides who asks what about which key.
    fn reads(&self, question: &Question<'_>) -> Reads {
        self.own.reads(question.operation, subjects(question))
    }

    fn evaluate_at(&self, question: &Question<'_>, now: Time) -> Verdict {
        let Some((request, entities)) = question::translate(self.tenant, question, now) else {
            return Verdict::Forbid(Arc::from([]));
        };
        let mut tally = Tally::default();
        for slices in [&*TEMPLATES, &self.own] {
            slices.ask(question.operation, subjects(question), &request, &entities, &mut tally);
        }
        if let Some(key) = question.key.filter(|key| key.policy.is_some()) {
            tally.heed(key, question.operation);
        }
        let sorted = |mut names: Vec<String>| {
            names.sort_unstable();
            Arc::from(names)
        };
        match tally {
            Tally { forbids, .. } if !forbids.is_empty() => Verdict::Forbid(sorted(forbids)),
            Tally { permits, .. } if !permits.is_empty() => Verdict::Allow(sorted(permits)),
            Tally { .. } => Verdict::Silent,
        }
    }
}

/// Whom and what a question concerns.
fn subjects(question: &Question<'_>) -> impl Iterator<Item = Subject> {
    [Subject::Anyone, Subject::Principal(question.caller.principal)]
        .into_iter()
        .chain(question.caller.roles.iter().map(Subject::Role))
        .chain(question.key.map(|key| Subject::Key(key.id)))
}

impl Authorizer for Compiled {
    fn authorize(&self, question: &Question<'_>) -> Verdict {
        if question.caller.tenant != self.tenant {
            return Verdict::Forbid(Arc::from([]));
        }
        let reads = self.reads(question);
        if reads.now || question.boot.is_some() {
            return self.evaluate(question);
        }
        let asked = Asked {
            principal: question.caller.principal,
            roles: question.caller.roles,
            operation: question.operation,
            key: question.key.map(|key| key.id),
            own_policy: question.key.map(|key| (key.policy.is_some(), key.is_closed())),
            ip: reads.ip.then_some(question.caller.address),
            proof: reads.proof.then(|| question::proof(&question.caller.proof)),
            tags: question.key.filter(|_| reads.tags).map_or(&NO_TAGS, |key| &key.tags),
            context: if reads.context { question.context } else { &[] },
            lease_seconds: reads.lease.then_some(question.lease_seconds),
        };
        self.remembered.get(&asked).unwrap_or_else(|| {
            let verdict = self.evaluate(question);
            self.remembered.insert(asked.to_owned(), verdict.clone());
            verdict
        })
    }
}

static NO_TAGS: BTreeMap<String, String> = BTreeMap::new();

/// What the policies can see of a question. Hashes as [`Remembered`] does: same fields, same order.
#[derive(Hash)]
struct Asked<'a> {
    principal: PrincipalId,
    roles: Roles,
    operation: Operation,
    key: Option<KeyId>,
    /// Whether the key has a policy of its own, and whether that closes it.
    own_policy: Option<(bool, bool)>,
    ip: Option<IpAddr>,
    proof: Option<&'static str>,
    tags: &'a BTreeMap<String, String>,
    context: &'a [(String, String)],
    lease_seconds: Option<u32>,
}

/// A question whose answer is remembered.
#[derive(Hash, PartialEq, Eq)]
struct Remembered {
    principal: PrincipalId,
    roles: Roles,
    operation: Operation,
    key: Option<KeyId>,
    /// Whether the key has a policy of its own, and whether that closes it.
    own_policy: Option<(bool, bool)>,
    ip: Option<IpAddr>,
    proof: Option<&'static str>,
    tags: BTreeMap<String, String>,
    context: Vec<(String, String)>,
    lease_seconds: Option<u32>,
}

impl Asked<'_> {
    fn to_owned(&self) -> Remembered {
        let &Self { principal, roles, operation, key, own_policy, ip, proof, tags, context, lease_seconds } =
            self;
        let (tags, context) = (tags.clone(), context.to_vec());
        Remembered { principal, roles, operation, key, own_policy, ip, proof, tags, context, lease_seconds }
    }
}

impl Equivalent<Remembered> for Asked<'_> {
    fn equivalent(&self, other: &Remembered) -> bool {
        let Remembered {
            principal,
            roles,
            operation,
            key,
            own_policy,
            ip,
            proof,
            tags,
            context,
            lease_seconds,
        } = other;
        self.principal == *principal
            && self.roles == *roles
            && self.operation == *operation
            && self.key == *key
            && self.own_policy == *own_policy
            && self.ip == *ip
            && self.proof == *proof
            && self.tags == tags
            && self.context == context
            && self.lease_seconds == *lease_seconds
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Remembered, Verdict> for Bytes {
    fn weight(&self, question: &Remembered, _: &Verdict) -> u64 {
        let pairs = question.tags.iter().chain(question.context.iter().map(|(name, value)| (name, value)));
        let texts: usize =
            pairs.map(|(name, value)| name.len() + value.len() + 2 * size_of::<String>()).sum();
        (REMEMBERED_BYTES + texts) as u64
    }
}
