//! Which function of the library computes what: one table per family.
//!
//! Everything that a mechanism or size needs is a row here, so that no code branches on a size.

use aws_lc_rs::{
    aead, agreement, cipher, cmac, digest, hmac, kem,
    rsa::{self, OaepAlgorithm},
    signature::{self as sig, EcdsaSigningAlgorithm, RsaEncoding, VerificationAlgorithm},
};

use ::ml_dsa::{MlDsa44, MlDsa65, MlDsa87};
use ml_kem::{DecapsulationKey, KeyExport as _, MlKem512, MlKem768, MlKem1024, Seed};

use super::ml_dsa;
use crate::{
    Error,
    algorithm::{Algorithm, Mechanism},
};

pub(super) struct Aes {
    algorithm: Algorithm,
    pub cipher: &'static cipher::Algorithm,
    pub gcm: &'static aead::Algorithm,
    pub cmac: cmac::Algorithm,
}

const AES: &[Aes] = &[
    Aes {
        algorithm: Algorithm::Aes128,
        cipher: &cipher::AES_128,
        gcm: &aead::AES_128_GCM,
        cmac: cmac::AES_128,
    },
    Aes {
        algorithm: Algorithm::Aes192,
        cipher: &cipher::AES_192,
        gcm: &aead::AES_192_GCM,
        cmac: cmac::AES_192,
    },
    Aes {
        algorithm: Algorithm::Aes256,
        cipher: &cipher::AES_256,
        gcm: &aead::AES_256_GCM,
        cmac: cmac::AES_256,
    },
];

pub(super) struct Hmac {
    algorithm: Algorithm,
    pub mechanism: Mechanism,
    pub hmac: hmac::Algorithm,
}

const HMAC: &[Hmac] = &[
    Hmac { algorithm: Algorithm::HmacSha224, mechanism: Mechanism::HmacSha224, hmac: hmac::HMAC_SHA224 },
    Hmac { algorithm: Algorithm::HmacSha256, mechanism: Mechanism::HmacSha256, hmac: hmac::HMAC_SHA256 },
    Hmac { algorithm: Algorithm::HmacSha384, mechanism: Mechanism::HmacSha384, hmac: hmac::HMAC_SHA384 },
    Hmac { algorithm: Algorithm::HmacSha512, mechanism: Mechanism::HmacSha512, hmac: hmac::HMAC_SHA512 },
];

pub(super) struct RsaSize {
    algorithm: Algorithm,
    pub size: rsa::KeySize,
}

const RSA_SIZES: &[RsaSize] = &[
    RsaSize { algorithm: Algorithm::Rsa2048, size: rsa::KeySize::Rsa2048 },
    RsaSize { algorithm: Algorithm::Rsa3072, size: rsa::KeySize::Rsa3072 },
    RsaSize { algorithm: Algorithm::Rsa4096, size: rsa::KeySize::Rsa4096 },
];

pub(super) struct RsaSignature {
    pub mechanism: Mechanism,
    pub digest: &'static digest::Algorithm,
    pub encoding: &'static dyn RsaEncoding,
    pub verification: &'static dyn VerificationAlgorithm,
}

pub(super) const RSA_SIGNATURES: &[RsaSignature] = &[
    RsaSignature {
        mechanism: Mechanism::RsaPssSha256,
        digest: &digest::SHA256,
        encoding: &sig::RSA_PSS_SHA256,
        verification: &sig::RSA_PSS_2048_8192_SHA256,
    },
    RsaSignature {
        mechanism: Mechanism::RsaPssSha384,
        digest: &digest::SHA384,
        encoding: &sig::RSA_PSS_SHA384,
        verification: &sig::RSA_PSS_2048_8192_SHA384,
    },
    RsaSignature {
        mechanism: Mechanism::RsaPssSha512,
        digest: &digest::SHA512,
        encoding: &sig::RSA_PSS_SHA512,
        verification: &sig::RSA_PSS_2048_8192_SHA512,
    },
    RsaSignature {
        mechanism: Mechanism::RsaPkcs1Sha256,
        digest: &digest::SHA256,
        encoding: &sig::RSA_PKCS1_SHA256,
        verification: &sig::RSA_PKCS1_2048_8192_SHA256,
    },
    RsaSignature {
        mechanism: Mechanism::RsaPkcs1Sha384,
        digest: &digest::SHA384,
        encoding: &sig::RSA_PKCS1_SHA384,
        verification: &sig::RSA_PKCS1_2048_8192_SHA384,
    },
    RsaSignature {
        mechanism: Mechanism::RsaPkcs1Sha512,
        digest: &digest::SHA512,
        encoding: &sig::RSA_PKCS1_SHA512,
        verification: &sig::RSA_PKCS1_2048_8192_SHA512,
    },
];

pub(super) struct Oaep {
    mechanism: Mechanism,
    pub oaep: &'static OaepAlgorithm,
}

const OAEP: &[Oaep] = &[
    Oaep { mechanism: Mechanism::RsaOaepSha1, oaep: &rsa::OAEP_SHA1_MGF1SHA1 },
    Oaep { mechanism: Mechanism::RsaOaepSha256, oaep: &rsa::OAEP_SHA256_MGF1SHA256 },
    Oaep { mechanism: Mechanism::RsaOaepSha384, oaep: &rsa::OAEP_SHA384_MGF1SHA384 },
    Oaep { mechanism: Mechanism::RsaOaepSha512, oaep: &rsa::OAEP_SHA512_MGF1SHA512 },
];

pub(super) struct Curve {
    algorithm: Algorithm,
    /// Bytes of a private scalar.
    pub scalar_bytes: usize,
    /// The bits of a scalar's first byte that the curve's order leaves free.
    pub first_byte: u8,
    pub mechanism: Mechanism,
    pub digest: &'static digest::Algorithm,
    pub signing: &'static EcdsaSigningAlgorithm,
    pub verification: &'static dyn VerificationAlgorithm,
    pub agreement: Option<&'static agreement::Algorithm>,
}

const CURVES: &[Curve] = &[
    Curve {
        algorithm: Algorithm::EcP256,
        scalar_bytes: 32,
        first_byte: 0xff,
        mechanism: Mechanism::EcdsaSha256,
        digest: &digest::SHA256,
        signing: &sig::ECDSA_P256_SHA256_ASN1_SIGNING,
        verification: &sig::ECDSA_P256_SHA256_ASN1,
        agreement: Some(&agreement::ECDH_P256),
    },
    Curve {
        algorithm: Algorithm::EcP384,
        scalar_bytes: 48,
        first_byte: 0xff,
        mechanism: Mechanism::EcdsaSha384,
        digest: &digest::SHA384,
        signing: &sig::ECDSA_P384_SHA384_ASN1_SIGNING,
        verification: &sig::ECDSA_P384_SHA384_ASN1,
        agreement: Some(&agreement::ECDH_P384),
    },
    Curve {
        algorithm: Algorithm::EcP521,
        scalar_bytes: 66,
        first_byte: 0x01,
        mechanism: Mechanism::EcdsaSha512,
        digest: &digest::SHA512,
        signing: &sig::ECDSA_P521_SHA512_ASN1_SIGNING,
        verification: &sig::ECDSA_P521_SHA512_ASN1,
        agreement: Some(&agreement::ECDH_P521),
    },
    Curve {
        algorithm: Algorithm::EcSecp256k1,
        scalar_bytes: 32,
        first_byte: 0xff,
        mechanism: Mechanism::EcdsaSha256,
        digest: &digest::SHA256,
        signing: &sig::ECDSA_P256K1_SHA256_ASN1_SIGNING,
        verification: &sig::ECDSA_P256K1_SHA256_ASN1,
        agreement: None,
    },
];

pub(super) struct MlKem {
    algorithm: Algorithm,
    pub kem: &'static kem::Algorithm,
    /// The module rank `k`, from which every length follows (FIPS 203 §8).
    pub rank: usize,
    /// The encapsulation key of a seed, as the second implementation computes it.
    pub encapsulation_key: fn(&Seed) -> Vec<u8>,
    /// What precedes the encapsulation key in its `SubjectPublicKeyInfo` (RFC 9935 §4).
    pub spki_prefix: [u8; 22],
}

impl MlKem {
    /// The `AlgorithmIdentifier` in DER.
    pub fn identifier(&self) -> &[u8] {
        &self.spki_prefix[4..17]
    }

    /// Bytes of the encapsulation key.
    pub const fn public_bytes(&self) -> usize {
        384 * self.rank + 32
    }
}

const ML_KEM: &[MlKem] = &[
    MlKem {
        algorithm: Algorithm::MlKem512,
        kem: &kem::ML_KEM_512,
        rank: 2,
        encapsulation_key: |seed| {
            DecapsulationKey::<MlKem512>::from_seed(*seed).encapsulation_key().to_bytes().to_vec()
        },
        spki_prefix:
            *b"\x30\x82\x03\x32\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x04\x01\x03\x82\x03\x21\0",
    },
    MlKem {
        algorithm: Algorithm::MlKem768,
        kem: &kem::ML_KEM_768,
        rank: 3,
        encapsulation_key: |seed| {
            DecapsulationKey::<MlKem768>::from_seed(*seed).encapsulation_key().to_bytes().to_vec()
        },
        spki_prefix:
            *b"\x30\x82\x04\xb2\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x04\x02\x03\x82\x04\xa1\0",
    },
    MlKem {
        algorithm: Algorithm::MlKem1024,
        kem: &kem::ML_KEM_1024,
        rank: 4,
        encapsulation_key: |seed| {
            DecapsulationKey::<MlKem1024>::from_seed(*seed).encapsulation_key().to_bytes().to_vec()
        },
        spki_prefix:
            *b"\x30\x82\x06\x32\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x04\x03\x03\x82\x06\x21\0",
    },
];

pub(super) struct MlDsa {
    algorithm: Algorithm,
    pub signing: &'static sig::PqdsaSigningAlgorithm,
    pub verification: &'static dyn VerificationAlgorithm,
    pub sign_mu: ml_dsa::SignMu,
    pub verify_mu: ml_dsa::VerifyMu,
}

const ML_DSA: &[MlDsa] = &[
    MlDsa {
        algorithm: Algorithm::MlDsa44,
        signing: &sig::ML_DSA_44_SIGNING,
        verification: &sig::ML_DSA_44,
        sign_mu: ml_dsa::sign_mu::<MlDsa44>,
        verify_mu: ml_dsa::verify_mu::<MlDsa44>,
    },
    MlDsa {
        algorithm: Algorithm::MlDsa65,
        signing: &sig::ML_DSA_65_SIGNING,
        verification: &sig::ML_DSA_65,
        sign_mu: ml_dsa::sign_mu::<MlDsa65>,
        verify_mu: ml_dsa::verify_mu::<MlDsa65>,
    },
    MlDsa {
        algorithm: Algorithm::MlDsa87,
        signing: &sig::ML_DSA_87_SIGNING,
        verification: &sig::ML_DSA_87,
        sign_mu: ml_dsa::sign_mu::<MlDsa87>,
        verify_mu: ml_dsa::verify_mu::<MlDsa87>,
    },
];

macro_rules! find {
    ($($find:ident($by:ident: $type:ty) in $table:ident -> $row:ty;)+) => { $(
        pub(super) fn $find($by: $type) -> Result<&'static $row, Error> {
            $table.iter().find(|row| row.$by == $by).ok_or(UNSUPPORTED)
        }
    )+ };
}

/// What a key answers to a mechanism that its mathematics does not have.
pub(super) const UNSUPPORTED: Error = Error::Unsupported("this mechanism with this key");

find! {
    aes(algorithm: Algorithm) in AES -> Aes;
    hmac(algorithm: Algorithm) in HMAC -> Hmac;
    rsa_size(algorithm: Algorithm) in RSA_SIZES -> RsaSize;
    rsa_signature(mechanism: Mechanism) in RSA_SIGNATURES -> RsaSignature;
    oaep(mechanism: Mechanism) in OAEP -> Oaep;
    curve(algorithm: Algorithm) in CURVES -> Curve;
    ml_kem(algorithm: Algorithm) in ML_KEM -> MlKem;
    ml_dsa(algorithm: Algorithm) in ML_DSA -> MlDsa;
}
