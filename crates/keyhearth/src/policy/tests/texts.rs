use keyhearth_core::policy::{POLICIES_MAX, POLICY_BYTES_MAX};
use proptest::prelude::*;

use super::*;

fn fault(text: &str) -> (usize, usize, Fault) {
    let error = refused(text);
    let PolicyError::Text { line, column, fault, .. } = error else { panic!("{error}") };
    (line, column, fault)
}

#[test]
fn refusals_say_where_and_what() {
    let (line, column, what) = fault("permit (principal, action,\n  resourze);");
    assert_eq!((line, column), (2, 3), "{what}");
    assert!(matches!(what, Fault::Syntax(_)));

    let unknown = "// ö\npermit (principal, action == Keyhearth::Action::\"encrypt\", resource)\nwhen { resource.colour == \"red\" };";
    let (line, column, what) = fault(unknown);
    assert_eq!((line, column), (3, 8), "{what}");
    assert!(matches!(&what, Fault::Schema(text) if text.contains("colour")), "{what}");
    let message = refused(unknown).to_string();
    assert!(message.starts_with("policy p0, line 3, column 8: "), "{message}");
    assert!(message.ends_with("`keyhearth policy schema`"), "{message}");

    for text in [
        r#"permit (principal, action == Keyhearth::Action::"encypt", resource);"#,
        r#"permit (principal in Keyhearth::Role::"wizard", action, resource);"#,
        r#"permit (principal, action == Keyhearth::Action::"list-keys", resource is Keyhearth::Key);"#,
        "permit (principal, action, resource) when { resource.getTag(\"env\") == \"prod\" };",
        "permit (principal, action, resource) when { false };",
    ] {
        let (line, _, what) = fault(text);
        assert!(matches!(what, Fault::Schema(_)) && line == 1, "{text}: {what}");
    }
    assert_eq!(fault("permit (principal == ?principal, action, resource);"), (1, 22, Fault::Slot));
    assert_eq!(fault("// nothing"), (1, 1, Fault::Empty));
}

#[test]
fn names_and_aliases_are_not_ids() {
    for entity in [
        r#"Keyhearth::Key::"alias/payments""#,
        r#"Keyhearth::Principal::"alice""#,
        r#"Keyhearth::Tenant::"acme""#,
        r#"Keyhearth::Key::"01900000-0000-7000-8000-00000000000A""#,
    ] {
        let what = Fault::NotAnId(entity.to_owned());
        let condition = format!("permit (principal, action, resource)\nunless {{ principal == {entity} }};");
        assert_eq!(fault(&condition), (2, 23, what.clone()));
        let scope = format!("permit (principal, action, resource == {entity});");
        assert_eq!(fault(&scope), (1, 40, what));
    }
}

#[test]
fn limits_are_named() {
    let one = "permit (principal, action, resource);";
    let long = format!("{one}//{}", "x".repeat(POLICY_BYTES_MAX));
    assert_eq!(refused(&long), PolicyError::TooLong(name("p0")));

    let many = one.repeat(STATEMENTS_MAX / 4 + 1);
    let four = policies(&[many.as_str(); 4]);
    assert_eq!(Compiled::new(TENANT, &four).err(), Some(PolicyError::TooManyStatements));

    let padded = format!("{one}//{}", "x".repeat(POLICY_BYTES_MAX - one.len() - 2));
    let seventeen = policies(&[padded.as_str(); TEXT_BYTES_MAX / POLICY_BYTES_MAX + 1]);
    assert_eq!(Compiled::new(TENANT, &seventeen).err(), Some(PolicyError::TooMuchText));

    let too_many = policies(&vec![""; POLICIES_MAX + 1]);
    assert_eq!(Compiled::new(TENANT, &too_many).err(), Some(PolicyError::TooManyPolicies));
    let error = keyhearth_core::Error::from(&PolicyError::TooManyPolicies);
    assert_eq!(error, keyhearth_core::Error::TooLarge { field: "policies", limit: POLICIES_MAX });
}

#[test]
fn unchanged_policies_are_taken_over_and_changed_ones_are_not() {
    let [sign, encrypt] = ["sign", "encrypt"].map(|operation| {
        format!(r#"permit (principal, action == Keyhearth::Action::"{operation}", resource);"#)
    });
    let before = compile(&[&sign, &sign]);
    let after = before.with(&policies(&[&sign, &encrypt])).unwrap();
    let verdict = |policies: &Compiled, operation| ask(policies, &alice([]), operation, Some(&key(&[])));
    assert_eq!(verdict(&before, Operation::Sign), Verdict::Allow(by(&["p0", "p1"])));
    assert_eq!(verdict(&after, Operation::Sign), Verdict::Allow(by(&["p0"])));
    assert_eq!(verdict(&after, Operation::Encrypt), Verdict::Allow(by(&["p1"])));
    assert!(after.with(&policies(&[&sign, "no"])).is_err());
}

#[test]
fn depth_is_bounded_before_parsing() {
    let when = |condition: &str| format!("permit (principal, action, resource) when {{ {condition} }};");
    let brackets = |n: usize| format!("{}true{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(fault(&when(&brackets(NESTING_MAX))).2, Fault::TooDeep);
    assert_eq!(fault(&when(&"if true then true else ".repeat(NESTING_MAX + 1))).2, Fault::TooDeep);
    for (before, chain, operators, after) in CHAINS {
        let chained =
            |n: usize| format!("permit (principal, action, resource) {before}{}{after};", chain.repeat(n));
        assert_eq!(fault(&chained(OPERATORS_MAX / operators + 1)).2, Fault::TooManyOperators, "{chain}");
        // Below the limit, whatever Cedar makes of it fits the stack of a test's thread.
        let _ = Compiled::new(TENANT, &policies(&[&chained(OPERATORS_MAX / operators - 10)]));
    }
    // As deep and as wide as it goes, on the stack of a test's thread, and evaluated there too.
    let widest = vec!["principal.name == \"alice\""; OPERATORS_MAX / 2 - 20].join(" && ");
    let policies = compile(&[&when(&format!("{} && {widest}", brackets(NESTING_MAX - 2)))]);
    let verdict = ask(&policies, &alice([]), Operation::Sign, Some(&key(&[])));
    assert_eq!(verdict, Verdict::Allow(by(&["p0"])));
    // Brackets and operators in strings and comments do not count.
    compile(&[&when(&format!("principal.name != \"\\\"{}\" // {}\n", "(".repeat(100), "if ".repeat(100)))]);
}

#[test]
fn statements_of_one_policy_are_numbered_in_order() {
    let permit =
        |operation| format!(r#"permit (principal, action == Keyhearth::Action::"{operation}", resource);"#);
    let text: Vec<String> = schema::decided().take(12).map(|operation| permit(operation.name())).collect();
    let policies = compile(&[&text.join("\n")]);
    for (operation, number) in schema::decided().take(12).zip(1..) {
        let name = if number == 1 { "p0".to_owned() } else { format!("p0#{number}") };
        let verdict = ask(&policies, &alice([]), operation, Some(&key(&[])));
        assert_eq!(verdict, Verdict::Allow(by(&[&name])), "{}", operation.name());
    }
}

/// What puts a level on the syntax tree each time it is repeated: what is before it, itself, its operators
/// and brackets, what is after it.
const CHAINS: &[(&str, &str, usize, &str)] = &[
    ("when { ", "true && ", 1, "true }"),
    ("when { ", "true || ", 1, "true }"),
    ("when { 1 == ", "1 + ", 1, "1 }"),
    ("when { 1 == ", "1 * ", 1, "1 }"),
    ("when { context", ".context", 1, " }"),
    ("when { context has context", ".context", 1, " }"),
    ("when { context", "[\"context\"]", 1, " }"),
    ("when { ip", "(\"1\")", 1, " }"),
    ("when { ", "!", 1, "true }"),
    ("when { ", "-", 1, "1 == 1 }"),
    ("", "when { true }", 1, ""),
    ("unless { false ", "|| resource.hasTag(\"a\")", 3, "}"),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_never_panics(text in "[ -~\n\u{e4}]{0,300}") {
        let _ = Compiled::new(TENANT, &policies(&[&text]));
    }

    #[test]
    fn garbage_of_cedar_words_never_panics(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        let _ = Compiled::new(TENANT, &policies(&[&words.join(" ")]));
        let condition = format!("permit (principal, action, resource) when {{ {} }};", words.join(" "));
        let _ = Compiled::new(TENANT, &policies(&[&condition]));
    }
}

const WORDS: &[&str] = &[
    "permit",
    "forbid",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    ";",
    ",",
    ".",
    "principal",
    "action",
    "resource",
    "context",
    "when",
    "unless",
    "if",
    "then",
    "else",
    "in",
    "is",
    "has",
    "like",
    "==",
    "!=",
    "<",
    "&&",
    "||",
    "!",
    "-",
    "+",
    "*",
    "true",
    "1",
    "9223372036854775808",
    "\"",
    "\"a\"",
    "\\",
    "//",
    "@id",
    "?principal",
    "::",
    "Keyhearth::Key",
    "hasTag(\"x\")",
    "getTag(\"x\")",
    "ip(\"1\")",
    "datetime(\"1\")",
    "\n",
    "ö",
];
