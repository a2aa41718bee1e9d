//! Keys ready for use: parsed once, used many times, for everything but KH1 messages.
//!
//! [`generate`] and [`import`] make material in its stored form; [`Key::load`] makes a [`Key`] of it;
//! [`PublicKey`] is the half that others hold. Which [`Mechanism`] works with which
//! [`Algorithm`] is said in [`crate::algorithm`].
//!
//! Not here: states, policy, counting. AES-GCM and ChaCha20-Poly1305 draw a random 96-bit IV for every
//! call, so a key is safe for 2^32 calls (SP 800-38D §8.3) and its owner has to count them.
//! AES-CBC and AES-CTR hide data from a passive reader and no more: whoever can change a ciphertext can
//! change the plaintext. They exist for what is encrypted so already.
//!
//! What locked memory does not cover: the library's own copies (key schedules, big numbers) of a loaded
//! key. It zeroes them when the [`Key`] is dropped.
//!
//! Called by the server's engine and by agents.

mod ed25519ph;
mod exchange;
mod material;
mod ml_dsa;
mod public;
mod schemes;
mod symmetric;
mod transport;

use std::fmt;

use aws_lc_rs::{
    aead::{self, LessSafeKey, UnboundKey},
    agreement, cmac, digest,
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    kem::{self, DecapsulationKey},
    rand::SystemRandom,
    rsa::{OaepPrivateDecryptingKey, PrivateDecryptingKey},
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, PqdsaKeyPair, RsaKeyPair},
};
use zeroize::Zeroizing;

use crate::{
    Error,
    algorithm::{Algorithm, Family, Mechanism},
    keywrap,
    secret::SecretBytes,
};
pub use exchange::POINT_BYTES;
pub use material::{
    HMAC_BYTES_MAX, HMAC_BYTES_MIN, IMPORT_BYTES_MAX, generate, generate_pair, import, import_scalar,
};
pub use public::{PUBLIC_KEY_BYTES_MAX, PublicKey};
use schemes::{Aes, Curve, Hmac, UNSUPPORTED};
pub use transport::{rsa_aes_kwp_unwrap, rsa_aes_kwp_wrap};

const REFUSED: Error = Error::Internal("the library refused the key");

/// What is signed or verified.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The message; the mechanism hashes it.
    Message(&'a [u8]),
    /// The mechanism's hash of the message, computed by the caller.
    Digest(&'a [u8]),
    /// What ML-DSA signs in place of the message: 64 bytes, which the caller computed from the public key, the
    /// context and the message. Source: FIPS 204 §6.2, line 6 of Algorithm 7.
    Mu(&'a [u8]),
}

/// A ciphertext and what it takes to decrypt it, beside the key.
#[derive(Debug)]
pub struct Encrypted {
    /// Drawn at random for this call: 12 bytes for AEADs, 16 for CBC and CTR, none for RSA.
    pub iv: Vec<u8>,
    /// As long as the plaintext, plus the tag (16 bytes) or padding (1 to 16 bytes) at its end.
    pub ciphertext: Vec<u8>,
}

/// A private or symmetric key, ready for use. `Debug` shows the algorithm alone.
pub struct Key {
    algorithm: Algorithm,
    secret: Secret,
    public: Option<PublicKey>,
}

enum Secret {
    Aes {
        scheme: &'static Aes,
        material: SecretBytes,
        gcm: Box<LessSafeKey>,
    },
    ChaCha20(Box<LessSafeKey>),
    Hmac {
        scheme: &'static Hmac,
        key: Box<hmac::Key>,
    },
    Rsa {
        pair: RsaKeyPair,
        oaep: OaepPrivateDecryptingKey,
    },
    Ec {
        curve: &'static Curve,
        pair: EcdsaKeyPair,
        agreement: Option<agreement::PrivateKey>,
        next: Option<exchange::Next>,
    },
    Ed25519 {
        pair: Ed25519KeyPair,
        seed: SecretBytes,
    },
    X25519(agreement::PrivateKey),
    MlKem(DecapsulationKey),
    MlDsa {
        pair: PqdsaKeyPair,
        seed: SecretBytes,
    },
}

impl Key {
    /// Prepares material in its stored form, as [`generate`] and [`import`] return it.
    ///
    /// # Errors
    /// [`Error::Internal`] or [`Error::Invalid`] if it is not what they returned.
    pub fn load(algorithm: Algorithm, material: &SecretBytes) -> Result<Self, Error> {
        let bytes = material.expose();
        let (secret, public) = match algorithm.info().family {
            Family::Aes => {
                let scheme = schemes::aes(algorithm)?;
                let gcm = Box::new(aead_key(scheme.gcm, bytes)?);
                (Secret::Aes { scheme, material: SecretBytes::copy_from(bytes)?, gcm }, None)
            }
            Family::ChaCha20 => {
                (Secret::ChaCha20(Box::new(aead_key(&aead::CHACHA20_POLY1305, bytes)?)), None)
            }
            Family::Hmac => {
                let scheme = schemes::hmac(algorithm)?;
                (Secret::Hmac { scheme, key: Box::new(hmac::Key::new(scheme.hmac, bytes)) }, None)
            }
            Family::Rsa => {
                let pair = RsaKeyPair::from_pkcs8(bytes).map_err(|_| REFUSED)?;
                let oaep = PrivateDecryptingKey::from_pkcs8(bytes).map_err(|_| REFUSED)?;
                let oaep = OaepPrivateDecryptingKey::new(oaep).map_err(|_| REFUSED)?;
                let public = spki(pair.public_key())?;
                (Secret::Rsa { pair, oaep }, Some(public))
            }
            Family::Ec => {
                let curve = schemes::curve(algorithm)?;
                let pair = EcdsaKeyPair::from_pkcs8(curve.signing, bytes).map_err(|_| REFUSED)?;
                let public = spki(pair.public_key())?;
                let agreement = curve
                    .agreement
                    .map(|curve| agreement::PrivateKey::from_private_key_der(curve, bytes))
                    .transpose()
                    .map_err(|_| REFUSED)?;
                let next = exchange::Next::of(curve, &pair)?;
                (Secret::Ec { curve, pair, agreement, next }, Some(public))
            }
            Family::Ed25519 => {
                let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| REFUSED)?;
                let public = spki(pair.public_key())?;
                let seed = SecretBytes::copy_from(bytes.last_chunk::<32>().ok_or(REFUSED)?)?;
                (Secret::Ed25519 { pair, seed }, Some(public))
            }
            Family::X25519 => {
                let key = agreement::PrivateKey::from_private_key(&agreement::X25519, bytes)
                    .map_err(|_| REFUSED)?;
                let public = spki(&key.compute_public_key().map_err(|_| REFUSED)?)?;
                (Secret::X25519(key), Some(public))
            }
            Family::MlKem => {
                let scheme = schemes::ml_kem(algorithm)?;
                let public = material::encapsulation_key(scheme, bytes)?.to_vec();
                (Secret::MlKem(DecapsulationKey::new(scheme.kem, bytes).map_err(|_| REFUSED)?), Some(public))
            }
            Family::MlDsa => {
                let signing = schemes::ml_dsa(algorithm)?.signing;
                let pair = PqdsaKeyPair::from_pkcs8(signing, bytes).map_err(|_| REFUSED)?;
                let public = spki(pair.public_key())?;
                let seed = SecretBytes::copy_from(bytes.last_chunk::<32>().ok_or(REFUSED)?)?;
                (Secret::MlDsa { pair, seed }, Some(public))
            }
        };
        let public = public.map(|bytes| PublicKey::from_der(algorithm, &bytes)).transpose()?;
        Ok(Self { algorithm, secret, public })
    }

    /// What kind of key it is.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The public half, if the key has one.
    #[must_use]
    pub fn public_key(&self) -> Option<&PublicKey> {
        self.public.as_ref()
    }

    /// The public half as `SubjectPublicKeyInfo` DER (RFC 5280 §4.1.2.7).
    #[must_use]
    pub fn public_key_der(&self) -> Option<&[u8]> {
        self.public_key().map(PublicKey::der)
    }

    /// The 32 bytes from which KH1 messages are derived, for AES-256 keys.
    #[must_use]
    pub fn kh1_material(&self) -> Option<&[u8]> {
        let Secret::Aes { material, .. } = &self.secret else {
            return None;
        };
        self.algorithm.supports(Mechanism::Kh1).then(|| material.expose())
    }

    /// Encrypts by an AEAD, CBC, CTR or RSA-OAEP. The IV is always drawn here and never given.
    ///
    /// `aad` is authenticated and not kept; it is OAEP's label, and has to be empty for CBC and CTR.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a mechanism this key does not have, and for KH1, which [`crate::kh1`]
    /// does; [`Error::TooLarge`] for OAEP; [`Error::Invalid`] if `aad` cannot be authenticated.
    ///
    /// Source: SP 800-38D §7.1 and §8.2.2, RFC 8439 §2.8, SP 800-38A §6.2 and §6.5, RFC 8017 §7.1.1.
    pub fn encrypt(&self, mechanism: Mechanism, aad: &[u8], plaintext: &[u8]) -> Result<Encrypted, Error> {
        match (&self.secret, mechanism) {
            (Secret::Aes { gcm: key, .. }, Mechanism::AesGcm)
            | (Secret::ChaCha20(key), Mechanism::ChaCha20Poly1305) => {
                symmetric::aead_seal(key, aad, plaintext)
            }
            (Secret::Aes { scheme, material, .. }, Mechanism::AesCbcPad) => {
                no_aad(aad)?;
                symmetric::cbc_encrypt(scheme, material.expose(), plaintext)
            }
            (Secret::Aes { scheme, material, .. }, Mechanism::AesCtr) => {
                no_aad(aad)?;
                symmetric::ctr_encrypt(scheme, material.expose(), plaintext)
            }
            _ => {
                let public = self.public.as_ref().ok_or(UNSUPPORTED)?;
                let ciphertext = public.encrypt(mechanism, aad, plaintext)?;
                Ok(Encrypted { iv: Vec::new(), ciphertext })
            }
        }
    }

    /// Reverses [`encrypt`](Self::encrypt); `iv` and `aad` as there.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] for whatever was not made with this key, never saying why: a bad padding
    /// looks like a bad length. Only a wrong length of `iv` is told apart, as [`Error::Invalid`].
    /// CTR detects nothing, and CBC answers for its padding only. [`Error::Unsupported`] as above.
    ///
    /// Source: SP 800-38D §7.2, RFC 8439 §2.8, SP 800-38A §6.2 and §6.5, RFC 8017 §7.1.2.
    pub fn decrypt(
        &self,
        mechanism: Mechanism,
        iv: &[u8],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        match (&self.secret, mechanism) {
            (Secret::Aes { gcm: key, .. }, Mechanism::AesGcm)
            | (Secret::ChaCha20(key), Mechanism::ChaCha20Poly1305) => {
                symmetric::aead_open(key, iv, aad, ciphertext)
            }
            (Secret::Aes { scheme, material, .. }, Mechanism::AesCbcPad) => {
                no_aad(aad)?;
                symmetric::cbc_decrypt(scheme, material.expose(), iv, ciphertext)
            }
            (Secret::Aes { scheme, material, .. }, Mechanism::AesCtr) => {
                no_aad(aad)?;
                symmetric::ctr_decrypt(scheme, material.expose(), iv, ciphertext)
            }
            (Secret::Rsa { oaep: key, .. }, _) => {
                if !iv.is_empty() {
                    return Err(Error::Invalid("RSA-OAEP takes no IV"));
                }
                oaep_decrypt(key, mechanism, aad, ciphertext)
            }
            _ => Err(UNSUPPORTED),
        }
    }

    /// Signs. ECDSA signatures are ASN.1 DER, all others the bare bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the key does not do this with this mechanism, or not with a digest
    /// (Ed25519, ML-DSA); [`Error::Invalid`] for a digest of the wrong length.
    ///
    /// Source: RFC 8017 §8.1.1 and §8.2.1, FIPS 186-5 §6.4.1 and §7.6, FIPS 204 §5.2.
    pub fn sign(&self, mechanism: Mechanism, input: Input<'_>) -> Result<Vec<u8>, Error> {
        let rng = SystemRandom::new();
        let digest = |algorithm: &'static digest::Algorithm, bytes| public::imported(Some(algorithm), bytes);
        let signature = match (&self.secret, mechanism, input) {
            (Secret::Rsa { pair, .. }, _, _) => {
                let scheme = schemes::rsa_signature(mechanism)?;
                let mut signature = vec![0; pair.public_modulus_len()];
                match input {
                    Input::Message(message) => pair.sign(scheme.encoding, &rng, message, &mut signature),
                    Input::Digest(bytes) => {
                        pair.sign_digest(scheme.encoding, &digest(scheme.digest, bytes)?, &mut signature)
                    }
                    Input::Mu(_) => return Err(UNSUPPORTED),
                }
                .map(|()| signature)
            }
            (Secret::Ec { curve, pair, .. }, _, _) if curve.mechanism == mechanism => match input {
                Input::Message(message) => pair.sign(&rng, message),
                Input::Digest(bytes) => pair.sign_digest(&digest(curve.digest, bytes)?),
                Input::Mu(_) => return Err(UNSUPPORTED),
            }
            .map(|signature| signature.as_ref().to_vec()),
            (Secret::Ed25519 { seed, .. }, Mechanism::Ed25519ph, _) => {
                return ed25519ph::sign(seed.expose(), input);
            }
            (Secret::Ed25519 { pair, .. }, Mechanism::Ed25519, Input::Message(message)) => {
                pair.try_sign(message).map(|signature| signature.as_ref().to_vec())
            }
            (Secret::MlDsa { seed, .. }, Mechanism::MlDsa, Input::Mu(mu)) => {
                return (schemes::ml_dsa(self.algorithm)?.sign_mu)(seed.expose(), mu);
            }
            (Secret::MlDsa { pair, .. }, Mechanism::MlDsa, Input::Message(message)) => {
                let mut signature = vec![0; pair.algorithm().signature_len()];
                pair.sign(message, &mut signature).map(|_| signature)
            }
            _ => return Err(UNSUPPORTED),
        };
        signature.map_err(|_| Error::Internal("the library refused to sign"))
    }

    /// Checks a signature with the public half: see [`PublicKey::verify`].
    ///
    /// # Errors
    /// As there.
    pub fn verify(&self, mechanism: Mechanism, input: Input<'_>, signature: &[u8]) -> Result<(), Error> {
        self.public.as_ref().ok_or(UNSUPPORTED)?.verify(mechanism, input, signature)
    }

    /// Computes the code that authenticates `message`, at its full length.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a mechanism this key does not have.
    ///
    /// Source: FIPS 198-1 §4; SP 800-38B §6.2.
    pub fn mac(&self, mechanism: Mechanism, message: &[u8]) -> Result<Vec<u8>, Error> {
        match (&self.secret, mechanism) {
            (Secret::Hmac { scheme, key }, _) if scheme.mechanism == mechanism => {
                Ok(hmac::sign(key, message).as_ref().to_vec())
            }
            (Secret::Aes { scheme, material, .. }, Mechanism::AesCmac) => {
                let tag =
                    cmac::Key::new(scheme.cmac, material.expose()).and_then(|key| cmac::sign(&key, message));
                Ok(tag.map_err(|_| REFUSED)?.as_ref().to_vec())
            }
            _ => Err(UNSUPPORTED),
        }
    }

    /// Derives the 32-byte secret of a volume's keyslot; `label` names the purpose, `context` what it is for.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for every key but one of HMAC-SHA256.
    ///
    /// Source: SP 800-108r1 §4.1, as [`crate::kdf::kbkdf`].
    pub fn volume_secret(&self, label: &str, context: &[&[u8]]) -> Result<Zeroizing<[u8; 32]>, Error> {
        let Secret::Hmac { key, .. } = &self.secret else { return Err(UNSUPPORTED) };
        if !self.algorithm.supports(Mechanism::VolumeKdf) {
            return Err(UNSUPPORTED);
        }
        let mut secret = Zeroizing::new([0; 32]);
        crate::kdf::derive(key, label, context, &mut secret[..]);
        Ok(secret)
    }

    /// Checks a code of full length in constant time.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`]; [`Error::Unsupported`] as [`mac`](Self::mac).
    pub fn verify_mac(&self, mechanism: Mechanism, message: &[u8], mac: &[u8]) -> Result<(), Error> {
        let expected = self.mac(mechanism, message)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, mac).map_err(|_| Error::NotAuthentic)
    }

    /// Wraps key material by KW, KWP or RSA-OAEP (empty label).
    ///
    /// KW and KWP are deterministic: equal keys wrapped under this one look equal.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a mechanism this key does not have, [`Error::Invalid`] or
    /// [`Error::TooLarge`] for a length which the mechanism cannot wrap.
    ///
    /// Source: SP 800-38F §6.2 and §6.3; RFC 8017 §7.1.1.
    pub fn wrap(&self, mechanism: Mechanism, key_bytes: &[u8]) -> Result<Vec<u8>, Error> {
        match (&self.secret, mechanism) {
            (Secret::Aes { material, .. }, Mechanism::AesKw) => {
                keywrap::kw_wrap(material.expose(), key_bytes)
            }
            (Secret::Aes { material, .. }, Mechanism::AesKwp) => {
                keywrap::kwp_wrap(material.expose(), key_bytes)
            }
            _ => self.public.as_ref().ok_or(UNSUPPORTED)?.wrap(mechanism, key_bytes),
        }
    }

    /// Reverses [`wrap`](Self::wrap).
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] for what was not wrapped for this key; [`Error::Unsupported`] as there.
    pub fn unwrap(&self, mechanism: Mechanism, wrapped: &[u8]) -> Result<SecretBytes, Error> {
        match (&self.secret, mechanism) {
            (Secret::Aes { material, .. }, Mechanism::AesKw) => {
                keywrap::kw_unwrap(material.expose(), wrapped)
            }
            (Secret::Aes { material, .. }, Mechanism::AesKwp) => {
                keywrap::kwp_unwrap(material.expose(), wrapped)
            }
            (Secret::Rsa { oaep, .. }, _) => {
                SecretBytes::take_from(&mut oaep_decrypt(oaep, mechanism, &[], wrapped)?)
            }
            _ => Err(UNSUPPORTED),
        }
    }

    /// Agrees on a secret with the holder of `peer_public`, encoded as [`PublicKey::from_der`] takes it.
    ///
    /// The secret is not uniform: derive keys from it, never use it as one. 32, 48 or 66 bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a peer's key that is on another curve, on none, or of small order;
    /// [`Error::Unsupported`] if this key does not agree.
    ///
    /// Source: SP 800-56A Rev. 3 §5.7.1.2; RFC 7748 §6.1.
    pub fn agree(&self, peer_public: &[u8]) -> Result<SecretBytes, Error> {
        let (Secret::Ec { agreement: Some(key), .. } | Secret::X25519(key)) = &self.secret else {
            return Err(UNSUPPORTED);
        };
        let peer = PublicKey::from_der(self.algorithm, peer_public)?;
        let peer = agreement::UnparsedPublicKey::new(key.algorithm(), peer.der());
        let invalid = Error::Invalid("a public key of small order gives no secret");
        agreement::agree(key, peer, invalid, SecretBytes::copy_from)
    }

    /// Multiplies the point `peer_public`, encoded as [`PublicKey::from_der`] takes it: the holder's half of a
    /// McCallum–Relyea exchange.
    ///
    /// The product is given whole, as [`POINT_BYTES`]. Its x-coordinate is what [`agree`](Self::agree) gives, so a
    /// key that does this for strangers must not be agreed with.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a point that is on another curve, on none, or at infinity; [`Error::Unsupported`] if
    /// this is no key on P-521.
    ///
    /// Source: McCallum and Relyea, <https://github.com/latchset/tang>, README, "Security Considerations" and
    /// "Binding"; SEC 1 §3.2.2.1 (public keys).
    pub fn exchange(&self, peer_public: &[u8]) -> Result<[u8; POINT_BYTES], Error> {
        let Secret::Ec { agreement: Some(key), next: Some(next), .. } = &self.secret else {
            return Err(UNSUPPORTED);
        };
        exchange::multiply(key, next, &PublicKey::from_der(self.algorithm, peer_public)?)
    }

    /// Encapsulates to this key's public half: see [`PublicKey::encapsulate`].
    ///
    /// # Errors
    /// As there.
    pub fn encapsulate(&self) -> Result<(Vec<u8>, SecretBytes), Error> {
        self.public.as_ref().ok_or(UNSUPPORTED)?.encapsulate()
    }

    /// The 32-byte secret inside `ciphertext`.
    ///
    /// A changed ciphertext of the right length gives another secret and no error: ML-KEM rejects implicitly.
    ///
    /// # Errors
    /// [`Error::NotAuthentic`] for a wrong length, [`Error::Unsupported`] if this is no ML-KEM key.
    ///
    /// Source: FIPS 203 §7.3.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<SecretBytes, Error> {
        let Secret::MlKem(key) = &self.secret else {
            return Err(UNSUPPORTED);
        };
        let secret = key.decapsulate(kem::Ciphertext::from(ciphertext)).map_err(|_| Error::NotAuthentic)?;
        SecretBytes::copy_from(secret.as_ref())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.algorithm.name())
    }
}

fn aead_key(algorithm: &'static aead::Algorithm, bytes: &[u8]) -> Result<LessSafeKey, Error> {
    UnboundKey::new(algorithm, bytes).map(LessSafeKey::new).map_err(|_| REFUSED)
}

fn spki<'a, K: AsDer<PublicKeyX509Der<'a>>>(key: &K) -> Result<Vec<u8>, Error> {
    Ok(key.as_der().map_err(|_| REFUSED)?.as_ref().to_vec())
}

fn no_aad(aad: &[u8]) -> Result<(), Error> {
    let rule = Error::Invalid("this mechanism cannot authenticate associated data");
    aad.is_empty().then_some(()).ok_or(rule)
}

fn oaep_decrypt(
    key: &OaepPrivateDecryptingKey,
    mechanism: Mechanism,
    label: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let oaep = schemes::oaep(mechanism)?.oaep;
    let mut plaintext = Zeroizing::new(vec![0; key.min_output_size()]);
    let len =
        key.decrypt(oaep, ciphertext, &mut plaintext, Some(label)).map_err(|_| Error::NotAuthentic)?.len();
    plaintext.truncate(len);
    Ok(plaintext)
}
