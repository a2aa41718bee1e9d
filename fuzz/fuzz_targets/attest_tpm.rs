//! Quotes with their keys, logs and HCL reports: whatever comes, there are claims or a refusal, and what is accepted is
//! not accepted any more when the quote is changed.
//!
//! The input is a list of files, each after its length in two bytes: the evidence, a root to believe, endorsements. The
//! machine was enrolled with whatever key it names.
#![no_main]

use keyhearth_attest::tpm::Evidence;
use keyhearth_attest::{Demands, Endorsements, Revocation, Roots, appraise};
use keyhearth_crypto::digest::sha256;
use keyhearth_fuzz::files;
use libfuzzer_sys::fuzz_target;

/// 2025-07-01, when the certificates of the seeds are valid.
const NOW_S: u64 = 1_751_328_000;

fuzz_target!(|data: &[u8]| {
    let mut files = files(data);
    let Some(evidence) = files.next() else { return };
    let roots = match files.next().map(|root| Roots::built_in().with("fuzz", root)) {
        Some(Ok(roots)) => roots,
        Some(Err(_)) | None => Roots::built_in(),
    };
    let mut endorsements = Endorsements::default();
    files.for_each(|file| drop(endorsements.add(file)));
    let document = Evidence::decode(evidence);
    let named = document.as_ref().ok().and_then(|document| document.ak.as_ref());
    let enrolled_aks = named.map(|ak| sha256(&[ak])).into_iter().collect();
    let demands = Demands { revocation: Revocation::IfGiven, enrolled_aks, ..Demands::at(NOW_S) };
    let Ok(claims) = appraise(evidence, &endorsements, &roots, &demands) else { return };
    serde_json::to_string(&claims).expect("claims are JSON");
    let Ok(mut document) = document else { return };
    let last = document.quote.last_mut().expect("a quote is not empty");
    *last ^= 1;
    let changed = appraise(&document.encode(), &endorsements, &roots, &demands);
    assert!(changed.is_err(), "a changed quote is accepted");
});
