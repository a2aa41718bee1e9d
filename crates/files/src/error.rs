//! Why a file was neither sealed nor opened.

use std::io;

/// What went wrong, by whose fault it is. No variant holds anything of a file's content.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// These bytes are no sealed file, or no longer one; the text names the rule.
    #[error("not a sealed file: {0}")]
    Malformed(&'static str),
    /// A sealed file of a kind that is not read; the text names it.
    #[error("not read: {0}")]
    Unsupported(&'static str),
    /// What was read was not written by who had the file's key: altered, cut, extended, or put together from others.
    #[error("the file was altered, or is of another key")]
    NotAuthentic,
    /// Nothing in the header is for us.
    #[error("the file is sealed for others")]
    NotForUs,
    /// A recipient or an identity that is none; the text names the rule.
    #[error("not usable: {0}")]
    Invalid(&'static str),
    /// The file changed while it was read.
    #[error("the file changed while it was read")]
    Changed,
    /// The machine could not do its part.
    #[error("{0}")]
    Machine(keyhearth_crypto::Error),
    /// Reading or writing failed.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<keyhearth_crypto::Error> for Error {
    fn from(error: keyhearth_crypto::Error) -> Self {
        match error {
            keyhearth_crypto::Error::NotAuthentic => Self::NotAuthentic,
            keyhearth_crypto::Error::Invalid(_)
            | keyhearth_crypto::Error::TooLarge { .. }
            | keyhearth_crypto::Error::Unsupported(_)
            | keyhearth_crypto::Error::Internal(_) => Self::Machine(error),
        }
    }
}

/// For who reads what is opened or written here as a stream.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(error) => error,
            Error::Malformed(_)
            | Error::Unsupported(_)
            | Error::NotAuthentic
            | Error::NotForUs
            | Error::Invalid(_)
            | Error::Changed
            | Error::Machine(_) => Self::other(error),
        }
    }
}
