//! Signatures of ECDSA that evidence carries as two bare numbers, as DER.

/// A sequence of the two numbers, each given with its highest byte first and of at most 48 bytes.
///
/// Source: RFC 3279 §2.2.3.
pub(crate) fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(r.len() + s.len() + 6);
    for number in [r, s] {
        let digits = number.iter().position(|byte| *byte != 0).map_or(&[0][..], |first| &number[first..]);
        let padded = digits[0] >= 0x80;
        body.extend([0x02, length(digits.len() + usize::from(padded))]);
        body.extend(padded.then_some(0));
        body.extend(digits);
    }
    [&[0x30, length(body.len())], &*body].concat()
}

fn length(bytes: usize) -> u8 {
    u8::try_from(bytes).ok().filter(|short| *short < 0x80).expect("two numbers of at most 48 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(der(&[0, 0, 1], &[0x80, 0]), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 0]);
        assert_eq!(der(&[0, 0], &[0x7f]), [0x30, 6, 2, 1, 0, 2, 1, 0x7f]);
        assert_eq!(der(&[0xff; 48], &[0xff; 48]).len(), 2 + 2 * 51);
    }
}
