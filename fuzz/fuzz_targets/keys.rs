//! What is imported can be loaded, and is stored as it would be stored again.
#![no_main]

use keyhearth_crypto::algorithm::Algorithm;
use keyhearth_crypto::key::{Key, PublicKey, import, import_scalar};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [choice, bytes @ ..] = data else { return };
    let algorithm = Algorithm::ALL[usize::from(*choice) % Algorithm::ALL.len()];
    for stored in [import(algorithm, bytes), import_scalar(algorithm, bytes)].into_iter().flatten() {
        Key::load(algorithm, &stored).expect("what was imported loads");
        let again = import(algorithm, stored.expose()).expect("what was stored is accepted");
        assert!(again.ct_eq(stored.expose()));
    }
    if let Ok(public) = PublicKey::from_der(algorithm, bytes) {
        let again = PublicKey::from_der(algorithm, public.der()).expect("what was written is read");
        assert_eq!(again.der(), public.der());
    }
});
