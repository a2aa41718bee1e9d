//! AWS key policies, translated: what they decide is what AWS says they decide.

use keyhearth_core::policy::{KeyPolicy, THIS_KEY, key_policy_name};
use keyhearth_proto::aws::Place;
use keyhearth_proto::aws::policy::Document;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn place() -> Place {
    Place::new("111122223333", "eu-central-1").unwrap()
}

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];

fn id(name: &str) -> PrincipalId {
    PrincipalId([name.as_bytes()[0]; 16])
}

/// The key and its policy in force, if the document is accepted.
fn in_force(document: &Value) -> Option<(Key, Compiled)> {
    let arn = place().key_arn(KEY);
    let document = Document::parse(&document.to_string(), &place(), Some(&arn)).ok()?;
    let text = document.cedar(|name| id(name.as_str()));
    let policies = text.map(|text| Policy {
        name: key_policy_name(KEY),
        text: text.replace(THIS_KEY, &format!("Keyhearth::Key::\"{KEY}\"")),
        activated: NOON,
    });
    let compiled = Compiled::new(TENANT, policies.as_slice()).unwrap_or_else(|error| panic!("{error}"));
    compiled.own_policy(KEY).unwrap();
    let policy = Some(KeyPolicy { document: None, closed: document.is_closed() });
    Some((Key { policy, ..key(&[]) }, compiled))
}

/// A request of an identity without roles.
#[derive(Clone, Debug)]
struct Asked {
    name: &'static str,
    action: &'static str,
    context: Vec<(String, String)>,
    tags: BTreeMap<String, String>,
    address: &'static str,
}

const ACTIONS: [(&str, Operation); 7] = [
    ("kms:Encrypt", Operation::Encrypt),
    ("kms:Decrypt", Operation::Decrypt),
    ("kms:GenerateDataKey", Operation::DataKey),
    ("kms:GenerateDataKeyWithoutPlaintext", Operation::DataKeyWithoutPlaintext),
    ("kms:ReEncryptFrom", Operation::RewrapFrom),
    ("kms:CreateGrant", Operation::CreateGrant),
    ("kms:ScheduleKeyDeletion", Operation::ScheduleDestroy),
];

fn decides((key, compiled): &(Key, Compiled), asked: &Asked) -> bool {
    let caller = Caller {
        principal: id(asked.name),
        name: name(asked.name),
        address: asked.address.parse().unwrap(),
        ..alice([])
    };
    let key = Key { tags: asked.tags.clone(), ..key.clone() };
    let (_, operation) = ACTIONS.into_iter().find(|(action, _)| *action == asked.action).unwrap();
    let question = Question {
        caller: &caller,
        operation,
        key: Some(&key),
        context: &asked.context,
        boot: None,
        lease_seconds: 0,
        now: NOW,
    };
    matches!(compiled.authorize(&question), Verdict::Allow(_))
}

/// What AWS says: a statement applies if who, what and all conditions match; one Deny is no; one Allow is yes.
mod reference {
    use super::*;

    pub(super) fn allows(document: &Value, asked: &Asked) -> bool {
        let statements = document["Statement"].as_array().unwrap();
        let applies = |effect: &str| {
            let of_effect = statements.iter().filter(|statement| statement["Effect"] == effect);
            of_effect.into_iter().any(|statement| {
                who(&statement["Principal"], asked, effect == "Deny")
                    && what(statement, asked)
                    && when(statement, asked)
            })
        };
        !applies("Deny") && applies("Allow")
    }

    fn texts(value: &Value) -> Vec<&str> {
        let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        items.iter().map(|item| item.as_str().unwrap()).collect()
    }

    /// An Allow to the root lets other policies decide, of which these identities have none.
    fn who(principal: &Value, asked: &Asked, deny: bool) -> bool {
        let named = if principal.is_string() { principal } else { &principal["AWS"] };
        texts(named).into_iter().any(|text| {
            text == "*" || text.ends_with(&format!("/{}", asked.name)) || (deny && text.ends_with(":root"))
        })
    }

    fn what(statement: &Value, asked: &Asked) -> bool {
        let named = |patterns: &Value| texts(patterns).into_iter().any(|pattern| like(pattern, asked.action));
        match statement.get("NotAction") {
            Some(others) => !named(others),
            None => named(&statement["Action"]),
        }
    }

    /// `*` only at the end.
    fn like(pattern: &str, text: &str) -> bool {
        pattern.strip_suffix('*').map_or(pattern == text, |start| text.starts_with(start))
    }

    fn when(statement: &Value, asked: &Asked) -> bool {
        let Some(operators) = statement.get("Condition") else { return true };
        operators.as_object().unwrap().iter().all(|(operator, keys)| {
            keys.as_object().unwrap().iter().all(|(key, values)| holds(operator, key, &texts(values), asked))
        })
    }

    fn holds(operator: &str, key: &str, values: &[&str], asked: &Asked) -> bool {
        if key == "kms:EncryptionContextKeys" {
            let names = || asked.context.iter().map(|(name, _)| name.as_str());
            return match operator {
                "ForAllValues:StringEquals" => names().all(|name| values.contains(&name)),
                "ForAnyValue:StringEquals" => names().any(|name| values.contains(&name)),
                other => panic!("{other}"),
            };
        }
        let find = |pairs: Vec<(&String, &String)>, wanted: &str| -> Option<String> {
            let found = pairs.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        let value = if let Some(pair) = key.strip_prefix("kms:EncryptionContext:") {
            find(asked.context.iter().map(|(name, value)| (name, value)).collect(), pair)
        } else if let Some(tag) = key.strip_prefix("aws:ResourceTag/") {
            find(asked.tags.iter().collect(), tag)
        } else {
            Some(match key {
                "aws:PrincipalArn" => format!("arn:aws:iam::111122223333:user/{}", asked.name),
                "aws:SourceIp" => asked.address.to_owned(),
                "kms:CallerAccount" => "111122223333".to_owned(),
                other => panic!("{other}"),
            })
        };
        if operator == "Null" {
            return (values == ["true"]) == value.is_none();
        }
        let (operator, if_exists) =
            operator.strip_suffix("IfExists").map_or((operator, false), |operator| (operator, true));
        let matched = |value: &str| match operator {
            "StringEquals" | "StringNotEquals" => values.contains(&value),
            "StringLike" | "StringNotLike" | "ArnLike" => values.iter().any(|pattern| like(pattern, value)),
            "IpAddress" | "NotIpAddress" => {
                values.iter().any(|network| value.starts_with(network.split(".0").next().unwrap()))
            }
            other => panic!("{other}"),
        };
        let negated = operator.contains("Not");
        value.map_or(negated || if_exists, |value: String| matched(&value) != negated)
    }
}

fn some_text(texts: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(texts).prop_map(Value::from),
        prop::sample::subsequence(texts, 1..=texts.len()).prop_map(Value::from),
    ]
}

fn some_condition() -> impl Strategy<Value = Value> {
    let string = prop::sample::select(vec![
        "StringEquals",
        "StringNotEquals",
        "StringEqualsIfExists",
        "StringNotEqualsIfExists",
        "StringLike",
        "StringNotLike",
    ]);
    let pair = prop::sample::select(vec![
        "kms:EncryptionContext:dept",
        "kms:EncryptionContext:1",
        "aws:ResourceTag/dept",
    ]);
    let one = |operator: &str, key: &str, values: Value| json!({ operator: { key: values } });
    prop_oneof![
        (string.clone(), pair.clone(), some_text(&["hr", "it", "h*", "*"]))
            .prop_map(move |(o, k, v)| one(o, k, v)),
        (pair, prop::bool::ANY).prop_map(move |(k, v)| one("Null", k, json!(v.to_string()))),
        (string, some_text(&["arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:user/b*"]))
            .prop_map(move |(o, v)| one(o, "aws:PrincipalArn", v)),
        (
            prop::sample::select(vec!["IpAddress", "NotIpAddress"]),
            some_text(&["10.0.0.0/8", "192.168.0.0/16"])
        )
            .prop_map(move |(o, v)| one(o, "aws:SourceIp", v)),
        (
            prop::sample::select(vec!["ForAllValues:StringEquals", "ForAnyValue:StringEquals"]),
            some_text(&["dept", "1"])
        )
            .prop_map(move |(o, v)| one(o, "kms:EncryptionContextKeys", v)),
        some_text(&["111122223333", "444455556666"]).prop_map(move |v| one(
            "StringEquals",
            "kms:CallerAccount",
            v
        )),
    ]
}

fn some_statement() -> impl Strategy<Value = Value> {
    let principal = prop_oneof![
        Just(json!("*")),
        some_text(&["arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/bob"])
            .prop_map(|who| json!({ "AWS": who })),
        Just(json!({ "AWS": "arn:aws:iam::111122223333:root" })),
    ];
    let actions = some_text(&[
        "kms:Encrypt",
        "kms:Decrypt",
        "kms:GenerateDataKey*",
        "kms:ReEncrypt*",
        "kms:CreateGrant",
        "kms:*",
    ]);
    let effect = prop::sample::select(vec!["Allow", "Allow", "Deny"]);
    let not = prop::bool::weighted(0.1);
    (principal, actions, effect, not, prop::option::of(some_condition())).prop_map(
        |(principal, actions, effect, not, condition)| {
            let mut statement = json!({ "Effect": effect, "Principal": principal, "Resource": "*" });
            statement[if not { "NotAction" } else { "Action" }] = actions;
            condition.into_iter().for_each(|condition| statement["Condition"] = condition);
            statement
        },
    )
}

fn some_request() -> impl Strategy<Value = Asked> {
    let pairs = || {
        prop::collection::btree_map(
            prop::sample::select(vec!["dept", "Dept", "1"]),
            prop::sample::select(vec!["hr", "it"]),
            0..3,
        )
    };
    let owned = |pairs: BTreeMap<&str, &str>| -> BTreeMap<String, String> {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    (
        prop::sample::select(PEOPLE.to_vec()),
        prop::sample::select(ACTIONS.map(|(action, _)| action).to_vec()),
        pairs(),
        pairs(),
        prop::sample::select(vec!["10.1.2.3", "192.168.1.1", "8.8.8.8"]),
    )
        .prop_map(move |(name, action, context, tags, address)| Asked {
            name,
            action,
            context: owned(context).into_iter().collect(),
            tags: owned(tags),
            address,
        })
}

/// Whether a pair or tag of the request is named in another case than the policies name it. AWS takes it for the
/// same name; here it may only ever be stricter.
fn has_other_case(asked: &Asked) -> bool {
    asked.context.iter().map(|(name, _)| name).chain(asked.tags.keys()).any(|name| name == "Dept")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_accepted_decides_as_aws_does(
        statements in prop::collection::vec(some_statement(), 1..4),
        requests in prop::collection::vec(some_request(), 20),
    ) {
        // Statements that cannot be said here are left out: what is left is a policy of its own.
        let document = |statements: &[Value]| json!({ "Version": "2012-10-17", "Statement": statements });
        let said: Vec<Value> =
            statements.into_iter().filter(|one| in_force(&document(std::slice::from_ref(one))).is_some()).collect();
        prop_assume!(!said.is_empty());
        let document = document(&said);
        let policy = in_force(&document).unwrap();
        let twice = |asked: &Asked| {
            let names: Vec<_> = asked.context.iter().map(|(name, _)| name).collect();
            let both = |has: &dyn Fn(&str) -> bool| has("dept") && has("Dept");
            both(&|name| names.iter().any(|one| *one == name)) || both(&|name| asked.tags.contains_key(name))
        };
        // Which of two names that differ in case alone counts, AWS does not say: here such a request is refused.
        for asked in requests.iter().filter(|asked| !twice(asked)) {
            let (ours, aws) = (decides(&policy, asked), reference::allows(&document, asked));
            if has_other_case(asked) {
                prop_assert!(!ours || aws, "wider: {asked:?}\n{document}");
            } else {
                prop_assert_eq!(ours, aws, "{:?}\n{}", asked, document);
            }
        }
    }
}

#[test]
fn a_deny_beats_an_allow_and_the_root_lets_roles_in() {
    let root = json!({ "Effect": "Allow", "Principal": { "AWS": "111122223333" }, "Action": "kms:*", "Resource": "*" });
    let stop = json!({ "Effect": "Deny", "Principal": "*", "Action": "kms:Decrypt", "Resource": "*" });
    let (key, compiled) = in_force(&json!({ "Statement": [root, stop] })).unwrap();
    let user = alice([Role::KeyUser]);
    assert_eq!(ask(&compiled, &user, Operation::Encrypt, Some(&key)), Verdict::Allow(by(&["role:key-user"])));
    let own = key_policy_name(KEY).to_string();
    assert_eq!(ask(&compiled, &user, Operation::Decrypt, Some(&key)), Verdict::Forbid(by(&[&own])));
    let (key, compiled) = in_force(&json!({ "Statement": [stop] })).unwrap();
    assert_eq!(ask(&compiled, &user, Operation::Encrypt, Some(&key)), Verdict::Silent);
}

/// The policies that AWS's console makes, and those its guide gives as examples, with our account.
#[test]
fn usual_policies_of_users_of_aws_are_accepted() {
    let user = "arn:aws:iam::111122223333:user/alice";
    let statements = [
        json!({ "Sid": "Allow access for Key Administrators", "Effect": "Allow", "Principal": { "AWS": user }, "Action": [
            "kms:Create*", "kms:Describe*", "kms:Enable*", "kms:List*", "kms:Put*", "kms:Update*", "kms:Revoke*", "kms:Disable*",
            "kms:Get*", "kms:Delete*", "kms:TagResource", "kms:UntagResource", "kms:ScheduleKeyDeletion",
            "kms:CancelKeyDeletion", "kms:RotateKeyOnDemand"], "Resource": "*" }),
        json!({ "Sid": "Allow use of the key", "Effect": "Allow", "Principal": { "AWS": [user] }, "Action": [
            "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"], "Resource": "*" }),
        json!({ "Sid": "Allow attachment of persistent resources", "Effect": "Allow", "Principal": { "AWS": user },
            "Action": ["kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant"], "Resource": "*",
            "Condition": { "Bool": { "kms:GrantIsForAWSResource": "true" } } }),
        json!({ "Effect": "Deny", "Principal": "*", "Action": "kms:*", "Resource": "*",
            "Condition": { "Bool": { "aws:SecureTransport": "false" } } }),
        json!({ "Effect": "Allow", "Principal": { "AWS": user }, "Action": ["kms:DescribeKey", "kms:GetPublicKey", "kms:Sign",
            "kms:Verify", "kms:GenerateMac", "kms:VerifyMac"], "Resource": "*" }),
    ];
    let (key, compiled) = in_force(&json!({ "Version": "2012-10-17", "Statement": statements })).unwrap();
    for (operation, may) in [
        (Operation::UpdateKey, true),
        (Operation::DataKeyWithoutPlaintext, true),
        (Operation::Sign, true),
        (Operation::CreateGrant, true),
        (Operation::ExportKey, false),
    ] {
        let caller = Caller { principal: id("alice"), ..alice([]) };
        assert_eq!(
            matches!(ask(&compiled, &caller, operation, Some(&key)), Verdict::Allow(_)),
            may,
            "{operation:?}"
        );
    }
}

/// A thousand keys with policies of their own: a question meets those of its key alone.
#[test]
fn the_policies_of_other_keys_are_not_asked_and_not_read() {
    let document = json!({ "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111122223333:user/alice" }, "Resource": "*",
          "Action": ["kms:Encrypt", "kms:Decrypt"], "Condition": {
            "StringEquals": { "kms:EncryptionContext:dept": "hr" }, "DateLessThan": { "aws:CurrentTime": "2999-01-01T00:00:00Z" } } }
    ] });
    let document = Document::parse(&document.to_string(), &place(), None).unwrap();
    let text = document.cedar(|name| id(name.as_str())).unwrap();
    let keys = (0..200_u8).map(|number| KeyId([number; 16])).filter(|key| *key != KEY);
    let policy = |key: KeyId| Policy {
        name: key_policy_name(key),
        text: text.replace(THIS_KEY, &format!("Keyhearth::Key::\"{key}\"")),
        activated: NOON,
    };
    let compiled = Compiled::new(TENANT, &keys.map(policy).collect::<Vec<_>>()).unwrap();
    let caller = Caller { principal: id("alice"), ..alice([Role::KeyUser]) };
    let plain = key(&[]);
    for number in 0..500 {
        let context = pairs(&[("number", &number.to_string())]);
        let question = Question {
            caller: &caller,
            operation: Operation::Encrypt,
            key: Some(&plain),
            context: &context,
            boot: None,
            lease_seconds: 0,
            now: NOW,
        };
        assert_eq!(compiled.authorize(&question), Verdict::Allow(by(&["role:key-user"])));
    }
    let one = compiled.remembered_bytes();
    assert!(one < 1_000, "one answer for all contexts: {one} bytes");
}
