//! The KH1 message: what Keyhearth returns when it encrypts, and what it stores key material in.
//!
//! Every message has a key of its own, derived from the key's material and a random salt, and commits to it: no
//! nonce to count, and no second key or context that opens it as well. The bytes are described in
//! `docs/formats/kh1.md`. Which keys may do this is not decided here.
//!
//! Called by the engine (messages) and by whatever stores keys ([`envelope`]).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::random::Drawn;
use crate::secret::SecretBytes;
use crate::{Error, kdf};

/// The first bytes of every message. The line feed shows a copy that was treated as text.
pub const MAGIC: [u8; 4] = *b"KH1\n";
/// How much longer than its plaintext a message is.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + SALT_BYTES + COMMIT_BYTES + TAG_BYTES;
/// The longest plaintext, 4 MiB.
pub const PLAINTEXT_BYTES_MAX: usize = 4 << 20;
/// The length of the material that message keys are derived from.
pub const MATERIAL_BYTES: usize = 32;
/// The most pairs in a [`Context`].
pub const CONTEXT_PAIRS_MAX: usize = 64;
/// The longest canonical form of a [`Context`], 8 KiB.
pub const CONTEXT_BYTES_MAX: usize = 8 << 10;

const HEADER_BYTES: usize = MAGIC.len() + 1 + 16 + 4;
const SALT_BYTES: usize = 32;
const COMMIT_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// The key–value pairs that a message was sealed with and that opening it must repeat. Not secret.
///
/// The canonical form is each pair as `len(key) ‖ key ‖ len(value) ‖ value`, lengths in 32 bits big endian,
/// sorted by the bytes of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context(Vec<u8>);

impl Context {
    /// Builds the canonical form of `pairs`, whose order does not matter.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty or repeated key or more than [`CONTEXT_PAIRS_MAX`] pairs,
    /// [`Error::TooLarge`] beyond [`CONTEXT_BYTES_MAX`].
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let mut pairs: Vec<_> = pairs.into_iter().take(CONTEXT_PAIRS_MAX + 1).collect();
        if pairs.len() > CONTEXT_PAIRS_MAX {
            return Err(Error::Invalid("a context has at most 64 pairs"));
        }
        pairs.sort_unstable();
        if pairs.first().is_some_and(|(key, _)| key.is_empty()) {
            return Err(Error::Invalid("a context key is not empty"));
        }
        if pairs.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::Invalid("a context has each key once"));
        }
        let too_large = Error::TooLarge { limit: CONTEXT_BYTES_MAX };
        let mut canonical = Vec::new();
        for text in pairs.into_iter().flat_map(<[&str; 2]>::from) {
            if canonical.len() + 4 + text.len() > CONTEXT_BYTES_MAX {
                return Err(too_large);
            }
            let len = u32::try_from(text.len()).map_err(|_| too_large)?;
            canonical.extend_from_slice(&len.to_be_bytes());
            canonical.extend_from_slice(text.as_bytes());
        }
        Ok(Self(canonical))
    }

    /// The context without pairs.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The canonical form.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Which key a message says it was sealed with. Proven only when it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The key's identifier.
    pub key_id: [u8; 16],
    /// The key's version.
    pub version: u32,
}

/// Reads who sealed `message` without opening it.
///
/// # Errors
/// [`Error::Invalid`] if this is no KH1 message, [`Error::TooLarge`] beyond [`PLAINTEXT_BYTES_MAX`].
pub fn header(message: &[u8]) -> Result<Header, Error> {
    Ok(Parts::parse(&MESSAGE, message)?.header)
}

/// Encrypts `plaintext` so that only the same material with the same context opens it.
///
/// `material` is [`MATERIAL_BYTES`]; the result is [`OVERHEAD_BYTES`] longer than `plaintext`. Equal inputs give
/// different messages.
///
/// # Errors
/// [`Error::Invalid`] for material of another length, [`Error::TooLarge`] beyond [`PLAINTEXT_BYTES_MAX`],
/// [`Error::Internal`] without randomness.
///
/// Source: SP 800-108r1 §4.1 (message key and commitment), SP 800-38D §7.1 (AES-256-GCM).
pub fn seal(
    material: &[u8],
    key_id: [u8; 16],
    version: u32,
    context: &Context,
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let header = Header { key_id, version };
    MESSAGE.seal(material, header, context.as_bytes(), plaintext, &Drawn::new()?)
}

/// Makes a data key of `bytes` random bytes, and a message of it as [`seal`] does.
///
/// # Errors
/// As [`seal`], and [`Error::Internal`] without locked memory.
pub fn seal_new(
    material: &[u8],
    key_id: [u8; 16],
    version: u32,
    context: &Context,
    bytes: usize,
) -> Result<(SecretBytes, Vec<u8>), Error> {
    let drawn = Drawn::new()?;
    let data_key = SecretBytes::drawn(bytes, &drawn)?;
    let header = Header { key_id, version };
    let message = MESSAGE.seal(material, header, context.as_bytes(), data_key.expose(), &drawn)?;
    Ok((data_key, message))
}

/// Decrypts what [`seal`] made with the same `material`, `key_id`, `version` and `context`.
///
/// # Errors
/// [`Error::NotAuthentic`] if anything differs; as [`header`] and [`seal`] otherwise.
pub fn open(
    material: &[u8],
    key_id: [u8; 16],
    version: u32,
    context: &Context,
    message: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let opening = MESSAGE.opening(material, Header { key_id, version }, context.as_bytes(), message)?;
    let mut plaintext = Zeroizing::new(vec![0; opening.plaintext_bytes()]);
    opening.into(&mut plaintext)?;
    Ok(plaintext)
}

/// The same construction for key material, kept apart by its format byte and label.
pub mod envelope {
    use super::{Drawn, ENVELOPE, Error, Header};
    use crate::secret::SecretBytes;

    pub use super::OVERHEAD_BYTES;

    /// Wraps key material under `kek` so that only the holder of `kek` reads or alters it.
    ///
    /// `aad` is what the material is bound to: [`unwrap`] must repeat it. The result is [`OVERHEAD_BYTES`]
    /// longer than `material`.
    ///
    /// # Errors
    /// As [`super::seal`].
    pub fn wrap(
        kek: &SecretBytes,
        kek_id: [u8; 16],
        kek_version: u32,
        aad: &[u8],
        material: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let header = Header { key_id: kek_id, version: kek_version };
        ENVELOPE.seal(kek.expose(), header, aad, material, &Drawn::new()?)
    }

    /// Unwraps what [`wrap`] made, straight into locked memory.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn unwrap(
        kek: &SecretBytes,
        kek_id: [u8; 16],
        kek_version: u32,
        aad: &[u8],
        wrapped: &[u8],
    ) -> Result<SecretBytes, Error> {
        let header = Header { key_id: kek_id, version: kek_version };
        let opening = ENVELOPE.opening(kek.expose(), header, aad, wrapped)?;
        SecretBytes::with_len(opening.plaintext_bytes(), |material| opening.into(material))
    }
}

/// What separates a message from an envelope.
struct Construction {
    format: u8,
    label: &'static str,
}

const MESSAGE: Construction = Construction { format: 1, label: "keyhearth/kh1/enc" };
const ENVELOPE: Construction = Construction { format: 2, label: "keyhearth/kh1/wrap" };

impl Construction {
    fn seal(
        &self,
        material: &[u8],
        header: Header,
        context: &[u8],
        plaintext: &[u8],
        drawn: &Drawn,
    ) -> Result<Vec<u8>, Error> {
        if plaintext.len() > PLAINTEXT_BYTES_MAX {
            return Err(Error::TooLarge { limit: PLAINTEXT_BYTES_MAX });
        }
        let mut salt = [0; SALT_BYTES];
        drawn.fill("keyhearth/kh1/salt", &mut salt);
        let aad = self.aad(header, context);
        let derived = self.derive(material, header, &aad, &salt)?;

        let mut message = vec![0; OVERHEAD_BYTES + plaintext.len()];
        let (head, sealed) = message.split_at_mut(HEADER_BYTES + SALT_BYTES + COMMIT_BYTES);
        head[..HEADER_BYTES].copy_from_slice(&aad[..HEADER_BYTES]);
        head[HEADER_BYTES..][..SALT_BYTES].copy_from_slice(&salt);
        head[HEADER_BYTES + SALT_BYTES..].copy_from_slice(derived.commit());
        let (ciphertext, tag) = sealed.split_at_mut(plaintext.len());
        derived
            .key()?
            .seal_out_of_place_scatter(zero_nonce(), Aad::from(&aad), plaintext, ciphertext, &[], tag)
            .map_err(|_| Error::Internal("AES-GCM"))?;
        Ok(message)
    }

    /// Checks everything but the tag, which [`Opening::into`] checks.
    fn opening<'a>(
        &self,
        material: &[u8],
        expected: Header,
        context: &[u8],
        message: &'a [u8],
    ) -> Result<Opening<'a>, Error> {
        let parts = Parts::parse(self, message)?;
        if parts.header != expected {
            return Err(Error::NotAuthentic);
        }
        let aad = self.aad(expected, context);
        let derived = self.derive(material, expected, &aad, parts.salt)?;
        if !bool::from(derived.commit().ct_eq(parts.commit)) {
            return Err(Error::NotAuthentic);
        }
        Ok(Opening { key: derived.key()?, aad, parts })
    }

    /// `header ‖ context`.
    fn aad(&self, header: Header, context: &[u8]) -> Vec<u8> {
        [&MAGIC[..], &[self.format], &header.key_id, &header.version.to_be_bytes(), context].concat()
    }

    fn derive(&self, material: &[u8], header: Header, aad: &[u8], salt: &[u8]) -> Result<Derived, Error> {
        if material.len() != MATERIAL_BYTES {
            return Err(Error::Invalid("KH1 derives from 32 bytes of material"));
        }
        let hash = digest::digest(&digest::SHA256, aad);
        let context = [salt, &header.key_id, &header.version.to_be_bytes(), hash.as_ref()];
        let mut okm = Zeroizing::new([0; MATERIAL_BYTES + COMMIT_BYTES]);
        kdf::kbkdf(material, self.label, &context, &mut *okm);
        Ok(Derived(okm))
    }
}

/// The key of one message and the commitment to it.
struct Derived(Zeroizing<[u8; MATERIAL_BYTES + COMMIT_BYTES]>);

impl Derived {
    fn key(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&AES_256_GCM, &self.0[..MATERIAL_BYTES]);
        Ok(LessSafeKey::new(key.map_err(|_| Error::Internal("AES-GCM key"))?))
    }

    fn commit(&self) -> &[u8] {
        &self.0[MATERIAL_BYTES..]
    }
}

/// Never repeated under one key, because a key seals one message.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// A message whose commitment was right.
struct Opening<'a> {
    key: LessSafeKey,
    aad: Vec<u8>,
    parts: Parts<'a>,
}

impl Opening<'_> {
    fn plaintext_bytes(&self) -> usize {
        self.parts.ciphertext.len()
    }

    fn into(self, plaintext: &mut [u8]) -> Result<(), Error> {
        let Parts { ciphertext, tag, .. } = self.parts;
        self.key
            .open_separate_gather(zero_nonce(), Aad::from(&self.aad), ciphertext, tag, plaintext)
            .map_err(|_| Error::NotAuthentic)
    }
}

struct Parts<'a> {
    header: Header,
    salt: &'a [u8],
    commit: &'a [u8],
    ciphertext: &'a [u8],
    tag: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(construction: &Construction, message: &'a [u8]) -> Result<Self, Error> {
        if message.len() > OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX {
            return Err(Error::TooLarge { limit: OVERHEAD_BYTES + PLAINTEXT_BYTES_MAX });
        }
        let parts = || {
            let rest = message.strip_prefix(&MAGIC)?.strip_prefix(&[construction.format])?;
            let (key_id, rest) = rest.split_first_chunk()?;
            let (version, rest) = rest.split_first_chunk()?;
            let (salt, rest) = rest.split_at_checked(SALT_BYTES)?;
            let (commit, rest) = rest.split_at_checked(COMMIT_BYTES)?;
            let (ciphertext, tag) = rest.split_at_checked(rest.len().checked_sub(TAG_BYTES)?)?;
            let header = Header { key_id: *key_id, version: u32::from_be_bytes(*version) };
            Some(Self { header, salt, commit, ciphertext, tag })
        };
        parts().ok_or(Error::Invalid("not a KH1 message of this kind"))
    }
}
