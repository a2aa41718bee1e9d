//! Statements filed by subject, so that a question meets only those that may concern it.

use std::collections::HashMap;
use std::sync::LazyLock;

use cedar_policy::{AuthorizationError, Authorizer, Entities, PolicySet, Request};
use keyhearth_core::operation::Operation;

use super::statement::{self, Operations, Reads, Statement, Subject};
use super::templates::{GUARDS, ROLES};

/// Policies in the form in which they are asked.
pub(super) struct Slices {
    /// Statements with equal subject and equal operations share a set.
    sets: HashMap<Subject, Vec<(Operations, PolicySet)>>,
    /// What any statement about an operation reads, in the order of [`Operation::ALL`].
    reads: Vec<Reads>,
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

impl Slices {
    pub(super) fn new<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Self {
        let mut sets: HashMap<Subject, Vec<(Operations, PolicySet)>> = HashMap::new();
        let mut reads = vec![Reads::default(); Operation::ALL.len()];
        for statement in statements {
            let filed = sets.entry(statement.subject).or_default();
            let at = filed.iter().position(|(operations, _)| *operations == statement.operations);
            let at = at.unwrap_or_else(|| {
                filed.push((statement.operations, PolicySet::new()));
                filed.len() - 1
            });
            filed[at]
                .1
                .add(statement.policy.clone())
                .expect("names are unique and their statements numbered");
            for (&operation, reads) in Operation::ALL.iter().zip(&mut reads) {
                if statement.operations.contains(operation) {
                    reads.merge(statement.reads);
                }
            }
        }
        Self { sets, reads }
    }

    pub(super) fn reads(&self, operation: Operation) -> Reads {
        self.reads[operation as usize]
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
        let filed = subjects.filter_map(|subject| self.sets.get(&subject)).flatten();
        for (_, set) in filed.filter(|(operations, _)| operations.contains(operation)) {
            let response = Authorizer::new().is_authorized(request, set, entities);
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
