//! Ed25519 over whole messages: the signatures of log checkpoints and of their witnesses.
//!
//! Not for keys that users own; those are in [`crate::key`]. Called by the log in `keyhearth-core`.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::Error;

/// Bytes of an Ed25519 seed and of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A private key that signs checkpoints.
///
/// The library holds the expanded key on its own heap, which is not locked memory: whoever reads it
/// can forge checkpoints, but can read no key that users own.
pub struct NoteKey(Ed25519KeyPair);

impl NoteKey {
    /// Derives the key pair of a seed.
    ///
    /// # Errors
    /// [`Error::Internal`] if the library refuses; it does so for no seed.
    ///
    /// Source: RFC 8032 §5.1.5.
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Result<Self, Error> {
        Ed25519KeyPair::from_seed_unchecked(seed)
            .map(Self)
            .map_err(|_| Error::Internal("Ed25519 seed refused"))
    }

    /// The public key, as it is published to verifiers.
    pub fn public(&self) -> [u8; KEY_BYTES] {
        let mut public = [0; KEY_BYTES];
        public.copy_from_slice(self.0.public_key().as_ref());
        public
    }

    /// Signs `message`; equal messages give equal signatures.
    ///
    /// Source: RFC 8032 §5.1.6.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl std::fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NoteKey")
    }
}

/// Checks that the holder of `public` signed `message`.
///
/// # Errors
/// [`Error::NotAuthentic`] if not, or if the key or the signature is malformed.
///
/// Source: RFC 8032 §5.1.7.
pub fn verify(public: &[u8; KEY_BYTES], message: &[u8], signature: &[u8]) -> Result<(), Error> {
    UnparsedPublicKey::new(&ED25519, public).verify(message, signature).map_err(|_| Error::NotAuthentic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_message_signs_as_in_rfc_8032() {
        let seed = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
            0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = NoteKey::from_seed(&seed).unwrap();
        assert_eq!(key.public()[..4], [0xd7, 0x5a, 0x98, 0x01]);
        let signature = key.sign(b"");
        assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
        assert_eq!(verify(&key.public(), b"", &signature), Ok(()));
        assert_eq!(verify(&key.public(), b"x", &signature), Err(Error::NotAuthentic));
        assert_eq!(verify(&key.public(), b"", &signature[1..]), Err(Error::NotAuthentic));
    }
}
