//! Signatures of ECDSA that evidence carries as two bare numbers, as DER.

/// The longest number: one of P-384.
const NUMBER_BYTES_MAX: usize = 48;

/// A sequence of the two numbers, each given with its highest byte first. Nothing if one is longer than
/// [`NUMBER_BYTES_MAX`].
///
/// Source: RFC 3279 §2.2.3.
pub(crate) fn der(r: &[u8], s: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::with_capacity(2 * (NUMBER_BYTES_MAX + 3));
    for number in [r, s] {
        let digits = number.iter().position(|byte| *byte != 0).map_or(&[0][..], |first| &number[first..]);
        if digits.len() > NUMBER_BYTES_MAX {
            return None;
        }
        let padded = digits[0] >= 0x80;
        body.extend([0x02, u8::try_from(digits.len()).ok()? + u8::from(padded)]);
        body.extend(padded.then_some(0));
        body.extend(digits);
    }
    Some([&[0x30, u8::try_from(body.len()).ok()?], &*body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(der(&[0, 0, 1], &[0x80, 0]), Some(vec![0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 0]));
        assert_eq!(der(&[], &[0x7f]), Some(vec![0x30, 6, 2, 1, 0, 2, 1, 0x7f]));
        assert_eq!(der(&[0xff; 48], &[0xff; 48]).map(|der| der.len()), Some(2 + 2 * 51));
        assert_eq!((der(&[1; 49], &[1]), der(&[1], &[1; 1024])), (None, None));
    }
}
