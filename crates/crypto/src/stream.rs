//! AEADs whose nonces the caller counts: chunks of a file under a key that encrypts that one file.
//!
//! A nonce must never be used twice under the same key. Whoever cannot promise that takes [`crate::kh1`].

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::Error;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;
/// Bytes of the tag that follows each chunk.
pub const TAG_BYTES: usize = 16;

/// A key for the chunks of one message. Safe to use from several threads at once.
pub struct ChunkKey(LessSafeKey);

impl ChunkKey {
    /// For ChaCha20-Poly1305.
    ///
    /// Source: RFC 8439 §2.8.
    #[must_use]
    pub fn chacha20_poly1305(key: &[u8; KEY_BYTES]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has 32 bytes")))
    }

    /// For AES-256-GCM.
    ///
    /// Source: SP 800-38D.
    #[must_use]
    pub fn aes_256_gcm(key: &[u8; KEY_BYTES]) -> Self {
        Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has 32 bytes")))
    }

    /// Encrypts `chunk` in place.
    ///
    /// # Errors
    /// [`Error::Internal`] if the library refuses; `chunk` is then of no use.
    pub fn seal(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        chunk: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(aad), chunk);
        let tag = tag.map_err(|_| Error::Internal("the library does not encrypt a chunk"))?;
        tag.as_ref().try_into().map_err(|_| Error::Internal("a tag of another length"))
    }

    /// Decrypts `chunk` in place, its tag at its end; gives what is before the tag.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`]; the content of `chunk` is then undefined, and no plaintext.
    pub fn open<'c>(
        &self,
        nonce: [u8; NONCE_BYTES],
        aad: &[u8],
        chunk: &'c mut [u8],
    ) -> Result<&'c mut [u8], Error> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::from(aad), chunk).map_err(|_| Error::NotAuthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_opens_only_with_its_key_nonce_and_data() {
        for make in [ChunkKey::chacha20_poly1305, ChunkKey::aes_256_gcm] {
            let (key, other) = (make(&[1; KEY_BYTES]), make(&[2; KEY_BYTES]));
            let mut chunk = *b"a chunk of a file";
            let tag = key.seal([3; NONCE_BYTES], b"data", &mut chunk).unwrap();
            let sealed = [&chunk[..], &tag].concat();
            let open = |key: &ChunkKey, nonce, aad, sealed: &[u8]| {
                key.open([nonce; NONCE_BYTES], aad, &mut sealed.to_vec()).map(|chunk| chunk.to_vec())
            };
            assert_eq!(open(&key, 3, b"data", &sealed).unwrap(), b"a chunk of a file");
            assert!(open(&other, 3, b"data", &sealed).is_err());
            assert!(open(&key, 4, b"data", &sealed).is_err() && open(&key, 3, b"date", &sealed).is_err());
            assert!(open(&key, 3, b"data", &sealed[..TAG_BYTES - 1]).is_err());
            for at in 0..sealed.len() {
                let mut altered = sealed.clone();
                altered[at] ^= 1;
                assert!(open(&key, 3, b"data", &altered).is_err(), "{at}");
            }
        }
    }
}
