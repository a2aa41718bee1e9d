//! Key material while it is in this process: in locked memory, zeroed when dropped.

use std::fmt;

use keyhearth_sys::memory::{self, LockedBytes};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::Error;
use crate::random::Drawn;

/// Secret bytes of any length. Not `Clone`, not `PartialEq`, and `Debug` shows the length alone.
pub struct SecretBytes(LockedBytes);

impl SecretBytes {
    /// Draws `len` random bytes, for a new key.
    ///
    /// # Errors
    /// [`Error::Internal`] without locked memory or sound randomness; then no key was made.
    pub fn random(len: usize) -> Result<Self, Error> {
        Self::drawn(len, &Drawn::new()?)
    }

    /// As [`SecretBytes::random`], from what was drawn for this and other purposes.
    pub(crate) fn drawn(len: usize, drawn: &Drawn) -> Result<Self, Error> {
        Self::with_len(len, |bytes| {
            drawn.fill("keyhearth/key", bytes);
            Ok(())
        })
    }

    /// Copies `bytes`, which stay where they are: prefer [`SecretBytes::take_from`].
    ///
    /// # Errors
    /// [`Error::Internal`] without locked memory.
    pub fn copy_from(bytes: &[u8]) -> Result<Self, Error> {
        Self::with_len(bytes.len(), |secret| {
            secret.copy_from_slice(bytes);
            Ok(())
        })
    }

    /// Moves `bytes` in: the source is zeroed, also when this fails.
    ///
    /// # Errors
    /// [`Error::Internal`] without locked memory.
    pub fn take_from(bytes: &mut [u8]) -> Result<Self, Error> {
        let secret = Self::copy_from(bytes);
        bytes.zeroize();
        secret
    }

    /// Lets `fill` compute `len` bytes in place. They are 0 when it is called.
    ///
    /// # Errors
    /// What `fill` returns, or [`Error::Internal`] without locked memory.
    pub fn with_len(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), Error>) -> Result<Self, Error> {
        let mut bytes = LockedBytes::zeroed(len).map_err(|error| {
            Error::Internal(match error {
                memory::Error::LockLimit { .. } => "cannot lock memory: raise RLIMIT_MEMLOCK",
                memory::Error::Exhausted => "the limit of locked memory is reached",
                memory::Error::System(_) => "the system has no memory for secrets",
            })
        })?;
        fill(bytes.expose_mut())?;
        Ok(Self(bytes))
    }

    /// The material itself.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expose().len()
    }

    /// Whether there are no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }

    /// Compares in time that depends on the lengths alone.
    #[must_use]
    pub fn ct_eq(&self, other: &[u8]) -> bool {
        self.expose().ct_eq(other).into()
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_alone() {
        let secret = SecretBytes::copy_from(b"correct horse").unwrap();
        assert_eq!(format!("{secret:?}"), "SecretBytes(13 bytes)");
    }

    #[test]
    fn taken_bytes_leave_nothing_behind() {
        let mut source = *b"material";
        let secret = SecretBytes::take_from(&mut source).unwrap();
        assert_eq!((secret.expose(), source), (&b"material"[..], [0; 8]));
        assert!(secret.ct_eq(b"material") && !secret.ct_eq(b"materiaL") && !secret.ct_eq(b"materia"));
        assert!(SecretBytes::copy_from(&[]).unwrap().is_empty());
    }

    #[test]
    fn failed_fill_makes_no_secret() {
        let refused = SecretBytes::with_len(32, |_| Err(Error::NotAuthentic));
        assert_eq!(refused.unwrap_err(), Error::NotAuthentic);
        assert!(!SecretBytes::random(32).unwrap().ct_eq(SecretBytes::random(32).unwrap().expose()));
    }

    #[test]
    fn limit_of_locked_memory_is_an_error() {
        let error = SecretBytes::with_len(memory::LOCKED_BYTES_MAX + 1, |_| Ok(())).unwrap_err();
        assert_eq!(error, Error::Internal("the limit of locked memory is reached"));
    }
}
