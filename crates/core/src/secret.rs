//! Secrets: small values that the server keeps, each encrypted under a key of the tenant and found by its name.
//!
//! The key decides: who may keep, read or shred a secret is asked of policies and grants about that key, with the
//! secret's name in the context. Values are only ever in requests and responses; what is kept is a message of the key.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use crate::error::Error;
use crate::id::{KeyId, Name};
use crate::request::ContextPairs;
use crate::row::{RowKey, Table};
use crate::time::Time;

/// What stands before the id of a file in a [`SecretName`].
const FILE: &str = "file/";

/// Sizes of secrets that the server makes, in random bytes.
pub const GENERATED_BYTES: std::ops::RangeInclusive<usize> = 16..=1_024;

/// What a secret is found by: a [`Name`], or the id of a file whose key it is, as `file/` and 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SecretName {
    /// Named by a person.
    Named(Name),
    /// The key of the file with this id.
    File([u8; 16]),
}

impl SecretName {
    /// What is bound to the value, and what policies and grants see: `secret` or `file`, and which.
    #[must_use]
    pub fn context(&self) -> ContextPairs {
        let pair = match self {
            Self::Named(name) => ("secret", name.to_string()),
            Self::File(id) => ("file", hex(id)),
        };
        vec![(pair.0.to_owned(), pair.1)]
    }

    /// Where it is kept.
    #[must_use]
    pub fn row(&self, tenant: crate::id::TenantId) -> RowKey {
        RowKey::new(Table::Secret, tenant, self.to_string().as_bytes())
    }
}

fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => write!(f, "{name}"),
            Self::File(id) => write!(f, "{FILE}{}", hex(id)),
        }
    }
}

impl FromStr for SecretName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let Some(digits) = text.strip_prefix(FILE) else { return text.parse().map(Self::Named) };
        let id = u128::from_str_radix(digits, 16).map(|id| Self::File(id.to_be_bytes()));
        // One spelling only.
        id.ok().filter(|name| name.to_string() == text).ok_or(Error::Invalid {
            field: "name",
            rule: "after file/ come 32 hexadecimal digits in lower case",
        })
    }
}

/// The stored record of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct KeptSecret {
    /// The key that encrypted it, and that decides about it.
    #[n(0)]
    pub key: KeyId,
    /// The version that encrypted it.
    #[n(1)]
    pub version: u32,
    /// When it was kept.
    #[n(2)]
    pub created: Time,
    /// The value, as a message of that version with the name's context and a pair that only the server binds.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub ciphertext: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling_and_says_what_is_bound() {
        let id = "d1eb8eebe25e358cdd75d27577c8571a";
        for (text, bound) in [("restic", ("secret", "restic")), (&format!("file/{id}"), ("file", id))] {
            let name: SecretName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(name.context(), [(bound.0.to_owned(), bound.1.to_owned())]);
        }
        let [upper, short, plus] =
            [id.to_uppercase(), id[1..].to_owned(), format!("+{}", &id[1..])].map(|id| format!("file/{id}"));
        for bad in ["", "file/", "file", "a/b", "File/x", &upper, &short, &plus] {
            assert!(bad.parse::<SecretName>().is_err() || bad == "file", "{bad}");
        }
    }
}
