//! Secret sharing: any `threshold` of the shares give the secret, fewer give nothing.
//!
//! Arithmetic is byte-wise in GF(2^8) with the polynomial of AES and without tables: its time does not
//! depend on the secret. The format of a written share is in `docs/formats/shares.md`. Who holds which share
//! is not decided here.

use std::fmt;

use subtle::{Choice, ConditionallySelectable};
use zeroize::Zeroizing;

use crate::secret::SecretBytes;
use crate::{Error, digest, kdf, random};

/// The shortest secret that is shared; shorter ones could be guessed from the digest of a share.
pub const SECRET_BYTES_MIN: usize = 16;
/// The longest secret that is shared: longer ones are wrapped under a key, and the key is shared.
pub const SECRET_BYTES_MAX: usize = 64;
/// What a written share starts with.
pub const TEXT_PREFIX: &str = "khshare1-";
/// The longest text that is read as a share, typed spaces included.
pub const TEXT_BYTES_MAX: usize = 512;

const SET_ID_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const GROUP_CHARS: usize = 8;

/// One share of a secret, as secret as what a custodian is trusted with. `Debug` does not show its data.
pub struct Share {
    /// Which splitting it belongs to; random.
    pub set_id: [u8; SET_ID_BYTES],
    /// How many shares recover the secret.
    pub threshold: u8,
    /// Which share of the set this is, from 1.
    pub index: u8,
    /// One byte for each byte of the secret.
    pub data: SecretBytes,
}

/// Splits `secret` ([`SECRET_BYTES_MIN`] to [`SECRET_BYTES_MAX`] bytes) into `shares`, of which any `threshold`
/// recover it.
///
/// `threshold` is 2 to `shares`; a single share of one is the secret itself, and allowed.
///
/// # Errors
/// [`Error::Invalid`] for these numbers, [`Error::Internal`] without randomness or locked memory.
///
/// Source: A. Shamir, How to Share a Secret, CACM 22(11), 1979. Every coefficient is uniform over all 256 values,
/// the highest too: leaving out 0 there tells something about the secret.
pub fn split(secret: &SecretBytes, threshold: u8, shares: u8) -> Result<Vec<Share>, Error> {
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(Error::Invalid("a shared secret is 16 to 64 bytes long"));
    }
    if threshold > shares || (threshold < 2 && (threshold, shares) != (1, 1)) {
        return Err(Error::Invalid("the threshold is 2 to the number of shares, or 1 of 1"));
    }
    let mut set_id = [0; SET_ID_BYTES];
    random::fill("keyhearth/share-set", &mut set_id)?;
    let coefficients =
        (1..threshold).map(|_| SecretBytes::random(secret.len())).collect::<Result<Vec<_>, _>>()?;
    (1..=shares)
        .map(|index| {
            let data = SecretBytes::with_len(secret.len(), |data| {
                for coefficient in coefficients.iter().rev().chain([secret]) {
                    for (byte, coefficient) in data.iter_mut().zip(coefficient.expose()) {
                        *byte = multiply(*byte, index) ^ coefficient;
                    }
                }
                Ok(())
            })?;
            Ok(Share { set_id, threshold, index, data })
        })
        .collect()
}

/// Recovers the secret from at least `threshold` shares of one set, in any order.
///
/// A share whose data was altered gives another secret, not an error: compare [`Share::digest`] before and
/// [`set_mac`] after.
///
/// # Errors
/// [`Error::Invalid`], saying what is wrong with the collection: none or too few shares, shares of different
/// sets, a share twice. [`Error::Internal`] without locked memory.
pub fn combine(shares: &[Share]) -> Result<SecretBytes, Error> {
    let first = shares.first().ok_or(Error::Invalid("too few shares"))?;
    for (position, share) in shares.iter().enumerate() {
        let same_set = share.set_id == first.set_id
            && share.threshold == first.threshold
            && share.data.len() == first.data.len();
        if !same_set {
            return Err(Error::Invalid("shares of different sets"));
        }
        if share.index == 0 || shares[..position].iter().any(|earlier| earlier.index == share.index) {
            return Err(Error::Invalid("the same share twice"));
        }
    }
    let used = shares.get(..usize::from(first.threshold.max(1))).ok_or(Error::Invalid("too few shares"))?;
    SecretBytes::with_len(first.data.len(), |secret| {
        for share in used {
            let weight = used.iter().filter(|other| other.index != share.index).fold(1, |weight, other| {
                multiply(weight, multiply(other.index, invert(other.index ^ share.index)))
            });
            for (byte, data) in secret.iter_mut().zip(share.data.expose()) {
                *byte ^= multiply(*data, weight);
            }
        }
        Ok(())
    })
}

/// Proves that `secret` is what a set of `count` shares was made from. Stored next to what the secret protects.
///
/// `KBKDF(secret, "keyhearth/share-set/mac", set_id ‖ threshold ‖ count)`; compare in constant time.
#[must_use]
pub fn set_mac(secret: &SecretBytes, set_id: [u8; SET_ID_BYTES], threshold: u8, count: u8) -> [u8; 32] {
    let mut mac = [0; 32];
    kdf::kbkdf(secret.expose(), "keyhearth/share-set/mac", &[&set_id, &[threshold, count]], &mut mac);
    mac
}

impl Share {
    /// Names this share without telling it, so that a bad share is found before combining.
    ///
    /// `SHA-256("keyhearth/share/digest" ‖ set_id ‖ index ‖ data)`.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let label = b"keyhearth/share/digest";
        digest::sha256_of_secrets(&[label, &self.set_id, &[self.index], self.data.expose()])
    }

    /// Writes the share as one line for print or a password manager.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SHARE_BYTES_MAX));
        bytes.extend_from_slice(&self.set_id);
        bytes.extend_from_slice(&[self.threshold, self.index]);
        bytes.extend_from_slice(self.data.expose());
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
        text.push_str(TEXT_PREFIX);
        for (position, symbol) in base32(&bytes).enumerate() {
            if position > 0 && position % GROUP_CHARS == 0 {
                text.push('-');
            }
            text.push(symbol);
        }
        text
    }

    /// Reads what [`Share::to_text`] wrote, typed in either case and with any spaces and hyphens.
    ///
    /// # Errors
    /// [`Error::Invalid`] for anything else, a typing error included: one goes unnoticed with a chance of 2^-32.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Error::TooLarge { limit: TEXT_BYTES_MAX });
        }
        let text = text.trim_ascii();
        let prefix = text.get(..TEXT_PREFIX.len()).filter(|prefix| prefix.eq_ignore_ascii_case(TEXT_PREFIX));
        prefix.ok_or(Error::Invalid("a share starts with khshare1-"))?;
        let bytes = unbase32(&text.as_bytes()[TEXT_PREFIX.len()..])?;
        let share = || {
            let (body, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
            let (set_id, rest) = body.split_first_chunk()?;
            let (&[threshold, index], data) = rest.split_first_chunk()?;
            (checksum(body) == *sum).then_some((set_id, threshold, index, data))
        };
        let (set_id, threshold, index, data) =
            share().ok_or(Error::Invalid("a share with a typing error"))?;
        if threshold == 0 || index == 0 || !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&data.len()) {
            return Err(Error::Invalid("a share with impossible numbers"));
        }
        Ok(Self { set_id: *set_id, threshold, index, data: SecretBytes::copy_from(data)? })
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share(index {}, threshold {}, {:?})", self.index, self.threshold, self.data)
    }
}

const SHARE_BYTES_MAX: usize = SET_ID_BYTES + 2 + SECRET_BYTES_MAX + CHECKSUM_BYTES;

fn checksum(body: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = digest::sha256_of_secrets(&[b"keyhearth/share/text", body]);
    [hash[0], hash[1], hash[2], hash[3]]
}

/// Five bits to a symbol, the last one filled with zeros. Source: RFC 4648 §6, lower case, without padding.
fn base32(bytes: &[u8]) -> impl Iterator<Item = char> {
    (0..(bytes.len() * 8).div_ceil(5)).map(|position| {
        let value = (position * 5..position * 5 + 5).fold(0, |value, bit| {
            value << 1 | bytes.get(bit / 8).map_or(0, |byte| byte >> (7 - bit % 8) & 1)
        });
        char::from(if value < 26 { b'a' + value } else { b'2' + value - 26 })
    })
}

fn unbase32(text: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(TEXT_BYTES_MAX * 5 / 8));
    let (mut pending, mut bits) = (0u16, 0);
    for symbol in text {
        let value = match symbol.to_ascii_lowercase() {
            symbol @ b'a'..=b'z' => symbol - b'a',
            symbol @ b'2'..=b'7' => symbol - b'2' + 26,
            b'-' | b' ' | b'\t' | b'\r' | b'\n' => continue,
            _ => return Err(Error::Invalid("a share with a foreign character")),
        };
        pending = pending << 5 | u16::from(value);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits).to_le_bytes()[0]);
        }
    }
    if bits >= 5 || pending & ((1 << bits) - 1) != 0 {
        return Err(Error::Invalid("a share with a typing error"));
    }
    Ok(bytes)
}

/// Multiplies in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, in constant time.
///
/// Source: FIPS 197 §4.2.
fn multiply(mut a: u8, b: u8) -> u8 {
    let mut product = 0;
    for bit in 0..8 {
        product ^= u8::conditional_select(&0, &a, Choice::from(b >> bit & 1));
        a = (a << 1) ^ u8::conditional_select(&0, &0x1b, Choice::from(a >> 7));
    }
    product
}

/// The inverse of `a`, `a^254`; 0 for 0. In constant time.
fn invert(a: u8) -> u8 {
    let mut power = a;
    // 254 = 0b1111_1110: square for each bit, multiply where it is set.
    for _ in 0..6 {
        power = multiply(multiply(power, power), a);
    }
    multiply(power, power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplication_is_that_of_the_standard() {
        assert_eq!((multiply(0x57, 0x83), multiply(0x57, 0x13)), (0xc1, 0xfe));
        for a in 0..=255 {
            assert_eq!(multiply(a, invert(a)), u8::from(a != 0));
            assert_eq!(multiply(a, 1), a);
        }
    }

    #[test]
    fn coefficients_take_every_value() {
        // Share 1 of zeros is the coefficient itself: were it drawn from 1 to 255, no byte would be 0.
        let secret = SecretBytes::copy_from(&[0; SECRET_BYTES_MAX]).unwrap();
        let mut seen = [0usize; 256];
        for _ in 0..64 {
            for byte in split(&secret, 2, 2).unwrap()[0].data.expose() {
                seen[usize::from(*byte)] += 1;
            }
        }
        // Of 4,096 draws 16 are expected to be 0; none is with a chance of 2^-23.
        assert!(seen[0] > 0, "{seen:?}");
        assert!(seen.iter().filter(|&&count| count == 0).count() <= 2, "{seen:?}");
    }
}
