//! KH1 against its vectors, against a second implementation, and against tampering.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use std::iter::once;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit as _};
use hmac::{Hmac, Mac};
use keyhearth_crypto::Error;
use keyhearth_crypto::kh1::{
    self, CONTEXT_BYTES_MAX, CONTEXT_PAIRS_MAX, Context, MAGIC, OVERHEAD_BYTES, PLAINTEXT_BYTES_MAX, envelope,
};
use keyhearth_crypto::secret::SecretBytes;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

mod vectors;

/// KH1 on RustCrypto, from the format document alone. `prefix` is the message up to its salt.
fn reference(label: &str, material: &[u8], prefix: &[u8], context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let (header, salt) = prefix.split_at(25);
    let header_and_context = [header, context].concat();
    let okm: Vec<u8> = (1u32..=2)
        .flat_map(|counter| {
            let mut mac = Hmac::<Sha256>::new_from_slice(material).unwrap();
            mac.update(&counter.to_be_bytes());
            mac.update(label.as_bytes());
            mac.update(&[0]);
            mac.update(salt);
            mac.update(&header[5..]);
            mac.update(&Sha256::digest(&header_and_context));
            mac.update(&512u32.to_be_bytes());
            mac.finalize().into_bytes()
        })
        .collect();
    let payload = Payload { msg: plaintext, aad: &header_and_context };
    let cipher = Aes256Gcm::new_from_slice(&okm[..32]).unwrap();
    let sealed = cipher.encrypt(&[0; 12].into(), payload).unwrap();
    [prefix, &okm[32..], &sealed].concat()
}

#[test]
fn vectors_open() {
    let cases = vectors::read(include_str!("../vectors/kh1.txt"));
    assert_eq!(cases.len(), 7);
    for case in &cases {
        let [material, plaintext, message] =
            ["material", "plaintext", "message"].map(|name| case.bytes(name));
        let key_id = <[u8; 16]>::try_from(case.bytes("key_id")).unwrap();
        let version: u32 = case.one("version").parse().unwrap();
        let (label, context) = if case.one("kind") == "message" {
            let pairs = case.all("context").map(|pair| pair.split_once('=').unwrap());
            let context = Context::new(pairs).unwrap();
            assert_eq!(context.as_bytes(), case.bytes("canonical"));
            assert_eq!(*kh1::open(&material, key_id, version, &context, &message).unwrap(), plaintext);
            assert_eq!(kh1::header(&message), Ok(kh1::Header { key_id, version }));
            ("keyhearth/kh1/enc", context.as_bytes().to_vec())
        } else {
            let (kek, aad) = (SecretBytes::copy_from(&material).unwrap(), case.bytes("aad"));
            assert!(envelope::unwrap(&kek, key_id, version, &aad, &message).unwrap().ct_eq(&plaintext));
            ("keyhearth/kh1/wrap", aad)
        };
        assert_eq!(reference(label, &material, &message[..57], &context, &plaintext), message);
    }
}

const MATERIAL: [u8; 32] = [3; 32];
const KEY_ID: [u8; 16] = [7; 16];

fn context() -> Context {
    Context::new([("tenant", "blue"), ("file", "a")]).unwrap()
}

fn sealed() -> Vec<u8> {
    kh1::seal(&MATERIAL, KEY_ID, 2, &context(), b"plaintext").unwrap()
}

#[test]
fn every_flipped_bit_is_refused() {
    let message = sealed();
    for bit in 0..message.len() * 8 {
        let mut altered = message.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        let error = kh1::open(&MATERIAL, KEY_ID, 2, &context(), &altered).unwrap_err();
        let in_magic_or_format = bit / 8 <= MAGIC.len();
        assert_eq!(matches!(error, Error::Invalid(_)), in_magic_or_format, "bit {bit}: {error}");
        assert!(in_magic_or_format || error == Error::NotAuthentic, "bit {bit}: {error}");
    }
}

#[test]
fn a_changed_key_id_is_refused_even_when_the_caller_expects_it() {
    let mut message = sealed();
    message[5] ^= 1;
    let key_id = kh1::header(&message).unwrap().key_id;
    assert_ne!(key_id, KEY_ID);
    assert_eq!(kh1::open(&MATERIAL, key_id, 2, &context(), &message), Err(Error::NotAuthentic));
    let mut message = sealed();
    message[24] ^= 1;
    assert_eq!(kh1::open(&MATERIAL, KEY_ID, 3, &context(), &message), Err(Error::NotAuthentic));
}

#[test]
fn truncated_and_extended_messages_are_refused() {
    let message = sealed();
    for len in 0..message.len() {
        let error = kh1::open(&MATERIAL, KEY_ID, 2, &context(), &message[..len]).unwrap_err();
        assert_eq!(matches!(error, Error::Invalid(_)), len < OVERHEAD_BYTES, "{len} bytes: {error}");
        assert_eq!(kh1::header(&message[..len]).is_err(), len < OVERHEAD_BYTES);
    }
    let extended: Vec<u8> = message.iter().copied().chain(once(0)).collect();
    assert_eq!(kh1::open(&MATERIAL, KEY_ID, 2, &context(), &extended), Err(Error::NotAuthentic));
}

#[test]
fn another_key_id_version_material_context_or_kind_is_refused() {
    let message = sealed();
    let open = |material: &[u8], key_id, version, context: &Context| {
        kh1::open(material, key_id, version, context, &message).map(|plaintext| plaintext.to_vec())
    };
    assert_eq!(open(&MATERIAL, KEY_ID, 2, &context()).unwrap(), b"plaintext");
    assert_eq!(open(&[4; 32], KEY_ID, 2, &context()), Err(Error::NotAuthentic));
    assert_eq!(open(&MATERIAL, [8; 16], 2, &context()), Err(Error::NotAuthentic));
    assert_eq!(open(&MATERIAL, KEY_ID, 1, &context()), Err(Error::NotAuthentic));
    assert_eq!(open(&MATERIAL, KEY_ID, 2, &Context::empty()), Err(Error::NotAuthentic));
    let other = Context::new([("tenant", "blue"), ("file", "b")]).unwrap();
    assert_eq!(open(&MATERIAL, KEY_ID, 2, &other), Err(Error::NotAuthentic));
    assert!(matches!(open(&MATERIAL[..31], KEY_ID, 2, &context()), Err(Error::Invalid(_))));

    let kek = SecretBytes::copy_from(&MATERIAL).unwrap();
    let error = envelope::unwrap(&kek, KEY_ID, 2, context().as_bytes(), &message).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
    // Nor with the format byte of an envelope: the label and the header differ too.
    let mut disguised = message.clone();
    disguised[4] = 2;
    let error = envelope::unwrap(&kek, KEY_ID, 2, context().as_bytes(), &disguised).unwrap_err();
    assert_eq!(error, Error::NotAuthentic);
}

#[test]
fn envelope_is_bound_to_its_aad() {
    let kek = SecretBytes::random(32).unwrap();
    let wrapped = envelope::wrap(&kek, KEY_ID, 1, b"tenant 1", b"material").unwrap();
    assert_eq!(wrapped.len(), envelope::OVERHEAD_BYTES + 8);
    assert!(envelope::unwrap(&kek, KEY_ID, 1, b"tenant 1", &wrapped).unwrap().ct_eq(b"material"));
    let moved = envelope::unwrap(&kek, KEY_ID, 1, b"tenant 2", &wrapped);
    assert_eq!(moved.unwrap_err(), Error::NotAuthentic);
}

#[test]
fn largest_plaintext_fits_and_a_larger_one_is_refused() {
    let largest = vec![1; PLAINTEXT_BYTES_MAX + 1];
    let seal = |plaintext| kh1::seal(&MATERIAL, KEY_ID, 1, &Context::empty(), plaintext);
    let message = seal(&largest[1..]).unwrap();
    assert_eq!(*kh1::open(&MATERIAL, KEY_ID, 1, &Context::empty(), &message).unwrap(), largest[1..]);
    assert_eq!(seal(&largest), Err(Error::TooLarge { limit: PLAINTEXT_BYTES_MAX }));
    let extended = [&message[..], &[0]].concat();
    assert!(matches!(kh1::header(&extended), Err(Error::TooLarge { .. })));
}

#[test]
fn new_data_keys_open_and_differ_from_each_other_and_their_salts() {
    let make = || kh1::seal_new(&MATERIAL, KEY_ID, 2, &context(), 32).unwrap();
    let ((key, message), (other, _)) = (make(), make());
    assert!(key.ct_eq(&kh1::open(&MATERIAL, KEY_ID, 2, &context(), &message).unwrap()));
    assert!(key.len() == 32 && !key.ct_eq(other.expose()));
    assert!(!key.ct_eq(&message[25..57]), "the salt is public");
}

#[test]
fn context_rules() {
    let refused = |pairs: &[(&str, &str)]| Context::new(pairs.iter().copied()).unwrap_err();
    assert!(matches!(refused(&[("a", "1"), ("b", "2"), ("a", "3")]), Error::Invalid(_)));
    assert!(matches!(refused(&[("a", "1"), ("a", "1")]), Error::Invalid(_)));
    assert!(matches!(refused(&[("", "1")]), Error::Invalid(_)));
    let names: Vec<String> = (0..=CONTEXT_PAIRS_MAX).map(|name| name.to_string()).collect();
    let pairs: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    assert!(matches!(refused(&pairs), Error::Invalid(_)));
    assert!(Context::new(pairs[1..].iter().copied()).is_ok());
    let value = "v".repeat(CONTEXT_BYTES_MAX - 8);
    assert_eq!(refused(&[("a", &value)]), Error::TooLarge { limit: CONTEXT_BYTES_MAX });
    assert_eq!(Context::new([("a", &value[1..])]).unwrap().as_bytes().len(), CONTEXT_BYTES_MAX);
}

proptest! {
    #[test]
    fn agrees_with_the_second_implementation(
        material: [u8; 32], key_id: [u8; 16], version: u32,
        pairs in prop::collection::btree_map("[a-zé]{1,8}", ".{0,20}", 0..8),
        plaintext in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let context = Context::new(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))).unwrap();
        let message = kh1::seal(&material, key_id, version, &context, &plaintext).unwrap();
        prop_assert_eq!(message.len(), plaintext.len() + OVERHEAD_BYTES);
        let expected =
            reference("keyhearth/kh1/enc", &material, &message[..57], context.as_bytes(), &plaintext);
        prop_assert_eq!(&message, &expected);
        prop_assert_eq!(&*kh1::open(&material, key_id, version, &context, &message).unwrap(), &plaintext);
        prop_assert_ne!(message, kh1::seal(&material, key_id, version, &context, &plaintext).unwrap());
    }

    #[test]
    fn context_does_not_depend_on_order_and_determines_its_pairs(
        one in prop::collection::hash_map("[ab]{1,3}", "[ab]{0,3}", 0..5),
        two in prop::collection::hash_map("[ab]{1,3}", "[ab]{0,3}", 0..5),
    ) {
        let context = |pairs: &std::collections::HashMap<String, String>, backwards: bool| {
            let mut pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            pairs.sort_unstable();
            if backwards { pairs.reverse() }
            Context::new(pairs).unwrap()
        };
        prop_assert_eq!(context(&one, false), context(&one, true));
        prop_assert_eq!(one == two, context(&one, false) == context(&two, false));
    }

    #[test]
    fn parser_is_total(message in prop::collection::vec(any::<u8>(), 0..300), with_magic: bool) {
        let message = if with_magic { [&MAGIC[..], &[1], &message].concat() } else { message };
        let _ = kh1::header(&message);
        prop_assert!(kh1::open(&MATERIAL, KEY_ID, 1, &Context::empty(), &message).is_err());
    }
}
