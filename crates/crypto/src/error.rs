//! Why a cryptographic operation did not happen.

use std::fmt;

/// Every failure of this crate, grouped by whose fault it is.
///
/// No variant carries text from outside, key material or a reason an attacker could use:
/// [`Error::NotAuthentic`] never says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The caller's input breaks a rule; the text names the rule.
    Invalid(&'static str),
    /// The input is longer than the named limit, in bytes.
    TooLarge {
        /// The most bytes that are accepted.
        limit: usize,
    },
    /// This algorithm does not do this, or not with this mechanism.
    Unsupported(&'static str),
    /// The data, signature, MAC or wrapped key was not made by the holder of this key for this context.
    NotAuthentic,
    /// The machine could not do its part (no locked memory, no randomness, library failure).
    Internal(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(rule) => write!(f, "invalid input: {rule}"),
            Self::TooLarge { limit } => write!(f, "input is longer than {limit} bytes"),
            Self::Unsupported(what) => write!(f, "not supported: {what}"),
            Self::NotAuthentic => f.write_str("not authentic"),
            Self::Internal(what) => write!(f, "internal failure: {what}"),
        }
    }
}

impl std::error::Error for Error {}
