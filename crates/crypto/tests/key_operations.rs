//! Every mechanism of every algorithm in the registry, there and back, and what has to be refused.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use keyhearth_crypto::Error;
use keyhearth_crypto::algorithm::{Algorithm, Family, Mechanism, Purpose};
use keyhearth_crypto::key::{self, Input, Key, PublicKey, rsa_aes_kwp_unwrap, rsa_aes_kwp_wrap};
use keyhearth_crypto::secret::SecretBytes;

const MESSAGE: &[u8] = b"sixteen bytes or more, so that blocks matter";

fn new(algorithm: Algorithm) -> Key {
    Key::load(algorithm, &key::generate(algorithm).unwrap()).unwrap()
}

/// The other party's view of a key.
fn public(key: &Key) -> PublicKey {
    PublicKey::from_der(key.algorithm(), key.public_key_der().unwrap()).unwrap()
}

fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    changed[bytes.len() / 2] ^= 1;
    changed
}

fn encrypt_and_decrypt(key: &Key, mechanism: Mechanism) {
    let authentic = !matches!(mechanism, Mechanism::AesCbcPad | Mechanism::AesCtr);
    let aad: &[u8] = if authentic { b"aad" } else { b"" };
    let sealed = key.encrypt(mechanism, aad, MESSAGE).unwrap();
    let open = |iv: &[u8], aad: &[u8], ciphertext: &[u8]| key.decrypt(mechanism, iv, aad, ciphertext);
    assert_eq!(open(&sealed.iv, aad, &sealed.ciphertext).unwrap().as_slice(), MESSAGE);
    let again = key.encrypt(mechanism, aad, MESSAGE).unwrap();
    assert_ne!((sealed.iv.clone(), sealed.ciphertext.clone()), (again.iv, again.ciphertext));
    assert!(matches!(open(&[0; 5], aad, &sealed.ciphertext), Err(Error::Invalid(_))));
    if authentic {
        let refused = [
            open(&sealed.iv, b"other", &sealed.ciphertext),
            open(&sealed.iv, aad, &flipped(&sealed.ciphertext)),
            open(&sealed.iv, aad, &sealed.ciphertext[1..]),
            open(&sealed.iv, aad, &[]),
        ];
        assert!(refused.iter().all(|result| result.as_ref().err() == Some(&Error::NotAuthentic)));
    } else {
        assert!(matches!(key.encrypt(mechanism, b"aad", MESSAGE), Err(Error::Invalid(_))));
        assert!(matches!(open(&sealed.iv, b"aad", &sealed.ciphertext), Err(Error::Invalid(_))));
    }
}

fn sign_and_verify(key: &Key, mechanism: Mechanism) {
    let message = Input::Message(MESSAGE);
    let signature = key.sign(mechanism, message).unwrap();
    let public = public(key);
    let verify = |input: Input<'_>, signature: &[u8]| public.verify(mechanism, input, signature);
    assert_eq!(verify(message, &signature), Ok(()));
    assert_eq!(key.verify(mechanism, message, &signature), Ok(()));
    assert_eq!(verify(Input::Message(b"other"), &signature), Err(Error::NotAuthentic));
    assert_eq!(verify(message, &flipped(&signature)), Err(Error::NotAuthentic));
    assert_eq!(verify(message, &[]), Err(Error::NotAuthentic));
    assert_eq!(new(key.algorithm()).verify(mechanism, message, &signature), Err(Error::NotAuthentic));

    if matches!(mechanism, Mechanism::Ed25519 | Mechanism::MlDsa) {
        assert!(matches!(key.sign(mechanism, Input::Digest(&[1; 64])), Err(Error::Unsupported(_))));
        assert!(matches!(verify(Input::Digest(&[1; 64]), &signature), Err(Error::Unsupported(_))));
        return;
    }
    let hash = match &mechanism.name()[mechanism.name().len() - 3..] {
        "256" => &aws_lc_rs::digest::SHA256,
        "384" => &aws_lc_rs::digest::SHA384,
        _ => &aws_lc_rs::digest::SHA512,
    };
    let digest = aws_lc_rs::digest::digest(hash, MESSAGE);
    let digest = digest.as_ref();
    let signature = key.sign(mechanism, Input::Digest(digest)).unwrap();
    assert_eq!(verify(message, &signature), Ok(()));
    assert_eq!(verify(Input::Digest(digest), &signature), Ok(()));
    assert_eq!(verify(Input::Digest(&flipped(digest)), &signature), Err(Error::NotAuthentic));
    assert!(matches!(key.sign(mechanism, Input::Digest(&digest[1..])), Err(Error::Invalid(_))));
    assert!(matches!(verify(Input::Digest(&digest[1..]), &signature), Err(Error::Invalid(_))));
}

fn mac_and_check(key: &Key, mechanism: Mechanism) {
    let mac = key.mac(mechanism, MESSAGE).unwrap();
    assert_eq!(key.verify_mac(mechanism, MESSAGE, &mac), Ok(()));
    for (message, mac) in
        [(&b"other"[..], &mac[..]), (MESSAGE, &mac[1..]), (MESSAGE, &flipped(&mac)), (MESSAGE, &[])]
    {
        assert_eq!(key.verify_mac(mechanism, message, mac), Err(Error::NotAuthentic));
    }
}

fn wrap_and_unwrap(key: &Key, mechanism: Mechanism) {
    let wrapped = key.wrap(mechanism, &MESSAGE[..32]).unwrap();
    assert_eq!(key.unwrap(mechanism, &wrapped).unwrap().expose(), &MESSAGE[..32]);
    for wrong in [&flipped(&wrapped)[..], &wrapped[..wrapped.len() - 8], &[]] {
        assert_eq!(key.unwrap(mechanism, wrong).unwrap_err(), Error::NotAuthentic);
    }
    if key.algorithm().is_asymmetric() {
        let wrapped = rsa_aes_kwp_wrap(&public(key), mechanism, &[7; 2000]).unwrap();
        assert_eq!(rsa_aes_kwp_unwrap(key, mechanism, &wrapped).unwrap().expose(), [7; 2000]);
        let mut changed_tail = wrapped.clone();
        *changed_tail.last_mut().unwrap() ^= 1;
        for wrong in [&flipped(&wrapped)[..], &changed_tail, &wrapped[..wrapped.len() - 1], &wrapped[..100]] {
            assert_eq!(rsa_aes_kwp_unwrap(key, mechanism, wrong).unwrap_err(), Error::NotAuthentic);
        }
        let too_long = [0; 512];
        assert!(matches!(key.wrap(mechanism, &too_long), Err(Error::TooLarge { .. })));
    }
}

fn agree_both_ways(key: &Key) {
    let peer = new(key.algorithm());
    let secret = key.agree(peer.public_key_der().unwrap()).unwrap();
    assert!(secret.ct_eq(peer.agree(key.public_key_der().unwrap()).unwrap().expose()));
    for wrong in [&[][..], &[4; 65], &[0; 32], &flipped(&[0; 91])] {
        assert!(matches!(key.agree(wrong), Err(Error::Invalid(_))));
    }
}

fn encapsulate_and_decapsulate(key: &Key) {
    let (ciphertext, secret) = public(key).encapsulate().unwrap();
    assert!(key.decapsulate(&ciphertext).unwrap().ct_eq(secret.expose()));
    assert!(!key.decapsulate(&flipped(&ciphertext)).unwrap().ct_eq(secret.expose()));
    assert_eq!(key.decapsulate(&ciphertext[1..]).unwrap_err(), Error::NotAuthentic);
}

fn exchange(key: &Key) {
    let peer = new(key.algorithm());
    let product = key.exchange(peer.public_key_der().unwrap()).unwrap();
    assert_eq!(peer.exchange(key.public_key_der().unwrap()).unwrap(), product);
    assert_eq!(
        peer.exchange(&product).unwrap().len(),
        product.len(),
        "what is given is a point to be multiplied"
    );
}

fn derive_secrets(key: &Key) {
    let secret = |label, context: &[&[u8]]| *key.volume_secret(label, context).unwrap();
    assert_eq!(secret("a", &[b"one", b"two"]), secret("a", &[b"onetwo"]));
    assert_ne!(secret("a", &[b"one"]), secret("b", &[b"one"]));
    assert_ne!(secret("a", &[b"one"]), secret("a", &[b"two"]));
    assert_ne!(secret("a", &[b"one"]), *new(key.algorithm()).volume_secret("a", &[b"one"]).unwrap());
}

fn round_trip(key: &Key, mechanism: Mechanism, purpose: Purpose) {
    match purpose {
        Purpose::Encrypt if mechanism == Mechanism::Kh1 => assert_eq!(key.kh1_material().unwrap().len(), 32),
        Purpose::Encrypt => encrypt_and_decrypt(key, mechanism),
        Purpose::Sign => sign_and_verify(key, mechanism),
        Purpose::Mac => mac_and_check(key, mechanism),
        Purpose::Wrap => wrap_and_unwrap(key, mechanism),
        Purpose::Agree => agree_both_ways(key),
        Purpose::Encapsulate => encapsulate_and_decapsulate(key),
        Purpose::Exchange => exchange(key),
        Purpose::Release => derive_secrets(key),
    }
}

#[test]
fn every_mechanism_of_every_algorithm() {
    let mut ran = 0;
    for &algorithm in Algorithm::ALL {
        let key = new(algorithm);
        assert_eq!(key.public_key_der().is_some(), algorithm.is_asymmetric());
        for &mechanism in algorithm.info().mechanisms {
            for &purpose in mechanism.purposes() {
                round_trip(&key, mechanism, purpose);
                ran += 1;
            }
        }
    }
    println!("{ran} round trips");
    assert!(ran > 50);
}

#[test]
fn mechanisms_that_the_registry_does_not_list_are_unsupported() {
    for &algorithm in Algorithm::ALL {
        let key = new(algorithm);
        for &mechanism in Mechanism::ALL.iter().filter(|mechanism| !algorithm.supports(**mechanism)) {
            let message = Input::Message(MESSAGE);
            let refused = [
                key.encrypt(mechanism, &[], MESSAGE).err(),
                key.decrypt(mechanism, &[], &[], MESSAGE).err(),
                key.sign(mechanism, message).err(),
                key.verify(mechanism, message, MESSAGE).err(),
                key.mac(mechanism, MESSAGE).err(),
                key.verify_mac(mechanism, MESSAGE, MESSAGE).err(),
                key.wrap(mechanism, &[1; 32]).err(),
                key.unwrap(mechanism, &[1; 40]).err(),
            ];
            for (operation, error) in refused.into_iter().enumerate() {
                let name = algorithm.name();
                assert!(matches!(error, Some(Error::Unsupported(_))), "{name} {mechanism:?} {operation}");
            }
        }
        let serves = |purpose| algorithm.default_mechanism(purpose).is_some();
        assert_eq!(key.agree(&[9; 32]).is_err_and(unsupported), !serves(Purpose::Agree));
        assert_eq!(key.encapsulate().is_err_and(unsupported), !serves(Purpose::Encapsulate));
        assert_eq!(key.decapsulate(&[]).is_err_and(unsupported), !serves(Purpose::Encapsulate));
    }
}

fn unsupported(error: Error) -> bool {
    matches!(error, Error::Unsupported(_))
}

#[test]
fn stored_form_can_be_imported_and_stays_the_same() {
    for &algorithm in Algorithm::ALL {
        let material = key::generate(algorithm).unwrap();
        assert!(
            key::import(algorithm, material.expose()).unwrap().ct_eq(material.expose()),
            "{}",
            algorithm.name()
        );
        assert!(!material.ct_eq(key::generate(algorithm).unwrap().expose()), "{}", algorithm.name());
    }
}

/// Bare bytes of the right length are a key of any algorithm that stores bare bytes; what has structure is not.
#[test]
fn structured_material_of_one_algorithm_is_refused_by_every_other() {
    let bare =
        |algorithm: &Algorithm| !algorithm.is_asymmetric() || algorithm.info().family == Family::X25519;
    for &of in Algorithm::ALL.iter().filter(|algorithm| !bare(algorithm)) {
        let material = key::generate(of).unwrap();
        for &by in Algorithm::ALL.iter().filter(|by| **by != of && by.info().family != Family::Hmac) {
            let result = key::import(by, material.expose());
            assert!(matches!(result, Err(Error::Invalid(_))), "{} as {}", of.name(), by.name());
        }
    }
}

#[test]
fn wrong_sizes_and_weak_keys_are_refused() {
    let long = vec![1; key::IMPORT_BYTES_MAX + 1];
    let varied: Vec<u8> = (0..=255).cycle().take(4000).collect();
    for &algorithm in Algorithm::ALL {
        let refused = |bytes: &[u8]| matches!(key::import(algorithm, bytes), Err(Error::Invalid(_)));
        let name = algorithm.name();
        assert!(matches!(key::import(algorithm, &long), Err(Error::TooLarge { .. })), "{name}");
        assert!([&[][..], &[1], &varied[..15], &varied[..129], &varied].into_iter().all(refused), "{name}");
        let material = key::generate(algorithm).unwrap();
        let hmac = algorithm.info().family == Family::Hmac;
        assert!(hmac || refused(&material.expose()[1..]), "{name}");
        assert!(algorithm.is_asymmetric() || refused(&vec![0x55; material.len()]), "{name}");
    }
}

#[test]
fn other_encodings_lead_to_the_same_key() {
    let rsa = key::generate(Algorithm::Rsa2048).unwrap();
    let rsa_private_key = &rsa.expose()[26..];
    assert!(key::import(Algorithm::Rsa2048, rsa_private_key).unwrap().ct_eq(rsa.expose()));

    let x25519 = key::generate(Algorithm::X25519).unwrap();
    let prefix = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x6e\x04\x22\x04\x20";
    let private_key_info = [&prefix[..], x25519.expose()].concat();
    assert!(key::import(Algorithm::X25519, &private_key_info).unwrap().ct_eq(x25519.expose()));

    for algorithm in [Algorithm::Ed25519, Algorithm::MlDsa65] {
        let material = key::generate(algorithm).unwrap();
        let seed = material.expose().last_chunk::<32>().unwrap();
        assert!(key::import(algorithm, seed).unwrap().ct_eq(material.expose()));
    }
    for &algorithm in Algorithm::ALL.iter().filter(|a| matches!(a.info().family, Family::Rsa | Family::Ec)) {
        let material = key::generate(algorithm).unwrap();
        let trailing = [material.expose(), b"trailing"].concat();
        assert!(key::import(algorithm, &trailing).unwrap().ct_eq(material.expose()));
        assert_eq!(
            key::import_scalar(algorithm, &[]).is_err_and(unsupported),
            algorithm.info().family == Family::Rsa
        );
    }
}

/// Source: RFC 3686 §6, vector 9 (AES-256): the counter block is nonce, IV and 1.
#[test]
fn aes_ctr_matches_its_standard() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    };
    let key = bytes("ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d");
    let key = Key::load(Algorithm::Aes256, &SecretBytes::copy_from(&key).unwrap()).unwrap();
    let iv = bytes("001cc5b751a51d70a1c1114800000001");
    let ciphertext = bytes("eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8");
    let plaintext = key.decrypt(Mechanism::AesCtr, &iv, &[], &ciphertext).unwrap();
    assert_eq!(*plaintext, (0..=0x23).collect::<Vec<u8>>());
}

#[test]
fn scalars_outside_the_order_are_refused() {
    let sizes = [
        (Algorithm::EcP256, 32),
        (Algorithm::EcP384, 48),
        (Algorithm::EcP521, 66),
        (Algorithm::EcSecp256k1, 32),
    ];
    for (algorithm, size) in sizes {
        assert!(matches!(key::import_scalar(algorithm, &vec![0; size]), Err(Error::Invalid(_))));
        assert!(matches!(key::import_scalar(algorithm, &vec![0xff; size]), Err(Error::Invalid(_))));
        assert!(matches!(key::import_scalar(algorithm, &vec![1; size - 1]), Err(Error::Invalid(_))));
        let mut one = vec![0; size];
        one[size - 1] = 1;
        assert!(key::import_scalar(algorithm, &one).is_ok());
    }
}

#[test]
fn inconsistent_ml_kem_keys_are_refused() {
    for algorithm in [Algorithm::MlKem512, Algorithm::MlKem768, Algorithm::MlKem1024] {
        let material = key::generate(algorithm).unwrap();
        let mut changed = material.expose().to_vec();
        let inside_public = changed.len() / 2 + 20;
        changed[inside_public] ^= 1;
        assert!(matches!(key::import(algorithm, &changed), Err(Error::Invalid(_))));
    }
}

#[test]
fn public_keys_of_another_algorithm_are_refused() {
    let keys: Vec<_> = Algorithm::ALL.iter().filter(|a| a.is_asymmetric()).map(|a| new(*a)).collect();
    for key in &keys {
        let der = key.public_key_der().unwrap();
        for &other in Algorithm::ALL.iter().filter(|other| **other != key.algorithm()) {
            let result = PublicKey::from_der(other, der);
            assert!(matches!(result, Err(Error::Invalid(_) | Error::Unsupported(_))), "{other:?}");
        }
        let trailing = [der, &[0]].concat();
        let parsed = PublicKey::from_der(key.algorithm(), &trailing);
        assert!(parsed.is_err_and(|error| matches!(error, Error::Invalid(_))), "{:?}", key.algorithm());
        let long = vec![0; key::PUBLIC_KEY_BYTES_MAX + 1];
        assert!(matches!(PublicKey::from_der(key.algorithm(), &long), Err(Error::TooLarge { .. })));
    }
}

#[test]
fn debug_shows_the_algorithm_alone() {
    let key = new(Algorithm::Ed25519);
    assert_eq!(format!("{key:?} {:?}", key.public_key().unwrap()), "Key(ed25519) PublicKey(ed25519)");
}

#[test]
fn keys_are_shared_between_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    let key = new(Algorithm::EcP256);
    shared(&key);
    shared(&public(&key));
}

#[test]
fn loading_what_is_no_stored_form_fails() {
    for &algorithm in Algorithm::ALL.iter().filter(|a| a.info().family != Family::Hmac) {
        let garbage = SecretBytes::copy_from(&[0x30; 47]).unwrap();
        assert!(Key::load(algorithm, &garbage).is_err(), "{}", algorithm.name());
    }
}
