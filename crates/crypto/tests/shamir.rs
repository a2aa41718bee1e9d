//! Shares: the vectors, every subset, every typing error, every bad collection.

#![allow(clippy::unwrap_used, reason = "a test may panic, its functions too")]

use keyhearth_crypto::Error;
use keyhearth_crypto::secret::SecretBytes;
use keyhearth_crypto::shamir::{self, Share, TEXT_BYTES_MAX, TEXT_PREFIX, combine, split};
use proptest::prelude::*;

mod vectors;

#[test]
fn vectors_combine() {
    let cases = vectors::read(include_str!("../vectors/shares.txt"));
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let shares: Vec<Share> = case.all("share").map(|text| Share::parse(text).unwrap()).collect();
        for ((share, text), digest) in shares.iter().zip(case.all("share")).zip(case.all("digest")) {
            assert_eq!(*share.to_text(), text);
            assert_eq!(share.digest()[..], vectors::hex(digest));
        }
        let count = u8::try_from(shares.len()).unwrap();
        let threshold = shares[0].threshold;
        for used in shares.windows(usize::from(threshold)) {
            let secret = combine(used).unwrap();
            assert_eq!(secret.expose(), case.bytes("secret"));
            let mac = shamir::set_mac(&secret, used[0].set_id, threshold, count);
            assert_eq!(mac[..], case.bytes("set_mac"));
        }
    }
}

fn copy(share: &Share) -> Share {
    Share { data: SecretBytes::copy_from(share.data.expose()).unwrap(), ..*share }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_threshold_of_shares_recovers_and_fewer_do_not(
        secret in prop::collection::vec(any::<u8>(), 16..=64),
        (threshold, shares) in (2u8..=8).prop_flat_map(|shares| (2..=shares, Just(shares))),
        order: prop::sample::Index,
    ) {
        let secret = SecretBytes::copy_from(&secret).unwrap();
        let mut set = split(&secret, threshold, shares).unwrap();
        let by = order.index(set.len());
        set.rotate_left(by);
        set.reverse();
        let threshold = usize::from(threshold);
        prop_assert!(combine(&set[..threshold]).unwrap().ct_eq(secret.expose()));
        prop_assert!(combine(&set).unwrap().ct_eq(secret.expose()));
        let too_few = combine(&set[..threshold - 1]).unwrap_err();
        prop_assert_eq!(too_few, Error::Invalid("too few shares"));
        // Nor when the shares are made to claim a lower threshold.
        set.iter_mut().for_each(|share| share.threshold -= 1);
        prop_assert!(!combine(&set[..threshold - 1]).unwrap().ct_eq(secret.expose()));
    }

    #[test]
    fn parser_is_total_and_what_it_accepts_it_writes(text in "(khshare1-)?[a-z2-7 -]{0,120}|.{0,200}") {
        if let Ok(share) = Share::parse(&text) {
            prop_assert_eq!(Share::parse(&share.to_text()).unwrap().digest(), share.digest());
        }
    }
}

#[test]
fn largest_set_works() {
    let secret = SecretBytes::random(32).unwrap();
    let set = split(&secret, 255, 255).unwrap();
    assert!(combine(&set).unwrap().ct_eq(secret.expose()));
}

#[test]
fn bad_collections_are_named() {
    let secret = SecretBytes::random(32).unwrap();
    let (one, two) = (split(&secret, 2, 3).unwrap(), split(&secret, 2, 3).unwrap());
    let refusal = |shares: &[Share]| combine(shares).unwrap_err();
    assert_eq!(refusal(&[]), Error::Invalid("too few shares"));
    assert_eq!(refusal(&[copy(&one[0])]), Error::Invalid("too few shares"));
    assert_eq!(refusal(&[copy(&one[0]), copy(&one[0])]), Error::Invalid("the same share twice"));
    assert_eq!(refusal(&[copy(&one[0]), copy(&two[1])]), Error::Invalid("shares of different sets"));
    let other_threshold = Share { threshold: 3, ..copy(&one[1]) };
    assert_eq!(refusal(&[copy(&one[0]), other_threshold]), Error::Invalid("shares of different sets"));
    let zeroth = Share { index: 0, ..copy(&one[1]) };
    assert!(matches!(refusal(&[zeroth, copy(&one[0])]), Error::Invalid(_)));
}

#[test]
fn altered_data_shows_in_the_digest_and_in_the_set_mac() {
    let secret = SecretBytes::random(32).unwrap();
    let mut set = split(&secret, 2, 3).unwrap();
    let (digest, mac) = (set[1].digest(), shamir::set_mac(&secret, set[0].set_id, 2, 3));
    let mut data = set[1].data.expose().to_vec();
    data[31] ^= 1;
    set[1].data = SecretBytes::take_from(&mut data).unwrap();
    assert_ne!(set[1].digest(), digest);
    let wrong = combine(&set[..2]).unwrap();
    assert!(!wrong.ct_eq(secret.expose()));
    assert_ne!(shamir::set_mac(&wrong, set[0].set_id, 2, 3), mac);
    assert_ne!(shamir::set_mac(&secret, set[0].set_id, 2, 4), mac);
}

#[test]
fn impossible_numbers_are_refused() {
    let secret = SecretBytes::random(32).unwrap();
    for (threshold, shares) in [(0, 0), (0, 3), (1, 3), (4, 3), (2, 1)] {
        assert!(
            matches!(split(&secret, threshold, shares), Err(Error::Invalid(_))),
            "{threshold} of {shares}"
        );
    }
    assert!(matches!(split(&SecretBytes::random(15).unwrap(), 2, 3), Err(Error::Invalid(_))));
    assert!(matches!(split(&SecretBytes::random(65).unwrap(), 2, 3), Err(Error::Invalid(_))));
    let single = split(&secret, 1, 1).unwrap();
    assert!(combine(&single).unwrap().ct_eq(secret.expose()));
}

#[test]
fn typing_errors_are_refused_and_typing_habits_are_not() {
    let secret = SecretBytes::random(32).unwrap();
    let share = &split(&secret, 2, 3).unwrap()[0];
    let text = share.to_text();
    for habit in [text.to_uppercase(), format!("  {}\n", *text), text.replace("1-", "1- ").replace('-', " ")]
    {
        let read = Share::parse(&habit.replacen("khshare1 ", TEXT_PREFIX, 1));
        assert_eq!(read.unwrap().digest(), share.digest());
    }
    for position in 0..text.len() {
        for typed in ["a", "7", "q", "0", "é", ""] {
            if &text[position..=position] != typed && (position < 9 || &text[position..=position] != "-") {
                let wrong = [&text[..position], typed, &text[position + 1..]].concat();
                assert!(matches!(Share::parse(&wrong), Err(Error::Invalid(_))), "{wrong}");
            }
        }
    }
    let transposed = [&text[..10], &text[11..12], &text[10..11], &text[12..]].concat();
    assert!(*transposed == **text || Share::parse(&transposed).is_err());
    assert!(matches!(Share::parse(&" ".repeat(TEXT_BYTES_MAX + 1)), Err(Error::TooLarge { .. })));
    assert!(!format!("{share:?}").contains(&text[20..28]));
}
