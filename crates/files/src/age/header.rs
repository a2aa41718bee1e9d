//! The header of a file.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD as BASE64;
use keyhearth_crypto::kdf::{self, MAC_BYTES, MacKey};
use zeroize::Zeroizing;

use super::stanza::line;
use super::{FileKey, NONCE_BYTES, Payload, Stanza, plaintext_bytes, read_stanza};
use crate::Error;
use crate::chunks::Chunks;
use crate::transform::{Body, HEADER_BYTES_MAX, Head};

const VERSION: &[u8] = b"age-encryption.org/v1";
const MARK: &[u8] = b"---";
/// Bytes of the last line: the mark, a space, 43 characters and the line's end.
pub const MAC_LINE_BYTES: usize = MARK.len() + 1 + 43 + 1;
const TOO_LONG: Error = Error::Malformed("the header is longer than 64 KiB, or is cut");

/// A header: who may open the file, and the proof that whoever wrote this had the file's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// One stanza for each who may open the file, and those that mean nothing.
    pub stanzas: Vec<Stanza>,
    mac: [u8; MAC_BYTES],
}

impl Header {
    /// A header of these stanzas for the file with this key.
    ///
    /// # Errors
    /// [`Error::Machine`] if no key can be derived.
    pub fn new(file_key: &FileKey, stanzas: Vec<Stanza>) -> Result<Self, Error> {
        let mut header = Self { stanzas, mac: [0; MAC_BYTES] };
        header.mac = mac_key(file_key)?.sign(&[header.to_mark().as_bytes()]);
        Ok(header)
    }

    /// Reads the header at the front of `bytes`; what follows is the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is none, or is longer than `bytes` or 64 KiB.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let bytes_read = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
        let mut rest = bytes_read;
        if line(&mut rest).ok_or(TOO_LONG)? != VERSION {
            return Err(Error::Malformed("it does not begin with the line of age v1"));
        }
        let mut stanzas = Vec::new();
        while !rest.starts_with(MARK) {
            stanzas.push(read_stanza(&mut rest)?);
        }
        if stanzas.is_empty() {
            return Err(Error::Malformed("the header is for nobody"));
        }
        let end = line(&mut rest).ok_or(TOO_LONG)?;
        let text = end.strip_prefix(b"--- ").ok_or(Error::Malformed("the header's last line has no MAC"))?;
        let mac = BASE64.decode(text).ok().and_then(|mac| mac.try_into().ok());
        let mac = mac.ok_or(Error::Malformed("the header's MAC is not 32 bytes in base64"))?;
        Ok((Self { stanzas, mac }, &bytes[bytes_read.len() - rest.len()..]))
    }

    /// Whether this header was written by who had `file_key`.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if not.
    pub fn verify(&self, file_key: &FileKey) -> Result<(), Error> {
        let verified = mac_key(file_key)?.verify(&[self.to_mark().as_bytes()], &self.mac);
        if verified { Ok(()) } else { Err(Error::NotAuthentic) }
    }

    /// The header's text.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.to_mark();
        text.push(' ');
        BASE64.encode_string(self.mac, &mut text);
        text.push('\n');
        text
    }

    /// The text that the MAC is of. Only one text reads as this header, so it is that of the file.
    fn to_mark(&self) -> String {
        let mut text = String::from_utf8_lossy(VERSION).into_owned();
        text.push('\n');
        self.stanzas.iter().for_each(|stanza| stanza.write(&mut text));
        text.push_str("---");
        text
    }
}

impl Head for Header {
    type Key = FileKey;

    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        Self::read(bytes)
    }

    fn unlock(&self, key: &FileKey, body: &mut Body) -> Result<Box<dyn Chunks>, Error> {
        self.verify(key)?;
        let mut nonce = [0; NONCE_BYTES];
        if body.take(&mut nonce)? < NONCE_BYTES {
            return Err(Error::Malformed("the payload is cut"));
        }
        Ok(Box::new(Payload::new(key, &nonce)?))
    }

    fn plaintext_bytes(&self, body_bytes: u64) -> Result<u64, Error> {
        plaintext_bytes(body_bytes)
    }
}

/// Source: C2SP age §"Header MAC".
fn mac_key(file_key: &FileKey) -> Result<MacKey, Error> {
    let mut key = Zeroizing::new([0; MAC_BYTES]);
    kdf::hkdf(kdf::Hash::Sha256, &[], file_key.expose(), &[b"header"], &mut *key)?;
    Ok(MacKey::new(&*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_was_written_and_no_bit_of_it_can_change() {
        let (key, other) = (FileKey::random().unwrap(), FileKey::random().unwrap());
        let stanzas = vec![Stanza::new("a", &["b"], vec![7; 48]), Stanza::new("c", &[], vec![])];
        let header = Header::new(&key, stanzas).unwrap();
        let text = header.to_text();
        let bytes = [text.as_bytes(), b"payload"].concat();
        let (read, rest) = Header::read(&bytes).unwrap();
        assert_eq!((&read, rest), (&header, &b"payload"[..]));
        assert!(read.verify(&key).is_ok() && read.verify(&other).is_err());
        for at in 0..text.len() {
            let mut altered = text.as_bytes().to_vec();
            altered[at] ^= 1;
            let verified = Header::read(&altered).and_then(|(header, _)| header.verify(&key));
            assert!(verified.is_err(), "{at}");
        }
        for end in 0..text.len() {
            assert!(Header::read(&text.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
