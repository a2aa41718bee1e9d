//! AWS's names of algorithms and uses, to and from those of core.
//!
//! Which algorithms a key serves is read from the registry of [`keyhearth_crypto::algorithm`]; here stands
//! only what AWS calls them. What has no counterpart is refused by whoever asks for it.

use keyhearth_core::key::Usage;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};

use super::model::{
    CustomerMasterKeySpec, DataKeyPairSpec, EncapsulationAlgorithm, EncryptionAlgorithm,
    KeyAgreementAlgorithm, KeySpec, KeyUsage, MacAlgorithm, SigningAlgorithm,
};

macro_rules! key_specs {
    ($($spec:ident $($algorithm:ident)?: $($usage:ident)+;)+) => {
        impl KeySpec {
            /// What such a key is; `None` for what this server does not have.
            #[must_use]
            pub const fn algorithm(self) -> Option<Algorithm> {
                match self { $(Self::$spec => key_specs!(@algorithm $($algorithm)?),)+ }
            }

            /// What such a key may be for. Every key is for one of them; a request may leave it out where
            /// it is [`KeySpec::SYMMETRIC_DEFAULT`].
            #[must_use]
            pub const fn usages(self) -> &'static [KeyUsage] {
                match self { $(Self::$spec => &[$(KeyUsage::$usage),+],)+ }
            }
        }
    };
    (@algorithm) => { None };
    (@algorithm $algorithm:ident) => { Some(Algorithm::$algorithm) };
}

key_specs! {
    RSA_2048 Rsa2048: ENCRYPT_DECRYPT SIGN_VERIFY;
    RSA_3072 Rsa3072: ENCRYPT_DECRYPT SIGN_VERIFY;
    RSA_4096 Rsa4096: ENCRYPT_DECRYPT SIGN_VERIFY;
    ECC_NIST_P256 EcP256: SIGN_VERIFY KEY_AGREEMENT;
    ECC_NIST_P384 EcP384: SIGN_VERIFY KEY_AGREEMENT;
    ECC_NIST_P521 EcP521: SIGN_VERIFY KEY_AGREEMENT;
    ECC_SECG_P256K1 EcSecp256k1: SIGN_VERIFY;
    SYMMETRIC_DEFAULT Aes256: ENCRYPT_DECRYPT;
    HMAC_224 HmacSha224: GENERATE_VERIFY_MAC;
    HMAC_256 HmacSha256: GENERATE_VERIFY_MAC;
    HMAC_384 HmacSha384: GENERATE_VERIFY_MAC;
    HMAC_512 HmacSha512: GENERATE_VERIFY_MAC;
    SM2: ENCRYPT_DECRYPT SIGN_VERIFY KEY_AGREEMENT;
    ML_DSA_44 MlDsa44: SIGN_VERIFY;
    ML_DSA_65 MlDsa65: SIGN_VERIFY;
    ML_DSA_87 MlDsa87: SIGN_VERIFY;
    ECC_NIST_EDWARDS25519 Ed25519: SIGN_VERIFY;
    ML_KEM_512 MlKem512: ENCAPSULATE_DECAPSULATE;
    ML_KEM_768 MlKem768: ENCAPSULATE_DECAPSULATE;
    ML_KEM_1024 MlKem1024: ENCAPSULATE_DECAPSULATE;
}

impl KeySpec {
    /// What AWS calls a key of `algorithm`; `None` if it has no such keys.
    #[must_use]
    pub fn of(algorithm: Algorithm) -> Option<Self> {
        Self::ALL.iter().copied().find(|spec| spec.algorithm() == Some(algorithm))
    }

    /// The names of all algorithms of such a key if it is for `usage`, as AWS lists them.
    #[must_use]
    pub fn algorithms(self, usage: KeyUsage) -> Vec<&'static str> {
        let mut names = Vec::new();
        names.extend(self.encryption_algorithms(usage).into_iter().flatten().map(EncryptionAlgorithm::name));
        names.extend(self.signing_algorithms(usage).into_iter().flatten().map(SigningAlgorithm::name));
        names.extend(self.mac_algorithms(usage).into_iter().flatten().map(MacAlgorithm::name));
        names.extend(
            self.key_agreement_algorithms(usage).into_iter().flatten().map(KeyAgreementAlgorithm::name),
        );
        let encapsulation = self.encapsulation_algorithms(usage);
        names.extend(encapsulation.into_iter().flatten().map(EncapsulationAlgorithm::name));
        names
    }

    /// The same under the former name.
    #[must_use]
    pub fn former(self) -> Option<CustomerMasterKeySpec> {
        CustomerMasterKeySpec::parse(self.name())
    }
}

impl CustomerMasterKeySpec {
    /// The same under its present name.
    #[must_use]
    pub fn present(self) -> KeySpec {
        KeySpec::parse(self.name()).expect("a test finds every former name among the present ones")
    }
}

impl DataKeyPairSpec {
    /// What such a pair is; `None` for what this server does not have.
    #[must_use]
    pub fn algorithm(self) -> Option<Algorithm> {
        KeySpec::parse(self.name())?.algorithm()
    }
}

impl KeyUsage {
    /// The uses by their core names.
    #[must_use]
    pub const fn uses(self) -> &'static [&'static str] {
        match self {
            Self::SIGN_VERIFY => &["sign", "verify"],
            Self::ENCRYPT_DECRYPT => &["encrypt", "decrypt"],
            Self::GENERATE_VERIFY_MAC => &["mac", "verify-mac"],
            Self::KEY_AGREEMENT => &["agree"],
            Self::ENCAPSULATE_DECAPSULATE => &["encapsulate", "decapsulate"],
        }
    }

    /// What AWS calls a set of uses. It knows keys for one thing alone: of several it is the first here, which
    /// is so for keys made elsewhere only; `None` for keys that only wrap.
    #[must_use]
    pub fn of(usage: Usage) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| usage.names().any(|name| one.uses().contains(&name)))
    }
}

macro_rules! mechanisms {
    ($($usage:ident $name:ident $of_key:ident { $($variant:ident $($mechanism:ident)?,)+ })+) => {$(
        impl $name {
            /// How this server does it; `None` if it does not.
            #[must_use]
            pub const fn mechanism(self) -> Option<Mechanism> {
                match self { $(Self::$variant => mechanisms!(@mechanism $($mechanism)?),)+ }
            }

            /// Whether a key of `spec` can do it.
            fn serves(self, spec: KeySpec) -> bool {
                let pair = spec.algorithm().zip(self.mechanism());
                pair.is_some_and(|(algorithm, mechanism)| algorithm.supports(mechanism))
            }
        }

        impl KeySpec {
            #[doc = concat!("Every [`", stringify!($name), "`] of such a key if it is for `usage`,")]
            /// by name as AWS lists them; `None` without any.
            #[must_use]
            pub fn $of_key(self, usage: KeyUsage) -> Option<Vec<$name>> {
                let mut all: Vec<_> = $name::ALL.iter().copied().filter(|one| one.serves(self)).collect();
                all.sort_by_key(|one| one.name());
                (usage == KeyUsage::$usage && !all.is_empty()).then_some(all)
            }
        }
    )+};
    (@mechanism) => { None };
    (@mechanism $mechanism:ident) => { Some(Mechanism::$mechanism) };
}

mechanisms! {
    ENCRYPT_DECRYPT EncryptionAlgorithm encryption_algorithms {
        SYMMETRIC_DEFAULT Kh1,
        RSAES_OAEP_SHA_1 RsaOaepSha1,
        RSAES_OAEP_SHA_256 RsaOaepSha256,
        SM2PKE,
    }
    SIGN_VERIFY SigningAlgorithm signing_algorithms {
        RSASSA_PSS_SHA_256 RsaPssSha256,
        RSASSA_PSS_SHA_384 RsaPssSha384,
        RSASSA_PSS_SHA_512 RsaPssSha512,
        RSASSA_PKCS1_V1_5_SHA_256 RsaPkcs1Sha256,
        RSASSA_PKCS1_V1_5_SHA_384 RsaPkcs1Sha384,
        RSASSA_PKCS1_V1_5_SHA_512 RsaPkcs1Sha512,
        ECDSA_SHA_256 EcdsaSha256,
        ECDSA_SHA_384 EcdsaSha384,
        ECDSA_SHA_512 EcdsaSha512,
        SM2DSA,
        ML_DSA_SHAKE_256 MlDsa,
        ED25519_SHA_512 Ed25519,
        ED25519_PH_SHA_512 Ed25519ph,
    }
    GENERATE_VERIFY_MAC MacAlgorithm mac_algorithms {
        HMAC_SHA_384 HmacSha384,
        HMAC_SHA_256 HmacSha256,
        HMAC_SHA_224 HmacSha224,
        HMAC_SHA_512 HmacSha512,
    }
    KEY_AGREEMENT KeyAgreementAlgorithm key_agreement_algorithms {
        ECDH Ecdh,
    }
    ENCAPSULATE_DECAPSULATE EncapsulationAlgorithm encapsulation_algorithms {
        ML_KEM MlKem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_former_name_is_among_the_present_ones() {
        for &former in CustomerMasterKeySpec::ALL {
            assert_eq!(former.present().former(), Some(former));
        }
        assert_eq!(KeySpec::ML_DSA_44.former(), None);
    }

    #[test]
    fn what_a_key_is_for_is_among_the_uses_of_its_algorithm() {
        for &spec in KeySpec::ALL {
            let Some(algorithm) = spec.algorithm() else { continue };
            assert_eq!(KeySpec::of(algorithm), Some(spec));
            for &usage in spec.usages() {
                let uses = Usage::new(usage.uses().iter().copied(), algorithm);
                assert_eq!(uses.map(KeyUsage::of), Ok(Some(usage)), "{spec} {usage}");
            }
        }
        assert_eq!(KeyUsage::of(Usage::new(["wrap", "unwrap"], Algorithm::Aes256).unwrap()), None);
    }

    #[test]
    fn every_pair_of_key_and_use_has_algorithms() {
        for &spec in KeySpec::ALL.iter().filter(|spec| spec.algorithm().is_some()) {
            for &usage in KeyUsage::ALL {
                assert_eq!(
                    !spec.algorithms(usage).is_empty(),
                    spec.usages().contains(&usage),
                    "{spec} {usage}"
                );
            }
        }
        assert_eq!(
            KeySpec::RSA_2048.encryption_algorithms(KeyUsage::ENCRYPT_DECRYPT).unwrap(),
            [EncryptionAlgorithm::RSAES_OAEP_SHA_1, EncryptionAlgorithm::RSAES_OAEP_SHA_256]
        );
        assert_eq!(
            KeySpec::ECC_NIST_P384.signing_algorithms(KeyUsage::SIGN_VERIFY).unwrap(),
            [SigningAlgorithm::ECDSA_SHA_384]
        );
    }
}
