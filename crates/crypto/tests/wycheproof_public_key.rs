//! Project Wycheproof's vectors for RSA, EC, Ed25519, X25519, ML-KEM and ML-DSA, through our own keys.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use keyhearth_crypto::Error;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::{self, Input, Key, PublicKey};
use keyhearth_crypto::secret::SecretBytes;
use ml_kem::{DecapsulationKey, MlKem512, MlKem768, MlKem1024, Seed};
use wycheproof::{
    HashFunction, TestResult, ecdh, ecdsa, eddsa, mldsa_sign, mldsa_verify, mlkem, rsa_oaep,
    rsa_pkcs1_verify, rsa_pss_verify, xdh,
};

/// How many vectors ended well and how many were refused.
#[derive(Default)]
struct Tally {
    accepted: usize,
    refused: usize,
}

impl Tally {
    /// An acceptable vector may go either way; the other two may not.
    fn count(&mut self, expected: TestResult, accepted: bool, test: impl std::fmt::Debug) {
        assert!(expected == TestResult::Acceptable || accepted != expected.must_fail(), "{test:?}");
        *(if accepted { &mut self.accepted } else { &mut self.refused }) += 1;
    }

    fn report(&self, what: &str) {
        println!("{what}: {} accepted, {} refused", self.accepted, self.refused);
        assert!(self.accepted > 0 && self.refused > 0, "{what}");
    }
}

fn rsa(bits: usize) -> Option<Algorithm> {
    Algorithm::parse(&format!("rsa-{bits}"))
}

fn with_hash(prefix: &str, hash: HashFunction) -> Option<Mechanism> {
    let hash = format!("{hash:?}").to_lowercase().replace("sha2_", "sha");
    Mechanism::parse(&format!("{prefix}-{hash}"))
}

fn verifies(key: &PublicKey, mechanism: Mechanism, message: &[u8], signature: &[u8]) -> bool {
    match key.verify(mechanism, Input::Message(message), signature) {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error, Error::NotAuthentic);
            false
        }
    }
}

#[test]
fn rsa_oaep() {
    use rsa_oaep::TestName::*;
    let mut tally = Tally::default();
    let sets = [
        Rsa2048Sha1Mgf1Sha1,
        Rsa2048Sha256Mgf1Sha256,
        Rsa2048Sha384Mgf1Sha384,
        Rsa2048Sha512Mgf1Sha512,
        Rsa3072Sha256Mgf1Sha256,
        Rsa3072Sha512Mgf1Sha512,
        Rsa4096Sha256Mgf1Sha256,
        Rsa4096Sha512Mgf1Sha512,
        RsaMisc,
    ];
    for group in sets.into_iter().flat_map(|set| rsa_oaep::TestSet::load(set).unwrap().test_groups) {
        let (Some(algorithm), Some(mechanism)) = (rsa(group.key_size), with_hash("rsa-oaep", group.hash))
        else {
            continue;
        };
        if group.mgf_hash != group.hash {
            continue;
        }
        let key = Key::load(algorithm, &SecretBytes::copy_from(&group.pkcs8).unwrap()).unwrap();
        for test in &group.tests {
            let result = key.decrypt(mechanism, &[], &test.label, &test.ct);
            if let Ok(plaintext) = &result {
                assert_eq!(plaintext.as_slice(), &test.pt[..], "{}", test.tc_id);
            }
            tally.count(test.result, result.is_ok(), test.tc_id);
        }
    }
    tally.report("rsa-oaep");
}

#[test]
fn rsa_pkcs1() {
    use rsa_pkcs1_verify::TestName::*;
    let mut tally = Tally::default();
    let sets = [
        Rsa2048Sha256,
        Rsa2048Sha384,
        Rsa2048Sha512,
        Rsa3072Sha256,
        Rsa3072Sha384,
        Rsa3072Sha512,
        Rsa4096Sha256,
        Rsa4096Sha384,
        Rsa4096Sha512,
    ];
    for group in sets.into_iter().flat_map(|set| rsa_pkcs1_verify::TestSet::load(set).unwrap().test_groups) {
        let key = PublicKey::from_der(rsa(group.key_size).unwrap(), &group.der).unwrap();
        let mechanism = with_hash("rsa-pkcs1", group.hash).unwrap();
        for test in &group.tests {
            tally.count(test.result, verifies(&key, mechanism, &test.msg, &test.sig), test.tc_id);
        }
    }
    tally.report("rsa-pkcs1");
}

/// Salts that are not as long as the hash are refused, though the vectors call them valid.
#[test]
fn rsa_pss() {
    use rsa_pss_verify::TestName::*;
    let mut tally = Tally::default();
    let sets = [
        RsaPss2048Sha256Mgf1SaltLen0,
        RsaPss2048Sha256Mgf1SaltLen32,
        RsaPss2048Sha384Mgf1SaltLen48,
        RsaPss3072Sha256Mgf1SaltLen32,
        RsaPss4096Sha256Mgf1SaltLen32,
        RsaPss4096Sha384Mgf1SaltLen48,
        RsaPss4096Sha512Mgf1SaltLen32,
        RsaPss4096Sha512Mgf1SaltLen64,
    ];
    for group in sets.into_iter().flat_map(|set| rsa_pss_verify::TestSet::load(set).unwrap().test_groups) {
        let key = PublicKey::from_der(rsa(group.key_size).unwrap(), &group.der).unwrap();
        let mechanism = with_hash("rsa-pss", group.hash).unwrap();
        let hash_bytes = mechanism.name()[mechanism.name().len() - 3..].parse::<usize>().unwrap() / 8;
        for test in &group.tests {
            let expected = if group.salt_size == hash_bytes {
                test.result
            } else if test.result.must_fail() {
                // One of these was changed to have our length of salt.
                TestResult::Acceptable
            } else {
                TestResult::Invalid
            };
            tally.count(expected, verifies(&key, mechanism, &test.msg, &test.sig), test.tc_id);
        }
    }
    tally.report("rsa-pss");
}

#[test]
fn ecdsa() {
    use ecdsa::TestName::*;
    let sets = [
        (Algorithm::EcP256, Mechanism::EcdsaSha256, EcdsaSecp256r1Sha256),
        (Algorithm::EcP384, Mechanism::EcdsaSha384, EcdsaSecp384r1Sha384),
        (Algorithm::EcP521, Mechanism::EcdsaSha512, EcdsaSecp521r1Sha512),
        (Algorithm::EcSecp256k1, Mechanism::EcdsaSha256, EcdsaSecp256k1Sha256),
    ];
    for (algorithm, mechanism, set) in sets {
        let mut tally = Tally::default();
        for group in ecdsa::TestSet::load(set).unwrap().test_groups {
            let key = PublicKey::from_der(algorithm, &group.der).unwrap();
            for test in &group.tests {
                tally.count(test.result, verifies(&key, mechanism, &test.msg, &test.sig), test.tc_id);
            }
        }
        tally.report(algorithm.name());
    }
}

#[test]
fn ed25519() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let key = PublicKey::from_der(Algorithm::Ed25519, &group.der).unwrap();
        for test in &group.tests {
            tally.count(test.result, verifies(&key, Mechanism::Ed25519, &test.msg, &test.sig), test.tc_id);
        }
    }
    tally.report("ed25519");
}

#[test]
fn ecdh() {
    use ecdh::TestName::*;
    let sets = [
        (Algorithm::EcP256, 32, [EcdhSecp256r1, EcdhSecp256r1Ecpoint]),
        (Algorithm::EcP384, 48, [EcdhSecp384r1, EcdhSecp384r1Ecpoint]),
        (Algorithm::EcP521, 66, [EcdhSecp521r1, EcdhSecp521r1Ecpoint]),
    ];
    for (algorithm, scalar_bytes, sets) in sets {
        let mut tally = Tally::default();
        for group in sets.into_iter().flat_map(|set| ecdh::TestSet::load(set).unwrap().test_groups) {
            for test in &group.tests {
                let digits =
                    test.private_key.iter().skip_while(|byte| **byte == 0).copied().collect::<Vec<_>>();
                let scalar = [vec![0; scalar_bytes - digits.len()], digits].concat();
                let key = Key::load(algorithm, &key::import_scalar(algorithm, &scalar).unwrap()).unwrap();
                let result = key.agree(&test.public_key);
                if let Ok(secret) = &result {
                    assert!(secret.ct_eq(&test.shared_secret), "{}", test.tc_id);
                }
                tally.count(test.result, result.is_ok(), test);
            }
        }
        tally.report(algorithm.name());
    }
}

#[test]
fn x25519() {
    let mut tally = Tally::default();
    for group in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups {
        for test in &group.tests {
            let material = key::import(Algorithm::X25519, &test.private_key).unwrap();
            let result = Key::load(Algorithm::X25519, &material).unwrap().agree(&test.public_key);
            if let Ok(secret) = &result {
                assert!(secret.ct_eq(&test.shared_secret), "{}", test.tc_id);
            }
            let zero = test.flags.contains(&xdh::TestFlag::ZeroSharedSecret);
            let expected = if zero { TestResult::Invalid } else { TestResult::Valid };
            tally.count(expected, result.is_ok(), test.tc_id);
        }
    }
    tally.report("x25519");
}

const ML_KEM: [(Algorithm, [mlkem::TestName; 4]); 3] = {
    use mlkem::TestName::*;
    [
        (Algorithm::MlKem512, [MlKem512KeyGenSeed, MlKem512SemiExpandedDecaps, MlKem512Encaps, MlKem512]),
        (Algorithm::MlKem768, [MlKem768KeyGenSeed, MlKem768SemiExpandedDecaps, MlKem768Encaps, MlKem768]),
        (
            Algorithm::MlKem1024,
            [MlKem1024KeyGenSeed, MlKem1024SemiExpandedDecaps, MlKem1024Encaps, MlKem1024],
        ),
    ]
};

fn ml_kem_tests(set: mlkem::TestName) -> impl Iterator<Item = mlkem::Test> {
    mlkem::TestSet::load(set).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
}

#[test]
fn ml_kem_keys_contain_their_public_half() {
    for (algorithm, [set, ..]) in ML_KEM {
        let mut ran = 0;
        for test in ml_kem_tests(set) {
            let material = key::import(algorithm, &test.decaps_key.unwrap()).unwrap();
            let key = Key::load(algorithm, &material).unwrap();
            assert!(key.public_key_der().unwrap().ends_with(&test.encaps_key.unwrap()), "{}", test.tc_id);
            let (ciphertext, secret) = key.encapsulate().unwrap();
            assert!(key.decapsulate(&ciphertext).unwrap().ct_eq(secret.expose()), "{}", test.tc_id);
            ran += 1;
        }
        println!("{}: {ran} keys", algorithm.name());
        assert!(ran > 50);
    }
}

#[test]
fn ml_kem_decapsulates_with_expanded_keys() {
    for (algorithm, [_, set, ..]) in ML_KEM {
        let mut tally = Tally::default();
        for test in ml_kem_tests(set) {
            let key = key::import(algorithm, &test.decaps_key.unwrap())
                .and_then(|material| Key::load(algorithm, &material));
            let secret = key.and_then(|key| key.decapsulate(&test.ct.unwrap()));
            if let (Ok(secret), Some(expected)) = (&secret, &test.shared_secret) {
                assert!(secret.ct_eq(expected), "{}", test.tc_id);
            }
            tally.count(test.result, secret.is_ok(), test.tc_id);
        }
        tally.report(algorithm.name());
    }
}

#[test]
fn ml_kem_refuses_malformed_public_keys() {
    for (algorithm, [_, _, set, _]) in ML_KEM {
        let mut tally = Tally::default();
        for test in ml_kem_tests(set) {
            let key = PublicKey::from_der(algorithm, &test.encaps_key.unwrap());
            tally.count(test.result, key.and_then(|key| key.encapsulate()).is_ok(), test.tc_id);
        }
        tally.report(algorithm.name());
    }
}

/// The decapsulation key of a seed, by a second implementation.
#[expect(deprecated, reason = "the expanded form is the one under test")]
fn expand(algorithm: Algorithm, seed: &[u8]) -> Option<Vec<u8>> {
    use ml_kem::ExpandedKeyEncoding;
    let seed = Seed::try_from(seed).ok()?;
    Some(if algorithm == Algorithm::MlKem512 {
        DecapsulationKey::<MlKem512>::from_seed(seed).to_expanded_bytes().to_vec()
    } else if algorithm == Algorithm::MlKem768 {
        DecapsulationKey::<MlKem768>::from_seed(seed).to_expanded_bytes().to_vec()
    } else {
        DecapsulationKey::<MlKem1024>::from_seed(seed).to_expanded_bytes().to_vec()
    })
}

/// Source: RFC 9935 §6 (`seed`).
#[test]
fn ml_kem_pairs_are_written_as_their_seed() {
    for (last, (algorithm, _)) in (1..).zip(ML_KEM) {
        let (private, public) = key::generate_pair(algorithm).unwrap();
        let (frame, seed) = private.expose().split_at(22);
        let identifier = [0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04, last];
        let expected = [&[0x30, 0x54, 0x02, 0x01, 0x00][..], &identifier, &[0x04, 0x42, 0x80, 0x40]].concat();
        assert_eq!((frame, seed.len()), (&expected[..], 64));
        let material = key::import(algorithm, &expand(algorithm, seed).unwrap()).unwrap();
        let key = Key::load(algorithm, &material).unwrap();
        assert_eq!(key.public_key_der(), Some(&public[..]));
        let other = PublicKey::from_der(algorithm, &public).unwrap();
        let (encapsulated, shared) = other.encapsulate().unwrap();
        assert!(key.decapsulate(&encapsulated).unwrap().ct_eq(shared.expose()));
    }
}

/// These vectors give seeds; a second implementation expands them.
#[test]
fn ml_kem_decapsulates_keys_of_the_second_implementation() {
    for (algorithm, [.., set]) in ML_KEM {
        let mut tally = Tally::default();
        for test in ml_kem_tests(set) {
            let Some(expanded) = expand(algorithm, &test.seed.unwrap()) else {
                assert!(test.result.must_fail(), "{}", test.tc_id);
                continue;
            };
            let key = Key::load(algorithm, &key::import(algorithm, &expanded).unwrap()).unwrap();
            let secret = key.decapsulate(&test.ct.unwrap());
            if let (Ok(secret), false) = (&secret, test.result.must_fail()) {
                assert!(secret.ct_eq(&test.shared_secret.unwrap()), "{}", test.tc_id);
            }
            tally.count(test.result, secret.is_ok(), test.tc_id);
        }
        tally.report(algorithm.name());
    }
}

/// Vectors with a context string are left out: this mechanism has none.
#[test]
fn ml_dsa_verifies() {
    use mldsa_verify::TestName::*;
    let sets = [
        (Algorithm::MlDsa44, MlDsa44Verify),
        (Algorithm::MlDsa65, MlDsa65Verify),
        (Algorithm::MlDsa87, MlDsa87Verify),
    ];
    for (algorithm, set) in sets {
        let mut tally = Tally::default();
        for group in mldsa_verify::TestSet::load(set).unwrap().test_groups {
            let key = PublicKey::from_der(algorithm, &group.pubkey);
            for test in group.tests.iter().filter(|test| test.ctx.as_ref().is_none_or(|ctx| ctx.is_empty())) {
                let accepted =
                    key.as_ref().is_ok_and(|key| verifies(key, Mechanism::MlDsa, &test.msg, &test.sig));
                tally.count(test.result, accepted, test.tc_id);
            }
        }
        tally.report(algorithm.name());
    }
}

/// Ours are drawn at random, so what is compared is the key, and both signatures are verified.
#[test]
fn ml_dsa_signs_with_seeds() {
    use mldsa_sign::TestName::*;
    let sets = [
        (Algorithm::MlDsa44, MlDsa44SignSeed),
        (Algorithm::MlDsa65, MlDsa65SignSeed),
        (Algorithm::MlDsa87, MlDsa87SignSeed),
    ];
    for (algorithm, set) in sets {
        let mut ran = 0;
        for group in mldsa_sign::TestSet::load(set).unwrap().test_groups {
            let material = key::import(algorithm, &group.privseed.unwrap());
            let Some(public) = group.pubkey.filter(|_| material.is_ok()) else {
                assert!(group.tests.iter().all(|test| test.result.must_fail()));
                continue;
            };
            let key = Key::load(algorithm, &material.unwrap()).unwrap();
            assert!(key.public_key_der().unwrap().ends_with(&public));
            if let Some(pkcs8) = group.privkey_pkcs8 {
                let same = Key::load(algorithm, &key::import(algorithm, &pkcs8).unwrap()).unwrap();
                assert_eq!(same.public_key_der(), key.public_key_der());
            }
            for test in group.tests.iter().filter(|test| !test.result.must_fail() && test.ctx.is_none()) {
                let Some(message) = &test.msg else { continue };
                let message = Input::Message(message);
                let ours = key.sign(Mechanism::MlDsa, message).unwrap();
                for signature in [&ours[..], &test.sig[..]] {
                    assert_eq!(key.verify(Mechanism::MlDsa, message, signature), Ok(()), "{}", test.tc_id);
                }
                ran += 1;
            }
        }
        println!("{}: {ran} vectors", algorithm.name());
        assert!(ran > 10);
    }
}
