//! Texts and bundles of the log: what is read is written, and read as the same again.
#![no_main]

use std::fmt::{Debug, Display};
use std::str::FromStr;

use keyhearth_core::log::{
    Checkpoint, EntryProof, SignedCheckpoint, VerifierKey, WitnessRequest, bundle_entries, push_entry,
};
use libfuzzer_sys::fuzz_target;

fn survives<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        assert_eq!(read.to_string().parse::<T>().expect("what was written is read"), read);
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = str::from_utf8(data) {
        survives::<Checkpoint>(text);
        survives::<SignedCheckpoint>(text);
        survives::<VerifierKey>(text);
        survives::<EntryProof>(text);
        survives::<WitnessRequest>(text);
    }
    let mut bundle = Vec::new();
    if let Ok(entries) = bundle_entries(data).collect::<Result<Vec<_>, _>>() {
        entries.iter().for_each(|entry| push_entry(&mut bundle, entry).expect("it came from a bundle"));
        assert_eq!(bundle, data);
    }
});
