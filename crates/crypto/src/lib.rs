//! Bytes in, bytes out: every cryptographic operation Keyhearth performs.
//!
//! Knows no key names, users or clocks. Randomness is drawn only in [`random`]. Everything is computed by
//! aws-lc-rs, but Ed25519ph by ed25519-dalek, ML-DSA of what stands for a message by ml-dsa, and the seeds of
//! ML-KEM pairs by ml-kem; what is ours is the KH1 message ([`kh1`]), its use as an envelope for key material, and
//! secret sharing ([`shamir`]).
//!
//! Called by `keyhearth-core` (identifiers of algorithms), by the server's engine and by agents.

pub mod algorithm;
pub mod digest;
pub mod error;
pub mod hpke;
pub mod kdf;
pub mod key;
pub mod keywrap;
pub mod kh1;
pub mod note;
pub mod passphrase;
pub mod random;
pub mod secret;
pub mod shamir;
pub mod stream;
pub mod x25519;

pub use error::Error;
