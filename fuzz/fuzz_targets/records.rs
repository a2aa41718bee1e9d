//! Stored records: what is read is written, and read as the same again.
#![no_main]

use keyhearth_core::entry::Entry;
use keyhearth_core::grant::Grant;
use keyhearth_core::key::{Key, Material};
use keyhearth_core::policy::Policy;
use keyhearth_core::principal::{AccessKey, Principal};
use keyhearth_core::secret::KeptSecret;
use keyhearth_core::tenant::Tenant;
use libfuzzer_sys::fuzz_target;
use minicbor::{Decode, Encode};

fn survives<T: for<'b> Decode<'b, ()> + Encode<()>>(bytes: &[u8]) {
    let written = |record: &T| minicbor::to_vec(record).expect("writing to memory does not fail");
    if let Ok(record) = minicbor::decode::<T>(bytes) {
        let first = written(&record);
        let again = minicbor::decode::<T>(&first).expect("what was written is read");
        assert_eq!(written(&again), first);
    }
}

fuzz_target!(|data: &[u8]| {
    let [kind, bytes @ ..] = data else { return };
    match kind % 9 {
        0 => survives::<Entry>(bytes),
        1 => survives::<Key>(bytes),
        2 => survives::<Material>(bytes),
        3 => survives::<Grant>(bytes),
        4 => survives::<Principal>(bytes),
        5 => survives::<AccessKey>(bytes),
        6 => survives::<Policy>(bytes),
        7 => survives::<Tenant>(bytes),
        _ => survives::<KeptSecret>(bytes),
    }
});
