use std::fmt::Write as _;

use keyhearth_core::operation::{Group, Scope};

use super::*;

const PAGE: &str = include_str!("../../../../../docs/operate/policy.md");

#[test]
fn the_page_lists_every_action() {
    let mut table = "| group | action | resource | meaning |\n|---|---|---|---|\n".to_owned();
    for group in Group::ALL {
        for row in schema::decided().map(Operation::info).filter(|row| row.group == group) {
            let resource = match row.scope {
                Scope::Key => "Key",
                Scope::Tenant => "Tenant",
                Scope::Platform => "Deployment",
            };
            writeln!(table, "| `{}` | `{}` | {resource} | {} |", group.name(), row.name, row.summary)
                .unwrap();
        }
    }
    let (_, rest) = PAGE.split_once("<!-- generated -->\n").unwrap();
    let (block, _) = rest.split_once("<!-- end -->").unwrap();
    assert_eq!(block, table);
}

#[test]
fn the_examples_on_the_page_are_accepted() {
    let examples: Vec<&str> =
        PAGE.split("```cedar\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 7);
    let examples: Vec<String> = examples
        .iter()
        .map(|text| text.replace(keyhearth_core::policy::THIS_KEY, &format!("Keyhearth::Key::\"{KEY}\"")))
        .collect();
    compile(&examples.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn every_role_is_on_the_page() {
    for role in Role::ALL {
        assert!(PAGE.contains(&format!("| `{}` |", role.name())), "{}", role.name());
    }
}
