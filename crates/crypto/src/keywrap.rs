//! AES key wrapping for protocols that demand it: KMIP, PKCS#11, imports and exports.
//!
//! Deterministic: equal inputs give equal outputs, so it shows when two wrapped keys are the same.
//! Keyhearth itself stores keys in [`crate::kh1::envelope`].

use aws_lc_rs::key_wrap::{AES_128, AES_256, AesKek, KeyWrap, KeyWrapPadded};

use crate::Error;
use crate::secret::SecretBytes;

/// The longest key that is wrapped, 4 KiB.
pub const KEY_BYTES_MAX: usize = 4 << 10;

/// Wraps `key` under `kek`; the result is 8 bytes longer.
///
/// `kek` is 16 or 32 bytes. `key` is 16 to 4,096 bytes ([`KEY_BYTES_MAX`]), a multiple of 8.
///
/// # Errors
/// [`Error::Unsupported`] for another `kek` (the library has no AES-192 here), [`Error::Invalid`] or
/// [`Error::TooLarge`] for another length of `key`.
///
/// Source: SP 800-38F §6.2 (KW-AE); RFC 3394 §2.2.1.
pub fn kw_wrap(kek: &[u8], key: &[u8]) -> Result<Vec<u8>, Error> {
    if key.len() < 16 || !key.len().is_multiple_of(8) {
        return Err(Error::Invalid("AES-KW wraps 16 bytes or more, a multiple of 8"));
    }
    bounded(key.len(), KEY_BYTES_MAX)?;
    let mut wrapped = vec![0; key.len() + 8];
    load(kek)?.wrap(key, &mut wrapped).map_err(|_| Error::Internal("AES-KW"))?;
    Ok(wrapped)
}

/// Unwraps what [`kw_wrap`] made.
///
/// # Errors
/// [`Error::NotAuthentic`] if it was not made under `kek` or has an impossible length; as [`kw_wrap`] otherwise.
///
/// Source: SP 800-38F §6.2 (KW-AD); RFC 3394 §2.2.2.
pub fn kw_unwrap(kek: &[u8], wrapped: &[u8]) -> Result<SecretBytes, Error> {
    let kek = load(kek)?;
    bounded(wrapped.len(), KEY_BYTES_MAX + 8)?;
    let len = wrapped.len().checked_sub(8).ok_or(Error::NotAuthentic)?;
    SecretBytes::with_len(len, |key| kek.unwrap(wrapped, key).map(|_| ()).map_err(|_| Error::NotAuthentic))
}

/// Wraps `key` of any length under `kek`; the result is `8 * ceil(len / 8) + 8` bytes.
///
/// `kek` is 16 or 32 bytes. `key` is 1 to 4,096 bytes ([`KEY_BYTES_MAX`]).
///
/// # Errors
/// As [`kw_wrap`].
///
/// Source: SP 800-38F §6.3 (KWP-AE); RFC 5649 §4.1.
pub fn kwp_wrap(kek: &[u8], key: &[u8]) -> Result<Vec<u8>, Error> {
    if key.is_empty() {
        return Err(Error::Invalid("AES-KWP wraps at least 1 byte"));
    }
    bounded(key.len(), KEY_BYTES_MAX)?;
    let mut wrapped = vec![0; key.len().next_multiple_of(8) + 8];
    load(kek)?.wrap_with_padding(key, &mut wrapped).map_err(|_| Error::Internal("AES-KWP"))?;
    Ok(wrapped)
}

/// Unwraps what [`kwp_wrap`] made.
///
/// # Errors
/// As [`kw_unwrap`].
///
/// Source: SP 800-38F §6.3 (KWP-AD); RFC 5649 §4.2.
pub fn kwp_unwrap(kek: &[u8], wrapped: &[u8]) -> Result<SecretBytes, Error> {
    let kek = load(kek)?;
    bounded(wrapped.len(), KEY_BYTES_MAX + 8)?;
    let mut len = 0;
    let padded = SecretBytes::with_len(wrapped.len(), |padded| {
        len = kek.unwrap_with_padding(wrapped, padded).map_err(|_| Error::NotAuthentic)?.len();
        Ok(())
    })?;
    SecretBytes::copy_from(&padded.expose()[..len])
}

fn load(kek: &[u8]) -> Result<AesKek, Error> {
    let cipher = match kek.len() {
        16 => &AES_128,
        32 => &AES_256,
        _ => return Err(Error::Unsupported("AES key wrapping takes a key of 16 or 32 bytes")),
    };
    AesKek::new(cipher, kek).map_err(|_| Error::Internal("AES key"))
}

fn bounded(len: usize, limit: usize) -> Result<(), Error> {
    if len > limit { Err(Error::TooLarge { limit }) } else { Ok(()) }
}
