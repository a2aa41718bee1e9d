//! Version 2 of the message format of the AWS Encryption SDK, in the one suite that commits to its key and needs no
//! signature: 0x0478, AES-256-GCM under keys that HKDF-SHA512 derives.
//!
//! A file is a [`Header`] and frames ([`Frames`]). Not here: the other suites, version 1, and bodies without frames;
//! they are refused by name. Nor who unwraps data keys: [`EncryptedDataKey`] says which key of AWS KMS, or of a server
//! that speaks its protocol, must be asked.
//!
//! Source: AWS Encryption SDK Specification, data-format.

mod frames;
mod header;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Write};

use keyhearth_crypto::secret::SecretBytes;

pub use frames::{FRAME_BYTES, FRAME_BYTES_MAX, Frames};
pub use header::{CONTEXT_PAIRS_MAX, Context, DATA_KEYS_MAX, EncryptedDataKey, Header};

use crate::Error;
use crate::transform::{self, Body, Opened, Sealed};

/// Bytes of a data key.
pub const DATA_KEY_BYTES: usize = 32;
/// The suite: AES-256-GCM, HKDF-SHA512, commitment.
pub const SUITE: u16 = 0x0478;

/// What the key of one file, and the proof that it is that of this file, are derived from.
#[derive(Debug)]
pub struct DataKey(SecretBytes);

impl DataKey {
    /// The data key in `bytes`, which a key server made or unwrapped.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if they are not 32; [`Error::Machine`] without locked memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != DATA_KEY_BYTES {
            return Err(Error::NotAuthentic);
        }
        Ok(Self(SecretBytes::copy_from(bytes)?))
    }
}

/// Seals `source`, a regular file, into `output` on `threads` threads (1 or more). Header and frames were made for this
/// file, and serve no other.
///
/// # Errors
/// [`Error::Changed`] if `source` changed meanwhile; [`Error::Invalid`] if it has more than 2^32 - 1 frames;
/// [`Error::Io`] as reading and writing.
pub fn seal(
    (header, frames): (Header, Frames),
    source: &File,
    output: &File,
    threads: usize,
) -> Result<Sealed, Error> {
    transform::seal_file(header.as_bytes(), &frames, source, output, threads)
}

/// Seals all of `source`, of any kind.
///
/// # Errors
/// As [`seal`].
pub fn seal_stream(
    (header, frames): (Header, Frames),
    source: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<Sealed, Error> {
    transform::seal_chunks(header.as_bytes(), &frames, source, output)
}

/// Reads the header of the sealed file `source`.
///
/// # Errors
/// [`Error::Malformed`] if it is none; [`Error::Unsupported`] if it is of another suite or version.
pub fn open(source: File) -> Result<Opened<Header>, Error> {
    Opened::begin(Body::of(source)?)
}

/// Reads the header of the sealed file at the front of `source`.
///
/// # Errors
/// As [`open`].
pub fn open_stream(source: Box<dyn Read + Send>) -> Result<Opened<Header>, Error> {
    Opened::begin(Body::of_stream(source))
}
