//! BER as clouds write it, spelled as DER: lengths are definite, and octet strings are whole.
//!
//! AWS's documents come out of a stream, so their outer values say where they end by two zeroes. What is signed inside is DER
//! already, and stays as it is.
//!
//! Source: ITU-T X.690 §8.1.3.6 (indefinite lengths), §8.7.3 (octet strings in pieces).

/// How deep values may lie in each other: certificates reach 12.
const DEPTH_MAX: u32 = 24;
const CONSTRUCTED: u8 = 0x20;
const OCTETS: u8 = 0x04;
const NUMBER_FOLLOWS: u8 = 0x1f;
const INDEFINITE: u8 = 0x80;

/// One value with nothing after it, in definite lengths; nothing if it is not BER, or lies too deep.
pub(super) fn definite(ber: &[u8]) -> Option<Vec<u8>> {
    let mut der = Vec::with_capacity(ber.len());
    let rest = value(ber, DEPTH_MAX, &mut der)?;
    rest.is_empty().then_some(der)
}

/// Spells the first value; gives what follows it.
fn value<'a>(ber: &'a [u8], depth: u32, der: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (tag, after) = ber.split_first()?;
    if tag & NUMBER_FOLLOWS == NUMBER_FOLLOWS || depth == 0 {
        return None;
    }
    let (length, after) = length(after)?;
    let mut contents = Vec::new();
    let rest = if tag & CONSTRUCTED == 0 {
        let (given, rest) = after.split_at_checked(length?)?;
        contents.extend_from_slice(given);
        rest
    } else if let Some(length) = length {
        let (mut given, rest) = after.split_at_checked(length)?;
        while !given.is_empty() {
            given = value(given, depth - 1, &mut contents)?;
        }
        rest
    } else {
        let mut given = after;
        while given.first()? != &0 {
            given = value(given, depth - 1, &mut contents)?;
        }
        given.strip_prefix(&[0, 0])?
    };
    if *tag == OCTETS | CONSTRUCTED {
        write(OCTETS, &joined(&contents)?, der)?;
    } else {
        write(*tag, &contents, der)?;
    }
    Some(rest)
}

/// A length, if it is definite, and what follows it; the outer nothing if it is none.
fn length(ber: &[u8]) -> Option<(Option<usize>, &[u8])> {
    match *ber {
        [INDEFINITE, ref rest @ ..] => Some((None, rest)),
        [short @ 0..=0x7f, ref rest @ ..] => Some((Some(short.into()), rest)),
        [0x81, low, ref rest @ ..] => Some((Some(low.into()), rest)),
        [0x82, high, low, ref rest @ ..] => Some((Some(u16::from_be_bytes([high, low]).into()), rest)),
        _ => None,
    }
}

/// What octet strings hold together that were spelled already.
fn joined(mut pieces: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::with_capacity(pieces.len());
    while let Some((tag, after)) = pieces.split_first() {
        let (length, after) = length(after)?;
        let (piece, rest) = after.split_at_checked(length?)?;
        if *tag != OCTETS {
            return None;
        }
        whole.extend_from_slice(piece);
        pieces = rest;
    }
    Some(whole)
}

fn write(tag: u8, contents: &[u8], der: &mut Vec<u8>) -> Option<()> {
    let [high, low] = u16::try_from(contents.len()).ok()?.to_be_bytes();
    der.push(tag);
    match (high, low) {
        (0, 0..=0x7f) => der.push(low),
        (0, _) => der.extend([0x81, low]),
        _ => der.extend([0x82, high, low]),
    }
    der.extend_from_slice(contents);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_from_a_stream_get_their_lengths() {
        // SEQUENCE of INTEGER and OCTET STRING, the latter in pieces of which one is in pieces itself.
        let stream = [
            0x30, 0x80, 2, 1, 7, 0x24, 0x80, 4, 2, b'a', b'b', 0x24, 0x80, 4, 1, b'c', 0, 0, 4, 0, 0, 0, 0, 0,
        ];
        assert_eq!(definite(&stream).unwrap(), [0x30, 8, 2, 1, 7, 4, 3, b'a', b'b', b'c']);
        let der = [&[0x30, 0x81, 0x84, 4, 0x81, 0x81][..], &[9; 0x81]].concat();
        assert_eq!(definite(&der).unwrap(), der);
        let wide = [&[0x30, 0x82, 0, 0x84, 4, 0x82, 0, 0x81][..], &[9; 0x81]].concat();
        assert_eq!(definite(&wide), None, "its pieces are longer than it is");
    }

    #[test]
    fn what_is_no_value_is_nothing() {
        let deep = [0x30, 0x80].repeat(usize::try_from(DEPTH_MAX).unwrap() + 1);
        let deep = [&deep[..], &[0; 100]].concat();
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x80, 0],
            &[0x30, 0x80, 0, 1],
            &[4, 0x80, 0, 0],
            &[4, 2, 1],
            &[4, 1, 1, 9],
            &[0x30, 3, 4, 2, 1],
            &[0x1f, 1, 1],
            &[0x24, 3, 2, 1, 7],
            &[4, 0x83, 0, 0, 1, 9],
            &deep,
        ] {
            assert_eq!(definite(bad), None, "{bad:02x?}");
        }
    }

    proptest! {
        #[test]
        fn spelling_it_again_changes_nothing(ber in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(der) = definite(&ber) {
                prop_assert_eq!(definite(&der), Some(der));
            }
        }
    }
}
