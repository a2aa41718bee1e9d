//! How key material is stored, made and accepted from outside.

use aws_lc_rs::{
    agreement,
    digest::{SHA3_256, digest},
    encoding::AsDer,
    error::Unspecified,
    kem::DecapsulationKey,
    pkcs8::Document,
    rsa,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair, PqdsaKeyPair, RsaKeyPair},
};
use zeroize::Zeroizing;

use super::schemes::{self, Curve, MlKem};
use super::{Key, PublicKey};
use crate::{
    Error,
    algorithm::{Algorithm, Family},
    random,
    secret::SecretBytes,
};

/// The longest material that [`import`] looks at; the longest real one is an ML-DSA-87 key with 5 kB.
pub const IMPORT_BYTES_MAX: usize = 8192;
/// The shortest HMAC key that [`import`] takes.
pub const HMAC_BYTES_MIN: usize = 16;
/// The longest HMAC key that [`import`] takes; a longer one would be hashed first and gain nothing.
pub const HMAC_BYTES_MAX: usize = 128;

const SEED_BYTES: usize = 32;
const ML_KEM_SEED_BYTES: usize = 64;
/// What precedes the 32 bytes of an X25519 key in its `PrivateKeyInfo` (RFC 8410 §7).
const X25519_PKCS8_PREFIX: &[u8] = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20";

const REFUSED: Error = Error::Internal("the library refused to make a key");
const BAD_PRIVATE_KEY: Error = Error::Invalid("not a sound private key of this algorithm");

/// Makes new material, in the form in which it is stored and in which [`super::Key::load`] takes it.
///
/// | family | stored form |
/// |---|---|
/// | AES, ChaCha20, HMAC | the key itself, as long as the algorithm's name says |
/// | RSA, EC, Ed25519, ML-DSA | `PrivateKeyInfo` DER (RFC 5208); ML-DSA as its seed (RFC 9881 §6) |
/// | X25519 | the 32 bytes |
/// | ML-KEM | the decapsulation key as in FIPS 203 §7.1, 768·k + 96 bytes |
///
/// All but RSA and ML-KEM keys come from [`crate::random`]; for these two the library has no way in, so
/// they depend on its own generator.
///
/// # Errors
/// [`Error::Internal`] without sound randomness or locked memory.
///
/// Source: FIPS 186-5 §A.1, §A.2.2, §A.3; FIPS 203 §7.1; FIPS 204 §6.1.
pub fn generate(algorithm: Algorithm) -> Result<SecretBytes, Error> {
    let info = algorithm.info();
    match info.family {
        Family::Aes | Family::ChaCha20 | Family::Hmac => SecretBytes::random(usize::from(info.key_bits / 8)),
        Family::X25519 => SecretBytes::random(SEED_BYTES),
        Family::Rsa => {
            let pair = RsaKeyPair::generate(schemes::rsa_size(algorithm)?.size).map_err(|_| REFUSED)?;
            SecretBytes::copy_from(pair.as_der().map_err(|_| REFUSED)?.as_ref())
        }
        Family::Ec => generate_ec(schemes::curve(algorithm)?),
        Family::Ed25519 => ed25519(SecretBytes::random(SEED_BYTES)?.expose()),
        Family::MlKem => {
            let scheme = schemes::ml_kem(algorithm)?;
            let key = DecapsulationKey::generate(scheme.kem).and_then(|key| key.key_bytes());
            SecretBytes::copy_from(key.map_err(|_| REFUSED)?.as_ref())
        }
        Family::MlDsa => ml_dsa(algorithm, SecretBytes::random(SEED_BYTES)?.expose()),
    }
}

/// A new key pair for use elsewhere: the private half as `PrivateKeyInfo`, the public half as
/// `SubjectPublicKeyInfo`, both DER.
///
/// ML-KEM keys are written as their seed, the form that other programs read. The library neither gives nor takes
/// seeds, so it is ml-kem that expands this one, here alone.
///
/// # Errors
/// [`Error::Unsupported`] for symmetric and X25519 keys; [`Error::Internal`] without sound randomness or locked
/// memory.
///
/// Source: RFC 5208 §5, RFC 5280 §4.1.2.7; RFC 9935 §4 and §6 (ML-KEM); as [`generate`].
pub fn generate_pair(algorithm: Algorithm) -> Result<(SecretBytes, Vec<u8>), Error> {
    match algorithm.info().family {
        Family::Rsa | Family::Ec | Family::Ed25519 | Family::MlDsa => {
            let private = generate(algorithm)?;
            let pair = Key::load(algorithm, &private)?;
            Ok((private, pair.public_key_der().ok_or(REFUSED)?.to_vec()))
        }
        Family::MlKem => {
            let scheme = schemes::ml_kem(algorithm)?;
            let seed = SecretBytes::random(ML_KEM_SEED_BYTES)?;
            let public = (scheme.encapsulation_key)(seed.expose().try_into().map_err(|_| REFUSED)?);
            let public = PublicKey::from_der(algorithm, &public)?.der().to_vec();
            let mut private = Zeroizing::new(Vec::with_capacity(86));
            private.extend_from_slice(&[0x30, 0x54, 0x02, 0x01, 0x00]);
            private.extend_from_slice(scheme.identifier());
            private.extend_from_slice(&[0x04, 0x42, 0x80, 0x40]);
            private.extend_from_slice(seed.expose());
            Ok((SecretBytes::take_from(&mut private)?, public))
        }
        Family::Aes | Family::ChaCha20 | Family::Hmac | Family::X25519 => {
            Err(Error::Unsupported("key pairs of this algorithm for use elsewhere"))
        }
    }
}

/// Checks material from outside and returns it in its stored form (see [`generate`]).
///
/// Beside the stored forms it takes: `RSAPrivateKey` (RFC 8017 §A.1.2), `ECPrivateKey` (RFC 5915), the bare
/// seed of Ed25519 and ML-DSA, and `PrivateKeyInfo` for X25519. DER is written anew, so that nothing which
/// was not understood is kept. Bare EC scalars: [`import_scalar`].
///
/// Refused as weak: symmetric keys of one repeated byte, HMAC keys outside [`HMAC_BYTES_MIN`] to
/// [`HMAC_BYTES_MAX`], RSA keys whose public exponent is not 65537 or whose modulus can be factored because
/// of how it was made (CVE-2017-15361). That the factors are prime is not tested: the library has no such test.
///
/// # Errors
/// [`Error::TooLarge`] above [`IMPORT_BYTES_MAX`]; [`Error::Invalid`] for everything that is not a sound
/// key of exactly this algorithm; [`Error::Internal`] without locked memory.
///
/// Source: SP 800-56B Rev. 2 §6.4.1 (RSA); SP 800-56A Rev. 3 §5.6.2 (EC); FIPS 203 §7.3 (ML-KEM).
pub fn import(algorithm: Algorithm, bytes: &[u8]) -> Result<SecretBytes, Error> {
    if bytes.len() > IMPORT_BYTES_MAX {
        return Err(Error::TooLarge { limit: IMPORT_BYTES_MAX });
    }
    let info = algorithm.info();
    match info.family {
        Family::Aes | Family::ChaCha20 => {
            if bytes.len() != usize::from(info.key_bits / 8) {
                return Err(Error::Invalid("the key is not as long as its algorithm says"));
            }
            symmetric(bytes)
        }
        Family::Hmac => {
            if !(HMAC_BYTES_MIN..=HMAC_BYTES_MAX).contains(&bytes.len()) {
                return Err(Error::Invalid("an HMAC key is 16 to 128 bytes"));
            }
            symmetric(bytes)
        }
        Family::Rsa => import_rsa(algorithm, bytes),
        Family::Ec => {
            let signing = schemes::curve(algorithm)?.signing;
            let pair = EcdsaKeyPair::from_private_key_der(signing, bytes).map_err(|_| BAD_PRIVATE_KEY)?;
            stored(pair.to_pkcs8v1())
        }
        Family::Ed25519 => {
            if bytes.len() == SEED_BYTES {
                return ed25519(bytes);
            }
            let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| BAD_PRIVATE_KEY)?;
            stored(pair.to_pkcs8v1())
        }
        Family::X25519 => {
            let seed = bytes.strip_prefix(X25519_PKCS8_PREFIX).unwrap_or(bytes);
            agreement::PrivateKey::from_private_key(&agreement::X25519, seed).map_err(|_| BAD_PRIVATE_KEY)?;
            SecretBytes::copy_from(seed)
        }
        Family::MlKem => {
            encapsulation_key(schemes::ml_kem(algorithm)?, bytes)?;
            SecretBytes::copy_from(bytes)
        }
        Family::MlDsa => {
            if bytes.len() == SEED_BYTES {
                return ml_dsa(algorithm, bytes);
            }
            let pair = PqdsaKeyPair::from_pkcs8(schemes::ml_dsa(algorithm)?.signing, bytes)
                .map_err(|_| BAD_PRIVATE_KEY)?;
            let der = pair.to_pkcs8v1().map_err(|_| Error::Invalid("an ML-DSA key must carry its seed"))?;
            SecretBytes::copy_from(der.as_ref())
        }
    }
}

/// Checks a bare EC private key, big-endian and as long as the curve's order, and returns its stored form.
///
/// Apart from [`import`], because 48 bytes are a P-384 scalar or an Ed25519 `PrivateKeyInfo`: only the caller
/// knows which it meant.
///
/// # Errors
/// [`Error::Invalid`] for another length, 0, or what is not below the order; [`Error::Unsupported`] for
/// algorithms without scalars; [`Error::Internal`] without locked memory.
///
/// Source: SEC 1 §2.3.7; SP 800-56A Rev. 3 §5.6.2.1.2.
pub fn import_scalar(algorithm: Algorithm, scalar: &[u8]) -> Result<SecretBytes, Error> {
    let curve = schemes::curve(algorithm)?;
    if scalar.len() != curve.scalar_bytes {
        return Err(Error::Invalid("the scalar is not as long as the curve's order"));
    }
    ec(curve, scalar)
}

/// The public half inside an ML-KEM decapsulation key, if the key is consistent with itself.
///
/// Source: FIPS 203 §7.3, checks of the decapsulation key.
pub(super) fn encapsulation_key<'a>(scheme: &MlKem, key: &'a [u8]) -> Result<&'a [u8], Error> {
    let secret_bytes = 384 * scheme.rank;
    let (_, rest) = key.split_at_checked(secret_bytes).ok_or(BAD_PRIVATE_KEY)?;
    let (public, rest) = rest.split_at_checked(scheme.public_bytes()).ok_or(BAD_PRIVATE_KEY)?;
    let (hash, implicit_reject) = rest.split_at_checked(32).ok_or(BAD_PRIVATE_KEY)?;
    let sound = implicit_reject.len() == 32 && digest(&SHA3_256, public).as_ref() == hash;
    sound.then_some(public).ok_or(BAD_PRIVATE_KEY)
}

fn symmetric(bytes: &[u8]) -> Result<SecretBytes, Error> {
    if bytes.iter().all(|byte| *byte == bytes[0]) {
        return Err(Error::Invalid("a key of one repeated byte is no key"));
    }
    SecretBytes::copy_from(bytes)
}

fn import_rsa(algorithm: Algorithm, bytes: &[u8]) -> Result<SecretBytes, Error> {
    let pair = RsaKeyPair::from_pkcs8(bytes)
        .or_else(|_| RsaKeyPair::from_der(bytes))
        .map_err(|_| BAD_PRIVATE_KEY)?;
    let der = pair.as_der().map_err(|_| REFUSED)?;
    let key = rsa::PrivateDecryptingKey::from_pkcs8(der.as_ref()).map_err(|_| BAD_PRIVATE_KEY)?;
    if key.key_size_bits() != usize::from(algorithm.info().key_bits) {
        return Err(Error::Invalid("the RSA modulus is not as long as its algorithm says"));
    }
    // RSAPublicKey: eight bytes of tags and lengths, the modulus with a leading 0, the exponent.
    let public = pair.public_key().as_ref();
    let modulus = public[8..].strip_suffix(b"\x02\x03\x01\x00\x01");
    let modulus = modulus.ok_or(Error::Invalid("the RSA public exponent is not 65537"))?;
    if is_power_of_65537(modulus) {
        return Err(Error::Invalid("the RSA key is weak: CVE-2017-15361"));
    }
    SecretBytes::copy_from(der.as_ref())
}

/// Whether `modulus` is a power of 65537 modulo every prime from 3 to 167.
///
/// So is every modulus of the chips that chose their primes among such powers; of sound moduli one in
/// 2^27 is, and is refused for nothing.
///
/// Source: Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack (CCS 2017), §2.4.
fn is_power_of_65537(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101,
        103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.into_iter().all(|prime| {
        let residue = modulus.iter().fold(0, |residue, byte| (residue * 256 + u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65537 % prime));
        powers.take(prime as usize).any(|power| power == residue)
    })
}

/// Draws scalars until one is from 1 to the order less one. Each draw is one with a chance above 1/2 (on these
/// curves nearly always), so 64 failures mean that something else is broken.
///
/// Source: FIPS 186-5 §A.2.2.
fn generate_ec(curve: &Curve) -> Result<SecretBytes, Error> {
    for _ in 0..64 {
        let mut scalar = Zeroizing::new(vec![0; curve.scalar_bytes]);
        random::fill("keyhearth/key", &mut scalar)?;
        scalar[0] &= curve.first_byte;
        let material = ec(curve, &scalar);
        if material.as_ref().err() != Some(&BAD_PRIVATE_KEY) {
            return material;
        }
    }
    Err(REFUSED)
}

/// The stored form of a scalar from 1 to the order less one, written as its `ECPrivateKey` for the library.
fn ec(curve: &Curve, scalar: &[u8]) -> Result<SecretBytes, Error> {
    let len = u8::try_from(scalar.len()).map_err(|_| BAD_PRIVATE_KEY)?;
    let mut der = Zeroizing::new(Vec::with_capacity(7 + scalar.len()));
    der.extend_from_slice(&[0x30, 5 + len, 0x02, 0x01, 0x01, 0x04, len]);
    der.extend_from_slice(scalar);
    let pair = EcdsaKeyPair::from_private_key_der(curve.signing, &der).map_err(|_| BAD_PRIVATE_KEY)?;
    stored(pair.to_pkcs8v1())
}

fn ed25519(seed: &[u8]) -> Result<SecretBytes, Error> {
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BAD_PRIVATE_KEY)?;
    stored(pair.to_pkcs8v1())
}

fn ml_dsa(algorithm: Algorithm, seed: &[u8]) -> Result<SecretBytes, Error> {
    let pair =
        PqdsaKeyPair::from_seed(schemes::ml_dsa(algorithm)?.signing, seed).map_err(|_| BAD_PRIVATE_KEY)?;
    stored(pair.to_pkcs8v1())
}

fn stored(der: Result<Document, Unspecified>) -> Result<SecretBytes, Error> {
    SecretBytes::copy_from(der.map_err(|_| REFUSED)?.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_65537_are_recognised() {
        assert!(is_power_of_65537(&[1, 0, 1]));
        assert!(is_power_of_65537(&65537u64.pow(3).to_be_bytes()));
        assert!(!is_power_of_65537(&[1, 0, 3]));
        assert!(!is_power_of_65537(&[0]));
    }
}
