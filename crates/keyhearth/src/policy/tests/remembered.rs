use cedar_policy::{Decision, PolicySet};
use keyhearth_core::principal::Fingerprint;
use proptest::prelude::*;

use super::*;
use crate::policy::question::translate;

/// What Cedar says of all statements in one set, for policies that can always be evaluated.
fn in_one_set(policies: &Compiled, question: &Question<'_>) -> Verdict {
    let templates = ROLES.iter().chain(GUARDS).map(|&(name, text)| statement::template(name, text).policy);
    let own = policies.statements().map(|statement| statement.policy.clone());
    let set = PolicySet::from_policies(templates.chain(own)).unwrap();
    let (request, entities) = translate(TENANT, question, question.now.latest).unwrap();
    let response = cedar_policy::Authorizer::new().is_authorized(&request, &set, &entities);
    let mut names: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    names.sort_unstable();
    match response.decision() {
        Decision::Allow => Verdict::Allow(names.into()),
        Decision::Deny if names.is_empty() => Verdict::Silent,
        Decision::Deny => Verdict::Forbid(names.into()),
    }
}

/// One policy for each thing that policies can read, over the same few values that questions use.
const READERS: &[&str] = &[
    r#"permit (principal, action == Keyhearth::Action::"encrypt", resource) when { resource.hasTag("a") };"#,
    r#"forbid (principal, action in Keyhearth::Action::"use", resource)
       when { resource.hasTag("b") && resource.getTag("b") == "1" };"#,
    r#"permit (principal, action in Keyhearth::Action::"process", resource)
       when { context.context.hasTag("a") && context.context.getTag("a") == "1" };"#,
    r#"permit (principal, action, resource) when { context.ip.isLoopback() };"#,
    r#"permit (principal, action in Keyhearth::Action::"inspect", resource) when { context.proof == "certificate" };"#,
    r#"forbid (principal, action == Keyhearth::Action::"sign", resource)
       when { context.now >= datetime("2026-11-20T12:00:00Z") };"#,
    r#"permit (principal, action == Keyhearth::Action::"mac", resource)
       when { {all: context}.all.now < datetime("2026-11-20T12:00:00Z") };"#,
    r#"permit (principal, action == Keyhearth::Action::"wrap", resource)
       when { (if true then context else context).ip.isLoopback() };"#,
    r#"permit (principal, action == Keyhearth::Action::"unwrap", resource)
       when { (if principal.name == "x" then context.context else context.context).hasTag("b") };"#,
    r#"permit (principal in Keyhearth::Role::"key-admin", action == Keyhearth::Action::"destroy-key", resource);"#,
    r#"forbid (principal, action == Keyhearth::Action::"describe-key", resource)
       when { resource.folded.contains("b") };"#,
    r#"permit (principal, action == Keyhearth::Action::"decrypt",
       resource == Keyhearth::Key::"08080808-0808-0808-0808-080808080808")
       when { context.context.names.contains("b") || context.ip.isLoopback() };"#,
    r#"permit (principal == Keyhearth::Principal::"05050505-0505-0505-0505-050505050505", action, resource);"#,
    r#"forbid (principal, action == Keyhearth::Action::"encrypt",
       resource == Keyhearth::Key::"08080808-0808-0808-0808-080808080808");"#,
    r#"permit (principal, action == Keyhearth::Action::"decrypt", resource) when { context.lease_seconds < 1 };"#,
];

fn some_pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::btree_map("[ab]", "[12]", 0..2).prop_map(|pairs| pairs.into_iter().collect())
}

#[derive(Clone, Debug)]
struct Asked {
    caller: Caller,
    operation: Operation,
    key: Key,
    context: Vec<(String, String)>,
    lease_seconds: u32,
    now: Now,
}

fn some_question() -> impl Strategy<Value = Asked> {
    let operations = vec![
        Operation::Encrypt,
        Operation::Decrypt,
        Operation::Sign,
        Operation::Mac,
        Operation::Wrap,
        Operation::Unwrap,
        Operation::DestroyKey,
        Operation::DescribeKey,
    ];
    let roles =
        prop::sample::select(vec![None, Some(Role::KeyUser), Some(Role::KeyAdmin), Some(Role::Auditor)]);
    let address = prop::sample::select(vec!["127.0.0.1", "10.0.0.1"]);
    let proof = prop::sample::select(vec![Proof::Local, Proof::Certificate(Fingerprint([1; 32]))]);
    let ms = (0_u64..3).prop_map(|ms| Time::from_unix_ms(NOON.unix_ms() - 1 + ms));
    let now = (ms.clone(), ms).prop_map(|(a, b)| Now { earliest: a.min(b), latest: a.max(b) });
    (
        (5_u8..7, roles, address, proof),
        prop::sample::select(operations),
        (7_u8..9, some_pairs()),
        some_pairs(),
        (now, 0_u32..2),
    )
        .prop_map(
            |((id, role, address, proof), operation, (key_id, tags), context, (now, lease_seconds))| Asked {
                caller: Caller {
                    principal: PrincipalId([id; 16]),
                    proof,
                    address: address.parse().unwrap(),
                    ..alice(role)
                },
                operation,
                key: Key { id: KeyId([key_id; 16]), tags: tags.into_iter().collect(), ..key(&[]) },
                context,
                lease_seconds,
                now,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_remembered_is_what_would_be_decided(
        which in prop::sample::subsequence(READERS, 1..=READERS.len()),
        questions in prop::collection::vec(some_question(), 1..200),
    ) {
        let policies = compile(&which);
        for asked in questions.iter().chain(&questions) {
            let Asked { caller, operation, key, context, lease_seconds, now } = asked;
            let lease_seconds = *lease_seconds;
            let question = Question { caller, operation: *operation, key: Some(key), context, boot: None, lease_seconds, now: *now };
            prop_assert_eq!(policies.authorize(&question), policies.evaluate(&question));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn asking_slices_is_asking_everything(
        which in prop::sample::subsequence(READERS, 1..=READERS.len()),
        questions in prop::collection::vec(some_question(), 1..20),
    ) {
        let policies = compile(&which);
        for Asked { caller, operation, key, context, lease_seconds, now } in &questions {
            let lease_seconds = *lease_seconds;
            let now = Now::exactly(now.latest);
            let question = Question { caller, operation: *operation, key: Some(key), context, boot: None, lease_seconds, now };
            prop_assert_eq!(policies.evaluate(&question), in_one_set(&policies, &question));
        }
    }
}

#[test]
fn only_what_policies_read_tells_questions_apart() {
    let reads = |text: &str| {
        let statements = statement::parse(&name("p"), text).unwrap_or_else(|error| panic!("{error}"));
        let reads = statements[0].reads;
        let names = [
            (reads.now, "now"),
            (reads.ip, "ip"),
            (reads.proof, "proof"),
            (reads.context, "context"),
            (reads.tags, "tags"),
        ];
        names.iter().filter(|(read, _)| *read).map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    };
    let all = "now ip proof context";
    for (index, expected) in ["tags", "tags", "context", "ip", "proof", "now", all, all, "context tags", ""]
        .into_iter()
        .enumerate()
    {
        assert_eq!(reads(READERS[index]), expected, "{}", READERS[index]);
    }
    let strings =
        r#"permit (principal, action, resource) when { {"Var": "context", ".": {left: 1}}.Var == "now" };"#;
    assert_eq!(reads(strings), "", "words in strings read nothing");
    assert_eq!(
        reads(r#"permit (principal, action, resource) when { context["now"] > datetime("2026-01-01") };"#),
        "now"
    );
}

#[test]
fn memory_is_bounded() {
    let policies = compile(&[READERS[2]]);
    let (key, caller) = (key(&[]), alice([]));
    for n in 0..3_000 {
        let context = pairs(&[("a", &format!("{n}{}", "x".repeat(4_000)))]);
        let question = Question {
            caller: &caller,
            operation: Operation::Decrypt,
            key: Some(&key),
            context: &context,
            boot: None,
            lease_seconds: 0,
            now: NOW,
        };
        assert_eq!(policies.authorize(&question), Verdict::Silent);
    }
    assert!(policies.remembered_bytes() <= 4 * 1024 * 1024);
}
