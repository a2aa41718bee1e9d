//! TDX quotes with their endorsements: whatever comes, there are claims or a refusal, and what is accepted is not
//! accepted any more when it is changed.
//!
//! The input is a list of files, each after its length in two bytes: the evidence, a root to believe, endorsements.
#![no_main]

use keyhearth_attest::tdx::Evidence;
use keyhearth_attest::{Demands, Endorsements, Roots, appraise};
use keyhearth_fuzz::files;
use libfuzzer_sys::fuzz_target;

/// 2025-07-01, when certificates and collateral of the seeds are valid.
const NOW_S: u64 = 1_751_328_000;
/// A byte of the TD report's `MRTD`, whether six bytes of a body's type and size stand before it or not.
const MEASUREMENT: usize = 48 + 6 + 136;

fuzz_target!(|data: &[u8]| {
    let mut files = files(data);
    let Some(evidence) = files.next() else { return };
    let roots = match files.next().map(|root| Roots::built_in().with_intel("fuzz", root)) {
        Some(Ok(roots)) => roots,
        Some(Err(_)) | None => Roots::built_in(),
    };
    let mut endorsements = Endorsements::default();
    files.for_each(|file| drop(endorsements.add(file)));
    let demands = Demands { sw_hardening: true, ..Demands::at(NOW_S) };
    let Ok(claims) = appraise(evidence, &endorsements, &roots, &demands) else { return };
    serde_json::to_string(&claims).expect("claims are JSON");
    let changed = match Evidence::decode(evidence) {
        Ok(mut document) => {
            document.quote[MEASUREMENT] ^= 1;
            document.encode()
        }
        Err(_) => {
            let mut changed = evidence.to_vec();
            changed[MEASUREMENT] ^= 1;
            changed
        }
    };
    assert!(
        appraise(&changed, &endorsements, &roots, &demands).is_err(),
        "a changed measurement is accepted"
    );
});
