//! What a sealed file says of its key.

use keyhearth_crypto::kh1;
use keyhearth_files::esdk::{Context, EncryptedDataKey};
use keyhearth_files::held::{Held, Kept, Wrapped};
use keyhearth_files::{AnyOpened, Error, age};

use super::super::super::failure::Failure;
use super::super::{esdk, failure, keys};

/// How one key of the server gives the file's key.
pub enum Keyed {
    /// It is wrapped in the header.
    Wrapped(Wrapped),
    /// The server keeps it.
    Kept(Kept),
    /// It is the data key of a file of the AWS Encryption SDK, encrypted for this context.
    Esdk(EncryptedDataKey, Context),
}

impl Keyed {
    /// What this file says.
    ///
    /// # Errors
    /// [`Failure`] if it names no key of Keyhearth or several.
    pub fn of(file: &AnyOpened) -> Result<Self, Failure> {
        match file {
            AnyOpened::Age(opened) => Self::of_age(&opened.header),
            AnyOpened::Esdk(opened) => Self::of_esdk(&opened.header),
        }
    }

    /// The same of a header of age.
    pub fn of_age(header: &age::Header) -> Result<Self, Failure> {
        let mut held = Held::all(&header.stanzas).map_err(failure)?.into_iter();
        match (held.next(), held.next()) {
            (Some(Held::Wrapped(wrapped)), None) => Ok(Self::Wrapped(wrapped)),
            (Some(Held::Kept(kept)), None) => Ok(Self::Kept(kept)),
            (None, _) => Err(failure(Error::NotForUs)),
            (Some(_), Some(_)) => Err(several_keys()),
        }
    }

    /// The same of a header of the AWS Encryption SDK.
    pub fn of_esdk(header: &keyhearth_files::esdk::Header) -> Result<Self, Failure> {
        match &header.data_keys[..] {
            [one] if esdk::key_of(one).is_some() => Ok(Self::Esdk(one.clone(), header.context.clone())),
            [_] | [] => Err(failure(Error::NotForUs)),
            _ => Err(several_keys()),
        }
    }

    /// Refuses a file whose header has no wrap that could be replaced.
    ///
    /// # Errors
    /// [`Failure`] for such a file.
    pub fn has_wrap(&self) -> Result<(), Failure> {
        let (code, what) = match self {
            Self::Wrapped(_) => return Ok(()),
            Self::Kept(_) => ("held", "the server keeps the file's key"),
            Self::Esdk(..) => {
                ("not_age", "a file of the AWS Encryption SDK keeps the header that it was made with")
            }
        };
        let next = "to give it a new key, which seals it again, add --suspected-stolen";
        Err(Failure::of(code, what, "", next))
    }

    /// Whether it tells that the file's key was made at this time, in seconds since 1970, or later. One that is still to
    /// come proves nothing.
    pub fn is_made_since(&self, time: u64) -> bool {
        matches!(self, Self::Wrapped(wrapped) if (time..=keys::now()).contains(&wrapped.made))
    }

    /// The id of the key.
    pub fn key(&self) -> &str {
        match self {
            Self::Wrapped(wrapped) => &wrapped.key,
            Self::Kept(kept) => &kept.key,
            Self::Esdk(data_key, _) => esdk::key_of(data_key).unwrap_or_default(),
        }
    }

    /// The version of the key that wrapped it, where the file tells.
    pub fn version(&self) -> Option<kh1::Header> {
        match self {
            Self::Wrapped(wrapped) => kh1::header(&wrapped.ciphertext).ok(),
            Self::Esdk(data_key, _) => kh1::header(&data_key.ciphertext).ok(),
            Self::Kept(_) => None,
        }
    }
}

fn several_keys() -> Failure {
    Failure::of("several_keys", "several keys wrap the file's key", "", "open it and seal it again")
}
