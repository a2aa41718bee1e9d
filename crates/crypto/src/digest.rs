//! SHA-256 over bytes that lie in several places, SHA-384, SHA-512, and SHA-1 for what is named by it.

use aws_lc_rs::digest::{
    Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA256_OUTPUT_LEN, SHA384, SHA384_OUTPUT_LEN, SHA512,
    SHA512_OUTPUT_LEN, digest,
};

/// Up to so many bytes are put together before they are hashed: the library's hashing in parts begins with an
/// allocation, which takes longer than hashing so few.
const JOINED_BYTES_MAX: usize = 256;

/// Hashes the concatenation of `parts`.
///
/// The parts are not framed: a caller whose parts vary in length adds the lengths itself. Several short ones are
/// copied to where nothing wipes them: see [`sha256_of_secrets`].
///
/// Source: FIPS 180-4 §6.2.
pub fn sha256(parts: &[&[u8]]) -> [u8; SHA256_OUTPUT_LEN] {
    if let [whole] = parts {
        return bytes(&digest(&SHA256, whole));
    }
    let mut joined = [0; JOINED_BYTES_MAX];
    let mut len = 0;
    for part in parts {
        let Some(place) = joined.get_mut(len..len + part.len()) else { return sha256_of_secrets(parts) };
        place.copy_from_slice(part);
        len += part.len();
    }
    bytes(&digest(&SHA256, &joined[..len]))
}

/// Hashes by SHA-1, for names that others made so. Collisions can be found: nothing may rest on there being none.
///
/// Source: FIPS 180-4 §6.1.
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut hash = [0; 20];
    hash.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
    hash
}

/// Hashes by SHA-384.
///
/// Source: FIPS 180-4 §6.5.
pub fn sha384(bytes: &[u8]) -> [u8; SHA384_OUTPUT_LEN] {
    let mut hash = [0; SHA384_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA384, bytes).as_ref());
    hash
}

/// Hashes by SHA-512.
///
/// Source: FIPS 180-4 §6.4.
pub fn sha512(bytes: &[u8]) -> [u8; SHA512_OUTPUT_LEN] {
    let mut hash = [0; SHA512_OUTPUT_LEN];
    hash.copy_from_slice(digest(&SHA512, bytes).as_ref());
    hash
}

/// The same of parts that must not be copied.
pub fn sha256_of_secrets(parts: &[&[u8]]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut hash = Sha256::default();
    parts.iter().for_each(|part| hash.update(part));
    hash.finish()
}

fn bytes(digest: &Digest) -> [u8; SHA256_OUTPUT_LEN] {
    let mut bytes = [0; SHA256_OUTPUT_LEN];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

/// The same of bytes that come one part after the other, such as a file's.
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256 {
    /// Appends `part`.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The hash of all parts.
    #[must_use]
    pub fn finish(self) -> [u8; SHA256_OUTPUT_LEN] {
        bytes(&self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abc_hashes_to_the_examples_of_the_standard() {
        let expected = [
            0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
            0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
        ];
        assert_eq!(sha256(&[b"abc"]), expected);
        assert_eq!(sha256(&[b"a", b"", b"bc"]), expected);
        let expected = [
            0xcb, 0x00, 0x75, 0x3f, 0x45, 0xa3, 0x5e, 0x8b, 0xb5, 0xa0, 0x3d, 0x69, 0x9a, 0xc6, 0x50, 0x07,
            0x27, 0x2c, 0x32, 0xab, 0x0e, 0xde, 0xd1, 0x63, 0x1a, 0x8b, 0x60, 0x5a, 0x43, 0xff, 0x5b, 0xed,
            0x80, 0x86, 0x07, 0x2b, 0xa1, 0xe7, 0xcc, 0x23, 0x58, 0xba, 0xec, 0xa1, 0x34, 0xc8, 0x25, 0xa7,
        ];
        assert_eq!(sha384(b"abc"), expected);
    }

    #[test]
    fn how_bytes_are_cut_does_not_matter() {
        let whole: Vec<u8> = (0..=u8::MAX).cycle().take(3 * JOINED_BYTES_MAX).collect();
        for len in [0, 1, JOINED_BYTES_MAX - 1, JOINED_BYTES_MAX, JOINED_BYTES_MAX + 1, whole.len()] {
            let (expected, cut) = (sha256(&[&whole[..len]]), len / 3);
            let parts = [&whole[..cut], &[], &whole[cut..len]];
            assert_eq!((sha256(&parts), sha256_of_secrets(&parts)), (expected, expected), "{len}");
        }
    }
}
