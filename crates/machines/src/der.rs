//! What certificates and revocation lists are written with: as much of DER as they need.
//!
//! Source: ITU-T X.690; RFC 5280 §4.1, §5.1.

use crate::BEFORE;

/// A DER value.
pub(crate) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let contents = parts.concat();
    let length = contents.len();
    let mut value = vec![tag];
    match u8::try_from(length) {
        Ok(short @ 0..=0x7f) => value.push(short),
        Ok(long) => value.extend([0x81, long]),
        Err(_) => {
            let [high, low] = u16::try_from(length).expect("nothing here is longer").to_be_bytes();
            value.extend([0x82, high, low]);
        }
    }
    value.extend(contents);
    value
}

pub(crate) fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

pub(crate) fn integer(number: u8) -> Vec<u8> {
    if number < 0x80 { tlv(0x02, &[&[number]]) } else { tlv(0x02, &[&[0, number]]) }
}

fn time(text: &str) -> Vec<u8> {
    tlv(0x17, &[text.as_bytes()])
}

fn name(common: &str) -> Vec<u8> {
    let attribute = sequence(&[&[0x06, 0x03, 0x55, 0x04, 0x03], &tlv(0x0c, &[common.as_bytes()])]);
    sequence(&[&tlv(0x31, &[&attribute])])
}

pub(crate) fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[0], bytes])
}

pub(crate) fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { &[0x01, 0x01, 0xff] } else { &[] };
    sequence(&[&tlv(0x06, &[oid]), critical, &tlv(0x04, &[value])])
}

/// What a certificate's signature is over, of version 3; `algorithm` is that of the signature.
pub(crate) fn certificate_body(
    serial: u8,
    algorithm: &[u8],
    [issuer, subject]: [&str; 2],
    [not_before, not_after]: [&str; 2],
    spki: &[u8],
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    sequence(&[
        &tlv(0xa0, &[&integer(2)]),
        &integer(serial),
        algorithm,
        &name(issuer),
        &sequence(&[&time(not_before), &time(not_after)]),
        &name(subject),
        spki,
        &tlv(0xa3, &[&sequence(&[&extensions.concat()])]),
    ])
}

/// What a revocation list's signature is over.
pub(crate) fn list_body(
    algorithm: &[u8],
    issuer: &str,
    this_update: &str,
    next_update: Option<&str>,
    revoked: &[u8],
    extensions: &[u8],
) -> Vec<u8> {
    let revoked = revoked.iter().map(|serial| sequence(&[&integer(*serial), &time(BEFORE)]));
    let revoked: Vec<u8> = revoked.flatten().collect();
    sequence(&[
        &integer(1),
        algorithm,
        &name(issuer),
        &time(this_update),
        &next_update.map(time).unwrap_or_default(),
        &if revoked.is_empty() { Vec::new() } else { sequence(&[&revoked]) },
        &if extensions.is_empty() { Vec::new() } else { tlv(0xa0, &[&sequence(&[extensions])]) },
    ])
}

/// The extension that says whether a certificate is an issuer's.
pub(crate) fn constraints(may: bool) -> Vec<u8> {
    let constraints = if may { sequence(&[&[0x01, 0x01, 0xff]]) } else { sequence(&[]) };
    extension(&[0x55, 0x1d, 0x13], true, &constraints)
}

/// The extension that nobody knows and that must be known.
pub(crate) fn unknown_extension() -> Vec<u8> {
    extension(&[0x55, 0x1d, 0x36], true, &integer(0))
}

/// The two numbers of a signature in DER, each with its highest byte first.
pub(crate) fn ecdsa_numbers<const N: usize>(der: &[u8]) -> [[u8; N]; 2] {
    let (r, rest) = der_integer(&der[2..]);
    let (s, _) = der_integer(rest);
    [r, s].map(|digits| {
        let mut number = [0; N];
        number[N - digits.len()..].copy_from_slice(digits);
        number
    })
}

/// The digits of the first of several positive INTEGERs of less than 128 bytes, and what follows it.
pub(crate) fn der_integer(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (number, rest) = bytes[2..].split_at(bytes[1].into());
    (number.strip_prefix(&[0]).unwrap_or(number), rest)
}
