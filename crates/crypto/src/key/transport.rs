//! Bringing keys of any length in and out under an RSA key.

use super::{Key, PublicKey};
use crate::{Error, algorithm::Mechanism, keywrap, secret::SecretBytes};

const AES_KEY_BYTES: usize = 32;

/// Wraps `key_bytes` under a fresh AES-256 key by KWP, and that key under `recipient` by RSA-OAEP.
///
/// The result is the OAEP ciphertext, as long as the modulus, followed by the wrapped key. `oaep` names the
/// hash of both hash and mask. AWS calls this `RSA_AES_KEY_WRAP_SHA_256`.
///
/// # Errors
/// [`Error::Unsupported`] if `recipient` is no RSA key or `oaep` no OAEP mechanism; what
/// [`keywrap::kwp_wrap`] says about `key_bytes`.
///
/// Source: PKCS#11 v3.1, mechanism `CKM_RSA_AES_KEY_WRAP`.
pub fn rsa_aes_kwp_wrap(recipient: &PublicKey, oaep: Mechanism, key_bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let aes_key = SecretBytes::random(AES_KEY_BYTES)?;
    let mut wrapped = recipient.wrap(oaep, aes_key.expose())?;
    wrapped.extend_from_slice(&keywrap::kwp_wrap(aes_key.expose(), key_bytes)?);
    Ok(wrapped)
}

/// Reverses [`rsa_aes_kwp_wrap`]; AES keys of 16 bytes are taken as well.
///
/// # Errors
/// [`Error::Unsupported`] as there, [`Error::NotAuthentic`] for every fault of `wrapped`.
///
/// Source: as there.
pub fn rsa_aes_kwp_unwrap(recipient: &Key, oaep: Mechanism, wrapped: &[u8]) -> Result<SecretBytes, Error> {
    let modulus_bytes = usize::from(recipient.algorithm().info().key_bits / 8);
    let (wrapped_aes, wrapped_key) = wrapped.split_at_checked(modulus_bytes).ok_or(Error::NotAuthentic)?;
    let aes_key = recipient.unwrap(oaep, wrapped_aes)?;
    keywrap::kwp_unwrap(aes_key.expose(), wrapped_key).map_err(|_| Error::NotAuthentic)
}
