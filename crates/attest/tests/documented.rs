//! `docs/boot/appraisal.md` lists every reason once, as the table in the source has it.

use std::fs;
use std::path::Path;

use keyhearth_attest::Reason;

#[test]
fn every_reason_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/boot/appraisal.md");
    let text = fs::read_to_string(path).expect("the document is there");
    let (_, reasons) = text.split_once("## Reasons").expect("it has that section");
    let documented: Vec<_> = reasons.lines().filter(|line| line.starts_with("| `")).collect();
    let ours = |reason: &Reason| format!("| `{}` | {} |", reason.code(), reason.sentence());
    assert_eq!(documented, Reason::ALL.iter().map(ours).collect::<Vec<_>>());
}
