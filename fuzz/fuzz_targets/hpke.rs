//! Nobody who lacks the recipient's public key makes a message for it.
#![no_main]

use std::sync::LazyLock;

use keyhearth_crypto::hpke::{self, KeyPair, Suite};
use libfuzzer_sys::fuzz_target;

static RECIPIENTS: LazyLock<[(Suite, KeyPair); 2]> = LazyLock::new(|| {
    [Suite::X25519, Suite::X25519MlKem768]
        .map(|suite| (suite, hpke::generate(suite).expect("randomness and locked memory")))
});

fuzz_target!(|data: &[u8]| {
    for (suite, recipient) in &*RECIPIENTS {
        assert!(hpke::open(*suite, &recipient.private, b"fuzz", b"", data).is_err());
        if let Ok(message) = hpke::seal(*suite, data, b"fuzz", b"", b"plaintext") {
            assert_eq!(message.len(), suite.overhead_bytes() + 9);
        }
    }
});
