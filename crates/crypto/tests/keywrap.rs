//! AES-KW and AES-KWP against RustCrypto and Project Wycheproof, HMAC-SHA256 against Project Wycheproof.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use aes_kw::{KeyInit as _, KwAes128, KwAes256, KwpAes128, KwpAes256};
use keyhearth_crypto::Error;
use keyhearth_crypto::kdf::MacKey;
use keyhearth_crypto::keywrap::{KEY_BYTES_MAX, kw_unwrap, kw_wrap, kwp_unwrap, kwp_wrap};
use keyhearth_crypto::secret::SecretBytes;
use proptest::prelude::*;
use wycheproof::{TestResult, keywrap, mac};

type Wrap = fn(&[u8], &[u8]) -> Result<Vec<u8>, Error>;
type Unwrap = fn(&[u8], &[u8]) -> Result<SecretBytes, Error>;

/// `shortest` is the shortest key that the standard wraps; the set holds shorter ones.
fn wycheproof(name: keywrap::TestName, shortest: usize, wrap: Wrap, unwrap: Unwrap) {
    let set = keywrap::TestSet::load(name).unwrap();
    let mut ran = 0;
    for group in set.test_groups {
        for test in group.tests {
            let unwrapped = unwrap(&test.key, &test.ct);
            if group.key_size == 192 {
                assert!(matches!(unwrapped, Err(Error::Unsupported(_))));
                continue;
            }
            ran += 1;
            match test.result {
                TestResult::Invalid => assert!(unwrapped.is_err(), "{name:?} {}", test.tc_id),
                TestResult::Valid | TestResult::Acceptable if test.pt.len() < shortest => {
                    assert!(matches!(wrap(&test.key, &test.pt), Err(Error::Invalid(_))));
                    assert!(unwrapped.is_err());
                }
                TestResult::Valid | TestResult::Acceptable => {
                    assert_eq!(
                        wrap(&test.key, &test.pt).as_deref(),
                        Ok(&test.ct[..]),
                        "{name:?} {}",
                        test.tc_id
                    );
                    assert!(unwrapped.unwrap().ct_eq(&test.pt), "{name:?} {}", test.tc_id);
                }
            }
        }
    }
    println!("{name:?}: {ran} vectors");
    assert!(ran > 0);
}

#[test]
fn kw_passes_wycheproof() {
    wycheproof(keywrap::TestName::AesKeyWrap, 16, kw_wrap, kw_unwrap);
}

#[test]
fn kwp_passes_wycheproof() {
    wycheproof(keywrap::TestName::AesKeyWrapWithPadding, 1, kwp_wrap, kwp_unwrap);
}

#[test]
fn hmac_sha256_passes_wycheproof() {
    let mut ran = 0;
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for test in group.tests.iter().filter(|_| group.tag_size == 256) {
            ran += 1;
            let tag = <[u8; 32]>::try_from(&test.tag[..]).unwrap();
            let valid = MacKey::new(&test.key).verify(&[&test.msg], &tag);
            assert_eq!(valid, !test.result.must_fail(), "{}", test.tc_id);
        }
    }
    println!("HMAC-SHA256: {ran} vectors");
    assert!(ran > 0);
}

/// Wraps with RustCrypto.
macro_rules! reference {
    ($cipher:ty, $kek:expr, $key:expr) => {{
        let mut wrapped = vec![0; $key.len() + 16];
        <$cipher>::new_from_slice($kek).unwrap().wrap_key($key, &mut wrapped).unwrap().to_vec()
    }};
}

proptest! {
    #[test]
    fn agrees_with_the_second_implementation(
        kek: [u8; 32],
        key in prop::collection::vec(any::<u8>(), 1..200),
        flipped: prop::sample::Index,
    ) {
        let whole = &key.repeat(16)[..key.len().next_multiple_of(8) + 8];
        for (wrapped, expected, unwrapped, key) in [
            (kw_wrap(&kek, whole), reference!(KwAes256, &kek, whole), kw_unwrap as Unwrap, whole),
            (kwp_wrap(&kek, &key), reference!(KwpAes256, &kek, &key), kwp_unwrap, &key),
        ] {
            prop_assert_eq!(wrapped.as_ref(), Ok(&expected));
            prop_assert!(unwrapped(&kek, &expected).unwrap().ct_eq(key));
            let mut altered = expected;
            let bit = flipped.index(altered.len() * 8);
            altered[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(unwrapped(&kek, &altered).unwrap_err(), Error::NotAuthentic);
        }
        prop_assert_eq!(kw_wrap(&kek[..16], whole), Ok(reference!(KwAes128, &kek[..16], whole)));
        prop_assert_eq!(kwp_wrap(&kek[..16], &key), Ok(reference!(KwpAes128, &kek[..16], &key)));
    }
}

#[test]
fn lengths_out_of_range_are_refused() {
    let kek = [1; 32];
    for len in [0, 8, 17] {
        assert!(matches!(kw_wrap(&kek, &vec![0; len]), Err(Error::Invalid(_))));
    }
    assert!(matches!(kwp_wrap(&kek, &[]), Err(Error::Invalid(_))));
    let too_large = vec![0; KEY_BYTES_MAX + 8];
    assert_eq!(kw_wrap(&kek, &too_large), Err(Error::TooLarge { limit: KEY_BYTES_MAX }));
    assert_eq!(kwp_wrap(&kek, &too_large), Err(Error::TooLarge { limit: KEY_BYTES_MAX }));
    for unwrap in [kw_unwrap as Unwrap, kwp_unwrap] {
        for len in 0..40 {
            assert_eq!(unwrap(&kek, &vec![0; len]).unwrap_err(), Error::NotAuthentic, "{len}");
        }
        assert!(matches!(unwrap(&kek, &vec![0; KEY_BYTES_MAX + 16]), Err(Error::TooLarge { .. })));
        assert!(matches!(unwrap(&[0; 24], &[0; 24]), Err(Error::Unsupported(_))));
    }
    assert!(kwp_unwrap(&kek, &kwp_wrap(&kek, &vec![9; KEY_BYTES_MAX]).unwrap()).is_ok());
}
