//! Project Wycheproof's vectors for AES, ChaCha20-Poly1305, CMAC and HMAC, through [`Key`].

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use keyhearth_crypto::Error;
use keyhearth_crypto::algorithm::{Algorithm, Mechanism};
use keyhearth_crypto::key::Key;
use keyhearth_crypto::secret::SecretBytes;
use wycheproof::{aead, cipher, mac};

fn load(algorithm: Algorithm, bytes: &[u8]) -> Key {
    Key::load(algorithm, &SecretBytes::copy_from(bytes).unwrap()).unwrap()
}

fn aes(bits: usize) -> Option<Algorithm> {
    Algorithm::parse(&format!("aes-{bits}"))
}

/// Vectors with another IV or tag length than ours have to be refused too.
fn run_aead(name: aead::TestName, mechanism: Mechanism, algorithm: impl Fn(usize) -> Algorithm) {
    let (mut opened, mut refused) = (0, 0);
    for group in aead::TestSet::load(name).unwrap().test_groups {
        for test in &group.tests {
            let key = load(algorithm(group.key_size), &test.key);
            let ciphertext = [&test.ct[..], &test.tag[..]].concat();
            let result = key.decrypt(mechanism, &test.nonce, &test.aad, &ciphertext);
            if test.result.must_fail() || group.nonce_size != 96 || group.tag_size != 128 {
                assert!(matches!(result, Err(Error::NotAuthentic | Error::Invalid(_))), "{}", test.tc_id);
                refused += 1;
            } else {
                assert_eq!(result.unwrap().as_slice(), &test.pt[..], "{}", test.tc_id);
                opened += 1;
            }
        }
    }
    println!("{}: {opened} opened, {refused} refused", mechanism.name());
    assert!(opened > 50 && refused > 50);
}

#[test]
fn aes_gcm() {
    run_aead(aead::TestName::AesGcm, Mechanism::AesGcm, |bits| aes(bits).unwrap());
}

#[test]
fn chacha20_poly1305() {
    let algorithm = |_| Algorithm::ChaCha20Poly1305;
    run_aead(aead::TestName::ChaCha20Poly1305, Mechanism::ChaCha20Poly1305, algorithm);
}

#[test]
fn aes_cbc_pad() {
    let (mut opened, mut refused) = (0, 0);
    for group in cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap().test_groups {
        for test in &group.tests {
            let key = load(aes(group.key_size).unwrap(), &test.key);
            let result = key.decrypt(Mechanism::AesCbcPad, &test.nonce, &[], &test.ct);
            if test.result.must_fail() {
                assert_eq!(result.unwrap_err(), Error::NotAuthentic, "{}", test.tc_id);
                refused += 1;
            } else {
                assert_eq!(result.unwrap().as_slice(), &test.pt[..], "{}", test.tc_id);
                opened += 1;
            }
        }
    }
    println!("aes-cbc-pad: {opened} opened, {refused} refused");
    assert!(opened > 50 && refused > 100);
}

fn run_mac(name: mac::TestName, mechanism: Mechanism, algorithm: impl Fn(usize) -> Option<Algorithm>) {
    let (mut accepted, mut refused) = (0, 0);
    for group in mac::TestSet::load(name).unwrap().test_groups {
        for test in &group.tests {
            let Some(algorithm) = algorithm(group.key_size) else {
                assert!(test.result.must_fail(), "{}", test.tc_id);
                continue;
            };
            let key = load(algorithm, &test.key);
            let expected = key.mac(mechanism, &test.msg).unwrap();
            let full_length = group.tag_size == 8 * expected.len();
            let result = key.verify_mac(mechanism, &test.msg, &test.tag);
            if test.result.must_fail() || !full_length {
                assert_eq!(result, Err(Error::NotAuthentic), "{}", test.tc_id);
                refused += 1;
            } else {
                assert_eq!(result, Ok(()), "{}", test.tc_id);
                accepted += 1;
            }
            if !test.result.must_fail() {
                assert_eq!(expected[..group.tag_size / 8], test.tag[..], "{}", test.tc_id);
            }
        }
    }
    println!("{}: {accepted} accepted, {refused} refused", mechanism.name());
    assert!(accepted > 20 && refused > 50);
}

#[test]
fn aes_cmac() {
    run_mac(mac::TestName::AesCmac, Mechanism::AesCmac, aes);
}

#[test]
fn hmac_sha224() {
    run_mac(mac::TestName::HmacSha224, Mechanism::HmacSha224, |_| Some(Algorithm::HmacSha224));
}

#[test]
fn hmac_sha256() {
    run_mac(mac::TestName::HmacSha256, Mechanism::HmacSha256, |_| Some(Algorithm::HmacSha256));
}

#[test]
fn hmac_sha384() {
    run_mac(mac::TestName::HmacSha384, Mechanism::HmacSha384, |_| Some(Algorithm::HmacSha384));
}

#[test]
fn hmac_sha512() {
    run_mac(mac::TestName::HmacSha512, Mechanism::HmacSha512, |_| Some(Algorithm::HmacSha512));
}
