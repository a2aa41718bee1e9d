//! Statements filed by subject, so that a question meets only those that may concern it.

use std::collections::HashMap;
use std::sync::LazyLock;

use cedar_policy::{AuthorizationError, Authorizer, Entities, PolicySet, Request};
use keyhearth_core::key::Key;
use keyhearth_core::operation::{Group, Operation};
use keyhearth_core::policy::key_policy_name;

use super::statement::{self, Operations, Reads, Statement, Subject};
use super::templates::{GUARDS, ROLES};

/// Policies in the form in which they are asked.
pub(super) struct Slices {
    /// Statements with equal subject and equal operations share a set.
    sets: HashMap<Subject, Vec<Set>>,
}

/// Statements that are asked together.
struct Set {
    operations: Operations,
    policies: PolicySet,
    /// What any of them reads.
    reads: Reads,
}

/// The role templates and guard-rails, one copy for all tenants.
pub(super) static TEMPLATES: LazyLock<Slices> = LazyLock::new(|| {
    let statements = ROLES.iter().chain(GUARDS).map(|&(name, text)| statement::template(name, text));
    Slices::new(&statements.collect::<Vec<_>>())
});

/// What the statements said, by id.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) permits: Vec<String>,
    /// Those that forbid, and those that could not be evaluated.
    pub(super) forbids: Vec<String>,
}

/// The roles that mend a key's own policy, whatever that says of them: nobody can be locked out of a key for good.
const GOVERNORS: [&str; 2] = ["role:tenant-admin", "role:developer"];

impl Tally {
    /// Leaves of what was said about `key` what counts there.
    ///
    /// On a closed key only its own policy permits, except that oversight goes on: who can do what is not the
    /// key's secret. And what its own policy forbids does not bind those who may set another one.
    pub(super) fn heed(&mut self, key: &Key, operation: Operation) {
        let name = key_policy_name(key.id);
        let own = |id: &str| {
            id.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('#'))
        };
        let mends = matches!(operation, Operation::PutKeyPolicy | Operation::KeyPolicy);
        let governor = |id: &String| mends && GOVERNORS.contains(&id.as_str());
        if self.permits.iter().any(governor) {
            self.forbids.retain(|id| !own(id));
        }
        if key.is_closed() && operation.info().group != Group::Audit {
            self.permits.retain(|id| own(id) || governor(id));
        }
    }
}

impl Slices {
    pub(super) fn new<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Self {
        let mut sets: HashMap<Subject, Vec<Set>> = HashMap::new();
        for statement in statements {
            let filed = sets.entry(statement.subject).or_default();
            let at = filed.iter().position(|set| set.operations == statement.operations);
            let at = at.unwrap_or_else(|| {
                let (operations, policies) = (statement.operations, PolicySet::new());
                filed.push(Set { operations, policies, reads: Reads::default() });
                filed.len() - 1
            });
            let set = &mut filed[at];
            set.policies
                .add(statement.policy.clone())
                .expect("names are unique and their statements numbered");
            set.reads.merge(statement.reads);
        }
        Self { sets }
    }

    /// The sets with a say on `operation` of one of `subjects`.
    fn concerned(
        &self,
        operation: Operation,
        subjects: impl Iterator<Item = Subject>,
    ) -> impl Iterator<Item = &Set> {
        let filed = subjects.filter_map(|subject| self.sets.get(&subject)).flatten();
        filed.filter(move |set| set.operations.contains(operation))
    }

    /// What the statements that may concern one of `subjects` read: not what the tenant's others do.
    pub(super) fn reads(&self, operation: Operation, subjects: impl Iterator<Item = Subject>) -> Reads {
        let mut reads = Reads::default();
        self.concerned(operation, subjects).for_each(|set| reads.merge(set.reads));
        reads
    }

    /// Asks every statement that may concern one of `subjects`.
    ///
    /// Sets may be asked one by one: a `forbid` in any of them decides, whatever the others permit.
    pub(super) fn ask(
        &self,
        operation: Operation,
        subjects: impl Iterator<Item = Subject>,
        request: &Request,
        entities: &Entities,
        tally: &mut Tally,
    ) {
        for set in self.concerned(operation, subjects) {
            let response = Authorizer::new().is_authorized(request, &set.policies, entities);
            let says = match response.decision() {
                cedar_policy::Decision::Allow => &mut tally.permits,
                cedar_policy::Decision::Deny => &mut tally.forbids,
            };
            says.extend(response.diagnostics().reason().map(ToString::to_string));
            // Cedar skips what it cannot evaluate; a forbid must not vanish that way.
            tally.forbids.extend(response.diagnostics().errors().map(|error| match error {
                AuthorizationError::PolicyEvaluationError(error) => error.policy_id().to_string(),
            }));
        }
    }
}
