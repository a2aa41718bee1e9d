//! Conditions of a statement as expressions of Cedar, exactly or not at all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::action::matches;
use super::cedar::{Test, quoted};
use super::json::Json;
use crate::aws::{KeySpec, Place};

/// What a statement's conditions are read for.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    /// Whose account it is.
    pub(super) place: &'a Place,
    /// Whether the statement allows; otherwise it denies.
    pub(super) allows: bool,
    /// Whether it is about making, listing or ending grants; otherwise it is about anything else.
    pub(super) on_grants: bool,
}

/// Why conditions are refused, to be read after the statement's name.
pub(super) type Reason = String;

/// What an operator does with one value, on a key that is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    Equal,
    EqualIgnoringCase,
    Like,
    /// As AWS compares ARNs: part by part, which for the ARNs that are read here is [`Match::Like`].
    Arn,
    Truth,
    Address,
    /// How the present stands to the value, as Cedar writes it.
    Date(&'static str),
}

/// An operator: `ForAnyValue:StringNotEqualsIfExists` has all there is.
struct Operator {
    set: Option<Set>,
    negated: bool,
    matching: Match,
    if_exists: bool,
}

#[derive(Clone, Copy)]
enum Set {
    All,
    Any,
}

/// Operators by name, and whether they are the opposite of what they match by.
///
/// Source: AWS IAM User Guide, "IAM JSON policy elements: Condition operators".
const OPERATORS: &[(&str, bool, Match)] = &[
    ("StringEquals", false, Match::Equal),
    ("StringNotEquals", true, Match::Equal),
    ("StringEqualsIgnoreCase", false, Match::EqualIgnoringCase),
    ("StringNotEqualsIgnoreCase", true, Match::EqualIgnoringCase),
    ("StringLike", false, Match::Like),
    ("StringNotLike", true, Match::Like),
    ("ArnEquals", false, Match::Arn),
    ("ArnLike", false, Match::Arn),
    ("ArnNotEquals", true, Match::Arn),
    ("ArnNotLike", true, Match::Arn),
    ("Bool", false, Match::Truth),
    ("IpAddress", false, Match::Address),
    ("NotIpAddress", true, Match::Address),
    ("DateLessThan", false, Match::Date("<")),
    ("DateLessThanEquals", false, Match::Date("<=")),
    ("DateGreaterThan", false, Match::Date(">")),
    ("DateGreaterThanEquals", false, Match::Date(">=")),
];

impl Operator {
    fn read(text: &str) -> Option<Self> {
        let (set, text) = match text.split_once(':') {
            Some(("ForAllValues", rest)) => (Some(Set::All), rest),
            Some(("ForAnyValue", rest)) => (Some(Set::Any), rest),
            Some(_) => return None,
            None => (None, text),
        };
        let (name, if_exists) = match text.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let &(_, negated, matching) = OPERATORS.iter().find(|(known, ..)| *known == name)?;
        Some(Self { set, negated, matching, if_exists })
    }

    /// What it says of a key that is not there.
    const fn of_absent(&self) -> bool {
        self.negated || self.if_exists
    }
}

/// What a condition key is here.
enum Value {
    /// A text, always there.
    Text(&'static str),
    /// A text that is there if the first expression says so, and then is the second.
    Perhaps(String, String),
    /// The same for all requests that the statement is about.
    Known(String),
    /// Never there.
    Absent,
    /// One of few: an attribute, AWS's names of its values and ours.
    OneOf(&'static str, Vec<(&'static str, &'static str)>),
    /// The caller's ARN.
    CallerArn,
    /// The caller's address.
    Address,
    /// The present.
    Now,
    /// The names of all pairs of the context.
    PairNames,
}

/// The condition keys that name a pair of the context or a tag of the key.
const PAIR_KEY: &str = "kms:EncryptionContext:";
const TAG_KEY: &str = "aws:ResourceTag/";

/// The pairs bound to the ciphertext.
const PAIRS: &str = "context.context";

/// What the condition key `name` is. Its case does not matter, except after the last separator of those that
/// name a pair or a tag.
fn value(name: &str, ground: Ground<'_>) -> Option<Value> {
    let known = |text: &str| Some(Value::Known(text.to_owned()));
    let of = |owner: &str, name: &str| {
        let name = quoted(name);
        Some(Value::Perhaps(format!("{owner}.hasTag({name})"), format!("{owner}.getTag({name})")))
    };
    if let Some(pair) = after(name, PAIR_KEY) {
        return of(PAIRS, pair);
    }
    if let Some(tag) = after(name, TAG_KEY) {
        return of("resource", tag);
    }
    match name.to_ascii_lowercase().as_str() {
        "kms:encryptioncontextkeys" => Some(Value::PairNames),
        "kms:calleraccount" | "aws:principalaccount" => known(ground.place.account()),
        "aws:requestedregion" => known(ground.place.region()),
        "aws:securetransport" => known("true"),
        "kms:multiregion" | "aws:viaawsservice" | "aws:principalisawsservice" => known("false"),
        "kms:grantisforawsresource" if ground.on_grants => known("false"),
        "kms:grantisforawsresource" => Some(Value::Absent),
        "kms:keyspec" | "kms:customermasterkeyspec" => {
            let named = |spec: &KeySpec| Some((spec.name(), spec.algorithm()?.name()));
            Some(Value::OneOf("resource.algorithm", KeySpec::ALL.iter().filter_map(named).collect()))
        }
        "kms:keyorigin" => {
            let origins = vec![("AWS_KMS", "generated"), ("EXTERNAL", "imported")];
            Some(Value::OneOf("resource.origin", origins))
        }
        "aws:principalarn" => Some(Value::CallerArn),
        "aws:username" => Some(Value::Text("principal.name")),
        "aws:sourceip" => Some(Value::Address),
        "aws:currenttime" => Some(Value::Now),
        _ => None,
    }
}

/// What follows `prefix`, whose case does not matter.
fn after<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    let head = name.get(..prefix.len())?;
    let rest = &name[prefix.len()..];
    (head.eq_ignore_ascii_case(prefix) && !rest.is_empty()).then_some(rest)
}

/// Reads the member `Condition`: all of its operators and all of their keys must hold.
pub(super) fn read(json: &Json, ground: Ground<'_>) -> Result<Test, Reason> {
    let operators = json.members().ok_or("its Condition is not an object")?;
    let mut tests = Vec::new();
    for (operator, keys) in operators {
        let keys = keys.members().ok_or_else(|| format!("its condition {operator} is not an object"))?;
        for (key, values) in keys {
            let refused = |why| format!("its condition {operator} on {key} {why}");
            tests.push(one(operator, key, &texts(values).map_err(refused)?, ground).map_err(refused)?);
        }
    }
    Ok(Test::all(tests))
}

/// A condition's values.
fn texts(values: &Json) -> Result<Vec<String>, &'static str> {
    let text = |value: &Json| match value {
        Json::Text(text) | Json::Bare(text) => Ok(text.clone()),
        Json::Null | Json::List(_) | Json::Object(_) => Err("has a value that is not a text"),
    };
    let texts = values.items().iter().map(text).collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() {
        return Err("has no value");
    }
    if texts.iter().any(|text| text.contains("${")) {
        return Err("has a policy variable, which is not filled in here");
    }
    Ok(texts)
}

/// One key of one operator.
fn one(operator: &str, key: &str, values: &[String], ground: Ground<'_>) -> Result<Test, &'static str> {
    let value = value(key, ground).ok_or("is on a key that is not known here")?;
    let (test, of_absent) = if operator == "Null" {
        let absent = match values {
            [text] if text.eq_ignore_ascii_case("true") => true,
            [text] if text.eq_ignore_ascii_case("false") => false,
            _ => return Err("must be true or false"),
        };
        let there = presence(&value);
        (if absent { there.not() } else { there }, absent)
    } else {
        let operator = Operator::read(operator).ok_or("has an operator that is not known here")?;
        let of_absent = operator.of_absent();
        (tested(&operator, value, values, ground)?, of_absent)
    };
    // Where a name that is written in another case would count as an absent one, to the better.
    match odd(key) {
        Some(odd) if of_absent && ground.allows => Ok(Test::all([test, odd.not()])),
        Some(odd) if !of_absent && !ground.allows => Ok(Test::any([test, odd])),
        Some(_) | None => Ok(test),
    }
}

/// Whether a pair or tag is there under its name in another case only. To AWS that is the same name, and here another
/// one, whose value is not compared: where it matters, the statement is taken at its strictest.
fn odd(key: &str) -> Option<Test> {
    let pair = after(key, PAIR_KEY).map(|name| (PAIRS, name));
    let (owner, name) = pair.or_else(|| after(key, TAG_KEY).map(|name| ("resource", name)))?;
    let has_case = name.chars().any(char::is_alphabetic);
    has_case.then(|| {
        let (lower, name) = (quoted(&name.to_lowercase()), quoted(name));
        Test::When(format!("({owner}.folded.contains({lower}) && !{owner}.hasTag({name}))"))
    })
}

/// Whether the key is there.
fn presence(value: &Value) -> Test {
    match value {
        Value::Perhaps(there, _) => Test::When(there.clone()),
        Value::Absent => Test::Never,
        Value::PairNames => Test::When(format!("{PAIRS}.names.isEmpty()")).not(),
        Value::Text(_)
        | Value::Known(_)
        | Value::OneOf(..)
        | Value::CallerArn
        | Value::Address
        | Value::Now => Test::Always,
    }
}

fn tested(
    operator: &Operator,
    value: Value,
    values: &[String],
    ground: Ground<'_>,
) -> Result<Test, &'static str> {
    if let Value::PairNames = value {
        return names(operator, values);
    }
    if operator.set.is_some() {
        return Err("is for keys with several values");
    }
    let there = presence(&value);
    let found = matched(operator.matching, value, values, ground)?;
    Ok(if operator.negated {
        Test::all([there, found]).not()
    } else if operator.if_exists {
        Test::implies(there, found)
    } else {
        Test::all([there, found])
    })
}

/// Whether a value that is there matches any of `values`.
fn matched(
    matching: Match,
    value: Value,
    values: &[String],
    ground: Ground<'_>,
) -> Result<Test, &'static str> {
    match value {
        Value::Text(text) => of_text(matching, text, values),
        Value::Perhaps(_, text) => of_text(matching, &text, values),
        Value::Known(text) => {
            let mut found = Vec::new();
            for value in values {
                found.push(Test::of(fits(matching, value, &text)?));
            }
            Ok(Test::any(found))
        }
        Value::OneOf(attribute, names) => {
            let mut found = Vec::new();
            for (aws, own) in &names {
                for value in values {
                    if fits(matching, value, aws)? && !found.contains(own) {
                        found.push(*own);
                    }
                }
            }
            Ok(match found.as_slice() {
                [] => Test::Never,
                all if all.len() == names.len() => Test::Always,
                some => Test::one_of(attribute, some.iter().copied()),
            })
        }
        Value::CallerArn => values.iter().map(|text| caller(matching, text, ground.place)).collect(),
        Value::Address if matching == Match::Address => {
            values.iter().map(|text| network(text).ok_or("has a value that is no network")).collect()
        }
        Value::Now => {
            let Match::Date(stands) = matching else { return Err("does not compare times") };
            let at = |text: &String| {
                crate::time::read(text).ok_or("has a value that is no time such as 2027-01-31T12:00:00Z")?;
                Ok(Test::When(format!("context.now {stands} datetime({})", quoted(text))))
            };
            values.iter().map(at).collect()
        }
        Value::Absent => Ok(Test::Never),
        Value::Address => Err("does not compare addresses"),
        Value::PairNames => Err("needs ForAllValues or ForAnyValue"),
    }
}

/// Whether a text that is known already fits one value.
fn fits(matching: Match, value: &str, text: &str) -> Result<bool, &'static str> {
    match matching {
        Match::Equal => Ok(value == text),
        Match::EqualIgnoringCase | Match::Truth => Ok(value.eq_ignore_ascii_case(text)),
        Match::Like => Ok(matches(value, text)),
        Match::Arn | Match::Address | Match::Date(_) => Err("does not compare texts"),
    }
}

/// Whether the text that `expression` gives fits one of `values`.
fn of_text(matching: Match, expression: &str, values: &[String]) -> Result<Test, &'static str> {
    match matching {
        Match::Equal => Ok(Test::one_of(expression, values.iter().map(String::as_str))),
        // Only what has no case is the same in any case to Cedar.
        Match::EqualIgnoringCase if !values.iter().any(|value| value.chars().any(char::is_alphabetic)) => {
            Ok(Test::one_of(expression, values.iter().map(String::as_str)))
        }
        Match::EqualIgnoringCase => Err("compares without case, which cannot be done here"),
        Match::Like => values.iter().map(|value| like(expression, value)).collect(),
        Match::Arn | Match::Truth | Match::Address | Match::Date(_) => Err("does not compare texts"),
    }
}

/// A pattern of AWS in Cedar's terms: both have `*` for any text, and only AWS has `?` for one character.
fn like(expression: &str, pattern: &str) -> Result<Test, &'static str> {
    if pattern.contains('?') {
        return Err("has a `?`, which cannot be told from other characters here; write `*`");
    }
    Ok(match pattern {
        pattern if pattern.bytes().all(|c| c == b'*') && !pattern.is_empty() => Test::Always,
        pattern if !pattern.contains('*') => Test::one_of(expression, [pattern]),
        pattern => Test::When(format!("{expression} like {}", quoted(pattern))),
    })
}

/// Whether the caller's ARN is one that `text` names. `role/NAME` is the same identity as `user/NAME`.
fn caller(matching: Match, text: &str, place: &Place) -> Result<Test, &'static str> {
    let folded = text.to_ascii_lowercase();
    let (text, patterns) = match matching {
        Match::Equal => (text, false),
        Match::EqualIgnoringCase => (folded.as_str(), false),
        Match::Like | Match::Arn => (text, true),
        Match::Truth | Match::Address | Match::Date(_) => return Err("does not compare ARNs"),
    };
    if patterns && text == "*" {
        return Ok(Test::Always);
    }
    let own = text.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_prefix(place.account()));
    let resource = own.and_then(|rest| rest.strip_prefix(':'));
    let resource = resource.ok_or("names something else than this account's identities")?;
    match resource.split_once('/') {
        None if resource == "root" => Ok(Test::Never),
        None if patterns && resource == "*" => Ok(Test::Always),
        Some(("user" | "role", name)) if patterns => like("principal.name", name),
        Some(("user" | "role", name)) => Ok(Test::one_of("principal.name", [name])),
        Some(_) | None => Err("names something else than this account's identities"),
    }
}

/// An address or a network such as `10.0.0.0/8`.
fn network(text: &str) -> Option<Test> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    // An IPv4 address has one spelling here, as in what it is compared with.
    let address = address.parse().ok().filter(|address: &IpAddr| address.to_canonical() == *address)?;
    if let Some(prefix) = prefix {
        let digits =
            prefix.bytes().all(|c| c.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if !digits || prefix.parse::<u8>().ok()? > bits {
            return None;
        }
    }
    let prefix = prefix.map(|prefix| format!("/{prefix}")).unwrap_or_default();
    Some(Test::When(format!("context.ip.isInRange(ip({}))", quoted(&format!("{address}{prefix}")))))
}

/// Conditions on the names of all pairs of a request's context.
fn names(operator: &Operator, values: &[String]) -> Result<Test, &'static str> {
    if operator.matching != Match::Equal || operator.if_exists {
        return Err("can be StringEquals or StringNotEquals here, and nothing else");
    }
    let listed: BTreeSet<&String> = values.iter().collect();
    let listed = listed.into_iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
    let relation = |name| Test::When(format!("[{listed}].{name}({PAIRS}.names)"));
    match (operator.set, operator.negated) {
        (Some(Set::All), false) => Ok(relation("containsAll")),
        (Some(Set::Any), false) => Ok(relation("containsAny")),
        (Some(Set::All), true) => Ok(relation("containsAny").not()),
        (Some(Set::Any), true) => Ok(relation("containsAll").not()),
        (None, _) => Err("needs ForAllValues or ForAnyValue"),
    }
}
