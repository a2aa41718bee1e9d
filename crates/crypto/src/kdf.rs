//! Deriving keys from keys, and HMAC-SHA256 for everything that must not be altered.
//!
//! Passphrases are not keys: they go through [`crate::passphrase`].

use aws_lc_rs::{hkdf as library, hmac};

use crate::Error;

/// Length of an HMAC-SHA256 and of one block that [`kbkdf`] derives.
pub const MAC_BYTES: usize = 32;

/// Derives `out` from `key` in counter mode with HMAC-SHA256; `label` names the purpose.
///
/// Block i, counting from 1, is `HMAC(key, i ‖ label ‖ 0x00 ‖ context ‖ L)`: i and L (the length of `out` in
/// bits) are 32 bits, big endian. `out` is shorter than 512 MiB. The parts of `context` are concatenated:
/// all but one need a fixed length.
///
/// The length of `out` is part of every block, so a shorter output is not the start of a longer one.
///
/// Source: SP 800-108r1 §4.1.
pub fn kbkdf(key: &[u8], label: &str, context: &[&[u8]], out: &mut [u8]) {
    derive(&hmac::Key::new(hmac::HMAC_SHA256, key), label, context, out);
}

/// As [`kbkdf`], from a key that is prepared for HMAC-SHA256.
pub(crate) fn derive(key: &hmac::Key, label: &str, context: &[&[u8]], out: &mut [u8]) {
    let bits = u32::try_from(out.len() * 8).expect("`out` is shorter than 512 MiB").to_be_bytes();
    for (counter, block) in (1u32..).zip(out.chunks_mut(MAC_BYTES)) {
        let mut mac = hmac::Context::with_key(key);
        mac.update(&counter.to_be_bytes());
        mac.update(label.as_bytes());
        mac.update(&[0]);
        context.iter().for_each(|part| mac.update(part));
        mac.update(&bits);
        block.copy_from_slice(&mac.sign().as_ref()[..block.len()]);
    }
}

/// The hash function under HKDF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Hash {
    Sha256,
    Sha512,
}

/// Fills `out` from `material` by HKDF, extract and expand; the parts of `info` are concatenated.
///
/// # Errors
/// [`Error::TooLarge`] if `out` is longer than 255 hashes.
///
/// Source: RFC 5869 §2.
pub fn hkdf(hash: Hash, salt: &[u8], material: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Error> {
    struct Length(usize);
    impl library::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let (algorithm, hash_bytes) = match hash {
        Hash::Sha256 => (library::HKDF_SHA256, 32),
        Hash::Sha512 => (library::HKDF_SHA512, 64),
    };
    let refusal = Error::TooLarge { limit: 255 * hash_bytes };
    let extracted = library::Salt::new(algorithm, salt).extract(material);
    let expanded = extracted.expand(info, Length(out.len())).map_err(|_| refusal)?;
    expanded.fill(out).map_err(|_| refusal)
}

/// A key for HMAC-SHA256, of any length. `Debug` does not show it.
#[derive(Clone, Debug)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// Prepares `key`.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The MAC of the concatenation of `parts`; the caller frames parts of variable length.
    ///
    /// Source: FIPS 198-1.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(self.context(parts).sign().as_ref());
        mac
    }

    /// Whether `mac` is the MAC of `parts`, in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], mac: &[u8; MAC_BYTES]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.context(parts).sign().as_ref(), mac).is_ok()
    }

    fn context(&self, parts: &[&[u8]]) -> hmac::Context {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        context
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn kbkdf_is_that_of_the_library(
            key in prop::collection::vec(any::<u8>(), 1..100),
            label in "[a-z/0-9]{0,40}",
            context in prop::collection::vec(any::<u8>(), 0..100),
            len in 1usize..200,
        ) {
            let (mut ours, mut theirs) = (vec![0; len], vec![0; len]);
            let middle = context.len() / 2;
            kbkdf(&key, &label, &[&context[..middle], &context[middle..]], &mut ours);
            let bits = u32::try_from(len * 8).unwrap().to_be_bytes();
            let info = [label.as_bytes(), &[0], &context, &bits].concat();
            let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).unwrap();
            kbkdf_ctr_hmac(algorithm, &key, &info, &mut theirs).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn hkdf_gives_the_examples_of_the_standard() {
        // RFC 5869 appendix A.1 and A.3.
        let mut out = [0; 42];
        hkdf(Hash::Sha256, &[0; 0], &[0x0b; 22], &[], &mut out).unwrap();
        assert_eq!(out[..8], [0x8d, 0xa4, 0xe7, 0x75, 0xa5, 0x63, 0xc1, 0x8f]);
        let salt: Vec<u8> = (0..13).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        hkdf(Hash::Sha256, &salt, &[0x0b; 22], &[&info[..3], &info[3..]], &mut out).unwrap();
        assert_eq!(out[..8], [0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a]);
        let mut long = vec![0; 255 * 64 + 1];
        let refused = hkdf(Hash::Sha512, &salt, &[0x0b; 22], &[], &mut long);
        assert_eq!(refused, Err(Error::TooLarge { limit: 255 * 64 }));
    }

    #[test]
    fn altered_mac_or_message_is_refused() {
        let key = MacKey::new(b"key");
        let mac = key.sign(&[b"mess", b"age"]);
        assert!(key.verify(&[b"message"], &mac));
        assert!(!key.verify(&[b"messagf"], &mac) && !MacKey::new(b"kex").verify(&[b"message"], &mac));
        for bit in 0..256 {
            let mut altered = mac;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(!key.verify(&[b"message"], &altered));
        }
    }
}
