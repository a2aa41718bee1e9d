//! The registry of algorithms and mechanisms: what exists, how strong it is, what it can do.
//!
//! An [`Algorithm`] says what a key is; a [`Mechanism`] says how it is used. Everything else that
//! lists algorithms (documentation, reports, protocol mappings, policy) reads these two tables.
//!
//! Not here: enforcement. [`Status`] is judged by whoever decides about a request; [`crate::key`]
//! only refuses what the mathematics cannot do.
//!
//! Strengths: NIST SP 800-57 Part 1 Rev. 5 §5.6.1 and, for RSA-4096, SP 800-56B Rev. 2 appendix D.
//! Categories: NIST's post-quantum security categories (FIPS 203 §8, FIPS 204 §4); symmetric keys by
//! key search. Last years: NIST IR 8547 (initial public draft) §4.1.

/// Whether an algorithm or mechanism should be used, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// The first choice for new keys.
    Preferred,
    /// Sound, though something else is the better choice.
    Allowed,
    /// For what exists already: decrypt, verify and unwrap, but protect nothing new.
    ProcessOnly,
    /// Not to be used at all.
    Forbidden,
}

/// What a mechanism is used for; each purpose covers both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Encrypt and decrypt data.
    Encrypt,
    /// Sign and verify.
    Sign,
    /// Compute and check a message authentication code.
    Mac,
    /// Wrap and unwrap key material.
    Wrap,
    /// Agree on a shared secret with a peer's public key.
    Agree,
    /// Encapsulate and decapsulate a shared secret.
    Encapsulate,
    /// Multiply points of others, for a McCallum–Relyea exchange.
    Exchange,
    /// Derive the secrets of volumes.
    Release,
}

/// Algorithms that share the form of their material.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// AES (FIPS 197).
    Aes,
    /// ChaCha20 (RFC 8439).
    ChaCha20,
    /// HMAC (FIPS 198-1).
    Hmac,
    /// RSA (RFC 8017).
    Rsa,
    /// Short Weierstrass curves (SP 800-186, SEC 2).
    Ec,
    /// Ed25519 (RFC 8032).
    Ed25519,
    /// X25519 (RFC 7748).
    X25519,
    /// ML-KEM (FIPS 203).
    MlKem,
    /// ML-DSA (FIPS 204).
    MlDsa,
}

/// One row of the algorithm table.
#[derive(Debug)]
pub struct Info {
    /// The algorithm this row describes.
    pub algorithm: Algorithm,
    /// The name used in every interface of ours, for example `aes-256`.
    pub name: &'static str,
    /// What kind of key it is.
    pub family: Family,
    /// Size as the world calls it: key bits, modulus bits, bits of the curve, or the parameter set.
    pub key_bits: u16,
    /// Work of the best classical attack, as a power of two.
    pub strength_bits: u16,
    /// NIST post-quantum category 1 to 5; 0 where a large quantum computer breaks it.
    pub pq_category: u8,
    /// Whether to use it today.
    pub status: Status,
    /// The last calendar year in which it may protect anything; `None` while no end is announced.
    pub last_year: Option<u16>,
    /// How it can be used, best first.
    pub mechanisms: &'static [Mechanism],
}

macro_rules! algorithms {
    ($($(#[$doc:meta])+ $variant:ident = $code:literal $name:literal
        $family:ident $key:literal bits, strength $strength:literal, category $category:literal,
        $status:ident $(until $year:literal)?, [$($mechanism:ident),+];)+) => {
        /// What a key is: its mathematics and its size.
        ///
        /// The discriminants are stored with every key: they are never renumbered or reused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Algorithm { $($(#[$doc])+ $variant = $code,)+ }

        impl Algorithm {
            /// Every algorithm, in the order of the codes.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The row of the registry.
            #[must_use]
            pub const fn info(self) -> &'static Info {
                match self {
                    $(Self::$variant => &Info {
                        algorithm: Self::$variant,
                        name: $name,
                        family: Family::$family,
                        key_bits: $key,
                        strength_bits: $strength,
                        pq_category: $category,
                        status: Status::$status,
                        last_year: algorithms!(@year $($year)?),
                        mechanisms: &[$(Mechanism::$mechanism),+],
                    },)+
                }
            }
        }
    };
    (@year) => { None };
    (@year $year:literal) => { Some($year) };
}

algorithms! {
    /// AES with a 128-bit key.
    Aes128 = 1 "aes-128" Aes 128 bits, strength 128, category 1, Allowed,
        [AesGcm, AesKwp, AesKw, AesCmac, AesCbcPad, AesCtr];
    /// AES with a 192-bit key. Without key wrap: the library has it for 128 and 256 bits only.
    Aes192 = 2 "aes-192" Aes 192 bits, strength 192, category 3, Allowed,
        [AesGcm, AesCmac, AesCbcPad, AesCtr];
    /// AES with a 256-bit key.
    Aes256 = 3 "aes-256" Aes 256 bits, strength 256, category 5, Preferred,
        [Kh1, AesGcm, AesKwp, AesKw, AesCmac, AesCbcPad, AesCtr];
    /// ChaCha20 with Poly1305, 256-bit key.
    ChaCha20Poly1305 = 4 "chacha20-poly1305" ChaCha20 256 bits, strength 256, category 5, Allowed,
        [ChaCha20Poly1305];
    /// HMAC over SHA-256.
    HmacSha256 = 5 "hmac-sha256" Hmac 256 bits, strength 256, category 5, Preferred,
        [HmacSha256, VolumeKdf];
    /// HMAC over SHA-384.
    HmacSha384 = 6 "hmac-sha384" Hmac 384 bits, strength 384, category 5, Allowed, [HmacSha384];
    /// HMAC over SHA-512.
    HmacSha512 = 7 "hmac-sha512" Hmac 512 bits, strength 512, category 5, Allowed, [HmacSha512];
    /// RSA with a 2048-bit modulus.
    Rsa2048 = 8 "rsa-2048" Rsa 2048 bits, strength 112, category 0, Allowed until 2030,
        [RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512,
         RsaOaepSha256, RsaOaepSha384, RsaOaepSha512, RsaOaepSha1];
    /// RSA with a 3072-bit modulus.
    Rsa3072 = 9 "rsa-3072" Rsa 3072 bits, strength 128, category 0, Allowed until 2035,
        [RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512,
         RsaOaepSha256, RsaOaepSha384, RsaOaepSha512, RsaOaepSha1];
    /// RSA with a 4096-bit modulus.
    Rsa4096 = 10 "rsa-4096" Rsa 4096 bits, strength 152, category 0, Allowed until 2035,
        [RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512,
         RsaOaepSha256, RsaOaepSha384, RsaOaepSha512, RsaOaepSha1];
    /// The curve P-256.
    EcP256 = 11 "ec-p256" Ec 256 bits, strength 128, category 0, Allowed until 2035,
        [EcdsaSha256, Ecdh];
    /// The curve P-384.
    EcP384 = 12 "ec-p384" Ec 384 bits, strength 192, category 0, Allowed until 2035,
        [EcdsaSha384, Ecdh];
    /// The curve P-521.
    EcP521 = 13 "ec-p521" Ec 521 bits, strength 256, category 0, Allowed until 2035,
        [EcdsaSha512, Ecdh, Ecmr];
    /// The curve secp256k1 (SEC 2 §2.4.1); signatures only.
    EcSecp256k1 = 14 "ec-secp256k1" Ec 256 bits, strength 128, category 0, Allowed until 2035,
        [EcdsaSha256];
    /// Ed25519 signatures.
    Ed25519 = 15 "ed25519" Ed25519 256 bits, strength 128, category 0, Allowed until 2035,
        [Ed25519, Ed25519ph];
    /// X25519 key agreement.
    X25519 = 16 "x25519" X25519 256 bits, strength 128, category 0, Allowed until 2035, [X25519];
    /// ML-KEM-512.
    MlKem512 = 17 "ml-kem-512" MlKem 512 bits, strength 128, category 1, Allowed, [MlKem];
    /// ML-KEM-768.
    MlKem768 = 18 "ml-kem-768" MlKem 768 bits, strength 192, category 3, Preferred, [MlKem];
    /// ML-KEM-1024.
    MlKem1024 = 19 "ml-kem-1024" MlKem 1024 bits, strength 256, category 5, Preferred, [MlKem];
    /// ML-DSA-44.
    MlDsa44 = 20 "ml-dsa-44" MlDsa 44 bits, strength 128, category 2, Allowed, [MlDsa];
    /// ML-DSA-65.
    MlDsa65 = 21 "ml-dsa-65" MlDsa 65 bits, strength 192, category 3, Preferred, [MlDsa];
    /// ML-DSA-87.
    MlDsa87 = 22 "ml-dsa-87" MlDsa 87 bits, strength 256, category 5, Preferred, [MlDsa];
    /// HMAC over SHA-224.
    HmacSha224 = 23 "hmac-sha224" Hmac 224 bits, strength 224, category 3, Allowed, [HmacSha224];
}

impl Algorithm {
    /// The name used in every interface of ours.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// The algorithm of exactly this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.name() == name)
    }

    /// The number stored with keys; the same for ever.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The algorithm with this stored number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|a| a.code() == code)
    }

    /// Whether a key has a public half.
    #[must_use]
    pub const fn is_asymmetric(self) -> bool {
        !matches!(self.info().family, Family::Aes | Family::ChaCha20 | Family::Hmac)
    }

    /// Whether a key of this algorithm can be used in this way.
    #[must_use]
    pub fn supports(self, mechanism: Mechanism) -> bool {
        self.info().mechanisms.contains(&mechanism)
    }

    /// What a caller gets who names only the purpose; `None` if the key cannot serve it.
    #[must_use]
    pub fn default_mechanism(self, purpose: Purpose) -> Option<Mechanism> {
        self.info().mechanisms.iter().copied().find(|m| m.serves(purpose))
    }
}

macro_rules! mechanisms {
    ($($(#[$doc:meta])+ $variant:ident $name:literal [$($purpose:ident),+] $status:ident;)+) => {
        /// How a key is used.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mechanism { $($(#[$doc])+ $variant,)+ }

        impl Mechanism {
            /// Every mechanism.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name used in every interface of ours.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it is used for.
            #[must_use]
            pub const fn purposes(self) -> &'static [Purpose] {
                match self { $(Self::$variant => &[$(Purpose::$purpose),+],)+ }
            }

            /// Whether to use it today, apart from the key it is used with.
            #[must_use]
            pub const fn status(self) -> Status {
                match self { $(Self::$variant => Status::$status,)+ }
            }
        }
    };
}

mechanisms! {
    /// The KH1 message: a fresh AES-256-GCM key per message, committing to key and context.
    Kh1 "kh1" [Encrypt] Preferred;
    /// AES-GCM with a random 96-bit IV and a 128-bit tag (SP 800-38D).
    AesGcm "aes-gcm" [Encrypt] Allowed;
    /// AES-CBC with PKCS#7 padding (SP 800-38A §6.2). Not authenticated.
    AesCbcPad "aes-cbc-pad" [Encrypt] Allowed;
    /// AES-CTR, 128-bit big-endian counter block (SP 800-38A §6.5). Not authenticated.
    AesCtr "aes-ctr" [Encrypt] Allowed;
    /// AES key wrap (SP 800-38F §6.2, RFC 3394).
    AesKw "aes-kw" [Wrap] Allowed;
    /// AES key wrap with padding (SP 800-38F §6.3, RFC 5649).
    AesKwp "aes-kwp" [Wrap] Preferred;
    /// AES-CMAC with a 128-bit tag (SP 800-38B).
    AesCmac "aes-cmac" [Mac] Allowed;
    /// ChaCha20-Poly1305 with a random 96-bit nonce (RFC 8439).
    ChaCha20Poly1305 "chacha20-poly1305" [Encrypt] Allowed;
    /// HMAC over SHA-224, 28 bytes.
    HmacSha224 "hmac-sha224" [Mac] Allowed;
    /// HMAC over SHA-256, 32 bytes.
    HmacSha256 "hmac-sha256" [Mac] Preferred;
    /// HMAC over SHA-384, 48 bytes.
    HmacSha384 "hmac-sha384" [Mac] Allowed;
    /// HMAC over SHA-512, 64 bytes.
    HmacSha512 "hmac-sha512" [Mac] Allowed;
    /// RSAES-OAEP, SHA-1 for hash and mask (RFC 8017 §7.1). Collisions, which SHA-1 has, do not weaken it; for
    /// clients that know no other.
    RsaOaepSha1 "rsa-oaep-sha1" [Encrypt, Wrap] Allowed;
    /// RSAES-OAEP, SHA-256 for hash and mask.
    RsaOaepSha256 "rsa-oaep-sha256" [Encrypt, Wrap] Allowed;
    /// RSAES-OAEP, SHA-384 for hash and mask.
    RsaOaepSha384 "rsa-oaep-sha384" [Encrypt, Wrap] Allowed;
    /// RSAES-OAEP, SHA-512 for hash and mask.
    RsaOaepSha512 "rsa-oaep-sha512" [Encrypt, Wrap] Allowed;
    /// RSASSA-PSS, SHA-256, salt as long as the hash (RFC 8017 §8.1).
    RsaPssSha256 "rsa-pss-sha256" [Sign] Allowed;
    /// RSASSA-PSS, SHA-384, salt as long as the hash.
    RsaPssSha384 "rsa-pss-sha384" [Sign] Allowed;
    /// RSASSA-PSS, SHA-512, salt as long as the hash.
    RsaPssSha512 "rsa-pss-sha512" [Sign] Allowed;
    /// RSASSA-PKCS1-v1_5, SHA-256 (RFC 8017 §8.2).
    RsaPkcs1Sha256 "rsa-pkcs1-sha256" [Sign] Allowed;
    /// RSASSA-PKCS1-v1_5, SHA-384.
    RsaPkcs1Sha384 "rsa-pkcs1-sha384" [Sign] Allowed;
    /// RSASSA-PKCS1-v1_5, SHA-512.
    RsaPkcs1Sha512 "rsa-pkcs1-sha512" [Sign] Allowed;
    /// ECDSA over SHA-256, signature as ASN.1 DER (FIPS 186-5 §6, RFC 3279 §2.2.3).
    EcdsaSha256 "ecdsa-sha256" [Sign] Allowed;
    /// ECDSA over SHA-384, signature as ASN.1 DER.
    EcdsaSha384 "ecdsa-sha384" [Sign] Allowed;
    /// ECDSA over SHA-512, signature as ASN.1 DER.
    EcdsaSha512 "ecdsa-sha512" [Sign] Allowed;
    /// Ed25519, pure (RFC 8032 §5.1).
    Ed25519 "ed25519" [Sign] Allowed;
    /// Ed25519 over the SHA-512 digest of the message, empty context (RFC 8032 §5.1, Ed25519ph).
    Ed25519ph "ed25519ph" [Sign] Allowed;
    /// ML-DSA, pure, empty context string (FIPS 204 §5.2).
    MlDsa "ml-dsa" [Sign] Preferred;
    /// ECDH with a P curve; the secret is the x-coordinate (SP 800-56A Rev. 3 §5.7.1.2).
    Ecdh "ecdh" [Agree] Allowed;
    /// The McCallum–Relyea exchange, as JOSE's `ECMR`: a point of P-521 times the key, whole.
    Ecmr "ecmr" [Exchange] Allowed;
    /// The secret of a volume's keyslot, 32 bytes: SP 800-108r1 §4.1 with HMAC-SHA256.
    VolumeKdf "volume-kdf" [Release] Preferred;
    /// X25519 (RFC 7748 §5).
    X25519 "x25519" [Agree] Allowed;
    /// ML-KEM (FIPS 203 §7).
    MlKem "ml-kem" [Encapsulate] Preferred;
}

impl Mechanism {
    /// The mechanism of exactly this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|m| m.name() == name)
    }

    /// Whether it is used for `purpose`.
    #[must_use]
    pub fn serves(self, purpose: Purpose) -> bool {
        self.purposes().contains(&purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_codes_lead_back() {
        for &a in Algorithm::ALL {
            assert_eq!(Algorithm::parse(a.name()), Some(a));
            assert_eq!(Algorithm::from_code(a.code()), Some(a));
            assert_eq!(a.info().algorithm, a);
        }
        for &m in Mechanism::ALL {
            assert_eq!(Mechanism::parse(m.name()), Some(m));
        }
        assert_eq!(Algorithm::from_code(0), None);
        assert_eq!(Algorithm::parse("AES-256"), None);
    }

    /// Stored records hold these numbers: a change here loses keys.
    #[test]
    fn codes_are_frozen() {
        let listed: Vec<_> = Algorithm::ALL.iter().map(|a| (a.code(), a.name())).collect();
        assert_eq!(listed[..3], [(1, "aes-128"), (2, "aes-192"), (3, "aes-256")]);
        assert_eq!(listed[10], (11, "ec-p256"));
        assert_eq!(listed[21..], [(22, "ml-dsa-87"), (23, "hmac-sha224")]);
    }

    #[test]
    fn every_mechanism_has_a_key_and_no_algorithm_lists_one_twice() {
        let mut used = HashSet::new();
        for a in Algorithm::ALL {
            let own: HashSet<Mechanism> = a.info().mechanisms.iter().copied().collect();
            assert_eq!(own.len(), a.info().mechanisms.len(), "{}", a.name());
            used.extend(own);
        }
        assert_eq!(used.len(), Mechanism::ALL.len());
    }

    #[test]
    fn the_default_is_the_best_that_serves() {
        let aes = Algorithm::Aes256;
        assert_eq!(aes.default_mechanism(Purpose::Encrypt), Some(Mechanism::Kh1));
        assert_eq!(aes.default_mechanism(Purpose::Wrap), Some(Mechanism::AesKwp));
        assert_eq!(aes.default_mechanism(Purpose::Sign), None);
        let rsa = Algorithm::Rsa3072.default_mechanism(Purpose::Encrypt);
        assert_eq!(rsa, Some(Mechanism::RsaOaepSha256));
    }
}
