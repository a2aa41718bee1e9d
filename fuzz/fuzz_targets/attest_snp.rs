//! SNP reports with their endorsements: whatever comes, there are claims or a refusal, and what is accepted is not
//! accepted any more when it is changed.
//!
//! The input is a list of files, each after its length in two bytes: the evidence, a root to believe, endorsements.
#![no_main]

use keyhearth_attest::{Demands, Endorsements, Revocation, Roots, appraise};
use keyhearth_fuzz::files;
use libfuzzer_sys::fuzz_target;

/// 2025-07-01, when the certificates of the seeds are valid.
const NOW_S: u64 = 1_751_328_000;

fuzz_target!(|data: &[u8]| {
    let mut files = files(data);
    let Some(evidence) = files.next() else { return };
    let roots = match files.next().map(|root| Roots::built_in().with_amd("fuzz", root)) {
        Some(Ok(roots)) => roots,
        Some(Err(_)) | None => Roots::built_in(),
    };
    let mut endorsements = Endorsements::default();
    files.for_each(|file| drop(endorsements.add(file)));
    let demands = Demands { revocation: Revocation::IfGiven, legacy_reports: true, ..Demands::at(NOW_S) };
    let Ok(claims) = appraise(evidence, &endorsements, &roots, &demands) else { return };
    serde_json::to_string(&claims).expect("claims are JSON");
    let mut changed = evidence.to_vec();
    changed[0x90] ^= 1;
    assert!(
        appraise(&changed, &endorsements, &roots, &demands).is_err(),
        "a changed measurement is accepted"
    );
});
