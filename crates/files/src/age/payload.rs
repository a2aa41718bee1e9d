//! The payload of a file: chunks that are sealed one by one, in any order and from any thread.
//!
//! Source: C2SP age §"Payload".

use keyhearth_crypto::kdf;
use keyhearth_crypto::random;
use keyhearth_crypto::stream::{self, ChunkKey};
use zeroize::Zeroizing;

use super::FileKey;
use crate::Error;
use crate::chunks::{Chunks, Geometry};

/// Bytes of a chunk in plaintext; the last one may be shorter.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Bytes of the tag after each chunk.
pub const TAG_BYTES: usize = stream::TAG_BYTES;
/// Bytes of a sealed chunk that is not the last.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// Bytes of the nonce that a payload begins with.
pub const NONCE_BYTES: usize = 16;
const GEOMETRY: Geometry = Geometry {
    chunk_bytes: CHUNK_BYTES,
    added_bytes: TAG_BYTES,
    added_bytes_last: TAG_BYTES,
    has_empty_last: false,
    chunks_max: u64::MAX,
};

/// What seals and opens the chunks of one payload.
pub struct Payload(ChunkKey);

impl Payload {
    /// A new payload of the file with this key: the nonce that it begins with, and what seals its chunks.
    ///
    /// # Errors
    /// [`Error::Machine`] without randomness.
    pub fn create(file_key: &FileKey) -> Result<([u8; NONCE_BYTES], Self), Error> {
        let mut nonce = [0; NONCE_BYTES];
        random::fill("keyhearth/payload", &mut nonce)?;
        Ok((nonce, Self::new(file_key, &nonce)?))
    }

    /// The payload that begins with `nonce`.
    ///
    /// # Errors
    /// [`Error::Machine`] if no key can be derived.
    pub fn new(file_key: &FileKey, nonce: &[u8; NONCE_BYTES]) -> Result<Self, Error> {
        let mut key = Zeroizing::new([0; stream::KEY_BYTES]);
        kdf::hkdf(kdf::Hash::Sha256, nonce, file_key.expose(), &[b"payload"], &mut *key)?;
        Ok(Self(ChunkKey::chacha20_poly1305(&key)))
    }
}

impl Chunks for Payload {
    fn geometry(&self) -> Geometry {
        GEOMETRY
    }

    fn seal(&self, number: u64, is_last: bool, sealed: &mut [u8]) -> Result<(), Error> {
        let (content, tag) = sealed.split_at_mut(sealed.len() - TAG_BYTES);
        tag.copy_from_slice(&self.0.seal(nonce(number, is_last), &[], content)?);
        Ok(())
    }

    fn open<'c>(&self, number: u64, is_last: bool, sealed: &'c mut [u8]) -> Result<&'c mut [u8], Error> {
        Ok(self.0.open(nonce(number, is_last), &[], sealed)?)
    }
}

fn nonce(number: u64, is_last: bool) -> [u8; stream::NONCE_BYTES] {
    let mut nonce = [0; stream::NONCE_BYTES];
    nonce[3..11].copy_from_slice(&number.to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}

/// Bytes of the payload of a file of so many bytes; `None` if no file can have so many.
#[must_use]
pub fn sealed_bytes(plaintext_bytes: u64) -> Option<u64> {
    GEOMETRY.sealed_bytes(plaintext_bytes)?.checked_add(NONCE_BYTES as u64)
}

/// Bytes of plaintext in a payload of so many bytes, its nonce included. Only opening it tells whether that is true.
///
/// # Errors
/// [`Error::Malformed`] if no payload has so many.
pub fn plaintext_bytes(sealed_bytes: u64) -> Result<u64, Error> {
    let chunks = sealed_bytes.saturating_sub(NONCE_BYTES as u64);
    Ok(GEOMETRY.extent_of_sealed(chunks)?.plaintext_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn lengths_go_there_and_back(len in 0..5 * CHUNK_BYTES as u64) {
            prop_assert_eq!(plaintext_bytes(sealed_bytes(len).unwrap()).unwrap(), len);
        }

        #[test]
        fn each_length_of_a_payload_is_that_of_one_plaintext_or_of_none(sealed in 0..3 * CHUNK_BYTES as u64) {
            if let Ok(len) = plaintext_bytes(sealed) {
                prop_assert_eq!(sealed_bytes(len), Some(sealed));
            }
        }
    }

    #[test]
    fn lengths_at_the_edges() {
        let (chunk, head) = (CHUNK_BYTES as u64, (NONCE_BYTES + TAG_BYTES) as u64);
        for (plaintext, sealed) in
            [(0, head), (1, head + 1), (chunk, head + chunk), (chunk + 1, head + chunk + 17)]
        {
            assert_eq!(sealed_bytes(plaintext), Some(sealed));
            assert_eq!(plaintext_bytes(sealed).unwrap(), plaintext);
        }
        for sealed in [0, 16, head - 1, head + chunk + 1, head + chunk + 16] {
            assert!(plaintext_bytes(sealed).is_err(), "{sealed}");
        }
        assert_eq!(sealed_bytes(u64::MAX), None);
    }
}
