//! No message opens but those we sealed, and those only as they were.
#![no_main]

use keyhearth_crypto::kh1::{self, Context, envelope};
use keyhearth_crypto::secret::SecretBytes;
use libfuzzer_sys::fuzz_target;

const MATERIAL: [u8; kh1::MATERIAL_BYTES] = [7; kh1::MATERIAL_BYTES];

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = kh1::header(data) {
        assert!(kh1::open(&MATERIAL, header.key_id, header.version, &Context::empty(), data).is_err());
    }
    let kek = SecretBytes::copy_from(&MATERIAL).expect("locked memory");
    assert!(envelope::unwrap(&kek, [1; 16], 1, b"", data).is_err());

    let [place, damage, plaintext @ ..] = data else { return };
    let mut message = kh1::seal(&MATERIAL, [1; 16], 1, &Context::empty(), plaintext).expect("it is small");
    let place = usize::from(*place) * message.len() / 256;
    message[place] ^= damage;
    let opened = kh1::open(&MATERIAL, [1; 16], 1, &Context::empty(), &message);
    match opened {
        Ok(opened) => assert!(*damage == 0 && *opened == plaintext),
        Err(_) => assert_ne!(*damage, 0),
    }
});
