//! Turning a passphrase into a key, slowly.

use argon2::{Algorithm, Argon2, Block, Version};
use zeroize::Zeroizing;

use crate::Error;
use crate::secret::SecretBytes;

/// The longest passphrase, in bytes.
pub const PASSPHRASE_BYTES_MAX: usize = 1024;
/// Length of the salt, which is random and stored with the parameters.
pub const SALT_BYTES: usize = 16;

/// How much work a guess costs. Stored next to what the derived key protects, and authenticated there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    passes: u32,
    memory_kib: u32,
    lanes: u32,
}

impl Params {
    /// The least that is accepted, and the default: 3 passes over 64 MiB in 4 lanes.
    ///
    /// Source: RFC 9106 §4, second recommended option.
    pub const MIN: Self = Self { passes: 3, memory_kib: 64 << 10, lanes: 4 };
    /// The most that is accepted: 64 passes over 4 GiB in 64 lanes. Larger numbers come from a damaged header.
    pub const MAX: Self = Self { passes: 64, memory_kib: 4 << 20, lanes: 64 };

    /// Accepts parameters between [`Params::MIN`] and [`Params::MAX`], each for itself.
    ///
    /// # Errors
    /// [`Error::Invalid`], naming the parameter.
    pub fn new(passes: u32, memory_kib: u32, lanes: u32) -> Result<Self, Error> {
        if !(Self::MIN.passes..=Self::MAX.passes).contains(&passes) {
            return Err(Error::Invalid("argon2id: 3 to 64 passes"));
        }
        if !(Self::MIN.memory_kib..=Self::MAX.memory_kib).contains(&memory_kib) {
            return Err(Error::Invalid("argon2id: 65536 to 4194304 KiB of memory"));
        }
        if !(Self::MIN.lanes..=Self::MAX.lanes).contains(&lanes) {
            return Err(Error::Invalid("argon2id: 4 to 64 lanes"));
        }
        Ok(Self { passes, memory_kib, lanes })
    }

    /// How often the memory is passed over (t).
    #[must_use]
    pub fn passes(&self) -> u32 {
        self.passes
    }

    /// Memory in KiB (m).
    #[must_use]
    pub fn memory_kib(&self) -> u32 {
        self.memory_kib
    }

    /// Lanes (p). They are computed one after the other.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.lanes
    }
}

/// Derives a 256-bit key from `passphrase`. Computes for a tenth of a second or more: not for an async thread.
///
/// `passphrase` is 1 to 1,024 bytes ([`PASSPHRASE_BYTES_MAX`]) and is used as it is: normalising Unicode is the
/// caller's rule.
///
/// # Errors
/// [`Error::Invalid`] or [`Error::TooLarge`] for the passphrase, [`Error::Internal`] without memory.
///
/// Source: RFC 9106 (Argon2id, version 0x13).
pub fn derive(passphrase: &[u8], salt: &[u8; SALT_BYTES], params: Params) -> Result<SecretBytes, Error> {
    if passphrase.is_empty() {
        return Err(Error::Invalid("a passphrase is not empty"));
    }
    if passphrase.len() > PASSPHRASE_BYTES_MAX {
        return Err(Error::TooLarge { limit: PASSPHRASE_BYTES_MAX });
    }
    argon2id(passphrase, salt, params)
}

fn argon2id(passphrase: &[u8], salt: &[u8], params: Params) -> Result<SecretBytes, Error> {
    let failed = |_| Error::Internal("argon2id");
    SecretBytes::with_len(32, |key| {
        let params = argon2::Params::new(params.memory_kib, params.passes, params.lanes, Some(key.len()));
        let params = params.map_err(failed)?;
        let mut memory = Zeroizing::new(Vec::new());
        let blocks = params.block_count();
        memory.try_reserve_exact(blocks).map_err(|_| Error::Internal("no memory for argon2id"))?;
        memory.resize_with(blocks, Block::default);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase, salt, key, &mut *memory)
            .map_err(failed)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_reference_implementation() {
        let params = Params { passes: 2, memory_kib: 65536, lanes: 1 };
        let key = argon2id(b"password", b"somesalt", params).unwrap();
        let expected = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7";
        assert_eq!(key.expose().iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected);
    }

    #[test]
    fn weak_and_absurd_parameters_are_refused() {
        assert_eq!(Params::new(3, 65536, 4), Ok(Params::MIN));
        for (passes, memory_kib, lanes) in
            [(2, 65536, 4), (65, 65536, 4), (3, 65535, 4), (3, u32::MAX, 4), (3, 65536, 3), (3, 65536, 65)]
        {
            assert!(matches!(Params::new(passes, memory_kib, lanes), Err(Error::Invalid(_))));
        }
    }

    #[test]
    fn passphrase_and_salt_both_matter() {
        let key = derive(b"correct horse", &[1; 16], Params::MIN).unwrap();
        assert!(!derive(b"correct hors", &[1; 16], Params::MIN).unwrap().ct_eq(key.expose()));
        assert!(!derive(b"correct horse", &[2; 16], Params::MIN).unwrap().ct_eq(key.expose()));
        assert!(matches!(derive(b"", &[1; 16], Params::MIN), Err(Error::Invalid(_))));
        let long = vec![b'a'; PASSPHRASE_BYTES_MAX + 1];
        assert!(matches!(derive(&long, &[1; 16], Params::MIN), Err(Error::TooLarge { .. })));
    }
}
