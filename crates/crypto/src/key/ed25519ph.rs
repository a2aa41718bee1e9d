//! Ed25519ph: Ed25519 over the SHA-512 digest of a message, with an empty context.
//!
//! The one mechanism that aws-lc-rs does not give out; curve arithmetic is ed25519-dalek's, for this alone.

use aws_lc_rs::digest;
use ed25519_dalek::ed25519::signature::digest::{
    FixedOutput, HashMarker, Output, OutputSizeUser, Update, consts::U64,
};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};

use super::{Input, REFUSED, UNSUPPORTED, public};
use crate::Error;

/// Signs with the key of this seed, 32 bytes.
///
/// # Errors
/// [`Error::Invalid`] for a digest that is not 64 bytes long.
///
/// Source: RFC 8032 §5.1.6.
pub(super) fn sign(seed: &[u8], input: Input<'_>) -> Result<Vec<u8>, Error> {
    // Wiped when it is dropped, as what is derived from it.
    let key = SigningKey::from_bytes(seed.try_into().map_err(|_| REFUSED)?);
    let signature = key.sign_prehashed(Hashed::of(input)?, None).map_err(|_| REFUSED)?;
    Ok(signature.to_bytes().to_vec())
}

/// Checks a signature of 64 bytes with the public key, 32 bytes. Keys and signatures of small order are refused.
///
/// # Errors
/// [`Error::NotAuthentic`]; [`Error::Invalid`] for a digest that is not 64 bytes long.
///
/// Source: RFC 8032 §5.1.7.
pub(super) fn verify(public: &[u8], input: Input<'_>, signature: &[u8]) -> Result<(), Error> {
    let hashed = Hashed::of(input)?;
    let key = VerifyingKey::try_from(public).map_err(|_| Error::NotAuthentic)?;
    let signature = Signature::from_slice(signature).map_err(|_| Error::NotAuthentic)?;
    key.verify_prehashed_strict(hashed, None, &signature).map_err(|_| Error::NotAuthentic)
}

/// A digest that is there already, in the form in which the library takes one.
#[derive(Clone)]
struct Hashed([u8; 64]);

impl Hashed {
    fn of(input: Input<'_>) -> Result<Self, Error> {
        let digest = match input {
            Input::Message(message) => digest::digest(&digest::SHA512, message),
            Input::Digest(bytes) => public::imported(Some(&digest::SHA512), bytes)?,
            Input::Mu(_) => return Err(UNSUPPORTED),
        };
        Ok(Self(digest.as_ref().try_into().map_err(|_| REFUSED)?))
    }
}

impl Default for Hashed {
    fn default() -> Self {
        Self([0; 64])
    }
}

impl HashMarker for Hashed {}

impl OutputSizeUser for Hashed {
    type OutputSize = U64;
}

impl Update for Hashed {
    /// Nothing is ever added to a digest.
    fn update(&mut self, _: &[u8]) {}
}

impl FixedOutput for Hashed {
    fn finalize_into(self, out: &mut Output<Self>) {
        out.copy_from_slice(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    /// Source: RFC 8032 §7.3.
    #[test]
    fn the_vector_of_the_standard() {
        let seed = bytes("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42");
        let signature = sign(&seed, Input::Message(b"abc")).unwrap();
        assert_eq!(
            signature,
            bytes(
                "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
                 31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
            )
        );
        let public = SigningKey::from_bytes(seed[..].try_into().unwrap()).verifying_key().to_bytes();
        assert_eq!(verify(&public, Input::Message(b"abc"), &signature), Ok(()));
        let digest = digest::digest(&digest::SHA512, b"abc");
        assert_eq!(verify(&public, Input::Digest(digest.as_ref()), &signature), Ok(()));
        assert_eq!(verify(&public, Input::Message(b"abd"), &signature), Err(Error::NotAuthentic));
    }
}
