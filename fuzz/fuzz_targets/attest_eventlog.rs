//! Event logs: whatever comes is refused, or leads to registers. Compared with these it tells facts; compared with others
//! it is refused.
#![no_main]

use keyhearth_attest::eventlog::{Quoted, appraise, replayed};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|log: &[u8]| {
    let _ = appraise(log, &Quoted::Rtmrs(&[[0; 48]; 4]));
    let Ok(mut pcrs) = replayed(log) else { return };
    let facts = appraise(log, &Quoted::Pcrs(&pcrs)).expect("it leads to them");
    serde_json::to_string(&facts).expect("facts are JSON");
    pcrs.entry(7).and_modify(|value| value[0] ^= 1);
    assert!(appraise(log, &Quoted::Pcrs(&pcrs)).is_err(), "another PCR 7 is accepted");
});
