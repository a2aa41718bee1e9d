//! The age v1 format, as far as it does not depend on who may open a file.
//!
//! A file is a [`Header`] of text and a payload of chunks of 64 KiB ([`Payload`]). Not here: passphrases and the
//! hybrid recipients, which only the `age` tools know; headers that have them are read like all others.
//!
//! Source: C2SP age.

pub mod armor;
mod header;
mod payload;
mod stanza;
mod x25519;

pub use crate::transform::HEADER_BYTES_MAX;
pub use header::{Header, MAC_LINE_BYTES};
pub use payload::{
    CHUNK_BYTES, NONCE_BYTES, Payload, SEALED_CHUNK_BYTES, TAG_BYTES, plaintext_bytes, sealed_bytes,
};
pub use stanza::{BODY_BYTES_MAX, Stanza, read_stanza};
pub use x25519::{Identity, Recipient};

use keyhearth_crypto::secret::SecretBytes;

use crate::Error;

/// Bytes of a file's key.
pub const FILE_KEY_BYTES: usize = 16;

/// The key of one file. Everything in the file follows from it; it is used for no other file.
#[derive(Debug)]
pub struct FileKey(SecretBytes);

impl FileKey {
    /// Draws a key for a new file.
    ///
    /// # Errors
    /// [`Error::Machine`] without randomness or locked memory.
    pub fn random() -> Result<Self, Error> {
        Ok(Self(SecretBytes::random(FILE_KEY_BYTES)?))
    }

    /// The key in `bytes`, which somebody unwrapped.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if they are not 16; [`Error::Machine`] without locked memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != FILE_KEY_BYTES {
            return Err(Error::NotAuthentic);
        }
        Ok(Self(SecretBytes::copy_from(bytes)?))
    }

    /// The 16 bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}
