//! HPKE against a second implementation, in both directions, and against tampering.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::{X25519HkdfSha256, XWing};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable, single_shot_open, single_shot_seal};
use keyhearth_crypto::Error;
use keyhearth_crypto::hpke::{Suite, generate, open, seal};
use keyhearth_crypto::secret::SecretBytes;

const SUITES: [Suite; 2] = [Suite::X25519, Suite::X25519MlKem768];

fn agrees<K: Kem>(suite: Suite) {
    let (info, aad, plaintext) = (b"purpose", b"bound", b"to be read by one");
    // Sealed by us, opened by them, with a key of theirs.
    let (private, public) = K::gen_keypair();
    let message = seal(suite, &public.to_bytes(), info, aad, plaintext).unwrap();
    assert_eq!(message.len(), plaintext.len() + suite.overhead_bytes());
    let (encapsulated, ciphertext) = message.split_at(suite.overhead_bytes() - 16);
    let encapsulated = K::EncappedKey::from_bytes(encapsulated).unwrap();
    let opened = single_shot_open::<AesGcm256, HkdfSha256, K>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        info,
        ciphertext,
        aad,
    );
    assert_eq!(opened.unwrap(), plaintext);
    // Sealed by them, opened by us, with a key of ours.
    let ours = generate(suite).unwrap();
    let public = K::PublicKey::from_bytes(&ours.public).unwrap();
    let (encapsulated, ciphertext) =
        single_shot_seal::<AesGcm256, HkdfSha256, K>(&OpModeS::Base, &public, info, plaintext, aad).unwrap();
    let message = [&encapsulated.to_bytes()[..], &ciphertext].concat();
    assert_eq!(open(suite, &ours.private, info, aad, &message).unwrap()[..], plaintext[..]);
}

#[test]
fn x25519_agrees_with_the_second_implementation() {
    (0..8).for_each(|_| agrees::<X25519HkdfSha256>(Suite::X25519));
}

#[test]
fn hybrid_agrees_with_the_second_implementation() {
    (0..8).for_each(|_| agrees::<XWing>(Suite::X25519MlKem768));
}

#[test]
fn altered_messages_and_other_keys_are_refused() {
    for suite in SUITES {
        let ours = generate(suite).unwrap();
        let message = seal(suite, &ours.public, b"info", b"aad", b"").unwrap();
        let refusal = |private: &SecretBytes, info: &[u8], aad: &[u8], message: &[u8]| {
            open(suite, private, info, aad, message).unwrap_err()
        };
        assert_eq!(refusal(&ours.private, b"inf0", b"aad", &message), Error::NotAuthentic);
        assert_eq!(refusal(&ours.private, b"info", b"abd", &message), Error::NotAuthentic);
        assert_eq!(
            refusal(&generate(suite).unwrap().private, b"info", b"aad", &message),
            Error::NotAuthentic
        );
        for position in 0..message.len() {
            let mut altered = message.clone();
            altered[position] ^= 1;
            assert_eq!(refusal(&ours.private, b"info", b"aad", &altered), Error::NotAuthentic, "{position}");
        }
        for len in 0..message.len() {
            assert_eq!(refusal(&ours.private, b"info", b"aad", &message[..len]), Error::NotAuthentic);
        }
        let extended = [&message[..], &[0]].concat();
        assert_eq!(refusal(&ours.private, b"info", b"aad", &extended), Error::NotAuthentic);
    }
}

#[test]
fn keys_of_another_suite_are_refused() {
    for suite in SUITES {
        let other = generate(SUITES[usize::from(suite == SUITES[0])]).unwrap();
        assert!(matches!(seal(suite, &other.public, b"", b"", b""), Err(Error::Invalid(_))));
        let message = vec![9; suite.overhead_bytes()];
        assert!(matches!(open(suite, &other.private, b"", b"", &message), Err(Error::Invalid(_))));
    }
}

#[test]
fn public_keys_without_contribution_are_refused() {
    // The point of order 1 makes every agreed secret zero; RFC 9180 §7.1.4 demands the refusal.
    assert!(matches!(seal(Suite::X25519, &[0; 32], b"", b"", b""), Err(Error::Invalid(_))));
    // Coefficients that are not reduced modulo q; FIPS 203 §7.2 demands the refusal.
    let public = vec![0xff; Suite::X25519MlKem768.public_bytes()];
    assert!(matches!(seal(Suite::X25519MlKem768, &public, b"", b"", b""), Err(Error::Invalid(_))));
}
