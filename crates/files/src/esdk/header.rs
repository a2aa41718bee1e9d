//! The header of a message.
//!
//! Source: AWS Encryption SDK Specification, message-header (version 2.0) and algorithm-suites.

use std::collections::BTreeMap;

use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::stream::{ChunkKey, KEY_BYTES, NONCE_BYTES, TAG_BYTES};
use keyhearth_crypto::{kdf, random};
use zeroize::Zeroizing;

use super::frames::{self, ID_BYTES};
use super::{DataKey, FRAME_BYTES_MAX, Frames, SUITE};
use crate::Error;
use crate::chunks::Chunks;
use crate::transform::{Body, HEADER_BYTES_MAX, Head};

/// The version of the format.
const VERSION: u8 = 2;
/// The content type of a body in frames.
const FRAMED: u8 = 2;
/// Bytes of the commitment to the data key.
const COMMITMENT_BYTES: usize = 32;
/// The most pairs of a context.
pub const CONTEXT_PAIRS_MAX: usize = 64;
/// The most bytes of a context, as the header has them.
const CONTEXT_BYTES_MAX: usize = 8 * 1024;
/// The most encrypted data keys of a file.
pub const DATA_KEYS_MAX: usize = 32;
/// The longest name of a provider, in bytes.
const PROVIDER_BYTES_MAX: usize = 256;
/// The longest name of a key, in bytes.
const INFO_BYTES_MAX: usize = 2048;
/// The longest encrypted data key, in bytes; AWS KMS takes no longer one.
const CIPHERTEXT_BYTES_MAX: usize = 6144;
/// What names that the format keeps for itself begin with.
const RESERVED: &str = "aws-crypto-";
/// The provider whose keys have ARNs.
const AWS_KMS: &str = "aws-kms";
const TOO_LONG: Error = Error::Malformed("the header is longer than 64 KiB, or is cut");

/// What is said of a file in the clear, and bound to it: a key server unwraps the data key for no other.
pub type Context = BTreeMap<String, String>;

/// A data key, encrypted for one who may open the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptedDataKey {
    /// Whose key encrypted it.
    pub provider: String,
    /// Which key did.
    pub info: Vec<u8>,
    /// What became of the data key.
    pub ciphertext: Vec<u8>,
}

impl EncryptedDataKey {
    /// As AWS KMS, or who speaks its protocol, encrypted it by the key with this ARN for the file's context.
    #[must_use]
    pub fn aws_kms(arn: &str, ciphertext: Vec<u8>) -> Self {
        Self { provider: AWS_KMS.to_owned(), info: arn.as_bytes().to_vec(), ciphertext }
    }

    /// The ARN of the key of AWS KMS that encrypted it; `None` if another provider did.
    #[must_use]
    pub fn arn(&self) -> Option<&str> {
        str::from_utf8(&self.info).ok().filter(|_| self.provider == AWS_KMS)
    }
}

/// A header: who may open the file and what is said of it, and the proof that whoever wrote this had the data key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is said of the file. It is asserted until the header was proved.
    pub context: Context,
    /// One for each who may open the file.
    pub data_keys: Vec<EncryptedDataKey>,
    pub(super) id: [u8; ID_BYTES],
    pub(super) frame_bytes: usize,
    commitment: [u8; COMMITMENT_BYTES],
    /// All of it, as it was written: the tag at the end is of all before it.
    bytes: Vec<u8>,
}

impl Header {
    /// The header of a new file, and what seals its frames. `data_keys` are all of this `data_key`, encrypted for this
    /// `context`; `frame_bytes` is 1 to [`FRAME_BYTES_MAX`], in most cases [`FRAME_BYTES`](super::FRAME_BYTES).
    ///
    /// # Errors
    /// [`Error::Invalid`] if there is too much or nothing of something; [`Error::Machine`] without randomness.
    pub fn create(
        data_key: &DataKey,
        context: Context,
        data_keys: Vec<EncryptedDataKey>,
        frame_bytes: usize,
    ) -> Result<(Self, Frames), Error> {
        let mut id = [0; ID_BYTES];
        random::fill("keyhearth/esdk-message", &mut id)?;
        let (commitment, key) = derive(data_key, &id)?;
        let commitment = commitment.expose().try_into().expect("a commitment has 32 bytes");
        let mut header = Self { context, data_keys, id, frame_bytes, commitment, bytes: Vec::new() };
        header.check().map_err(Error::Invalid)?;
        header.bytes = header.to_body();
        let tag = key.seal([0; NONCE_BYTES], &header.bytes, &mut [])?;
        header.bytes.extend(tag);
        if header.bytes.len() > HEADER_BYTES_MAX {
            return Err(Error::Invalid("the header is longer than 64 KiB"));
        }
        Ok((header, Frames::new(key, id, frame_bytes)))
    }

    /// Reads the header at the front of `bytes`; what follows is the body.
    ///
    /// # Errors
    /// [`Error::Malformed`] if it is none, or is longer than `bytes` or 64 KiB; [`Error::Unsupported`] if it is of
    /// another version or suite.
    pub fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        let mut rest = &bytes[..bytes.len().min(HEADER_BYTES_MAX)];
        let (whole, rest) = (rest, &mut rest);
        is_ours(take::<1>(rest)?[0], u16::from_be_bytes(take(rest)?))?;
        let id = take(rest)?;
        let context = read_context(counted(rest)?)?;
        let count = u16::from_be_bytes(take(rest)?);
        let data_keys = (0..count).map(|_| read_data_key(rest)).collect::<Result<_, _>>()?;
        match take(rest)? {
            [FRAMED] => {}
            [1] => return Err(Error::Unsupported("a message of the AWS Encryption SDK without frames")),
            _ => return Err(Error::Malformed("the body is neither in frames nor in one piece")),
        }
        let frame_bytes = u32::from_be_bytes(take(rest)?);
        let frame_bytes = usize::try_from(frame_bytes).unwrap_or(usize::MAX);
        let commitment = take(rest)?;
        take::<TAG_BYTES>(rest)?;
        let len = whole.len() - rest.len();
        let header = Self { context, data_keys, id, frame_bytes, commitment, bytes: bytes[..len].to_vec() };
        header.check().map_err(Error::Malformed)?;
        Ok((header, &bytes[len..]))
    }

    /// Proves that whoever wrote this header had `data_key`; gives what opens the frames.
    ///
    /// That the file is of no other data key too comes first, before anything is decrypted: who could make a file that
    /// opens differently under two keys shows different content to each who may open it.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] if not.
    pub fn frames(&self, data_key: &DataKey) -> Result<Frames, Error> {
        let (commitment, key) = derive(data_key, &self.id)?;
        if !commitment.ct_eq(&self.commitment) {
            return Err(Error::NotAuthentic);
        }
        let (body, tag) = self.bytes.split_at(self.bytes.len() - TAG_BYTES);
        key.open([0; NONCE_BYTES], body, &mut tag.to_vec())?;
        Ok(Frames::new(key, self.id, self.frame_bytes))
    }

    /// The header as it stands in the file.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of plaintext in each frame but the last.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frame_bytes
    }

    /// The rules for what is read and for what is written; the text names the one that is broken.
    fn check(&self) -> Result<(), &'static str> {
        let context_bytes: usize =
            self.context.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        if self.context.len() > CONTEXT_PAIRS_MAX || context_bytes > CONTEXT_BYTES_MAX {
            return Err("a context has at most 64 pairs and 8 KiB");
        }
        if self.context.keys().any(|name| name.starts_with(RESERVED)) {
            return Err("a context has no name that begins with aws-crypto-");
        }
        if self.data_keys.is_empty() || self.data_keys.len() > DATA_KEYS_MAX {
            return Err("there are 1 to 32 encrypted data keys");
        }
        for key in &self.data_keys {
            if key.provider.len() > PROVIDER_BYTES_MAX || key.info.len() > INFO_BYTES_MAX {
                return Err(
                    "an encrypted data key has a provider of at most 256 bytes and a key of at most 2048",
                );
            }
            if key.ciphertext.is_empty() || key.ciphertext.len() > CIPHERTEXT_BYTES_MAX {
                return Err("an encrypted data key has 1 to 6144 bytes");
            }
        }
        if !(1..=FRAME_BYTES_MAX).contains(&self.frame_bytes) {
            return Err("frames have 1 byte to 16 MiB");
        }
        Ok(())
    }

    /// What the tag is of. The header was checked, so no length is too long for its field.
    fn to_body(&self) -> Vec<u8> {
        let mut body = vec![VERSION];
        body.extend(SUITE.to_be_bytes());
        body.extend(self.id);
        let mut context = Vec::new();
        if !self.context.is_empty() {
            context.extend(short(self.context.len()));
            self.context.iter().flat_map(|(name, value)| [name, value]).for_each(|text| {
                push(&mut context, text.as_bytes());
            });
        }
        push(&mut body, &context);
        body.extend(short(self.data_keys.len()));
        for key in &self.data_keys {
            push(&mut body, key.provider.as_bytes());
            push(&mut body, &key.info);
            push(&mut body, &key.ciphertext);
        }
        body.push(FRAMED);
        body.extend(u32::try_from(self.frame_bytes).expect("frames have at most 16 MiB").to_be_bytes());
        body.extend(self.commitment);
        body
    }
}

impl Head for Header {
    type Key = DataKey;

    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Error> {
        Self::read(bytes)
    }

    fn unlock(&self, key: &DataKey, _: &mut Body) -> Result<Box<dyn Chunks>, Error> {
        Ok(Box::new(self.frames(key)?))
    }

    fn plaintext_bytes(&self, body_bytes: u64) -> Result<u64, Error> {
        Ok(frames::geometry(self.frame_bytes).extent_of_sealed(body_bytes)?.plaintext_bytes())
    }
}

/// The commitment to a data key in the message with this id, and the key of the message.
///
/// Source: AWS Encryption SDK Specification, algorithm-suites §"HKDF-SHA512 with commitment".
pub(super) fn derive(data_key: &DataKey, id: &[u8; ID_BYTES]) -> Result<(SecretBytes, ChunkKey), Error> {
    let expand =
        |info: &[&[u8]], out: &mut [u8]| kdf::hkdf(kdf::Hash::Sha512, id, data_key.0.expose(), info, out);
    let commitment = SecretBytes::with_len(COMMITMENT_BYTES, |out| expand(&[b"COMMITKEY"], out))?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    expand(&[&SUITE.to_be_bytes(), b"DERIVEKEY"], &mut *key)?;
    Ok((commitment, ChunkKey::aes_256_gcm(&key)))
}

/// Whether a message of this version and suite is read.
fn is_ours(version: u8, suite: u16) -> Result<(), Error> {
    match (version, suite) {
        (VERSION, SUITE) => Ok(()),
        (VERSION, 0x0578) => Err(Error::Unsupported(
            "a message of the AWS Encryption SDK with a signature (suite 0x0578); have it written in suite 0x0478, \
             AES_256_GCM_HKDF_SHA512_COMMIT_KEY",
        )),
        (VERSION, _) => {
            Err(Error::Malformed("its version is that of the AWS Encryption SDK, its suite is not"))
        }
        (1, 0x8000..=0x80ff) => Err(Error::Unsupported(
            "a message of the AWS Encryption SDK in version 1, which does not commit to its key; have it written in \
             suite 0x0478, AES_256_GCM_HKDF_SHA512_COMMIT_KEY",
        )),
        _ => Err(Error::Malformed("it does not begin as a message of the AWS Encryption SDK does")),
    }
}

fn read_context(mut rest: &[u8]) -> Result<Context, Error> {
    let mut context = Context::new();
    if rest.is_empty() {
        return Ok(context);
    }
    let count = u16::from_be_bytes(take(&mut rest)?);
    for _ in 0..count {
        let (name, value) = (text(counted(&mut rest)?)?, text(counted(&mut rest)?)?);
        if context.insert(name, value).is_some() {
            return Err(Error::Malformed("a name is twice in the context"));
        }
    }
    if count == 0 || !rest.is_empty() {
        return Err(Error::Malformed("the context is not as long as it says"));
    }
    Ok(context)
}

fn read_data_key(rest: &mut &[u8]) -> Result<EncryptedDataKey, Error> {
    Ok(EncryptedDataKey {
        provider: text(counted(rest)?)?,
        info: counted(rest)?.to_vec(),
        ciphertext: counted(rest)?.to_vec(),
    })
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    let text = str::from_utf8(bytes).map_err(|_| Error::Malformed("a text of the header is not UTF-8"))?;
    Ok(text.to_owned())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Error> {
    let (taken, left) = rest.split_first_chunk().ok_or(TOO_LONG)?;
    *rest = left;
    Ok(*taken)
}

/// What its length in two bytes precedes.
fn counted<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], Error> {
    let len = u16::from_be_bytes(take(rest)?);
    let (taken, left) = rest.split_at_checked(len.into()).ok_or(TOO_LONG)?;
    *rest = left;
    Ok(taken)
}

fn short(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("what was checked is shorter than 64 KiB").to_be_bytes()
}

fn push(out: &mut Vec<u8>, part: &[u8]) {
    out.extend(short(part.len()));
    out.extend(part);
}
