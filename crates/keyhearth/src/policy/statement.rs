//! One Cedar statement: parsed, validated, and what it can be asked about.

use std::collections::BTreeSet;

use cedar_policy::{
    ActionConstraint, Effect, EntityUid, Policy, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint, ValidationMode,
};
use keyhearth_core::id::{KeyId, Name, PrincipalId, TenantId};
use keyhearth_core::operation::Operation;
use keyhearth_core::policy::POLICY_BYTES_MAX;
use keyhearth_core::principal::Role;
use miette::Diagnostic;
use serde_json::Value;

use super::error::{Fault, PolicyError};
use super::schema::{USE, VOCABULARY, is_use, uid};
use super::{NESTING_MAX, OPERATORS_MAX};

/// A set of operations, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Operations(u128);

const _: () = assert!(Operation::ALL.len() <= 128, "one bit for each operation");

impl Operations {
    const ALL: Self = Self(u128::MAX);
    const ALL_BUT_HOLD: Self = Self(!(1 << Operation::Hold as u32));

    pub(super) const fn contains(self, operation: Operation) -> bool {
        self.0 & 1 << operation as u32 != 0
    }

    /// What an action of the schema stands for.
    fn of(action: &EntityUid) -> Self {
        let name = action.id().unescaped();
        let named = |operation: &&Operation| {
            let group = operation.info().group;
            operation.name() == name || group.name() == name || (name == USE && is_use(group))
        };
        Self(Operation::ALL.iter().filter(named).fold(0, |bits, &operation| bits | 1 << operation as u32))
    }
}

/// Whom or what a statement is about, by its scope. A question concerns only a few subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Principal(PrincipalId),
    Key(KeyId),
    Role(Role),
    Anyone,
}

/// What of a question, beyond who asks what about which key, a statement can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    pub(super) now: bool,
    pub(super) ip: bool,
    pub(super) proof: bool,
    /// The pairs bound to the ciphertext.
    pub(super) context: bool,
    /// The key's tags.
    pub(super) tags: bool,
    pub(super) lease: bool,
}

impl Reads {
    const ALL: Self = Self { now: true, ip: true, proof: true, context: true, tags: true, lease: true };

    pub(super) fn merge(&mut self, other: Self) {
        self.now |= other.now;
        self.ip |= other.ip;
        self.proof |= other.proof;
        self.context |= other.context;
        self.tags |= other.tags;
        self.lease |= other.lease;
    }

    /// Walks an expression in Cedar's JSON form.
    ///
    /// Errs to the safe side: where the variable `context` stands alone, all of it counts as read,
    /// and tags of whatever is not visibly `context.context` count as the key's.
    fn walk(&mut self, expression: &Value) {
        let Value::Object(fields) = expression else {
            if let Value::Array(items) = expression {
                items.iter().for_each(|item| self.walk(item));
            }
            return;
        };
        for (operator, operand) in fields {
            match (operator.as_str(), attribute_of_context(operand)) {
                ("." | "has", Some("now")) => self.now = true,
                ("." | "has", Some("ip")) => self.ip = true,
                ("." | "has", Some("proof")) => self.proof = true,
                ("." | "has", Some("context")) => self.context = true,
                ("." | "has", Some("lease_seconds")) => self.lease = true,
                // The names of the key's tags, if it is the key's: those of the pairs are within `context.context`.
                ("." | "has", None) if operand["attr"] == "folded" => {
                    self.tags = true;
                    self.walk(operand);
                }
                ("Var", _) if operand == "context" => {
                    let all = Self { tags: self.tags, ..Self::ALL };
                    self.merge(all);
                }
                ("hasTag" | "getTag", _) => {
                    let of_context =
                        operand["left"].get(".").and_then(attribute_of_context) == Some("context");
                    self.tags |= !of_context;
                    self.walk(operand);
                }
                _ => self.walk(operand),
            }
        }
    }
}

/// Collects the names of the pairs that an expression reads one by one; false if it may read others too.
fn named_pairs(expression: &Value, names: &mut BTreeSet<String>) -> bool {
    match expression {
        Value::Object(fields) => fields.iter().all(|(operator, operand)| {
            let of_context = operand["left"].get(".").and_then(attribute_of_context) == Some("context");
            match (operator.as_str(), operand["right"]["Value"].as_str()) {
                ("hasTag" | "getTag", Some(name)) if of_context => {
                    names.insert(name.to_owned());
                    true
                }
                ("." | "has", _) if attribute_of_context(operand) == Some("context") => false,
                _ => named_pairs(operand, names),
            }
        }),
        Value::Array(items) => items.iter().all(|item| named_pairs(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// The name in `{"left": {"Var": "context"}, "attr": name}`.
fn attribute_of_context(operand: &Value) -> Option<&str> {
    (operand["left"]["Var"] == "context").then(|| operand["attr"].as_str())?
}

/// A statement of a policy.
pub(super) struct Statement {
    pub(super) policy: Policy,
    pub(super) text: String,
    pub(super) subject: Subject,
    pub(super) operations: Operations,
    pub(super) reads: Reads,
    /// The pairs of a context that it reads, unless it may read all.
    pairs: Option<BTreeSet<String>>,
}

impl Statement {
    /// What one keeps without the server is not called back: a permit gives that only if its scope names it.
    fn new(policy: Policy) -> Self {
        let operations = match policy.action_constraint() {
            ActionConstraint::Any if policy.effect() == Effect::Permit => Operations::ALL_BUT_HOLD,
            ActionConstraint::Any => Operations::ALL,
            ActionConstraint::Eq(action) => Operations::of(&action),
            ActionConstraint::In(actions) => {
                Operations(actions.iter().fold(0, |bits, action| bits | Operations::of(action).0))
            }
        };
        let (mut reads, mut pairs) = (Reads::default(), BTreeSet::new());
        let named = match policy.to_json() {
            Ok(json) => {
                reads.walk(&json["conditions"]);
                named_pairs(&json["conditions"], &mut pairs)
            }
            Err(_) => {
                reads = Reads::ALL;
                false
            }
        };
        let pairs = named.then_some(pairs);
        Self { text: policy.to_string(), subject: subject(&policy), operations, reads, pairs, policy }
    }

    /// Whether it says the same at all times, from everywhere, by every proof, and with every context that agrees on
    /// the pairs of which `is_fixed` holds; all of them if it is absent.
    pub(super) fn is_steady(&self, is_fixed: Option<&dyn Fn(&str) -> bool>) -> bool {
        let Reads { now, ip, proof, context, tags: _, lease } = self.reads;
        let fixed = || match (&self.pairs, is_fixed) {
            (_, None) => true,
            (Some(pairs), Some(is_fixed)) => pairs.iter().all(|name| is_fixed(name)),
            (None, Some(_)) => false,
        };
        !now && !ip && !proof && !lease && (!context || fixed())
    }

    /// Whether its scope names `key` and nothing else.
    pub(super) fn is_about(&self, key: KeyId) -> bool {
        match self.policy.resource_constraint() {
            ResourceConstraint::Eq(found) => found == uid(&VOCABULARY.key, &key.to_string()),
            ResourceConstraint::Any
            | ResourceConstraint::In(_)
            | ResourceConstraint::Is(_)
            | ResourceConstraint::IsIn(..) => false,
        }
    }

    /// The principals that it names anywhere.
    pub(super) fn principals(&self) -> Vec<PrincipalId> {
        let named = self.policy.entity_literals().into_iter();
        let named = named.filter(|uid| uid.type_name() == &VOCABULARY.principal);
        named.filter_map(|uid| uid.id().unescaped().parse().ok()).collect()
    }
}

/// The narrowest subject that a statement's scope names. `in` a principal or key is `==`: neither has members.
fn subject(policy: &Policy) -> Subject {
    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Eq(uid) | PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => {
            Some(uid)
        }
        PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
    };
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => {
            Some(uid)
        }
        ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
    };
    let id_of = |kind, uid: &Option<EntityUid>| {
        uid.as_ref().filter(|uid| uid.type_name() == kind).map(|uid| uid.id().unescaped().to_owned())
    };
    let v = &*VOCABULARY;
    // One identity may be named in the policies of many keys, and a key in few of many identities.
    if let Some(id) = id_of(&v.key, &resource).and_then(|id| id.parse().ok()) {
        Subject::Key(id)
    } else if let Some(id) = id_of(&v.principal, &principal).and_then(|id| id.parse().ok()) {
        Subject::Principal(id)
    } else if let Some(role) = id_of(&v.role, &principal).and_then(|name| Role::parse(&name)) {
        Subject::Role(role)
    } else {
        Subject::Anyone
    }
}

/// Parses and validates one policy: a text of one or more statements.
///
/// The first statement is called `name`, the others `name#2`, `name#3`, …
pub(super) fn parse(name: &Name, text: &str) -> Result<Vec<Statement>, PolicyError> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLong(name.clone()));
    }
    let fault = |offset: usize, fault| {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        PolicyError::Text {
            policy: name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            fault,
        }
    };
    check_shape(text).map_err(|(offset, what)| fault(offset, what))?;
    let parsed: PolicySet = text.parse().map_err(|errors: cedar_policy::ParseErrors| {
        fault(offset_of(&errors), Fault::Syntax(first_line(&errors)))
    })?;
    if parsed.num_of_templates() > 0 {
        return Err(fault(text.find('?').unwrap_or(0), Fault::Slot));
    }
    if parsed.is_empty() {
        return Err(fault(0, Fault::Empty));
    }
    let statements = named(name.as_str(), &parsed);
    for statement in &statements {
        if let Some(entity) = statement.entity_literals().into_iter().find(|entity| !is_typed(entity)) {
            let entity = entity.to_string();
            return Err(fault(text.find(&entity).unwrap_or(0), Fault::NotAnId(entity)));
        }
    }
    let set = PolicySet::from_policies(statements.iter().cloned())
        .expect("the statements of one policy are numbered, so that no two have one id");
    let result = VOCABULARY.validator.validate(&set, ValidationMode::Strict);
    if let Some(error) = result.validation_errors().next() {
        return Err(fault(offset_of(error), Fault::Schema(first_line(error))));
    }
    if let Some(warning) = result.validation_warnings().next() {
        return Err(fault(offset_of(warning), Fault::Schema(first_line(warning))));
    }
    Ok(statements.into_iter().map(Statement::new).collect())
}

/// A statement of ours.
pub(super) fn template(name: &str, text: &str) -> Statement {
    Statement::new(
        Policy::parse(Some(PolicyId::new(name)), text).expect("a test parses and validates every template"),
    )
}

/// The statements in the order of the text, under their names.
fn named(name: &str, parsed: &PolicySet) -> Vec<Policy> {
    let mut statements: Vec<&Policy> = parsed.policies().collect();
    // Cedar calls them policy0, policy1, … in the order of the text.
    statements.sort_by_cached_key(|policy| {
        let id = policy.id().to_string();
        (id.len(), id)
    });
    let numbered = statements.into_iter().zip(1..).map(|(policy, number)| match number {
        1 => policy.new_id(PolicyId::new(name)),
        _ => policy.new_id(PolicyId::new(format!("{name}#{number}"))),
    });
    numbered.collect()
}

/// Whether an entity that stands for something stored is named by its id.
fn is_typed(entity: &EntityUid) -> bool {
    let (kind, id) = (entity.type_name(), entity.id().unescaped());
    let v = &*VOCABULARY;
    (kind != &v.principal || id.parse::<PrincipalId>().is_ok())
        && (kind != &v.key || id.parse::<KeyId>().is_ok())
        && (kind != &v.tenant || id.parse::<TenantId>().is_ok())
}

fn offset_of(diagnostic: &dyn Diagnostic) -> usize {
    diagnostic.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset())
}

/// Cedar's message on one line, with its advice.
fn first_line(diagnostic: &dyn Diagnostic) -> String {
    let message = diagnostic.to_string();
    let message = message.lines().next().unwrap_or_default();
    diagnostic.help().map_or_else(|| message.to_owned(), |help| format!("{message} ({help})"))
}

/// Refuses text whose syntax tree could be deep: Cedar's parser and validator recurse over it.
///
/// Brackets nest, each `if` may nest in the one before, and each operator or bracket may put one more
/// level on top (`a && b`, `a.b`, `a["b"]`, `when {a} when {b}`); everything else is flat. Counts bytes
/// outside of strings and comments, and errs to the safe side.
fn check_shape(text: &str) -> Result<(), (usize, Fault)> {
    let (mut nesting, mut operators) = (0_usize, 0_usize);
    let mut bytes = text.bytes().enumerate().peekable();
    let mut previous = b' ';
    while let Some((at, byte)) = bytes.next() {
        let next = bytes.peek().map_or(b' ', |&(_, next)| next);
        match byte {
            b'"' => skip_string(&mut bytes),
            b'/' if next == b'/' => while bytes.next_if(|&(_, byte)| byte != b'\n').is_some() {},
            b';' => (nesting, operators) = (0, 0),
            b'(' | b'[' | b'{' => (nesting, operators) = (nesting + 1, operators + 1),
            b')' | b']' | b'}' => nesting = nesting.saturating_sub(1),
            b'i' if next == b'f' && !is_word(previous) => nesting += 1,
            b'&' | b'|' if next == byte => operators += 1,
            b'.' | b'+' | b'-' | b'*' | b'!' => operators += 1,
            _ => {}
        }
        if nesting > NESTING_MAX {
            return Err((at, Fault::TooDeep));
        }
        if operators > OPERATORS_MAX {
            return Err((at, Fault::TooManyOperators));
        }
        previous = byte;
    }
    Ok(())
}

fn skip_string(bytes: &mut impl Iterator<Item = (usize, u8)>) {
    while let Some((_, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return,
            _ => {}
        }
    }
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
