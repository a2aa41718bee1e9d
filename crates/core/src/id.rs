//! Identifiers and names. No id or name is authority: the caller's proven identity is.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use crate::error::Error;

/// Writes 16 bytes as lower-case `8-4-4-4-12` hexadecimal.
fn format_uuid(bytes: &[u8; 16]) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}

/// Reads exactly the form [`format_uuid`] writes, so that an id has one spelling.
fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 16];
    let mut at = 0;
    for (i, byte) in bytes.iter_mut().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let digit = |c: u8| match c {
            b'0'..=b'9' => Some(c - b'0'),
            b'a'..=b'f' => Some(c - b'a' + 10),
            _ => None,
        };
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident $field:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Makes an id from a time and 10 random bytes, laid out as a version 7 UUID so that
            /// ids made together lie together in the store.
            ///
            /// Source: RFC 9562 §5.7.
            #[must_use]
            pub fn new(now: crate::time::Time, random: [u8; 10]) -> Self {
                let mut bytes = [0; 16];
                bytes[..6].copy_from_slice(&now.unix_ms().to_be_bytes()[2..]);
                bytes[6..].copy_from_slice(&random);
                bytes[6] = bytes[6] & 0x0f | 0x70;
                bytes[8] = bytes[8] & 0x3f | 0x80;
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(std::str::from_utf8(&format_uuid(&self.0)).expect("hexadecimal is ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                parse_uuid(text).map(Self).ok_or(Error::Invalid { field: $field, rule: "must be a lower-case UUID" })
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.bytes(&self.0)?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                d.bytes()?.try_into().map(Self).map_err(|_| decode::Error::message("an id has 16 bytes"))
            }
        }
    )*};
}

ids! {
    /// One deployment: bound into all wrapped material, so that rows of another server do not open here.
    DeploymentId "deployment";
    /// A tenant. Part of every row key; [`TenantId::PLATFORM`] owns no keys.
    TenantId "tenant";
    /// A key.
    KeyId "key";
    /// Somebody or something that can prove who it is.
    PrincipalId "principal";
    /// A grant on a key.
    GrantId "grant";
    /// One request, repeated in its log entry and in its answer.
    RequestId "request_id";
}

impl TenantId {
    /// The tenant of those who run the deployment. It holds no keys and reaches no other tenant.
    pub const PLATFORM: Self = Self([0; 16]);
}

/// A name of a tenant, a principal or a policy: 1 to 64 of `a-z 0-9 . _ -`, starting with a letter or digit.
///
/// One spelling only, decided here at creation: no upper case, no Unicode look-alikes, no path parts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// The longest [`Name`], in bytes.
pub const NAME_BYTES_MAX: usize = 64;

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let ok = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        let bytes = text.as_bytes();
        if bytes.is_empty()
            || bytes.len() > NAME_BYTES_MAX
            || !bytes.iter().all(|&c| ok(c))
            || !bytes[0].is_ascii_alphanumeric()
        {
            return Err(Error::Invalid {
                field: "name",
                rule: "1 to 64 of a-z 0-9 . _ - and starts with a letter or digit",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

/// Another handle for a key: 1 to 250 of `A-Z a-z 0-9 / _ . : -`, never of the form of a UUID.
///
/// Only ever looked up, exactly as written; no decision reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alias(String);

/// The longest [`Alias`], in bytes.
pub const ALIAS_BYTES_MAX: usize = 250;

impl Alias {
    /// The alias as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Alias {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'_' | b'.' | b':' | b'-');
        let bytes = text.as_bytes();
        if bytes.is_empty()
            || bytes.len() > ALIAS_BYTES_MAX
            || !bytes.iter().all(|&c| ok(c))
            || parse_uuid(text).is_some()
        {
            return Err(Error::Invalid {
                field: "alias",
                rule: "1 to 250 of A-Z a-z 0-9 / _ . : - and not a UUID",
            });
        }
        Ok(Self(text.to_owned()))
    }
}

macro_rules! texts {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl<C> Encode<C> for $name {
            fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
                e.str(&self.0)?.ok()
            }
        }
        impl<'b, C> Decode<'b, C> for $name {
            fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
                d.str()?.parse().map_err(|_| decode::Error::message("not a name"))
            }
        }
    )*};
}
texts!(Name, Alias);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn an_id_has_one_spelling() {
        let id = KeyId::new(Time::from_unix_ms(1_800_000_000_000), [0xab; 10]);
        let text = id.to_string();
        assert_eq!(text.parse::<KeyId>().unwrap(), id);
        assert_eq!(&text[14..15], "7");
        assert!(text.to_uppercase().parse::<KeyId>().is_err());
        assert!(text.replace('-', "").parse::<KeyId>().is_err());
        assert!("".parse::<KeyId>().is_err());
    }

    #[test]
    fn names_are_canonical_when_made() {
        for good in ["a", "web-1", "0.x_y"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "A", ".", "-a", "a/b", "ä", "a b", &"a".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        assert!("alias/My:key".parse::<Alias>().is_ok());
        assert!(KeyId([7; 16]).to_string().parse::<Alias>().is_err());
    }
}
