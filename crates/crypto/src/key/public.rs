//! The public half of a key, our own or another party's.

use std::fmt;

use aws_lc_rs::{
    agreement::{self, ParsedPublicKey as AgreementKey},
    digest::{self, Digest},
    encoding::{AsDer, PublicKeyX509Der},
    kem::EncapsulationKey,
    rsa::{OaepPublicEncryptingKey, PublicEncryptingKey},
    signature::{ED25519, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm},
};

use super::{Input, ed25519ph, schemes};
use crate::{
    Error,
    algorithm::{Algorithm, Family, Mechanism},
    secret::SecretBytes,
};

/// The longest encoding that is looked at; the longest real one is an ML-DSA-87 key with 2.6 kB.
pub const PUBLIC_KEY_BYTES_MAX: usize = 4096;

const X25519_SPKI_PREFIX: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x6e\x03\x21\x00";
const BAD_PUBLIC_KEY: Error = Error::Invalid("not a sound public key of this algorithm");

/// A public key, parsed once and used many times.
pub struct PublicKey {
    algorithm: Algorithm,
    der: Vec<u8>,
    operations: Operations,
}

enum Operations {
    Verify { mechanism: Mechanism, digest: Option<&'static digest::Algorithm>, key: ParsedPublicKey },
    Rsa { verifiers: Vec<ParsedPublicKey>, oaep: OaepPublicEncryptingKey },
    Agree,
    Encapsulate(EncapsulationKey),
}

impl PublicKey {
    /// Parses `SubjectPublicKeyInfo` DER (RFC 5280 §4.1.2.7) or, but for RSA, what its bit string holds:
    /// a point (SEC 1 §2.3.3) or the bare bytes of the key.
    ///
    /// EC points are checked to be on the curve, RSA moduli to have the algorithm's length. DER has to be
    /// what we would write: no curve by explicit parameters, nothing after the end.
    ///
    /// # Errors
    /// [`Error::TooLarge`] above [`PUBLIC_KEY_BYTES_MAX`], [`Error::Invalid`] for everything else that
    /// is not a public key of exactly this algorithm, [`Error::Unsupported`] for symmetric algorithms.
    pub fn from_der(algorithm: Algorithm, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > PUBLIC_KEY_BYTES_MAX {
            return Err(Error::TooLarge { limit: PUBLIC_KEY_BYTES_MAX });
        }
        let (der, operations) = match algorithm.info().family {
            Family::Aes | Family::ChaCha20 | Family::Hmac => {
                return Err(Error::Unsupported("a public key of a symmetric algorithm"));
            }
            Family::Rsa => rsa(algorithm, bytes)?,
            Family::Ec => {
                let curve = schemes::curve(algorithm)?;
                verify(curve.verification, curve.mechanism, Some(curve.digest), bytes)?
            }
            Family::Ed25519 => verify(&ED25519, Mechanism::Ed25519, None, bytes)?,
            Family::MlDsa => verify(schemes::ml_dsa(algorithm)?.verification, Mechanism::MlDsa, None, bytes)?,
            Family::X25519 => {
                let raw = bytes.strip_prefix(X25519_SPKI_PREFIX).unwrap_or(bytes);
                AgreementKey::try_from(agreement::UnparsedPublicKey::new(&agreement::X25519, raw))
                    .map_err(|_| BAD_PUBLIC_KEY)?;
                ([X25519_SPKI_PREFIX, raw].concat(), Operations::Agree)
            }
            Family::MlKem => {
                let scheme = schemes::ml_kem(algorithm)?;
                let raw = bytes.strip_prefix(&scheme.spki_prefix).unwrap_or(bytes);
                let key = EncapsulationKey::new(scheme.kem, raw).map_err(|_| BAD_PUBLIC_KEY)?;
                ([&scheme.spki_prefix, raw].concat(), Operations::Encapsulate(key))
            }
        };
        let compressed_point = matches!(bytes.first(), Some(2 | 3));
        if !der.ends_with(bytes) && !compressed_point {
            return Err(BAD_PUBLIC_KEY);
        }
        Ok(Self { algorithm, der, operations })
    }

    /// What kind of key it is.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `SubjectPublicKeyInfo` DER, written anew whatever the key was parsed from.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`]; [`Error::Unsupported`] if the key does not do this with this mechanism or
    /// this form of input; [`Error::Invalid`] for a digest of the wrong length.
    pub fn verify(&self, mechanism: Mechanism, input: Input<'_>, signature: &[u8]) -> Result<(), Error> {
        if self.algorithm == Algorithm::Ed25519 && mechanism == Mechanism::Ed25519ph {
            let raw = self.der.last_chunk::<32>().ok_or(BAD_PUBLIC_KEY)?;
            return ed25519ph::verify(raw, input, signature);
        }
        let (digest, key) = self.verifier(mechanism)?;
        match input {
            Input::Message(message) => key.verify_sig(message, signature),
            Input::Digest(bytes) => key.verify_digest_sig(&imported(digest, bytes)?, signature),
            Input::Mu(mu) => {
                return (schemes::ml_dsa(self.algorithm)?.verify_mu)(&self.der, mu, signature);
            }
        }
        .map_err(|_| Error::NotAuthentic)
    }

    /// Encrypts up to `modulus - 2 * hash - 2` bytes by RSA-OAEP; `label` is bound and often empty.
    ///
    /// # Errors
    /// [`Error::TooLarge`] names that limit; [`Error::Unsupported`] for other keys and mechanisms.
    ///
    /// Source: RFC 8017 §7.1.1.
    pub fn encrypt(&self, mechanism: Mechanism, label: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
        let Operations::Rsa { oaep: key, .. } = &self.operations else {
            return Err(schemes::UNSUPPORTED);
        };
        let oaep = schemes::oaep(mechanism)?.oaep;
        let limit = key.max_plaintext_size(oaep);
        if plaintext.len() > limit {
            return Err(Error::TooLarge { limit });
        }
        let mut ciphertext = vec![0; key.ciphertext_size()];
        key.encrypt(oaep, plaintext, &mut ciphertext, Some(label))
            .map_err(|_| Error::Internal("the library refused to encrypt"))?;
        Ok(ciphertext)
    }

    /// Wraps key material by RSA-OAEP with an empty label. For keys longer than
    /// [`encrypt`](Self::encrypt) takes there is [`super::rsa_aes_kwp_wrap`].
    ///
    /// # Errors
    /// As [`encrypt`](Self::encrypt).
    pub fn wrap(&self, mechanism: Mechanism, key_bytes: &[u8]) -> Result<Vec<u8>, Error> {
        self.encrypt(mechanism, &[], key_bytes)
    }

    /// Draws a shared secret of 32 bytes and encapsulates it: (ciphertext, secret).
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this is no ML-KEM key, [`Error::Invalid`] if it is not well-formed.
    ///
    /// Source: FIPS 203 §7.2.
    pub fn encapsulate(&self) -> Result<(Vec<u8>, SecretBytes), Error> {
        let Operations::Encapsulate(key) = &self.operations else {
            return Err(schemes::UNSUPPORTED);
        };
        let (ciphertext, secret) = key.encapsulate().map_err(|_| BAD_PUBLIC_KEY)?;
        Ok((ciphertext.as_ref().to_vec(), SecretBytes::copy_from(secret.as_ref())?))
    }

    fn verifier(
        &self,
        wanted: Mechanism,
    ) -> Result<(Option<&'static digest::Algorithm>, &ParsedPublicKey), Error> {
        match &self.operations {
            Operations::Verify { mechanism, digest, key } if *mechanism == wanted => Ok((*digest, key)),
            Operations::Rsa { verifiers, .. } => schemes::RSA_SIGNATURES
                .iter()
                .zip(verifiers)
                .find(|(scheme, _)| scheme.mechanism == wanted)
                .map(|(scheme, key)| (Some(scheme.digest), key))
                .ok_or(schemes::UNSUPPORTED),
            Operations::Verify { .. } | Operations::Agree | Operations::Encapsulate(_) => {
                Err(schemes::UNSUPPORTED)
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.algorithm.name())
    }
}

/// A digest that the caller computed, checked to have the length of the mechanism's hash.
pub(super) fn imported(algorithm: Option<&'static digest::Algorithm>, bytes: &[u8]) -> Result<Digest, Error> {
    let algorithm = algorithm.ok_or(Error::Unsupported("a digest: this mechanism signs messages only"))?;
    Digest::import_less_safe(bytes, algorithm)
        .map_err(|_| Error::Invalid("the digest is not as long as the mechanism's hash"))
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    mechanism: Mechanism,
    digest: Option<&'static digest::Algorithm>,
    bytes: &[u8],
) -> Result<(Vec<u8>, Operations), Error> {
    let key = UnparsedPublicKey::new(algorithm, bytes).parse().map_err(|_| BAD_PUBLIC_KEY)?;
    let der = AsDer::<PublicKeyX509Der>::as_der(&key).map_err(|_| BAD_PUBLIC_KEY)?.as_ref().to_vec();
    Ok((der, Operations::Verify { mechanism, digest, key }))
}

fn rsa(algorithm: Algorithm, bytes: &[u8]) -> Result<(Vec<u8>, Operations), Error> {
    let key = PublicEncryptingKey::from_der(bytes).map_err(|_| BAD_PUBLIC_KEY)?;
    if key.key_size_bits() != usize::from(algorithm.info().key_bits) {
        return Err(Error::Invalid("the RSA modulus is not as long as its algorithm says"));
    }
    let der = key.as_der().map_err(|_| BAD_PUBLIC_KEY)?.as_ref().to_vec();
    let verifiers = schemes::RSA_SIGNATURES
        .iter()
        .map(|scheme| UnparsedPublicKey::new(scheme.verification, &der).parse())
        .collect::<Result<_, _>>()
        .map_err(|_| BAD_PUBLIC_KEY)?;
    let oaep = OaepPublicEncryptingKey::new(key).map_err(|_| BAD_PUBLIC_KEY)?;
    Ok((der, Operations::Rsa { verifiers, oaep }))
}
