//! A share that is read is written as it was, and shares combine or say why not.
#![no_main]

use keyhearth_crypto::shamir::{Share, combine};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shares: Vec<_> = text.lines().filter_map(|line| Share::parse(line).ok()).collect();
    for share in &shares {
        let again = Share::parse(&share.to_text()).expect("what was written is read");
        assert_eq!((again.digest(), again.threshold), (share.digest(), share.threshold));
    }
    if let Ok(secret) = combine(&shares) {
        assert_eq!(secret.len(), shares[0].data.len());
    }
});
