//! Recipients that are a public key, for those who open files without a server: an escrow, other people's `age`.
//!
//! Source: C2SP age §"The X25519 recipient type"; BIP 173 (Bech32).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32, Hrp};
use keyhearth_crypto::kdf;
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::stream::{self, ChunkKey, TAG_BYTES};
use keyhearth_crypto::x25519;
use zeroize::Zeroizing;

use super::{FILE_KEY_BYTES, FileKey, Stanza};
use crate::Error;

const TAG: &str = "X25519";
const INFO: &[u8] = b"age-encryption.org/v1/X25519";
const RECIPIENT: Hrp = Hrp::parse_unchecked("age");
const IDENTITY: Hrp = Hrp::parse_unchecked("age-secret-key-");

/// Who may open a file by having the private key: `age1…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient([u8; x25519::BYTES]);

impl Recipient {
    /// Wraps a file's key for this recipient.
    ///
    /// # Errors
    /// [`Error::Invalid`] if its key is one that agrees with nobody, [`Error::Machine`] without randomness.
    pub fn wrap(&self, file_key: &FileKey) -> Result<Stanza, Error> {
        const REFUSAL: keyhearth_crypto::Error =
            keyhearth_crypto::Error::Invalid("the recipient's key is of low order");
        let (ephemeral, share) = x25519::generate()?;
        let agreed = x25519::agree(ephemeral.expose(), &self.0, REFUSAL)
            .map_err(|_| Error::Invalid("the recipient's key is of low order"))?;
        let mut body = Zeroizing::new(file_key.expose().to_vec());
        let tag = wrap_key(&agreed, &share, &self.0)?.seal([0; stream::NONCE_BYTES], &[], &mut body)?;
        body.extend_from_slice(&tag);
        Ok(Stanza::new(TAG, &[&BASE64.encode(share)], body.to_vec()))
    }
}

impl FromStr for Recipient {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bytes = decode(text, RECIPIENT);
        bytes.map(|bytes| Self(*bytes)).ok_or(Error::Invalid("not a recipient: age1 and 58 more characters"))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = bech32::encode::<Bech32>(RECIPIENT, &self.0).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

/// What opens files for a [`Recipient`]: `AGE-SECRET-KEY-1…`.
#[derive(Debug)]
pub struct Identity(SecretBytes);

impl Identity {
    /// The identity in `text`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none, [`Error::Machine`] without locked memory.
    pub fn read(text: &str) -> Result<Self, Error> {
        let bytes = decode(text, IDENTITY);
        let bytes =
            bytes.ok_or(Error::Invalid("not an identity: AGE-SECRET-KEY-1 and 58 more characters"))?;
        Ok(Self(SecretBytes::copy_from(&*bytes)?))
    }

    /// Unwraps the key of the file that these stanzas are of; `None` if none is for this identity.
    ///
    /// # Errors
    /// [`Error::Malformed`] if a stanza for recipients of this kind breaks their rules.
    pub fn unwrap(&self, stanzas: &[Stanza]) -> Result<Option<FileKey>, Error> {
        for stanza in stanzas.iter().filter(|stanza| stanza.tag == TAG) {
            if let Some(key) = self.unwrap_one(stanza)? {
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    fn unwrap_one(&self, stanza: &Stanza) -> Result<Option<FileKey>, Error> {
        const RULE: Error = Error::Malformed("a stanza for an X25519 recipient breaks its rules");
        let [share] = &stanza.arguments[..] else { return Err(RULE) };
        let share: [u8; x25519::BYTES] =
            BASE64.decode(share).ok().and_then(|share| share.try_into().ok()).ok_or(RULE)?;
        // A body of another length could be one that many keys open.
        if stanza.body.len() != FILE_KEY_BYTES + TAG_BYTES {
            return Err(RULE);
        }
        let agreed = x25519::agree(self.0.expose(), &share, keyhearth_crypto::Error::NotAuthentic);
        let agreed = agreed.map_err(|_| RULE)?;
        let key = wrap_key(&agreed, &share, &x25519::public(self.0.expose())?)?;
        let mut body = Zeroizing::new(stanza.body.clone());
        let opened = key.open([0; stream::NONCE_BYTES], &[], &mut body);
        opened.ok().map(|bytes| FileKey::from_bytes(bytes)).transpose()
    }
}

fn wrap_key(agreed: &[u8; 32], share: &[u8; 32], recipient: &[u8; 32]) -> Result<ChunkKey, Error> {
    let mut key = Zeroizing::new([0; stream::KEY_BYTES]);
    kdf::hkdf(kdf::Hash::Sha256, &[&share[..], recipient].concat(), agreed, &[INFO], &mut *key)?;
    Ok(ChunkKey::chacha20_poly1305(&key))
}

fn decode(text: &str, hrp: Hrp) -> Option<Zeroizing<[u8; x25519::BYTES]>> {
    let checked = CheckedHrpstring::new::<Bech32>(text).ok().filter(|checked| checked.hrp() == hrp)?;
    let mut bytes = Zeroizing::new([0; x25519::BYTES]);
    let mut decoded = checked.byte_iter();
    for place in bytes.iter_mut() {
        *place = decoded.next()?;
    }
    decoded.next().is_none().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification.
    const SECRET: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    const PUBLIC: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";

    #[test]
    fn the_example_opens_what_is_wrapped_for_it() {
        let (recipient, identity) = (PUBLIC.parse::<Recipient>().unwrap(), Identity::read(SECRET).unwrap());
        assert_eq!(recipient.to_string(), PUBLIC);
        assert_eq!(x25519::public(identity.0.expose()).unwrap(), recipient.0);
        let key = FileKey::random().unwrap();
        let stanzas = [Stanza::new("other", &[], vec![]), recipient.wrap(&key).unwrap()];
        assert_eq!(identity.unwrap(&stanzas).unwrap().unwrap().expose(), key.expose());
        let other = Recipient(x25519::generate().unwrap().1).wrap(&key).unwrap();
        assert!(identity.unwrap(&[other]).unwrap().is_none());
    }

    #[test]
    fn what_is_no_recipient_or_identity_is_refused() {
        for text in
            ["", "age1", SECRET, &PUBLIC[..61], &PUBLIC.replace('q', "p"), &PUBLIC.to_uppercase()[..3]]
        {
            assert!(text.parse::<Recipient>().is_err(), "{text}");
        }
        assert!(Identity::read(PUBLIC).is_err() && Identity::read(&SECRET[..40]).is_err());
        let low_order = Recipient([0; 32]);
        assert!(low_order.wrap(&FileKey::random().unwrap()).is_err());
    }
}
