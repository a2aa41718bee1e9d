//! Attestation keys, and signatures by them.
//!
//! Source: TCG TPM 2.0 Library part 2 rev. 1.59 §12.2.4 (`TPMT_PUBLIC`), §8.3 (`TPMA_OBJECT`), §11.3.4
//! (`TPMT_SIGNATURE`); RFC 3279 §2.3.1, RFC 5480 §2 (`SubjectPublicKeyInfo`).

use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::digest::sha256;
use keyhearth_crypto::key::{Input, PublicKey};

use super::TPM_ALG_SHA256;
use crate::ecdsa;
use crate::reader::Reader;
use crate::reason::{Reason, Refusal};

/// The longest attestation key in either form: RSA with 4096 bits.
pub(super) const KEY_BYTES_MAX: usize = 1024;
/// The longest signature: RSA with 4096 bits.
pub(super) const SIGNATURE_BYTES_MAX: usize = 1024;

const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Rsa2048, Algorithm::Rsa3072, Algorithm::Rsa4096, Algorithm::EcP256, Algorithm::EcP384];

const TPM_ALG_RSA: u16 = 0x0001;
const TPM_ALG_SHA384: u16 = 0x000c;
const TPM_ALG_NULL: u16 = 0x0010;
const TPM_ALG_RSASSA: u16 = 0x0014;
const TPM_ALG_RSAPSS: u16 = 0x0016;
const TPM_ALG_ECDSA: u16 = 0x0018;
const TPM_ALG_ECC: u16 = 0x0023;
const TPM_ECC_NIST_P256: u16 = 0x0003;
const TPM_ECC_NIST_P384: u16 = 0x0004;

/// `fixedTPM`, `fixedParent`, `sensitiveDataOrigin`, `restricted` and `sign`.
const ATTRIBUTES_DEMANDED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18;
const ATTRIBUTE_DECRYPT: u32 = 1 << 17;
/// The exponent that a zero stands for.
const RSA_EXPONENT: u32 = 65537;

const DER_INTEGER: u8 = 0x02;
const DER_BIT_STRING: u8 = 0x03;
const DER_SEQUENCE: u8 = 0x30;
/// `AlgorithmIdentifier` of `rsaEncryption`.
const RSA_ENCRYPTION: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// A key that may have signed a quote. Whether it is a TPM's is another question.
pub(crate) struct AttestationKey(PublicKey);

impl AttestationKey {
    /// Reads `SubjectPublicKeyInfo` in DER or a TPM's `TPMT_PUBLIC`.
    ///
    /// Only the second says what the TPM does with the key. One that the TPM would use to sign anything, or that it
    /// did not make itself, is refused: it could sign what merely looks like a quote.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        match bytes {
            [DER_SEQUENCE, ..] => Self::from_spki(bytes),
            _ => Self::from_public(bytes)?.ok_or_else(|| Reason::TpmKeyMalformed.because("not TPMT_PUBLIC")),
        }
    }

    fn from_spki(der: &[u8]) -> Result<Self, Refusal> {
        let key = ALGORITHMS.iter().find_map(|algorithm| PublicKey::from_der(*algorithm, der).ok());
        let malformed = "not RSA of 2048, 3072 or 4096 bits, nor a point of P-256 or P-384";
        key.map(Self).ok_or_else(|| Reason::TpmKeyMalformed.because(malformed))
    }

    /// An RSA key, of its numbers with the highest bytes first.
    pub(crate) fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, Refusal> {
        let numbers = [integer(modulus), integer(exponent)].concat();
        let bits = [&[0], &*der(DER_SEQUENCE, &numbers)].concat();
        let info = [RSA_ENCRYPTION, &der(DER_BIT_STRING, &bits)].concat();
        Self::from_spki(&der(DER_SEQUENCE, &info))
    }

    fn from_point(algorithm: Algorithm, x: &[u8], y: &[u8]) -> Option<Self> {
        let length = usize::from(algorithm.info().key_bits).div_ceil(8);
        let mut point = vec![4];
        for coordinate in [x, y] {
            point.resize(point.len() + length.checked_sub(coordinate.len())?, 0);
            point.extend(coordinate);
        }
        PublicKey::from_der(algorithm, &point).ok().map(Self)
    }

    /// Reads `TPMT_PUBLIC`; nothing if it is of no form that quotes are signed with.
    fn from_public(bytes: &[u8]) -> Result<Option<Self>, Refusal> {
        let mut reader = Reader::new(bytes);
        let Some((kind, attributes)) = header(&mut reader) else { return Ok(None) };
        if attributes & ATTRIBUTES_DEMANDED != ATTRIBUTES_DEMANDED || attributes & ATTRIBUTE_DECRYPT != 0 {
            return Err(Reason::TpmKeyUnfit.because(format!("attributes {attributes:08x}")));
        }
        match kind {
            TPM_ALG_RSA => rsa(reader).map(|(n, e)| Self::from_rsa(n, &e)).transpose(),
            TPM_ALG_ECC => Ok(point(reader).and_then(|(algorithm, x, y)| Self::from_point(algorithm, x, y))),
            _ => Ok(None),
        }
    }

    /// SHA-256 of the key as `SubjectPublicKeyInfo`: what it is known by, whatever form it came in.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        sha256(&[self.0.der()])
    }

    /// Checks that this key made `signature` over `message`.
    pub(super) fn check(&self, message: &[u8], signature: &Signature) -> Result<(), Refusal> {
        let verified = self.0.verify(signature.mechanism, Input::Message(message), &signature.bytes);
        verified.map_err(|_| Reason::TpmSignature.into())
    }
}

/// Type and attributes; the algorithm of its name and the policy of its use do not matter.
fn header(reader: &mut Reader<'_>) -> Option<(u16, u32)> {
    let kind = u16::from_be_bytes(reader.array()?);
    let _name_algorithm: [u8; 2] = reader.array()?;
    let attributes = u32::from_be_bytes(reader.array()?);
    reader.sized()?;
    // Of a key that signs, the symmetric algorithm is none.
    (u16::from_be_bytes(reader.array()?) == TPM_ALG_NULL).then_some((kind, attributes))
}

/// `TPMT_ASYM_SCHEME` or `TPMT_KDF_SCHEME`: an algorithm, and its hash if it is not none.
fn scheme(reader: &mut Reader<'_>) -> Option<u16> {
    let scheme = u16::from_be_bytes(reader.array()?);
    if scheme != TPM_ALG_NULL {
        reader.slice(2)?;
    }
    Some(scheme)
}

fn rsa<'a>(mut reader: Reader<'a>) -> Option<(&'a [u8], [u8; 4])> {
    let scheme = scheme(&mut reader)?;
    let _key_bits: [u8; 2] = reader.array()?;
    let exponent = match u32::from_be_bytes(reader.array()?) {
        0 => RSA_EXPONENT,
        exponent => exponent,
    };
    let modulus = reader.sized()?;
    reader.end()?;
    matches!(scheme, TPM_ALG_RSASSA | TPM_ALG_RSAPSS).then_some((modulus, exponent.to_be_bytes()))
}

fn point<'a>(mut reader: Reader<'a>) -> Option<(Algorithm, &'a [u8], &'a [u8])> {
    let signing = scheme(&mut reader)?;
    let algorithm = match u16::from_be_bytes(reader.array()?) {
        TPM_ECC_NIST_P256 => Algorithm::EcP256,
        TPM_ECC_NIST_P384 => Algorithm::EcP384,
        _ => return None,
    };
    let derivation = scheme(&mut reader)?;
    let (x, y) = (reader.sized()?, reader.sized()?);
    reader.end()?;
    (signing == TPM_ALG_ECDSA && derivation == TPM_ALG_NULL).then_some((algorithm, x, y))
}

/// A signature by one of the mechanisms that quotes are signed with.
pub(crate) struct Signature {
    mechanism: Mechanism,
    bytes: Vec<u8>,
}

impl Signature {
    /// Reads `TPMT_SIGNATURE`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let malformed = || Reason::TpmSignatureMalformed.because(format!("{} bytes", bytes.len()));
        let mut reader = Reader::new(bytes);
        let algorithms = |reader: &mut Reader<'_>| {
            Some((u16::from_be_bytes(reader.array()?), u16::from_be_bytes(reader.array()?)))
        };
        let (algorithm, hash) = algorithms(&mut reader).ok_or_else(malformed)?;
        let mechanism = match (algorithm, hash) {
            (TPM_ALG_RSASSA, TPM_ALG_SHA256) => Mechanism::RsaPkcs1Sha256,
            (TPM_ALG_RSAPSS, TPM_ALG_SHA256) => Mechanism::RsaPssSha256,
            (TPM_ALG_ECDSA, TPM_ALG_SHA256) => Mechanism::EcdsaSha256,
            (TPM_ALG_ECDSA, TPM_ALG_SHA384) => Mechanism::EcdsaSha384,
            _ => {
                let detail = format!("algorithm {algorithm:04x} with hash {hash:04x}");
                return Err(Reason::TpmSignatureAlgorithm.because(detail));
            }
        };
        let bytes = match algorithm {
            TPM_ALG_ECDSA => pair(reader).and_then(|(r, s)| ecdsa::der(r, s)),
            _ => one(reader).map(<[u8]>::to_vec),
        };
        Ok(Self { mechanism, bytes: bytes.ok_or_else(malformed)? })
    }

    /// A bare RSASSA signature with SHA-256, as some tools leave of a `TPMT_SIGNATURE`.
    pub(crate) fn rsassa(bytes: &[u8]) -> Self {
        Self { mechanism: Mechanism::RsaPkcs1Sha256, bytes: bytes.to_vec() }
    }
}

fn one<'a>(mut reader: Reader<'a>) -> Option<&'a [u8]> {
    let only = reader.sized()?;
    reader.end().map(|()| only)
}

fn pair<'a>(mut reader: Reader<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let numbers = (reader.sized()?, reader.sized()?);
    reader.end().map(|()| numbers)
}

/// A DER INTEGER of a number with its highest byte first.
fn integer(number: &[u8]) -> Vec<u8> {
    let used = number.iter().position(|byte| *byte != 0).map_or(&[0][..], |first| &number[first..]);
    let padding = &[0][..usize::from(used[0] >= 0x80)];
    der(DER_INTEGER, &[padding, used].concat())
}

/// A DER value.
fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let used = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    match used {
        [short @ 0..=0x7f] => [&[tag, *short], contents].concat(),
        long => {
            let count = u8::try_from(long.len()).expect("a length has at most 8 bytes");
            [&[tag, 0x80 | count], long, contents].concat()
        }
    }
}
