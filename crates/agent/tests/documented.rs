//! What the document of the agent lists is what there is.

use std::fs;
use std::path::Path;

use keyhearth_agent::luks::Rule;

#[test]
fn every_rule_of_headers_is_documented_in_its_words() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/boot/agent.md");
    let text = fs::read_to_string(path).unwrap();
    let documented: Vec<_> = text.lines().filter(|line| line.starts_with("| `luks-")).collect();
    let rules = Rule::ALL.iter().map(|rule| format!("| `{}` | {} |", rule.code(), rule.sentence()));
    assert_eq!(documented, rules.collect::<Vec<_>>());
}
