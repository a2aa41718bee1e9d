//! X25519 with keys of their own, for formats that agree on one key for each message.

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use zeroize::Zeroizing;

use crate::Error;
use crate::random;
use crate::secret::SecretBytes;

/// Bytes of a private key, of a public key and of a shared secret.
pub const BYTES: usize = 32;

/// Draws a pair: private, public.
///
/// # Errors
/// [`Error::Internal`] without locked memory or sound randomness.
pub fn generate() -> Result<(SecretBytes, [u8; BYTES]), Error> {
    let private = SecretBytes::with_len(BYTES, |bytes| random::fill("keyhearth/x25519", bytes))?;
    let public = public(private.expose())?;
    Ok((private, public))
}

/// The public key to a private one.
///
/// # Errors
/// [`Error::Internal`] if `private` has not 32 bytes.
///
/// Source: RFC 7748 §6.1.
pub fn public(private: &[u8]) -> Result<[u8; BYTES], Error> {
    let public = load(private)?.compute_public_key().map_err(|_| Error::Internal("X25519 public key"))?;
    public.as_ref().try_into().map_err(|_| Error::Internal("X25519 public key"))
}

/// What both sides know, and nobody else.
///
/// # Errors
/// `refusal` if `peer` is no public key or gives the all-zero secret; [`Error::Internal`] as [`public`].
///
/// Source: RFC 7748 §6.1; RFC 9180 §7.1.4.
pub fn agree(private: &[u8], peer: &[u8], refusal: Error) -> Result<Zeroizing<[u8; BYTES]>, Error> {
    agreement::agree(&load(private)?, UnparsedPublicKey::new(&X25519, peer), refusal, |secret| {
        let mut agreed = Zeroizing::new([0; BYTES]);
        agreed.copy_from_slice(secret);
        Ok(agreed)
    })
}

fn load(private: &[u8]) -> Result<PrivateKey, Error> {
    PrivateKey::from_private_key(&X25519, private).map_err(|_| Error::Internal("X25519 key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_agree_and_a_point_of_low_order_is_refused() {
        let ((a, a_public), (b, b_public)) = (generate().unwrap(), generate().unwrap());
        let ours = agree(a.expose(), &b_public, Error::NotAuthentic).unwrap();
        assert_eq!(ours, agree(b.expose(), &a_public, Error::NotAuthentic).unwrap());
        assert_eq!(agree(a.expose(), &[0; BYTES], Error::NotAuthentic).unwrap_err(), Error::NotAuthentic);
        assert!(agree(a.expose(), &[9; 31], Error::NotAuthentic).is_err() && public(&[1; 31]).is_err());
    }
}
