//! The canonical request: the one form of a request that both sides hash.

use std::borrow::Cow;

use keyhearth_crypto::digest::Sha256;

use super::Message;

/// SHA-256, in hexadecimal, of the canonical request; `body` is the body's.
///
/// Source: "Create a signed AWS API request", steps 1 and 2.
pub(super) fn hash(message: &Message<'_>, signed_headers: &str, body: &[u8; 64]) -> [u8; 64] {
    let mut hash = Sha256::default();
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| hash.update(part));
        hash.update(b"\n");
    };
    line(&[message.method.as_bytes()]);
    line(&[&path(message.path)]);
    line(&[&query(message.query)]);
    for name in signed_headers.split(';') {
        let values = message.headers.iter().filter(|(found, _)| *found == name).map(|(_, value)| *value);
        line(&[name.as_bytes(), b":", &values.map(trimmed).collect::<Vec<_>>().join(&b',')]);
    }
    line(&[]);
    line(&[signed_headers.as_bytes()]);
    hash.update(body);
    hex(&hash.finish())
}

/// The path without empty and dot segments, encoded once more than it is on the wire.
fn path(path: &str) -> Cow<'_, [u8]> {
    if path == "/" {
        return Cow::Borrowed(b"/");
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut canonical = Vec::with_capacity(path.len() + 1);
    for segment in &segments {
        canonical.push(b'/');
        encode(segment.as_bytes(), &mut canonical);
    }
    if segments.is_empty() || ["/", "/.", "/.."].iter().any(|end| path.ends_with(end)) {
        canonical.push(b'/');
    }
    Cow::Owned(canonical)
}

/// The parameters, decoded, encoded in the one way there is, and sorted.
fn query(query: &str) -> Vec<u8> {
    let mut pairs: Vec<(Vec<u8>, Vec<u8>)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (reencoded(name), reencoded(value))
        })
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<Vec<u8>> = pairs.iter().map(|(name, value)| [&name[..], value].join(&b'=')).collect();
    pairs.join(&b'&')
}

fn reencoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        decoded.push(match (first, after) {
            (b'%', [high, low, after @ ..]) if let (Some(high), Some(low)) = (digit(*high), digit(*low)) => {
                rest = after;
                high << 4 | low
            }
            (b'+', _) => b' ',
            (byte, _) => *byte,
        });
    }
    let mut encoded = Vec::with_capacity(decoded.len());
    encode(&decoded, &mut encoded);
    encoded
}

/// Writes `%XY` for everything but unreserved characters.
///
/// Source: RFC 3986 §2.1, §2.3.
fn encode(bytes: &[u8], to: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => to.push(*byte),
            byte => to.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
    }
}

/// A header's value without spaces around it, and with one space for each run of them.
fn trimmed(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|at| {
        let byte = bytes[at / 2];
        HEX[usize::from(if at % 2 == 0 { byte >> 4 } else { byte & 15 })]
    })
}

/// Reads what [`hex`] writes.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    (hex(&bytes) == *text).then_some(bytes)
}

fn digit(c: u8) -> Option<u8> {
    char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
