use serde_json::json;

use super::*;

const KEY_ARN: &str = "arn:aws:kms:eu-central-1:111122223333:key/01890a5d-ac96-774b-bcce-b302099a8057";

fn place() -> Place {
    Place::new("111122223333", "eu-central-1").unwrap()
}

fn parse(document: &serde_json::Value) -> Result<Document, Malformed> {
    Document::parse(&document.to_string(), &place(), Some(KEY_ARN))
}

/// A document of one statement: an Allow of `kms:Decrypt` to `alice`, but for `changes`.
fn with(changes: &serde_json::Value) -> serde_json::Value {
    let mut statement = json!({
        "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111122223333:user/alice" },
        "Action": "kms:Decrypt", "Resource": "*"
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            statement.as_object_mut().unwrap().remove(name);
        } else {
            statement[name] = value.clone();
        }
    }
    json!({ "Version": "2012-10-17", "Statement": statement })
}

fn cedar(document: &serde_json::Value) -> String {
    let document = parse(document).unwrap_or_else(|refused| panic!("{refused}"));
    document.cedar(|name| PrincipalId([name.as_str().as_bytes()[0]; 16])).unwrap_or_default()
}

fn refused(document: &serde_json::Value) -> String {
    parse(document).err().unwrap_or_else(|| panic!("accepted: {document}")).to_string()
}

const ALICE: &str = r#"principal == Keyhearth::Principal::"61616161-6161-6161-6161-616161616161""#;
const DECRYPT: &str = r#"action == Keyhearth::Action::"decrypt", resource == Keyhearth::Key::"this")"#;
const NO_DECRYPT: &str = r#"action in [Keyhearth::Action::"export-key", Keyhearth::Action::"read-secret", Keyhearth::Action::"decrypt", Keyhearth::Action::"unwrap"], resource == Keyhearth::Key::"this")"#;

#[test]
fn the_usual_policy_says_nothing_of_its_own() {
    let document = Document::parse(&usual(&place()), &place(), None).unwrap();
    assert!(!document.is_closed());
    assert_eq!(document.cedar(|_| panic!("it names nobody")), None);
    assert_eq!(document.identities().count(), 0);
}

#[test]
fn a_statement_becomes_a_statement() {
    assert_eq!(cedar(&with(&json!({}))), format!("permit ({ALICE}, {DECRYPT};\n"));
    assert!(parse(&with(&json!({}))).unwrap().is_closed());
    assert_eq!(
        cedar(&with(&json!({ "Resource": [KEY_ARN], "Effect": "Deny", "Sid": "" }))),
        format!("forbid ({ALICE}, {NO_DECRYPT};\n")
    );
    for principal in
        [json!("*"), json!({ "AWS": "*" }), json!({ "AWS": ["*", "arn:aws:iam::111122223333:user/a"] })]
    {
        assert_eq!(
            cedar(&with(&json!({ "Principal": principal }))),
            format!("permit (principal, {DECRYPT};\n")
        );
    }
    let denied = with(&json!({ "Principal": { "AWS": "111122223333" }, "Effect": "Deny" }));
    assert_eq!(cedar(&denied), format!("forbid (principal, {NO_DECRYPT};\n"));
    let denied = with(&json!({ "Principal": "*", "Effect": "Deny", "Action": "kms:*" }));
    assert_eq!(cedar(&denied), "forbid (principal, action, resource == Keyhearth::Key::\"this\");\n");
    let two = with(
        &json!({ "Principal": { "AWS": ["arn:aws:iam::111122223333:role/bob", "arn:aws:iam::111122223333:user/alice"] } }),
    );
    assert_eq!(
        cedar(&two),
        format!(
            "permit (principal, {DECRYPT} when {{ [Keyhearth::Principal::\"61616161-6161-6161-6161-616161616161\", \
             Keyhearth::Principal::\"62626262-6262-6262-6262-626262626262\"].contains(principal) }};\n"
        )
    );
    let names: Vec<_> = parse(&two).unwrap().identities().map(|(name, _)| name.to_string()).collect();
    assert_eq!(names, ["alice", "bob"]);
}

#[test]
fn the_account_opens_the_key() {
    let root = |changes: serde_json::Value| {
        let mut all = json!({ "Principal": { "AWS": "arn:aws:iam::111122223333:root" }, "Action": "kms:*" });
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        with(&all)
    };
    let all = parse(&root(json!({}))).unwrap();
    assert!(!all.is_closed() && all.cedar(|_| panic!()).is_none());
    let both = ["111122223333", "arn:aws:iam::111122223333:user/alice"];
    let both = root(json!({ "Principal": { "AWS": both } }));
    assert!(
        !parse(&both).unwrap().is_closed()
            && cedar(&both).starts_with(&format!("permit ({ALICE}, action in ["))
    );
    for less in [
        json!({ "Action": "kms:Decrypt" }),
        json!({ "Condition": {} }),
        json!({ "Action": null, "NotAction": "kms:Sign" }),
    ] {
        assert!(refused(&root(less)).contains("account's root"));
    }
    assert!(parse(&root(json!({ "Effect": "Deny" }))).unwrap().is_closed());
}

fn condition(effect: &str, operator: &str, key: &str, values: serde_json::Value) -> serde_json::Value {
    with(&json!({ "Effect": effect, "Principal": "*", "Condition": { operator: { key: values } } }))
}

fn when(effect: &str, operator: &str, key: &str, values: serde_json::Value) -> String {
    let text = cedar(&condition(effect, operator, key, values));
    let Some((_, rest)) = text.split_once(" when { ") else {
        return if text.is_empty() { "never" } else { "always" }.to_owned();
    };
    rest.strip_suffix(" };\n").unwrap().to_owned()
}

#[test]
fn conditions_become_expressions() {
    let allow = |operator, key, values| when("Allow", operator, key, values);
    let deny = |operator, key, values| when("Deny", operator, key, values);
    let pair = "kms:EncryptionContext:dept";
    let (has, of) = (r#"context.context.hasTag("dept")"#, r#"context.context.getTag("dept")"#);
    assert_eq!(allow("StringEquals", pair, json!("hr")), format!(r#"({has} && {of} == "hr")"#));
    assert_eq!(
        allow("StringEquals", pair, json!(["it", "hr"])),
        format!(r#"({has} && ["hr", "it"].contains({of}))"#)
    );
    assert_eq!(allow("StringLike", pair, json!("h*\"")), format!(r#"({has} && {of} like "h*\"")"#));
    assert_eq!(deny("StringNotEquals", pair, json!("hr")), format!(r#"!(({has} && {of} == "hr"))"#));
    assert_eq!(
        deny("StringEqualsIfExists", pair, json!("hr")),
        format!(r#"(if {has} then {of} == "hr" else true)"#)
    );
    assert_eq!(deny("Null", pair, json!("true")), format!("!({has})"));
    assert_eq!(allow("Null", pair, json!(false)), has);
    assert_eq!(
        allow("StringEquals", "aws:ResourceTag/env", json!("ü")),
        r#"(resource.hasTag("env") && resource.getTag("env") == "\u{fc}")"#
    );
    let names = "kms:EncryptionContextKeys";
    assert_eq!(
        allow("ForAllValues:StringEquals", names, json!(["b", "a"])),
        r#"["a", "b"].containsAll(context.context.names)"#
    );
    assert_eq!(
        allow("ForAnyValue:StringEquals", names, json!("a")),
        r#"["a"].containsAny(context.context.names)"#
    );
    assert_eq!(
        deny("ForAnyValue:StringNotEquals", names, json!("a")),
        r#"!(["a"].containsAll(context.context.names))"#
    );
    assert_eq!(
        allow("ArnLike", "aws:PrincipalArn", json!("arn:aws:iam::111122223333:role/web-*")),
        r#"principal.name like "web-*""#
    );
    assert_eq!(
        allow("StringEquals", "aws:PrincipalArn", json!("arn:aws:iam::111122223333:user/a*")),
        r#"principal.name == "a*""#
    );
    assert_eq!(allow("StringLike", "aws:PrincipalArn", json!("arn:aws:iam::111122223333:*")), "always");
    assert_eq!(
        allow("IpAddress", "aws:SourceIp", json!(["10.0.0.0/8", "2001:DB8::/32"])),
        r#"(context.ip.isInRange(ip("10.0.0.0/8")) || context.ip.isInRange(ip("2001:db8::/32")))"#
    );
    assert_eq!(
        deny("NotIpAddress", "aws:sourceip", json!("10.0.0.1")),
        r#"!(context.ip.isInRange(ip("10.0.0.1")))"#
    );
    assert_eq!(
        allow("StringLike", "kms:KeySpec", json!("RSA_*")),
        r#"["rsa-2048", "rsa-3072", "rsa-4096"].contains(resource.algorithm)"#
    );
    assert_eq!(allow("StringEquals", "kms:KeyOrigin", json!("EXTERNAL")), r#"resource.origin == "imported""#);
    assert_eq!(
        allow("DateLessThan", "aws:CurrentTime", json!("2027-01-31T12:00:00Z")),
        r#"context.now < datetime("2027-01-31T12:00:00Z")"#
    );
}

/// A name in another case is another name here: that may only ever be stricter than AWS.
#[test]
fn names_in_another_case_let_nothing_through() {
    let (dept, odd) = (
        r#"context.context.hasTag("dept")"#,
        r#"(context.context.folded.contains("dept") && !context.context.hasTag("dept"))"#,
    );
    let key = "kms:EncryptionContext:dept";
    let deny = when("Deny", "StringEquals", key, json!("hr"));
    assert_eq!(deny, format!(r#"(({dept} && context.context.getTag("dept") == "hr") || {odd})"#));
    let allow = when("Allow", "StringNotEquals", key, json!("hr"));
    assert_eq!(allow, format!(r#"(!(({dept} && context.context.getTag("dept") == "hr")) && !({odd}))"#));
    assert_eq!(when("Allow", "Null", key, json!("true")), format!("(!({dept}) && !({odd}))"));
    for (effect, operator, value) in [
        ("Allow", "StringEquals", "hr"),
        ("Allow", "StringLike", "hr*"),
        ("Allow", "Null", "false"),
        ("Deny", "StringNotEquals", "hr"),
        ("Deny", "StringEqualsIfExists", "hr"),
        ("Deny", "Null", "true"),
    ] {
        assert!(!when(effect, operator, key, json!(value)).contains("folded"), "{effect} {operator}");
    }
    assert!(!when("Deny", "StringEquals", "kms:EncryptionContext:42", json!("x")).contains("folded"));
    assert!(
        when("Deny", "StringEquals", "aws:ResourceTag/Env", json!("x"))
            .contains(r#"resource.folded.contains("env")"#)
    );
}

#[test]
fn what_is_known_beforehand_is_decided_beforehand() {
    let allow = |operator, key, values| when("Allow", operator, key, values);
    assert_eq!(allow("StringEquals", "kms:CallerAccount", json!("111122223333")), "always");
    assert_eq!(allow("StringEquals", "kms:CallerAccount", json!("444455556666")), "never");
    assert_eq!(allow("StringNotEquals", "aws:PrincipalAccount", json!("444455556666")), "always");
    assert_eq!(allow("Bool", "aws:SecureTransport", json!(true)), "always");
    assert_eq!(when("Deny", "Bool", "aws:SecureTransport", json!("false")), "never");
    assert_eq!(allow("StringLike", "kms:KeySpec", json!("*")), "always");
    assert_eq!(allow("StringEquals", "kms:KeySpec", json!("RSA_8192")), "never");
    let grants = |value| {
        with(&json!({
            "Action": ["kms:CreateGrant", "kms:Decrypt"], "Condition": { "Bool": { "kms:GrantIsForAWSResource": value } }
        }))
    };
    assert_eq!(cedar(&grants("true")), "", "there is nobody it is for");
    let only = cedar(&grants("false"));
    assert!(only.contains("create-grant") && !only.contains("decrypt"), "{only}");
}

/// Statements that cannot be said here with the same meaning, and what is said of each.
#[test]
fn what_cannot_be_said_exactly_is_refused_by_name() {
    let refusals = [
        (json!({ "Principal": null, "NotPrincipal": { "AWS": "*" } }), "NotPrincipal"),
        (json!({ "Principal": { "Service": "ec2.amazonaws.com" } }), "only AWS"),
        (json!({ "Principal": { "AWS": "*", "Service": "ec2.amazonaws.com" } }), "only AWS"),
        (json!({ "Principal": { "AWS": "arn:aws:iam::444455556666:user/alice" } }), "444455556666"),
        (json!({ "Principal": { "AWS": "444455556666" } }), "444455556666"),
        (json!({ "Principal": { "AWS": "arn:aws:sts::111122223333:assumed-role/a/b" } }), "assumed-role"),
        (json!({ "Principal": { "AWS": [] } }), "nobody"),
        (json!({ "Principal": "arn:aws:iam::111122223333:user/alice" }), "no object"),
        (json!({ "Principal": null }), "Principal"),
        (json!({ "Effect": "allow" }), "Effect"),
        (json!({ "Action": "kms:Decript" }), "kms:Decript"),
        (json!({ "Action": "s3:*" }), "s3:*"),
        (json!({ "Action": [] }), "no action"),
        (json!({ "Action": null }), "Action"),
        (json!({ "NotAction": "kms:Sign" }), "NotAction"),
        (json!({ "Action": "kms:TagResource" }), "kms:DisableKeyRotation"),
        (json!({ "Action": "kms:DescribeKey", "Effect": "Deny" }), "kms:GetKeyRotationStatus"),
        (json!({ "Resource": null }), "Resource"),
        (json!({ "Resource": "arn:aws:kms:eu-central-1:111122223333:key/*" }), "Resource"),
        (json!({ "Resource": null, "NotResource": "*" }), "NotResource"),
        (json!({ "Condition": [] }), "Condition"),
        (json!({ "Sid": 1 }), "Sid"),
    ];
    for (change, reason) in refusals {
        let mut named = with(&change);
        if change.get("Sid").is_none() {
            named["Statement"]["Sid"] = json!("third time");
        }
        let text = refused(&json!({ "Statement": [with(&json!({}))["Statement"], named["Statement"]] }));
        assert!(text.starts_with("Statement 2"), "{text}");
        assert!(change.get("Sid").is_some() || text.contains("(third time)"), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn conditions_that_cannot_be_said_exactly_are_refused() {
    let pair = "kms:EncryptionContext:dept";
    let either = [
        ("StringEquals", "kms:ViaService", json!("ec2.us-east-1.amazonaws.com")),
        ("StringEquals", "aws:PrincipalOrgID", json!("o-1")),
        ("StringEquals", "kms:EncryptionContext:", json!("x")),
        ("NumericLessThan", "aws:SourceIp", json!(1)),
        ("StringEqualsIgnoreCase", pair, json!("hr")),
        ("StringLike", pair, json!("h?")),
        ("StringEquals", "aws:username", json!("${aws:username}")),
        ("StringEquals", "aws:username", json!([])),
        ("StringEquals", "aws:username", json!({})),
        ("StringEquals", "aws:username", json!([null])),
        ("ForAnyValue:StringEquals", "aws:username", json!("a")),
        ("ForEachValue:StringEquals", "aws:username", json!("a")),
        ("StringEquals", "kms:EncryptionContextKeys", json!("a")),
        ("ForAllValues:StringLike", "kms:EncryptionContextKeys", json!("a*")),
        ("StringEquals", "aws:PrincipalArn", json!("arn:aws:iam::444455556666:user/a")),
        ("ArnLike", "aws:PrincipalArn", json!("arn:aws:iam::*:user/a")),
        ("IpAddress", "aws:SourceIp", json!("10.0.0.0/33")),
        ("IpAddress", "aws:SourceIp", json!("10.0.0/8")),
        ("IpAddress", "aws:SourceIp", json!("::ffff:10.0.0.1")),
        ("IpAddress", pair, json!("10.0.0.1")),
        ("DateLessThan", "aws:CurrentTime", json!("2027-01-31")),
        ("Bool", pair, json!("true")),
        ("Null", pair, json!("maybe")),
    ];
    for (operator, key, values) in either {
        for effect in ["Allow", "Deny"] {
            let text = refused(&condition(effect, operator, key, values.clone()));
            assert!(text.contains(operator) && text.contains(key), "{text}");
        }
    }
}

#[test]
fn what_is_no_policy_is_refused() {
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "\"*\"",
        "{",
        r#"{"Statement":[]}"#,
        r#"{"Statement":"x"}"#,
        r#"{"Statement":[null]}"#,
        r#"{"Statement":[{}]}"#,
        r#"{"Version":"2012-10-17"}"#,
    ] {
        assert!(Document::parse(text, &place(), None).is_err(), "{text}");
    }
    let good = with(&json!({})).to_string();
    let Some(inner) = good.strip_suffix('}') else { panic!() };
    for extra in [r#","Version":"2012-10-17"}"#, r#","Statment":[]}"#, r#","Id":1}"#, "}}", "} x"] {
        assert!(Document::parse(&(inner.to_owned() + extra), &place(), None).is_err(), "{extra}");
    }
    let version = |version| json!({ "Version": version, "Statement": with(&json!({}))["Statement"] });
    assert!(parse(&version("2008-10-17")).is_ok() && parse(&version("2012-10-18")).is_err());
    let twice = json!({ "Statement": [with(&json!({"Sid": "a"}))["Statement"], with(&json!({"Sid": "a"}))["Statement"]] });
    assert!(refused(&twice).contains("Sid"));
    let deep = "[".repeat(200) + &"]".repeat(200);
    assert!(Document::parse(&format!("{{\"Statement\":{deep}}}"), &place(), None).is_err());
    let long = format!("{good}{}", " ".repeat(DOCUMENT_CHARS_MAX));
    assert!(Document::parse(&long, &place(), None).is_err());
    assert!(
        Document::parse(&with(&json!({ "Resource": KEY_ARN })).to_string(), &place(), None).is_err(),
        "it is not made yet"
    );
}
