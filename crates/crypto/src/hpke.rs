//! Encrypting to a public key whose owner is not there: backups, exports, shares for custodians.
//!
//! HPKE in base mode, one message per encapsulation. It does not say who sent a message.
//!
//! The ephemeral X25519 key is drawn from [`crate::random`]; the randomness inside ML-KEM comes from the library,
//! which offers no other way.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest;
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use zeroize::Zeroizing;

use crate::kdf::MacKey;
use crate::secret::SecretBytes;
use crate::{Error, x25519};

const X25519_BYTES: usize = x25519::BYTES;
const ML_KEM_PUBLIC_BYTES: usize = 1184;
const ML_KEM_PRIVATE_BYTES: usize = 2400;
const ML_KEM_CIPHERTEXT_BYTES: usize = 1088;
const TAG_BYTES: usize = 16;

/// How the key of a message is agreed on. Both use HKDF-SHA256 (0x0001) and AES-256-GCM (0x0002).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// DHKEM(X25519, HKDF-SHA256), 0x0020: for peers that know nothing else.
    ///
    /// Source: RFC 9180 §4.1, §7.1.
    X25519,
    /// X-Wing, 0x647a: safe while either X25519 or ML-KEM-768 is.
    ///
    /// Public keys and messages are those of the draft. A private key is the expanded ML-KEM key and the X25519
    /// key instead of the 32-byte seed, which the library cannot expand.
    ///
    /// Source: draft-connolly-cfrg-xwing-kem; draft-ietf-hpke-pq.
    X25519MlKem768,
}

impl Suite {
    /// Length of a recipient's public key.
    #[must_use]
    pub const fn public_bytes(self) -> usize {
        match self {
            Self::X25519 => X25519_BYTES,
            Self::X25519MlKem768 => ML_KEM_PUBLIC_BYTES + X25519_BYTES,
        }
    }

    /// Length of a recipient's private key.
    #[must_use]
    pub const fn private_bytes(self) -> usize {
        match self {
            Self::X25519 => X25519_BYTES,
            Self::X25519MlKem768 => ML_KEM_PRIVATE_BYTES + X25519_BYTES,
        }
    }

    /// How much longer than its plaintext a message is.
    #[must_use]
    pub const fn overhead_bytes(self) -> usize {
        self.encapsulated_bytes() + TAG_BYTES
    }

    const fn encapsulated_bytes(self) -> usize {
        match self {
            Self::X25519 => X25519_BYTES,
            Self::X25519MlKem768 => ML_KEM_CIPHERTEXT_BYTES + X25519_BYTES,
        }
    }

    const fn kem_id(self) -> [u8; 2] {
        match self {
            Self::X25519 => [0x00, 0x20],
            Self::X25519MlKem768 => [0x64, 0x7a],
        }
    }
}

/// A recipient's keys.
#[derive(Debug)]
pub struct KeyPair {
    /// [`Suite::private_bytes`] long.
    pub private: SecretBytes,
    /// [`Suite::public_bytes`] long.
    pub public: Vec<u8>,
}

/// Makes a recipient's keys.
///
/// # Errors
/// [`Error::Internal`] without randomness or locked memory.
pub fn generate(suite: Suite) -> Result<KeyPair, Error> {
    let (x25519, x25519_public) = x25519::generate()?;
    match suite {
        Suite::X25519 => Ok(KeyPair { private: x25519, public: x25519_public.to_vec() }),
        Suite::X25519MlKem768 => {
            let failed = |_| Error::Internal("ML-KEM-768");
            let ml_kem = DecapsulationKey::generate(&ML_KEM_768).map_err(failed)?;
            let public = ml_kem.encapsulation_key().and_then(|key| key.key_bytes()).map_err(failed)?;
            let private = ml_kem.key_bytes().map_err(failed)?;
            let private = SecretBytes::with_len(suite.private_bytes(), |bytes| {
                bytes[..ML_KEM_PRIVATE_BYTES].copy_from_slice(private.as_ref());
                bytes[ML_KEM_PRIVATE_BYTES..].copy_from_slice(x25519.expose());
                Ok(())
            })?;
            Ok(KeyPair { private, public: [public.as_ref(), &x25519_public].concat() })
        }
    }
}

/// Encrypts `plaintext` so that only the owner of `recipient_public` reads it: `enc ‖ ciphertext ‖ tag`.
///
/// `info` names the purpose, `aad` what the message is bound to; [`open`] must repeat both.
///
/// # Errors
/// [`Error::Invalid`] for a public key that is none, [`Error::Internal`] without randomness.
///
/// Source: RFC 9180 §6.1.
pub fn seal(
    suite: Suite,
    recipient_public: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let (shared, encapsulated) = encapsulate(suite, recipient_public)?;
    let (key, nonce) = schedule(suite, &shared, info)?;
    let mut message = Vec::with_capacity(suite.overhead_bytes() + plaintext.len());
    message.extend_from_slice(&encapsulated);
    message.resize(suite.overhead_bytes() + plaintext.len(), 0);
    let (ciphertext, tag) = message[encapsulated.len()..].split_at_mut(plaintext.len());
    key.seal_out_of_place_scatter(nonce, Aad::from(aad), plaintext, ciphertext, &[], tag)
        .map_err(|_| Error::Internal("AES-GCM"))?;
    Ok(message)
}

/// Decrypts what [`seal`] made for the owner of `private`.
///
/// # Errors
/// [`Error::NotAuthentic`] if anything differs, [`Error::Invalid`] for a private key of another length.
///
/// Source: RFC 9180 §6.1.
pub fn open(
    suite: Suite,
    private: &SecretBytes,
    info: &[u8],
    aad: &[u8],
    message: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (encapsulated, sealed) =
        message.split_at_checked(suite.encapsulated_bytes()).ok_or(Error::NotAuthentic)?;
    let (ciphertext, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Error::NotAuthentic)?;
    let (key, nonce) = schedule(suite, &decapsulate(suite, private.expose(), encapsulated)?, info)?;
    let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
    key.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut plaintext)
        .map_err(|_| Error::NotAuthentic)?;
    Ok(plaintext)
}

type Shared = Zeroizing<[u8; 32]>;

const NOT_A_PUBLIC_KEY: Error = Error::Invalid("this is no public key of the HPKE suite");

fn encapsulate(suite: Suite, public: &[u8]) -> Result<(Shared, Vec<u8>), Error> {
    if public.len() != suite.public_bytes() {
        return Err(NOT_A_PUBLIC_KEY);
    }
    let (ml_kem_public, x25519_public) = public.split_at(public.len() - X25519_BYTES);
    let (ephemeral, ephemeral_public) = x25519::generate()?;
    let agreed = x25519::agree(ephemeral.expose(), x25519_public, NOT_A_PUBLIC_KEY)?;
    match suite {
        Suite::X25519 => {
            let shared = extract_and_expand(&agreed, &ephemeral_public, x25519_public);
            Ok((shared, ephemeral_public.to_vec()))
        }
        Suite::X25519MlKem768 => {
            let (ciphertext, ml_kem) = EncapsulationKey::new(&ML_KEM_768, ml_kem_public)
                .map_err(|_| NOT_A_PUBLIC_KEY)?
                .encapsulate()
                .map_err(|_| NOT_A_PUBLIC_KEY)?;
            let shared = combine(ml_kem.as_ref(), &agreed, &ephemeral_public, x25519_public);
            Ok((shared, [ciphertext.as_ref(), &ephemeral_public].concat()))
        }
    }
}

/// `encapsulated` has the length of the suite.
fn decapsulate(suite: Suite, private: &[u8], encapsulated: &[u8]) -> Result<Shared, Error> {
    if private.len() != suite.private_bytes() {
        return Err(Error::Invalid("this is no private key of the HPKE suite"));
    }
    let (ml_kem_private, x25519) = private.split_at(private.len() - X25519_BYTES);
    let (ciphertext, ephemeral_public) = encapsulated.split_at(encapsulated.len() - X25519_BYTES);
    let public = x25519::public(x25519)?;
    let agreed = x25519::agree(x25519, ephemeral_public, Error::NotAuthentic)?;
    match suite {
        Suite::X25519 => Ok(extract_and_expand(&agreed, ephemeral_public, &public)),
        Suite::X25519MlKem768 => {
            let ml_kem = DecapsulationKey::new(&ML_KEM_768, ml_kem_private)
                .map_err(|_| Error::Invalid("this is no private key of the HPKE suite"))?
                .decapsulate(Ciphertext::from(ciphertext))
                .map_err(|_| Error::NotAuthentic)?;
            Ok(combine(ml_kem.as_ref(), &agreed, ephemeral_public, &public))
        }
    }
}

/// Source: RFC 9180 §4.1 (ExtractAndExpand).
fn extract_and_expand(agreed: &Shared, encapsulated: &[u8], public: &[u8]) -> Shared {
    let suite_id = [&b"KEM"[..], &Suite::X25519.kem_id()].concat();
    let extracted = labeled_extract(&suite_id, &[], "eae_prk", &**agreed);
    let mut shared = Shared::default();
    labeled_expand(&suite_id, &extracted, "shared_secret", &[encapsulated, public], &mut *shared);
    shared
}

/// Source: draft-connolly-cfrg-xwing-kem §5.3 (Combiner).
fn combine(ml_kem: &[u8], x25519: &Shared, ephemeral_public: &[u8], public: &[u8]) -> Shared {
    let mut context = digest::Context::new(&digest::SHA3_256);
    for part in [ml_kem, &**x25519, ephemeral_public, public, br"\.//^\"] {
        context.update(part);
    }
    let mut shared = Shared::default();
    shared.copy_from_slice(context.finish().as_ref());
    shared
}

/// Source: RFC 9180 §5.1 (KeySchedule), base mode, for the first message.
fn schedule(suite: Suite, shared: &Shared, info: &[u8]) -> Result<(LessSafeKey, Nonce), Error> {
    let suite_id = [&b"HPKE"[..], &suite.kem_id(), &[0x00, 0x01], &[0x00, 0x02]].concat();
    let psk_id_hash = labeled_extract(&suite_id, &[], "psk_id_hash", &[]);
    let info_hash = labeled_extract(&suite_id, &[], "info_hash", info);
    let context = [&[0x00], &psk_id_hash[..], &info_hash[..]];
    let secret = labeled_extract(&suite_id, &**shared, "secret", &[]);
    let (mut key, mut nonce) = (Shared::default(), [0; 12]);
    labeled_expand(&suite_id, &secret, "key", &context, &mut *key);
    labeled_expand(&suite_id, &secret, "base_nonce", &context, &mut nonce);
    let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_| Error::Internal("AES-GCM key"))?;
    Ok((LessSafeKey::new(key), Nonce::assume_unique_for_key(nonce)))
}

/// Source: RFC 9180 §4 (LabeledExtract); RFC 5869 §2.2.
fn labeled_extract(suite_id: &[u8], salt: &[u8], label: &str, material: &[u8]) -> Shared {
    Zeroizing::new(MacKey::new(salt).sign(&[b"HPKE-v1", suite_id, label.as_bytes(), material]))
}

/// `out` is at most 32 bytes: one block of HKDF.
///
/// Source: RFC 9180 §4 (LabeledExpand); RFC 5869 §2.3.
fn labeled_expand(suite_id: &[u8], key: &Shared, label: &str, info: &[&[u8]], out: &mut [u8]) {
    let len = u16::try_from(out.len()).expect("`out` is one block at most").to_be_bytes();
    let mut parts = vec![&len[..], b"HPKE-v1", suite_id, label.as_bytes()];
    parts.extend_from_slice(info);
    parts.push(&[1]);
    let block = Zeroizing::new(MacKey::new(&**key).sign(&parts));
    out.copy_from_slice(&block[..out.len()]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_secret_is_that_of_the_standard() {
        // RFC 9180 appendix A.1.1: skRm, enc, shared_secret.
        let [private, encapsulated, shared] = [
            "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
            "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
            "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc",
        ]
        .map(|text| {
            (0..32).map(|i| u8::from_str_radix(&text[2 * i..][..2], 16).unwrap()).collect::<Vec<u8>>()
        });
        assert_eq!(decapsulate(Suite::X25519, &private, &encapsulated).unwrap()[..], shared);
    }
}
