//! A seal record has one spelling, and one that is accepted never asks for absurd work.
#![no_main]

use keyhearth::seal::{RECORD_BYTES_MAX, SealRecord};
use keyhearth_core::time::Time;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(record) = SealRecord::from_bytes(data) else { return };
    assert!(data.len() <= RECORD_BYTES_MAX);
    assert_eq!(record.to_bytes(), data);
    if let Some(mut collector) = record.collector() {
        assert!(collector.add("khshare1-", Time::from_unix_ms(0)).is_err());
        assert_eq!(collector.progress().present, 0);
    }
});
