//! AWS key policies as policies of Cedar, exactly or not at all.
//!
//! A document is read whole and translated statement by statement; what it says becomes the key's own policy
//! ([`keyhearth_core::policy::NewKeyPolicy`]). What cannot be said in Cedar with the same meaning is refused with
//! the statement's name: nothing is dropped, and nothing is stored without effect. Not here: which identities
//! there are ([`Document::cedar`] is told), and deciding.
//!
//! The account's root is the tenant: a statement that allows it `kms:*` lets roles and the tenant's policies
//! decide about the key, as it lets IAM policies decide at AWS. A document without one closes the key.
//!
//! Source: AWS KMS Developer Guide, "Key policies in AWS KMS"; AWS IAM User Guide, "IAM JSON policy element
//! reference".

mod action;
mod cedar;
mod condition;
mod json;

use std::collections::BTreeSet;
use std::fmt;

use keyhearth_core::id::{Name, PrincipalId};
use keyhearth_core::operation::Operation;

use self::action::Actions;
use self::cedar::Test;
use self::condition::{Ground, Reason};
use self::json::Json;
use super::arn::Place;

/// The longest document, in characters.
pub const DOCUMENT_CHARS_MAX: usize = 32 * 1024;

/// A key policy that was understood.
#[derive(Debug)]
pub struct Document {
    /// No statement lets the tenant's own policies decide.
    closed: bool,
    rules: Vec<Rule>,
}

/// What a statement, or a part of it, comes to.
#[derive(Debug)]
struct Rule {
    statement: Label,
    allows: bool,
    /// Everybody if absent.
    who: Option<Vec<Name>>,
    /// Everything on the key if absent.
    operations: Option<Vec<Operation>>,
    test: Test,
}

/// A statement as its author knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its place, from 1.
    pub number: usize,
    /// Its `Sid`, if it has one.
    pub sid: Option<String>,
}

/// Why a document was refused: to be read by who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The statement; the document as a whole if absent.
    pub statement: Option<Label>,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement {}", self.number)?;
        self.sid.iter().try_for_each(|sid| write!(f, " ({sid})"))
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.statement {
            Some(statement) => write!(f, "{statement}: {}.", self.reason),
            None => write!(f, "The policy cannot be used: {}.", self.reason),
        }
    }
}

/// The policy of a key that was given none: the tenant's own policies decide.
#[must_use]
pub fn usual(place: &Place) -> String {
    format!(
        r#"{{
  "Version" : "2012-10-17",
  "Id" : "key-default-1",
  "Statement" : [ {{
    "Sid" : "Enable IAM User Permissions",
    "Effect" : "Allow",
    "Principal" : {{
      "AWS" : "{}"
    }},
    "Action" : "kms:*",
    "Resource" : "*"
  }} ]
}}"#,
        place.root_arn()
    )
}

impl Document {
    /// Reads the policy of a key of `place`; `key_arn` is the key's, unless it is only being made.
    ///
    /// # Errors
    /// [`Malformed`] for what is no policy, and for what cannot be said with the same meaning here.
    pub fn parse(text: &str, place: &Place, key_arn: Option<&str>) -> Result<Self, Malformed> {
        let whole = |reason: &str| Malformed { statement: None, reason: reason.to_owned() };
        if text.chars().count() > DOCUMENT_CHARS_MAX {
            return Err(whole("it is longer than 32,768 characters"));
        }
        let json = Json::read(text).ok_or_else(|| whole("it is not JSON, or has a member twice"))?;
        let members = json.members().ok_or_else(|| whole("it is not an object"))?;
        let mut statements = None;
        for (name, value) in members {
            match (name.as_str(), value) {
                ("Version", Json::Text(version))
                    if ["2012-10-17", "2008-10-17"].contains(&version.as_str()) => {}
                ("Version", _) => return Err(whole("its Version is neither 2012-10-17 nor 2008-10-17")),
                ("Id", Json::Text(_)) => {}
                ("Id", _) => return Err(whole("its Id is not a text")),
                ("Statement", value) => statements = Some(value.items()),
                (name, _) => {
                    return Err(whole(&format!("it has the member {name}, which is not known here")));
                }
            }
        }
        let statements =
            statements.filter(|all| !all.is_empty()).ok_or_else(|| whole("it has no Statement"))?;
        let mut document = Self { closed: true, rules: Vec::new() };
        let mut sids = BTreeSet::new();
        for (json, number) in statements.iter().zip(1..) {
            let members = json.members().unwrap_or_default();
            let sid = members.iter().find(|(name, _)| name == "Sid").and_then(|(_, sid)| sid.text());
            let label = Label { number, sid: sid.filter(|sid| !sid.is_empty()).map(str::to_owned) };
            let refused = |reason| Malformed { statement: Some(label.clone()), reason };
            if label.sid.as_ref().is_some_and(|sid| !sids.insert(sid.clone())) {
                return Err(refused("its Sid is that of another statement".to_owned()));
            }
            let statement = Statement::read(json, place, key_arn).map_err(refused)?;
            document.add(&label, statement, place).map_err(refused)?;
        }
        Ok(document)
    }

    /// Whether it closes the key to roles and the tenant's other policies.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The identities that it names, each with the first statement that does.
    pub fn identities(&self) -> impl Iterator<Item = (&Name, &Label)> {
        let mut seen = BTreeSet::new();
        let named = self
            .rules
            .iter()
            .flat_map(|rule| rule.who.iter().flatten().map(move |name| (name, &rule.statement)));
        named.filter(move |(name, _)| seen.insert(*name))
    }

    /// Its Cedar text, the key written as [`keyhearth_core::policy::THIS_KEY`]; none if it neither allows nor denies
    /// anything by itself. `id_of` knows every identity of [`Document::identities`].
    #[must_use]
    pub fn cedar(&self, id_of: impl Fn(&Name) -> PrincipalId) -> Option<String> {
        let mut text = String::new();
        for rule in &self.rules {
            let who: Option<Vec<PrincipalId>> =
                rule.who.as_ref().map(|names| names.iter().map(&id_of).collect());
            let effect = if rule.allows { "permit" } else { "forbid" };
            cedar::write(&mut text, effect, who.as_deref(), rule.operations.as_deref(), &rule.test);
        }
        (!text.is_empty()).then_some(text)
    }

    fn add(&mut self, label: &Label, statement: Statement<'_>, place: &Place) -> Result<(), Reason> {
        let Statement { allows, root, who, actions, condition } = statement;
        if root && allows {
            if actions != Actions::ALL || condition.is_some() {
                return Err(
                    "it allows the account's root less than kms:* without a condition, which cannot be told \
                            from all here: name the identities"
                        .to_owned(),
                );
            }
            self.closed = false;
        }
        let who = match who {
            Some(names) if names.is_empty() => return Ok(()),
            who => who,
        };
        let operations = if allows { actions.allowed() } else { actions.denied() };
        let operations = operations.map_err(|missing| {
            let verb = if allows { "allow" } else { "deny" };
            format!("what it names cannot be told from kms:{missing} here: {verb} that as well, or neither")
        })?;
        let (on_grants, others): (Vec<_>, Vec<_>) =
            operations.iter().partition(|operation| is_on_grants(**operation));
        let test = |on_grants| match condition {
            Some(condition) => condition::read(condition, Ground { place, allows, on_grants }),
            None => Ok(Test::Always),
        };
        let (of_grants, of_others) = (test(true)?, test(false)?);
        let everything = !allows && actions == Actions::ALL;
        let parts = if of_grants == of_others {
            vec![((!everything).then_some(operations), of_others)]
        } else {
            vec![(Some(on_grants), of_grants), (Some(others), of_others)]
        };
        for (operations, test) in parts {
            let vain = test == Test::Never || operations.as_ref().is_some_and(Vec::is_empty);
            if !vain {
                self.rules.push(Rule {
                    statement: label.clone(),
                    allows,
                    who: who.clone(),
                    operations,
                    test,
                });
            }
        }
        Ok(())
    }
}

const fn is_on_grants(operation: Operation) -> bool {
    matches!(operation, Operation::CreateGrant | Operation::ListGrants | Operation::RevokeGrant)
}

/// A statement as it is written.
struct Statement<'a> {
    allows: bool,
    /// Whether it names the account's root.
    root: bool,
    /// The identities that it names; everybody if absent.
    who: Option<Vec<Name>>,
    actions: Actions,
    condition: Option<&'a Json>,
}

impl<'a> Statement<'a> {
    fn read(json: &'a Json, place: &Place, key_arn: Option<&str>) -> Result<Self, Reason> {
        let members = json.members().ok_or("it is not an object")?;
        let (mut allows, mut principal, mut actions, mut resource, mut condition) =
            (None, None, None, None, None);
        for (name, value) in members {
            match (name.as_str(), value) {
                ("Sid", Json::Text(_)) => {}
                ("Effect", Json::Text(effect)) if effect == "Allow" => allows = Some(true),
                ("Effect", Json::Text(effect)) if effect == "Deny" => allows = Some(false),
                ("Principal", value) => principal = Some(value),
                ("Action", value) if actions.is_none() => actions = Some(read_actions(value)?),
                ("NotAction", value) if actions.is_none() => actions = Some(read_actions(value)?.others()),
                ("Action" | "NotAction", _) => return Err("it has both Action and NotAction".to_owned()),
                ("Resource", value) => resource = Some(value),
                ("Condition", value) => condition = Some(value),
                ("Sid" | "Effect", _) => return Err(format!("its {name} is not one")),
                (name, _) => return Err(format!("it has the member {name}, which has no counterpart here")),
            }
        }
        let missing = |name| format!("it has no {name}");
        check_resource(resource.ok_or_else(|| missing("Resource"))?, key_arn)?;
        let allows = allows.ok_or_else(|| missing("Effect"))?;
        let (root, who) = read_principals(principal.ok_or_else(|| missing("Principal"))?, place)?;
        // What is denied to the account is denied to everybody in it.
        let who = if root && !allows { None } else { who };
        let actions = actions.ok_or_else(|| missing("Action"))?;
        Ok(Self { allows, root, who, actions, condition })
    }
}

fn read_actions(value: &Json) -> Result<Actions, Reason> {
    let mut all = Actions::default();
    for item in value.items() {
        let pattern = item.text().ok_or("an action is not a text")?;
        all = all.and(Actions::read(pattern).ok_or_else(|| format!("{pattern} is no action of AWS KMS"))?);
    }
    if value.items().is_empty() {
        return Err("it names no action".to_owned());
    }
    Ok(all)
}

/// In a key policy a statement is about the key; anything else would have no effect.
fn check_resource(value: &Json, key_arn: Option<&str>) -> Result<(), Reason> {
    let own = |item: &Json| item.text().is_some_and(|text| text == "*" || Some(text) == key_arn);
    if value.items().is_empty() || !value.items().iter().all(own) {
        return Err("its Resource is neither * nor this key's ARN".to_owned());
    }
    Ok(())
}

/// Whether the account's root is among them, and the identities; everybody if absent.
fn read_principals(value: &Json, place: &Place) -> Result<(bool, Option<Vec<Name>>), Reason> {
    let items = match value {
        Json::Text(_) => value.items(),
        Json::Object(kinds) => match kinds.as_slice() {
            [(kind, items)] if kind == "AWS" => items.items(),
            _ => return Err("its Principal is of a kind that there is not here: only AWS".to_owned()),
        },
        Json::Null | Json::Bare(_) | Json::List(_) => &[],
    };
    if items.is_empty() {
        return Err("its Principal names nobody".to_owned());
    }
    let (mut root, mut everybody, mut names) = (false, false, Vec::new());
    for item in items {
        let text = item.text().ok_or("a principal is not a text")?;
        // Without a kind only everybody can be meant.
        match text {
            "*" => everybody = true,
            text if matches!(value, Json::Text(_)) => {
                return Err(format!("its Principal is {text}, which is no object"));
            }
            text if text == place.account() || text == place.root_arn() => root = true,
            text => {
                let name = place.identity(text);
                names.push(name.map_err(|_| format!("{text} is no identity of this account"))?);
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok((root, (!everybody).then_some(names)))
}

#[cfg(test)]
mod tests;
