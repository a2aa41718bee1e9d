//! `docs/boot/release.md` lists every reason to refuse a boot once, as the table in the source has it.

use std::fs;
use std::path::Path;

use keyhearth_core::machine::Reason;

#[test]
fn every_reason_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/boot/release.md");
    let text = fs::read_to_string(path).expect("the document is there");
    let (_, reasons) = text.split_once("## Refusals").expect("it has that section");
    let documented: Vec<_> = reasons.lines().filter(|line| line.starts_with("| `")).collect();
    let ours = |reason: &Reason| format!("| `{}` | {} |", reason.code(), reason.text());
    assert_eq!(documented, Reason::ALL.iter().map(ours).collect::<Vec<_>>());
}
